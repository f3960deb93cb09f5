"""What a worker does for snapshots: take, go back, delete, look which there are. Facts come back through `vms.snapshots.inventory`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.utils import timezone
from pydantic import Field, field_validator

from core.errors import Missing
from drivers.errors import AlreadyExists, NotFound, Unsupported, WrongState
from drivers.snapshots import LENGTH_MAX, why_no_description, why_no_name
from drivers.types import Feature, GuestState, SnapshotSpec
from operations.actions import Params, Retry, action
from vms.actions import (
    CRASHED,
    PAUSED,
    RUNNING,
    SHUTOFF,
    GuestAction,
    ReadGuest,
)
from vms.models import Snapshot
from vms.snapshots.inventory import snapshot_reverted, snapshots_observe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.base import Session
    from drivers.types import SnapshotInfo
    from operations.actions import Context
    from vms.models import VM

NAME_MAX = 255
"""Of what somebody else may have given a snapshot."""
_ALIVE = frozenset({RUNNING, PAUSED})


class SnapshotAction(GuestAction):
    """What the three have in common."""

    verb = "vm.snapshot"
    feature = Feature.SNAPSHOTS_DISK
    states: ClassVar[frozenset[GuestState]] = frozenset({RUNNING, PAUSED, SHUTOFF})
    timeout_seconds = 1800.0

    def look(self, session: Session, vm: VM) -> Sequence[SnapshotInfo]:
        """Read which there are, and write it down."""
        seen_at = timezone.now()
        infos = session.snapshots(vm.guest_ref)
        snapshots_observe(vm, infos, seen_at=seen_at)
        return infos

    def find(self, session: Session, vm: VM, name: str) -> SnapshotInfo:
        """One of them. Raises NotFound."""
        found = next((info for info in self.look(session, vm) if info.name == name), None)
        if found is None:
            raise NotFound(f"{vm.name} has no snapshot {name!r} (any more).")
        return found


class NameParams(Params):
    """Which."""

    name: str = Field(max_length=NAME_MAX)


class OneSnapshotAction(SnapshotAction):
    """On one that is there."""

    params = NameParams

    def check(self, target: VM, params: Params, *, idle: bool) -> None:
        """Besides: it must be known here, and be one with which this can be done. One query."""
        assert isinstance(params, NameParams)  # noqa: S101 - narrows the type; the registry pairs them
        super().check(target, params, idle=idle)
        if idle:
            row = Snapshot.objects.filter(vm=target, name=params.name).first()
            if row is None:
                raise Missing(f"{target.name} has no snapshot {params.name[:LENGTH_MAX]!r}, as far as is known here.")
            self.check_one(target, row)

    def check_row(self, vm: VM, row: Snapshot) -> None:
        """Whether it could be asked for now. No query."""
        super().check(vm, NameParams(name=row.name), idle=True)
        self.check_one(vm, row)

    def check_one(self, vm: VM, one: Snapshot | SnapshotInfo) -> None:
        """Raises Unsupported with the hypervisor's reason, or WrongState."""
        raise NotImplementedError

    def refuse(self, vm: VM, why: str) -> None:
        """Raises Unsupported where there is a reason."""
        if why:
            raise Unsupported(why, feature=str(self.feature), hypervisor=str(vm.hypervisor_id))


class TakeParams(Params):
    """What it is called, and whether the memory of a guest that runs is kept too (None: where the hypervisor can)."""

    name: str
    description: str = ""
    memory: bool | None = None

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return _unless(why_no_name(name), name)

    @field_validator("description")
    @classmethod
    def _description(cls, text: str) -> str:
        return _unless(why_no_description(text), text)


def _unless(why: str, value: str) -> str:
    if why:
        raise ValueError(why)
    return value


@action
class TakeSnapshot(SnapshotAction):
    """Keep the guest as it is now: its disks, and its memory while it runs.

    Interrupted, it is asked for again: the hypervisor waits for what is still under way there, and says when there is one.
    """

    kind = "vm.snapshot"
    title = "Take snapshot"
    params = TakeParams
    retry = Retry(times=20, base_seconds=2.0)
    """A guest that is busy with the first attempt's memory says so after 30 s each time."""

    def check(self, target: VM, params: Params, *, idle: bool) -> None:
        """Besides: whether this hypervisor can keep what is wished of a guest in this state."""
        assert isinstance(params, TakeParams)  # noqa: S101 - narrows the type; the registry pairs them
        super().check(target, params, idle=idle)
        if idle:
            self._memory(target, GuestState(target.state), params)

    def check_state(self, vm: VM, state: GuestState) -> None:
        """Besides: what a transient guest has goes with it."""
        super().check_state(vm, state)
        if not vm.persistent:
            raise WrongState(f"{vm.name} is transient: its snapshots would go with it when it stops.", state=str(state))

    def why_not(self, vm: VM, state: GuestState) -> str:
        """What would do."""
        return f"{super().why_not(vm, state)} A snapshot is taken of a guest that runs, is paused or is off."

    def run(self, ctx: Context, target: VM, params: Params) -> dict[str, Any]:
        """Take it. One that is there already is ours only if it was not there before we asked."""
        assert isinstance(params, TakeParams)  # noqa: S101 - narrows the type; the registry pairs them
        with ctx.session(target.hypervisor.endpoint()) as session:
            asked = ctx.done("sent")
            state, _ = session.guest_state(target.guest_ref)
            if not asked:
                self.check_state(target, state)
                if any(info.name == params.name for info in self.look(session, target)):
                    raise AlreadyExists(f"{target.name} has a snapshot {params.name!r} already.")
            memory = self._memory(target, state, params)
            if memory:
                ctx.progress(None, "Its memory is being written; it stands still meanwhile.")
            ctx.checkpoint("sent")
            spec = SnapshotSpec(name=params.name, description=params.description, memory=memory)
            try:
                session.snapshot_create(target.guest_ref, spec)
            except AlreadyExists:
                if not asked:
                    raise
                ctx.log("It was taken already.")
            self.read_back(session, target)
            self.look(session, target)
        return {"snapshot": params.name, "memory": memory}

    def satisfied(self, ctx: Context, target: VM, params: Params) -> bool:
        """There, whole, and not there before. One that is still being taken is listed too, but is not yet the current one."""
        assert isinstance(params, TakeParams)  # noqa: S101 - narrows the type; the registry pairs them
        if not ctx.done("sent"):
            return False
        with ctx.session(target.hypervisor.endpoint()) as session:
            return any(info.name == params.name and info.current for info in self.look(session, target))

    @staticmethod
    def _memory(vm: VM, state: GuestState, params: TakeParams) -> bool:
        """Whether its memory is kept. Raises Unsupported with the hypervisor's reason where that cannot be had so."""
        if state not in _ALIVE:
            return False
        can = vm.hypervisor.support
        memory = can(Feature.SNAPSHOTS_MEMORY)[0] if params.memory is None else params.memory
        feature = Feature.SNAPSHOTS_MEMORY if memory else Feature.SNAPSHOTS_LIVE
        supported, reason = can(feature)
        if vm.hypervisor.capabilities and not supported:
            raise Unsupported(reason, feature=str(feature), hypervisor=str(vm.hypervisor_id))
        return memory


@action
class RevertSnapshot(OneSnapshotAction):
    """Go back. Recorded before it is sent and never sent twice: what the guest did after the first time would be lost."""

    kind = "vm.snapshot-revert"
    title = "Revert to snapshot"
    states = frozenset({RUNNING, PAUSED, SHUTOFF, CRASHED})

    def run(self, ctx: Context, target: VM, params: Params) -> dict[str, Any]:
        """Check what is there now, record, go back, read back."""
        assert isinstance(params, NameParams)  # noqa: S101 - narrows the type; the registry pairs them
        with ctx.session(target.hypervisor.endpoint()) as session:
            state, _ = session.guest_state(target.guest_ref)
            self.check_state(target, state)
            self.check_one(target, self.find(session, target, params.name))
            ctx.checkpoint("sent")
            try:
                session.snapshot_revert(target.guest_ref, params.name)
            finally:
                # A failure half-way may have stopped the guest: whatever it is now is what people must see.
                state = self.read_back(session, target)
            snapshot_reverted(target, params.name)
            self.look(session, target)
        return {"snapshot": params.name, "state": str(state)}

    def resumable(self, ctx: Context) -> bool:
        """Only while nothing was sent."""
        return not ctx.done("sent")

    def check_one(self, vm: VM, one: Snapshot | SnapshotInfo) -> None:
        """Not one that the hypervisor cannot go back to; not one that would run on a host in maintenance."""
        self.refuse(vm, one.no_revert)
        host = vm.hypervisor.host
        if one.memory and host.maintenance:
            raise WrongState(
                f"{host.name} is in maintenance, and this snapshot holds the guest's memory: it would run. "
                "End the maintenance first.",
                host=str(host.pk),
            )


class DeleteSnapshotParams(NameParams):
    """Which, and whether all that grew from it goes as well."""

    children: bool = False


@action
class DeleteSnapshot(OneSnapshotAction):
    """Delete it; the guest stays as it is. One that is gone is what was wished."""

    kind = "vm.snapshot-delete"
    title = "Delete snapshot"
    params = DeleteSnapshotParams
    states = frozenset(GuestState)

    def check_one(self, vm: VM, one: Snapshot | SnapshotInfo) -> None:
        """Not one that the hypervisor cannot delete."""
        self.refuse(vm, one.no_delete)

    def run(self, ctx: Context, target: VM, params: Params) -> dict[str, Any]:
        """Delete, and look what is left."""
        assert isinstance(params, DeleteSnapshotParams)  # noqa: S101 - narrows the type; the registry pairs them
        with ctx.session(target.hypervisor.endpoint()) as session:
            try:
                session.snapshot_delete(target.guest_ref, params.name, children=params.children)
            except NotFound:
                session.guest_state(target.guest_ref)  # the guest itself must be there
                ctx.log("It was gone already.")
            left = self.look(session, target)
        return {"snapshot": params.name, "left": len(left)}

    def satisfied(self, ctx: Context, target: VM, params: Params) -> bool:
        """Gone is done; with its children it is the last to go."""
        assert isinstance(params, DeleteSnapshotParams)  # noqa: S101 - narrows the type; the registry pairs them
        with ctx.session(target.hypervisor.endpoint()) as session:
            return all(info.name != params.name for info in self.look(session, target))


@action
class ReadSnapshots(ReadGuest):
    """Which snapshots a guest has now. What was read is in the inventory, where everybody finds it."""

    kind = "vm.snapshots"
    title = "Read snapshots"
    verb = "view"
    feature = Feature.SNAPSHOTS_DISK

    def read(self, session: Session, vm: VM) -> str:
        """How many there are."""
        seen_at = timezone.now()
        infos = session.snapshots(vm.guest_ref)
        snapshots_observe(vm, infos, seen_at=seen_at)
        return str(len(infos))
