"""Cloning a guest: one operation that copies its disks and defines each clone, and undoes all of it when one fails.

The source keeps its lock meanwhile, and is off: nobody starts it here under the copy. A clone's id stands in its definition, so whoever
sees it first, watcher or this action, makes the same row of it. Clones that have once been started stay.
"""

from __future__ import annotations

import uuid  # noqa: TC003 - pydantic reads the annotation
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.utils import timezone

from accounts.models import User
from core.errors import VmmError
from core.units import format_bytes
from drivers.errors import NoSpace, WrongState
from drivers.types import CloneSpec, Feature, GuestRef, VolumeSpec
from operations.actions import Params, Retry, action
from storage.reach import pool_of, slot_of
from vms.actions import ALIVE, CRASHED, SHUTOFF, GuestAction, state_words
from vms.cloning.plan import KIND, PlannedClone, check_names
from vms.cloning.sources import check_still, disks_of
from vms.creation.actions import check_maintenance, find
from vms.creation.maker import cancelled, parts_of
from vms.creation.volumes import Volumes
from vms.facts import facts
from vms.inventory import vm_gone, vm_observe, vm_say

if TYPE_CHECKING:
    from drivers.base import Session
    from drivers.types import GuestInfo, GuestState
    from operations.actions import Context
    from storage.models import StoragePool
    from vms.cloning.plan import PlannedCopy
    from vms.models import VM

STARTED: Final = "started"
"""The step that is recorded before the first clone is started: from then on they are not taken away again."""


class CloneParams(Params):
    """All that is settled. `asked`: as it was asked for, by which an equal wish is known."""

    hypervisor: uuid.UUID | None = None
    asked: dict[str, Any] = {}
    clones: list[PlannedClone] = []
    start: bool = False
    title: str = ""
    description: str = ""
    tags: list[str] = []
    project: str = ""
    owner: str = ""
    cloud_init: dict[str, Any] | None = None

    secret: ClassVar[frozenset[str]] = frozenset({"cloud_init"})


@action
class CloneVM(GuestAction):
    """Make guests like this one, with copies of its disks."""

    kind = KIND
    title = "Clone"
    verb = "vm.create"
    params: ClassVar[type[Params]] = CloneParams
    feature = Feature.CLONE
    states = frozenset({SHUTOFF, CRASHED})
    retry = Retry(times=3, base_seconds=2.0)
    timeout_seconds = 6 * 3600.0
    """Disks are large."""
    cancellable = True

    def slot(self, target: VM) -> tuple[str, int]:
        """It takes as long as its disks are large."""
        return slot_of(target.hypervisor, long=True)

    def check(self, target: VM, params: Params, *, idle: bool) -> None:
        """Besides: what is started is not on a host in maintenance."""
        assert isinstance(params, CloneParams)  # noqa: S101 - narrows the type; the registry pairs them
        super().check(target, params, idle=idle)
        check_maintenance(target.hypervisor, start=params.start)

    def check_state(self, vm: VM, state: GuestState) -> None:
        """Off, and without saved memory."""
        super().check_state(vm, state)
        check_still(vm)

    def why_not(self, vm: VM, state: GuestState) -> str:
        """What to do."""
        return f"{vm.name} is {state_words(state)}: shut it down first. A copy of a disk that is being written is torn."

    def run(self, ctx: Context, target: VM, params: Params) -> dict[str, Any]:
        """Look at the source, make each, start them."""
        assert isinstance(params, CloneParams)  # noqa: S101 - narrows the type; the registry pairs them
        copier = Copier(ctx, target, params)
        if not ctx.done(STARTED):
            copier.check(self)
        made = [copier.made(clone, number) for number, clone in enumerate(params.clones)]
        if params.start:
            self._start(ctx, target, made)
        return {
            "vm": str(made[0].pk),
            "vms": [{"vm": str(vm.pk), "name": vm.name} for vm in made],
            "volumes": [{"pool": file.pool, "name": file.volume} for clone in params.clones for file in clone.files],
        }

    def _start(self, ctx: Context, source: VM, made: list[VM]) -> None:
        cancelled(ctx)
        check_maintenance(source.hypervisor, start=True)
        ctx.checkpoint(STARTED)
        for vm in made:
            ctx.progress(0.95, f"Starting {vm.name}")
            with ctx.session(source.hypervisor.endpoint()) as session:
                state, _ = session.guest_state(vm.guest_ref)
                if state not in ALIVE and not ctx.done(f"{STARTED} {vm.pk}"):
                    session.start(vm.guest_ref)
                ctx.checkpoint(f"{STARTED} {vm.pk}")
                self.read_back(session, vm)

    def undo(self, ctx: Context, target: VM, params: Params) -> None:
        """In reverse: the guests, then their volumes. Once one was started all stay: they are whole."""
        assert isinstance(params, CloneParams)  # noqa: S101 - narrows the type; the registry pairs them
        if ctx.done(STARTED):
            ctx.log("The clones stay: they were made, and only not all started.")
            return
        failures = Copier(ctx, target, params).take_away()
        if failures:
            raise failures[0]


@dataclass(slots=True)
class Copier:
    """The steps, in one attempt."""

    ctx: Context
    source: VM
    params: CloneParams
    volumes: Volumes = field(init=False)

    def __post_init__(self) -> None:
        self.volumes = Volumes(self.ctx)

    # -- look ----------------------------------------------------------------------------------------------------------
    def check(self, action_: CloneVM) -> None:
        """Whether the source still is what was planned with, and off. Raises WrongState, AlreadyExists, NoSpace."""
        vm = self.source
        with self.ctx.session(vm.hypervisor.endpoint()) as session:
            state = action_.read_back(session, vm)
        vm.refresh_from_db(fields=["has_managed_save", "state", "name"])
        action_.check_state(vm, state)
        own = {disk.target: disk.path for disk in disks_of(vm) if disk.how == "own"}
        for clone in self.params.clones:
            planned = {disk.target: disk.path for disk in clone.disks if disk.how == "copy"}
            if planned != own:
                raise WrongState(
                    f"The disks of {vm.name} were changed meanwhile: ask for the clone again.", state=state
                )
        check_names(vm, [clone.name for clone in self.params.clones], but=[clone.id for clone in self.params.clones])

    # -- make ----------------------------------------------------------------------------------------------------------
    def made(self, clone: PlannedClone, number: int) -> VM:
        """One clone, whole and off; its row."""
        copies = [disk for disk in clone.disks if disk.how == "copy"]
        for place, disk in enumerate(copies):
            cancelled(self.ctx)
            share = (number + place / len(copies)) / len(self.params.clones)
            self.ctx.progress(0.9 * share, f"{clone.name}: copying {disk.target}")
            self._copy(disk)
        cancelled(self.ctx)
        for disk in clone.disks:
            if disk.how == "seed" and disk.file is not None:
                self.volumes.seed(pool_of(disk.file.pool_id), disk.file.volume, self._parts(clone))
        return self._define(clone)

    def _copy(self, disk: PlannedCopy) -> None:
        file = disk.file
        assert file is not None  # noqa: S101 - a copy has one
        pool = pool_of(file.pool_id)
        with self.volumes.new(pool, file.volume) as session:
            if session is None:
                return
            _require_room(session, pool, disk)
            spec = VolumeSpec(name=file.volume, capacity_bytes=disk.size_bytes, format=disk.format)
            elsewhere = disk.source_pool if disk.source_pool != pool.name else ""
            session.volume_clone(pool.name, spec, source=disk.source, source_pool=elsewhere)
            self.ctx.log(f"Copied {disk.source} to {file.volume} in {pool.name}.")

    def _parts(self, clone: PlannedClone) -> Any:
        asked = self.params.cloud_init or {}
        return parts_of(asked, name=clone.name, macs=list(clone.macs.values()), instance_id=f"i-{clone.id}")

    def _define(self, clone: PlannedClone) -> VM:
        params, hypervisor = self.params, self.source.hypervisor
        spec = CloneSpec(
            name=clone.name,
            uuid=str(clone.id),
            disks={disk.target: self._place(disk) for disk in clone.disks},
            macs=clone.macs,
            title=params.title,
            description=params.description,
            metadata=facts(clone.id, tags=params.tags, project=params.project, owner=params.owner),
        )
        with self.ctx.session(hypervisor.endpoint()) as session:
            self.ctx.checkpoint(f"defined {clone.id}")
            info = session.clone(self.source.guest_ref, spec)
            seen_at = timezone.now()
            vm = vm_observe(hypervisor, session.guest(info.ref), seen_at=seen_at)
        vm.hypervisor = hypervisor
        vm_say(
            vm,
            actor=params.owner,
            tags=list(params.tags),
            project=params.project,
            owner=User.objects.filter(username=params.owner).first() if params.owner else None,
            title=params.title,
            description=params.description,
        )
        self.ctx.log(f"Made {clone.name}.")
        return vm

    def _place(self, disk: PlannedCopy) -> tuple[str, str]:
        if disk.file is not None:
            return self.volumes.paths[disk.file.pool, disk.file.volume], disk.format
        return disk.path, disk.format

    # -- undo ----------------------------------------------------------------------------------------------------------
    def take_away(self) -> list[VmmError]:
        """All that was made, the last first; what could not be taken away, and why."""
        failures: list[VmmError] = []
        for clone in reversed(self.params.clones):
            try:
                self._undefine(clone)
            except VmmError as error:
                failures.append(error)  # its volumes go all the same: nothing else will ever use them
            failures += self.volumes.delete(reversed(clone.files))
        return failures

    def _undefine(self, clone: PlannedClone) -> None:
        if not self.ctx.done(f"defined {clone.id}"):
            return
        hypervisor = self.source.hypervisor
        with self.ctx.session(hypervisor.endpoint()) as session:
            info: GuestInfo | None = find(session, clone.id)
            if info is None:
                return
            if info.state in ALIVE:
                session.force_off(info.ref)
            session.undefine(GuestRef(uuid=info.uuid, name=info.name))
            vm_gone(hypervisor, info.uuid, cause="undone")
        self.ctx.log(f"Undone: the guest {info.name}.")


def _require_room(session: Session, pool: StoragePool, disk: PlannedCopy) -> None:
    """Before hours of copying, not after. Raises NoSpace."""
    free = session.pool(pool.name).available_bytes
    source = session.volume(disk.source_pool, disk.source)
    if free is not None and free < source.allocation_bytes:
        raise NoSpace(
            f"{disk.source} takes {format_bytes(source.allocation_bytes)}, and {pool.name} has {format_bytes(free)} left. Make room "
            "there, or take another pool.",
            pool=pool.name,
        )
