"""`/ws/console`: one guest's console over a WebSocket, binary both ways, opened by a one-use ticket.

A plain ASGI application like `live.consumers` (see there why). Closing codes are the contract's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from accounts.policy import may
from consoles.relay import Relay
from consoles.services import PURPOSE
from consoles.targets import ConsoleTarget, target_of
from core.errors import VmmError
from drivers.errors import ConsoleBusy, DriverError, NotFound, Timeout, Unsupported, WrongState
from live import callers, reader
from live.callers import Refused
from live.database import in_database_thread
from live.subscriber import Drained, Subscriber
from live.wants import Want

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Scope = Mapping[str, Any]
    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)

SUBPROTOCOL = "binary"
FRAME_MOST_BYTES = 256 * 1024
TEXT_MOST_CHARACTERS = 1024
SIDE_MOST = 1000
CONSOLES_A_USER = 40
GUEST_SECONDS = 15.0
"""How often it is looked whether the guest is still ours; its undefinition is heard at once."""
SEND_SECONDS = 60.0
"""A client that takes nothing for so long is given up: pings do not end a connection whose buffer never empties."""
VERDICT_SECONDS = 1.5
GONE, BUSY, SLOW = 4404, 4409, 4008
NOT_OURS, TOO_LARGE, FAULT, LATER, RESTART = 1008, 1009, 1011, 1013, 1012
REASON_MOST_BYTES = 120
CLOSE_SECONDS = 5.0

_open: Counter[object] = Counter()


class _Gone(Exception):
    """The client closed, or its connection broke."""


class _TooSlow(Exception):
    """The client takes nothing."""


class ConsoleConsumer:
    """The ASGI application of `/ws/console`."""

    @classmethod
    def as_asgi(cls) -> ConsoleConsumer:
        """What `URLRouter` takes."""
        return cls()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, from handshake to close."""
        if not await callers.shake_hands(scope, receive, send, subprotocol=SUBPROTOCOL):
            return
        with contextlib.suppress(_Gone, OSError):  # TimeoutError is one: the close frame could not be delivered either
            code, reason = await self._serve(scope, receive, send)
            async with asyncio.timeout(CLOSE_SECONDS):
                await send({"type": "websocket.close", "code": code, "reason": _short(reason)})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> tuple[int, str]:
        """Everything between accept and close: closing code and reason."""
        try:
            caller = await in_database_thread(callers.enter, scope, PURPOSE)
            if caller.ticket is None:
                return callers.BAD_TICKET, "a console is opened with a ticket"
            target = await in_database_thread(target_of, caller)
        except Refused as refused:
            return refused.code, refused.reason
        except VmmError as error:
            return _code_of(error), error.detail
        user = caller.actor.user.pk if caller.actor.user else None
        if _open[user] >= CONSOLES_A_USER:
            return LATER, f"more than {CONSOLES_A_USER} open consoles of one user"
        _open[user] += 1
        subscriber = Subscriber(reader.running(), caller)
        try:
            return await _Connection(target, subscriber, receive, send).run()
        finally:
            subscriber.close()
            _open[user] -= 1
            if not _open[user]:
                del _open[user]


class _Connection:
    """One accepted socket: what the client sends, what the guest sends, and whether the right still holds."""

    def __init__(self, target: ConsoleTarget, subscriber: Subscriber, receive: Receive, send: Send) -> None:
        self._relay = Relay(target.open)
        self._target = target
        self._subscriber = subscriber
        self._receive = receive
        self._send = send
        self._opened = asyncio.Event()
        self._over: asyncio.Task[tuple[int, str]] | None = None

    async def run(self) -> tuple[int, str]:
        """Until the first of them ends."""
        self._over = asyncio.create_task(self._from_guest())
        tasks = [self._over, asyncio.create_task(self._from_client()), asyncio.create_task(self._watch_right())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._relay.close()
        try:
            return next(task for task in tasks if task in done).result()
        except VmmError as error:
            return _code_of(error), error.detail

    # -- what the client sends -----------------------------------------------------------------------------------------
    async def _from_client(self) -> tuple[int, str]:
        for message in await self._first_messages():
            verdict = await self._take(message)
            if verdict is not None:
                return verdict
        while True:
            verdict = await self._take(await self._message())
            if verdict is not None:
                return verdict

    async def _first_messages(self) -> list[dict[str, Any]]:
        """What is typed before the console stands; kept up to one frame's bytes, so that a client that leaves is noticed."""
        kept: list[dict[str, Any]] = []
        waiting = 0
        opened = asyncio.create_task(self._opened.wait())
        arrival: asyncio.Task[dict[str, Any]] | None = None
        try:
            while not opened.done() and waiting <= FRAME_MOST_BYTES:
                arrival = asyncio.create_task(self._message())
                await asyncio.wait((opened, arrival), return_when=asyncio.FIRST_COMPLETED)
                if not await _finished(arrival):
                    break
                kept.append(arrival.result())
                waiting += len(kept[-1].get("bytes") or kept[-1].get("text") or "") + 64
            await opened
        finally:
            opened.cancel()
            if arrival is not None:
                await _finished(arrival)
        return kept

    async def _message(self) -> dict[str, Any]:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise _Gone
        return message

    async def _take(self, message: dict[str, Any]) -> tuple[int, str] | None:
        """Act on one message; what to close with, if it is the last."""
        data, text = message.get("bytes"), message.get("text")
        if data is not None:
            if len(data) > FRAME_MOST_BYTES:
                return TOO_LARGE, f"a frame has at most {FRAME_MOST_BYTES} bytes"
            return await self._write(data)
        size = _size(text or "")
        if size is None or self._target.kind not in ("serial", "shell"):
            return NOT_OURS, 'text frames are {"resize": [columns, rows]}, for terminals'
        await self._relay.resize(*size)
        return None

    async def _write(self, data: bytes) -> tuple[int, str] | None:
        try:
            await self._relay.write(data)
        except Timeout:
            raise
        except DriverError:
            # Somebody types while the guest goes down: why it ended is known to the side that reads.
            over = self._over
            if over is not None:
                await asyncio.wait((over,), timeout=VERDICT_SECONDS)
            if over is None or not over.done():
                raise
            return over.result()
        return None

    # -- what the guest sends ------------------------------------------------------------------------------------------
    async def _from_guest(self) -> tuple[int, str]:
        await self._relay.open()
        self._opened.set()
        try:
            await self._relay.pump(self._deliver)
        except _TooSlow:
            return SLOW, f"nothing was taken for {SEND_SECONDS:.0f} seconds"
        except OSError as error:
            raise _Gone from error
        return GONE, "the guest closed its console"

    async def _deliver(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._send({"type": "websocket.send", "bytes": data})
        except TimeoutError:
            raise _TooSlow from None

    # -- the right to it -----------------------------------------------------------------------------------------------
    async def _watch_right(self) -> tuple[int, str]:
        """Ends the console when the account loses its right, the guest is gone, or the server goes down."""
        try:
            await self._subscriber.subscribe(
                Want(types=frozenset({"vm.undefined"}), objects=frozenset({self._target.vm})), None
            )
            while True:
                await self._subscriber.take(idle_seconds=GUEST_SECONDS)
                # A right that may have changed is read anew when the next `take` begins, which must not wait before we look.
                await self._subscriber.take(idle_seconds=0.0)
                if not may(self._subscriber.actor, "vm.console"):
                    return callers.NOT_ALLOWED, "this account may not use consoles any more"
                if not await in_database_thread(self._target.there, self._subscriber.actor):
                    return GONE, "the guest is gone"
        except Refused as refused:
            return refused.code, refused.reason
        except Drained:
            return RESTART, "restart"


async def _finished(arrival: asyncio.Task[Any]) -> bool:
    """Whether it has come; if not it is given up. Nothing is lost: `receive` is a queue's `get`, which takes last of all."""
    arrival.cancel()
    await asyncio.wait((arrival,))
    if arrival.cancelled():
        return False
    arrival.exception()  # so that it counts as seen
    return True


def _size(text: str) -> tuple[int, int] | None:
    """Columns and rows of a resize frame, None for anything else."""
    if len(text) > TEXT_MOST_CHARACTERS:
        return None
    try:
        columns, rows = json.loads(text)["resize"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not all(type(side) is int and 1 <= side <= SIDE_MOST for side in (columns, rows)):
        return None
    return columns, rows


def _code_of(error: VmmError) -> int:
    """The contract's closing code."""
    if isinstance(error, ConsoleBusy):
        return BUSY
    if isinstance(error, NotFound | WrongState | Unsupported) or error.status == 404:
        return GONE
    if error.status == 403:
        return callers.NOT_ALLOWED
    if not isinstance(error, DriverError):
        log.warning("console ended by an unforeseen error", extra={"code": error.code})
    return FAULT


def _short(reason: str) -> str:
    """At most what a close frame holds (123 bytes), cut between characters."""
    raw = reason.encode()
    return reason if len(raw) <= REASON_MOST_BYTES else raw[:REASON_MOST_BYTES].decode(errors="ignore") + "…"
