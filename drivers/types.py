"""What drivers take and give: frozen values, base units (bytes, seconds), no behaviour beyond tiny properties.

The words of `GuestState`, `VirtualizationType`, `Technique` and `Feature` are those of the public contract, to the letter.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class GuestState(StrEnum):
    """The state of a guest as the hypervisor sees it."""

    RUNNING = "running"
    PAUSED = "paused"
    SHUTTING_DOWN = "shutting_down"
    SHUTOFF = "shutoff"
    CRASHED = "crashed"
    PMSUSPENDED = "pmsuspended"
    UNKNOWN = "unknown"


class GuestKind(StrEnum):
    """Whether a guest has its own kernel (machine) or shares the host's (container)."""

    MACHINE = "machine"
    CONTAINER = "container"


class VirtualizationType(StrEnum):
    """Who owns the hardware."""

    BARE_METAL = "bare_metal"
    HOSTED = "hosted"
    HYBRID = "hybrid"
    OS_LEVEL = "os_level"


class Technique(StrEnum):
    """How guests run."""

    FULL_VIRTUALIZATION = "full_virtualization"
    PARAVIRTUALIZATION = "paravirtualization"
    HARDWARE_ASSISTED = "hardware_assisted"
    KERNEL_BASED = "kernel_based"
    SHARED_KERNEL = "shared_kernel"
    EMULATION = "emulation"


class Feature(StrEnum):
    """Everything a hypervisor may or may not be able to do: the actions of the API, and what lies beside them."""

    START = "start"
    SHUTDOWN = "shutdown"
    REBOOT = "reboot"
    RESET = "reset"
    FORCE_OFF = "force-off"
    SUSPEND = "suspend"
    RESUME = "resume"
    MANAGED_SAVE = "managed-save"
    DISCARD_MANAGED_SAVE = "discard-managed-save"
    AUTOSTART = "autostart"
    DEFINE = "define"
    RENAME = "rename"
    UNDEFINE = "undefine"
    XML = "xml"
    CONSOLE_SERIAL = "console.serial"
    CONSOLE_SHELL = "console.shell"
    CONSOLE_VNC = "console.vnc"
    CONSOLE_SPICE = "console.spice"
    SCREENSHOT = "screenshot"
    METRICS_CPU = "metrics.cpu"
    METRICS_MEMORY = "metrics.memory"
    METRICS_DISK = "metrics.disk"
    METRICS_NETWORK = "metrics.network"
    EVENTS = "events"
    SNAPSHOTS_DISK = "snapshots.disk"
    SNAPSHOTS_MEMORY = "snapshots.memory"
    SNAPSHOTS_LIVE = "snapshots.live"
    MIGRATION_LIVE = "migration.live"
    CREATE = "create"
    ADDRESSES = "addresses"
    STORAGE_POOLS = "storage.pools"
    NETWORKS = "networks"
    HOTPLUG_DISK = "hotplug.disk"


INSTEAD: dict[Feature, tuple[tuple[Feature, ...], ...]] = {
    Feature.START: (),
    Feature.SHUTDOWN: ((Feature.FORCE_OFF,),),
    Feature.REBOOT: ((Feature.SHUTDOWN, Feature.START), (Feature.RESET,), (Feature.FORCE_OFF, Feature.START)),
    Feature.RESET: ((Feature.REBOOT,), (Feature.FORCE_OFF, Feature.START)),
    Feature.FORCE_OFF: ((Feature.SHUTDOWN,),),
    Feature.SUSPEND: ((Feature.MANAGED_SAVE,),),
    Feature.RESUME: ((Feature.FORCE_OFF, Feature.START),),
    Feature.MANAGED_SAVE: ((Feature.SUSPEND,), (Feature.SHUTDOWN,)),
    Feature.DISCARD_MANAGED_SAVE: (),
    Feature.AUTOSTART: (),
    Feature.DEFINE: (),
    Feature.RENAME: (),
    Feature.UNDEFINE: (),
    Feature.XML: (),
    Feature.CONSOLE_SERIAL: ((Feature.CONSOLE_SHELL,), (Feature.CONSOLE_VNC,), (Feature.CONSOLE_SPICE,)),
    Feature.CONSOLE_SHELL: ((Feature.CONSOLE_SERIAL,), (Feature.CONSOLE_VNC,), (Feature.CONSOLE_SPICE,)),
    Feature.CONSOLE_VNC: ((Feature.CONSOLE_SPICE,), (Feature.CONSOLE_SERIAL,), (Feature.CONSOLE_SHELL,)),
    Feature.CONSOLE_SPICE: ((Feature.CONSOLE_VNC,), (Feature.CONSOLE_SERIAL,), (Feature.CONSOLE_SHELL,)),
    Feature.SCREENSHOT: ((Feature.CONSOLE_VNC,), (Feature.CONSOLE_SPICE,)),
    Feature.METRICS_CPU: (),
    Feature.METRICS_MEMORY: (),
    Feature.METRICS_DISK: (),
    Feature.METRICS_NETWORK: (),
    Feature.EVENTS: (),
    Feature.SNAPSHOTS_DISK: (),
    Feature.SNAPSHOTS_MEMORY: ((Feature.SNAPSHOTS_DISK,), (Feature.MANAGED_SAVE,)),
    Feature.SNAPSHOTS_LIVE: ((Feature.SNAPSHOTS_MEMORY,), (Feature.SHUTDOWN, Feature.SNAPSHOTS_DISK)),
    Feature.MIGRATION_LIVE: (),
    Feature.CREATE: ((Feature.DEFINE,),),
    Feature.ADDRESSES: (),
    Feature.STORAGE_POOLS: (),
    Feature.NETWORKS: (),
    Feature.HOTPLUG_DISK: (),
}
"""What does about the same job where a feature lacks, best first; each way is one step or several, in their order."""


class Proof(StrEnum):
    """What a driver has been proven on, said wherever the driver is offered."""

    REAL = "real"
    """The hypervisor itself."""
    PARTLY = "partly"
    """libvirt's real driver, with a stand-in for the product's own tools behind it."""
    SIMULATOR = "simulator"
    """A simulator that others maintain."""
    STAND_IN = "stand_in"
    """A stand-in of our own, made from the product's documentation."""
    NONE = "none"
    """Nothing: it should work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """Whether a feature works here, and if not, why (a sentence for a person)."""

    supported: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """How to sign in at an endpoint. Its repr shows nothing."""

    username: str = ""
    password: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)
    host_key: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    ca_certificate: str = field(default="", repr=False)
    verify: bool | str = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where, how and as whom to reach one hypervisor.

    Attributes:
        driver: Registry kind (`qemu`, `lxc`, `test`, …).
        uri: The contract's URI, already checked by `drivers.uris.parse_uri`. Never carries a secret.
        credentials: As whom. None for local sockets.
    """

    driver: str
    uri: str
    credentials: Credentials | None = None

    @property
    def key(self) -> str:
        """Identity for pools and maps: changes when the URI or any credential does, and reveals neither."""
        secret = (
            "\0".join(str(getattr(self.credentials, name)) for name in Credentials.__slots__)
            if self.credentials
            else ""
        )
        return hashlib.sha256(f"{self.driver}\0{self.uri}\0{secret}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestRef:
    """Names one guest to a session: the hypervisor's own identifier, and the name for messages."""

    uuid: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskInfo:
    """One disk of a guest. `size_bytes` is None where the definition alone does not tell."""

    target: str
    device: str = "disk"
    bus: str | None = None
    source: str | None = None
    pool: str | None = None
    format: str | None = None
    size_bytes: int | None = None
    readonly: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressInfo:
    """An address of a guest and who says so: `agent` (inside the guest), `lease` (DHCP of the hypervisor) or `arp` (seen on the wire)."""

    address: str
    prefix: int | None = None
    mac: str = ""
    source: str = "lease"


@dataclass(frozen=True, slots=True, kw_only=True)
class NicInfo:
    """One network interface of a guest. `target` is the host-side device while the guest runs."""

    mac: str
    model: str | None = None
    network: str | None = None
    link: str = "up"
    target: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphicsInfo:
    """One screen of a guest: `vnc` or `spice`. Never its password."""

    type: str
    listen: str | None = None
    port: int | None = None
    socket: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestInfo:
    """All that the inventory keeps of one guest, read at one moment.

    Attributes:
        uuid: The hypervisor's own identifier, lower case, unique within the hypervisor.
        state_reason: The hypervisor's reason in a word (`booted`, `destroyed`, `user`, …), "" where none.
        memory_bytes: What it has now (the balloon's target). `max_memory_bytes`: what it may grow to without redefinition.
        consoles: Which of `serial`, `shell`, `vnc`, `spice` its definition offers.
        metadata: Our own facts in the guest's `<metadata>` (empty where the hypervisor keeps none).
        xml_digest: sha256 hex of the inactive definition; equal digests mean equal child rows.
        domain_type: The hypervisor's own word for the technique (`kvm`, `qemu`, `lxc`, …).
    """

    uuid: str
    name: str
    state: GuestState
    state_reason: str = ""
    kind: GuestKind = GuestKind.MACHINE
    virtualization_type: VirtualizationType = VirtualizationType.HYBRID
    techniques: tuple[Technique, ...] = ()
    domain_type: str = ""
    vcpus: int = 1
    memory_bytes: int = 0
    max_memory_bytes: int = 0
    persistent: bool = True
    autostart: bool = False
    has_managed_save: bool = False
    title: str = ""
    description: str = ""
    disks: tuple[DiskInfo, ...] = ()
    interfaces: tuple[NicInfo, ...] = ()
    graphics: tuple[GraphicsInfo, ...] = ()
    consoles: tuple[str, ...] = ()
    os: str = ""
    boot: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    xml_digest: str = ""

    @property
    def ref(self) -> GuestRef:
        """The guest's name for further calls."""
        return GuestRef(uuid=self.uuid, name=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found in a definition before it is defined.

    Attributes:
        detail: A sentence for a person.
        line: Where, counted from 1; 0 where it is about the whole.
        path: The element, like `/domain/devices/disk[2]/source`; "" where none can be named.
        fatal: Whether the definition would be refused; else it is worth knowing, and the hypervisor decides.
    """

    detail: str
    line: int = 0
    path: str = ""
    fatal: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HostInfo:
    """The machine behind an endpoint, and the hypervisor on it.

    Attributes:
        host_uuid: Same for all hypervisors of one machine; "" where unknown.
        nested_virtualization: Whether guests can themselves run hardware-assisted guests; None where unknown.
        hypervisor_version: For people, e.g. `QEMU 7.2.22`.
    """

    hostname: str
    host_uuid: str = ""
    cpu_count: int = 0
    cpu_model: str = ""
    cpu_architecture: str = ""
    memory_total_bytes: int = 0
    memory_free_bytes: int = 0
    kernel: str = ""
    nested_virtualization: bool | None = None
    hypervisor_version: str = ""
    library_version: str = ""
    virtualization_type: VirtualizationType = VirtualizationType.HYBRID
    techniques: tuple[Technique, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestStats:
    """Counters of one running guest, as the hypervisor counts them (since its start; they may reset).

    Attributes:
        at: `time.monotonic()` when read: divide differences by differences of this.
        cpu_time_seconds: CPU time used by all vCPUs together.
        memory_bytes: In use by the guest if it tells (balloon statistics), else what the host holds for it; None unknown.
    """

    uuid: str
    at: float
    vcpus: int
    cpu_time_seconds: float | None = None
    memory_bytes: int | None = None
    disk_read_bytes: int | None = None
    disk_write_bytes: int | None = None
    disk_read_requests: int | None = None
    disk_write_requests: int | None = None
    network_receive_bytes: int | None = None
    network_transmit_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStats:
    """Counters of the host. `cpu_busy_seconds`: all CPUs together, since boot; None unknown."""

    at: float
    cpu_count: int
    cpu_busy_seconds: float | None = None
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None


class GuestEventKind(StrEnum):
    """What kind of news: something to re-read, or a guest that is gone."""

    CHANGED = "changed"
    DEFINED = "defined"
    UNDEFINED = "undefined"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestEvent:
    """News of one guest. It says *read again*; the truth is read, never inferred from it.

    Attributes:
        reason: The hypervisor's own words (`started/booted`), for the log.
        at: `time.monotonic()` in the library's event thread.
        snapshots: It may be of the guest's snapshots: they are read again, too.
    """

    uuid: str
    name: str
    kind: GuestEventKind
    reason: str
    at: float
    snapshots: bool = False


# -- storage ---------------------------------------------------------------------------------------------------------------
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


# -- snapshots ---------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotInfo:
    """A state of a guest that was kept, and that it can go back to.

    Attributes:
        name: Unique among its guest's; what the verbs take.
        parent: Name of the snapshot that it grew from; "" where it is a root.
        created_at: Seconds since 1970; 0 where the hypervisor does not tell.
        state: How the guest stood. Without its memory it comes back shut off.
        memory: Whether the guest's memory is in it: going back goes on from that moment, instead of booting.
        kind: `internal`: the hypervisor keeps it, and its disks go on under their own names. `external`: what was written
            since then is in overlay files, of which the disks are now made.
        current: The one that the guest's present state grew from.
        disks: Targets of the disks that are in it; empty where the hypervisor does not tell.
        size_bytes: What it takes on the host; None where the hypervisor does not tell.
        no_revert: Why the hypervisor cannot go back to it, as a sentence; "" where it can.
        no_delete: Why it cannot delete it, as a sentence; "" where it can.
    """

    name: str
    description: str = ""
    parent: str = ""
    created_at: float = 0.0
    state: GuestState = GuestState.SHUTOFF
    memory: bool = False
    kind: str = "internal"
    current: bool = False
    disks: tuple[str, ...] = ()
    size_bytes: int | None = None
    no_revert: str = ""
    no_delete: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSpec:
    """A snapshot to be taken.

    Attributes:
        name: As `drivers.snapshots.why_no_name` allows it.
        memory: With the memory of a guest that runs; one that is off has none to keep.
    """

    name: str
    description: str = ""
    memory: bool = False


# -- networks --------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInfo:
    """A virtual network.

    Attributes:
        mode: `nat route open isolated bridge vepa private passthrough hostdev`.
        bridge: The bridge on the host; "" where none.
        addresses: The host's own addresses in it, with prefix (`192.168.122.1/24`).
        dhcp: Whether it gives out addresses.
    """

    uuid: str
    name: str
    active: bool
    mode: str
    bridge: str = ""
    domain: str = ""
    addresses: tuple[str, ...] = ()
    dhcp: bool = False
    autostart: bool = False
    persistent: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A virtual network to be made. What a mode takes is `drivers.networks.MODES`.

    Attributes:
        mode: `nat route isolated bridge`.
        bridge: The bridge on the host: for `bridge` one that is there, else one that is made; "" for a name that the host finds.
        address: The host's own in it, with prefix (`192.168.100.1/24`); "" for none.
        dhcp_start: The first address that is given out; "" gives none out.
        dhcp_end: The last one.
    """

    name: str
    mode: str = "nat"
    bridge: str = ""
    domain: str = ""
    address: str = ""
    dhcp_start: str = ""
    dhcp_end: str = ""
    autostart: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseInfo:
    """A DHCP answer that a virtual network gave. `expires_at`: seconds since 1970, 0 for never."""

    mac: str
    address: str
    prefix: int = 0
    hostname: str = ""
    expires_at: int = 0


# -- a guest to be made ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpec:
    """One disk of a guest to be made: a volume that is there already.

    Attributes:
        bus: `virtio scsi sata ide usb xen`; "" takes what is best for the guest.
        device: `disk` or `cdrom`.
    """

    pool: str
    volume: str
    path: str
    format: str = "raw"
    bus: str = ""
    device: str = "disk"
    readonly: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NicSpec:
    """One network interface of a guest to be made: on a network, or straight on a bridge of the host."""

    network: str = ""
    bridge: str = ""
    model: str = ""
    mac: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestSpec:
    """A guest to be made, in nobody's dialect; each driver's design makes its own definition of it.

    Attributes:
        uuid: Given by us, so that a guest made by an interrupted attempt is known again; a hypervisor that gives its own ignores it.
        accelerator: `auto` (the best the host has), `kvm` or `tcg`.
        firmware: `bios` or `uefi`; `secure_boot` needs the latter.
        kernel, initrd: Paths on the host, for direct kernel boot.
        root: Directory on the host that a container runs in. `image`: what a container engine runs.
        cpu_mode: `host-passthrough host-model maximum` or a model's name; "" takes what is best.
        graphics: `vnc`, `spice` or `none`.
        metadata: Our own facts, kept in the definition.
    """

    name: str
    uuid: str
    vcpus: int = 1
    memory_bytes: int = 0
    accelerator: str = "auto"
    machine: str = ""
    firmware: str = "bios"
    secure_boot: bool = False
    tpm: bool = False
    cpu_mode: str = ""
    nested: bool = False
    kernel: str = ""
    initrd: str = ""
    cmdline: str = ""
    boot_order: tuple[str, ...] = ()
    root: str = ""
    init: str = ""
    image: str = ""
    os_id: str = ""
    title: str = ""
    description: str = ""
    disks: tuple[DiskSpec, ...] = ()
    interfaces: tuple[NicSpec, ...] = ()
    graphics: str = "vnc"
    agent: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)
