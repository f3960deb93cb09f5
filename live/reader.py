"""The event log's reader: one a web process, on the server's loop. Reads each new row once, in order, for all local listeners.

A ring (from this process or over the channel layer) says that there is more; the rows are the truth, so a ring only ever
leads to a look, rings that come during a read are folded into one more, and a look each few seconds makes up for lost ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from channels.layers import InMemoryChannelLayer, get_channel_layer

from events import bell
from events import log as event_log
from live.database import OwnThread
from live.sight import GUARDED, event_json, whole
from live.wants import SAMPLE

if TYPE_CHECKING:
    from accounts.actor import Actor
    from events.models import Event
    from live.subscriber import Subscriber

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 5.0
PACE_SECONDS = 0.004
"""Between two looks, so that a burst of small commits is read in few reads. An event that comes alone never waits for it."""
BATCH = 1000
RETRY_SECONDS_MOST = 5.0
SIGN_OUT = "audit.sign_out"
FAN_OUT_SLICE = 50
"""Listeners served before the loop may do something else."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event, ready to send: made once, shared by all listeners."""

    seq: int
    type: str
    object: str
    text: str
    ends_session: str = ""
    """SHA-256 of the key of the browser session that ends with this event."""
    less: str = ""
    """The text for those who may not see all of it (`live.sight.GUARDED`); empty where there is nothing to hide."""

    def for_actor(self, actor: Actor) -> Entry:
        """As `actor` may see it. No query."""
        return self if not self.less or whole(actor, self.type) else replace(self, text=self.less)


class SampleEntry:
    """One metric sample, ready to send; its text is made when the first listener wants it."""

    seq = 0
    type = SAMPLE

    def __init__(self, sample: dict[str, Any]) -> None:
        self.object: str = sample["object"]
        self._sample = sample

    def for_actor(self, actor: Actor) -> SampleEntry:
        """There is nothing to hide."""
        del actor
        return self

    @cached_property
    def text(self) -> str:
        """The message of the contract; `object` has the shape that it has in events."""
        kind, _, identity = self.object.partition("/")
        name = self._sample.get("object_name", "")
        return encode(
            {
                "type": SAMPLE,
                "object": {"type": kind, "id": identity, "name": name},
                "at": self._sample["at"],
                "data": self._sample["data"],
            }
        )


def encode(message: dict[str, Any]) -> str:
    """JSON on one line."""
    return json.dumps(message, separators=(",", ":"))


def entries_after(seq: int, limit: int) -> list[Entry]:
    """Rows above `seq`, oldest first, ready to send. A query."""
    return [_entry(row) for row in event_log.after(seq, limit=limit)]


def _entry(row: Event) -> Entry:
    session = str(row.data.get("session", "")) if row.type == SIGN_OUT else ""
    less = encode(event_json(row, whole=False)) if row.type in GUARDED else ""
    return Entry(row.seq, row.type, row.object, encode(event_json(row, whole=True)), session, less)


class EventReader:
    """See the module. All methods run on its loop; nothing here blocks it.

    Attributes:
        last: The log is handed out up to here.
        ready: Set once `last` is known.
        drained: The server is going down; listeners end.
    """

    def __init__(self) -> None:
        self.last = 0
        self.reads = 0
        self.ready = asyncio.Event()
        self.drained = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._subscribers: dict[Subscriber, None] = {}  # in the order they came
        self._thread = OwnThread("vmm-event-reader")
        self._tasks: list[asyncio.Task[None]] = []

    # -- life ----------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begin to follow the log. Returns at once, also while the database is out of reach."""
        bell.listen(self, self.loop)
        self._tasks = [self.loop.create_task(self._follow(), name="event-reader")]
        if not isinstance(get_channel_layer(), InMemoryChannelLayer | None):
            self._tasks.append(self.loop.create_task(self._hear(), name="event-reader-layer"))

    async def stop(self) -> None:
        """End; listeners end too."""
        bell.unlisten(self)
        self.drain()
        ending = set(self._tasks)
        while ending:
            for task in ending:
                task.cancel()
            # Asked again: the Redis client was seen to swallow a cancellation that met it while it connected.
            _, ending = await asyncio.wait(ending, timeout=0.5)
        await self._thread.close()

    def drain(self) -> None:
        """The server is going down: streams end now, so that nothing waits for them."""
        self.drained.set()
        for subscriber in self._subscribers:
            subscriber.drain()

    def add(self, subscriber: Subscriber) -> None:
        """Hand what comes to `subscriber` too."""
        self._subscribers[subscriber] = None
        if self.drained.is_set():
            subscriber.drain()

    def discard(self, subscriber: Subscriber) -> None:
        """It has gone."""
        self._subscribers.pop(subscriber, None)

    def count(self, user: object) -> int:
        """How many listeners the user with this key has here. Callable from any thread."""
        return sum(1 for subscriber in list(self._subscribers) if subscriber.user == user)

    # -- rings ---------------------------------------------------------------------------------------------------------
    def rung(self, seq: int) -> None:
        """The log reaches `seq`: have a look, unless that was read already."""
        if seq > self.last:
            self._wake.set()

    def sampled(self, samples: list[dict[str, Any]]) -> None:
        """Samples for those who named them."""
        listeners = [subscriber for subscriber in self._subscribers if subscriber.wants_samples]
        if listeners:
            entries = [SampleEntry(sample) for sample in samples]
            for subscriber in listeners:
                subscriber.offer_samples(entries)

    async def _hear(self) -> None:
        """Rings of other processes, over the channel layer; a layer out of reach is asked again and again."""
        layer: Any = get_channel_layer()
        failures = 0
        while not self.drained.is_set():
            try:
                channel = await layer.new_channel()
                await layer.group_add(bell.GROUP, channel)
                await layer.group_add(bell.SAMPLES_GROUP, channel)
                self._wake.set()  # what was rung until now
                failures = 0
                while True:
                    message = await layer.receive(channel)
                    if message["type"] == "ring":
                        self.rung(message["seq"])
                    elif message["type"] == "samples" and message["from"] != bell.ORIGIN:
                        self.sampled(message["samples"])
            except Exception:
                if not failures:
                    log.warning("the channel layer is out of reach; events come late until it is back", exc_info=True)
                failures += 1
                await asyncio.sleep(min(0.2 * 2**failures, RETRY_SECONDS_MOST))

    # -- rows ----------------------------------------------------------------------------------------------------------
    async def _follow(self) -> None:
        failures = 0
        while True:
            try:
                await self._look()
            except Exception:
                # The reader outlives whatever a database can throw; without it every page would stand still and look alive.
                if not failures:
                    log.exception("cannot read the event log; trying again")
                failures += 1
                await asyncio.sleep(min(0.1 * 2**failures, RETRY_SECONDS_MOST))
                continue
            if failures:
                log.info("the event log can be read again")
            failures = 0
            await asyncio.sleep(PACE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_SECONDS):
                    await self._wake.wait()

    async def _look(self) -> None:
        if not self.ready.is_set():
            self.last = await self._thread.run(event_log.last_seq)
            self.ready.set()
        while True:
            self._wake.clear()
            if not self._subscribers:
                # Nobody listens: a sweep of thousands of guests need not be read and encoded for nobody.
                last = await self._thread.run(event_log.last_seq)
                if not self._subscribers:  # nor came in the meantime: who comes now begins at the mark
                    self.last = max(self.last, last)
                    bell.heard(self.last)
                    return
            entries = await self._thread.run(entries_after, self.last, BATCH)
            self.reads += 1
            if entries:
                # First the mark, then the handing out: whoever subscribes in between reads up to the mark by himself.
                self.last = entries[-1].seq
                bell.heard(self.last)
                await self._hand_out(entries)
            if len(entries) < BATCH:
                return

    async def _hand_out(self, entries: list[Entry]) -> None:
        for number, subscriber in enumerate(list(self._subscribers), start=1):
            subscriber.offer(entries)
            if number % FAN_OUT_SLICE == 0:
                await asyncio.sleep(0)


_running: EventReader | None = None


def running() -> EventReader:
    """The reader of the running loop, started if there is none yet (a server without lifespan events)."""
    global _running  # noqa: PLW0603 - one a process is what this variable states
    loop = asyncio.get_running_loop()
    if _running is None or _running.loop is not loop:
        _running = EventReader()
        _running.start()
    return _running


def listeners_of(user: object) -> int:
    """How many sockets and streams the user with this key has in this process. Callable from any thread."""
    current = _running
    return current.count(user) if current else 0


async def shut_down() -> None:
    """Stop the reader of the running loop, if there is one."""
    global _running
    reader, _running = _running, None
    if reader is not None:
        await reader.stop()


def drain() -> None:
    """The server is about to go down; called on its loop before it waits for open connections."""
    if _running is not None:
        _running.drain()
