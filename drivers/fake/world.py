"""One hypervisor in memory: its guests, what others do with them, and every way in which a host can fail.

Events and close callbacks are delivered in the thread that causes them, outside every lock, so that a test sees them
when the call that caused them has returned.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
import uuid as uuids
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from xml.etree import ElementTree as ET

from drivers.errors import (
    AlreadyExists,
    ConsoleBusy,
    DriverError,
    InvalidDefinition,
    NotFound,
    Timeout,
    Unreachable,
    WrongState,
)
from drivers.fake import design
from drivers.fake.console import FakeConsole
from drivers.fake.guest import (
    ACTIVE,
    Guest,
    line_of,
    parse,
    stats_of,
)
from drivers.fake.hardware import HardwareVerbs
from drivers.fake.networks import FakeNetworks
from drivers.fake.snapshots import SnapshotVerbs
from drivers.fake.storage import FakeStorage
from drivers.types import (
    Endpoint,
    Finding,
    GuestEvent,
    GuestEventKind,
    GuestInfo,
    GuestKind,
    GuestRef,
    GuestState,
    GuestStats,
    HostStats,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from drivers.types import AddressInfo, CloneSpec, GuestSpec, News

log = logging.getLogger(__name__)

_R = TypeVar("_R")

SCHEME = "fake:///"
NAMESPACE = uuids.UUID("7d3f3c1e-5b0e-4a55-9a6d-7a3c5f1b2d40")
SILENCE: dict[str, str] = {
    "agent": "The guest agent does not answer: is it running in the guest?",
    "lease": "None of this guest's networks gives addresses out.",
    "arp": "The host has seen no address of this guest.",
}
"""What a source says of a guest that no test gave addresses (`FakeWorld.give_addresses`)."""
HANG_BOUND_SECONDS = 120.0
"""A hang that no test ever releases ends here, so that a broken test cannot leave threads behind for good."""


class Connection(Protocol):
    """What a world knows of a session on it. Guarded by the world's lock."""

    broken: str
    under_way: int
    sinks: list[Callable[[News], None]]

    def lost(self, reason: str) -> None:
        """Fire the close callbacks, once."""


@dataclass(slots=True, eq=False)
class _Fault:
    """One planned misbehaviour: for `verb` (None: any), `times` times."""

    verb: str | None
    times: int
    error: DriverError | None = None
    change: Callable[[object], object] | None = None


@dataclass(slots=True, eq=False)
class _Weather:
    """How a world misbehaves just now. Guarded by the world's lock."""

    frozen: bool = False
    refusal: DriverError | None = None
    hung: set[str] = field(default_factory=set)
    latency: dict[str | None, float] = field(default_factory=dict)
    failures: deque[_Fault] = field(default_factory=deque)
    lies: deque[_Fault] = field(default_factory=deque)


class FakeWorld(SnapshotVerbs, HardwareVerbs):
    """One hypervisor in memory, what others do on it, and what goes wrong with it. Thread-safe.

    Attributes:
        calls: How often each verb was called, `open` and `close` among them.
        clock: Where counters take their time from; replace it to move them by hand.
        peak_calls: The most verbs that were ever under way at once on one session.
        storage: Its pools and volumes; none until `storage.add_pool`.
        networks: Its virtual networks; none until `networks.add`.
        boot_id: Of its machine; "" for one that does not tell.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.clock: Callable[[], float] = time.monotonic
        self.calls: Counter[str] = Counter()
        self.peak_calls = 0
        self._changed = threading.Condition(threading.RLock())
        self._weather = _Weather()
        self._guests: dict[str, Guest] = {}
        self._sessions: list[Connection] = []
        self._born = self.clock()
        self.boot_id = f"{name}/1"
        self.storage = FakeStorage(
            self._changed, lambda pool: uuids.uuid5(NAMESPACE, f"{name}/pool/{pool}"), tell=self._tell
        )
        self.networks = FakeNetworks(
            self._changed, lambda network: uuids.uuid5(NAMESPACE, f"{name}/network/{network}"), tell=self._tell
        )

    @property
    def endpoint(self) -> Endpoint:
        """How to reach it."""
        return Endpoint(driver="fake", uri=f"{SCHEME}{self.name}")

    # -- the scene -----------------------------------------------------------------------------------------------
    def add(
        self,
        name: str,
        *,
        state: GuestState = GuestState.SHUTOFF,
        kind: GuestKind = GuestKind.MACHINE,
        vcpus: int = 1,
        memory_bytes: int = 256 << 20,
        obeys: bool = True,
    ) -> GuestInfo:
        """Define a guest from outside (everybody hears of it), in `state`; its uuid follows from world and name.

        With `obeys=False` it ignores `shutdown` and `reboot`.
        """
        root = ET.Element("domain", type="fake")
        for tag, text in (("name", name), ("uuid", self.uuid_of(name)), ("vcpu", str(vcpus))):
            ET.SubElement(root, tag).text = text
        ET.SubElement(root, "memory", unit="bytes").text = str(memory_bytes)
        ET.SubElement(ET.SubElement(root, "os"), "type").text = "exe" if kind is GuestKind.CONTAINER else "hvm"
        info = self.define(ET.tostring(root, encoding="unicode"))
        with self._changed:
            guest = self._guests[info.uuid]
            guest.obeys = obeys
            guest.state = state
            guest.started_at = self.clock()
            return guest.info()

    def uuid_of(self, name: str) -> str:
        """The uuid that `add` gives a guest of this name."""
        return str(uuids.uuid5(NAMESPACE, f"{self.name}/{name}"))

    def remove(self, name: str) -> None:
        """Make a guest vanish at once, running or not, as an outside `undefine` and `destroy` would."""
        with self._changed:
            guest = self._find(GuestRef(uuid="", name=name))
            console = self._stop_console(guest)
            del self._guests[guest.uuid]
        self._after(guest, GuestEventKind.UNDEFINED, "undefined/removed", console)

    def outside(self, name: str, verb: str, /, **options: Any) -> None:
        """Let somebody else act: `outside("web", "start")`. Neither connection nor faults stand in the way."""
        getattr(self, f"do_{verb.replace('-', '_')}")(GuestRef(uuid="", name=name), **options)

    def crash(self, name: str) -> None:
        """The guest's process dies."""
        self._power_off(GuestRef(uuid="", name=name), state=GuestState.CRASHED, reason="failed", news="stopped/failed")

    def power_off_inside(self, name: str) -> None:
        """The guest's own operating system powers it off, as after `shutdown` that it obeyed late."""
        self._power_off(GuestRef(uuid="", name=name), reason="shutdown", news="stopped/shutdown")

    def give_addresses(self, name: str, **sources: Sequence[AddressInfo] | str) -> None:
        """What `addresses` answers while the guest runs: `give_addresses("web", agent=[…], lease="No network of ours.")`."""
        unknown = sources.keys() - SILENCE.keys()
        if unknown:
            raise ValueError(f"no such source: {', '.join(sorted(unknown))}")
        with self._changed:
            self._find(GuestRef(uuid="", name=name)).addresses.update(sources)

    # -- faults --------------------------------------------------------------------------------------------------
    def refuse(self, error: DriverError | None) -> None:
        """From now on opening fails with `error`; None: opening works again."""
        with self._changed:
            self._weather.refusal = error

    def fail_next(self, error: DriverError, *, times: int = 1, verb: str | None = None) -> None:
        """The next `times` calls of `verb` (None: of any verb on an open session) raise `error`."""
        with self._changed:
            self._weather.failures.append(_Fault(verb, times, error=error))

    def lie(self, verb: str, change: Callable[[object], object], *, times: int = 1) -> None:
        """The next `times` answers of `verb` are replaced by `change(answer)`: malformed, stale or foreign values."""
        with self._changed:
            self._weather.lies.append(_Fault(verb, times, change=change))

    def delay(self, seconds: float, *, verb: str | None = None) -> None:
        """Every call of `verb` (None: every call and every open) takes that long from now on; 0 ends it."""
        with self._changed:
            self._weather.latency[verb] = seconds

    def hang(self, verb: str) -> None:
        """Calls of `verb` (`open` and `close` too) do not return until `release`, `thaw` or `cut`."""
        with self._changed:
            self._weather.hung.add(verb)

    def release(self, verb: str) -> None:
        """End of `hang(verb)`: what waits goes on."""
        with self._changed:
            self._weather.hung.discard(verb)
            self._changed.notify_all()

    def freeze(self) -> None:
        """The host stops answering (SIGSTOP): every call, open and close hangs, nobody is told, `alive` stays true."""
        with self._changed:
            self._weather.frozen = True

    def thaw(self) -> None:
        """The host goes on; hanging opens and calls succeed late."""
        with self._changed:
            self._weather.frozen = False
            self._weather.hung.clear()
            self._changed.notify_all()

    def cut(self, reason: str = "the daemon is gone") -> None:
        """Every open connection breaks (kill -9 of the daemon): close callbacks fire, calls under way fail."""
        with self._changed:
            sessions, self._sessions = self._sessions, []
            for session in sessions:
                session.broken = reason
            self._changed.notify_all()
        for session in sessions:
            session.lost(reason)

    def reboot(self, *, after_seconds: float = 0.0) -> None:
        """Its machine boots: every connection breaks, all guests are off, and those with autostart start by themselves.

        Args:
            after_seconds: How long ago that was by the machine's own account.
        """
        with self._changed:
            self._born = self.clock() - after_seconds
            name, _, number = self.boot_id.rpartition("/")
            self.boot_id = f"{name}/{int(number) + 1}" if number else ""
            for guest in self._guests.values():
                guest.state = GuestState.RUNNING if guest.autostart else GuestState.SHUTOFF
                guest.reason = "booted" if guest.autostart else "destroyed"
                guest.started_at = self.clock()
        self.cut("the machine boots")

    def go_deaf(self) -> None:
        """Every open connection dies without a close callback: only `alive` tells, and the next call."""
        with self._changed:
            for session in self._sessions:
                session.broken = "the connection died silently"
            self._sessions.clear()
            self._changed.notify_all()

    def fair(self) -> None:
        """End of all faults."""
        with self._changed:
            self._weather = _Weather()
            self._changed.notify_all()

    @property
    def open_sessions(self) -> int:
        """How many connections stand."""
        with self._changed:
            return len(self._sessions)

    def wait_for_calls(self, verb: str, count: int, *, timeout_seconds: float = 10.0) -> bool:
        """Wait until `verb` has been called `count` times in all; False when that did not happen in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.calls[verb] >= count, timeout_seconds)

    # -- what every call goes through ------------------------------------------------------------------------------
    def enter(self, verb: str, session: Connection | None) -> None:
        """Count the call, let it suffer what is planned for it."""
        with self._changed:
            self.calls[verb] += 1
            self._changed.notify_all()
            if session is not None:
                session.under_way += 1
                self.peak_calls = max(self.peak_calls, session.under_way)
            weather = self._weather
            seconds = weather.latency.get(verb, weather.latency.get(None, 0.0))
            if seconds:
                self._changed.wait_for(lambda: _broken(session), seconds)
            if not self._changed.wait_for(lambda: _broken(session) or not self._stuck(verb), HANG_BOUND_SECONDS):
                raise Timeout(f"{verb} hung for {HANG_BOUND_SECONDS:.0f} s.")
            if _broken(session):
                raise Unreachable(f"The connection to {self.name} is closed: {session.broken if session else ''}.")
            if verb == "open" and self._weather.refusal is not None:
                raise _fresh(self._weather.refusal)
            fault = _take(self._weather.failures, verb)
            if fault is not None and fault.error is not None:
                raise _fresh(fault.error)

    def leave(self, session: Connection) -> None:
        """The call is over."""
        with self._changed:
            session.under_way -= 1

    def answer(self, verb: str, value: _R) -> _R:
        """`value`, or the lie planned for it."""
        with self._changed:
            fault = _take(self._weather.lies, verb)
        if fault is None or fault.change is None:
            return value
        return fault.change(value)  # type: ignore[return-value]  # a lie is of any type: that is its purpose

    def attach(self, session: Connection) -> None:
        """A connection stands."""
        with self._changed:
            self._sessions.append(session)

    def detach(self, session: Connection) -> None:
        """A connection was closed by our side: no callback."""
        with self._changed:
            session.broken = session.broken or "closed by us"
            if session in self._sessions:
                self._sessions.remove(session)
            self._changed.notify_all()

    def _stuck(self, verb: str) -> bool:
        return self._weather.frozen or verb in self._weather.hung

    # -- facts ---------------------------------------------------------------------------------------------------
    def infos(self) -> list[GuestInfo]:
        """All guests."""
        with self._changed:
            return [guest.info() for guest in self._guests.values()]

    def info(self, ref: GuestRef) -> GuestInfo:
        """One guest, by its uuid or, without one, by its name. Raises NotFound."""
        with self._changed:
            return self._find(ref).info()

    def definition(self, ref: GuestRef) -> str:
        """The guest's XML."""
        with self._changed:
            return self._find(ref).definition

    def stats(self) -> list[GuestStats]:
        """Counters of the running guests, growing steadily with the clock."""
        with self._changed:
            now = self.clock()
            return [stats_of(guest, now) for guest in self._guests.values() if guest.state in ACTIVE]

    def host_stats(self) -> HostStats:
        """Counters of the host: one of eight CPUs busy."""
        with self._changed:
            now = self.clock()
            used = sum(guest.memory_bytes for guest in self._guests.values() if guest.state in ACTIVE)
        total = 16 << 30
        return HostStats(
            at=now,
            cpu_count=8,
            cpu_busy_seconds=now - self._born,
            uptime_seconds=now - self._born,
            memory_total_bytes=total,
            memory_free_bytes=max(0, total - used),
        )

    # -- verbs -----------------------------------------------------------------------------------------------------
    def define(self, xml: str) -> GuestInfo:
        """Make or change a guest from libvirt-shaped XML."""
        fresh = parse(xml, self.uuid_of)
        with self._changed:
            twin = next((guest for guest in self._guests.values() if guest.name == fresh.name), None)
            if twin is not None and twin.uuid != fresh.uuid:
                raise AlreadyExists(f"A guest called {fresh.name} exists already, with the uuid {twin.uuid}.")
            old = self._guests.get(fresh.uuid)
            if old is not None and old.name != fresh.name:
                raise AlreadyExists(f"The uuid {fresh.uuid} belongs to {old.name}.")
            if old is not None:
                fresh.state, fresh.reason, fresh.started_at = old.state, old.reason, old.started_at
                fresh.autostart, fresh.has_managed_save = old.autostart, old.has_managed_save
                fresh.console, fresh.obeys, fresh.addresses = old.console, old.obeys, old.addresses
                fresh.tree, fresh.marks = old.tree, old.marks
                if old.alive:
                    fresh.run_with((old.live or old).definition)
            self._guests[fresh.uuid] = fresh
            info = fresh.info()
        self._after(fresh, GuestEventKind.DEFINED, "defined/updated" if old else "defined/added", None)
        return info

    def create(self, spec: GuestSpec) -> GuestInfo:
        """Make a guest, off; one that has `spec.uuid` already is answered as it is. Raises AlreadyExists, InvalidDefinition."""
        xml = design.design(spec)
        with self._changed:
            there = self._guests.get(spec.uuid.lower())
            if there is not None:
                return there.info()
        return self.define(xml)

    def clone(self, ref: GuestRef, spec: CloneSpec) -> GuestInfo:
        """As `create`, like another guest. Raises NotFound, AlreadyExists, InvalidDefinition."""
        if not spec.name.strip() or not spec.name.isprintable():
            raise InvalidDefinition("A name has nothing that cannot be printed.")
        with self._changed:
            there = self._guests.get(spec.uuid.lower())
            if there is not None:
                return there.info()
        return self.define(design.cloned(self.definition(ref), spec))

    def set_metadata(self, ref: GuestRef, facts: Mapping[str, str], *, title: str, description: str) -> None:
        """Change what is ours to say of it, in its definition."""
        self.define(design.described(self.definition(ref), facts, title=title, description=description))

    def addresses(self, ref: GuestRef) -> Mapping[str, Sequence[AddressInfo] | str]:
        """What a test put there, per source. Raises NotFound, WrongState."""
        return {**SILENCE, **self._active(ref).addresses}

    def check(self, xml: str, ref: GuestRef | None) -> list[Finding]:
        """What `define` would refuse, and a name or uuid that are not `ref`'s."""
        try:
            fresh = parse(xml, self.uuid_of)
        except InvalidDefinition as error:
            return [Finding(detail=error.detail, line=line_of(error))]
        known = self.info(ref) if ref else None
        return [
            Finding(detail=f"The {what} of this guest is {old}.", line=1, path=f"/domain/{what}")
            for what, old, new in (
                ("name", known and known.name, fresh.name),
                ("uuid", known and known.uuid, fresh.uuid),
            )
            if old and old != new
        ]

    def holds(self, ref: GuestRef, wished: str) -> bool:
        """Whether the guest's XML is what `define` would have made of `wished`."""
        return self.definition(ref) == parse(wished, self.uuid_of).definition

    def do_rename(self, ref: GuestRef, *, name: str) -> None:
        """Another name for a guest that is off."""
        if not name.strip() or not name.isprintable() or "/" in name:
            raise InvalidDefinition("A name has no slash, and nothing that cannot be printed.")
        with self._changed:
            guest = self._find(ref)
            if guest.state in ACTIVE:
                raise WrongState(f"{guest.name} is running.")
            if any(other.name == name and other is not guest for other in self._guests.values()):
                raise AlreadyExists(f"A guest called {name} exists already.")
            guest.rename(name)
        self._after(guest, GuestEventKind.CHANGED, "defined/renamed", None)

    def do_start(self, ref: GuestRef) -> None:
        """Start, or go on from the managed save."""
        with self._changed:
            guest = self._find(ref)
            if guest.state in ACTIVE:
                raise WrongState(f"{guest.name} is already running.")
            restored, guest.has_managed_save = guest.has_managed_save, False
            guest.live = guest.live if restored else None
            guest.state = GuestState.RUNNING
            guest.reason = "restored" if restored else "booted"
            guest.started_at = self.clock()
        self._after(guest, GuestEventKind.CHANGED, f"started/{guest.reason}", None)

    def do_shutdown(self, ref: GuestRef) -> None:
        """Ask; an obeying guest is off when the call returns."""
        if self._active(ref).obeys:
            self._power_off(ref, reason="shutdown", news="shutdown/finished")

    def do_reboot(self, ref: GuestRef) -> None:
        """Ask; an obeying guest has rebooted when the call returns."""
        guest = self._active(ref)
        if guest.obeys:
            self._reboot(guest, "reboot")

    def do_reset(self, ref: GuestRef) -> None:
        """Reboot without asking."""
        self._reboot(self._active(ref), "reset")

    def do_force_off(self, ref: GuestRef) -> None:
        """Pull the plug."""
        self._power_off(ref, reason="destroyed", news="stopped/destroyed")

    def do_suspend(self, ref: GuestRef) -> None:
        """Running → paused."""
        self._move(ref, GuestState.RUNNING, GuestState.PAUSED, "user", "suspended/paused")

    def do_resume(self, ref: GuestRef) -> None:
        """Paused or asleep → running."""
        self._move(ref, GuestState.PAUSED, GuestState.RUNNING, "unpaused", "resumed/unpaused")

    def do_managed_save(self, ref: GuestRef) -> None:
        """Memory to disk, then off."""
        with self._changed:
            guest = self._find(ref)
            if not guest.persistent:
                raise WrongState(f"{guest.name} is transient: it cannot be saved.")
        self._power_off(ref, reason="saved", news="stopped/saved", saved=True)

    def do_discard_managed_save(self, ref: GuestRef) -> None:
        """Throw the saved memory away."""
        with self._changed:
            guest = self._find(ref)
            had, guest.has_managed_save = guest.has_managed_save, False
            guest.live = None
        if had:
            self._after(guest, GuestEventKind.CHANGED, "managed-save/discarded", None)

    def do_set_autostart(self, ref: GuestRef, *, enabled: bool) -> None:
        """Start with the host, or not."""
        with self._changed:
            guest = self._find(ref)
            if not guest.persistent:
                raise WrongState(f"{guest.name} is transient: it cannot start with the host.")
            guest.autostart = enabled

    def do_undefine(self, ref: GuestRef) -> None:
        """Remove the definition; a running guest lives on as a transient one, as in libvirt."""
        with self._changed:
            guest = self._find(ref)
            if not guest.persistent:
                raise WrongState(f"{guest.name} is transient: it has no definition.")
            guest.persistent = guest.autostart = guest.has_managed_save = False
            if guest.state not in ACTIVE:
                del self._guests[guest.uuid]
        self._after(guest, GuestEventKind.UNDEFINED, "undefined/removed", None)

    def open_console(self, ref: GuestRef, *, take_over: bool) -> FakeConsole:
        """The guest's serial line: a small shell that echoes."""
        guest = self._active(ref)
        console = FakeConsole(hostname=guest.name, power_off=functools.partial(self._console_power_off, guest.name))
        with self._changed:
            before = guest.console
            if before is not None and not before.closed and not take_over:
                raise ConsoleBusy(f"Somebody else holds the console of {guest.name}.")
            guest.console = console
        if before is not None:
            before.close(ConsoleBusy("Somebody else has taken this console over."))
        return console

    def _reboot(self, guest: Guest, news: str) -> None:
        with self._changed:
            console = guest.console
            guest.started_at = self.clock()
        if console is not None:
            console.reboot()
        self._after(guest, GuestEventKind.CHANGED, news, None)

    def _console_power_off(self, name: str) -> None:
        try:
            self.power_off_inside(name)
        except (NotFound, WrongState):
            return

    def _move(self, ref: GuestRef, before: GuestState, after: GuestState, reason: str, news: str) -> None:
        with self._changed:
            guest = self._find(ref)
            if guest.state is not before:
                raise WrongState(f"{guest.name} is {guest.state.value}, not {before.value}.")
            guest.state, guest.reason = after, reason
        self._after(guest, GuestEventKind.CHANGED, news, None)

    def _power_off(
        self,
        ref: GuestRef,
        *,
        reason: str,
        news: str,
        state: GuestState = GuestState.SHUTOFF,
        saved: bool = False,
    ) -> None:
        guest = self._active(ref)
        with self._changed:
            guest.state, guest.reason, guest.has_managed_save = state, reason, saved
            guest.live = (guest.live or guest.copy()) if saved else None
            console = self._stop_console(guest)
            gone = not guest.persistent
            if gone:
                self._guests.pop(guest.uuid, None)
        self._after(guest, GuestEventKind.CHANGED, news, console)

    def _active(self, ref: GuestRef) -> Guest:
        with self._changed:
            guest = self._find(ref)
            if guest.state not in ACTIVE:
                raise WrongState(f"{guest.name} is not running.")
            return guest

    def _all(self) -> Iterator[Guest]:
        return iter(list(self._guests.values()))

    def _find(self, ref: GuestRef) -> Guest:
        guest = self._guests.get(ref.uuid.lower())
        if guest is None and not ref.uuid:
            guest = next((one for one in self._guests.values() if one.name == ref.name), None)
        if guest is None:
            raise NotFound(f"There is no guest {ref.name or ref.uuid} on {self.name}.", uuid=ref.uuid)
        return guest

    def _stop_console(self, guest: Guest) -> FakeConsole | None:
        with self._changed:
            console, guest.console = guest.console, None
            return console

    def _after(self, guest: Guest, kind: GuestEventKind, reason: str, console: FakeConsole | None) -> None:
        """Tell every subscriber and end the console: with no lock held, both are foreign code."""
        if console is not None:
            console.close()
        self._tell(
            GuestEvent(
                uuid=guest.uuid,
                name=guest.name,
                kind=kind,
                reason=reason,
                at=time.monotonic(),
                snapshots="snapshot" in reason,
            )
        )

    def _tell(self, event: News) -> None:
        """Every subscriber, with no lock held."""
        with self._changed:
            sinks = [sink for session in self._sessions for sink in session.sinks]
        for sink in sinks:
            try:
                sink(event)
            except Exception:
                log.exception("a sink of news failed")


_worlds: dict[str, FakeWorld] = {}
_worlds_lock = threading.Lock()


def world(name: str) -> FakeWorld:
    """The world of that name, made when there is none."""
    with _worlds_lock:
        return _worlds.setdefault(name, FakeWorld(name))


def drop_world(name: str) -> None:
    """Forget a world: its faults end, its connections break, its name is free for a fresh one."""
    with _worlds_lock:
        place = _worlds.pop(name, None)
    if place is not None:
        place.fair()
        place.cut("the world has ended")


def _broken(session: Connection | None) -> bool:
    return session is not None and bool(session.broken)


def _fresh(error: DriverError) -> DriverError:
    """A new error like `error`: one object raised in many threads would gather all their tracebacks."""
    return type(error)(error.detail, **error.context)


def _take(faults: deque[_Fault], verb: str) -> _Fault | None:
    """The first fault planned for `verb`, used up by one."""
    for fault in faults:
        if fault.verb == verb or (fault.verb is None and verb not in ("open", "close")):
            fault.times -= 1
            if fault.times <= 0:
                faults.remove(fault)
            return fault
    return None
