"""A guest as its hypervisor tells it, its counters and its news."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from drivers.types.words import GuestKind, GuestState, Technique, VirtualizationType

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    """One network interface of a guest. `target` is the host-side device while the guest runs, `filter` names a network filter."""

    mac: str
    model: str | None = None
    network: str | None = None
    link: str = "up"
    target: str | None = None
    filter: str | None = None


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
