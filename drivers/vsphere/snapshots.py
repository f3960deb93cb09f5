"""The facet of a session that keeps snapshots, and what vSphere's tree of them says.

vSphere lets two snapshots of a guest have one name; ours are found by name, so all but a lone one carry their object's id behind it.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pyVmomi import vim

from drivers.errors import AlreadyExists, InvalidDefinition, NotFound
from drivers.snapshots import why_no_name
from drivers.types import Feature, GuestState, SnapshotInfo
from drivers.vsphere import guests as reading
from drivers.vsphere.collector import of_objects, retrieve
from drivers.vsphere.errors import Garbled, translate
from drivers.vsphere.facet import Facet
from drivers.vsphere.values import items, text
from drivers.vsphere.wire import moid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from drivers.types import GuestRef, SnapshotSpec

PROPERTY = "snapshot"
TASK_SECONDS = 1800.0
"""Memory is written, deltas are merged into their disks."""
_DEPTH_MAX = 500
_STATES = {"poweredOn": GuestState.RUNNING, "suspended": GuestState.PAUSED}


class SnapshotFacet(Facet):
    """Snapshots over the session's wire."""

    def snapshots(self, ref: GuestRef) -> Sequence[SnapshotInfo]:
        """Two calls."""
        self._require(Feature.SNAPSHOTS_DISK)
        return [info for info, _ in self._tree_of(self._now(ref).object, ref)]

    def snapshots_of_all(self) -> Mapping[str, Sequence[SnapshotInfo]]:
        """One call. Guests that were not seen yet are left out: they come with the next listing."""
        self._require(Feature.SNAPSHOTS_DISK)
        with translate():
            found = self._retrieve_all(vim.VirtualMachine, (*reading.NAMING, PROPERTY))
        trees = {self._name_of(each.moid): tree_of(each.get(PROPERTY)) for each in found}
        return {uuid: [info for info, _ in tree] for uuid, tree in trees.items() if uuid and tree}

    def snapshot_create(self, ref: GuestRef, spec: SnapshotSpec) -> None:
        """A suspended guest is kept with its memory in any case."""
        self._require(Feature.SNAPSHOTS_DISK)
        why = why_no_name(spec.name)
        if why:
            raise InvalidDefinition(why, guest=ref.name or ref.uuid)
        found = self._now(ref)
        runs = text(found.get("runtime.powerState")) == "poweredOn"
        if runs:
            self._require(Feature.SNAPSHOTS_MEMORY if spec.memory else Feature.SNAPSHOTS_LIVE)
        if any(info.name == spec.name for info, _ in self._tree_of(found.object, ref)):
            message = "The guest has a snapshot of this name already."
            raise AlreadyExists(message, guest=ref.name or ref.uuid)
        with translate(guest=ref.name or ref.uuid, feature=str(Feature.SNAPSHOTS_DISK)):
            task = found.object.CreateSnapshot_Task(
                name=spec.name, description=spec.description, memory=runs and spec.memory, quiesce=False
            )
            self._end(task, ref)

    def snapshot_revert(self, ref: GuestRef, name: str) -> None:
        """With memory it runs again, wherever it was when the snapshot was taken."""
        snapshot = self._find_snapshot(ref, name)
        with translate(guest=ref.name or ref.uuid, feature=str(Feature.SNAPSHOTS_DISK)):
            self._end(snapshot.RevertToSnapshot_Task(suppressPowerOn=False), ref)

    def snapshot_delete(self, ref: GuestRef, name: str, *, children: bool = False) -> None:
        """Takes as long as merging its disks does."""
        snapshot = self._find_snapshot(ref, name)
        with translate(guest=ref.name or ref.uuid, feature=str(Feature.SNAPSHOTS_DISK)):
            self._end(snapshot.RemoveSnapshot_Task(removeChildren=children), ref)

    def _end(self, task: Any, ref: GuestRef) -> None:
        if not isinstance(task, vim.Task):
            message = "The hypervisor did not say how it goes on with this."
            raise Garbled(message)
        self._wait_for(task, TASK_SECONDS, ref)

    def _find_snapshot(self, ref: GuestRef, name: str) -> Any:
        self._require(Feature.SNAPSHOTS_DISK)
        found = next(
            (snapshot for info, snapshot in self._tree_of(self._now(ref).object, ref) if info.name == name), None
        )
        if found is None:
            message = "The guest has no snapshot of this name."
            raise NotFound(message, guest=ref.name or ref.uuid)
        return found

    def _tree_of(self, machine: Any, ref: GuestRef) -> list[tuple[SnapshotInfo, Any]]:
        with translate(guest=ref.name or ref.uuid):
            found = retrieve(self._wire, of_objects([machine], vim.VirtualMachine, (PROPERTY,)))
        return tree_of(found[0].get(PROPERTY)) if found else []


def tree_of(value: Any) -> list[tuple[SnapshotInfo, Any]]:
    """Each snapshot of a guest with its managed object; none where there is no tree. Raises Garbled for one that cannot be read."""
    if not isinstance(value, vim.vm.SnapshotInfo):
        return []
    nodes = list(_walk(items(value.rootSnapshotList)))
    often = Counter(text(node.name) for node, _ in nodes)
    names = {
        moid(node.snapshot): text(node.name)
        if often[text(node.name)] == 1
        else f"{text(node.name)} [{moid(node.snapshot)}]"
        for node, _ in nodes
    }
    current = value.currentSnapshot
    now = moid(current) if isinstance(current, vim.vm.Snapshot) else ""
    return [(_info(node, parent, names, now), node.snapshot) for node, parent in nodes]


def _walk(roots: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Every node with its parent, None for a root's."""
    waiting: list[tuple[Any, Any, int]] = [(root, None, 0) for root in roots]
    while waiting:
        node, parent, depth = waiting.pop()
        if (
            not isinstance(node, vim.vm.SnapshotTree)
            or not isinstance(node.snapshot, vim.vm.Snapshot)
            or depth > _DEPTH_MAX
        ):
            message = "The hypervisor's list of snapshots cannot be read."
            raise Garbled(message)
        yield node, parent
        waiting += [(child, node, depth + 1) for child in items(node.childSnapshotList)]


def _info(node: Any, parent: Any, names: Mapping[str, str], now: str) -> SnapshotInfo:
    state = _STATES.get(text(node.state))
    return SnapshotInfo(
        name=names[moid(node.snapshot)] or moid(node.snapshot),
        description=text(node.description),
        parent=names[moid(parent.snapshot)] if parent is not None else "",
        created_at=node.createTime.timestamp() if isinstance(node.createTime, datetime) else 0.0,
        state=state or GuestState.SHUTOFF,
        memory=state is not None,
        current=moid(node.snapshot) == now,
    )
