"""The one door into the event log, and out to whoever listens.

`append` writes rows inside the caller's transaction, so that a change and its event stand or fall together; after the commit
it rings the doorbell once with the last `seq`. The bell carries no event: readers read the table. Losing a ring loses nothing.

Commit order: SQLite has one writer at a time (transactions are IMMEDIATE), so row ids are given in commit order by nature. On
PostgreSQL a sequence is not: two transactions may commit in the other order than they drew numbers, and a reader that saw
the higher would never look for the lower again. There a transaction-level advisory lock is taken before the number is
drawn and held until the commit.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction
from django.utils import timezone

from core import bulk
from events import bell
from events.models import Event

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Sequence

_COLUMNS = ("type", "at", "object", "object_name", "actor", "operation", "data")
_LOCK = 0x766D6D65  # "vmme": any constant of our own; one lock, one log


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event to be written. `object` is `kind/<id>`; `data` is JSON of the contract's shape for `type`, without secrets."""

    type: str
    object: str = ""
    object_name: str = ""
    actor: str = ""
    operation: uuid.UUID | None = None
    data: dict[str, Any] = field(default_factory=dict)


def append(events: Iterable[NewEvent]) -> None:
    """Write events in this order, within the caller's transaction if there is one; ring after its commit."""
    now = timezone.now()
    rows = [
        (event.type, now, event.object, event.object_name[:255], event.actor[:150], event.operation, event.data)
        for event in events
    ]
    if not rows:
        return
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        if len(rows) == 1:
            last = bulk.insert_row(Event, _COLUMNS, rows[0])
        else:
            bulk.insert_rows(Event, _COLUMNS, rows)
            last = last_seq()  # ours: nobody else can have written meanwhile
    transaction.on_commit(lambda: bell.ring(last))


def last_seq() -> int:
    """The highest `seq` there is, 0 for an empty log."""
    # Every page and every append asks, and making this sentence takes the ORM longer than answering it takes the database.
    with connection.cursor() as cursor:
        cursor.execute("SELECT MAX(seq) FROM events_event")
        return cursor.fetchone()[0] or 0


def after(seq: int, *, limit: int = 1000) -> Sequence[Event]:
    """Events above `seq`, oldest first, at most `limit`."""
    return list(Event.objects.filter(seq__gt=seq).order_by("seq")[:limit])


def as_json(event: Event) -> dict[str, Any]:
    """The contract's event."""
    kind, _, identity = event.object.partition("/")
    return {
        "seq": event.seq,
        "type": event.type,
        "at": event.at.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "object": {"type": kind, "id": identity, "name": event.object_name} if event.object else None,
        "actor": event.actor or None,
        "operation": str(event.operation) if event.operation else None,
        "data": event.data,
    }
