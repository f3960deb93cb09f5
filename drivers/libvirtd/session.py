"""All verbs over one virConnect. Every public method blocks the calling thread and raises only DriverErrors.

The connection object has one owner, the session: dropping its last reference waits for the host, so nothing else keeps one.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, ClassVar

import libvirt

from drivers.base import Session
from drivers.errors import ConsoleBusy, NotFound, Unreachable, Unsupported, WrongState
from drivers.libvirtd import graphics, stats
from drivers.libvirtd.addresses import AddressFacet
from drivers.libvirtd.describing import describe
from drivers.libvirtd.errors import (
    gone_is_nothing,
    translate,
)
from drivers.libvirtd.events import (
    EventTap,
)
from drivers.libvirtd.guests import (
    Marks,
    guest_info,
    read_definition,
    read_live,
)
from drivers.libvirtd.patience import Patience
from drivers.libvirtd.session_clone import CloneFacet
from drivers.libvirtd.session_create import CreateFacet
from drivers.libvirtd.session_definition import DefinitionFacet
from drivers.libvirtd.session_hardware import HardwareFacet
from drivers.libvirtd.session_host import (
    HostFacet,
)
from drivers.libvirtd.session_network import NetworkFacet
from drivers.libvirtd.session_snapshots import SnapshotFacet
from drivers.libvirtd.session_storage import StorageFacet
from drivers.libvirtd.session_wires import FilterFacet
from drivers.libvirtd.states import guest_state
from drivers.libvirtd.streams import SerialConsole
from drivers.libvirtd.uri import host_of, is_local
from drivers.types import Feature, GuestState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from drivers.base import Console
    from drivers.libvirtd.kinds import LibvirtDriver
    from drivers.types import Endpoint, GuestInfo, GuestRef, GuestStats, HostStats, News, PoolInfo, Support

log = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 2
KEEPALIVE_COUNT = 3
"""A dead host is seen after interval x (count + 1) = 8 s (measured), by the close callback and by every waiting call."""

SWEEP_WORTH = 24
"""From so many named guests on, four calls for all guests cost less than six calls for each."""

# Phrases, not sentences: the pool says "The connection was lost: …" in front.
_CLOSE_REASONS = {
    libvirt.VIR_CONNECT_CLOSE_REASON_ERROR: "it broke",
    libvirt.VIR_CONNECT_CLOSE_REASON_EOF: "the hypervisor's service ended it",
    libvirt.VIR_CONNECT_CLOSE_REASON_KEEPALIVE: "the host stopped answering",
    libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT: "it was closed on this side",
}


class LibvirtSession(
    HostFacet,
    DefinitionFacet,
    CreateFacet,
    CloneFacet,
    AddressFacet,
    HardwareFacet,
    SnapshotFacet,
    StorageFacet,
    NetworkFacet,
    FilterFacet,
    Session,
):
    """One live connection.

    Args:
        shared_tap: The connection and this tap belong to the process (the test driver's world), not to this session.
    """

    _consoles_lock: ClassVar[threading.Lock] = threading.Lock()
    _consoles: ClassVar[dict[tuple[str, str], SerialConsole]] = {}

    def __init__(
        self,
        driver: LibvirtDriver,
        endpoint: Endpoint,
        connection: libvirt.virConnect,
        *,
        shared_tap: EventTap | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._driver = driver
        self._held: libvirt.virConnect | None = connection
        self._shared = shared_tap is not None
        self._tap = shared_tap or EventTap(connection)
        self._sinks: list[Callable[[News], None]] = []
        self._life = threading.Lock()
        self._lost: str | None = None
        self._on_lost: list[Callable[[str], None]] = []
        self._support: Mapping[Feature, Support] | None = None
        self._bulk_stats: bool | None = None
        self._opened: set[SerialConsole] = set()
        self._patience = Patience()
        self._pools_seen: Sequence[PoolInfo] = ()
        if not self._shared:
            self._watch(connection)

    def _watch(self, connection: libvirt.virConnect) -> None:
        calls: tuple[Callable[[], int], ...] = (
            lambda: connection.setKeepAlive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT),
            lambda: connection.registerCloseCallback(self._closed_by_host, None),
        )
        for call in calls:
            try:
                call()
            except libvirt.libvirtError as error:
                # A driver without a daemon behind it has no wire that could die.
                if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                    raise

    @property
    def _connection(self) -> libvirt.virConnect:
        held = self._held
        if held is None:
            raise Unreachable(f"The connection was lost: {self._lost}." if self._lost else "The connection is closed.")
        return held

    # -- guests ---------------------------------------------------------------------------------------------------------
    def guests(self) -> Sequence[GuestInfo]:
        """All guests: one bulk call for the states, three for the marks, one or two a guest for its XML."""
        with translate():
            return [info for info in self._sweep(self._domains()) if info is not None]

    def guest(self, ref: GuestRef) -> GuestInfo:
        """One guest, read now: five or six short calls."""
        with translate(guest=ref.name or ref.uuid):
            info = self._read(self._domain(ref))
        if info is None:
            message = "The hypervisor does not know this guest."
            raise NotFound(message, guest=ref.name or ref.uuid)
        return info

    def guest_or_none(self, ref: GuestRef) -> GuestInfo | None:
        """Like `guest`, None when it is gone."""
        try:
            return self.guest(ref)
        except NotFound:
            return None

    def guests_by_ref(self, refs: Sequence[GuestRef]) -> Sequence[GuestInfo]:
        """Several guests read now, in the order of `refs`; those that are gone are left out."""
        if len(refs) < SWEEP_WORTH:
            return super().guests_by_ref(refs)
        wanted = {ref.uuid: place for place, ref in enumerate(refs)}
        with translate():
            named = [entry for entry in self._domains() if entry[1] in wanted]
            found = [info for info in self._sweep(named) if info is not None]
        return sorted(found, key=lambda info: wanted[info.uuid])

    def guest_state(self, ref: GuestRef) -> tuple[GuestState, str]:
        """One lookup, one call."""
        with translate(guest=ref.name or ref.uuid):
            domain = self._domain(ref)
            return self._observed(domain, *domain.state(0))

    def _domain(self, ref: GuestRef) -> libvirt.virDomain:
        domain = self._connection.lookupByUUIDString(ref.uuid)
        if not self._driver.is_guest(domain):
            message = "This is the host itself, no guest."
            raise NotFound(message, guest=ref.name or ref.uuid)
        return domain

    def _observed(self, _domain: libvirt.virDomain, state: int, reason: int) -> tuple[GuestState, str]:
        """What libvirt's pair means; a driver whose pairs do not tell all may ask the domain."""
        return guest_state(state, reason)

    def _domains(self) -> list[tuple[libvirt.virDomain, str, int, int]]:
        """Every guest with its UUID, state and reason."""
        connection = self._connection
        if self._bulk_stats is not False:
            try:
                # NOWAIT costs nothing here (STATE asks no monitor) and keeps a hung guest from holding the sweep up.
                records = connection.getAllDomainStats(
                    libvirt.VIR_DOMAIN_STATS_STATE, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
                )
            except libvirt.libvirtError as error:
                if error.get_error_code() not in {libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_INVALID_ARG}:
                    raise
                self._bulk_stats = False
            else:
                self._bulk_stats = True
                return [
                    (domain, domain.UUIDString(), values["state.state"], values["state.reason"])
                    for domain, values in records
                    if self._driver.is_guest(domain)
                ]
        return list(self._states_one_by_one(connection))

    def _states_one_by_one(self, connection: libvirt.virConnect) -> Iterator[tuple[libvirt.virDomain, str, int, int]]:
        for domain in connection.listAllDomains(0):
            if not self._driver.is_guest(domain):
                continue
            with gone_is_nothing():
                state, reason = domain.state(0)
                yield domain, domain.UUIDString(), state, reason

    def _sweep(self, domains: Sequence[tuple[libvirt.virDomain, str, int, int]]) -> Iterator[GuestInfo | None]:
        persistent = self._marked(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
        starts = Feature.AUTOSTART in self._driver.features
        autostart = self._marked(libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART) if starts else set()
        saved = self._marked(libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE)
        for domain, uuid, state, reason in domains:
            observed, word = self._observed(domain, state, reason)
            marks = Marks(
                state=observed,
                reason=word,
                persistent=uuid in persistent,
                autostart=uuid in autostart,
                has_managed_save=uuid in saved,
            )
            yield self._info(domain, uuid, marks)

    def _marked(self, flag: int) -> set[str]:
        return {domain.UUIDString() for domain in self._connection.listAllDomains(flag)}

    def _read(self, domain: libvirt.virDomain) -> GuestInfo | None:
        observed, word = self._observed(domain, *domain.state(0))
        persistent = bool(domain.isPersistent())
        marks = Marks(
            state=observed,
            reason=word,
            persistent=persistent,
            autostart=persistent and Feature.AUTOSTART in self._driver.features and bool(domain.autostart()),
            has_managed_save=persistent and bool(domain.hasManagedSaveImage(0)),
        )
        return self._info(domain, domain.UUIDString(), marks)

    def _info(self, domain: libvirt.virDomain, uuid: str, marks: Marks) -> GuestInfo | None:
        with gone_is_nothing():
            inactive = read_definition(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
            running = None if marks.state is GuestState.SHUTOFF else read_live(domain.XMLDesc(0))
            return guest_info(
                uuid=uuid, inactive=inactive, running=running, marks=marks, profile=self._driver.profile(inactive)
            )
        return None

    # -- power ----------------------------------------------------------------------------------------------------------
    def start(self, ref: GuestRef) -> None:
        """Start, or go on from the managed save."""
        self._act(Feature.START, ref, lambda domain: domain.createWithFlags(0))

    def shutdown(self, ref: GuestRef) -> None:
        """Ask by the driver's own way: the power button, or a signal to the container's init."""
        self._act(Feature.SHUTDOWN, ref, self._driver.shutdown)

    def reboot(self, ref: GuestRef) -> None:
        """Ask for a reboot."""
        self._act(Feature.REBOOT, ref, lambda domain: domain.reboot(0))

    def reset(self, ref: GuestRef) -> None:
        """Press the reset button."""
        self._act(Feature.RESET, ref, lambda domain: domain.reset(0))

    def force_off(self, ref: GuestRef) -> None:
        """Pull the plug. A QEMU that hangs takes 10 s and more (measured: SIGTERM, then SIGKILL)."""
        self._act(Feature.FORCE_OFF, ref, lambda domain: domain.destroyFlags(0))

    def suspend(self, ref: GuestRef) -> None:
        """Freeze in memory. A paused guest is left as it is."""
        self._act(Feature.SUSPEND, ref, lambda domain: domain.suspend())

    def resume(self, ref: GuestRef) -> None:
        """Let a paused guest run, wake a sleeping one."""
        self._act(Feature.RESUME, ref, _wake_or_resume)

    def managed_save(self, ref: GuestRef) -> None:
        """Memory to disk. Takes as long as writing the guest's memory does."""
        self._act(Feature.MANAGED_SAVE, ref, lambda domain: domain.managedSave(0))

    def discard_managed_save(self, ref: GuestRef) -> None:
        """Throw the saved memory away, where there is any (libvirt's own call fails with SYSTEM_ERROR where not)."""
        self._act(Feature.DISCARD_MANAGED_SAVE, ref, _discard_save)

    def set_autostart(self, ref: GuestRef, *, enabled: bool) -> None:
        """Start with the host, or not."""
        self._act(Feature.AUTOSTART, ref, lambda domain: domain.setAutostart(int(enabled)))

    def set_metadata(self, ref: GuestRef, facts: Mapping[str, str], *, title: str, description: str) -> None:
        """In the running definition and in the next one. Three calls; what others keep in the metadata stays."""
        self._act(Feature.DEFINE, ref, lambda domain: describe(domain, facts, title=title, description=description))

    def undefine(self, ref: GuestRef) -> None:
        """Remove the definition of a stopped guest.

        libvirt would undefine a running guest too and leave a transient one (measured, even with snapshots): refused here.
        """
        self._require(Feature.UNDEFINE)
        flags = self._driver.undefine_flags
        with translate(guest=ref.name or ref.uuid):
            domain = self._domain(ref)
            if domain.isActive():
                message = "The guest runs; shut it down or force it off first."
                raise WrongState(message, guest=ref.name or ref.uuid)
            if flags:
                domain.undefineFlags(flags)
            else:
                domain.undefine()

    def _act(self, feature: Feature, ref: GuestRef, verb: Callable[[libvirt.virDomain], object]) -> None:
        self._require(feature)
        with translate(guest=ref.name or ref.uuid, feature=str(feature)):
            verb(self._domain(ref))

    def _require(self, feature: Feature) -> None:
        """Refuse what this kind of hypervisor cannot do, with its reason and without a round trip."""
        if feature not in self._driver.features:
            raise Unsupported(self._driver.reasons[feature], feature=str(feature))
        probed = self._support[feature] if self._support is not None else None
        if probed is not None and not probed.supported:
            raise Unsupported(probed.reason, feature=str(feature))

    # -- watching -------------------------------------------------------------------------------------------------------
    def stats(self) -> Sequence[GuestStats]:
        """Counters of all active guests: one bulk call, or a few calls a guest."""
        with translate():
            connection = self._connection
            if self._bulk_stats is not False:
                try:
                    records = connection.getAllDomainStats(stats.GROUPS, stats.FLAGS)
                except libvirt.libvirtError as error:
                    if error.get_error_code() not in {libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_INVALID_ARG}:
                        raise
                else:
                    at = time.monotonic()
                    found = [stats.from_bulk(domain.UUIDString(), values, at) for domain, values in records]
                    if any(found) or not records:
                        return [each for each in found if each is not None]
            return list(self._stats_one_by_one(connection))

    def _stats_one_by_one(self, connection: libvirt.virConnect) -> Iterator[GuestStats]:
        for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
            if self._driver.is_guest(domain):
                with gone_is_nothing():
                    yield stats.only(self._driver.features, stats.one_by_one(domain))

    def host_stats(self) -> HostStats:
        """Counters of the host: two or three calls."""
        with translate():
            return stats.host_stats(self._connection, free_unit=self._driver.free_memory_unit)

    def subscribe(self, sink: Callable[[News], None]) -> None:
        """Events from now on."""
        self._require(Feature.EVENTS)
        with translate(feature=str(Feature.EVENTS)):
            self._connection.isAlive()
            self._tap.add(sink)
            self._sinks.append(sink)

    # -- consoles -------------------------------------------------------------------------------------------------------
    def open_console(self, ref: GuestRef, kind: str, *, take_over: bool = False) -> Console:
        """Open a console: `serial` over a stream, `vnc` over a socket."""
        feature = Feature(f"console.{kind}")
        self._require(feature)
        if feature is Feature.CONSOLE_SERIAL:
            return self._open_serial(ref, take_over=take_over)
        return self._open_vnc(ref)

    def _open_serial(self, ref: GuestRef, *, take_over: bool) -> SerialConsole:
        key = (self.endpoint.key, ref.uuid)
        with self._consoles_lock:
            holder = self._consoles.get(key)
        if holder is not None and holder.over:
            holder.settle()
        elif holder is not None:
            # Our own table: LXC gives its one console to any number of readers, who then share its bytes out among them.
            if not take_over:
                message = "Somebody else holds this console; take it over, or wait until it is free."
                raise ConsoleBusy(message, guest=ref.name or ref.uuid)
            holder.evict()
        with translate(guest=ref.name or ref.uuid):
            if not self._domain(ref).isActive():
                message = "The guest is off: it has no console now."
                raise WrongState(message, guest=ref.name or ref.uuid)
            line = self._driver.dial(self.endpoint)
            try:
                line.setKeepAlive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT)
                stream = line.newStream(libvirt.VIR_STREAM_NONBLOCK)
                flags = self._driver.console_force if take_over else self._driver.console_safe
                line.lookupByUUIDString(ref.uuid).openConsole(None, stream, flags)
                console = SerialConsole(stream, hang_up=lambda this: self._hang_up(key, this, line))
                line.registerCloseCallback(lambda _line, reason, _opaque: console.lost(_lost_because(reason)), None)
            except BaseException:
                line.close()
                raise
        with self._consoles_lock:
            self._consoles[key] = console
            self._opened.add(console)
        return console

    def _hang_up(self, key: tuple[str, str], console: SerialConsole, line: libvirt.virConnect) -> None:
        with self._consoles_lock:
            self._opened.discard(console)
            if self._consoles.get(key) is console:
                del self._consoles[key]
        for call in (line.unregisterCloseCallback, line.close):
            with contextlib.suppress(libvirt.libvirtError, SystemError):
                call()

    def _open_vnc(self, ref: GuestRef) -> Console:
        info = self.guest(ref)
        if info.state is GuestState.SHUTOFF:
            message = "The guest is off: it has no screen now."
            raise WrongState(message, guest=info.name)
        place = next((number for number, item in enumerate(info.graphics) if item.type == "vnc"), None)
        if place is None:
            message = "This guest has no VNC screen; add <graphics type='vnc'/> to its definition."
            raise NotFound(message, guest=info.name)
        here = is_local(self.endpoint.uri)
        if here and self._driver.passes_screens:
            with translate(guest=info.name):
                descriptor = self._domain(ref).openGraphicsFD(place, libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH)
            return graphics.from_descriptor(descriptor)
        # Over TLS or SSH libvirt cannot pass descriptors, and the attempt closes the whole connection (measured).
        screen = info.graphics[place]
        if screen.socket or not screen.port or (graphics.is_loopback(screen.listen) and not here):
            message = (
                "The screen listens only inside its host; let it listen on an address that can be reached from here."
            )
            raise Unsupported(message, feature=str(Feature.CONSOLE_VNC), guest=info.name)
        everywhere = screen.listen in {None, "", "0.0.0.0", "::"}  # noqa: S104 - compared, not bound
        host = host_of(self.endpoint.uri) or "127.0.0.1"
        return graphics.connect(host if everywhere else screen.listen, screen.port)

    def screenshot(self, ref: GuestRef) -> bytes:
        """The screen as PNG: a few tens of milliseconds."""
        self._require(Feature.SCREENSHOT)
        with translate(guest=ref.name or ref.uuid, feature=str(Feature.SCREENSHOT)):
            domain = self._domain(ref)
            if not domain.isActive():
                message = "The guest is off: it has no screen now."
                raise WrongState(message, guest=ref.name or ref.uuid)
            stream = self._connection.newStream(0)
            mime = domain.screenshot(stream, 0)
            picture = bytearray()
            while True:
                piece = stream.recv(256 * 1024)
                if isinstance(piece, int) or not piece:
                    break
                picture += piece
            stream.finish()
        return graphics.to_png(bytes(picture), mime)

    # -- life -----------------------------------------------------------------------------------------------------------
    def alive(self) -> bool:
        """Whether the connection stands, as far as this side knows: no round trip."""
        held = self._held
        if held is None or self._lost is not None:
            return False
        try:
            return bool(held.isAlive())
        except (libvirt.libvirtError, SystemError):
            return False

    def on_close(self, callback: Callable[[str], None]) -> None:
        """Call `callback(reason)` once when the connection is lost; at once if it is lost already."""
        with self._life:
            if self._lost is None:
                self._on_lost.append(callback)
                return
            reason = self._lost
        callback(reason)

    def _closed_by_host(self, _connection: libvirt.virConnect, reason: int, _opaque: None) -> None:
        """Runs on the event thread (or on whichever thread a call failed)."""
        with self._life:
            if self._lost is not None or self._held is None:
                return
            self._lost = _CLOSE_REASONS.get(reason, "for an unknown reason")
            callbacks, self._on_lost = self._on_lost, []
        for callback in callbacks:
            try:
                callback(self._lost)
            except Exception:
                log.exception("close callback failed")

    def close(self) -> None:
        """Give the connection up. Never raises; may wait for a frozen host up to 8 s a call."""
        with self._life:
            held, self._held = self._held, None
            self._on_lost = []
        if held is None:
            return
        for console in tuple(self._opened):
            console.close()
        if self._shared:
            for sink in self._sinks:
                self._tap.remove(sink)
            return
        self._tap.drop()
        for call in (held.unregisterCloseCallback, held.close):
            with contextlib.suppress(libvirt.libvirtError, SystemError):
                call()


def _lost_because(reason: int) -> Unreachable:
    return Unreachable(f"The connection was lost: {_CLOSE_REASONS.get(reason, 'for an unknown reason')}.")


def _wake_or_resume(domain: libvirt.virDomain) -> None:
    state = domain.state(0)[0]
    if state in {libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED}:  # libxl says yes to that (measured)
        message = "The guest runs already."
        raise WrongState(message)
    if state == libvirt.VIR_DOMAIN_PMSUSPENDED:
        domain.pMWakeup(0)
    else:
        domain.resume()


def _discard_save(domain: libvirt.virDomain) -> None:
    if domain.hasManagedSaveImage(0):
        domain.managedSaveRemove(0)
