"""`/ws/events`: the event log over a WebSocket, in order, without gap or duplicate, as far as the caller may see it.

A plain ASGI application rather than a Channels consumer: those join the channel layer with each socket and open a database
thread for each frame, while here one reader a process serves all sockets (`live.reader`) and a frame costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, InterfaceError

from accounts.policy import may
from live import callers, reader
from live.callers import Refused
from live.database import in_database_thread
from live.reader import encode
from live.subscriber import Drained, Subscriber, TooSlow
from live.wants import BadWant, Want, check_after

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Scope = Mapping[str, Any]
    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)

SUBPROTOCOL = "events"
FRAME_MOST_BYTES = 64 * 1024
SOCKETS_A_USER = 1000
STALL_SECONDS = 30.0
"""A client that takes not one message in this time is too slow, however little waits for it."""
LAST_WORD_SECONDS = 60.0
"""How long a slow reader has to read what it was sent already and then the code that says why it ends."""
BREATH = 100
"""Messages sent before the loop may do something else: `send` returns at once while the client keeps up."""

NOT_TEXT, NOT_JSON, NOT_OURS, TOO_LARGE, FAULT, LATER, TOO_SLOW = 1003, 1007, 1008, 1009, 1011, 1013, 4008


class _Gone(Exception):
    """The client closed, or its connection broke."""


class LiveConsumer:
    """The ASGI application of `/ws/events`."""

    @classmethod
    def as_asgi(cls) -> LiveConsumer:
        """What `URLRouter` takes."""
        return cls()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, from handshake to close."""
        if not await callers.shake_hands(scope, receive, send, subprotocol=SUBPROTOCOL):
            return
        with contextlib.suppress(_Gone, OSError):  # servers raise a kind of OSError to who sends to a lost client
            code, reason = await self._converse(scope, receive, send)
            await last_word(send, code, reason)

    async def _converse(self, scope: Scope, receive: Receive, send: Send) -> tuple[int, str]:
        """Everything between accept and close; answers the closing code and its reason. Raises _Gone."""
        try:
            caller = await in_database_thread(callers.enter, scope, "events")
            if not may(caller.actor, "view"):
                return callers.NOT_ALLOWED, "this account may not see events"
            events = reader.running()
            if caller.actor.user is not None and events.count(caller.actor.user.pk) >= SOCKETS_A_USER:
                return LATER, f"more than {SOCKETS_A_USER} sockets of one user"
            return await _Connection(Subscriber(events, caller), receive, send).run()
        except Refused as refused:
            return refused.code, refused.reason
        except (DatabaseError, InterfaceError):
            log.warning("a socket ends: the database is out of reach", exc_info=True)
            return FAULT, "the database is out of reach: come back"


async def last_word(send: Send, code: int, reason: str) -> None:
    """Close, so that the code is seen: a client that lags must read first what was sent before it, which may take long.

    The wait ends when the server goes down. A broken connection is no error here.
    """
    closing = asyncio.create_task(_close(send, code, reason))
    down = asyncio.create_task(reader.running().drained.wait())
    try:
        await asyncio.wait({closing, down}, timeout=LAST_WORD_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        closing.cancel()
        down.cancel()
        await asyncio.gather(closing, down, return_exceptions=True)


async def _close(send: Send, code: int, reason: str) -> None:
    await send({"type": "websocket.close", "code": code, "reason": reason})


class _Connection:
    """One accepted socket: a task that listens to the client, a task that tells, and whatever ends them first."""

    def __init__(self, subscriber: Subscriber, receive: Receive, send: Send) -> None:
        self._subscriber = subscriber
        self._receive = receive
        self._send = send
        self._orders: asyncio.Queue[tuple[Want, int | None]] = asyncio.Queue(maxsize=4)
        self._sent_at = asyncio.get_running_loop().time()
        self._sending = False

    async def run(self) -> tuple[int, str]:
        """Until the end; closing code and reason."""
        tasks = [asyncio.create_task(work()) for work in (self._listen, self._tell, self._watch)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._subscriber.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        # In the order of `tasks`: that the client has gone says more than what failed because of it.
        return next(task for task in tasks if task in done).result()

    # -- what the client says ------------------------------------------------------------------------------------------
    async def _listen(self) -> tuple[int, str]:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                raise _Gone
            text = message.get("text")
            if text is None:
                return NOT_TEXT, "text frames only"
            if len(text) > FRAME_MOST_BYTES or len(text.encode("utf-8", "replace")) > FRAME_MOST_BYTES:
                return TOO_LARGE, f"a frame has at most {FRAME_MOST_BYTES} bytes"
            try:
                order = _order(json.loads(text))
            except BadWant as error:
                return NOT_OURS, str(error)
            except (ValueError, RecursionError):
                return NOT_JSON, "this is not JSON"
            await self._orders.put(order)
            self._subscriber.wake.set()

    # -- what it is told -----------------------------------------------------------------------------------------------
    async def _tell(self) -> tuple[int, str]:
        try:
            while True:
                while not self._orders.empty():
                    await self._begin(*self._orders.get_nowait())
                await self._send_all([entry.text for entry in await self._subscriber.take()])
        except TooSlow:
            return TOO_SLOW, "too slow: come back with after"
        except Drained:
            return 1012, "restart"
        except Refused as refused:
            return refused.code, refused.reason
        except OSError as error:
            raise _Gone from error

    async def _begin(self, want: Want, after: int | None) -> None:
        kept, last = await self._subscriber.subscribe(want, after)
        answers = [] if kept else [encode({"type": "reset", "seq": last})]
        await self._send_all([*answers, encode({"type": "subscribed", "seq": last})])

    async def _send_all(self, texts: list[str]) -> None:
        loop = asyncio.get_running_loop()
        for number, text in enumerate(texts, start=1):
            self._sent_at, self._sending = loop.time(), True
            await self._send({"type": "websocket.send", "text": text})
            self._sending = False
            if number % BREATH == 0:
                await asyncio.sleep(0)

    # -- who cannot keep up --------------------------------------------------------------------------------------------
    async def _watch(self) -> tuple[int, str]:
        """Ends the connection of a client that takes nothing, although `_tell` hangs in a send to it."""
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STALL_SECONDS):
                    await self._subscriber.overflowed.wait()
                    return TOO_SLOW, "too slow: come back with after"
            if self._sending and loop.time() - self._sent_at > STALL_SECONDS:
                return TOO_SLOW, "too slow: come back with after"


def _order(frame: Any) -> tuple[Want, int | None]:
    """A subscribe frame. Raises BadWant."""
    if not isinstance(frame, dict) or not isinstance(frame.get("subscribe"), dict):
        raise BadWant('send {"subscribe": {"types": [], "objects": []}, "after": 0}')
    wish = frame["subscribe"]
    if frame.keys() - {"subscribe", "after"} or wish.keys() - {"types", "objects"}:
        raise BadWant("a field that is not known here")
    return Want.of(wish.get("types"), wish.get("objects")), check_after(frame.get("after"))
