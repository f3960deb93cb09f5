"""What the engine's parts share: how a row is made, announced, found claimable, and how the next in line is rung."""

from __future__ import annotations

import time
import zlib
from typing import TYPE_CHECKING, Any

from django.db import connection
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from events import log as event_log
from operations import actions, doorbell
from operations.choices import State
from operations.models import Operation
from operations.timing import QUEUE_TIMEOUT, RING_MAX

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable

    from accounts.actor import Actor
    from operations.actions import Action, Target


def serialise(key: str) -> None:
    """One submit or claim at a time for this key. SQLite's IMMEDIATE transactions are that by nature."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [0x766D6D, zlib.crc32(key.encode()) - 2**31])


def new_row(action: Action[Any, Any], target: Target, params: dict[str, Any], by: Actor) -> Operation:
    """A queued row, not yet saved."""
    slot_key, slots = action.slot(target)
    return Operation(
        kind=action.kind,
        target=target.ref,
        target_name=str(target.name),
        params=params,
        lock_key=target.ref,
        # Wall-clock nanoseconds order a lock's queue: submits on one lock are serialised, so the later one reads a later clock.
        position=time.time_ns(),
        slot_key=slot_key,
        slots=slots,
        requested_by=by.name,
        user=by.user,
        request_id=by.request_id,
        deadline_at=timezone.now() + QUEUE_TIMEOUT,
    )


def forgotten(operation: Operation) -> dict[str, None] | None:
    """What is left of the secret parameters at the end: their names."""
    return dict.fromkeys(operation.secret_params) if operation.secret_params else None


def half_done(operation: Operation) -> bool:
    """Whether earlier attempts may have left something that its action would undo."""
    known = operation.kind in actions.kinds()
    return known and operation.attempts > 0 and actions.get(operation.kind).undoes


def announce(operations: Iterable[Operation]) -> None:
    """One `operation.changed` each, in the caller's transaction."""
    event_log.append(
        event_log.NewEvent(
            type="operation.changed",
            object=operation.ref,
            object_name=operation.target_name,
            actor=operation.requested_by,
            operation=operation.pk,
            data={
                "state": operation.state,
                "progress": operation.progress,
                "message": operation.message,
                "kind": operation.kind,
                "target": operation.target,
                "version": operation.version,
                **({"parent": str(operation.parent_id)} if operation.parent_id else {}),
            },
        )
        for operation in operations
        if not operation.target.startswith(actions.READING)
    )


def named(operation: Operation) -> str:
    """`Start of web-01`, for messages."""
    title = actions.get(operation.kind).title if operation.kind in actions.kinds() else operation.kind
    return f"{title} of {operation.target_name}" if operation.target_name else title


def claimable() -> Any:
    """Queued operations whose turn it is, as far as one query can tell."""
    ahead = Operation.objects.filter(
        lock_key=OuterRef("lock_key"), position__lt=OuterRef("position"), state=State.QUEUED
    )
    holder = Operation.objects.filter(lock_key=OuterRef("lock_key"), holds_lock=True)
    due = Q(not_before=None) | Q(not_before__lte=timezone.now())
    return (
        Operation.objects.filter(due, state=State.QUEUED).filter(~Exists(ahead), ~Exists(holder)).order_by("position")
    )


def ring_next(operation: Operation) -> None:
    """Whoever waited for this lock or this slot may try now."""
    waiting = list(
        Operation.objects.filter(lock_key=operation.lock_key, state=State.QUEUED)
        .order_by("position")
        .values_list("pk", flat=True)[:1]
    )
    doorbell.ring(waiting)
    if operation.slot_key:
        ring_slots({operation.slot_key}, skip=set(waiting))


def ring_slots(keys: Iterable[str], *, skip: set[uuid.UUID] | None = None) -> None:
    """Ring for as many waiting operations of each slot key as it has free slots."""
    for key in keys:
        first = Operation.objects.filter(slot_key=key, state=State.QUEUED).values_list("slots", flat=True).first()
        if first is None:
            continue
        free = (first - Operation.objects.filter(slot_key=key, holds_lock=True).count()) if first else RING_MAX
        if free > 0:
            ids = claimable().filter(slot_key=key).values_list("pk", flat=True)[: free + len(skip or ())]
            doorbell.ring([pk for pk in ids if pk not in (skip or ())])
