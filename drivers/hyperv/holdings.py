r"""The facet of a session that tells of the host's folder of virtual disks and of its switches, and makes and deletes empty disks.

The folder is the one that Hyper-V's settings name (`C:\…\Virtual Hard Disks`); it is the pool `default`. Windows' names of files are
the same in lower case: ours are lower case, whatever was asked for.
"""

from __future__ import annotations

import re
import uuid as uuids
from typing import TYPE_CHECKING, Final

from drivers.errors import AlreadyExists, Busy, Denied, DriverError, InvalidDefinition, NotFound
from drivers.findings import refusing
from drivers.hyperv import guests
from drivers.hyperv.embedded import Thing, instance
from drivers.hyperv.errors import STARTED, returned
from drivers.hyperv.wire import CIMV2, Reference, select
from drivers.storage import check_volume
from drivers.types import NetworkInfo, PoolInfo, StorageState, VolumeInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drivers.hyperv.wire import Row, Wire
    from drivers.types import HostInfo, VolumeSpec

POOL: Final = "default"
FORMAT: Final = "vhdx"
_KINDS: Final = {"vhdx": FORMAT, "vhd": "vhd", "iso": "iso"}
_IMAGES: Final = Reference("Msvm_ImageManagementService", {"CreationClassName": "Msvm_ImageManagementService"})
_DYNAMIC, _VHDX = "3", "3"
_SIZE: Final = re.compile(r'NAME="MaxInternalSize"[^>]*>\s*<VALUE>([0-9]{1,19})</VALUE>')
_FOLDER: Final = re.compile(r"([A-Za-z]:)(\\[^*?\"<>|]*?)\\?")
_FILE_ERRORS: Final[Mapping[int, tuple[type[DriverError], str]]] = {
    2: (Denied, "Windows does not allow this account to delete the file."),
    9: (NotFound, "There is no such file."),
    15: (Busy, "Somebody uses the file."),
    17: (Denied, "Windows does not allow this account to delete the file."),
}
"""What CIM_DataFile's Delete returns."""


class HoldingsFacet:
    """One folder, and the switches."""

    _wire: Wire
    _info: HostInfo

    # -- pools ---------------------------------------------------------------------------------------------------------
    def pools(self) -> Sequence[PoolInfo]:
        """One, of two queries; none where Hyper-V's settings name no folder of a drive (a network share)."""
        folder = folder_of(self._wire)
        if not folder:
            return []
        query = select("Size, FreeSpace", "Win32_LogicalDisk", DeviceID=folder[:2])
        disk = next(iter(self._wire.query(query, CIMV2)), None)
        size, free = (disk.number("Size"), disk.number("FreeSpace")) if disk else (None, None)
        known = size is not None and free is not None
        return [
            PoolInfo(
                uuid=str(
                    uuids.uuid5(uuids.NAMESPACE_URL, f"{self._info.host_uuid or self._wire.host}/{folder.lower()}")
                ),
                name=POOL,
                type="folder",
                state=StorageState.RUNNING if disk else StorageState.INACCESSIBLE,
                capacity_bytes=size if known else None,
                allocation_bytes=max(0, size - free) if known and size is not None and free is not None else None,
                available_bytes=min(size, free) if known and size is not None and free is not None else None,
                source=folder,
                autostart=True,
                formats=(FORMAT,),
            )
        ]

    def pool(self, name: str) -> PoolInfo:
        """The one. Raises NotFound."""
        found = next((one for one in self.pools() if one.name == name), None)
        if found is None:
            message = f"There is no pool {name} here, but {POOL}."
            raise NotFound(message, pool=name)
        return found

    def pool_refresh(self, name: str) -> None:
        """The folder is looked into at each reading."""
        self.pool(name)

    # -- volumes -------------------------------------------------------------------------------------------------------
    def volumes(self, pool: str) -> Sequence[VolumeInfo]:
        """A query for each kind of file, and a call a disk for its size."""
        folder = self.pool(pool).source
        rows = [row for extension in _KINDS for row in self._files(folder, Extension=extension)]
        return [self._volume(pool, folder, row) for row in rows]

    def volume(self, pool: str, name: str) -> VolumeInfo:
        """One, read now. Raises NotFound."""
        folder = self.pool(pool).source
        stem, _, extension = name.rpartition(".")
        found = next(iter(self._files(folder, FileName=stem, Extension=extension)), None) if stem else None
        if found is None or extension.lower() not in _KINDS:
            message = f"There is no {name} in {pool}."
            raise NotFound(message, pool=pool, volume=name)
        return self._volume(pool, folder, found)

    def _files(self, folder: str, **equal: str) -> list[Row]:
        match = _FOLDER.fullmatch(folder)
        if match is None:
            return []
        query = select("Name, FileSize", "CIM_DataFile", Drive=match[1], Path=f"{match[2]}\\", **equal)
        return self._wire.query(query, CIMV2)

    def _volume(self, pool: str, folder: str, row: Row) -> VolumeInfo:
        name = row.text("Name").rpartition("\\")[2].lower()
        path, size = f"{folder}\\{name}", row.number("FileSize") or 0
        kind = _KINDS.get(name.rpartition(".")[2], FORMAT)
        capacity = size if kind == "iso" else self._capacity(path)
        return VolumeInfo(name=name, pool=pool, path=path, format=kind, capacity_bytes=capacity, allocation_bytes=size)

    def _capacity(self, path: str) -> int:
        """What a guest sees of a disk; 0 where Hyper-V does not tell, as of one that runs."""
        try:
            answer = self._wire.invoke(_IMAGES, "GetVirtualHardDiskSettingData", Path=path)
            if answer.value == STARTED:
                self._wire.finish(answer)
        except Busy:
            return 0
        match = _SIZE.search(answer.out.text("SettingData"))
        return int(match[1]) if match else 0

    def volume_create(self, pool: str, spec: VolumeSpec) -> VolumeInfo:
        """An empty disk that grows as it is written."""
        info = self.pool(pool)
        with refusing():
            check_volume(spec, type_=info.type, formats=info.formats)
        if not spec.name.lower().endswith(f".{FORMAT}"):
            message = f"name: a disk's name ends with .{FORMAT} here."
            raise InvalidDefinition(message, pool=pool, field="name")
        stem = spec.name.rpartition(".")[0]
        if self._files(info.source, FileName=stem, Extension=FORMAT):
            message = f"There is a {spec.name} in {pool} already."
            raise AlreadyExists(message, pool=pool, volume=spec.name)
        wished = Thing(
            "Msvm_VirtualHardDiskSettingData",
            {
                "Type": ("uint16", _DYNAMIC),
                "Format": ("uint16", _VHDX),
                "Path": ("string", f"{info.source}\\{spec.name.lower()}"),
                "MaxInternalSize": ("uint64", str(spec.capacity_bytes)),
            },
        )
        answer = self._wire.invoke(_IMAGES, "CreateVirtualHardDisk", VirtualDiskSettingData=instance(wished))
        if answer.value not in (0, STARTED):
            raise returned(answer.value, "volume")
        self._wire.finish(answer)
        return self.volume(pool, spec.name)

    def volume_delete(self, pool: str, name: str) -> None:
        """By the file system. Raises Busy for one that a guest or a checkpoint has."""
        info = self.volume(pool, name)
        media = self._wire.query(select("InstanceID, HostResource", "Msvm_StorageAllocationSettingData"))
        if any(path.lower() == info.path.lower() for _, path in guests.media_paths(media)):
            message = f"{name} is a disk of a guest, or of a checkpoint of one."
            raise Busy(message, pool=pool, volume=name)
        answer = self._wire.invoke(Reference("CIM_DataFile", {"Name": info.path}, CIMV2), "Delete")
        if answer.value:
            kind, sentence = _FILE_ERRORS.get(answer.value, (DriverError, f"Windows returned {answer.value}."))
            raise kind(sentence, pool=pool, volume=name)

    # -- networks ------------------------------------------------------------------------------------------------------
    def networks(self) -> Sequence[NetworkInfo]:
        """Its switches: one query."""
        return [
            NetworkInfo(
                uuid=row.text("Name").lower(), name=row.text("ElementName"), active=True, mode="bridge", autostart=True
            )
            for row in self._wire.query(select(*guests.SWITCHES))
            if row.text("Name") and row.text("ElementName")
        ]


def folder_of(wire: Wire) -> str:
    r"""Where new disks go, by the host's settings (`C:\…`); "" where that is no folder of a drive."""
    query = select("DefaultVirtualHardDiskPath", "Msvm_VirtualSystemManagementServiceSettingData")
    row = next(iter(wire.query(query)), None)
    path = row.text("DefaultVirtualHardDiskPath").rstrip("\\") if row else ""
    return path if _FOLDER.fullmatch(path) else ""
