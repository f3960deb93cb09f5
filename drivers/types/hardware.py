"""What a guest is built of, as far as it can be changed by form: the values that `Session.hardware` gives, and the changing verbs take.

Each device has a `key`, unique in its guest, by which it is found again: what it has now and what it has at its next start are
compared by it. "" and 0 always mean: not said, the hypervisor's own choice; so who updates a device says all of it again, and what
is left empty goes back to that choice (but a disk's bus and format, which stay).
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - what keeps these values as JSON reads the annotations
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class NumaNode:
    """A NUMA node that the guest sees: its vCPUs as a list of ranges (`0-1,4`), and its memory."""

    cpus: str
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuHardware:
    """Processors.

    Attributes:
        vcpus: Those that are plugged in. `max_vcpus`: as many may be while it runs.
        sockets, cores, threads: The topology that it sees; their product is `max_vcpus`, or all are 0.
        mode: `host-passthrough host-model maximum custom`. `model`: with `custom`, its name.
        pins: Number of a vCPU → CPUs of the host that it may run on, as ranges (`0-3,8`). A pin to all of them is none.
        emulator_pins: Likewise, for what the hypervisor itself does for the guest.
        nodes: NUMA nodes that it sees.
        memory_nodes: NUMA nodes of the host that its memory comes from, as ranges. `memory_mode`: `strict preferred interleave`.
    """

    vcpus: int
    max_vcpus: int = 0
    sockets: int = 0
    cores: int = 0
    threads: int = 0
    mode: str = ""
    model: str = ""
    pins: Mapping[int, str] = field(default_factory=dict)
    emulator_pins: str = ""
    nodes: tuple[NumaNode, ...] = ()
    memory_nodes: str = ""
    memory_mode: str = ""

    @property
    def key(self) -> str:
        """There is one."""
        return "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryHardware:
    """Memory: what it has (the balloon's target), and what it may grow to while it runs."""

    memory_bytes: int
    max_memory_bytes: int = 0
    balloon: bool = True

    @property
    def key(self) -> str:
        """There is one."""
        return "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class IoLimits:
    """What a disk is held to; 0: nothing. Total and read or write exclude each other."""

    total_bytes_per_second: int = 0
    read_bytes_per_second: int = 0
    write_bytes_per_second: int = 0
    total_requests_per_second: int = 0
    read_requests_per_second: int = 0
    write_requests_per_second: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskHardware:
    """A disk or a drive.

    Attributes:
        target: Its name in the guest's definition (`vda`); "" at attaching: the next free one of its bus.
        device: `disk cdrom floppy lun`.
        path: Where its contents are on the host; "" for an empty drive. What has no path there is read as `pool/volume` or
            `rbd:name`, and may be given back so, to stay.
        cache: `none writeback writethrough directsync unsafe`. `io`: `native threads io_uring`. `discard`: `unmap ignore`.
        boot_order: 1, 2, …; 0: it is not booted from by number.
    """

    target: str = ""
    device: str = "disk"
    bus: str = ""
    path: str = ""
    format: str = ""
    readonly: bool = False
    shareable: bool = False
    cache: str = ""
    io: str = ""
    discard: str = ""
    serial: str = ""
    boot_order: int = 0
    limits: IoLimits = field(default_factory=IoLimits)

    @property
    def key(self) -> str:
        """`disk/vda`."""
        return f"disk/{self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NicHardware:
    """A network interface: on a virtual network, on a bridge of the host, or straight on one of its interfaces (macvtap).

    Attributes:
        direct: Interface of the host. `direct_mode`: `bridge vepa private passthrough`.
        link: `up` or `down`.
        inbound_bytes_per_second, outbound_bytes_per_second: Seen from the guest; 0: not held to any. A hypervisor may count in
            whole KiB: then what is between is rounded down.
        filter: Name of a network filter.
        vlan: Tag, 1 to 4094; 0: none.
    """

    mac: str = ""
    model: str = ""
    network: str = ""
    bridge: str = ""
    direct: str = ""
    direct_mode: str = ""
    link: str = "up"
    inbound_bytes_per_second: int = 0
    outbound_bytes_per_second: int = 0
    filter: str = ""
    vlan: int = 0
    boot_order: int = 0

    @property
    def key(self) -> str:
        """`nic/52:54:00:…`."""
        return f"nic/{self.mac}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayHardware:
    """A screen (`vnc spice`) and the card behind it (`virtio qxl vga bochs …`). Never its password.

    Attributes:
        listen: Address of the host; `socket`: a socket there, for who may open the guest's screen; `none`.
    """

    type: str
    listen: str = ""
    video: str = ""

    @property
    def key(self) -> str:
        """One of each type."""
        return f"display/{self.type}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimpleHardware:
    """A device of which there is little to say.

    Attributes:
        kind: `tpm rng watchdog serial balloon sound input`.
        model: As the hypervisor calls it; "" for its best.
        action: Of a watchdog: what happens when it bites (`reset poweroff pause none dump inject-nmi`).
        number: Of a serial port: 0, 1, …; of other kinds, where there are several, their place among them.
    """

    kind: str
    model: str = ""
    action: str = ""
    number: int = 0

    @property
    def key(self) -> str:
        """`tpm`, `serial/0`; `rng/1` for the second one."""
        return f"{self.kind}/{self.number}" if self.kind == "serial" or self.number else self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDeviceHardware:
    """A device of the host that is handed to the guest.

    Attributes:
        kind: `pci` or `usb`.
        address: PCI: `0000:01:00.0`. USB: `046d:c52b` (vendor and product), or `001:004` (bus and device) where two are alike.
        boot_order: As a disk's.
    """

    kind: str
    address: str
    boot_order: int = 0

    @property
    def key(self) -> str:
        """`pci/0000:01:00.0`."""
        return f"{self.kind}/{self.address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootHardware:
    """What it boots from, the first one first: keys of devices, or `hd cdrom network fd` where no device is named."""

    order: tuple[str, ...] = ()
    menu: bool = False

    @property
    def key(self) -> str:
        """There is one."""
        return "boot"


Device: TypeAlias = (
    CpuHardware
    | MemoryHardware
    | DiskHardware
    | NicHardware
    | DisplayHardware
    | SimpleHardware
    | HostDeviceHardware
    | BootHardware
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """All of it, at one moment or for the next start."""

    cpu: CpuHardware
    memory: MemoryHardware
    boot: BootHardware = field(default_factory=BootHardware)
    disks: tuple[DiskHardware, ...] = ()
    interfaces: tuple[NicHardware, ...] = ()
    displays: tuple[DisplayHardware, ...] = ()
    others: tuple[SimpleHardware, ...] = ()
    host_devices: tuple[HostDeviceHardware, ...] = ()

    @property
    def devices(self) -> Mapping[str, Device]:
        """By key."""
        everything: tuple[Device, ...] = (
            self.cpu,
            self.memory,
            self.boot,
            *self.disks,
            *self.interfaces,
            *self.displays,
            *self.others,
            *self.host_devices,
        )
        return {one.key: one for one in everything}


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestHardware:
    """What a guest has at its next start (`defined`), and what it runs with (`live`; None while it is off).

    `defined` is None for a transient guest. Where both are there, what differs is pending.
    """

    defined: Hardware | None
    live: Hardware | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareOptions:
    """What this hypervisor takes, the best first: words for each field. What is not listed is refused by it.

    Attributes:
        live: What of a running guest can be changed → "" or, as a sentence, why not. Keys: `cpu memory disk.attach disk.detach
            disk.media disk.resize disk.limits nic.attach nic.detach nic.link nic.bandwidth host-device`.
        kinds: Of `SimpleHardware` that can be added → its models.
    """

    disk_buses: tuple[str, ...] = ()
    disk_caches: tuple[str, ...] = ()
    cdrom_buses: tuple[str, ...] = ()
    nic_models: tuple[str, ...] = ()
    displays: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()
    cpu_modes: tuple[str, ...] = ()
    cpu_models: tuple[str, ...] = ()
    max_vcpus: int = 0
    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    live: Mapping[str, str] = field(default_factory=dict)


# -- what the host has ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class HostDevice:
    """A device of the host that could be handed to a guest.

    Attributes:
        address: As `HostDeviceHardware.address`.
        kind: `pci` or `usb`.
        class_: For people: `network`, `display`, `storage`, `usb`, …
        driver: The host's driver that has it now; `vfio-pci` where it is set free.
        iommu_group: Number; None where there is no IOMMU. All of a group go to one guest together.
    """

    kind: str
    address: str
    vendor: str = ""
    product: str = ""
    class_: str = ""
    driver: str = ""
    iommu_group: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNode:
    """A NUMA node of the host: its CPUs as ranges, and its memory."""

    id: int
    cpus: str
    memory_bytes: int
    free_bytes: int | None = None


# -- a copy of a guest ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class CloneSpec:
    """A guest that is to be like another one, with disks of its own that are there already.

    Attributes:
        uuid: Given by us, as in `GuestSpec`.
        disks: Target of a disk of the source → where its copy is, and its format. A target that is missing here is left out.
        macs: MAC address of the source's interface → that of the copy's.
        metadata: Our own facts, in place of the source's.
    """

    name: str
    uuid: str
    disks: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    macs: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
