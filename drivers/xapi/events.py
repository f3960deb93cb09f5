"""News of one XAPI: `event.from` on an own thread with an own login, or, where nobody subscribed, a heartbeat.

XAPI tells which objects changed, not what happened; what happened is told by comparing with what was known. Of changes that follow
each other closely only the last is told.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from drivers.errors import DriverError
from drivers.types import GuestEvent, GuestEventKind
from drivers.xapi.errors import Garbled, news_were_lost
from drivers.xapi.records import Event, events, is_guest, mapping, references, state_of, text, uuid_of, wants_autostart

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from drivers.xapi.wire import Wire

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
"""How long XAPI may keep a question open when there is nothing to tell."""
GRACE_SECONDS = 9.0
"""With the one before: a host that hangs is noticed within 14 s."""
HEARTBEAT_SECONDS = 8.0
HEARTBEAT_CALL_SECONDS = 6.0
CLASSES = ["vm", "vbd", "vif"]

_WORDS = {
    ("Halted", "Running"): "started/booted",
    ("Halted", "Paused"): "started/paused",
    ("Suspended", "Running"): "started/restored",
    ("Suspended", "Paused"): "started/paused",
    ("Running", "Paused"): "suspended/paused",
    ("Paused", "Running"): "resumed/unpaused",
}


class _Known:
    """What was last told of one guest."""

    __slots__ = ("facts", "name", "power", "snapshots", "uuid")

    def __init__(self, vm: Mapping[str, Any]) -> None:
        self.uuid = uuid_of(vm)
        self.name = text(vm, "name_label")
        self.power = text(vm, "power_state")
        self.snapshots = (references(vm, "snapshots"), text(vm, "parent"))
        self.facts = (
            self.name, text(vm, "name_description"), state_of(vm), text(vm, "domid"), text(vm, "memory_static_max"),
            text(vm, "memory_dynamic_max"), text(vm, "memory_target"), text(vm, "VCPUs_at_startup"), text(vm, "VCPUs_max"),
            references(vm, "VBDs"), references(vm, "VIFs"), wants_autostart(vm), repr(mapping(vm, "HVM_boot_params")),
            text(vm, "resident_on"), text(vm, "domain_type"),
        )  # fmt: skip


class Ledger:
    """Turns what XAPI tells into our events. To be used by one thread.

    Args:
        sink: Where events go.
    """

    def __init__(self, sink: Callable[[GuestEvent], None]) -> None:
        self._sink = sink
        self._guests: dict[str, _Known] = {}
        self._devices: dict[str, tuple[object, ...]] = {}

    def learn(self, batch: object) -> str:
        """The first answer: all there is, and no news. The token to go on from. Raises Garbled."""
        for event in events(batch):
            self._take(event, tell=False)
        return _token(batch)

    def tell(self, batch: object) -> str:
        """Further news. The token to go on from. Raises Garbled."""
        for event in events(batch):
            self._take(event, tell=True)
        return _token(batch)

    def relearn(self, batch: object) -> str:
        """All there is after news were lost: what differs is told, what is missing is gone. Raises Garbled."""
        there = {event.ref for event in events(batch)}
        token = self.tell(batch)
        for ref in [ref for ref in self._guests if ref not in there]:
            self._gone(ref)
        return token

    def _take(self, event: Event, *, tell: bool) -> None:
        ref, snapshot = event.ref, event.snapshot
        if event.kind != "vm":
            self._device(event, tell=tell)
        elif event.operation == "del" or not is_guest(snapshot):
            self._gone(ref)  # deleted, or made a template
        else:
            before, now = self._guests.get(ref), _Known(snapshot)
            self._guests[ref] = now
            if not tell:
                return
            if before is None:
                self._say(now, GuestEventKind.DEFINED, "defined")
                if now.power != "Halted":
                    self._say(now, GuestEventKind.CHANGED, _WORDS.get(("Halted", now.power), "changed"))
            elif before.facts != now.facts or before.snapshots != now.snapshots:
                kept = before.snapshots != now.snapshots
                self._say(now, GuestEventKind.CHANGED, _word(before, now), snapshots=kept)

    def _device(self, event: Event, *, tell: bool) -> None:
        """Disks and interfaces change without their guest's record changing (a CD is put in). Plugging is no news."""
        ref, snapshot = event.ref, event.snapshot
        if event.operation == "del":
            self._devices.pop(ref, None)
            return
        facts = tuple(text(snapshot, name) for name in ("VM", "VDI", "mode", "device", "network", "MAC"))
        before = self._devices.get(ref)
        self._devices[ref] = facts
        owner = self._guests.get(text(snapshot, "VM"))
        if tell and before is not None and before != facts and owner is not None:
            self._say(owner, GuestEventKind.CHANGED, f"changed/{event.kind}")

    def _gone(self, ref: str) -> None:
        known = self._guests.pop(ref, None)
        if known is not None:
            self._say(known, GuestEventKind.UNDEFINED, "undefined")

    def _say(self, known: _Known, kind: GuestEventKind, reason: str, *, snapshots: bool = False) -> None:
        event = GuestEvent(
            uuid=known.uuid, name=known.name, kind=kind, reason=reason, at=time.monotonic(), snapshots=snapshots
        )
        try:
            self._sink(event)
        except Exception:
            log.exception("What takes the news of a guest has a bug.")


def _word(before: _Known, now: _Known) -> str:
    if before.power == now.power:
        restarted = now.power == "Running" and before.facts[3] != now.facts[3]
        return "started/rebooted" if restarted else "changed"
    if now.power == "Halted":
        return "stopped/halted"
    if now.power == "Suspended":
        return "stopped/saved"
    return _WORDS.get((before.power, now.power), "changed")


def _token(batch: object) -> str:
    token = batch.get("token") if isinstance(batch, dict) else None
    if not isinstance(token, str) or not token:
        message = "The hypervisor's news have no token to go on from."
        raise Garbled(message)
    return token


class Watch:
    """The thread that notices: news if somebody wants them, and in any case that the host is gone.

    Args:
        wire: An own login, closed by `stop`.
        lost: Called once, with the reason, from the thread.
    """

    def __init__(self, wire: Wire, lost: Callable[[str], None]) -> None:
        self._wire = wire
        self._lost = lost
        self._stopped = threading.Event()

    def news(self, sink: Callable[[GuestEvent], None]) -> None:
        """Learn what there is, then tell what changes. Raises DriverError when that does not even begin."""
        self._wire.login()
        ledger = Ledger(sink)
        token = ledger.learn(self._ask(""))
        threading.Thread(
            target=self._run, args=(lambda: self._listen(ledger, token),), name="xapi-news", daemon=True
        ).start()

    def heartbeat(self, beat: Callable[[float], object]) -> None:
        """Only notice the loss: `beat(seconds)` asks something cheap."""

        def work() -> None:
            while not self._stopped.wait(HEARTBEAT_SECONDS):
                beat(HEARTBEAT_CALL_SECONDS)

        threading.Thread(target=self._run, args=(work,), name="xapi-heartbeat", daemon=True).start()

    def stop(self) -> None:
        """No more news, and no loss is told. Never raises."""
        self._stopped.set()
        self._wire.close()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except DriverError as error:
            if not self._stopped.is_set():
                self._lost(error.detail)

    def _listen(self, ledger: Ledger, token: str) -> None:
        while not self._stopped.is_set():
            try:
                token = ledger.tell(self._ask(token))
            except DriverError as error:
                if not news_were_lost(error):
                    raise
                token = ledger.relearn(self._ask(""))

    def _ask(self, token: str) -> object:
        return self._wire.call("event.from", CLASSES, token, POLL_SECONDS, seconds=POLL_SECONDS + GRACE_SECONDS)
