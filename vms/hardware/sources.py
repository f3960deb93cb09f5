"""What a disk is made of: a new volume, one that is there, an image, or nothing. Settled by names from the database, never by a path.

Settled once, when it is asked for; the worker makes what has to be made, and looks again whether somebody else uses it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from django.db.models import Q
from pydantic import BaseModel, ConfigDict

from accounts.policy import visible
from core.errors import BadInput
from core.ids import uuid7
from hosts.places import places
from storage.models import Volume
from storage.reach import check_usable, pool_of
from storage.uses import refuse, uses_of
from vms.creation.layout import Known, Layout
from vms.creation.maker import Maker
from vms.creation.plan import Placement, Plan, PlannedDisk, wrong
from vms.creation.spec import DiskIn, VMSpec

if TYPE_CHECKING:
    import uuid

    from accounts.actor import Actor
    from operations.actions import Context
    from storage.uses import Use
    from vms.models import VM

_FIRST = "/disks/0"


class Source(BaseModel):
    """Settled. `made`: a volume is made for it first. `volume`: its row, where it is there already. Neither: an empty drive."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: Literal["disk", "cdrom"] = "disk"
    planned: PlannedDisk | None = None
    shareable: bool = False

    @property
    def there(self) -> bool:
        """Whether it is a volume that somebody may use already, to be written to."""
        return self.planned is not None and self.planned.how == "attach" and bool(self.planned.volume)


@dataclass(slots=True)
class Ask:
    """What a caller says of it: one of them, or none for an empty drive."""

    size_bytes: int | None = None
    image: str | None = None
    volume: str | None = None
    pool: str | None = None
    format: Literal["qcow2", "raw"] | None = None
    clone: Literal["linked", "full"] = "linked"
    device: Literal["disk", "cdrom"] | None = None
    shareable: bool = False


class _Shelf(Layout):
    """As when a guest is made, with names that no other volume has."""

    @property
    def stem(self) -> str:
        """Of the guest, and new each time; `vms.deletion.leftovers` knows by it what was made for a guest."""
        name = re.sub(r"[^A-Za-z0-9._-]", "-", self.spec.name)[:63]
        return f"{name}-{self.vm_id.hex[-8:]}-{uuid7().hex[-6:]}"


def settle(vm: VM, ask: Ask, *, by: Actor) -> Source:
    """What a new disk of this guest is to be made of.

    Raises:
        BadInput: With a pointer. InUse: another guest has it.
    """
    if ask.volume is None and ask.image is None and ask.size_bytes is None:
        if ask.device != "cdrom":
            raise wrong("/size_bytes", "say size_bytes, a volume, or an image")
        return Source(device="cdrom")
    shelf = _shelf(vm, ask, by)
    if ask.volume is not None:
        return _there(vm, ask, shelf)
    disk = shelf.spec.disks[0]
    try:
        planned = shelf.disk(0, disk)
    except BadInput as error:
        raise _without_place(error) from None
    if ask.device == "cdrom" and planned.device != "cdrom":
        raise wrong("/image", f"{ask.image or 'a new volume'} is no installation medium")
    return Source(device=planned.device, planned=planned)


def _shelf(vm: VM, ask: Ask, by: Actor) -> _Shelf:
    place = next((one for one in places(by) if one.id == str(vm.hypervisor_id)), None)
    if place is None:
        raise BadInput("Its hypervisor is no longer managed.")
    disk = DiskIn.model_construct(
        size_bytes=ask.size_bytes, pool=ask.pool, image=ask.image, clone=ask.clone, format=ask.format, bus=None
    )
    spec = VMSpec.model_construct(name=vm.name, disks=[disk], container=None)
    known = Known(spec, by)
    known.look_at([place])
    return _Shelf(spec, known, place, vm.pk)


def _without_place(error: BadInput) -> BadInput:
    """The pointers as the caller wrote it: he named one disk."""
    errors = [{**one, "pointer": str(one["pointer"]).removeprefix(_FIRST)} for one in error.errors]
    return BadInput(error.detail.removeprefix("disks.0."), errors=errors)


def _there(vm: VM, ask: Ask, shelf: _Shelf) -> Source:
    """A volume that is there, as it is."""
    pools = shelf.known.pools[shelf.host_id]
    if ask.pool is not None:
        name = ask.pool.removeprefix("storage-pool/")
        pools = [one for one in pools if name in (str(one.pk), one.name)]
        if not pools:
            raise wrong("/pool", f"there is no storage pool {ask.pool} on {shelf.place.host_name}")
    wanted = (ask.volume or "").removeprefix("volume/")
    rows = list(visible(shelf.known.by, Volume.objects.filter(pool__in=pools, name=wanted)).select_related("pool")) or [
        one for one in Volume.objects.filter(pool__in=pools).select_related("pool") if str(one.pk) == wanted
    ]
    if not rows:
        raise wrong("/volume", f"there is no volume {wanted} in {ask.pool or f'any pool of {shelf.place.host_name}'}")
    if len(rows) > 1:
        raise wrong("/volume", f"there is a {wanted} in several pools; name the pool")
    volume = rows[0]
    if not volume.pool.running:
        raise wrong("/volume", f"the pool {volume.pool.name} is not running; start it first")
    medium = volume.format == "iso" or volume.name.lower().endswith(".iso")
    device = ask.device or ("cdrom" if medium else "disk")
    if device == "disk":
        check_unused(volume, shareable=ask.shareable)
    planned = PlannedDisk(
        how="attach",
        pool=volume.pool.name,
        pool_id=volume.pool_id,
        volume=volume.name,
        source=volume.name,
        format="raw" if medium or volume.format not in ("qcow2", "raw", "vmdk", "qed") else volume.format,
        size_bytes=volume.capacity_bytes,
        device=device,
    )
    return Source(device=device, planned=planned, shareable=ask.shareable)


def check_unused(volume: Volume, *, shareable: bool, but: uuid.UUID | None = None) -> None:
    """Raises InUse for what a guest writes to, or an overlay or an image stands on. Guests may share it where both say so."""
    in_the_way = [one for one in uses_of([volume])[volume.pk] if not _harmless(one, shareable=shareable, but=but)]
    refuse(
        volume.name,
        in_the_way,
        then="Take it away from there first, or say shareable, if all of them can write to one disk together."
        if all(one.type == "vm" for one in in_the_way)
        else "Take a copy of it.",
    )


def _harmless(use: Use, *, shareable: bool, but: uuid.UUID | None) -> bool:
    return use.type == "vm" and (shareable or (but is not None and use.id == str(but)))


def check_pool(source: Source) -> None:
    """Raises what stands against using its pool: Unsupported, Unreachable, WrongState, Missing. One query."""
    if source.planned is not None:
        check_usable(pool_of(source.planned.pool_id))


# -- in a worker -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Made:
    """Where it is on the host, and in which format."""

    path: str = ""
    format: str = ""


def make(ctx: Context, vm: VM, source: Source) -> Made:
    """Make what has to be made, once; where it lies. Blocks for as long as a copy takes. Raises as `Maker.volume`."""
    planned = source.planned
    if planned is None:
        return Made()
    maker = _maker(ctx, vm, planned)
    maker.copy(0, planned)
    maker.volume(0, planned)
    name = planned.volume or maker.behind[0]
    return Made(path=maker.volumes.paths[planned.pool, name], format=planned.format)


def unmake(ctx: Context, vm: VM, source: Source) -> None:
    """Delete what this operation has made. Raises the first thing that stood against it."""
    if source.planned is not None and source.planned.how != "attach":
        for error in _maker(ctx, vm, source.planned).delete_volumes():
            raise error


def _maker(ctx: Context, vm: VM, planned: PlannedDisk) -> Maker:
    there: dict[str, Any] = {"hypervisor": vm.hypervisor_id, "host": vm.hypervisor.host_id}
    place = Placement.model_construct(**there)
    of_one_disk: dict[str, Any] = {"id": vm.pk, "name": vm.name, "placement": place, "disks": [planned], "seed": None}
    plan = Plan.model_construct(**of_one_disk)
    return Maker(ctx, vm.pk, plan, None)


def volume_at(vm: VM, path: str) -> Volume | None:
    """The volume of the guest's host that lies at this path (or is `pool/volume`), with pool and hypervisor. One query."""
    if not path:
        return None
    pool, _, name = path.partition("/")
    named = Q(pool__name=pool, name=name) if pool and name else Q()
    rows = Volume.objects.select_related("pool__hypervisor__host").filter(
        Q(path=path) | named if named else Q(path=path), pool__gone_at=None, pool__host=vm.hypervisor.host_id
    )
    return rows.order_by("pool__created_at").first()


def as_json(source: Source) -> dict[str, Any]:
    """For a result."""
    planned = source.planned
    return {} if planned is None else {"pool": planned.pool, "volume": planned.volume or planned.image_name}
