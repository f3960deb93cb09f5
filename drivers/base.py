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
        Endpoint,
        GuestEvent,
        GuestInfo,
        GuestRef,
        GuestState,
        GuestStats,
        HostInfo,
        HostStats,
        VirtualizationType,
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
        """Make or change a persistent guest from XML. Raises InvalidDefinition, AlreadyExists."""
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

    # -- watching ----------------------------------------------------------------------------------------------------
    def stats(self) -> Sequence[GuestStats]:
        """Counters of all running guests, by a bulk call where there is one; a guest that hangs is left out."""
        return ()

    @abstractmethod
    def host_stats(self) -> HostStats:
        """Counters of the host."""

    def subscribe(self, sink: Callable[[GuestEvent], None]) -> None:
        """Send news to `sink` from now on, from a foreign thread; `sink` must only put it on a queue.

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
    uri_forms: ClassVar[Mapping[str, UriForm]] = MappingProxyType({})
    """Scheme -> what its URIs look like, for a driver that is not in `drivers.registry.BUILT_IN`: without it no URI leads to it."""

    @abstractmethod
    def open(self, endpoint: Endpoint) -> Session:
        """Connect. Blocks without bound: only the pool's connecting thread calls it. Raises DriverError."""
