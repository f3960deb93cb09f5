"""One connection to a XenServer host or pool."""
# ruff: noqa: D102 - what the verbs do stands in `drivers.base`

from __future__ import annotations

import logging
import re
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from drivers.base import Session
from drivers.errors import (
    AlreadyExists,
    ConsoleBusy,
    DriverError,
    InvalidDefinition,
    NotFound,
    Unreachable,
    Unsafe,
    Unsupported,
    WrongState,
)
from drivers.types import Feature, GuestStats, HostStats, Support
from drivers.xapi import records
from drivers.xapi.console import XapiConsole
from drivers.xapi.design import NAME_MAX
from drivers.xapi.errors import Garbled
from drivers.xapi.events import Watch
from drivers.xapi.holdings import disk_places
from drivers.xapi.making import MakingFacet
from drivers.xapi.pool import Members
from drivers.xapi.records import Around, Record, Table, text
from drivers.xapi.snapshots import SnapshotFacet
from drivers.xapi.stats import BODY_BYTES, Counters, Source, guest_stats
from drivers.xapi.tasks import Tasks
from drivers.xapi.wire import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from drivers.base import Driver
    from drivers.types import Endpoint, GuestEvent, GuestInfo, GuestRef, GuestState, HostInfo
    from drivers.xapi.wire import Wire

log = logging.getLogger(__name__)

FEW = 4
"""So many guests are read one by one; more cost less by reading all."""
START_SECONDS = 300.0
SAVE_SECONDS = 1800.0
STOP_SECONDS = 120.0
ASK_SECONDS = 1.0
"""How long a shutdown or reboot is given to be refused: XAPI knows at once when the guest cannot be asked."""

PERMISSIONS: dict[Feature, str] = {
    Feature.START: "vm.start",
    Feature.SHUTDOWN: "vm.clean_shutdown",
    Feature.REBOOT: "vm.clean_reboot",
    Feature.RESET: "vm.hard_reboot",
    Feature.FORCE_OFF: "vm.hard_shutdown",
    Feature.SUSPEND: "vm.pause",
    Feature.RESUME: "vm.unpause",
    Feature.MANAGED_SAVE: "vm.suspend",
    Feature.DISCARD_MANAGED_SAVE: "vm.hard_shutdown",
    Feature.AUTOSTART: "vm.add_to_other_config",
    Feature.RENAME: "vm.set_name_label",
    Feature.UNDEFINE: "vm.destroy",
    Feature.CONSOLE_VNC: "http/connect_console",
    Feature.SNAPSHOTS_DISK: "vm.snapshot",
    Feature.SNAPSHOTS_MEMORY: "vm.checkpoint",
    Feature.SNAPSHOTS_LIVE: "vm.snapshot",
    Feature.CREATE: "vm.create",
}
"""What a role must have, in XAPI's words (all lower case there)."""
_DENIED = "The role of this account on the XenServer does not allow that."


class XapiSession(SnapshotFacet, MakingFacet, Session):
    """A login at one pool's master (a lone host is a pool of one)."""

    def __init__(self, endpoint: Endpoint, wire: Wire, another: Callable[[], Wire], driver: Driver) -> None:
        self.endpoint = endpoint
        self._driver = driver
        self._wire = wire
        self._another = another
        self._tasks = Tasks(wire)
        self._members = Members(wire, endpoint)
        self._counters = Counters(self._sources)
        self._lock = threading.Lock()
        self._watches: list[Watch] = []
        self._on_close: list[Callable[[str], None]] = []
        self._lost = ""
        self._closed = False
        self._is_guest: dict[str, bool] = {}
        self._capabilities: Mapping[Feature, Support] = {}
        self._cpu_count = 0

    @classmethod
    def open(cls, endpoint: Endpoint, wire: Wire, another: Callable[[], Wire], driver: Driver) -> XapiSession:
        """Sign in and see what may be done here. `another`: a wire of its own, not signed in. Raises DriverError."""
        session = cls(endpoint, wire, another, driver)
        try:
            wire.login()
            session._members.learn()
            session._cpu_count = session.host_info().cpu_count
            session._capabilities = session._probe()
        except DriverError:
            wire.close()
            raise
        return session

    # -- facts ------------------------------------------------------------------------------------------------------
    def host_info(self) -> HostInfo:
        info = records.host_info(self._pool(), self._table("host"), self._table("host_metrics"))
        self._cpu_count = info.cpu_count
        return info

    def capabilities(self) -> Mapping[Feature, Support]:
        return self._capabilities

    def guests(self) -> Sequence[GuestInfo]:
        """All, by nine calls however many there are."""
        machines, vdis = self._table("VM"), self._table("VDI")
        around = Around(
            vbds=self._table("VBD"),
            vdis=vdis,
            places=disk_places(vdis, self._table("SR")),
            vifs=self._table("VIF"),
            networks=self._table("network"),
            metrics=self._table("VM_metrics"),
            guest_metrics=self._table("VM_guest_metrics"),
            autostart=records.wants_autostart(self._pool()),
        )
        self._learn(machines)
        found = (records.guest_info(vm, around) for vm in machines.values() if records.is_guest(vm))
        return list({info.uuid: info for info in found}.values())

    def guest(self, ref: GuestRef) -> GuestInfo:
        _, vm = self._find(ref)
        vbds, vifs = self._rows("VBD", vm, "VBDs"), self._rows("VIF", vm, "VIFs")
        vdis = self._named("VDI", (text(vbd, "VDI") for vbd in vbds.values()))
        around = Around(
            vbds=vbds,
            vdis=vdis,
            places=disk_places(vdis, self._table("SR")) if vdis else {},
            vifs=vifs,
            networks=self._named("network", (text(vif, "network") for vif in vifs.values())),
            metrics=self._named("VM_metrics", (text(vm, "metrics"),)),
            guest_metrics=self._named("VM_guest_metrics", (text(vm, "guest_metrics"),)),
            autostart=records.wants_autostart(vm) and records.wants_autostart(self._pool()),
        )
        return records.guest_info(vm, around)

    def guest_state(self, ref: GuestRef) -> tuple[GuestState, str]:
        _, vm = self._find(ref)
        return records.state_of(vm)

    def guest_or_none(self, ref: GuestRef) -> GuestInfo | None:
        try:
            return self.guest(ref)
        except NotFound:
            return None

    def guests_by_ref(self, refs: Sequence[GuestRef]) -> Sequence[GuestInfo]:
        if len(refs) <= FEW:
            return super().guests_by_ref(refs)
        every = {info.uuid: info for info in self.guests()}
        return [every[ref.uuid] for ref in refs if ref.uuid in every]

    # -- power ------------------------------------------------------------------------------------------------------
    def start(self, ref: GuestRef) -> None:
        opaque, vm = self._find(ref)
        if text(vm, "power_state") == "Suspended":
            self._tasks.run("VM.resume", opaque, False, False, seconds=SAVE_SECONDS)  # noqa: FBT003 - XAPI's: not paused, not forced
        else:
            self._tasks.run("VM.start", opaque, False, False, seconds=START_SECONDS)  # noqa: FBT003

    def shutdown(self, ref: GuestRef) -> None:
        """XAPI waits 20 minutes for the guest; then its task fails, and nobody is told but the guest's state."""
        self._ask(ref, "VM.clean_shutdown")

    def reboot(self, ref: GuestRef) -> None:
        self._ask(ref, "VM.clean_reboot")

    def reset(self, ref: GuestRef) -> None:
        self._need(ref, "Running", "Paused", work="VM.hard_reboot")

    def force_off(self, ref: GuestRef) -> None:
        # XAPI would take it for a suspended guest too, and throw its memory away.
        self._need(ref, "Running", "Paused", work="VM.hard_shutdown")

    def suspend(self, ref: GuestRef) -> None:
        self._need(ref, "Running", work="VM.pause")

    def resume(self, ref: GuestRef) -> None:
        self._need(ref, "Paused", work="VM.unpause")

    def managed_save(self, ref: GuestRef) -> None:
        """XAPI's suspend: the memory goes to a disk of the pool's storage for suspended guests."""
        self._need(ref, "Running", work="VM.suspend", seconds=SAVE_SECONDS)

    def discard_managed_save(self, ref: GuestRef) -> None:
        """XAPI destroys the disk with the memory when a suspended guest is shut down hard."""
        opaque, vm = self._find(ref)
        if text(vm, "power_state") == "Suspended":
            self._tasks.run("VM.hard_shutdown", opaque, seconds=STOP_SECONDS)

    def set_autostart(self, ref: GuestRef, *, enabled: bool) -> None:
        """Mark the guest, and the pool too where nothing else would begin to start by that. Raises Unsafe where it would."""
        opaque, vm = self._find(ref)
        if enabled:
            self._let_pool_start(opaque)
        if enabled is not records.wants_autostart(vm):
            self._wire.call("VM.remove_from_other_config", opaque, records.AUTOSTART)
            if enabled:
                self._wire.call("VM.add_to_other_config", opaque, records.AUTOSTART, "true")

    def undefine(self, ref: GuestRef) -> None:
        """Disks stay, and so do snapshots."""
        opaque, vm = self._find(ref)
        power = text(vm, "power_state")
        if power not in ("Halted", "Suspended"):
            message = "A guest that runs cannot be removed; force it off first."
            raise WrongState(message)
        if power == "Suspended":
            self._tasks.run("VM.hard_shutdown", opaque, seconds=STOP_SECONDS)
        self._tasks.run("VM.destroy", opaque, seconds=STOP_SECONDS)

    def rename(self, ref: GuestRef, name: str) -> None:
        """XenServer lets several guests have one name, and renames running ones; here it is the same everywhere."""
        if not name.strip() or not name.isprintable() or len(name) > NAME_MAX:
            message = f"A name has 1 to {NAME_MAX} characters that can be printed."
            raise InvalidDefinition(message, guest=ref.name)
        opaque, vm = self._find(ref)
        if text(vm, "power_state") != "Halted":
            message = "A guest that runs, or whose memory is saved, cannot be renamed; shut it down first."
            raise WrongState(message, guest=ref.name)
        if any(records.is_guest(one) for key, one in self._like_named(name) if key != opaque):
            message = f"A guest called {name} exists already."
            raise AlreadyExists(message, guest=ref.name)
        self._wire.call("VM.set_name_label", opaque, name)

    def _like_named(self, name: str) -> Iterator[tuple[str, Record]]:
        """Guests, templates and snapshots of this name."""
        answer = self._wire.call("VM.get_by_name_label", name)
        for one in answer if isinstance(answer, list) else ():
            opaque = records.reference(one)
            yield opaque, records.record(self._wire.call("VM.get_record", opaque))

    # -- watching ---------------------------------------------------------------------------------------------------
    def stats(self) -> Sequence[GuestStats]:
        counted = self._counters.read("vm")
        self._sort_out([uuid for uuid in counted if uuid not in self._is_guest])
        return [guest_stats(uuid, each) for uuid, each in counted.items() if self._is_guest.get(uuid, False)]

    def host_stats(self) -> HostStats:
        counted = list(self._counters.read("host").values())
        if not counted:
            message = "The hypervisor has no counters yet."
            raise Unreachable(message)

        def total(name: str) -> int:
            return int(sum(each.gauges.get(name, 0.0) for each in counted) * 1024)

        return HostStats(
            at=max(each.at for each in counted),
            cpu_count=self._cpu_count,
            cpu_busy_seconds=sum(each.totals.get("cpu", 0.0) for each in counted),
            memory_total_bytes=total("memory_total_kib") or None,
            memory_free_bytes=total("memory_free_kib") if total("memory_total_kib") else None,
        )

    def subscribe(self, sink: Callable[[GuestEvent], None]) -> None:
        watch = self._watch()
        try:
            watch.news(sink)
        except DriverError:
            watch.stop()
            with self._lock:
                # What has no thread notices no loss: `on_close` must not count on it.
                self._watches = [each for each in self._watches if each is not watch]
            raise

    # -- consoles ---------------------------------------------------------------------------------------------------
    def open_console(self, ref: GuestRef, kind: str, *, take_over: bool = False) -> XapiConsole:
        """XAPI lets any number of people look at a screen, unless the pool limits it."""
        del take_over
        feature = Feature(f"console.{kind}")
        if not self._capabilities[feature].supported:
            raise self.unsupported(feature)
        _, vm = self._find(ref)
        if text(vm, "power_state") != "Running":
            message = "The guest does not run: it has no screen."
            raise WrongState(message)
        found = self._named("console", records.references(vm, "consoles"))
        screen = next((name for name, row in found.items() if text(row, "protocol") == "rfb"), None)
        if screen is None:
            message = "This guest has no screen."
            raise Unsupported(message)
        address = urlsplit(text(found[screen], "location"))
        # The path is XAPI's own, the host is not believed: it is the guest's, and that is looked up.
        path = address.path if re.fullmatch(r"/[a-z_]{1,40}", address.path) else "/console"
        at = self._members.target(text(vm, "resident_on"))
        status, tunnel = self._wire.tunnel(f"{path}?ref={_quoted(screen)}", at=at)
        if status == 503:
            message = "Somebody else looks at this screen, and the pool allows one at a time."
            raise ConsoleBusy(message)
        if status != 200:
            raise refusal(status, (at or self._wire.target).host)
        return XapiConsole(tunnel)

    # -- life -------------------------------------------------------------------------------------------------------
    def alive(self) -> bool:
        return not self._lost and not self._wire.closed

    def on_close(self, callback: Callable[[str], None]) -> None:
        """Where nobody listens to news, a heartbeat begins here."""
        with self._lock:
            lost = self._lost
            if not lost:
                self._on_close.append(callback)
            beats = bool(self._watches)
        if lost:
            callback(lost)
        elif not beats:
            here = self._members.here
            try:
                watch = self._watch()
            except Unreachable:
                return  # closed on this side, which is no loss; or lost just now, which has been told
            watch.heartbeat(lambda seconds: self._wire.call("host.get_servertime", here, seconds=seconds))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            watches, self._watches = self._watches, []
        for watch in watches:
            watch.stop()
        self._wire.close()

    def _watch(self) -> Watch:
        watch = Watch(self._another(), self._gone)
        with self._lock:
            if self._closed or self._lost:
                message = "The connection is closed."
                raise Unreachable(message)
            self._watches.append(watch)
        return watch

    def _gone(self, reason: str) -> None:
        with self._lock:
            if self._lost:
                return
            self._lost = reason or "The connection was lost."
            callbacks, self._on_close = self._on_close, []
        self._wire.abandon()
        for callback in callbacks:
            callback(self._lost)

    # -- reading ----------------------------------------------------------------------------------------------------
    def _table(self, name: str) -> Table:
        return records.table(self._wire.call(f"{name}.get_all_records"))

    def _pool(self) -> Record:
        return records.pool_of(self._table("pool"))

    def _rows(self, name: str, vm: Record, field: str) -> Table:
        return self._named(name, records.references(vm, field))

    def _named(self, name: str, refs: Any) -> Table:
        """The records of these; what is gone meanwhile is left out."""
        found: Table = {}
        for ref in dict.fromkeys(refs):
            if ref and ref != records.NULL:
                try:
                    found[ref] = records.record(self._wire.call(f"{name}.get_record", ref))
                except NotFound:
                    continue
        return found

    def _find(self, ref: GuestRef) -> tuple[str, Record]:
        """The guest's reference and record. Raises NotFound, also for what is no guest."""
        opaque = records.reference(self._wire.call("VM.get_by_uuid", ref.uuid))
        vm = records.record(self._wire.call("VM.get_record", opaque))
        if not records.is_guest(vm):
            message = "This is no guest, but a template, a snapshot or the host's own domain."
            raise NotFound(message, guest=ref.name)
        return opaque, vm

    # -- acting -----------------------------------------------------------------------------------------------------
    def _need(self, ref: GuestRef, *states: str, work: str, seconds: float = STOP_SECONDS) -> None:
        opaque, vm = self._find(ref)
        power = text(vm, "power_state")
        if power not in states:
            saved = power == "Suspended"
            now = "off, with its memory saved" if saved else records.STATES.get(power, "in an unknown state")
            message = f"The guest is {now}."
            raise WrongState(message, guest=ref.name)
        self._tasks.run(work, opaque, seconds=seconds)

    def _ask(self, ref: GuestRef, work: str) -> None:
        opaque, vm = self._find(ref)
        if text(vm, "power_state") != "Running":
            message = "The guest does not run."
            raise WrongState(message, guest=ref.name)
        self._tasks.begin(work, opaque, seconds=ASK_SECONDS)

    def _let_pool_start(self, opaque: str) -> None:
        pools = self._table("pool")
        pool = records.pool_of(pools)
        if records.wants_autostart(pool):
            return
        others = [
            text(vm, "name_label")
            for ref, vm in self._table("VM").items()
            if ref != opaque and records.is_guest(vm) and records.wants_autostart(vm)
        ]
        if others:
            message = (
                f"The pool's own switch for starting guests is off, and turning it on would make {len(others)} more start"
                f" (such as {others[0]}). Turn it on there: xe pool-param-set uuid={text(pool, 'uuid')}"
                " other-config:auto_poweron=true"
            )
            raise Unsafe(message)
        ref = next(iter(pools))
        self._wire.call("pool.remove_from_other_config", ref, records.AUTOSTART)
        self._wire.call("pool.add_to_other_config", ref, records.AUTOSTART, "true")

    def _probe(self) -> Mapping[Feature, Support]:
        """The driver's best, less what the account's role forbids."""
        allowed = self._members.permissions()

        def support(feature: Feature) -> Support:
            if feature not in self._driver.features:
                return Support(supported=False, reason=self._driver.reasons[feature])
            if allowed is not None and PERMISSIONS.get(feature, "") not in {*allowed, ""}:
                return Support(supported=False, reason=_DENIED)
            return Support(supported=True)

        return {feature: support(feature) for feature in Feature}

    # -- counting ---------------------------------------------------------------------------------------------------
    def _sources(self, old: dict[str, Source]) -> dict[str, Source]:
        """Every living host of the pool, read. One that does not answer is left out, unless it is the one we are connected to."""
        found: dict[str, Source] = {}
        for ref in self._members.hosts():
            source = old.get(ref) or self._source(ref)
            try:
                source.update()
            except DriverError as error:
                if ref == self._members.here or self._wire.closed:
                    raise
                log.info("No counters of a member of the pool at %s: %s", self._wire.target.host, error.detail)
                continue
            found[ref] = source
        return found

    def _source(self, ref: str) -> Source:
        def fetch(path: str) -> bytes:
            return self._wire.get(path, limit=BODY_BYTES, at=self._members.target(ref))

        return Source(fetch, lambda: records.seconds_of(self._wire.call("host.get_servertime", ref)))

    def _sort_out(self, uuids: Sequence[str]) -> None:
        """Learn which of what is counted are guests: the host's own domain is counted too."""
        if len(uuids) > FEW:
            self._learn(self._table("VM"))
            return
        for uuid in uuids:
            try:
                vm = records.record(self._wire.call("VM.get_record", self._wire.call("VM.get_by_uuid", uuid)))
            except NotFound:
                continue  # gone, or just coming
            self._is_guest[uuid] = records.is_guest(vm)

    def _learn(self, machines: Table) -> None:
        self._is_guest = {records.uuid_of(vm): records.is_guest(vm) for vm in machines.values()}


def _quoted(ref: str) -> str:
    """A reference for an address. Raises Garbled when it is none."""
    if not re.fullmatch(r"OpaqueRef:[0-9A-Za-z-]{1,64}", ref):
        message = "The hypervisor's reference cannot be read."
        raise Garbled(message)
    return ref
