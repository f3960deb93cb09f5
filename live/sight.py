"""What a caller may see of the event log: one rule, as a question about an event in memory and as a filter of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import Q

from accounts.policy import may, may_see, visible

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.actor import Actor
    from events.models import Event

AUDIT = "audit."


def sees(actor: Actor, type: str, object: str) -> bool:  # noqa: A002 - the event's own words
    """Whether `actor` may see an event or sample of this type and object. No query: asked for each event and socket."""
    return may_see(actor, object) and (not type.startswith(AUDIT) or may(actor, "audit.view"))


def visible_events(actor: Actor, rows: QuerySet[Event]) -> QuerySet[Event]:
    """The same rule for rows of the table."""
    rows = visible(actor, rows)
    if may(actor, "audit.view"):
        return rows
    return rows.exclude(Q(type__startswith=AUDIT) | Q(object__startswith="user/") | Q(object__startswith="token/"))
