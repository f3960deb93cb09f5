"""Reads of snapshot schedules that pages, REST and runs share: the list, which guests one takes, what it would do, what has to go."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.db.models import BooleanField, ExpressionWrapper, Q
from django.db.models.functions import Lower

from accounts import policy
from accounts.actor import Actor
from core.errors import BadInput, Missing, PermissionRefused, VmmError
from core.filters import filtered
from core.paging import Page, paginate
from drivers.errors import WrongState
from operations.models import Operation
from vms.choices import State
from vms.grammar import compile_query
from vms.models import PRESENT, VM, Snapshot
from vms.schedules.keeping import kept
from vms.schedules.models import ScheduledSnapshot, SnapshotSchedule
from vms.selectors import vms_found
from vms.services import busy_guests
from vms.snapshots.actions import TakeParams, TakeSnapshot

if TYPE_CHECKING:
    import datetime as dt
    import uuid
    from collections.abc import Collection, Iterable

    from django.db.models import QuerySet

ORDERINGS: Final[dict[str, str]] = {
    "name": "order_name",
    "created_at": "created_at",
    "updated_at": "updated_at",
}
TURNS_SHOWN: Final = 5
GUESTS_SHOWN: Final = 500
DELETES_SHOWN: Final = 500
_AT_ONCE: Final = 50


def schedule_list(by: Actor, *, q: str = "") -> QuerySet[SnapshotSchedule]:
    """Those that `by` may see, narrowed by words in name and filter, not ordered. Raises BadInput."""
    rows = policy.visible(by, SnapshotSchedule.objects.select_related("vm", "owner"))
    return filtered(rows, q=q, filters={}, conditions={}, keys={}, free_word=_word)


def _word(word: str) -> Q:
    return Q(name__icontains=word) | Q(filter__icontains=word) | Q(vm__name__icontains=word)


def schedule_page(
    by: Actor, *, q: str = "", ordering: str = "name", cursor: str | None = None, limit: int | None = None
) -> Page[SnapshotSchedule]:
    """One page. Two queries. Raises BadInput."""
    rows = schedule_list(by, q=q).annotate(order_name=Lower("name"))
    return paginate(rows, orderings=ORDERINGS, ordering=ordering, cursor=cursor, limit=limit)


def schedule_get(schedule_id: uuid.UUID, *, by: Actor) -> SnapshotSchedule:
    """One that the caller may see. Raises Missing."""
    found = schedule_list(by).filter(pk=schedule_id).first()
    if found is None:
        raise Missing("There is no such schedule, or you may not see it.")
    return found


def acting(schedule: SnapshotSchedule) -> Actor:
    """In whose name it runs: its owner, with what he may do now. Raises PermissionRefused where there is nobody any more."""
    if schedule.owner is None:
        raise PermissionRefused("Nobody owns this schedule any more: save it again, and it runs in your name.")
    return Actor.of_user(schedule.owner)


def guests_of(schedule: SnapshotSchedule, by: Actor) -> list[VM]:
    """Whom it takes, by name, with hypervisor and host: its one guest, in the bin or not, or those that its filter finds now."""
    if schedule.filter:
        return vms_found(by, schedule.filter)
    rows = policy.visible(by, VM.objects.filter(pk__in=[schedule.vm_id], gone_at=None))
    return list(rows.select_related("hypervisor__host").defer("hypervisor__credentials"))


def schedules_of(vm: VM, by: Actor) -> list[SnapshotSchedule]:
    """Those that take this guest, by name. Two queries, whatever their filters are; one more for each fifty schedules."""
    rows = list(schedule_list(by).order_by(Lower("name")))
    own = {row.pk for row in rows if row.vm_id == vm.pk}
    asked = {f"found_{number}": row for number, row in enumerate(rows) if row.filter}
    names = list(asked)
    for start in range(0, len(names), _AT_ONCE):
        conditions = {
            name: ExpressionWrapper(_meaning(asked[name]), output_field=BooleanField())
            for name in names[start : start + _AT_ONCE]
        }
        found = VM.objects.filter(PRESENT, pk=vm.pk).annotate(**conditions).values(*conditions).first() or {}
        own |= {asked[name].pk for name, is_so in found.items() if is_so}
    return [row for row in rows if row.pk in own]


def _meaning(schedule: SnapshotSchedule) -> Q:
    """What its filter means in its owner's name. One that means nothing any more finds nobody."""
    try:
        return compile_query(schedule.filter, by=acting(schedule))
    except (BadInput, PermissionRefused):
        return Q(pk__in=[])


# -- what it would do ------------------------------------------------------------------------------------------------------
def why_not(vm: VM, params: TakeParams, *, idle: bool = True) -> VmmError | None:
    """What stands against a snapshot of this guest now. No query."""
    try:
        if params.memory and idle and vm.state in (State.SHUTOFF, State.CRASHED):
            raise WrongState(
                f"{vm.name} is off: there is no memory to keep, and this schedule takes none without.", state=vm.state
            )
        TakeSnapshot().check(vm, params, idle=idle)
    except VmmError as error:
        return error
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """A snapshot that retention does not keep."""

    vm: uuid.UUID
    vm_name: str
    name: str
    at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a schedule would do.

    Attributes:
        turns: The next ones; none while it is switched off.
        total: How many guests it takes.
        guests: The first of them, each with what stands against it.
        doomed: What goes after the next turn, of those guests that it can take.
    """

    turns: list[dt.datetime]
    total: int
    guests: list[tuple[VM, VmmError | None]]
    doomed: list[Doomed]

    @property
    def able(self) -> int:
        """How many of `guests` it could take now."""
        return sum(error is None for _, error in self.guests)


def preview(schedule: SnapshotSchedule, *, by: Actor, now: dt.datetime) -> Preview:
    """What it would do, saved or not. Nothing is changed. Raises BadInput for a filter or a time zone that is none.

    Args:
        schedule: A row, or one that is not saved yet: then nothing is known of what it took.
        by: Who asks, if it has no owner yet.
        now: From when on.
    """
    actor = acting(schedule) if schedule.owner is not None else by
    turns = list(itertools.islice(schedule.when.turns(now), TURNS_SHOWN))
    vms = guests_of(schedule, actor)
    busy = busy_guests()
    params = TakeParams(name="a snapshot", memory=schedule.memory)
    guests = [(vm, why_not(vm, params, idle=vm.ref not in busy)) for vm in vms[:GUESTS_SHOWN]]
    able = [vm for vm, error in guests if error is None]
    return Preview(
        turns=turns if schedule.enabled else [],
        total=len(vms),
        guests=guests,
        doomed=doomed(schedule, able, next_at=turns[0])[:DELETES_SHOWN],
    )


def doomed(schedule: SnapshotSchedule, vms: Iterable[VM], *, next_at: dt.datetime | None = None) -> list[Doomed]:
    """What it took of these guests and does not keep, oldest first. Two queries.

    Only what is known here as its own, and is called and described so by the hypervisor. `next_at`: as if one had been taken then.
    """
    names = {vm.pk: vm.name for vm in vms}
    taken: defaultdict[uuid.UUID, dict[str, dt.datetime]] = defaultdict(dict)
    for vm, name, at in own(schedule, names):
        taken[vm][name] = at
    found = []
    for vm, ours in taken.items():
        stay = kept(ours if next_at is None else {**ours, "": next_at}, schedule.keep, schedule.when.zone)
        found += [Doomed(vm=vm, vm_name=names[vm], name=name, at=at) for name, at in ours.items() if name not in stay]
    return sorted(found, key=lambda one: (one.vm_name, one.at))


def own(schedule: SnapshotSchedule, vms: Collection[uuid.UUID]) -> list[tuple[uuid.UUID, str, dt.datetime]]:
    """What there is of its own: guest, name, when. Two queries.

    One of the same name that says nothing of this schedule was made by somebody else in its place. A hypervisor that keeps no
    descriptions says nothing at all: there the name counts, which nobody gives by chance.
    """
    asked = ScheduledSnapshot.objects.filter(schedule=schedule.pk, vm__in=vms)
    known = {(vm, name): at for vm, name, at in asked.values_list("vm", "name", "at")}
    there = Snapshot.objects.filter(vm__in=vms, name__in={name for _, name in known})
    return [
        (vm, name, known[vm, name])
        for vm, name, said in there.order_by("id").values_list("vm", "name", "description")
        if (vm, name) in known and (not said or schedule.ref in said)
    ]


def last_operations(schedules: Iterable[SnapshotSchedule]) -> dict[uuid.UUID, Operation]:
    """The parents of the last turns, as far as they are kept. One query."""
    ids = [row.last_operation for row in schedules if row.last_operation]
    return Operation.objects.defer("result", "checkpoints").in_bulk(ids) if ids else {}
