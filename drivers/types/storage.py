"""Storage pools and volumes, and what it takes to make them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StorageState(StrEnum):
    """How a storage pool stands, in libvirt's words."""

    RUNNING = "running"
    INACTIVE = "inactive"
    BUILDING = "building"
    DEGRADED = "degraded"
    INACCESSIBLE = "inaccessible"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolInfo:
    """A storage pool as its hypervisor tells it. Sizes are None while it is not running.

    Attributes:
        uuid: The hypervisor's own identifier; one libvirtd's drivers list the same pools under the same one.
        type: libvirt's word: `dir fs netfs logical disk iscsi scsi rbd zfs …`.
        target: Where its volumes appear on the host, a path; "" where that means nothing.
        source: What it is made from, for people: `nas.lab:/export/vm`, `/dev/sdb`, `vg0`.
        formats: Volume formats that can be made here, the best first (`qcow2`, `raw`).
    """

    uuid: str
    name: str
    type: str
    state: StorageState
    capacity_bytes: int | None = None
    allocation_bytes: int | None = None
    available_bytes: int | None = None
    target: str = ""
    source: str = ""
    autostart: bool = False
    persistent: bool = True
    formats: tuple[str, ...] = ("raw",)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeInfo:
    """A volume of a pool.

    Attributes:
        path: The hypervisor's own place for it on the host: what a guest's disk names as its source.
        kind: `file block dir network netdir ploop`.
        backing: Path of what it is an overlay of; "" where of nothing.
        physical_bytes: How many bytes `volume_download` gives: of a file of another format than raw its length. 0: not known.
    """

    name: str
    pool: str
    path: str
    kind: str = "file"
    format: str = "raw"
    capacity_bytes: int = 0
    allocation_bytes: int = 0
    backing: str = ""
    backing_format: str = ""
    physical_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """A pool to be made. Which of the sources a type needs is `drivers.storage.POOL_TYPES`."""

    name: str
    type: str
    target: str = ""
    source_host: str = ""
    source_directory: str = ""
    source_device: str = ""
    source_name: str = ""
    source_format: str = ""
    initiator: str = ""
    username: str = ""
    secret_uuid: str = ""
    autostart: bool = True
    build: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSpec:
    """A volume to be made.

    Attributes:
        capacity_bytes: What its user sees. Not less than its backing volume's.
        allocation_bytes: What is reserved at once; 0: it grows as it is written.
        backing: Name of a volume of the same pool that it becomes an overlay of; "" for none.
    """

    name: str
    capacity_bytes: int
    format: str = "raw"
    allocation_bytes: int = 0
    backing: str = ""
