"""A program at the other end of `/ws/console`: types, reads, resizes, and says with which code it was closed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE_SECONDS = 20.0


class ConsoleClient:
    """One open console. What comes is gathered from the start, unless `idle`: then nothing is read before `read_on`."""

    def __init__(self, socket: ClientConnection, *, idle: bool = False) -> None:
        self.socket = socket
        self.output = bytearray()
        self.received = 0
        self.keep = 64 * 1024 * 1024
        """Bytes of output that are kept: a search through a flood takes its time."""
        self._more = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        if not idle:
            self.read_on()

    @classmethod
    async def open(
        cls, address: str, protocols: Sequence[str], *, idle: bool = False, origin: str | None = None, **options: Any
    ) -> Self:
        """Connect to `host:port` with the protocols of a ticket's answer."""
        socket = await connect(
            f"ws://{address}/ws/console",
            subprotocols=list(protocols),  # type: ignore[arg-type]
            origin=origin,  # type: ignore[arg-type]
            max_size=None,
            **{"compression": None, **options},
        )
        return cls(socket, idle=idle)

    def read_on(self) -> None:
        """Begin to read."""
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for piece in self.socket:
                assert isinstance(piece, bytes), piece
                self.received += len(piece)
                self.output += piece
                if len(self.output) > 2 * self.keep:
                    del self.output[: -self.keep]
                self._more.set()
        self._more.set()

    async def type(self, data: bytes | str) -> None:
        await self.socket.send(data.encode() if isinstance(data, str) else data)

    async def resize(self, columns: Any, rows: Any) -> None:
        await self.socket.send(json.dumps({"resize": [columns, rows]}))

    async def expect(self, text: str, seconds: float = PATIENCE_SECONDS) -> bytes:
        """Wait until `text` has come; what came up to its end is used up and handed back."""
        wanted = text.encode()
        try:
            async with asyncio.timeout(seconds):
                while wanted not in self.output:
                    assert self._reader is not None
                    assert not self._reader.done(), f"closed with {self.socket.close_code} before {text!r} came"
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"no {text!r} within {seconds:g} s; it said {bytes(self.output[-1000:])!r}") from None
        end = self.output.index(wanted) + len(wanted)
        taken = bytes(self.output[:end])
        del self.output[:end]
        return taken

    async def ask(self, line: str, answer: str, seconds: float = 60.0) -> bytes:
        """Type a line until `answer` comes: what is typed before a shell listens may be lost."""
        loop = asyncio.get_running_loop()
        deadline, patience = loop.time() + seconds, 0.5
        while True:
            await self.type(f"{line}\n")
            try:
                return await self.expect(answer, min(patience, max(0.01, deadline - loop.time())))
            except AssertionError:
                if loop.time() >= deadline or self.socket.close_code is not None:
                    raise
            patience = min(2 * patience, 4.0)

    async def code(self, seconds: float = PATIENCE_SECONDS) -> tuple[int, str]:
        """Read to the end: code and reason of the server's closing frame."""
        if self._reader is None:
            self.read_on()
        assert self._reader is not None
        await asyncio.wait_for(asyncio.shield(self._reader), seconds)
        await asyncio.wait_for(self.socket.wait_closed(), seconds)
        received = self.socket.protocol.close_rcvd
        assert received is not None, f"broken without a closing frame ({self.socket.close_code})"
        return received.code, received.reason

    async def leave(self) -> None:
        """Close in order."""
        await self.socket.close()
        if self._reader is not None:
            await self._reader

    def cut(self) -> None:
        """The connection breaks: no closing frame, a reset."""
        self.socket.transport.abort()
