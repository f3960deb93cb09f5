"""Disks and drives: attached, taken away, changed, another medium put in, grown."""

from __future__ import annotations

import dataclasses
import string
import uuid  # noqa: TC003 - pydantic reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from django.utils import timezone
from pydantic import Field, StringConstraints, model_validator

from core.errors import BadInput, Missing
from core.units import format_bytes
from drivers.errors import NotFound, Unsupported, WrongState
from drivers.types import DiskHardware, Feature, IoLimits
from storage.inventory import volume_gone
from storage.models import Volume
from storage.reach import check_usable, volume_or_none
from storage.uses import refuse, uses_of
from storage.volume_actions import look_afresh, read_volume
from vms.creation.spec import DISK_BYTES_MAX, DISK_BYTES_MIN, Bus
from vms.hardware import sources
from vms.hardware.change import HardwareAction, HardwareParams, hardware_action
from vms.hardware.parts import Part
from vms.hardware.sources import Made, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.types import Device
    from operations.actions import Context, Params
    from vms.hardware.change import Work
    from vms.models import VM

TARGET: Final = r"^[a-z]{1,4}[a-z0-9]{0,8}$"
RATE_MAX: Final = 2**53
_PREFIX: Final = {"virtio": "vd", "ide": "hd", "xen": "xvd", "fdc": "fd"}

Target = Annotated[str, StringConstraints(pattern=TARGET)]
Rate = Annotated[int, Field(ge=0, le=RATE_MAX)]
Cache = Literal["", "none", "writeback", "writethrough", "directsync", "unsafe"]


class LimitsChange(Part):
    """What a disk is held to; 0: nothing. Those that are not said stay."""

    total_bytes_per_second: Rate | None = None
    read_bytes_per_second: Rate | None = None
    write_bytes_per_second: Rate | None = None
    total_requests_per_second: Rate | None = None
    read_requests_per_second: Rate | None = None
    write_requests_per_second: Rate | None = None

    def of(self, limits: IoLimits) -> IoLimits:
        """The limits that come of it. Raises BadInput for a total beside its parts."""
        new = dataclasses.replace(limits, **self.said)
        for unit in ("bytes", "requests"):
            parts = getattr(new, f"read_{unit}_per_second"), getattr(new, f"write_{unit}_per_second")
            if getattr(new, f"total_{unit}_per_second") and any(parts):
                where = f"/limits/total_{unit}_per_second"
                detail = "a total excludes limits of reading and writing: set one of them to 0"
                raise BadInput(
                    f"{where[1:].replace('/', '.')}: {detail}.", errors=[{"pointer": where, "detail": detail}]
                )
        return new


class DiskChange(Part):
    """Of a disk: what is not said stays as it is."""

    bus: Bus | None = None
    cache: Cache | None = None
    io: Literal["", "native", "threads", "io_uring"] | None = None
    discard: Literal["", "unmap", "ignore"] | None = None
    readonly: bool | None = None
    shareable: bool | None = None
    serial: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9 ._-]{0,36}$")] | None = None
    boot_order: Annotated[int, Field(ge=0, le=64)] | None = None
    limits: LimitsChange | None = None

    def of(self, disk: DiskHardware) -> DiskHardware:
        """The disk that comes of it."""
        said = self.said
        limits = said.pop("limits", None)
        new = dataclasses.replace(disk, **said)
        return new if limits is None else dataclasses.replace(new, limits=limits.of(new.limits))


def targets(bus: str) -> Iterator[str]:
    """Names of disks on this bus, in order."""
    prefix = _PREFIX.get(bus, "sd")
    for first in ("", *string.ascii_lowercase):
        for letter in string.ascii_lowercase:
            yield f"{prefix}{first}{letter}"


# -- attach ----------------------------------------------------------------------------------------------------------------
class DiskAttachParams(HardwareParams):
    """What, and how."""

    source: Source
    disk: DiskChange = DiskChange()


@hardware_action
class AttachDisk(HardwareAction):
    """Give the guest one more disk or drive; what it needs is made first, and taken away again where that fails."""

    kind = "vm.disk-attach"
    title = "Attach disk"
    params = DiskAttachParams
    timeout_seconds = 6 * 3600.0

    def check(self, target: VM, params: Params, *, idle: bool) -> None:
        """Besides: its pool can be reached."""
        assert isinstance(params, DiskAttachParams)  # noqa: S101 - narrows the type; the registry pairs them
        super().check(target, params, idle=idle)
        if idle:
            sources.check_pool(params.source)

    def prepare(self, ctx: Context, vm: VM, params: DiskAttachParams) -> Made:
        """Make its volume."""
        return sources.make(ctx, vm, params.source)

    def change(self, work: Work, params: DiskAttachParams) -> str:
        """Under the next free name of its bus: the same again after an interruption."""
        source = params.source
        made: Made = work.ready
        buses = work.options.cdrom_buses if source.device == "cdrom" else work.options.disk_buses
        bus: str = params.disk.bus or (buses[0] if buses else "virtio")
        target = self._target(work, bus)
        if source.there and source.device == "disk":
            self._check_unused(work, source)
        disk = DiskHardware(
            target=target,
            device=source.device,
            bus=bus,
            path=made.path,
            format=made.format,
            readonly=source.device == "cdrom",
            shareable=source.shareable,
        )
        disk = params.disk.of(disk)
        work.bring(disk.key, lambda old: old or disk)
        return disk.key

    @staticmethod
    def _target(work: Work, bus: str) -> str:
        taken = {key for one in work.both for key in one.devices}
        free = None
        for name in targets(bus):
            if work.ctx.done(f"as {name}"):
                return name
            free = free or (name if f"disk/{name}" not in taken else None)
        if free is None:
            raise WrongState(f"{work.vm.name} has no room for one more disk on {bus}.", state=work.vm.state)
        work.ctx.checkpoint(f"as {free}")
        return free

    @staticmethod
    def _check_unused(work: Work, source: Source) -> None:
        """Once more: somebody may have been quicker."""
        planned = source.planned
        assert planned is not None  # noqa: S101 - it is there
        row = Volume.objects.select_related("pool").filter(pool=planned.pool_id, name=planned.volume).first()
        if row is not None:
            sources.check_unused(row, shareable=source.shareable, but=work.vm.pk)

    def finish(self, ctx: Context, vm: VM, params: DiskAttachParams, result: dict[str, Any]) -> dict[str, Any]:
        """What it is made of."""
        return sources.as_json(params.source)

    def undo(self, ctx: Context, target: VM, params: Params) -> None:
        """What was made for it is deleted, unless the guest has it after all."""
        assert isinstance(params, DiskAttachParams)  # noqa: S101 - narrows the type; the registry pairs them
        planned = params.source.planned
        if planned is None or planned.how == "attach":
            return
        with ctx.session(target.hypervisor.endpoint()) as session:
            found = session.hardware(target.guest_ref)
            info = volume_or_none(session, planned.pool, planned.volume)
        path = info.path if info else ""
        if path and any(disk.path == path for one in (found.defined, found.live) if one for disk in one.disks):
            ctx.log(f"{planned.volume} stays: the guest has it.")
            return
        sources.unmake(ctx, target, params.source)


# -- detach ----------------------------------------------------------------------------------------------------------------
class DiskDetachParams(HardwareParams):
    """Which; and the volume that is deleted afterwards, if any."""

    target: Target
    volume: uuid.UUID | None = None


@hardware_action
class DetachDisk(HardwareAction):
    """Take a disk or drive away. Its volume stays, unless it is to go and is the guest's alone."""

    kind = "vm.disk-detach"
    title = "Detach disk"
    params = DiskDetachParams
    timeout_seconds = 600.0

    def inspect(self, work: Work, params: DiskDetachParams) -> None:
        """It must be there."""
        work.known(f"disk/{params.target}")

    def change(self, work: Work, params: DiskDetachParams) -> str:
        """Away."""
        key = f"disk/{params.target}"
        work.bring(key, lambda _old: None)
        return key

    def finish(self, ctx: Context, vm: VM, params: DiskDetachParams, result: dict[str, Any]) -> dict[str, Any]:
        """Delete its volume, once nobody uses it any more."""
        if params.volume is None:
            return {}
        row = Volume.objects.select_related("pool__hypervisor__host").filter(pk=params.volume).first()
        if row is None:
            return {"deleted": True}
        if result["takes_effect"] != "now":
            ctx.log(f"{row.name} stays: the guest runs with it until its next start.")
            return {"deleted": False, "kept": "The guest runs with it until its next start."}
        with ctx.session(row.pool.hypervisor.endpoint()) as session:
            look_afresh(ctx, session, row.pool)
            why = _why_kept(row)
            if not why:
                try:
                    session.volume_delete(row.pool.name, row.name)
                except NotFound:
                    ctx.log("It was gone already.")
                seen_at = timezone.now()
                if volume_or_none(session, row.pool.name, row.name) is None:
                    volume_gone(row.pool, row.name, seen_at=seen_at)
        return {"deleted": not why} | ({"kept": why} if why else {})


def _why_kept(volume: Volume) -> str:
    uses = uses_of([volume])[volume.pk]
    return f"It is used by {uses[0].name}." if uses else ""


# -- change ----------------------------------------------------------------------------------------------------------------
class DiskUpdateParams(HardwareParams):
    """Which, and what of it; `medium`: what is put into the drive, `eject`: nothing is."""

    target: Target
    disk: DiskChange = DiskChange()
    medium: Source | None = None
    eject: bool = False

    @model_validator(mode="after")
    def _something(self) -> DiskUpdateParams:
        if not self.disk.said and self.medium is None and not self.eject:
            raise ValueError("nothing is to be changed")
        return self


@hardware_action
class UpdateDisk(HardwareAction):
    """Change a disk, or what is in a drive."""

    kind = "vm.disk-update"
    title = "Change disk"
    params = DiskUpdateParams
    timeout_seconds = 6 * 3600.0

    def inspect(self, work: Work, params: DiskUpdateParams) -> None:
        """It must be there, and a drive where a medium is meant."""
        disk = work.known(f"disk/{params.target}")
        assert isinstance(disk, DiskHardware)  # noqa: S101 - its key says so
        if (params.medium is not None or params.eject) and disk.device == "disk":
            raise WrongState(f"{params.target} of {work.vm.name} is a disk, no drive.", state=work.vm.state)
        params.disk.of(disk)

    def prepare(self, ctx: Context, vm: VM, params: DiskUpdateParams) -> Made | None:
        """An image is copied to the host first."""
        if params.medium is not None:
            return sources.make(ctx, vm, params.medium)
        return Made() if params.eject else None

    def change(self, work: Work, params: DiskUpdateParams) -> str:
        """Bring it to what is wished."""
        made: Made | None = work.ready
        key = f"disk/{params.target}"

        def wished(old: Device | None) -> Device | None:
            if not isinstance(old, DiskHardware):
                return old  # it has it only now, or only at its next start
            new = params.disk.of(old)
            return new if made is None else dataclasses.replace(new, path=made.path, format=made.format or old.format)

        work.bring(key, wished)
        return key


# -- grow ------------------------------------------------------------------------------------------------------------------
class DiskResizeParams(HardwareParams):
    """Which, and how large it is to be."""

    target: Target
    size_bytes: Annotated[int, Field(ge=DISK_BYTES_MIN, le=DISK_BYTES_MAX)]


@hardware_action
class ResizeDisk(HardwareAction):
    """Make a disk larger: of a running guest under it, else the volume. Never smaller: that would cut off what is on it."""

    kind = "vm.disk-resize"
    title = "Resize disk"
    params = DiskResizeParams
    timeout_seconds = 600.0

    def change(self, work: Work, params: DiskResizeParams) -> str:
        """Look how large it is, grow it, write that down."""
        disk = work.known(f"disk/{params.target}")
        assert isinstance(disk, DiskHardware)  # noqa: S101 - its key says so
        volume = sources.volume_at(work.vm, disk.path)
        if volume is None:
            raise Missing(f"{params.target} of {work.vm.name} lies in no storage pool: it cannot be grown from here.")
        check_usable(volume.pool)
        with work.ctx.session(volume.pool.hypervisor.endpoint()) as session:
            has = session.volume(volume.pool.name, volume.name).capacity_bytes
        size = params.size_bytes
        if size < has:
            detail = f"{params.target} has {format_bytes(has)}; a disk is never made smaller"
            raise BadInput(f"size_bytes: {detail}.", errors=[{"pointer": "/size_bytes", "detail": detail}])
        if size > has:
            self._grow(work, params, volume, disk)
        with work.ctx.session(volume.pool.hypervisor.endpoint()) as session:
            read_volume(session, volume.pool, volume.name)
        return disk.key

    @staticmethod
    def _grow(work: Work, params: DiskResizeParams, volume: Volume, disk: DiskHardware) -> None:
        live = work.found.live
        if live is not None and disk.key in live.devices:
            why = work.options.live.get("disk.resize", "")
            if why:
                raise Unsupported(f"{why} Shut it down, then resize.", feature=str(Feature.HOTPLUG_DISK))
            work.session.disk_resize(work.vm.guest_ref, params.target, capacity_bytes=params.size_bytes)
            return
        others = [one for one in uses_of([volume])[volume.pk] if one.running or one.type == "volume"]
        refuse(volume.name, others)
        with work.ctx.session(volume.pool.hypervisor.endpoint()) as session:
            session.volume_resize(volume.pool.name, volume.name, capacity_bytes=params.size_bytes)
