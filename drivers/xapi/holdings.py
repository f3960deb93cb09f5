"""The facet of a session that tells of storage repositories and networks, and makes and deletes empty disks by themselves.

XenServer lets two disks, repositories or networks have one name; ours are found by name. A disk that was made here carries its name
as a mark, every other one the begin of its UUID behind its label. A snapshot's copies have the labels of what they are copies of.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from drivers.errors import AlreadyExists, Busy, NotFound
from drivers.findings import refusing
from drivers.storage import check_volume
from drivers.types import NetworkInfo, PoolInfo, StorageState, VolumeInfo
from drivers.xapi import records
from drivers.xapi.records import flag, mapping, number, references, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from drivers.types import VolumeSpec
    from drivers.xapi.records import Record, Table
    from drivers.xapi.tasks import Tasks
    from drivers.xapi.wire import Wire

FORMAT: Final = "vdi"
MARK: Final = "vmmanager.volume"
"""Key of a disk's other_config: it was made here, under this name."""
SCAN_SECONDS: Final = 120.0
DISK_SECONDS: Final = 600.0
_ISO: Final = "iso"
_DRIVES: Final = "udev"
"""A repository of the host's own drives: nothing can be made there, and what is in it comes and goes."""
_DISKS: Final = ("user", "system")
_INNER_NETWORKS: Final = ("is_host_internal_management_network", "is_guest_installer_network")


class HoldingsFacet:
    """Storage repositories as pools, networks as they are."""

    _wire: Wire
    _tasks: Tasks

    def _table(self, name: str) -> Table:
        raise NotImplementedError

    # -- pools ---------------------------------------------------------------------------------------------------------
    def pools(self) -> Sequence[PoolInfo]:
        """Two calls."""
        repositories, plugs = self._table("SR"), self._table("PBD")
        names = repository_names(repositories)
        return [pool_info(row, names[ref], plugs) for ref, row in repositories.items() if ref in names]

    def pool(self, name: str) -> PoolInfo:
        """One, read now. Raises NotFound."""
        _, row = self._repository(name)
        return pool_info(row, name, self._table("PBD"))

    def pool_refresh(self, name: str) -> None:
        """Have XAPI look at what is in it."""
        opaque, _ = self._repository(name)
        self._tasks.run("SR.scan", opaque, seconds=SCAN_SECONDS)

    def _repository(self, name: str) -> tuple[str, Record]:
        repositories = self._table("SR")
        opaque = next((ref for ref, known in repository_names(repositories).items() if known == name), "")
        if not opaque:
            message = f"There is no storage repository {name} here."
            raise NotFound(message, pool=name)
        return opaque, repositories[opaque]

    # -- volumes -------------------------------------------------------------------------------------------------------
    def volumes(self, pool: str) -> Sequence[VolumeInfo]:
        """Two calls: XAPI lists the disks of all repositories."""
        return list(self._volumes(pool).values())

    def volume(self, pool: str, name: str) -> VolumeInfo:
        """One, read now. Raises NotFound."""
        return self._volume(pool, name)[1]

    def _volumes(self, pool: str) -> dict[str, VolumeInfo]:
        """By reference; of two disks that say they have one name, the first by UUID has it."""
        opaque, repository = self._repository(pool)
        found = {
            ref: volume_info(row, pool, repository)
            for ref, row in sorted(self._table("VDI").items(), key=lambda each: text(each[1], "uuid"))
            if text(row, "SR") == opaque and is_disk(row)
        }
        first = {info.name: ref for ref, info in reversed(found.items())}
        return {ref: info for ref, info in found.items() if first[info.name] == ref}

    def _volume(self, pool: str, name: str) -> tuple[str, VolumeInfo]:
        found = next(((ref, info) for ref, info in self._volumes(pool).items() if info.name == name), None)
        if found is None:
            message = f"There is no {name} in {pool}."
            raise NotFound(message, pool=pool, volume=name)
        return found

    def volume_create(self, pool: str, spec: VolumeSpec) -> VolumeInfo:
        """An empty disk. How much of it is reserved at once is the repository's own way."""
        opaque, repository = self._repository(pool)
        info = pool_info(repository, pool, {})
        with refusing():
            check_volume(spec, type_=f"XenServer's {info.type}", formats=info.formats)
        if any(one.name == spec.name for one in self._volumes(pool).values()):
            message = f"There is a {spec.name} in {pool} already."
            raise AlreadyExists(message, pool=pool, volume=spec.name)
        row = {
            "name_label": spec.name,
            "name_description": "",
            "SR": opaque,
            "virtual_size": str(spec.capacity_bytes),
            "type": "user",
            "sharable": False,
            "read_only": False,
            "other_config": {MARK: spec.name},
            "xenstore_data": {},
            "sm_config": {},
            "tags": [],
        }
        self._tasks.run("VDI.create", row, seconds=DISK_SECONDS)
        return self.volume(pool, spec.name)

    def volume_delete(self, pool: str, name: str) -> None:
        """Raises Busy for one that a guest, a template or a snapshot has: XAPI would take it from one that is off."""
        opaque, _ = self._volume(pool, name)
        row = records.record(self._wire.call("VDI.get_record", opaque))
        for drive in references(row, "VBDs"):
            owner = text(records.record(self._wire.call("VBD.get_record", drive)), "VM")
            label = self._wire.call("VM.get_name_label", owner)
            message = f"{name} belongs to {label or 'a guest'}, or to a snapshot of it."
            raise Busy(message, pool=pool, volume=name)
        self._tasks.run("VDI.destroy", opaque, seconds=DISK_SECONDS)

    # -- networks ------------------------------------------------------------------------------------------------------
    def networks(self) -> Sequence[NetworkInfo]:
        """One call."""
        found = self._table("network")
        names = network_names(found)
        return [network_info(row, names[ref]) for ref, row in found.items() if ref in names]


# -- records as our values ---------------------------------------------------------------------------------------------
def unique(rows: Iterable[tuple[str, Record]]) -> dict[str, str]:
    """A name for each reference: its label, with the begin of its UUID behind where it is not the only one, or has none."""
    known = dict(rows)
    often = Counter(text(row, "name_label") for row in known.values())
    return {
        ref: label
        if (label := text(row, "name_label")) and often[label] == 1
        else f"{label} [{text(row, 'uuid')[:8]}]".strip()
        for ref, row in known.items()
    }


def repository_names(repositories: Table) -> dict[str, str]:
    """By reference, of those that guests' disks can lie in, or that have media."""
    return unique((ref, row) for ref, row in repositories.items() if text(row, "type") != _DRIVES and text(row, "uuid"))


def network_names(networks: Table) -> dict[str, str]:
    """By reference, of those that guests can be on."""
    return unique(
        (ref, row)
        for ref, row in networks.items()
        if text(row, "uuid") and not any(mapping(row, "other_config").get(mark) == "true" for mark in _INNER_NETWORKS)
    )


def pool_info(row: Record, name: str, plugs: Table) -> PoolInfo:
    """A storage repository. It runs while a host is plugged into it."""
    running = any(flag(plugs.get(ref, {}), "currently_attached") for ref in references(row, "PBDs"))
    size, used = number(row, "physical_size"), number(row, "physical_utilisation")
    media = text(row, "type") == _ISO or text(row, "content_type") == _ISO
    return PoolInfo(
        uuid=text(row, "uuid").lower(),
        name=name,
        type=text(row, "type") or "sr",
        state=StorageState.RUNNING if running else StorageState.INACTIVE,
        capacity_bytes=size if running else None,
        allocation_bytes=min(used, size) if running else None,
        available_bytes=max(0, size - used) if running else None,
        source=text(row, "uuid").lower(),
        autostart=True,
        formats=() if media else (FORMAT,),
    )


def is_disk(row: Record) -> bool:
    """Whether it is a disk or a medium: saved memory and the hypervisor's own notes are none."""
    return bool(text(row, "uuid")) and text(row, "type").lower() in _DISKS and row.get("managed") is not False


def volume_name(row: Record, repository: Record) -> str:
    """See the module's head. Media are files: their names are theirs alone."""
    label, uuid = text(row, "name_label"), text(row, "uuid").lower()
    media = text(repository, "type") == _ISO or text(repository, "content_type") == _ISO
    marked = mapping(row, "other_config").get(MARK) == label and not flag(row, "is_a_snapshot")
    return label if label and (media or marked) else f"{label} [{uuid[:8]}]".strip()


def disk_places(disks: Table, repositories: Table) -> dict[str, tuple[str, str]]:
    """Of each disk: its pool, and its name there."""
    names = repository_names(repositories)
    return {
        ref: (names[at], volume_name(row, repositories[at]))
        for ref, row in disks.items()
        if (at := text(row, "SR")) in names
    }


def volume_info(row: Record, pool: str, repository: Record) -> VolumeInfo:
    """A disk. Its place is its UUID: files and logical volumes there are called by it."""
    media = text(repository, "type") == _ISO or text(repository, "content_type") == _ISO
    size = number(row, "virtual_size")
    return VolumeInfo(
        name=volume_name(row, repository),
        pool=pool,
        path=text(row, "uuid").lower(),
        format="iso" if media else FORMAT,
        capacity_bytes=size,
        allocation_bytes=number(row, "physical_utilisation"),
    )


def network_info(row: Record, name: str) -> NetworkInfo:
    """A network: its guests are machines of the one that its cards lead to, or only of this host where it has none."""
    return NetworkInfo(
        uuid=text(row, "uuid").lower(),
        name=name,
        active=True,
        mode="bridge" if references(row, "PIFs") else "isolated",
        bridge=text(row, "bridge"),
        autostart=True,
    )
