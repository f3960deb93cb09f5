"""The turns of schedules: taken when they are due, and what is too old deleted after. Beat rings (`tick`), any process may answer.

A turn is one parent operation with a snapshot of each guest as its children. It is claimed by the UPDATE that sets the next one, in the
transaction that makes the operations: of two that look at once only one finds the row as it was, and a process that dies in between
leaves it as it was. Turns that were missed are one: the next is counted from now.
"""

from __future__ import annotations

import datetime as dt
import logging
import re
import unicodedata
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from django.db import transaction
from django.db.models import Exists, OuterRef

from accounts import policy
from core.errors import Conflict, Missing, VmmError
from events import log as event_log
from operations import bulk
from operations.choices import ENDED, OPEN
from operations.choices import State as OperationState
from operations.models import Operation
from vms.models import VM, Snapshot
from vms.schedules.models import LastState, ScheduledSnapshot, SnapshotSchedule
from vms.schedules.selectors import acting, doomed, guests_of, last_operations, why_not
from vms.services import BULK_MAX, busy_guests
from vms.snapshots.actions import DeleteSnapshot, DeleteSnapshotParams, TakeParams, TakeSnapshot

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable

    from accounts.actor import Actor

log = logging.getLogger(__name__)

SLUG_MAX: Final = 40
FORGOTTEN_AFTER: Final = dt.timedelta(days=1)
"""How long a snapshot that is not there is waited for: a hypervisor may still make one after we have given up."""


class UnderWay(Conflict):
    """The turn before is still under way."""

    code = "operation_in_progress"


class NoGuests(Conflict):
    """No guest is found by its filter, or its guest is gone."""

    code = "no_guests"


def tick(now: dt.datetime) -> int:
    """Bring to an end what has ended, and begin what is due; how many turns were begun."""
    settle(now)
    begun = 0
    due = SnapshotSchedule.objects.select_related("owner").filter(enabled=True, next_run_at__lte=now)
    for schedule in due.order_by("next_run_at"):
        begun += _take_turn(schedule, now)
    return begun


def _take_turn(schedule: SnapshotSchedule, now: dt.datetime) -> bool:
    """Claim it and begin; False where somebody else did, or where it cannot be."""
    try:
        following = schedule.next_after(now)
    except VmmError as error:  # its time zone is gone from this machine
        SnapshotSchedule.objects.filter(pk=schedule.pk).update(enabled=False, next_run_at=None)
        return _failed(schedule, error)
    try:
        with transaction.atomic():
            mine = SnapshotSchedule.objects.filter(pk=schedule.pk, enabled=True, next_run_at=schedule.next_run_at)
            if mine.update(next_run_at=following, last_run_at=now) != 1:
                return False
            begin(schedule, by=acting(schedule), now=now)
    except VmmError as error:
        SnapshotSchedule.objects.filter(pk=schedule.pk, next_run_at=schedule.next_run_at).update(
            next_run_at=following, last_run_at=now
        )
        return _failed(schedule, error)
    return True


def _failed(schedule: SnapshotSchedule, error: VmmError) -> bool:
    """Its turn could not even begin: say so where it is looked for. One that waits for the turn before keeps that one's result."""
    log.info("a schedule had its turn in vain: %s", error.detail, extra={"schedule": str(schedule.pk)})
    with transaction.atomic():
        if not isinstance(error, UnderWay):
            SnapshotSchedule.objects.filter(pk=schedule.pk).update(
                last_state=LastState.FAILED, last_message=error.detail[:500], last_operation=None
            )
        _tell(schedule, state=LastState.FAILED, message=error.detail)
    return False


def run_now(schedule: SnapshotSchedule, *, by: Actor, now: dt.datetime) -> Operation:
    """A turn out of turn, in the caller's name; the next stays when it is. Raises UnderWay, NoGuests, PermissionRefused, BadInput."""
    policy.require(by, "vm.snapshot")
    with transaction.atomic():
        fresh = SnapshotSchedule.objects.select_for_update().filter(pk=schedule.pk).first()
        if fresh is None:
            raise Missing("This schedule was deleted meanwhile.")
        SnapshotSchedule.objects.filter(pk=schedule.pk).update(last_run_at=now)
        return begin(fresh, by=by, now=now)


def begin(schedule: SnapshotSchedule, *, by: Actor, now: dt.datetime) -> Operation:
    """Within a transaction: the parent operation, its children, and what is to be remembered of them."""
    before = last_operations([schedule]).get(schedule.last_operation) if schedule.last_operation else None
    if before is not None and not before.ended:
        raise UnderWay("Its turn before is still under way: this one is left out.", operation=str(before.pk))
    vms = guests_of(schedule, by)
    if not vms:
        raise NoGuests("No guest matches its filter." if schedule.filter else "Its guest is gone.")
    if len(vms) > BULK_MAX:
        raise Conflict(f"Its filter finds {len(vms):,} guests: at most {BULK_MAX:,} can be taken at once.")
    params = TakeParams(
        name=snapshot_name(schedule, now),
        description=f"Taken by the schedule {schedule.name} ({schedule.ref}).",
        memory=schedule.memory,
    )
    busy = busy_guests()
    parent = bulk.submit_each(
        TakeSnapshot,
        wishes=[
            bulk.Wish(target=vm, params=params, refusal=why_not(vm, params, idle=vm.ref not in busy)) for vm in vms
        ],
        by=by,
        title=schedule.name,
        shown={"name": params.name, "memory": params.memory},
        target=schedule.ref,
    )
    guests = {vm.ref: vm for vm in vms}
    children = Operation.objects.filter(parent=parent.pk, state__in=OPEN).values_list("pk", "target")
    ScheduledSnapshot.objects.bulk_create(
        [
            ScheduledSnapshot(schedule=schedule, vm=guests[target], name=params.name, at=now, operation=child)
            for child, target in children
        ],
        batch_size=500,
    )
    SnapshotSchedule.objects.filter(pk=schedule.pk).update(
        last_operation=parent.pk, last_state=LastState.RUNNING, last_message=""
    )
    _tell(schedule, operation=parent.pk, state=LastState.RUNNING)
    _note_end(schedule, parent)
    return parent


def snapshot_name(schedule: SnapshotSchedule, at: dt.datetime) -> str:
    """`nightly-20261130-020000Z-1f3c`: whose, when (UTC: no hour comes twice), and a mark that no other schedule has."""
    plain = unicodedata.normalize("NFKD", schedule.name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain)[:SLUG_MAX].strip("-") or "schedule"
    return f"{slug}-{at.astimezone(dt.UTC):%Y%m%d-%H%M%S}Z-{schedule.pk.hex[-4:]}"


# -- what has ended ----------------------------------------------------------------------------------------------------------
def settle(now: dt.datetime) -> None:
    """Note how turns have ended, and have what is too old deleted of each guest whose snapshot was taken. Safe to run twice at once."""
    open_rows = list(ScheduledSnapshot.objects.filter(settled=False).values_list("pk", "schedule", "vm", "operation"))
    states = dict(
        Operation.objects.filter(
            pk__in=ScheduledSnapshot.objects.filter(settled=False).values("operation")
        ).values_list("pk", "state")
    )
    over: defaultdict[uuid.UUID, list[tuple[int, uuid.UUID, bool]]] = defaultdict(list)
    for row, schedule_id, vm, operation in open_rows:
        state = states.get(operation)
        if state is None or state in ENDED:
            over[schedule_id].append((row, vm, state == OperationState.SUCCEEDED))
    schedules = SnapshotSchedule.objects.select_related("owner").in_bulk(over)
    for schedule_id, schedule in schedules.items():
        _settle(schedule, over[schedule_id], now)
    running = SnapshotSchedule.objects.filter(last_state=LastState.RUNNING)
    parents = last_operations(running)
    for schedule in running:
        _note_end(schedule, parents.get(schedule.last_operation) if schedule.last_operation else None)


def _settle(schedule: SnapshotSchedule, rows: Iterable[tuple[int, uuid.UUID, bool]], now: dt.datetime) -> None:
    with transaction.atomic():
        list(SnapshotSchedule.objects.select_for_update().filter(pk=schedule.pk))
        mine = set(
            ScheduledSnapshot.objects.filter(pk__in=[row for row, _, _ in rows], settled=False).values_list(
                "pk", flat=True
            )
        )
        ScheduledSnapshot.objects.filter(pk__in=mine).update(settled=True)
        taken = {vm for row, vm, well in rows if well and row in mine}
        there = Snapshot.objects.filter(vm=OuterRef("vm"), name=OuterRef("name"))
        lost = ScheduledSnapshot.objects.filter(
            schedule=schedule, vm__in=taken, settled=True, at__lt=now - FORGOTTEN_AFTER
        )
        lost.filter(~Exists(there)).delete()
        if taken:
            _prune(schedule, taken)


def _prune(schedule: SnapshotSchedule, taken: set[uuid.UUID]) -> None:
    """Ask for the end of what is not kept. Nothing of a guest whose snapshot was not taken: it keeps what it has."""
    rows = VM.objects.filter(pk__in=taken, gone_at=None).select_related("hypervisor__host")
    vms = {vm.pk: vm for vm in rows.defer("hypervisor__credentials")}
    under_way = {
        (target, params.get("name"))
        for target, params in Operation.objects.filter(
            kind=DeleteSnapshot.kind, state__in=OPEN, lock_key__in=[vm.ref for vm in vms.values()]
        ).values_list("target", "params")
    }
    gone = [one for one in doomed(schedule, vms.values()) if (vms[one.vm].ref, one.name) not in under_way]
    if not gone:
        return
    try:
        bulk.submit_each(
            DeleteSnapshot,
            wishes=[bulk.Wish(target=vms[one.vm], params=DeleteSnapshotParams(name=one.name)) for one in gone],
            by=acting(schedule),
            title=schedule.name,
            shown={"keep": {name: number for name, number in _kept(schedule).items() if number}},
            target=schedule.ref,
        )
    except VmmError as error:  # nobody may any more: the next turn will say so
        log.info("nothing is deleted: %s", error.detail, extra={"schedule": str(schedule.pk)})


def _kept(schedule: SnapshotSchedule) -> dict[str, int]:
    keep = schedule.keep
    return {"last": keep.last, "daily": keep.daily, "weekly": keep.weekly, "monthly": keep.monthly}


def _note_end(schedule: SnapshotSchedule, parent: Operation | None) -> None:
    """Write down how a turn has ended, if it has; the operation itself is not kept for ever."""
    if parent is not None and not parent.ended:
        return
    state, message = LastState.FAILED, "Its operation is no longer kept."
    if parent is not None:
        missed = Operation.objects.filter(parent=parent.pk).exclude(state=OperationState.SUCCEEDED).exists()
        well = parent.state == OperationState.SUCCEEDED
        state = (LastState.PARTIAL if missed else LastState.SUCCEEDED) if well else LastState.FAILED
        message = parent.message
    with transaction.atomic():
        same = SnapshotSchedule.objects.filter(
            pk=schedule.pk,
            last_state=LastState.RUNNING,
            last_operation=parent.pk if parent else schedule.last_operation,
        )
        if same.update(last_state=state, last_message=message[:500]):
            _tell(schedule, operation=parent.pk if parent else None, state=state, message=message)


def _tell(
    schedule: SnapshotSchedule, *, state: LastState, message: str = "", operation: uuid.UUID | None = None
) -> None:
    event_log.append(
        [
            event_log.NewEvent(
                type="snapshot_schedule.run",
                object=schedule.ref,
                object_name=schedule.name,
                actor="system",
                operation=operation,
                data={"state": str(state), "message": message},
            )
        ]
    )
