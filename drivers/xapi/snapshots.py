"""The facet of a session that keeps snapshots: to XAPI each is a record beside the guest's, with copies of its disks.

Two snapshots of a guest may have one name there; ours are found by name, so all but a lone one carry the begin of their UUID.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING

from drivers.errors import AlreadyExists, InvalidDefinition, NotFound
from drivers.snapshots import why_no_name
from drivers.types import GuestState, SnapshotInfo
from drivers.xapi import records
from drivers.xapi.errors import Garbled
from drivers.xapi.records import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from drivers.types import GuestRef, SnapshotSpec
    from drivers.xapi.records import Record, Table
    from drivers.xapi.tasks import Tasks
    from drivers.xapi.wire import Wire

TASK_SECONDS = 1800.0
"""Memory is written to a disk, and read from it."""


class SnapshotFacet:
    """Snapshots over the session's login."""

    _wire: Wire
    _tasks: Tasks

    def _find(self, ref: GuestRef) -> tuple[str, Record]:
        raise NotImplementedError

    def _table(self, name: str) -> Table:
        raise NotImplementedError

    def _named(self, name: str, refs: Iterable[str]) -> Table:
        raise NotImplementedError

    def snapshots(self, ref: GuestRef) -> Sequence[SnapshotInfo]:
        """Two calls, and one a snapshot."""
        _, vm = self._find(ref)
        return list(infos(vm, self._named("VM", records.references(vm, "snapshots"))).values())

    def snapshots_of_all(self) -> Mapping[str, Sequence[SnapshotInfo]]:
        """One call."""
        machines = self._table("VM")
        found = {}
        for vm in machines.values():
            kept = {ref: machines[ref] for ref in records.references(vm, "snapshots") if ref in machines}
            if kept and records.is_guest(vm):
                found[records.uuid_of(vm)] = list(infos(vm, kept).values())
        return found

    def snapshot_create(self, ref: GuestRef, spec: SnapshotSpec) -> None:
        """With memory a *checkpoint*, which needs Xen's drivers in the guest; else a *snapshot*, for which it need not stand still."""
        why = why_no_name(spec.name)
        if why:
            raise InvalidDefinition(why, guest=ref.name)
        opaque, vm = self._find(ref)
        kept = self._named("VM", records.references(vm, "snapshots"))
        if any(text(row, "name_label") == spec.name for row in kept.values()):
            message = "The guest has a snapshot of this name already."
            raise AlreadyExists(message, guest=ref.name)
        alive = text(vm, "power_state") in ("Running", "Paused")
        work = "VM.checkpoint" if alive and spec.memory else "VM.snapshot"
        self._tasks.run(work, opaque, spec.name, seconds=TASK_SECONDS)
        if spec.description:
            _, vm = self._find(ref)
            made = self._named("VM", records.references(vm, "snapshots"))
            for each in (each for each, row in made.items() if text(row, "name_label") == spec.name):
                self._wire.call("VM.set_name_description", each, spec.description)

    def snapshot_revert(self, ref: GuestRef, name: str) -> None:
        """XAPI leaves a guest whose memory was kept suspended: it is resumed."""
        snapshot, info, _ = self._find_snapshot(ref, name)
        self._tasks.run("VM.revert", snapshot, seconds=TASK_SECONDS)
        opaque, vm = self._find(ref)
        if info.memory and text(vm, "power_state") == "Suspended":
            self._tasks.run("VM.resume", opaque, False, False, seconds=TASK_SECONDS)  # noqa: FBT003 - XAPI's: not paused, not forced

    def snapshot_delete(self, ref: GuestRef, name: str, *, children: bool = False) -> None:
        """With the copies of its disks, which XAPI would leave behind; what grew from it takes its parent (XAPI's doing)."""
        snapshot, _, kept = self._find_snapshot(ref, name)
        for each in reversed(_with_children(kept, snapshot)) if children else [snapshot]:
            self._destroy(each, kept[each])

    def _destroy(self, snapshot: str, row: Record) -> None:
        drives = self._named("VBD", records.references(row, "VBDs"))
        disks = self._named("VDI", (text(drive, "VDI") for drive in drives.values() if text(drive, "type") == "Disk"))
        # Never a disk that is no copy, whatever the record says.
        copies = [disk for disk, vdi in disks.items() if records.flag(vdi, "is_a_snapshot")]
        memory = text(row, "suspend_VDI")
        self._tasks.run("VM.destroy", snapshot, seconds=TASK_SECONDS)
        for disk in (*copies, *([memory] if memory not in ("", records.NULL) else [])):
            with contextlib.suppress(NotFound):
                self._tasks.run("VDI.destroy", disk, seconds=TASK_SECONDS)

    def _find_snapshot(self, ref: GuestRef, name: str) -> tuple[str, SnapshotInfo, Table]:
        _, vm = self._find(ref)
        kept = self._named("VM", records.references(vm, "snapshots"))
        for snapshot, info in infos(vm, kept).items():
            if info.name == name:
                return snapshot, info, kept
        message = "The guest has no snapshot of this name."
        raise NotFound(message, guest=ref.name)


def infos(vm: Record, kept: Table) -> dict[str, SnapshotInfo]:
    """A guest's snapshots by their references."""
    labels = {ref: text(row, "name_label") for ref, row in kept.items()}
    often = Counter(labels.values())
    names = {
        ref: label if label and often[label] == 1 else f"{label} [{records.uuid_of(kept[ref])[:8]}]".strip()
        for ref, label in labels.items()
    }
    return {
        ref: _info(row, name=names[ref], parent=names.get(text(row, "parent"), ""), current=ref == text(vm, "parent"))
        for ref, row in kept.items()
    }


def _info(row: Record, *, name: str, parent: str, current: bool) -> SnapshotInfo:
    try:
        created_at = float(records.seconds_of(row.get("snapshot_time")))
    except Garbled:
        created_at = 0.0
    # A copy of a guest that was saved is saved too, and comes back so; a checkpoint is of one that ran.
    was = records.mapping(row, "snapshot_info").get("power-state-at-snapshot")
    memory = text(row, "power_state") == "Suspended" and was != "Suspended"
    return SnapshotInfo(
        name=name,
        description=text(row, "name_description"),
        parent=parent,
        created_at=created_at,
        state=GuestState.RUNNING if memory else GuestState.SHUTOFF,
        memory=memory,
        current=current,
    )


def _with_children(kept: Table, top: str) -> list[str]:
    """It and all that grew from it, parents before their children."""
    found = [top]
    for ref in found:
        found += [other for other, row in kept.items() if text(row, "parent") == ref and other not in found]
    return found
