"""A request body that is read while it arrives: uploads, which are as long as they like, and never whole in memory.

Django puts a body on the disk before it looks at the request. Here the view draws it from the server piece by piece, from the
request's own thread; the server reads no more from the socket than is drawn, and what has arrived when the client is cut off is
not lost.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TYPE_CHECKING, Any

from core.units import MIB

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Receive = Callable[[], Awaitable[Mapping[str, Any]]]

PIECE = 1 * MIB
"""About so much crosses from the loop to the thread at once: the server hands over 64 KiB at a time, and a crossing costs more."""
GATHER_SECONDS = 0.2
"""How long a piece waits to become full."""
IDLE_SECONDS = 60.0
"""A client that sends nothing for so long is cut off."""


class Streamed:
    """Stands for `receive` of a request whose body the view reads: Django's own listening begins behind the body."""

    def __init__(self, receive: Receive) -> None:
        self.body = BodyStream(self)
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._gone = False

    async def __call__(self) -> Mapping[str, Any]:
        """The message behind the body; never, if nobody reads the body to its end."""
        await self._over.wait()
        return {"type": "http.disconnect"} if self._gone else await self._receive()

    def draw(self) -> bytes:
        """The next piece, `b""` at the end. Blocks the request's thread. Raises OSError when the client is gone or silent."""
        future = asyncio.run_coroutine_threadsafe(self._gather(), self._loop)
        try:
            return future.result(IDLE_SECONDS + 10)
        except concurrent.futures.CancelledError:
            raise ConnectionAbortedError("the server goes down") from None

    async def _gather(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(IDLE_SECONDS) as patience:
                while size < PIECE and not self._over.is_set():
                    part = await self._part()
                    if part:
                        parts.append(part)
                        size += len(part)
                        patience.reschedule(self._loop.time() + GATHER_SECONDS)
        except TimeoutError:
            if not parts:
                raise
        if self._gone and not parts:
            raise ConnectionResetError("the client went away")
        return b"".join(parts)

    async def _part(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone = True
            self._over.set()
            return b""
        if not message.get("more_body", False):
            self._over.set()
        return bytes(message.get("body", b""))


class BodyStream:
    """The body as a file that is read once, forwards."""

    def __init__(self, source: Streamed) -> None:
        self._source = source
        self._rest = b""
        self._closed = False

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, fewer where fewer have come; all for -1; `b""` at the end. Raises OSError."""
        if self._closed:
            raise ConnectionAbortedError("the request is over")
        if size < 0:
            whole = [self._rest]
            while piece := self._source.draw():
                whole.append(piece)
            self._rest = b""
            return b"".join(whole)
        if not self._rest:
            self._rest = self._source.draw()
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def close(self) -> None:
        """The request has ended; a thread that still reads gets an error."""
        self._closed = True
