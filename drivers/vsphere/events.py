"""vSphere's changes become `GuestEvent`s: a property filter over all machines, waited for on a thread and a session of its own.

`WaitForUpdatesEx` holds the call until something changes, for `WAIT_SECONDS` at most: an answer, empty or not, is also the proof
that the host is there. The thread's end is the connection's: it says so once, and does not try again.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyVmomi import vim

from drivers.errors import DriverError, Timeout
from drivers.types import GuestEvent, GuestEventKind
from drivers.vsphere.collector import query, through_view
from drivers.vsphere.errors import Garbled, translate
from drivers.vsphere.values import flag, identifier, items, text
from drivers.vsphere.wire import method, moid

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.vsphere.wire import Wire

log = logging.getLogger(__name__)

WAIT_SECONDS = 5
SLACK_SECONDS = 8.0
EMPTY_SECONDS = 0.02
"""How much later than promised an answer may come. A dead host is noticed after 13 s."""
LISTEN_SECONDS = 120.0
"""How long the first answers, which tell all that there is, may take: a server that says "there is more" for ever ends too."""

PATHS = (
    "name",
    "config.annotation",
    "config.changeVersion",
    "config.hardware.memoryMB",
    "config.hardware.numCPU",
    "config.instanceUuid",
    "config.template",
    "config.uuid",
    "runtime.bootTime",
    "runtime.connectionState",
    "runtime.powerState",
    "snapshot",
)

_LIFE = {
    ("poweredOff", "poweredOn"): "started/booted",
    ("suspended", "poweredOn"): "resumed/powered_on",
    ("poweredOn", "suspended"): "suspended/to_disk",
    ("poweredOff", "suspended"): "suspended/to_disk",
    ("poweredOn", "poweredOff"): "stopped/powered_off",
    ("suspended", "poweredOff"): "stopped/powered_off",
}
_ENTERED = {"poweredOn": "started/found_running", "suspended": "suspended/found_suspended"}


@dataclass
class Known:
    """What was last heard of one machine."""

    uuid: str = ""
    bios_uuid: str = ""
    name: str = ""
    power: str = ""
    template: bool = False
    told: bool = False
    """Whether the sinks have heard of it as a guest."""


class EventTap:
    """Waits for changes on a wire of its own, and hands them to any number of sinks.

    Args:
        connect: Opens a signed-in wire of this tap's own; blocks, raises DriverError.
        look: Makes the container view of all guests on that wire.
        name_of: The UUID that the session has given a machine, by its managed object id; "" where it has none yet.
        lost: Called once, from the tap's thread, when it ends and nobody closed it.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], Wire],
        look: Callable[[Wire], Any],
        name_of: Callable[[str], str],
        lost: Callable[[str], None],
    ) -> None:
        self._connect = connect
        self._look = look
        self._name_of = name_of
        self._lost = lost
        self._lock = threading.Lock()
        self._sinks: tuple[Callable[[GuestEvent], None], ...] = ()
        self._known: dict[str, Known] = {}
        self._wire: Wire | None = None
        self._thread: threading.Thread | None = None
        self._listening = threading.Event()
        self._error: DriverError | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin to wait, on a thread of its own; nothing happens where it has begun."""
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="vsphere-events", daemon=True)
                self._thread.start()

    def add(self, sink: Callable[[GuestEvent], None]) -> None:
        """Send to `sink` too; what changes after this has returned is told. Blocks until the thread listens. Raises DriverError."""
        self.start()
        if not self._listening.wait(LISTEN_SECONDS):
            message = "The hypervisor does not come to an end of telling what there is."
            raise Timeout(message)
        if self._error is not None:
            raise self._error
        with self._lock:
            self._sinks = (*self._sinks, sink)

    def close(self) -> None:
        """End the thread. Never raises; may be called twice."""
        with self._lock:
            self._stop.set()
            wire = self._wire
        if wire is not None:
            wire.close()
        self._listening.set()

    def _run(self) -> None:
        reason = ""
        try:
            with translate():
                self._listen()
        except DriverError as error:
            self._error = error
            reason = error.detail.rstrip(".")
        self._listening.set()
        with self._lock:
            self._sinks = ()
            closed = self._stop.is_set()
        if not closed:
            self._lost(reason or "the hypervisor's events ended")
        wire = self._wire
        if wire is not None:
            wire.close()

    def _listen(self) -> None:
        wire = self._connect()
        with self._lock:
            self._wire = wire
            closed = self._stop.is_set()
        if closed:
            return
        collector = wire.service("propertyCollector").CreatePropertyCollector()
        if not isinstance(collector, query):
            message = "The hypervisor gives no events."
            raise Garbled(message)
        view = self._look(wire)
        collector.CreateFilter(through_view(view, vim.VirtualMachine, PATHS), partialUpdates=True)
        version = ""
        while not self._stop.is_set():
            updates = self._wait(wire, collector, version)
            at = time.monotonic()
            if updates is None:
                self._stop.wait(EMPTY_SECONDS)  # a server that answers at once, with nothing, must not keep a core busy
                continue
            version = text(updates.version)
            if not version:
                message = "The hypervisor's events cannot be read."
                raise Garbled(message)
            for changes in items(updates.filterSet):
                for change in items(getattr(changes, "objectSet", None)):
                    self._take(change, at)
            if not self._listening.is_set() and updates.truncated is not True:
                self._listening.set()

    def _wait(self, wire: Wire, collector: Any, version: str) -> Any:
        """Changes since `version`, None when nothing changed. Raises faults and DriverErrors."""
        options = query.WaitOptions(maxWaitSeconds=WAIT_SECONDS)
        updates = wire.invoke(
            collector, method(collector, "WaitForUpdatesEx"), (version, options), seconds=WAIT_SECONDS + SLACK_SECONDS
        )
        return updates if isinstance(updates, query.UpdateSet) else None

    def _take(self, change: Any, at: float) -> None:
        if not isinstance(change, query.ObjectUpdate) or change.obj is None:
            return
        name = moid(change.obj)
        if change.kind == "leave":
            known = self._known.pop(name, None)
            if known is not None and known.told:
                self._send(name, known, GuestEventKind.UNDEFINED, "undefined/unregistered", at)
            return
        known = self._known.setdefault(name, Known())
        before = known.power
        words = self._learn(known, items(change.changeSet))
        if known.template or not (known.uuid or known.bios_uuid):
            if known.told:
                known.told = False
                self._send(name, known, GuestEventKind.UNDEFINED, "undefined/made_a_template", at)
            return
        if not known.told:
            known.told = True
            self._send(name, known, GuestEventKind.DEFINED, "defined/added", at)
            if known.power in _ENTERED:
                self._send(name, known, GuestEventKind.CHANGED, _ENTERED[known.power], at)
            return
        snapshots = any(text(getattr(each, "name", None)).startswith("snapshot") for each in items(change.changeSet))
        if before != known.power:
            reason = _LIFE.get((before, known.power), "changed/power")
            self._send(name, known, GuestEventKind.CHANGED, reason, at, snapshots=snapshots)
        elif words:
            reason = "changed/" + ",".join(words)
            self._send(name, known, GuestEventKind.CHANGED, reason, at, snapshots=snapshots)

    def _learn(self, known: Known, changes: list[Any]) -> list[str]:
        """Take the new values in; what changed, in words for the log."""
        words = []
        for each in changes:
            name, value = text(getattr(each, "name", None)), getattr(each, "val", None)
            match name:
                case "name":
                    known.name = text(value)
                case "config.instanceUuid":
                    known.uuid = identifier(value)
                case "config.uuid":
                    known.bios_uuid = identifier(value)
                case "config.template":
                    known.template = flag(value) is True
                case "runtime.powerState":
                    known.power = text(value)
            words.append(name.rpartition(".")[2][:40])
        return words

    def _send(
        self, number: str, known: Known, kind: GuestEventKind, reason: str, at: float, *, snapshots: bool = False
    ) -> None:
        if not self._listening.is_set():
            return  # what is there at the start is no news
        uuid = self._name_of(number) or known.uuid or known.bios_uuid
        event = GuestEvent(uuid=uuid, name=known.name or uuid, kind=kind, reason=reason, at=at, snapshots=snapshots)
        for sink in self._sinks:
            try:
                sink(event)
            except Exception:
                # One sink's bug must not cost the others their news, nor the session its connection.
                log.exception("event sink failed")
