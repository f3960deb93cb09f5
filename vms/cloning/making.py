"""Making a template's version of a guest: by copying its disks, or by making the guest itself the template.

A guest that is converted is undefined, and its disks stay where they are: a frozen guest could still be started by whoever stands at the
host, and would write under all that was made from it. The order is: rows (from then on the disks are in use, and kept), copies, the end
of the guest, ready. Each can be the last one before a crash; what fails before the guest went is undone, after that it is finished.
"""

from __future__ import annotations

import uuid  # noqa: TC003 - pydantic reads the annotations
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from accounts.models import User
from core.errors import Missing
from drivers.anonymous import anonymous
from drivers.errors import DriverError, NotFound, Unsupported, WrongState
from drivers.types import Feature, VolumeSpec
from networks.models import Network
from operations.actions import Params, Retry, action
from storage.models import Volume
from storage.reach import pool_of, slot_of
from storage.uses import refuse, uses_of
from storage.volume_actions import look_afresh
from vms.actions import CRASHED, SHUTOFF, GuestAction, state_words
from vms.cloning.inventory import version_begun, version_ready, version_undone
from vms.cloning.models import TemplateVersion
from vms.cloning.sources import check_still, disks_of
from vms.creation.maker import cancelled
from vms.creation.plan import Planned, PlannedFile
from vms.creation.volumes import Volumes
from vms.deletion.actions import check_protection
from vms.inventory import vm_gone
from vms.models import VM, Snapshot, VMNic

if TYPE_CHECKING:
    from drivers.base import Session
    from drivers.types import GuestState
    from operations.actions import Context

KIND: Final = "template.make"
UNDEFINING: Final = "undefining"
"""The step that is recorded before the converted guest is undefined."""


class PlannedTemplateDisk(Planned):
    """One disk of a version: the volume of the guest's (`source`), and the one that is the template's (the same, where it is converted)."""

    target: str
    bus: str
    path: str
    source: PlannedFile
    file: PlannedFile
    format: str
    size_bytes: int


class MakeTemplateParams(Params):
    """All that is settled. `template`, `version`: the ids of the rows to be."""

    template: uuid.UUID
    version: uuid.UUID
    name: str
    mode: Literal["convert", "copy"] = "copy"
    disks: list[PlannedTemplateDisk] = []
    description: str = ""
    project: str = ""
    owner: str = ""
    notes: str = ""
    cloud_init: bool = False
    user_data: str = ""
    parameters: list[dict[str, Any]] = []

    secret: ClassVar[frozenset[str]] = frozenset({"user_data"})


@action
class MakeTemplate(GuestAction):
    """Make a template, or another version of one, of a guest that is off."""

    kind = KIND
    title = "Make template"
    verb = "template.manage"
    params: ClassVar[type[Params]] = MakeTemplateParams
    feature = Feature.STORAGE_POOLS
    states = frozenset({SHUTOFF, CRASHED})
    retry = Retry(times=3, base_seconds=2.0)
    timeout_seconds = 6 * 3600.0
    cancellable = True

    def load(self, target_id: uuid.UUID) -> VM:
        """One that is gone too: it may have been converted by an attempt before this one."""
        vm = VM.objects.select_related("hypervisor__host").filter(pk=target_id).first()
        if vm is None:
            raise Missing("This guest was forgotten together with its hypervisor.")
        return vm

    def slot(self, target: VM) -> tuple[str, int]:
        """It takes as long as its disks are large."""
        return slot_of(target.hypervisor, long=True)

    def check(self, target: VM, params: Params, *, idle: bool) -> None:
        """Besides: what is converted can be undefined, and may be."""
        assert isinstance(params, MakeTemplateParams)  # noqa: S101 - narrows the type; the registry pairs them
        super().check(target, params, idle=idle)
        if params.mode == "convert":
            supported, reason = target.hypervisor.support(Feature.UNDEFINE)
            if target.hypervisor.capabilities and not supported:
                raise Unsupported(f"It cannot be converted: {reason} Take mode: copy.", feature=str(Feature.UNDEFINE))
            check_protection(target)

    def check_state(self, vm: VM, state: GuestState) -> None:
        """Off, and without saved memory."""
        super().check_state(vm, state)
        check_still(vm)

    def why_not(self, vm: VM, state: GuestState) -> str:
        """What to do."""
        return f"{vm.name} is {state_words(state)}: shut it down first. A template's disks are written by nobody."

    def run(self, ctx: Context, target: VM, params: Params) -> dict[str, Any]:
        """Look, rows, copies, the end of the guest, ready."""
        assert isinstance(params, MakeTemplateParams)  # noqa: S101 - narrows the type; the registry pairs them
        if not (ctx.done(UNDEFINING) and self._is_gone(ctx, target)):
            self._look(ctx, target, params)
            self._begin(ctx, target, params)
            if params.mode == "copy":
                self._copy(ctx, params)
            cancelled(ctx)
            if params.mode == "convert":
                self._undefine(ctx, target)
        version = TemplateVersion.objects.select_related("template").get(pk=params.version)
        version_ready(version, actor=params.owner)
        return {
            "template": str(version.template_id),
            "name": version.template.name,
            "version": version.number,
            "volumes": [{"pool": disk.file.pool, "name": disk.file.volume} for disk in params.disks],
        }

    # -- steps ---------------------------------------------------------------------------------------------------------
    def _look(self, ctx: Context, vm: VM, params: MakeTemplateParams) -> None:
        """Whether the guest still is what was planned with, and off. Raises WrongState, InUse."""
        if vm.gone_at is not None:
            raise Missing("This guest is gone from its hypervisor.")
        with ctx.session(vm.hypervisor.endpoint()) as session:
            state = self.read_back(session, vm)
        vm.refresh_from_db(fields=["has_managed_save", "state", "name", "protected"])
        self.check_state(vm, state)
        own = {disk.target: disk.path for disk in disks_of(vm) if disk.how == "own"}
        if own != {disk.target: disk.path for disk in params.disks}:
            raise WrongState(f"The disks of {vm.name} were changed meanwhile: ask for the template again.", state=state)
        if params.mode == "convert":
            check_protection(vm)
            self._check_alone(ctx, vm, params)

    @staticmethod
    def _check_alone(ctx: Context, vm: VM, params: MakeTemplateParams) -> None:
        """Nobody else writes to what is to be frozen. Raises InUse."""
        for disk in params.disks:
            pool = pool_of(disk.source.pool_id)
            with ctx.session(pool.hypervisor.endpoint()) as session:
                look_afresh(ctx, session, pool)
            row = Volume.objects.select_related("pool").filter(pool=pool.pk, name=disk.source.volume).first()
            if row is None:
                raise NotFound(f"The volume {disk.source.volume} is gone from {pool.name}.", pool=pool.name)
            others = [
                use
                for use in uses_of([row])[row.pk]
                if use.type in ("vm", "template") and use.id not in (str(vm.pk), str(params.template))
            ]
            refuse(row.name, others)

    def _begin(self, ctx: Context, vm: VM, params: MakeTemplateParams) -> None:
        hypervisor = vm.hypervisor
        with ctx.session(hypervisor.endpoint()) as session:
            support = session.capabilities().get(Feature.XML)
            definition = session.definition(vm.guest_ref) if support is not None and support.supported else ""
        owner = User.objects.filter(username=params.owner).first() if params.owner else None
        version_begun(
            {
                "id": params.template,
                "name": params.name,
                "description": params.description,
                "project": params.project,
                "owner": owner,
            },
            {
                "id": params.version,
                "host": hypervisor.host,
                "host_name": hypervisor.host.name,
                "driver": hypervisor.driver,
                "architecture": hypervisor.host.cpu_architecture,
                "definition": anonymous(definition),
                "facts": facts_of(vm),
                "cloud_init": params.cloud_init,
                "user_data": params.user_data,
                "parameters": params.parameters,
                "notes": params.notes,
                "mode": params.mode,
                "source": vm.pk,
                "source_name": vm.name,
                "created_by": params.owner,
            },
            [
                {
                    "position": position,
                    "target": disk.target,
                    "bus": disk.bus,
                    "pool_id": disk.file.pool_id,
                    "pool_name": disk.file.pool,
                    "volume": disk.file.volume,
                    "format": disk.format,
                    "size_bytes": disk.size_bytes,
                }
                for position, disk in enumerate(params.disks)
            ],
        )

    @staticmethod
    def _copy(ctx: Context, params: MakeTemplateParams) -> None:
        volumes = Volumes(ctx)
        for number, disk in enumerate(params.disks):
            cancelled(ctx)
            ctx.progress(0.9 * number / len(params.disks), f"Copying {disk.target}")
            pool = pool_of(disk.file.pool_id)
            with volumes.new(pool, disk.file.volume) as session:
                if session is not None:
                    spec = VolumeSpec(name=disk.file.volume, capacity_bytes=disk.size_bytes, format=disk.format)
                    elsewhere = disk.source.pool if disk.source.pool != pool.name else ""
                    session.volume_clone(pool.name, spec, source=disk.source.volume, source_pool=elsewhere)
                    ctx.log(f"Copied {disk.source.volume} to {disk.file.volume} in {pool.name}.")

    def _undefine(self, ctx: Context, vm: VM) -> None:
        """The guest goes, its disks stay; its seed, which nobody else ever had, goes too."""
        seeds = [disk.volume for disk in disks_of(vm) if disk.how == "seed" and disk.volume is not None]
        with ctx.session(vm.hypervisor.endpoint()) as session:
            if session.guest_or_none(vm.guest_ref) is not None:
                self.check_state(vm, session.guest_state(vm.guest_ref)[0])
                check_no_snapshots(session, vm)
                ctx.checkpoint(UNDEFINING)
                session.undefine(vm.guest_ref)
                ctx.log(f"{vm.name} is a template now, and no guest any more; its disks stay where they are.")
        vm_gone(vm.hypervisor, vm.uuid, cause="template")
        for seed in seeds:
            _delete_seed(ctx, vm, seed)

    def _is_gone(self, ctx: Context, vm: VM) -> bool:
        with ctx.session(vm.hypervisor.endpoint()) as session:
            if session.guest_or_none(vm.guest_ref) is not None:
                return False
        vm_gone(vm.hypervisor, vm.uuid, cause="template")
        return True

    def undo(self, ctx: Context, target: VM, params: Params) -> None:
        """Copies and rows go. A guest that was undefined already cannot be had back: then the template is whole, and stays."""
        assert isinstance(params, MakeTemplateParams)  # noqa: S101 - narrows the type; the registry pairs them
        version = TemplateVersion.objects.select_related("template").filter(pk=params.version).first()
        if version is None or version.ready:
            return
        if ctx.done(UNDEFINING) and self._is_gone(ctx, target):
            ctx.log(f"The template {version.template.name} stays: its disks are those of the guest, which is gone.")
            version_ready(version, actor=params.owner)
            return
        failures = []
        if params.mode == "copy":
            failures = Volumes(ctx).delete(disk.file for disk in reversed(params.disks))
        version_undone(version.pk)
        if failures:
            raise failures[0]


def check_no_snapshots(session: Session, vm: VM) -> None:
    """Raises WrongState for a guest with snapshots: they would be lost without a word."""
    support = session.capabilities().get(Feature.SNAPSHOTS_DISK)
    keeps = support is not None and support.supported
    if (keeps and session.snapshots(vm.guest_ref)) or (not keeps and Snapshot.objects.filter(vm=vm.pk).exists()):
        raise WrongState(
            f"{vm.name} has snapshots, which would go with it: delete them first, or take mode: copy.", state=vm.state
        )


def facts_of(vm: VM) -> dict[str, Any]:
    """What else makes a guest like this one. Networks of its host alone: bridges are named by nobody else."""
    networks = set(Network.objects.filter(host=vm.hypervisor.host_id, gone_at=None).values_list("name", flat=True))
    screens = [one.get("type", "") for one in vm.graphics]
    return {
        "vcpus": vm.vcpus,
        "memory_bytes": vm.memory_bytes,
        "os": vm.os if "://" in vm.os else "",
        "firmware": vm.boot.get("firmware") if vm.boot.get("firmware") in ("bios", "uefi") else "bios",
        "graphics": next((kind for kind in screens if kind in ("vnc", "spice")), "none"),
        "interfaces": [
            {"network": nic.network, "model": nic.model}
            for nic in VMNic.objects.filter(vm=vm.pk)
            if nic.network in networks
        ],
    }


def _delete_seed(ctx: Context, vm: VM, seed: Volume) -> None:
    """Passwords and keys may be in it. One that is left is no reason to fail: the guest is gone."""
    others = [use for use in uses_of([seed])[seed.pk] if use.id != str(vm.pk)]
    if others:
        return
    try:
        with ctx.session(seed.pool.hypervisor.endpoint()) as session:
            session.volume_delete(seed.pool.name, seed.name)
            look_afresh(ctx, session, seed.pool)
    except DriverError as error:
        ctx.log(f"Its seed {seed.name} in {seed.pool.name} could not be deleted: {error.detail}")
    else:
        ctx.log(f"Deleted its seed {seed.name}.")
