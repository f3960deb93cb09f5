"""The shapes of hardware in REST: what is answered, and what is asked."""

import datetime as dt
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, model_validator

from core.rest import Output
from vms.creation.spec import DISK_BYTES_MAX, DISK_BYTES_MIN, Mac, Reference
from vms.hardware.change import When
from vms.hardware.disks import DiskChange
from vms.hardware.nics import NicChange
from vms.hardware.parts import BootChange, CpuChange, MemoryChange, Part
from vms.hardware.sources import Ask


# -- shapes --------------------------------------------------------------------------------------------------------------
class PendingOut(Output):
    """What of a device waits for the guest's next start."""

    change: Literal["added", "removed", "changed"]
    now: dict[str, Any] | None = Field(description="Of one that is changed: what it is now, of what differs.")


class Device(Output):
    """What all devices have. The fields beside are as at the next start."""

    key: str = Field(description="Unique in its guest.")
    pending: PendingOut | None = Field(description="null: what it is now is what it is at the next start.")


class LimitsOut(Output):
    """What a disk is held to; 0: nothing."""

    total_bytes_per_second: int
    read_bytes_per_second: int
    write_bytes_per_second: int
    total_requests_per_second: int
    read_requests_per_second: int
    write_requests_per_second: int


class DiskDeviceOut(Device):
    """A disk or a drive."""

    target: str
    device: str = Field(description="disk, cdrom, floppy, lun")
    bus: str
    source: str | None = Field(description="null: an empty drive.")
    pool: str | None = Field(description="With `volume`: null where it lies in no pool that is known here.")
    volume: str | None
    size_bytes: int | None
    format: str
    readonly: bool
    shareable: bool
    cache: str
    io: str
    discard: str
    serial: str
    boot_order: int = Field(description="0: not by number.")
    limits: LimitsOut


class NicDeviceOut(Device):
    """A network interface."""

    mac: str
    model: str
    network: str
    bridge: str
    direct: str = Field(description="Interface of the host that it shares (macvtap).")
    direct_mode: str
    link: Literal["up", "down"]
    inbound_bytes_per_second: int
    outbound_bytes_per_second: int
    filter: str
    vlan: int
    boot_order: int


class OtherDeviceOut(Device):
    """A screen, a small device, or a device of the host."""

    type: str
    model: str
    action: str
    address: str
    listen: str


class NumaNodeOut(Output):
    """A NUMA node that the guest sees."""

    cpus: str
    memory_bytes: int


class CpuOut(Output):
    """Processors."""

    vcpus: int
    max_vcpus: int
    sockets: int
    cores: int
    threads: int
    mode: str
    model: str
    pins: dict[str, str]
    emulator_pins: str
    nodes: list[NumaNodeOut]
    memory_nodes: str
    memory_mode: str
    pending: PendingOut | None


class MemoryOut(Output):
    """Memory."""

    memory_bytes: int
    max_memory_bytes: int
    balloon: bool
    now_bytes: int | None = Field(
        description="What it has now; null: it is off. A guest gives memory back when its balloon's driver gets to it."
    )
    pending: PendingOut | None


class BootOut(Output):
    """What it boots from."""

    order: list[str]
    menu: bool
    pending: PendingOut | None


class OptionsOut(Output):
    """What its hypervisor takes, the best first. What is not listed is refused by it."""

    disk_buses: list[str]
    disk_caches: list[str]
    cdrom_buses: list[str]
    nic_models: list[str]
    displays: list[str]
    videos: list[str]
    cpu_modes: list[str]
    cpu_models: list[str]
    max_vcpus: int
    kinds: dict[str, list[str]] = Field(description="Devices that can be added → their models.")
    live: dict[str, str] = Field(description='What can be changed while it runs → "", or why not.')


class HardwareOut(Output):
    """All of it."""

    cpu: CpuOut
    memory: MemoryOut
    boot: BootOut
    disks: list[DiskDeviceOut]
    interfaces: list[NicDeviceOut]
    devices: list[OtherDeviceOut]
    pending: list[str] = Field(description="Keys of all that waits for the next start.")
    options: OptionsOut
    stale: bool = Field(description="Its host is out of reach: as it was seen last.")
    read_at: dt.datetime


class DiskList(Output):
    """Its disks."""

    items: list[DiskDeviceOut]
    total: int


class NicList(Output):
    """Its network interfaces."""

    items: list[NicDeviceOut]
    total: int


class OtherList(Output):
    """Its other devices."""

    items: list[OtherDeviceOut]
    total: int


class GuestRefOut(Output):
    """A guest."""

    id: UUID
    name: str


class HostDeviceOut(Output):
    """A device of the host that could be handed to a guest."""

    kind: Literal["pci", "usb"]
    address: str
    vendor: str
    product: str
    class_: str = Field(alias="class")
    driver: str = Field(description="The host's driver that has it now.")
    iommu_group: int | None = Field(description="All of a group go to one guest together; null: there is no IOMMU.")
    guests: list[GuestRefOut] = Field(description="Who has it, now or at the next start.")


class HostNodeOut(Output):
    """A NUMA node of the host."""

    id: int
    cpus: str
    memory_bytes: int
    free_bytes: int | None


class HostDevicesOut(Output):
    """Devices of a host, and its NUMA nodes."""

    items: list[HostDeviceOut]
    total: int
    nodes: list[HostNodeOut]


# -- what is asked -------------------------------------------------------------------------------------------------------
class ChangeQuery(BaseModel):
    """How a change is queued, and when it counts."""

    when: When = Field(
        "auto",
        description="`auto`: of a guest that runs at once where that can be, and always at its next start; `next_start`: only then.",
    )
    comment: Annotated[str, Field(max_length=500, description="Why; kept with the revision.")] = ""
    on_conflict: Literal["wait", "fail"] = Field(
        "wait", description="`fail`: 409 when anything is queued or running on the guest."
    )


class DetachQuery(ChangeQuery):
    """How a disk is taken away."""

    storage: Literal["keep", "delete"] = Field(
        "keep", description="Whether its volume goes too, if it is the guest's alone."
    )


class HardwareChange(Part):
    """One of them."""

    cpu: CpuChange | None = None
    memory: MemoryChange | None = None
    boot: BootChange | None = None

    @model_validator(mode="after")
    def _one(self) -> "HardwareChange":
        if len(self.said) != 1:
            raise ValueError("one of cpu, memory and boot: each is an operation of its own")
        return self


class MediumIn(Part):
    """What is put into a drive."""

    image: Reference | None = Field(None, description="Id or name of an image.")
    volume: Reference | None = Field(None, description="Name or id of a volume of the host.")
    pool: Reference | None = None

    @model_validator(mode="after")
    def _one(self) -> "MediumIn":
        if (self.image is None) == (self.volume is None):
            raise ValueError("either an image or a volume")
        return self


class NewDisk(DiskChange):
    """A disk to be attached: a new volume (`size_bytes`), a volume that is there, an image, or with `device: cdrom` an empty drive."""

    size_bytes: Annotated[int, Field(ge=DISK_BYTES_MIN, le=DISK_BYTES_MAX)] | None = None
    image: Reference | None = Field(None, description="Id or name of an image, or the name of a volume to be copied.")
    volume: Reference | None = Field(
        None, description="Name or id of a volume of the host: it itself. Nobody else may use it."
    )
    pool: Reference | None = Field(None, description="Id or name; left out: the one with most room.")
    format: Literal["qcow2", "raw"] | None = None
    clone: Literal["linked", "full"] = Field("linked", description="An overlay of the image, or a copy of its own.")
    device: Literal["disk", "cdrom"] | None = Field(None, description="Left out: as what it is made of.")

    @model_validator(mode="after")
    def _whole(self) -> "NewDisk":
        if self.volume is not None and (
            self.image is not None or self.size_bytes is not None or self.format is not None
        ):
            raise ValueError("a volume is taken as it is: no image, size_bytes or format beside it")
        if self.image is not None and self.clone == "linked" and self.format == "raw":
            raise ValueError("a linked disk is qcow2; take clone: full for a raw one")
        return self

    @property
    def ask(self) -> Ask:
        """What it is made of."""
        names = ("size_bytes", "image", "volume", "pool", "format", "clone", "device")
        return Ask(
            **{name: getattr(self, name) for name in names},
            shareable=bool(self.shareable),
        )

    @property
    def disk(self) -> DiskChange:
        """How it is attached."""
        return DiskChange(**{name: value for name, value in self.said.items() if name in DiskChange.model_fields})


class DiskPatch(DiskChange):
    """What of a disk is changed. What is not said stays."""

    medium: MediumIn | None = Field(None, description="What is put into the drive; null: it is taken out.")

    @model_validator(mode="after")
    def _something(self) -> "DiskPatch":
        if not self.said and not self.eject:
            raise ValueError("nothing is to be changed")
        return self

    @property
    def eject(self) -> bool:
        """Whether the medium is taken out."""
        return "medium" in self.model_fields_set and self.medium is None

    @property
    def disk(self) -> DiskChange:
        """How it is attached."""
        return DiskChange(**{name: value for name, value in self.said.items() if name in DiskChange.model_fields})


class DiskSize(Part):
    """How large it is to be."""

    size_bytes: Annotated[int, Field(ge=DISK_BYTES_MIN, le=DISK_BYTES_MAX)]


class NewNic(NicChange):
    """An interface to be attached: on a network, a bridge, or an interface of the host."""

    mac: Mac | None = Field(None, description="Left out: a new one.")

    @property
    def nic(self) -> NicChange:
        """Without its address."""
        return NicChange(**{name: value for name, value in self.said.items() if name != "mac"})


class NicPatch(NicChange):
    """What of an interface is changed. What is not said stays."""

    @model_validator(mode="after")
    def _something(self) -> "NicPatch":
        if not self.said:
            raise ValueError("nothing is to be changed")
        return self
