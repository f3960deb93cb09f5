"""TLS connections with deadlines, kept and shared out: what the drivers that speak HTTPS themselves stand on.

Client libraries' own transports read answers for any time, as long as a byte comes now and then. Here each exchange has one deadline for
all of it, several threads may call at once (each has a connection of its own), and a close from outside wakes who reads.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drivers import tls
from drivers.errors import Timeout, TlsFailed, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a wire leads and as whom. Its repr shows no password."""

    host: str
    port: int
    context: ssl.SSLContext
    username: str

    @property
    def authority(self) -> str:
        """As it stands in a URL and a Host header."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class DeadlineSocket:
    """A TLS connection whose every read and write ends at `until` (`time.monotonic()`), however slowly bytes come.

    Attributes:
        reusable: Whether the exchange left it as it should be; then it is kept for another.
    """

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self.connection = connection
        self.until = 0.0
        self.last_used = time.monotonic()
        self.reusable = False

    def _arm(self) -> None:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.connection.settimeout(left)

    def send(self, data: bytes) -> None:
        """All of `data`."""
        view = memoryview(data)
        while view:
            self._arm()
            view = view[self.connection.send(view[:65536]) :]

    def receive(self, size: int) -> bytes:
        """At most `size` bytes, `b""` at the end."""
        self._arm()
        return self.connection.recv(size)

    def receive_into(self, buffer: Any) -> int:
        """As `socket.recv_into`."""
        self._arm()
        return self.connection.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """For `http.client.HTTPResponse`. Closing the file leaves the connection open."""
        return io.BufferedReader(_Reader(self), 65536)

    def stale(self, idle_seconds: float) -> bool:
        """Whether the other side has ended it, said something unasked, or may have forgotten it: then it is of no use any more."""
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        return bool(poll.poll(0)) or time.monotonic() - self.last_used > idle_seconds

    def wake(self) -> None:
        """End it under a thread that reads: that thread sees the end of the stream. From any thread; never raises."""
        with contextlib.suppress(OSError, ValueError):
            # Not SSLSocket's own shutdown: it takes the TLS object away under the reader's feet.
            socket.socket.shutdown(self.connection, socket.SHUT_RDWR)

    def close(self) -> None:
        """Only by the thread that uses it. Never raises."""
        with contextlib.suppress(OSError, ValueError):
            self.connection.close()


class _Reader(io.RawIOBase):
    def __init__(self, source: DeadlineSocket) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._source.receive_into(buffer)


def dial(
    host: str,
    port: int,
    context: ssl.SSLContext,
    *,
    expected: str,
    seconds: float = CONNECT_SECONDS,
    address: str = "",
) -> ssl.SSLSocket:
    """Connect and shake hands within `seconds`. Raises Unreachable, Timeout, TlsFailed.

    `expected` is what should answer there: "a XenServer". `address` is where the host is, where that has been looked up (and
    judged) already.
    """
    until = time.monotonic() + seconds
    try:
        plain = socket.create_connection((address or host, port), timeout=max(0.1, seconds))
    except TimeoutError as error:
        message = "The hypervisor did not answer in time."
        raise Timeout(message, host=host) from error
    except OSError as error:
        message = f"The connection to the hypervisor failed: {error.strerror or error}."
        raise Unreachable(message, host=host) from error
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.settimeout(max(0.1, until - time.monotonic()))
        return context.wrap_socket(plain, server_hostname=host)
    except ssl.SSLError as error:
        plain.close()
        raise tls.translate(error, host=host) from error
    except TimeoutError as error:
        plain.close()
        message = f"{host} took the connection, but did not answer the TLS handshake in time."
        raise Unreachable(message, host=host) from error
    except OSError as error:
        plain.close()
        message = f"{host} ended the connection in the TLS handshake; is this the HTTPS port of {expected}?"
        raise TlsFailed(message, host=host) from error


class Connections:
    """As many connections to one target as threads ask for at once; those that are fit for it are kept for the next.

    Args:
        make: A new connection, within so many seconds.
        idle_seconds: What was not used for so long is not used again.

    Attributes:
        uses: How often one was handed out.
    """

    def __init__(self, make: Callable[[float], DeadlineSocket], *, idle_seconds: float) -> None:
        self._make = make
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._idle: list[DeadlineSocket] = []
        self._live: set[DeadlineSocket] = set()
        self.closed = False
        self.uses = 0

    def shut(self) -> bool:
        """Hand out no more, but to who has a last word to say. False when it was shut already."""
        with self._lock:
            was, self.closed = self.closed, True
            return not was

    def cut(self) -> None:
        """End every connection; who reads sees the end of the stream. Never raises."""
        with self._lock:
            idle, self._idle = self._idle, []
            live = list(self._live)
        for each in idle:
            each.close()
        for each in live:
            each.wake()

    @contextlib.contextmanager
    def one(
        self, until: float, *, connect_seconds: float, last: bool, make: Callable[[float], DeadlineSocket] | None = None
    ) -> Iterator[DeadlineSocket]:
        """A connection for one exchange, which ends at `until`; with `last` also after `shut`.

        With `make` it is none of the kept, and is not kept: one to another host.

        Raises:
            Unreachable: It was shut. DriverError: from connecting. OSError, HTTPException: the exchange's own.
        """
        connection = self._take(last=last) if make is None else None
        if connection is None:
            connection = (make or self._make)(min(connect_seconds, until - time.monotonic()))
        connection.until, connection.reusable = until, False
        with self._lock:
            self._live.add(connection)
            gone = self.closed and not last
            self.uses += 1
        try:
            if gone:
                raise _closed()
            yield connection
        except (OSError, http.client.HTTPException) as error:
            if self.closed and not last:
                raise _closed() from error
            raise
        finally:
            connection.last_used = time.monotonic()
            with self._lock:
                self._live.discard(connection)
                kept = connection.reusable and make is None and not self.closed
                if kept:
                    self._idle.append(connection)
            if not kept:
                connection.close()

    def _take(self, *, last: bool) -> DeadlineSocket | None:
        """A kept connection that still stands."""
        while True:
            with self._lock:
                if self.closed and not last:
                    raise _closed()
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if not connection.stale(self._idle_seconds):
                return connection
            connection.close()


def _closed() -> Unreachable:
    message = "The connection is closed."
    return Unreachable(message)
