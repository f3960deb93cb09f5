"""What a clone comes to: identities, names of volumes, addresses, settled once, so that it is the same however often it is interrupted."""

from __future__ import annotations

import re
import uuid  # noqa: TC003 - pydantic reads the annotations
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, StringConstraints

from core.errors import Conflict
from core.ids import uuid7
from drivers.errors import AlreadyExists
from operations.choices import OPEN
from operations.models import Operation
from storage.reach import check_usable
from storage.services import pool_find
from vms.cloning.sources import disks_of
from vms.creation.layout import SEED_ENDING, guests_under_way, new_mac
from vms.creation.plan import Planned, PlannedFile, wrong
from vms.creation.spec import NAME, CloudInitIn, Line, Part, Reference, Text
from vms.models import VM, VMNic

if TYPE_CHECKING:
    from collections.abc import Iterable

    from accounts.actor import Actor
    from storage.models import StoragePool, Volume
    from vms.cloning.sources import SourceDisk

COUNT_MAX: Final = 20
KIND: Final = "vm.clone"
_NUMBERED = re.compile(r"(.*?)(\d*)")
_RAW: Final = frozenset({"", "iso"})


class NeedsTemplate(Conflict):
    """A linked clone stands on disks that nobody writes to any more."""

    code = "needs_template"


class CloneIn(Part):
    """A guest like another one."""

    name: Annotated[str, StringConstraints(pattern=NAME)] = Field(
        examples=["web-02"], description="Of several the first: the others count on from it."
    )
    count: int = Field(1, ge=1, le=COUNT_MAX)
    mode: Literal["full", "linked"] = Field("full", description="`linked` is for templates: of a guest it is refused.")
    pool: Reference | None = Field(None, description="Id or name; left out: each disk stays in the pool of its source.")
    start: bool = False
    title: Line = ""
    description: Text | None = Field(None, description="Left out: the source's.")
    cloud_init: CloudInitIn | None = Field(
        None, description="Another seed: at its first boot the clone is a new instance. Left out: no seed."
    )


class PlannedCopy(Planned):
    """One disk or drive of a clone: a copy, a seed of its own, the source's own medium, or an empty drive.

    Attributes:
        path, format: Of the source's.
    """

    target: str
    how: Literal["copy", "seed", "shared", "empty"]
    path: str = ""
    format: str = ""
    size_bytes: int = 0
    source: str = ""
    source_pool: str = ""
    file: PlannedFile | None = None


class PlannedClone(Planned):
    """One of the guests to be."""

    id: uuid.UUID
    name: str
    disks: list[PlannedCopy]
    macs: dict[str, str]

    @property
    def files(self) -> list[PlannedFile]:
        """Volumes that are made for it."""
        return [disk.file for disk in self.disks if disk.file is not None]


def names_of(name: str, count: int) -> list[str]:
    """`web-01`, 3 → `web-01 web-02 web-03`; a name without a number gets one. As static/js/create.js names them."""
    if count == 1:
        return [name]
    stem, digits = _NUMBERED.fullmatch(name).groups()  # type: ignore[union-attr]  # it matches whatever a name is
    width, first = max(2, len(digits)), int(digits or 1)
    glue = stem if digits or stem.endswith(("-", ".", "_")) else f"{stem}-"
    return [f"{glue}{number:0{width}d}" for number in range(first, first + count)]


def plan_clones(vm: VM, asked: CloneIn, *, by: Actor) -> list[PlannedClone]:
    """Settle the clones of a guest. A few queries, whatever their number.

    Raises:
        NeedsTemplate, NotCopyable, BadInput (with a pointer), AlreadyExists, WrongState (a pool is stopped), Unsupported.
    """
    if asked.mode == "linked":
        raise NeedsTemplate(
            f"A linked clone stands on the disks of its source, and {vm.name} writes to its own. Make a template of it first, and "
            "guests of that; or take mode: full.",
            vm=str(vm.pk),
        )
    disks = disks_of(vm)
    seed = next((disk for disk in disks if disk.how == "seed"), None)
    if asked.cloud_init is not None and seed is None:
        raise wrong("/cloud_init", f"{vm.name} has no drive with a seed of ours, so there is none to put another in")
    pool = _pool(vm, asked, by)
    names = names_of(asked.name, asked.count)
    check_names(vm, names)
    macs = [nic.mac for nic in VMNic.objects.filter(vm=vm.pk) if nic.mac]
    seeded, driver = asked.cloud_init is not None, vm.hypervisor.driver
    return [_planned(name, disks, pool, {mac: new_mac(driver) for mac in macs}, seeded=seeded) for name in names]


def _pool(vm: VM, asked: CloneIn, by: Actor) -> StoragePool | None:
    if asked.pool is None:
        return None
    pool = pool_find(asked.pool, by=by, host=str(vm.hypervisor.host_id))
    check_usable(pool)
    if not pool.formats:
        raise wrong("/pool", f"no volumes can be made in {pool.name}")
    return pool


def _planned(
    name: str, disks: list[SourceDisk], pool: StoragePool | None, macs: dict[str, str], *, seeded: bool
) -> PlannedClone:
    pk = uuid7()
    stem = f"{name}-{pk.hex[-8:]}"
    planned, number = [], 0
    for disk in disks:
        if disk.how == "own":
            number += 1
            planned.append(_copy(disk, pool, stem, number))
        elif disk.how == "shared":
            planned.append(PlannedCopy(target=disk.target, how="shared", path=disk.path, format=disk.format))
        elif disk.how == "drive":
            planned.append(PlannedCopy(target=disk.target, how="empty"))
        elif seeded:
            planned.append(_seed(disk, disks, pool, stem))
    return PlannedClone(id=pk, name=name, disks=planned, macs=macs)


def _copy(disk: SourceDisk, pool: StoragePool | None, stem: str, number: int) -> PlannedCopy:
    volume = disk.volume
    assert volume is not None  # noqa: S101 - `disks_of` says so of its own ones
    place = pool or volume.pool
    check_usable(volume.pool)
    form = "raw" if volume.format in _RAW else volume.format
    if form not in place.formats:
        form = next(iter(place.formats), "raw")
    words = f"-{number}" if number > 1 else ""
    ending = {"raw": "img"}.get(form, form)
    return PlannedCopy(
        target=disk.target,
        how="copy",
        path=volume.path,
        format=form,
        size_bytes=volume.capacity_bytes,
        source=volume.name,
        source_pool=volume.pool.name,
        file=PlannedFile(pool=place.name, pool_id=place.pk, volume=f"{stem}{words}.{ending}"),
    )


def _seed(disk: SourceDisk, disks: list[SourceDisk], pool: StoragePool | None, stem: str) -> PlannedCopy:
    volumes: Iterable[Volume | None] = (disk.volume, *(one.volume for one in disks if one.how == "own"))
    place = pool or next((one.pool for one in volumes if one is not None), None)
    if place is None:
        raise wrong("/cloud_init", "no pool is known that its seed could lie in; name one")
    file = PlannedFile(pool=place.name, pool_id=place.pk, volume=f"{stem}{SEED_ENDING}")
    return PlannedCopy(target=disk.target, how="seed", format="raw", file=file)


def check_names(vm: VM, names: list[str], *, but: Iterable[uuid.UUID] = ()) -> None:
    """Raises AlreadyExists for a name that another guest of the hypervisor has, or is about to get."""
    rows = VM.objects.filter(hypervisor=vm.hypervisor_id, name__in=names, gone_at=None, bin_name="")
    twin = rows.exclude(pk__in=list(but)).values_list("name", "pk").first()
    if twin is not None:
        raise AlreadyExists(
            f"There is a guest {twin[0]} on {vm.hypervisor.host.name} already; take another name.", id=str(twin[1])
        )


def check_under_way(vm: VM, names: list[str]) -> None:
    """Raises AlreadyExists for a name that a guest is being made under just now."""
    making = {one.name for one in guests_under_way() if one.hypervisor == str(vm.hypervisor_id)}
    for operation in Operation.objects.filter(kind=KIND, state__in=OPEN, params__hypervisor=str(vm.hypervisor_id)):
        making |= {clone["name"] for clone in operation.params["clones"]}
    taken = next((name for name in names if name in making), None)
    if taken is not None:
        raise AlreadyExists(f"A guest {taken} is being made on {vm.hypervisor.host.name} just now; take another name.")
