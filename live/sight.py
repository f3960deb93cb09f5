"""What a caller may see of the event log: one rule, as a question about an event in memory and as a filter of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.db.models import Q

from accounts.policy import may, may_see, visible
from events import log

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.actor import Actor
    from events.models import Event

AUDIT = "audit."
GUARDED: Final[dict[str, tuple[str, tuple[str, ...]]]] = {"vm.definition_changed": ("vm.xml", ("diff",))}
"""Type of event → the verb without which parts of its data are left out, and these parts."""


def sees(actor: Actor, type: str, object: str) -> bool:  # noqa: A002 - the event's own words
    """Whether `actor` may see an event or sample of this type and object. No query: asked for each event and socket."""
    return may_see(actor, object) and (not type.startswith(AUDIT) or may(actor, "audit.view"))


def whole(actor: Actor, type: str) -> bool:  # noqa: A002 - the event's own word
    """Whether `actor` may see all of an event of this type that he may see. No query."""
    return type not in GUARDED or may(actor, GUARDED[type][0])


def event_json(event: Event, *, whole: bool) -> dict[str, Any]:
    """The contract's event; without what is guarded unless `whole`."""
    found = log.as_json(event)
    if not whole and event.type in GUARDED:
        found["data"] = {key: value for key, value in event.data.items() if key not in GUARDED[event.type][1]}
    return found


def visible_events(actor: Actor, rows: QuerySet[Event]) -> QuerySet[Event]:
    """The same rule for rows of the table."""
    rows = visible(actor, rows)
    if may(actor, "audit.view"):
        return rows
    return rows.exclude(Q(type__startswith=AUDIT) | Q(object__startswith="user/") | Q(object__startswith="token/"))
