"""Facts in: the only writer of what snapshots guests have, whoever read them (watcher, a look, or an action after its work).

As in `vms.inventory`, a reading counts by the time before it began, so that old news that come late are refused. libvirt tells
of no snapshot by an event (measured): what somebody else takes is seen when a page or a program asks, and at the next attach.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from vms.choices import SnapshotKind, State
from vms.inventory import CLOCK_SLACK, announce
from vms.models import VM, Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drivers.types import SnapshotInfo
    from hosts.models import Hypervisor

_BIGINT_MAX = 2**63 - 1
_FACTS = (
    "description", "parent", "created_at", "state", "memory", "kind", "current", "disks", "size_bytes", "no_revert", "no_delete",
)  # fmt: skip
News = list[tuple[VM, str, dict[str, Any]]]


def snapshots_observe(vm: VM, infos: Sequence[SnapshotInfo], *, seen_at: dt.datetime) -> bool:
    """Write down all snapshots that a guest has, unless something newer is known; whether anything differed.

    Args:
        vm: Whose they are.
        infos: What was read, all of them.
        seen_at: A time before the reading began.
    """
    found = {fresh.name: fresh for fresh in map(_row, infos)}
    with transaction.atomic():
        row = VM.objects.select_for_update().filter(pk=vm.pk, gone_at=None).first()
        if row is None or not _newer(row, seen_at):
            return False
        first = row.snapshots_read_at is None
        known = {one.name: one for one in Snapshot.objects.filter(vm=row)}
        gone = [name for name in known if name not in found]
        new = [name for name in found if name not in known]
        changed = [name for name in found if name in known and _differs(known[name], found[name])]
        Snapshot.objects.filter(vm=row, name__in=gone).delete()
        for name in changed:
            facts = {fact: getattr(found[name], fact) for fact in _FACTS}
            Snapshot.objects.filter(pk=known[name].pk).update(**facts)
        for name in new:
            found[name].vm = row
        Snapshot.objects.bulk_create([found[name] for name in new])
        news = _news(row, [known[name] for name in gone], [found[name] for name in new], first=first)
        if not news and (new or changed):
            news = [(row, "vm.changed", {"changed": {"snapshots": len(found)}})]
        _tell(row, news)
        VM.objects.filter(pk=row.pk).update(snapshots_read_at=seen_at, version=row.version)
    return bool(gone or new or changed)


def snapshots_observe_all(
    hypervisor: Hypervisor, by_guest: Mapping[str, Sequence[SnapshotInfo]], *, seen_at: dt.datetime
) -> None:
    """Write down the snapshots of all guests of a hypervisor: those that are not in `by_guest` have none. Short transactions."""
    here = VM.objects.filter(hypervisor=hypervisor, gone_at=None)
    read = {uuid.lower(): infos for uuid, infos in by_guest.items()}
    known = Snapshot.objects.filter(vm__hypervisor=hypervisor).values("vm")
    for vm in here.filter(Q(uuid__in=list(read)) | Q(pk__in=known)):
        snapshots_observe(vm, read.get(vm.uuid, ()), seen_at=seen_at)
    here.filter(snapshots_read_at=None).update(snapshots_read_at=seen_at)


def snapshot_reverted(vm: VM, name: str) -> None:
    """The guest went back to it: said in the log, since its rows need not differ for that."""
    with transaction.atomic():
        row = VM.objects.select_for_update().filter(pk=vm.pk, gone_at=None).first()
        if row is not None:
            _tell(row, [(row, "vm.snapshot_reverted", {"snapshot": _text(name, 255)})])
            VM.objects.filter(pk=row.pk).update(version=row.version)


def _row(info: SnapshotInfo) -> Snapshot:
    """What a hypervisor said, clamped to what a column takes; not saved, and nobody's yet."""
    return Snapshot(
        name=_text(info.name, 255),
        description=_text(info.description, 100_000),
        parent=_text(info.parent, 255),
        created_at=_moment(info.created_at),
        state=str(info.state) if str(info.state) in State.values else str(State.UNKNOWN),
        memory=bool(info.memory),
        kind=info.kind if info.kind in SnapshotKind.values else str(SnapshotKind.INTERNAL),
        current=bool(info.current),
        disks=[_text(disk, 100) for disk in info.disks],
        size_bytes=None if info.size_bytes is None else min(max(int(info.size_bytes), 0), _BIGINT_MAX),
        no_revert=_text(info.no_revert, 500),
        no_delete=_text(info.no_delete, 500),
    )


def _moment(seconds: float) -> dt.datetime | None:
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC) if seconds > 0 else None
    except (ValueError, OverflowError, OSError):
        return None


def _text(value: object, limit: int) -> str:
    return str(value).replace("\0", "")[:limit]


def _differs(one: Snapshot, other: Snapshot) -> bool:
    return any(getattr(one, name) != getattr(other, name) for name in _FACTS)


def _newer(row: VM, at: dt.datetime) -> bool:
    last = row.snapshots_read_at
    return last is None or at >= last or last > timezone.now() + CLOCK_SLACK


def _news(row: VM, gone: Sequence[Snapshot], new: Sequence[Snapshot], *, first: bool) -> News:
    """What came and went. At the first look all are new to us and to nobody else: that is one change, told as such."""
    if first:
        return []
    return [
        *((row, "vm.snapshot_deleted", {"snapshot": one.name}) for one in gone),
        *(
            (row, "vm.snapshot_created", {"snapshot": one.name, "parent": one.parent, "memory": one.memory})
            for one in new
        ),
    ]


def _tell(row: VM, news: News) -> None:
    told = []
    for vm, type_, data in news:
        row.version += 1
        told.append((vm, type_, {**data, "version": row.version}))
    announce(told)
