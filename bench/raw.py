"""libvirt as it is, through its Python binding: the floor that everything is held against. No code of the product."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import libvirt

from tests.labs.local import QEMU_URI, ensure_libvirtd, make_bootsector_guest, unique_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.labs.local import Guest

_started = threading.Lock()
_running = False


def ensure_event_loop() -> None:
    """The library's own event loop on a thread of its own, before the first connection."""
    global _running  # noqa: PLW0603 - one loop a process is libvirt's rule
    with _started:
        if not _running:
            libvirt.registerErrorHandler(lambda *_: None, None)
            libvirt.virEventRegisterDefaultImpl()
            threading.Thread(target=_turn, name="raw-libvirt-events", daemon=True).start()
            _running = True


def _turn() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


@contextlib.contextmanager
def connected(uri: str = QEMU_URI) -> Iterator[libvirt.virConnect]:
    """A connection of our own, with the event loop turning."""
    ensure_event_loop()
    connection = libvirt.open(uri)
    try:
        yield connection
    finally:
        connection.close()


class LifecycleEars:
    """When libvirt's own callback was called for one domain, newest last; `arrived` wakes whoever waits."""

    def __init__(self, connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
        self._connection = connection
        self._condition = threading.Condition()
        self._heard: list[tuple[int, float]] = []
        self._id = connection.domainEventRegisterAny(domain, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._called, None)

    def _called(self, _connection: object, _domain: object, event: int, _detail: int, _opaque: None) -> None:
        now = time.monotonic()
        with self._condition:
            self._heard.append((event, now))
            self._condition.notify_all()

    def wait(self, event: int, *, since: float, seconds: float = 10.0) -> float:
        """When the first `event` after `since` was heard."""
        found: list[float] = []

        def there() -> bool:
            found[:] = [at for kind, at in self._heard if kind == event and at >= since]
            return bool(found)

        with self._condition:
            if not self._condition.wait_for(there, seconds):
                raise TimeoutError(f"libvirt told no lifecycle event {event} within {seconds:g} s")
        return found[0]

    def close(self) -> None:
        """Hear no more."""
        with contextlib.suppress(libvirt.libvirtError):
            self._connection.domainEventDeregisterAny(self._id)


@contextlib.contextmanager
def boot_sector_guest(*, start: bool) -> Iterator[Guest]:
    """The smallest guest that QEMU runs, on this machine's libvirtd, gone afterwards."""
    ensure_libvirtd()
    guest = make_bootsector_guest(name=unique_name("bench"))
    try:
        if start:
            guest.start()
        yield guest
    finally:
        guest.remove()


def read_everything(paths: Sequence[Path]) -> tuple[int, float]:
    """Open each test-driver host, list its guests and read each one's state and XML: how many, and how long that took."""
    ensure_event_loop()
    since = time.monotonic()
    connections = []
    count = 0
    for path in paths:
        connection = libvirt.open(f"test://{path}")
        connections.append(connection)
        for domain in connection.listAllDomains(0):
            domain.info()
            domain.XMLDesc(0)
            count += 1
    seconds = time.monotonic() - since
    for connection in connections:
        connection.close()
    return count, seconds
