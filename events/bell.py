"""The doorbell: tells every process that the log has grown, and wakes whoever waits in this one.

Three ways, from near to far. Threads of this process wait on a condition variable. The reader of this process (`live.reader`) is
handed the ring on its own loop: an in-memory channel layer called with `async_to_sync` from a foreign thread was measured
seconds late. Other processes hear a small message on the channel layer (`{"type": "ring", "seq": n}` to the group
`events`), sent by the server's loop or, where a process has none, by one background thread; nobody who rings ever waits for it.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from channels.layers import InMemoryChannelLayer, get_channel_layer

from core.threads import LongThread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

log = logging.getLogger(__name__)

GROUP = "events"
SAMPLES_GROUP = "samples"
ORIGIN = secrets.token_hex(8)
"""This process, in samples that it sends: its own listeners have them already when the layer brings them back."""
LAST_WORDS_SECONDS = 1.0
"""How long a process that ends waits for rings still on their way (`manage.py create_token` rings and exits at once)."""


class Listener(Protocol):
    """Who is told in this process. Both are called on the listener's own loop."""

    def rung(self, seq: int) -> None:
        """The log reaches `seq`."""

    def sampled(self, samples: list[dict[str, Any]]) -> None:
        """Samples, shapes of `broadcast_samples`."""


_condition = threading.Condition()
_heard = 0
_listeners: dict[Listener, asyncio.AbstractEventLoop] = {}


def listen(listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
    """Hand every ring and sample of this process to `listener` on `loop`, until `unlisten`."""
    _listeners[listener] = loop


def unlisten(listener: Listener) -> None:
    """The listener has ended."""
    _listeners.pop(listener, None)


def ring(seq: int) -> None:
    """Say that the log now reaches `seq`. Callable from any thread, never blocks or raises: a lost ring loses nothing."""
    heard(seq)
    for listener, loop in list(_listeners.items()):
        _hand(loop, listener.rung, seq)
    _far.ring(seq)


def broadcast_samples(samples: list[dict[str, Any]]) -> None:
    """Send metric samples to the sockets that asked for them. They are not kept; late or lost ones do no harm.

    Args:
        samples: Each `{"object": "vm/<id>", "object_name": "web-1", "at": "<ISO 8601 with Z>", "data": {…}}`, JSON values only;
            `object_name` may be left out.
    """
    for listener, loop in list(_listeners.items()):
        _hand(loop, listener.sampled, samples)
    _far.send(SAMPLES_GROUP, {"type": "samples", "from": ORIGIN, "samples": samples})


def _hand(loop: asyncio.AbstractEventLoop, function: Callable[[Any], None], value: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, value)
    except RuntimeError:  # the loop was closed a moment ago: its server has ended
        log.debug("a listener has gone")


def heard(seq: int) -> None:
    """A ring arrived in this process (by ourselves or over the layer): wake who waits."""
    global _heard  # noqa: PLW0603 - guarded by the condition
    with _condition:
        _heard = max(_heard, seq)
        _condition.notify_all()


def wait_until(done: Callable[[], bool], *, timeout_seconds: float, recheck_seconds: float = 1.0) -> bool:
    """Block this thread until `done()` or the time is up; True when done.

    `done` is asked again after every ring, and every `recheck_seconds` in case a ring was lost.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        with _condition:
            before = _heard
        if done():
            return True
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        with _condition:
            # Bound as a default: the predicate must compare with this round's value.
            _condition.wait_for(lambda before=before: _heard != before, timeout=min(left, recheck_seconds))  # type: ignore[misc]


class _Far:
    """Rings at other processes. Rings that come while one is on its way are folded into the next: only the highest counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unsent = 0
        self._thread: LongThread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending: set[Any] = set()
        self._failing = False

    def ring(self, seq: int) -> None:
        if _layer() is None:
            return
        with self._lock:
            waiting, self._unsent = self._unsent > 0, max(self._unsent, seq)
        if not waiting:
            self._submit(self._send_ring())

    def send(self, group: str, message: dict[str, Any]) -> None:
        if _layer() is not None:
            self._submit(self._send(group, message))

    async def _send_ring(self) -> None:
        with self._lock:
            seq, self._unsent = self._unsent, 0
        await self._send(GROUP, {"type": "ring", "seq": seq})

    async def _send(self, group: str, message: dict[str, Any]) -> None:
        layer = _layer()
        if layer is None:
            return
        try:
            await layer.group_send(group, message)
        except Exception:
            # The row is the truth: a broken layer must not fail the change that was just committed. Said once a breakdown.
            if not self._failing:
                log.warning("doorbell does not ring: channel layer out of reach", exc_info=True)
            self._failing = True
        else:
            if self._failing:
                log.info("doorbell rings again")
            self._failing = False

    def _submit(self, coroutine: Coroutine[Any, Any, None]) -> None:
        loop = next((loop for loop in list(_listeners.values()) if loop.is_running()), None) or self._own_loop()
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        except RuntimeError:
            coroutine.close()
            return
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.alive:
                loop = asyncio.new_event_loop()

                def turn(stop: threading.Event) -> None:
                    del stop  # the loop itself is stopped: `close`
                    asyncio.set_event_loop(loop)
                    loop.run_forever()

                self._loop, self._thread = loop, LongThread("vmm-bell", turn, fatal=False).start()
            return self._loop

    def close(self) -> None:
        """Let what is on its way go out, then end the thread."""
        deadline = time.monotonic() + LAST_WORDS_SECONDS
        while self._pending and time.monotonic() < deadline:
            time.sleep(0.005)
        with self._lock:
            loop, self._loop, thread, self._thread = self._loop, None, self._thread, None
            self._unsent = 0
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            if thread.stop(timeout_seconds=1.0):
                loop.close()


def _layer() -> Any:
    """The channel layer, None where it reaches no other process: then everybody was told already."""
    layer = get_channel_layer()
    return None if isinstance(layer, InMemoryChannelLayer) else layer


_far = _Far()
atexit.register(_far.close)
