"""Driver (a kind of hypervisor) and Session (one live connection): what every hypervisor must look like to the house.

Sessions are used by watcher, worker and console threads only. Every verb blocks the calling thread, raises only
`drivers.errors.DriverError`, and takes and gives the plain values of `drivers.types`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Protocol

from drivers.errors import Unsupported
from drivers.types import Feature, Proof, Support

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from drivers.forms import Way
    from drivers.types import (
        AddressInfo,
        CloneSpec,
        Device,
        DhcpHost,
        Endpoint,
        FilterInfo,
        Finding,
        GuestHardware,
        GuestInfo,
        GuestRef,
        GuestSpec,
        GuestState,
        GuestStats,
        HardwareOptions,
        HostDevice,
        HostInfo,
        HostInterface,
        HostNode,
        HostStats,
        LeaseInfo,
        NetworkInfo,
        NetworkSpec,
        News,
        PoolInfo,
        PoolSpec,
        SnapshotInfo,
        SnapshotSpec,
        VirtualizationType,
        VolumeInfo,
        VolumeSpec,
    )
    from drivers.uris import UriForm


class Console(Protocol):
    """A stream of bytes to and from a guest's console. One reader thread and one writer thread may use it at once."""

    def read(self, size: int = 65536, *, timeout_seconds: float) -> bytes | None:
        """Bytes when there are any, `b""` at the end of the stream, None when nothing came in time."""

    def write(self, data: bytes) -> None:
        """Send all of `data`; blocks while the guest does not take it (at most some seconds, then `Timeout`)."""

    def resize(self, *, columns: int, rows: int) -> None:
        """Tell the guest's terminal its size, where the console can; else nothing happens."""

    def close(self) -> None:
        """End it. Never raises, may be called twice and from any thread; wakes a blocked `read`."""


class Session(ABC):
    """One live connection to one hypervisor."""

    endpoint: Endpoint

    # -- facts ------------------------------------------------------------------------------------------------------
    @abstractmethod
    def host_info(self) -> HostInfo:
        """The machine and the hypervisor."""

    @abstractmethod
    def capabilities(self) -> Mapping[Feature, Support]:
        """Every `Feature`, whether it works on this connection, and why not. Driver's best ∩ what the probe answered."""

    @abstractmethod
    def guests(self) -> Sequence[GuestInfo]:
        """All guests, by a bulk call where there is one. Control domains, templates and snapshots are none."""

    @abstractmethod
    def guest(self, ref: GuestRef) -> GuestInfo:
        """One guest, read now. Raises NotFound."""

    @abstractmethod
    def guest_state(self, ref: GuestRef) -> tuple[GuestState, str]:
        """State and reason of one guest, by the cheapest call. Raises NotFound."""

    def guests_by_ref(self, refs: Sequence[GuestRef]) -> Sequence[GuestInfo]:
        """Several guests read now; those that are gone are left out. Override where one bulk call does it."""
        found = []
        for ref in refs:
            info = self.guest_or_none(ref)
            if info is not None:
                found.append(info)
        return found

    @abstractmethod
    def guest_or_none(self, ref: GuestRef) -> GuestInfo | None:
        """Like `guest`, None when it is gone."""

    def definition(self, ref: GuestRef) -> str:
        """The inactive definition as XML, without console passwords. Raises NotFound, Unsupported."""
        raise self.unsupported(Feature.XML)

    def define(self, xml: str) -> GuestInfo:
        """Make or change a persistent guest from XML; passwords that it does not mention stay. Raises InvalidDefinition, AlreadyExists."""
        raise self.unsupported(Feature.DEFINE)

    def check_definition(self, xml: str, *, ref: GuestRef | None = None) -> Sequence[Finding]:
        """What speaks against defining `xml`, found without defining it, in the order of its lines. `define` has the last word.

        Args:
            xml: Whatever somebody wrote.
            ref: The guest that it is to be the definition of from now on: its name and uuid must stay. None: for a new guest.
        """
        del xml, ref
        support = self.capabilities().get(Feature.DEFINE)
        if support is None or not support.supported:
            raise self.unsupported(Feature.DEFINE)
        return ()

    def holds_change(self, ref: GuestRef, *, before: str, wished: str) -> bool:
        """Whether the guest's definition has in it what makes `wished` differ from `before`, as this hypervisor writes things.

        For who sent a definition and never heard what became of it. Raises NotFound, Unsupported.
        """
        return before != wished and self.definition(ref) == wished

    def rename(self, ref: GuestRef, name: str) -> None:
        """Give a stopped guest another name; its uuid stays. Raises WrongState, AlreadyExists, InvalidDefinition."""
        raise self.unsupported(Feature.RENAME)

    def set_metadata(self, ref: GuestRef, facts: Mapping[str, str], *, title: str, description: str) -> None:
        """Write down what is ours to say of a guest, and nothing else, in its definition: so it outlives our database.

        `facts` replace those that were there. Raises NotFound; Unsupported where a hypervisor keeps none or cannot change them.
        """
        raise self.unsupported(Feature.DEFINE)

    # -- power: each is done when it returns, unless it says otherwise -----------------------------------------------
    def start(self, ref: GuestRef) -> None:
        """Start a defined guest (resumes its managed save if it has one). Raises WrongState when it runs."""
        raise self.unsupported(Feature.START)

    def shutdown(self, ref: GuestRef) -> None:
        """Ask the guest to shut down; returns at once, the guest may ignore it."""
        raise self.unsupported(Feature.SHUTDOWN)

    def reboot(self, ref: GuestRef) -> None:
        """Ask the guest to reboot; returns at once."""
        raise self.unsupported(Feature.REBOOT)

    def reset(self, ref: GuestRef) -> None:
        """Press the reset button."""
        raise self.unsupported(Feature.RESET)

    def force_off(self, ref: GuestRef) -> None:
        """Pull the plug. May take 10 s and more when the hypervisor's process hangs."""
        raise self.unsupported(Feature.FORCE_OFF)

    def suspend(self, ref: GuestRef) -> None:
        """Freeze the guest in memory (→ paused)."""
        raise self.unsupported(Feature.SUSPEND)

    def resume(self, ref: GuestRef) -> None:
        """Let a paused guest run again; wakes a `pmsuspended` one."""
        raise self.unsupported(Feature.RESUME)

    def managed_save(self, ref: GuestRef) -> None:
        """Save memory to disk and stop; the next start resumes."""
        raise self.unsupported(Feature.MANAGED_SAVE)

    def discard_managed_save(self, ref: GuestRef) -> None:
        """Throw the saved memory away. Does nothing where there is none."""
        raise self.unsupported(Feature.DISCARD_MANAGED_SAVE)

    def set_autostart(self, ref: GuestRef, *, enabled: bool) -> None:
        """Start with the host, or not."""
        raise self.unsupported(Feature.AUTOSTART)

    def undefine(self, ref: GuestRef) -> None:
        """Remove the definition with its managed save, snapshot metadata and NVRAM; disks stay."""
        raise self.unsupported(Feature.UNDEFINE)

    # -- a guest to be made -------------------------------------------------------------------------------------------
    def design(self, spec: GuestSpec) -> str:
        """The definition that this hypervisor would get for `spec`: what `create` defines, and what the dry run shows.

        Reads the host's capabilities. Raises InvalidDefinition with the field's name for what cannot be, Unsupported.
        """
        raise self.unsupported(Feature.CREATE)

    def create(self, spec: GuestSpec) -> GuestInfo:
        """Make a guest from `spec`, off. One that is there already under `spec.uuid` is answered as it is.

        Raises what `design` raises, AlreadyExists for a name that another guest has, NotFound for an image that is not there.
        """
        raise self.unsupported(Feature.CREATE)

    def addresses(self, ref: GuestRef) -> Mapping[str, Sequence[AddressInfo] | str]:
        """Per source, in the order of trust (`agent`, `lease`, `arp`): its addresses, or a sentence why it does not answer.

        Sources that the hypervisor has not are left out. Waits for an agent a few seconds at most. Raises WrongState when it is off.
        """
        raise self.unsupported(Feature.ADDRESSES)

    # -- hardware ------------------------------------------------------------------------------------------------------
    def hardware(self, ref: GuestRef) -> GuestHardware:
        """What the guest is built of, now and at its next start. Raises NotFound."""
        raise self.unsupported(Feature.HARDWARE)

    def hardware_options(self, ref: GuestRef) -> HardwareOptions:
        """What the changing verbs take for this guest, with its machine type and accelerator. Raises NotFound."""
        raise self.unsupported(Feature.HARDWARE)

    def attach(self, ref: GuestRef, device: Device, *, live: bool, defined: bool) -> None:
        """Add a device: to the guest that runs (`live`), to what it has at its next start (`defined`), or to both or none.

        One of the same key that is there already and equal is left as it is.

        Raises:
            AlreadyExists: It has another one of that key. InvalidDefinition, WrongState (live, and it is off).
            Unsupported: The hypervisor or the guest cannot take it while it runs; the reason says what to do.
        """
        raise self.unsupported(Feature.HARDWARE)

    def detach(self, ref: GuestRef, key: str, *, live: bool, defined: bool) -> None:
        """Take a device away. One that is not there is left so. A running guest must let go of it: waited for some seconds.

        Raises Timeout when the guest does not let go, Unsupported, WrongState.
        """
        raise self.unsupported(Feature.HARDWARE)

    def update(self, ref: GuestRef, device: Device, *, live: bool, defined: bool) -> None:
        """Give the device of this key these properties; what else the hypervisor knows of it stays. Raises as `attach`, NotFound."""
        raise self.unsupported(Feature.HARDWARE)

    def disk_resize(self, ref: GuestRef, target: str, *, capacity_bytes: int) -> None:
        """Grow a disk of a running guest, and let it know. Raises InvalidDefinition for less than it has, WrongState when off."""
        raise self.unsupported(Feature.HARDWARE)

    def host_devices(self) -> Sequence[HostDevice]:
        """Devices of the host that could be handed to a guest, by a bulk call."""
        raise self.unsupported(Feature.HOST_DEVICES)

    def host_nodes(self) -> Sequence[HostNode]:
        """The host's NUMA nodes, one at least. For who pins."""
        raise self.unsupported(Feature.HARDWARE)

    def clone(self, ref: GuestRef, spec: CloneSpec) -> GuestInfo:
        """Make a guest, off, that is like `ref` but for what `spec` says. One that is there already under `spec.uuid` is answered as it is.

        Raises NotFound, AlreadyExists for a name that another guest has.
        """
        raise self.unsupported(Feature.CLONE)

    # -- snapshots -----------------------------------------------------------------------------------------------------
    def snapshots(self, ref: GuestRef) -> Sequence[SnapshotInfo]:
        """All snapshots of one guest, read now, in no order. Raises NotFound."""
        raise self.unsupported(Feature.SNAPSHOTS_DISK)

    def snapshots_of_all(self) -> Mapping[str, Sequence[SnapshotInfo]]:
        """By guests' identifiers, of those that have any: what a bulk call can say cheaper than `snapshots` of each."""
        raise self.unsupported(Feature.SNAPSHOTS_DISK)

    def snapshot_create(self, ref: GuestRef, spec: SnapshotSpec) -> None:
        """Take one. The guest may stand still meanwhile: with its memory, as long as writing that takes.

        Waits for another job of the guest, such as an earlier call of the same that nobody waits for any more.

        Raises:
            AlreadyExists: The guest has one of this name. WrongState, NotFound.
            Unsupported: A guest that runs, without its memory, and no `SNAPSHOTS_LIVE`; a disk that cannot (it is named).
        """
        raise self.unsupported(Feature.SNAPSHOTS_MEMORY if spec.memory else Feature.SNAPSHOTS_DISK)

    def snapshot_revert(self, ref: GuestRef, name: str) -> None:
        """Go back: disks, definition, and memory where it is in it; without it the guest is off afterwards.

        What the guest did since then is lost, and so is its managed save. Raises NotFound, Unsupported.
        """
        raise self.unsupported(Feature.SNAPSHOTS_DISK)

    def snapshot_delete(self, ref: GuestRef, name: str, *, children: bool = False) -> None:
        """Delete it, and with `children` all that grew from it; else these take its parent for theirs. The guest stays as it is.

        Raises NotFound, Unsupported.
        """
        raise self.unsupported(Feature.SNAPSHOTS_DISK)

    # -- storage -------------------------------------------------------------------------------------------------------
    def pools(self) -> Sequence[PoolInfo]:
        """All storage pools, running or not, by bulk calls."""
        raise self.unsupported(Feature.STORAGE_POOLS)

    def pool(self, name: str) -> PoolInfo:
        """One pool, read now. Raises NotFound."""
        raise self.unsupported(Feature.STORAGE_POOLS)

    def pool_create(self, spec: PoolSpec) -> PoolInfo:
        """Define, build where asked, start. What was defined is undefined again when a later step fails.

        Raises AlreadyExists, InvalidDefinition.
        """
        raise self.unsupported(Feature.STORAGE_MANAGE)

    def pool_start(self, name: str) -> None:
        """Start it. A running one is left as it is."""
        raise self.unsupported(Feature.STORAGE_MANAGE)

    def pool_stop(self, name: str) -> None:
        """Stop it; what is in it stays. A stopped one is left as it is."""
        raise self.unsupported(Feature.STORAGE_MANAGE)

    def pool_refresh(self, name: str) -> None:
        """Have the host look again at what is in it. Raises WrongState when it is not running."""
        raise self.unsupported(Feature.STORAGE_POOLS)

    def pool_set_autostart(self, name: str, *, enabled: bool) -> None:
        """Start with the host, or not."""
        raise self.unsupported(Feature.STORAGE_MANAGE)

    def pool_delete(self, name: str) -> None:
        """Stop and undefine it; its volumes stay where they are."""
        raise self.unsupported(Feature.STORAGE_MANAGE)

    def volumes(self, pool: str) -> Sequence[VolumeInfo]:
        """All volumes of a running pool. Raises NotFound, WrongState."""
        raise self.unsupported(Feature.STORAGE_POOLS)

    def volume(self, pool: str, name: str) -> VolumeInfo:
        """One volume, read now. Raises NotFound."""
        raise self.unsupported(Feature.STORAGE_POOLS)

    def volume_create(self, pool: str, spec: VolumeSpec) -> VolumeInfo:
        """Make an empty volume, or an overlay of `spec.backing`. Raises AlreadyExists, NoSpace, NotFound."""
        raise self.unsupported(Feature.STORAGE_POOLS)

    def volume_clone(self, pool: str, spec: VolumeSpec, *, source: str, source_pool: str = "") -> VolumeInfo:
        """Make a volume as a full copy of `source`, a volume of `source_pool` (""; of the same pool). Takes as long as the copy does."""
        raise self.unsupported(Feature.STORAGE_CONTENT)

    def volume_resize(self, pool: str, name: str, *, capacity_bytes: int) -> None:
        """Grow it. Raises InvalidDefinition for less than it has."""
        raise self.unsupported(Feature.STORAGE_CONTENT)

    def volume_wipe(self, pool: str, name: str) -> None:
        """Overwrite it with zeros."""
        raise self.unsupported(Feature.STORAGE_CONTENT)

    def volume_delete(self, pool: str, name: str) -> None:
        """Delete it. Raises NotFound, Busy when the host says that it is in use."""
        raise self.unsupported(Feature.STORAGE_POOLS)

    def volume_upload(
        self, pool: str, name: str, read: Callable[[int], bytes], *, length: int, offset: int = 0
    ) -> None:
        """Write `length` bytes from `read(size)` (fewer at a time are fine, `b""` ends it) into the volume from `offset` on.

        An exception of `read` breaks it off and is raised. Memory stays flat whatever the length.
        """
        raise self.unsupported(Feature.STORAGE_CONTENT)

    def volume_download(
        self, pool: str, name: str, write: Callable[[bytes], None], *, offset: int = 0, length: int = 0
    ) -> None:
        """Hand the volume's bytes to `write` from `offset` on, `length` of them (0: to its end). As `volume_upload`."""
        raise self.unsupported(Feature.STORAGE_CONTENT)

    # -- networks ------------------------------------------------------------------------------------------------------
    def networks(self) -> Sequence[NetworkInfo]:
        """All virtual networks, active or not."""
        raise self.unsupported(Feature.NETWORKS)

    def leases(self, network: str) -> Sequence[LeaseInfo]:
        """What its DHCP server has given out. Raises NotFound."""
        raise self.unsupported(Feature.NETWORKS_MANAGE)

    def network_create(self, spec: NetworkSpec) -> NetworkInfo:
        """Define and start. What was defined is undefined again when a later step fails.

        Raises AlreadyExists (its subnet or bridge may be taken too), InvalidDefinition.
        """
        raise self.unsupported(Feature.NETWORKS_MANAGE)

    def network_start(self, name: str) -> None:
        """Start it. An active one is left as it is. Raises AlreadyExists where an interface of the host has its subnet."""
        raise self.unsupported(Feature.NETWORKS_MANAGE)

    def network_stop(self, name: str) -> None:
        """Stop it: guests on it are cut off. A stopped one is left as it is."""
        raise self.unsupported(Feature.NETWORKS_MANAGE)

    def network_set_autostart(self, name: str, *, enabled: bool) -> None:
        """Start with the host, or not."""
        raise self.unsupported(Feature.NETWORKS_MANAGE)

    def network_delete(self, name: str) -> None:
        """Stop and undefine it."""
        raise self.unsupported(Feature.NETWORKS_MANAGE)

    def network_keep(self, name: str, host: DhcpHost) -> None:
        """Keep an address for a MAC, in place of what was kept for it: at once where it is active, and in the definition.

        Raises WrongState when it gives no addresses out, InvalidDefinition for an address that cannot be, NotFound.
        """
        raise self.unsupported(Feature.NETWORKS_MANAGE)

    def network_release(self, name: str, mac: str) -> None:
        """Keep none for this MAC any more, at once and in the definition."""
        raise self.unsupported(Feature.NETWORKS_MANAGE)

    def host_interfaces(self) -> Sequence[HostInterface]:
        """The host's own network interfaces, without those of guests. Raises Unsupported where nothing is known of them."""
        raise self.unsupported(Feature.NETWORKS_MANAGE)

    def filters(self) -> Sequence[FilterInfo]:
        """All network filters. Raises Unsupported where there are none."""
        raise self.unsupported(Feature.NETWORKS_MANAGE)

    def filter_define(self, xml: str, *, name: str = "") -> FilterInfo:
        """Make a filter, or change the one of this name; guests that run with it have it at once.

        Raises InvalidDefinition, AlreadyExists (making), NotFound (changing).
        """
        raise self.unsupported(Feature.NETWORKS_MANAGE)

    def filter_delete(self, name: str) -> None:
        """Remove it. Raises WrongState while another filter takes it in, or a guest runs with it; NotFound."""
        raise self.unsupported(Feature.NETWORKS_MANAGE)

    # -- watching ----------------------------------------------------------------------------------------------------
    def stats(self) -> Sequence[GuestStats]:
        """Counters of all running guests, by a bulk call where there is one; a guest that hangs is left out."""
        return ()

    @abstractmethod
    def host_stats(self) -> HostStats:
        """Counters of the host."""

    def subscribe(self, sink: Callable[[News], None]) -> None:
        """Send news to `sink` from now on, from a foreign thread; `sink` must only put it on a queue.

        Of guests always; of pools and networks where the hypervisor tells any, so that they are looked at now and then all the same.

        Raises Unsupported where the hypervisor has no events (then `drivers.polling` makes them).
        """
        raise self.unsupported(Feature.EVENTS)

    # -- consoles ----------------------------------------------------------------------------------------------------
    def open_console(self, ref: GuestRef, kind: str, *, take_over: bool = False) -> Console:
        """Open `serial`, `shell`, `vnc` or `spice`. Raises ConsoleBusy when another holds it and not `take_over`."""
        raise self.unsupported(Feature(f"console.{kind}"))

    def screenshot(self, ref: GuestRef) -> bytes:
        """The screen as PNG."""
        raise self.unsupported(Feature.SCREENSHOT)

    # -- life --------------------------------------------------------------------------------------------------------
    @abstractmethod
    def alive(self) -> bool:
        """Whether the connection still stands, without a round trip."""

    @abstractmethod
    def on_close(self, callback: Callable[[str], None]) -> None:
        """Call `callback(reason)` once, from a foreign thread, when the connection is lost."""

    @abstractmethod
    def close(self) -> None:
        """Give the connection up. May block for seconds on a frozen host: only the pool's reaper thread calls it."""

    def unsupported(self, feature: Feature) -> Unsupported:
        """The error for a feature that this session has not, with the reason that the capability set gives."""
        support = self.capabilities().get(feature)
        return Unsupported(
            support.reason if support and support.reason else f"This hypervisor has no {feature}.", feature=str(feature)
        )


class Driver(ABC):
    """One kind of hypervisor: what it is called, where it can live, what it can do at best, how to open it."""

    kind: ClassVar[str]
    """Registry word, the contract's `driver`."""
    label: ClassVar[str]
    """For people: `QEMU/KVM`."""
    schemes: ClassVar[tuple[str, ...]]
    """URI schemes without transport (`qemu`)."""
    transports: ClassVar[tuple[str, ...]]
    """Of `""` (local), `unix`, `tls`, `ssh`, `tcp`."""
    features: ClassVar[frozenset[Feature]]
    """What this kind can do at best."""
    reasons: ClassVar[Mapping[Feature, str]]
    """Why not, for each feature that is not in `features`."""
    ways: ClassVar[tuple[Way, ...]] = ()
    """How one gets there: what the host dialog offers and asks for, the most usual first."""
    proof: ClassVar[Proof] = Proof.NONE
    """What it has been proven on."""
    virtualization_types: ClassVar[tuple[VirtualizationType, ...]] = ()
    """Who can own the hardware there; `drivers.catalog` knows it of our own kinds."""
    macs: ClassVar[tuple[int, int] | None] = (0x525400000000, 0x525400FFFFFF)
    """First and last of the MAC addresses that new guests are given; None where the hypervisor alone gives them."""
    uri_forms: ClassVar[Mapping[str, UriForm]] = MappingProxyType({})
    """Scheme -> what its URIs look like, for a driver that is not in `drivers.registry.BUILT_IN`: without it no URI leads to it."""

    @abstractmethod
    def open(self, endpoint: Endpoint) -> Session:
        """Connect. Blocks without bound: only the pool's connecting thread calls it. Raises DriverError."""
