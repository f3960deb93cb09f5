"""Libvirt's callbacks become `GuestEvent`s. Runs on the event thread: copy, call the sinks, leave.

No libvirt call but the local `name()` and `UUIDString()`, no log formatting on the good path, no exception out.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import libvirt

from drivers.libvirtd import states
from drivers.types import GuestEvent, GuestEventKind

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

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


class EventTap:
    """Registers the useful events of one connection, and hands them to any number of sinks.

    libvirt takes one callback an event and connection ("already tracked" else, measured), so one tap serves all.
    """

    def __init__(self, connection: libvirt.virConnect) -> None:
        self._connection: libvirt.virConnect | None = connection
        self._lock = threading.Lock()
        self._registered: list[int] = []
        self._sinks: tuple[Callable[[GuestEvent], None], ...] = ()

    def add(self, sink: Callable[[GuestEvent], None]) -> None:
        """Send to `sink` too. Registers on first use: some round trips.

        Raises:
            libvirt.libvirtError: NO_SUPPORT where the connection has no events.
        """
        with self._lock:
            if not self._registered and self._connection is not None:
                self._register(self._connection)
            self._sinks = (*self._sinks, sink)

    def remove(self, sink: Callable[[GuestEvent], None]) -> None:
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
        for callback_id in registered:
            try:
                if connection is not None:
                    connection.domainEventDeregisterAny(callback_id)
            except (libvirt.libvirtError, SystemError):
                continue

    def _register(self, connection: libvirt.virConnect) -> None:
        self._registered.append(
            connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle, None)
        )
        for number, word in USEFUL.items():
            try:
                self._registered.append(connection.domainEventRegisterAny(None, number, self._on_other, word))
            except libvirt.libvirtError as error:
                # An older daemon or a smaller driver: lifecycle is what is needed, the rest is a gain.
                log.debug("event not offered", extra={"event": word, "libvirt_code": error.get_error_code()})

    def _on_lifecycle(
        self, _connection: libvirt.virConnect, domain: libvirt.virDomain, event: int, detail: int, _opaque: None
    ) -> None:
        kind, reason = states.lifecycle(event, detail)
        self._send(domain, kind, reason, snapshots=(event, detail) in states.SNAPSHOT_SIGNS)

    def _on_other(self, _connection: libvirt.virConnect, domain: libvirt.virDomain, *rest: object) -> None:
        self._send(domain, GuestEventKind.CHANGED, str(rest[-1]))

    def _send(self, domain: libvirt.virDomain, kind: GuestEventKind, reason: str, *, snapshots: bool = False) -> None:
        event = GuestEvent(
            uuid=domain.UUIDString(),
            name=domain.name(),
            kind=kind,
            reason=reason,
            at=time.monotonic(),
            snapshots=snapshots,
        )
        for sink in self._sinks:
            try:
                sink(event)
            except Exception:
                # An exception in a C callback is printed by the binding and lost, and the other sinks with it.
                log.exception("event sink failed")
