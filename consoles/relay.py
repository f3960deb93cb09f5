"""Bytes between a socket and a console, with back-pressure both ways: nothing here queues more than one piece.

A console blocks (it is a driver's), a socket is a coroutine's. So each relay has threads of its own: one reads the console and
waits until the socket has taken each piece, one writes what the socket brought while no further frame is received, and one
is left to end it while both of them wait.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from drivers.errors import Timeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from drivers.base import Console

READ_SECONDS = 1.0
OPEN_SECONDS = 20.0
CLOSE_SECONDS = 1.0


class Relay:
    """One open console and the socket that shows it.

    Args:
        open_console: Blocks until it is open, in one of the relay's threads.
    """

    def __init__(self, open_console: Callable[[], Console]) -> None:
        self._open_console = open_console
        self._threads = ThreadPoolExecutor(max_workers=3, thread_name_prefix="vmm-console")
        self._lock = threading.Lock()
        self._console: Console | None = None
        self._closed = False

    async def open(self) -> None:
        """Open it. Raises DriverError; Timeout when the host takes too long (what it opens then is closed at once)."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await loop.run_in_executor(self._threads, self._open)
        except TimeoutError:
            message = "The host did not open the console in time."
            raise Timeout(message) from None

    def _open(self) -> None:
        console = self._open_console()
        with self._lock:
            self._console = console
            late = self._closed
        if late:  # the socket left while the host was slow: nobody else would ever close it
            console.close()

    async def pump(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Carry bytes to the socket until the console ends. Raises DriverError, and what `send` raises."""
        console = self._opened()
        loop = asyncio.get_running_loop()
        while not self._closed:
            data = await loop.run_in_executor(self._threads, lambda: console.read(timeout_seconds=READ_SECONDS))
            if data == b"":
                return
            if data:
                await send(data)

    async def write(self, data: bytes) -> None:
        """Carry bytes to the guest; returns when they are taken. Raises DriverError."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._opened().write, data)

    async def resize(self, columns: int, rows: int) -> None:
        """Tell the guest's terminal its size. Raises DriverError."""
        console = self._opened()
        await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: console.resize(columns=columns, rows=rows)
        )

    def _opened(self) -> Console:
        if self._console is None:
            raise RuntimeError("open it first")
        return self._console

    async def close(self) -> None:
        """Give console and threads up. Waits a moment at most, so that who comes next finds the console free. May be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            console = self._console
        if console is not None:
            ending = asyncio.get_running_loop().run_in_executor(self._threads, console.close)
        self._threads.shutdown(wait=False)
        if console is not None:
            await asyncio.wait([ending], timeout=CLOSE_SECONDS)
