"""Out of what a guest is made at one place: its volumes, interfaces, kernel and seed, by name. Reads the database alone."""

from __future__ import annotations

import secrets
import uuid
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args

from accounts.policy import visible
from core.units import format_bytes
from drivers import registry
from drivers.base import Driver
from drivers.types import Feature
from images.choices import ImageKind, ImageState
from images.models import Image
from networks.models import Network
from operations.choices import OPEN
from operations.models import Operation
from storage.models import StoragePool, Volume
from storage.reach import STATE_WORDS
from storage.uses import uses_of
from vms.cloning.selectors import versions_named
from vms.creation.plan import PlannedDisk, PlannedFile, PlannedNic, wrong
from vms.creation.spec import BootIn, Bus, DiskIn, InterfaceIn, VMSpec
from vms.models import VM, VMNic

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from accounts.actor import Actor
    from core.errors import BadInput
    from hosts.advisor import Place
    from vms.cloning.models import TemplateVersion, TemplateVolume

BUSES: Final = frozenset(get_args(Bus))
SECTOR: Final = 512
MAKING: Final = "vm.create"
"""The kind of operations whose parameters are a plan."""
STARTED: Final = "started"
"""The step that is recorded when the guest has been started: from then on it is not taken away again."""
SEED_ENDING: Final = "-seed.iso"
"""How the name of a volume ends that is a guest's seed."""
UNDER_WAY_MAX: Final = 1000


# -- what there is -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class UnderWay:
    """A guest that is being made, and so is in no listing yet."""

    id: str
    name: str
    hypervisor: str
    host: str
    vcpus: int
    memory_bytes: int


def guests_under_way() -> list[UnderWay]:
    """All of them, as far as anybody makes so many at once. One query."""
    rows = Operation.objects.filter(kind=MAKING, state__in=OPEN).order_by("-id")
    return [
        UnderWay(
            id=plan["id"],
            name=plan["name"],
            hypervisor=plan["placement"]["hypervisor"],
            host=plan["placement"]["host"],
            vcpus=plan["vcpus"],
            memory_bytes=plan["memory_bytes"],
        )
        for plan, steps in rows.values_list("params__plan", "checkpoints")[:UNDER_WAY_MAX]
        if plan and STARTED not in steps  # else it counts among those that run
    ]


class Known:
    """What the database says of the things that a spec names, read once for all places that come into question."""

    def __init__(self, spec: VMSpec, by: Actor) -> None:
        self.by = by
        self.owner = by.user.get_username() if by.user is not None else ""
        self.named = [disk.image for disk in spec.disks if disk.image is not None]
        self.images = self._images()
        self.templates = versions_named(
            list(dict.fromkeys(disk.template for disk in spec.disks if disk.template is not None)), by=by
        )
        self.spec = spec
        self.pools: dict[uuid.UUID, list[StoragePool]] = {}
        self.networks: dict[uuid.UUID, list[Network]] = {}
        self.under_way = guests_under_way()
        self.taken: dict[str, str] = {one.hypervisor: one.id for one in self.under_way if one.name == spec.name}

    def _images(self) -> dict[str, Image]:
        """Reference as it was written → image."""
        if not self.named:
            return {}
        ids = {text: _uuid(text.removeprefix("image/")) for text in self.named}
        rows = visible(self.by, Image.objects.all())
        by_id = rows.in_bulk([one for one in ids.values() if one is not None])
        found = {text: by_id[one] for text, one in ids.items() if one is not None and one in by_id}
        by_name = {row.name: row for row in rows.filter(name__in=self.named)}
        return {**{text: by_name[text] for text in self.named if text in by_name}, **found}

    @property
    def template(self) -> TemplateVersion | None:
        """The one that the guest is made from; of several the first."""
        return next((self.templates[one.template] for one in self.spec.disks if one.template in self.templates), None)

    def look_at(self, candidates: Iterable[Place]) -> None:
        """Read pools and networks of their hosts, and where the name is taken: three queries, none for what was read before."""
        hosts = {uuid.UUID(place.host_id) for place in candidates} - self.pools.keys()
        if not hosts:
            return
        pools: dict[uuid.UUID, list[StoragePool]] = defaultdict(list)
        for pool in visible(self.by, StoragePool.objects.filter(host__in=hosts, gone_at=None)):
            pools[pool.host_id].append(pool)
        networks: dict[uuid.UUID, list[Network]] = defaultdict(list)
        for network in visible(self.by, Network.objects.filter(host__in=hosts, gone_at=None)):
            networks[network.host_id].append(network)
        for host in hosts:
            self.pools[host], self.networks[host] = pools[host], networks[host]
        twins = VM.objects.filter(hypervisor__host__in=hosts, name=self.spec.name, gone_at=None, bin_name="")
        self.taken |= {str(hypervisor): str(pk) for hypervisor, pk in twins.values_list("hypervisor", "pk")}

    def check_alone(self) -> None:
        """What is wrong with the images wherever it is to be. Raises BadInput."""
        for number, disk in enumerate(self.spec.disks):
            if disk.image in self.images:
                usable(self.images[disk.image], f"/disks/{number}/image")
            if disk.template is not None and disk.template not in self.templates:
                raise no_template(number, disk.template)


def usable(image: Image, where: str) -> None:
    """Raises BadInput for an image that cannot be used yet, or never."""
    if image.state == ImageState.IMPORTING:
        raise wrong(where, f"{image.name} is still being imported")
    if image.state == ImageState.FAILED:
        raise wrong(where, f"the import of {image.name} has failed; import it again")


def no_template(number: int, text: str) -> BadInput:
    """There is none of this name or id, or it has no such version."""
    return wrong(f"/disks/{number}/template", f"there is no template {text}, or it has no such version")


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


# -- out of what -------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Layout:
    """A guest's volumes and interfaces at one place."""

    spec: VMSpec
    known: Known
    place: Place
    vm_id: uuid.UUID

    @property
    def host_id(self) -> uuid.UUID:
        """Pools and networks are its host's."""
        return uuid.UUID(self.place.host_id)

    @property
    def stem(self) -> str:
        """What its volumes are called, before the part that says which: nobody else's begin so."""
        return f"{self.spec.name}-{self.vm_id.hex[-8:]}"

    def disks(self) -> list[PlannedDisk]:
        """All of them. A template stands for all of its own, which are numbered on from the last where it has several."""
        found, more = [], len(self.spec.disks)
        for number, disk in enumerate(self.spec.disks):
            if disk.template is None:
                found.append(self.disk(number, disk))
                continue
            volumes = self._template_volumes(number, disk.template)
            for place, volume in enumerate(volumes):
                first = place == 0
                mine = disk if first else disk.model_copy(update={"size_bytes": None})
                found.append(self._from_template(number if first else more, mine, volume, where=f"/disks/{number}"))
                more += 0 if first else 1
        return found

    def _template_volumes(self, number: int, text: str) -> list[TemplateVolume]:
        """What lies on this host of a template, all of it. Raises BadInput."""
        where = f"/disks/{number}/template"
        version = self.known.templates.get(text)
        if version is None:
            raise no_template(number, text)
        name = version.template.name
        if version.template.closing:
            raise wrong(where, f"{name} is being deleted")
        if version.driver != self.place.driver:
            raise wrong(where, f"{name} is of a guest of {version.driver}, and this is {self.place.driver}")
        if str(version.host_id) != self.place.host_id:
            lies = version.host.name if version.host is not None else f"{version.host_name}, which was removed"
            raise wrong(where, f"the disks of {name} lie on {lies}")
        return list(version.volumes.all())

    def _from_template(self, number: int, disk: DiskIn, volume: TemplateVolume, *, where: str) -> PlannedDisk:
        pool = next((one for one in self._pools(where) if one.pk == volume.pool_id), None)
        if pool is None or not volume.seen:
            raise wrong(
                f"{where}/template",
                f"its disk {volume.volume} is gone from {volume.pool_name}: guests can be made of another version only",
            )
        if not pool.running:
            raise wrong(f"{where}/template", f"the pool {pool.name} is {STATE_WORDS[pool.state]}; start it first")
        place = self._pool_named(disk.pool, f"{where}/pool") if disk.pool is not None else pool
        if disk.clone == "linked" and place.pk != pool.pk:
            raise wrong(
                f"{where}/pool", f"a linked disk lies where its template does, in {pool.name}; or take clone: full"
            )
        disk = disk.model_copy(update={"bus": disk.bus or (volume.bus if volume.bus in BUSES else None)})
        source_pool = pool.name if place.pk != pool.pk else ""
        return self._copy(
            number, disk, place, volume.size_bytes, volume.volume, source=volume.volume, source_pool=source_pool
        )

    def disk(self, number: int, disk: DiskIn) -> PlannedDisk:
        """One of them."""
        if disk.image is None:
            assert disk.size_bytes is not None  # noqa: S101 - its shape says so
            pool = self.pool(disk, f"/disks/{number}")
            format_ = disk.format or pool.formats[0]
            return self._new(number, disk, pool, how="empty", format_=format_, size_bytes=_sectors(disk.size_bytes))
        image = self.known.images.get(disk.image)
        if image is not None:
            return self._from_image(number, disk, self.pool(disk, f"/disks/{number}"), image)
        return self._from_volume(number, disk)

    def _from_image(self, number: int, disk: DiskIn, pool: StoragePool, image: Image) -> PlannedDisk:
        usable(image, f"/disks/{number}/image")
        self._check_content(f"/disks/{number}/image")
        cpu = self.place.cpu_architecture
        if image.architecture and cpu and image.architecture != cpu:
            raise wrong(
                f"/disks/{number}/image", f"{image.name} is for {image.architecture}, {self.place.host_name} is {cpu}"
            )
        behind: dict[str, Any] = {"image": image.pk, "image_name": disk.image}
        if image.kind == ImageKind.ISO:
            return self._attached(number, disk, pool, volume="", size_bytes=image.size_bytes, **behind)
        return self._copy(number, disk, pool, image.virtual_size_bytes, image.name, **behind)

    def _from_volume(self, number: int, disk: DiskIn) -> PlannedDisk:
        where = f"/disks/{number}/image"
        if disk.pool is not None:
            pools = [self._pool_named(disk.pool, f"/disks/{number}/pool", holds=False)]
        else:
            pools = [pool for pool in self._pools(where) if pool.running]
        rows = Volume.objects.filter(pool__in=pools, name=disk.image).select_related("pool")
        volume = max(rows, key=lambda row: (row.pool.available_bytes or 0, row.pool.name), default=None)
        if volume is None:
            place = pools[0].name if disk.pool is not None else f"any pool of {self.place.host_name}"
            raise wrong(where, f"there is no image {disk.image}, and no volume of this name in {place}")
        pool = volume.pool
        if volume.format == "iso" or volume.name.lower().endswith(".iso"):
            return self._attached(
                number, disk, pool, volume=volume.name, size_bytes=volume.capacity_bytes, source=volume.name
            )
        self._check_content(where)
        self._check_unused(volume, disk, where)
        return self._copy(number, disk, pool, volume.capacity_bytes, volume.name, source=volume.name)

    def _check_unused(self, volume: Volume, disk: DiskIn, where: str) -> None:
        """An overlay breaks when what is under it is written; a copy is torn when it is written meanwhile."""
        users = [use for use in uses_of([volume])[volume.pk] if use.type == "vm"]
        user = next((use for use in users if disk.clone == "linked" or use.running), None)
        if user is not None:
            instead = "shut it down, and take clone: full" if user.running else "take clone: full"
            raise wrong(where, f"{volume.name} is a disk of the guest {user.name}, which writes to it; {instead}")

    def _attached(self, number: int, disk: DiskIn, pool: StoragePool, **values: Any) -> PlannedDisk:
        if disk.size_bytes is not None:
            raise wrong(
                f"/disks/{number}/size_bytes", "an installation medium is attached as it is; add a disk beside it"
            )
        return PlannedDisk(
            how="attach", pool=pool.name, pool_id=pool.pk, format="raw", device="cdrom", bus=disk.bus or "", **values
        )

    def _copy(self, number: int, disk: DiskIn, pool: StoragePool, least: int, name: str, **behind: Any) -> PlannedDisk:
        size = _sectors(disk.size_bytes or least)
        if size < least:
            raise wrong(
                f"/disks/{number}/size_bytes", f"{name} has {format_bytes(least)}; a disk is never made smaller"
            )
        if disk.clone == "full":
            format_: str = disk.format or next(iter(pool.formats), "raw")
            return self._new(number, disk, pool, how="full", format_=format_, size_bytes=size, **behind)
        return self._new(number, disk, pool, how="linked", format_="qcow2", size_bytes=size, **behind)

    def _new(
        self, number: int, disk: DiskIn, pool: StoragePool, *, how: Any, format_: str, size_bytes: int, **behind: Any
    ) -> PlannedDisk:
        where = f"/disks/{number}"
        if format_ not in pool.formats:
            raise wrong(
                f"{where}/pool", f"{pool.name} holds no {format_} volumes; name another pool, or take clone: full"
            )
        room = pool.available_bytes
        if how == "full" and room is not None and room < size_bytes and format_ == "raw":
            raise wrong(f"{where}/pool", f"{pool.name} has {format_bytes(room)} free")
        ending = {"raw": "img"}.get(format_, format_)
        number_words = f"-{number + 1}" if number else ""
        volume = f"{self.stem}{number_words}.{ending}"
        return PlannedDisk(
            how=how,
            pool=pool.name,
            pool_id=pool.pk,
            volume=volume,
            format=format_,
            size_bytes=size_bytes,
            bus=disk.bus or "",
            **behind,
        )

    def seed(self, disks: Sequence[PlannedDisk]) -> PlannedFile:
        """Where cloud-init's files go: beside the first disk."""
        first = self.spec.disks[0] if self.spec.disks else None
        if first is not None and first.template is not None:
            pool = next(one for one in self._pools("/cloud_init") if one.pk == disks[0].pool_id)
        else:
            pool = self.pool(first, "/cloud_init")
        self._check_content("/cloud_init")
        return PlannedFile(pool=pool.name, pool_id=pool.pk, volume=f"{self.stem}{SEED_ENDING}")

    def boot(self, boot: BootIn) -> tuple[PlannedFile | None, PlannedFile | None]:
        """Kernel and initrd, which must be there."""
        if boot.kernel is None:
            return None, None
        if boot.pool is not None:
            pool = self._pool_named(boot.pool, "/boot/pool")
        else:
            pool = self.pool(self.spec.disks[0] if self.spec.disks else None, "/boot")
        wanted = {"kernel": boot.kernel, **({"initrd": boot.initrd} if boot.initrd is not None else {})}
        there = set(Volume.objects.filter(pool=pool, name__in=wanted.values()).values_list("name", flat=True))
        for field, name in wanted.items():
            if name not in there:
                raise wrong(f"/boot/{field}", f"there is no volume {name} in {pool.name}; upload it first")
        files = {field: PlannedFile(pool=pool.name, pool_id=pool.pk, volume=name) for field, name in wanted.items()}
        return files["kernel"], files.get("initrd")

    # -- pools ---------------------------------------------------------------------------------------------------------
    def pool(self, disk: DiskIn | None, where: str) -> StoragePool:
        """The one that is named, else the running one with most room of those that hold qcow2 (or else of all)."""
        if disk is not None and disk.pool is not None:
            return self._pool_named(disk.pool, f"{where}/pool")
        running = [pool for pool in self._pools(where) if pool.running and pool.formats]
        overlays = [pool for pool in running if "qcow2" in pool.formats]
        best = max(overlays or running, key=lambda pool: (pool.available_bytes or 0, pool.name), default=None)
        if best is None:
            raise wrong(
                f"{where}/pool" if disk else where, f"no running storage pool on {self.place.host_name} can hold it"
            )
        return best

    def _pools(self, where: str) -> list[StoragePool]:
        if not self.place.has(Feature.STORAGE_POOLS):
            raise wrong(where, f"{self.place.host_name}: {self.place.why_not(Feature.STORAGE_POOLS)}")
        return self.known.pools[self.host_id]

    def _check_content(self, where: str) -> None:
        """Raises BadInput where nothing can be written into a volume: it takes empty disks, and media that lie there already."""
        if not self.place.has(Feature.STORAGE_CONTENT):
            raise wrong(where, f"{self.place.host_name}: {self.place.why_not(Feature.STORAGE_CONTENT)}")

    def _pool_named(self, text: str, where: str, *, holds: bool = True) -> StoragePool:
        """`holds`: something is to be made in it."""
        name = text.removeprefix("storage-pool/")
        found = next((pool for pool in self._pools(where) if name in (str(pool.pk), pool.name)), None)
        if found is None:
            raise wrong(where, f"there is no storage pool {text} on {self.place.host_name}")
        if not found.running:
            raise wrong(where, f"the pool {found.name} is {STATE_WORDS[found.state]}; start it first")
        if holds and not found.formats:
            raise wrong(where, f"no volumes can be made in {found.name}")
        return found

    # -- interfaces ----------------------------------------------------------------------------------------------------
    def interfaces(self, wanted: Sequence[InterfaceIn] | None) -> list[PlannedNic]:
        """As asked for; where nothing is said, one on `default` if that is active, or on the only one where none are made from here."""
        networks = self.known.networks[self.host_id]
        if wanted is None:
            usual = self._usual(networks)
            if usual is None or self.spec.container is not None:
                return []
            wanted = [InterfaceIn(network=usual.name)]
        macs = [nic.mac.lower() for nic in wanted if nic.mac is not None]
        taken = {mac.lower() for mac in self._macs_taken(macs)}
        planned = []
        for number, nic in enumerate(wanted):
            where = f"/interfaces/{number}"
            network = next((one for one in networks if nic.network in (str(one.pk), one.ref, one.name)), None)
            if network is None:
                raise wrong(f"{where}/network", f"there is no network {nic.network} on {self.place.host_name}")
            if not network.active:
                raise wrong(f"{where}/network", f"the network {network.name} is not active; start it first")
            mac = nic.mac.lower() if nic.mac is not None else new_mac(self.place.driver)
            if mac in taken:
                raise wrong(f"{where}/mac", f"{mac} is in use on {self.place.host_name}")
            if mac:
                taken.add(mac)
            planned.append(PlannedNic(network=network.name, mac=mac, model=nic.model or ""))
        return planned

    def _usual(self, networks: Sequence[Network]) -> Network | None:
        active = [one for one in networks if one.active]
        given = not self.place.has(Feature.NETWORKS_MANAGE)
        return next((one for one in active if one.name == "default"), active[0] if given and len(active) == 1 else None)

    def _macs_taken(self, macs: list[str]) -> Iterable[str]:
        if not macs:
            return ()
        rows = VMNic.objects.filter(vm__hypervisor__host=self.host_id, vm__gone_at=None)
        return rows.filter(mac__in=[*macs, *(mac.upper() for mac in macs)]).values_list("mac", flat=True)


def new_mac(driver: str) -> str:
    """A MAC address of the range that hypervisors of this kind take theirs from; "" where they alone give them."""
    span = (registry.get(driver) if driver in registry.kinds() else Driver).macs
    if span is None:
        return ""
    number = span[0] + secrets.randbelow(span[1] - span[0] + 1)
    return ":".join(f"{byte:02x}" for byte in number.to_bytes(6, "big"))


def _sectors(size: int) -> int:
    return -(-size // SECTOR) * SECTOR
