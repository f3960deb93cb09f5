"""Libvirt's callbacks become `GuestEvent`s and `HoldingEvent`s. Runs on the event thread: copy, call the sinks, leave.

No libvirt call but the local `name()` and `UUIDString()`, no log formatting on the good path, no exception out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import libvirt

from drivers.libvirtd import states
from drivers.types import GuestEvent, GuestEventKind, Holding, HoldingEvent

if TYPE_CHECKING:
    from drivers.types import News

log = logging.getLogger(__name__)

_Calls = tuple[Callable[..., int], Callable[[int], object]]
"""Register, deregister."""

# What changes a row or a state. Left out on purpose: GRAPHICS (somebody looks), RTC_CHANGE (each boot), MIGRATION_ITERATION
# and BLOCK_THRESHOLD (progress), IO_ERROR, BLOCK_JOB (their *_REASON and *_2 twins say more), PMSUSPEND and PMWAKEUP
# (LIFECYCLE tells them too).
USEFUL: dict[int, str] = {
    libvirt.VIR_DOMAIN_EVENT_ID_REBOOT: "reboot",
    libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE: "metadata_change",
    libvirt.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE: "balloon_change",
    libvirt.VIR_DOMAIN_EVENT_ID_TUNABLE: "tunable",
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED: "device_added",
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED: "device_removed",
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED: "device_removal_failed",
    libvirt.VIR_DOMAIN_EVENT_ID_DISK_CHANGE: "disk_change",
    libvirt.VIR_DOMAIN_EVENT_ID_TRAY_CHANGE: "tray_change",
    libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2: "block_job",
    libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED: "job_completed",
    libvirt.VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE: "memory_device_size_change",
    libvirt.VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE: "memory_failure",
    libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE: "agent_lifecycle",
    libvirt.VIR_DOMAIN_EVENT_ID_WATCHDOG: "watchdog",
    libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON: "io_error",
    libvirt.VIR_DOMAIN_EVENT_ID_CONTROL_ERROR: "control_error",
}

POOL_NEWS: dict[int, str] = {
    libvirt.VIR_STORAGE_POOL_EVENT_DEFINED: "defined",
    libvirt.VIR_STORAGE_POOL_EVENT_UNDEFINED: "undefined",
    libvirt.VIR_STORAGE_POOL_EVENT_STARTED: "started",
    libvirt.VIR_STORAGE_POOL_EVENT_STOPPED: "stopped",
    libvirt.VIR_STORAGE_POOL_EVENT_CREATED: "created",
    libvirt.VIR_STORAGE_POOL_EVENT_DELETED: "deleted",
}
NETWORK_NEWS: dict[int, str] = {
    libvirt.VIR_NETWORK_EVENT_DEFINED: "defined",
    libvirt.VIR_NETWORK_EVENT_UNDEFINED: "undefined",
    libvirt.VIR_NETWORK_EVENT_STARTED: "started",
    libvirt.VIR_NETWORK_EVENT_STOPPED: "stopped",
}


class EventTap:
    """Registers the useful events of one connection, and hands them to any number of sinks.

    libvirt takes one callback an event and connection ("already tracked" else, measured), so one tap serves all.
    """

    def __init__(self, connection: libvirt.virConnect) -> None:
        self._connection: libvirt.virConnect | None = connection
        self._lock = threading.Lock()
        self._registered: list[Callable[[], object]] = []
        self._sinks: tuple[Callable[[News], None], ...] = ()

    def add(self, sink: Callable[[News], None]) -> None:
        """Send to `sink` too. Registers on first use: some round trips.

        Raises:
            libvirt.libvirtError: NO_SUPPORT where the connection has no events.
        """
        with self._lock:
            if not self._registered and self._connection is not None:
                self._register(self._connection)
            self._sinks = (*self._sinks, sink)

    def remove(self, sink: Callable[[News], None]) -> None:
        """Send to `sink` no more; the others still hear."""
        with self._lock:
            self._sinks = tuple(each for each in self._sinks if each is not sink)

    def probe(self) -> None:
        """Find out whether there are events, and leave no trace: not every connection should be sent them.

        Raises:
            libvirt.libvirtError: NO_SUPPORT where the connection has no events.
        """
        with self._lock:
            if self._registered or self._connection is None:
                return
            number = self._connection.domainEventRegisterAny(
                None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle, None
            )
            self._connection.domainEventDeregisterAny(number)

    def drop(self) -> None:
        """Let libvirt forget us: no callback holds the session any more. Some round trips; never raises."""
        with self._lock:
            connection, self._connection, self._sinks = self._connection, None, ()
            registered, self._registered = self._registered, []
        for forget in registered:
            try:
                if connection is not None:
                    forget()
            except (libvirt.libvirtError, SystemError):
                continue

    def _register(self, connection: libvirt.virConnect) -> None:
        guests = connection.domainEventRegisterAny, connection.domainEventDeregisterAny
        pools = connection.storagePoolEventRegisterAny, connection.storagePoolEventDeregisterAny
        networks = connection.networkEventRegisterAny, connection.networkEventDeregisterAny
        self._take(guests, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle, None)
        wishes: list[tuple[_Calls, int, Callable[..., None], str]] = [
            *((guests, number, self._on_other, word) for number, word in USEFUL.items()),
            (pools, libvirt.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE, self._on_pool, "pool"),
            (pools, libvirt.VIR_STORAGE_POOL_EVENT_ID_REFRESH, self._on_pool_refreshed, "pool_refresh"),
            (networks, libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE, self._on_network, "network"),
        ]
        for calls, number, callback, word in wishes:
            try:
                self._take(calls, number, callback, word)
            except libvirt.libvirtError as error:
                # An older daemon or a smaller driver: lifecycle is what is needed, the rest is a gain.
                log.debug("event not offered", extra={"event": word, "libvirt_code": error.get_error_code()})

    def _take(self, calls: _Calls, number: int, callback: Callable[..., None], opaque: str | None) -> None:
        register, deregister = calls
        callback_id = register(None, number, callback, opaque)
        self._registered.append(lambda: deregister(callback_id))

    def _on_lifecycle(
        self, _connection: libvirt.virConnect, domain: libvirt.virDomain, event: int, detail: int, _opaque: None
    ) -> None:
        kind, reason = states.lifecycle(event, detail)
        self._send(domain, kind, reason, snapshots=(event, detail) in states.SNAPSHOT_SIGNS)

    def _on_other(self, _connection: libvirt.virConnect, domain: libvirt.virDomain, *rest: object) -> None:
        self._send(domain, GuestEventKind.CHANGED, str(rest[-1]))

    def _send(self, domain: libvirt.virDomain, kind: GuestEventKind, reason: str, *, snapshots: bool = False) -> None:
        self._hand(
            GuestEvent(
                uuid=domain.UUIDString(),
                name=domain.name(),
                kind=kind,
                reason=reason,
                at=time.monotonic(),
                snapshots=snapshots,
            )
        )

    def _on_pool(
        self, _connection: libvirt.virConnect, pool: libvirt.virStoragePool, event: int, _detail: int, _opaque: str
    ) -> None:
        reason = POOL_NEWS.get(event, str(event))
        self._hand(HoldingEvent(kind=Holding.POOL, name=pool.name(), reason=reason))

    def _on_pool_refreshed(self, _connection: libvirt.virConnect, pool: libvirt.virStoragePool, _opaque: str) -> None:
        self._hand(HoldingEvent(kind=Holding.POOL, name=pool.name(), reason="refreshed"))

    def _on_network(
        self, _connection: libvirt.virConnect, network: libvirt.virNetwork, event: int, _detail: int, _opaque: str
    ) -> None:
        reason = NETWORK_NEWS.get(event, str(event))
        self._hand(HoldingEvent(kind=Holding.NETWORK, name=network.name(), reason=reason))

    def _hand(self, event: News) -> None:
        for sink in self._sinks:
            try:
                sink(event)
            except Exception:
                # An exception in a C callback is printed by the binding and lost, and the other sinks with it.
                log.exception("event sink failed")
