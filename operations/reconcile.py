"""Mending: what dead processes left running, what nobody was told about, what waited too long."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from core.problems import problem_of
from drivers.errors import Timeout
from operations import doorbell
from operations.actions import Cancelled
from operations.bulk import roll_up
from operations.choices import OPEN, State
from operations.models import Operation, OperationLog
from operations.process import identity, is_dead_here
from operations.rows import announce, claimable, forgotten, half_done, ring_next, ring_slots
from operations.timing import QUEUE_TIMEOUT, RING_MAX

ANSWER_SECONDS = 3.0
"""How long whoever holds an expired lease is waited for: a database that was away kept the living from renewing theirs."""
OVERDUE = dt.timedelta(seconds=30)
"""After how long an operation past its deadline is ended from outside: whoever should have could not."""


def reconcile(*, answer_seconds: float = ANSWER_SECONDS) -> None:
    """Mend what dead processes and lost messages left. Safe to run anywhere, any time, twice at once.

    Blocks for `answer_seconds` when a lease has run out.
    """
    take_over_from_the_dead()
    if Operation.objects.filter(holds_lock=True, lease_until__lt=timezone.now()).exists():
        time.sleep(answer_seconds)
        _take_over(Operation.objects.filter(holds_lock=True, lease_until__lt=timezone.now()), expired=True)
    now = timezone.now()
    for operation in Operation.objects.filter(state=State.QUEUED, deadline_at__lt=now)[:1000]:
        _expire(operation, "It waited too long for its turn.")
    for operation in Operation.objects.filter(state=State.RUNNING, deadline_at__lt=now - OVERDUE)[:1000]:
        _expire(operation, "It did not end within its time. The host may still finish it.")
    for parent_id in (
        Operation.objects.filter(state=State.RUNNING, worker="", children__isnull=False)
        .values_list("pk", flat=True)
        .distinct()
    ):
        roll_up(parent_id)
    doorbell.ring(claimable().values_list("pk", flat=True)[:RING_MAX])


def take_over_from_the_dead(*, alone: bool = False) -> int:
    """At start: what dead processes of this machine left running goes on at once, without waiting for their leases.

    Args:
        alone: No other worker can be (`serve` holds the data directory): whoever else holds something is dead, also when it
            was before a reboot or in a container that is gone.
    """
    held = Operation.objects.filter(holds_lock=True).exclude(worker__in=("", identity()))
    dead = [operation.pk for operation in held.only("pk", "worker") if alone or is_dead_here(operation.worker)]
    _take_over(Operation.objects.filter(pk__in=dead))
    return len(dead)


def hand_back() -> None:
    """At an orderly stop: what still runs here is left for the next process, which asks first whether it is done."""
    _take_over(Operation.objects.filter(holds_lock=True, worker=identity()))


def wake(slot_key: str) -> None:
    """A hypervisor can be reached again: what waits for its next attempt there need not wait longer."""
    Operation.objects.filter(slot_key=slot_key, state=State.QUEUED, not_before__isnull=False).update(not_before=None)
    ring_slots({slot_key})


def _take_over(held: Any, *, expired: bool = False) -> None:
    """Requeue running rows whose process is gone, and free the locks of ended ones; of `expired` ones if still not renewed."""
    now = timezone.now()
    for operation in list(held):
        with transaction.atomic():
            same = Operation.objects.filter(
                pk=operation.pk, worker=operation.worker, attempts=operation.attempts, holds_lock=True
            )
            if expired:
                same = same.filter(lease_until=operation.lease_until)
            if operation.ended:
                same.exclude(state__in=OPEN).update(holds_lock=False)
            elif same.filter(state=State.RUNNING).update(
                state=State.QUEUED,
                holds_lock=False,
                interrupted=True,
                worker="",
                lease_until=None,
                not_before=None,
                deadline_at=now + QUEUE_TIMEOUT,
                version=F("version") + 1,
                updated_at=now,
            ):
                OperationLog.objects.create(operation=operation, text="The worker was interrupted.")
                operation.refresh_from_db()
                announce([operation])
        ring_next(operation)


def _expire(operation: Operation, why: str) -> None:
    """End it by its deadline. A lock that it holds stays with whoever hangs there, until that returns or its lease ends.

    What earlier attempts have half made is claimed once more, to be undone; if that does not come to its turn either, so be it.
    """
    now = timezone.now()
    problem = operation.error or problem_of(Timeout(why), request_id=operation.request_id)
    same = Operation.objects.filter(pk=operation.pk, state=operation.state, deadline_at=operation.deadline_at)
    if operation.state == State.QUEUED and half_done(operation) and not operation.error:
        same.update(error=problem, not_before=None, deadline_at=now + QUEUE_TIMEOUT, version=F("version") + 1)
        return
    with transaction.atomic():
        if same.update(
            state=State.CANCELLED if problem["code"] == Cancelled.code else State.FAILED,
            secret_params=forgotten(operation),
            error=problem,
            message=problem["detail"],
            finished_at=now,
            version=F("version") + 1,
            updated_at=now,
        ):
            operation.refresh_from_db()
            announce([operation])
    if operation.parent_id:
        roll_up(operation.parent_id)
