"""A guest's screen: RFB through XAPI's HTTP CONNECT, as a `drivers.base.Console`."""

from __future__ import annotations

import contextlib
import select
import ssl
import threading
import time
from typing import TYPE_CHECKING

from drivers.errors import Timeout, Unreachable

if TYPE_CHECKING:
    from drivers.wires import DeadlineSocket

WRITE_SECONDS = 5.0
_SLICE_SECONDS = 0.5
"""How long a reader that waits may take to notice that the console was closed, should the wake be missed."""


class XapiConsole:
    """One relay. A TLS connection must not be read and written at once by two threads (OpenSSL's rule): a lock stands between.

    The connection does not block; waiting is done outside of the lock, so a reader that waits keeps no writer out.
    """

    def __init__(self, tunnel: DeadlineSocket) -> None:
        self._tunnel = tunnel
        self._connection = tunnel.connection
        self._connection.setblocking(False)  # noqa: FBT003 - socket's own signature
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._ended = False

    def read(self, size: int = 65536, *, timeout_seconds: float) -> bytes | None:
        """Bytes when there are any, `b""` at the end of the stream, None when nothing came in time."""
        until = time.monotonic() + timeout_seconds
        while True:
            if self._closed.is_set() or self._ended:
                return b""
            wants_write = False
            try:
                with self._lock:
                    data = self._connection.recv(size)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLWantWriteError:
                wants_write = True
            except (OSError, ValueError):
                data = b""  # the other side is gone, or we are
                self._ended = True
                return data
            else:
                self._ended = not data
                return data
            left = until - time.monotonic()
            if left <= 0:
                return None
            self._wait(min(left, _SLICE_SECONDS), write=wants_write)

    def write(self, data: bytes) -> None:
        """Send all of `data`. Raises Timeout when it is not taken for some seconds, Unreachable when it has ended."""
        until = time.monotonic() + WRITE_SECONDS
        view = memoryview(data)
        while view:
            if self._closed.is_set() or self._ended:
                message = "This console has ended."
                raise Unreachable(message)
            try:
                with self._lock:
                    sent = self._connection.send(view[:65536])
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
                wants_write = isinstance(error, ssl.SSLWantWriteError)
            except (OSError, ValueError) as error:
                message = "The connection of this console has ended."
                raise Unreachable(message) from error
            else:
                view = view[sent:]
                continue
            left = until - time.monotonic()
            if left <= 0:
                message = "The guest's screen does not take what is sent."
                raise Timeout(message)
            self._wait(min(left, _SLICE_SECONDS), write=wants_write)

    def resize(self, *, columns: int, rows: int) -> None:
        """A screen has its own size."""

    def close(self) -> None:
        """End it. Never raises, may be called twice and from any thread; wakes a blocked `read`."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._tunnel.wake()
        with self._lock:
            self._tunnel.close()

    def _wait(self, seconds: float, *, write: bool) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile: the caller sees that
            poll = select.poll()
            poll.register(self._connection, select.POLLOUT if write else select.POLLIN)
            poll.poll(seconds * 1000)
