"""The steps of making a guest from its plan, up to its definition. Runs in an operation's thread.

What an attempt is about to make is written down (`Context.checkpoint`) before it is made. So the next attempt knows it for ours and
makes it again, or goes on; and what is undone is all of that, and nothing else. Names of volumes carry the end of the guest's own
id: what was there before has another name.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.utils import timezone

import cloudinit
from accounts.models import User
from core.errors import Missing
from drivers.types import DiskSpec, GuestSpec, NicSpec, VolumeSpec
from hosts.wishes import hypervisor_of
from images.copies import ensure_copy
from images.models import Image
from operations.actions import Cancelled
from storage.reach import pool_of
from vms.cloning.inventory import guest_made
from vms.cloning.models import Template
from vms.creation.plan import PlannedFile
from vms.creation.volumes import Volumes
from vms.facts import facts
from vms.inventory import vm_observe, vm_say

if TYPE_CHECKING:
    import uuid

    from core.errors import VmmError
    from drivers.base import Session
    from hosts.models import Hypervisor
    from operations.actions import Context
    from storage.models import StoragePool
    from vms.creation.plan import Plan, PlannedDisk
    from vms.models import VM

DEFINED: Final = "defined"
"""The step that is recorded before the guest is defined."""


def cancelled(ctx: Context) -> None:
    """Raises Cancelled when somebody asked for it."""
    if ctx.cancelled():
        raise Cancelled


@dataclass(slots=True)
class Maker:
    """One guest on its way, in one attempt."""

    ctx: Context
    vm_id: uuid.UUID
    plan: Plan
    cloud_init: dict[str, Any] | None
    hypervisor: Hypervisor = field(init=False)
    behind: dict[int, str] = field(default_factory=dict)
    """Number of a disk → name of the volume that its image is in."""
    volumes: Volumes = field(init=False)

    def __post_init__(self) -> None:
        self.volumes = Volumes(self.ctx)
        self.hypervisor = hypervisor_of(self.plan.placement.hypervisor)

    def made(self) -> VM:
        """All steps up to the definition; its row."""
        plan = self.plan
        if not self.ctx.done(DEFINED):
            self.check()
        for number, disk in enumerate(plan.disks):
            cancelled(self.ctx)
            self.ctx.progress(0.05, f"Disk {number + 1} of {len(plan.disks)}: {disk.image_name or disk.how}")
            self.copy(number, disk)
            self.volume(number, disk)
        cancelled(self.ctx)
        if plan.seed is not None:
            self.ctx.progress(0.7, "Seed for cloud-init")
            self.seed(plan.seed)
        self.boot_files()
        cancelled(self.ctx)
        self.ctx.progress(0.8, "Defining")
        return self.define()

    def files(self) -> list[PlannedFile]:
        """Volumes that are made for it."""
        made = [
            PlannedFile(pool=disk.pool, pool_id=disk.pool_id, volume=disk.volume)
            for disk in self.plan.disks
            if disk.how != "attach"
        ]
        return [*made, self.plan.seed] if self.plan.seed is not None else made

    def delete_volumes(self) -> list[VmmError]:
        """Delete what this operation has made, the last first; what could not be deleted, and why."""
        return self.volumes.delete(reversed(self.files()))

    # -- check ---------------------------------------------------------------------------------------------------------
    def check(self) -> None:
        """Whether the hypervisor would take it, before anything is made. Raises what `Session.design` raises."""
        template = Template.objects.filter(pk=self.plan.template).first() if self.plan.template is not None else None
        if self.plan.template is not None and (template is None or template.closing):
            raise Missing("The template that it was to be made from was deleted meanwhile.")
        self.design()
        self.ctx.log(f"{self.hypervisor.host.name} ({self.hypervisor.driver}) can make it.")

    def design(self) -> str:
        """The definition that it would get: volumes stand in it as if they were there."""
        with self.ctx.session(self.hypervisor.endpoint()) as session:
            volumes = [(disk.pool, _name(disk)) for disk in self.plan.disks]
            extra = (self.plan.seed, self.plan.kernel, self.plan.initrd)
            volumes += [(file.pool, file.volume) for file in extra if file is not None]
            targets = {pool: session.pool(pool).target for pool in {pool for pool, _ in volumes}}
            paths = {(pool, name): f"{targets[pool]}/{name}" if targets[pool] else "" for pool, name in volumes}
            return session.design(self.spec(paths, {n: _name(disk) for n, disk in enumerate(self.plan.disks)}))

    # -- copy ----------------------------------------------------------------------------------------------------------
    def copy(self, number: int, disk: PlannedDisk) -> None:
        """What is behind a disk lies in its pool; an image is copied there first, if it is not there yet."""
        if disk.image is not None:
            image = Image.objects.filter(pk=disk.image).first()
            if image is None:
                raise Missing(f"The image {disk.image_name} was deleted meanwhile.")
            self.behind[number] = ensure_copy(self.ctx, image, pool_of(disk.pool_id))
        elif disk.source:
            self.behind[number] = disk.source

    # -- volumes -------------------------------------------------------------------------------------------------------
    def volume(self, number: int, disk: PlannedDisk) -> None:
        """One disk's own volume."""
        pool = pool_of(disk.pool_id)
        if disk.how == "attach":
            self.volumes.read_path(pool, self.behind[number])
            return
        with self.volumes.new(pool, disk.volume) as session:
            if session is not None:
                self._fill(session, pool, number, disk)
                self.ctx.log(f"Made {disk.volume} in {pool.name}.")

    def _fill(self, session: Session, pool: StoragePool, number: int, disk: PlannedDisk) -> None:
        behind = self.behind.get(number, "")
        spec = VolumeSpec(name=disk.volume, capacity_bytes=disk.size_bytes, format=disk.format)
        if disk.how == "full":
            made = session.volume_clone(pool.name, spec, source=behind, source_pool=disk.source_pool)
            if made.capacity_bytes < disk.size_bytes:
                session.volume_resize(pool.name, disk.volume, capacity_bytes=disk.size_bytes)
        else:
            session.volume_create(pool.name, dataclasses.replace(spec, backing=behind))

    def seed(self, file: PlannedFile) -> None:
        """What cloud-init reads at the first boot, on a disc of its own."""
        self.volumes.seed(pool_of(file.pool_id), file.volume, self._parts())

    def _parts(self) -> cloudinit.Parts:
        macs = [nic.mac for nic in self.plan.interfaces]
        return parts_of(self.cloud_init or {}, name=self.plan.name, macs=macs, instance_id=f"i-{self.vm_id}")

    # -- define --------------------------------------------------------------------------------------------------------
    def boot_files(self) -> None:
        """Where kernel and initrd are."""
        for file in (self.plan.kernel, self.plan.initrd):
            if file is not None:
                self.volumes.read_path(pool_of(file.pool_id), file.volume)

    def define(self) -> VM:
        """Define it, off; its row says what is ours to say, also where the hypervisor keeps none of that."""
        plan = self.plan
        with self.ctx.session(self.hypervisor.endpoint()) as session:
            self.ctx.checkpoint(DEFINED)
            info = session.create(self.spec(self.volumes.paths, self.behind))
            if plan.autostart and not info.autostart:
                session.set_autostart(info.ref, enabled=True)
            seen_at = timezone.now()
            vm = vm_observe(self.hypervisor, session.guest(info.ref), seen_at=seen_at)
        vm.hypervisor = self.hypervisor
        if plan.template_version is not None:
            linked = any(disk.how == "linked" and disk.source for disk in plan.disks)
            guest_made(vm, plan.template_version, linked=linked)
        owner = User.objects.filter(username=plan.owner).first() if plan.owner else None
        vm_say(
            vm,
            actor=plan.owner,
            tags=list(plan.tags),
            project=plan.project,
            owner=owner,
            title=plan.title,
            description=plan.description,
        )
        return vm

    def spec(self, paths: dict[tuple[str, str], str], behind: dict[int, str]) -> GuestSpec:
        """As drivers take it. `behind`: what an attached image is called in its pool."""
        plan = self.plan
        disks = [
            DiskSpec(
                pool=disk.pool,
                volume=name,
                path=paths[disk.pool, name],
                format=disk.format,
                bus=disk.bus,
                device=disk.device,
                readonly=disk.device == "cdrom",
            )
            for number, disk in enumerate(plan.disks)
            for name in (disk.volume or behind[number],)
        ]
        installs = any(disk.device == "cdrom" for disk in plan.disks) and plan.kernel is None
        if plan.seed is not None:
            place = plan.seed.pool, plan.seed.volume
            disks.append(
                DiskSpec(
                    pool=place[0],
                    volume=place[1],
                    path=paths[place],
                    device="cdrom",
                    readonly=True,
                    format="raw",
                    seed=True,
                )
            )
        return GuestSpec(
            name=plan.name,
            uuid=str(self.vm_id),
            disks=tuple(disks),
            interfaces=tuple(
                NicSpec(network=nic.network, mac=nic.mac, model=nic.model) for nic in plan.interfaces
            ),
            kernel=paths[plan.kernel.pool, plan.kernel.volume] if plan.kernel is not None else "",
            initrd=paths[plan.initrd.pool, plan.initrd.volume] if plan.initrd is not None else "",
            boot_order=("disk", "cdrom") if installs else (),
            image=plan.container_image,
            os_id=plan.os,
            metadata=facts(self.vm_id, tags=plan.tags, project=plan.project, owner=plan.owner),
            **{
                name: getattr(plan, name)
                for name in (
                    "accelerator", "vcpus", "memory_bytes", "cmdline", "firmware", "secure_boot", "tpm", "graphics", "cpu_mode",
                    "nested", "root", "init", "title", "description",
                )
            },
        )  # fmt: skip


def parts_of(asked: dict[str, Any], *, name: str, macs: list[str], instance_id: str) -> cloudinit.Parts:
    """What goes into a seed, of what was asked for (`vms.creation.spec.CloudInitIn` as JSON)."""
    return cloudinit.Parts(
        instance_id=instance_id,
        hostname=asked.get("hostname") or name,
        macs=macs,
        user_data=asked.get("user_data") or "",
        network_config=asked.get("network_config") or "",
        ssh_keys=asked.get("ssh_keys") or (),
        user=asked.get("user") or "",
        password_hash=asked.get("password_hash") or "",
        packages=asked.get("packages") or (),
    )


def _name(disk: PlannedDisk) -> str:
    """What a disk's volume is called, or would be."""
    return disk.volume or disk.source or f"{disk.image_name}.iso"
