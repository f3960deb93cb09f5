"""One connection's bytes under a deadline, and the adapter that lets the Docker SDK speak over connections that we dial.

The SDK's own transports set a time-out for each `recv` only, so a server that drips one byte a second holds a thread for
ever; they read answers of any size; and they follow redirects to wherever a server says. None of that happens here.
"""

from __future__ import annotations

import io
import select
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection

from drivers.dockerd import errors
from drivers.errors import Timeout, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from requests import PreparedRequest, Response

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""A list of 10 000 containers with many labels is some 20 MB."""
REFUSAL_BYTES_MAX = 64 * 1024
CONNECT_SECONDS = 5.0
_POLL_SECONDS = 5.0
_KEPT_CONNECTIONS = 12


class Line:
    """A connected socket, plain or TLS, whose every wait ends: by its deadline, or by `shut` from another thread.

    One thread may read and another write at once; OpenSSL allows only one of them at a time inside, hence the lock.
    `settimeout` names the time that everything after it may take together, not each `recv` its own.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0)
        self._sock = sock
        self._lock = threading.Lock()
        self._deadline: float | None = None
        self._shut = False
        self._files = 0
        self._closed = False

    # -- what http.client and urllib3 call ---------------------------------------------------------------------------
    def settimeout(self, seconds: float | None) -> None:
        """Everything from now until the next call of this must be done within `seconds`; None: no limit."""
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def makefile(self, _mode: str = "rb", *_: object, **__: object) -> io.BufferedReader:
        """A file to read from. The socket stays open until this is closed too, as with a real socket."""
        self._files += 1
        return io.BufferedReader(_Reader(self))

    def sendall(self, data: bytes) -> None:
        """Send all of it, by the deadline."""
        self.send_all(data, self._deadline)

    def fileno(self) -> int:
        """For `select`; -1 when closed."""
        return self._sock.fileno()

    def close(self) -> None:
        """Give it up; never raises."""
        self._closed = True
        if self._files <= 0:
            self._really_close()

    # -- ours ----------------------------------------------------------------------------------------------------------
    def shut(self) -> None:
        """End it now, from any thread: whoever waits on it wakes. Never raises."""
        self._shut = True
        try:
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # also of a TLS socket: without its farewell
        except OSError:
            return  # it was gone

    def recv(self, size: int, deadline: float | None) -> bytes:
        """Some bytes, `b""` at the end. Raises TimeoutError, OSError."""
        data: bytes = self._do(lambda: self._sock.recv(size), select.POLLIN, deadline)
        return data

    def recv_by_deadline(self, size: int) -> bytes:
        """As `recv`, by the deadline that `settimeout` set."""
        return self.recv(size, self._deadline)

    def send_all(self, data: bytes, deadline: float | None) -> None:
        """Send all of it. Raises TimeoutError, OSError."""
        view = memoryview(data)
        while view:
            piece = view[:65536]
            view = view[self._do(lambda piece=piece: self._sock.send(piece), select.POLLOUT, deadline) :]  # type: ignore[misc]

    def release(self) -> None:
        """A file made by `makefile` is closed."""
        self._files -= 1
        if self._closed and self._files <= 0:
            self._really_close()

    def _do(self, step: Callable[[], Any], waits_for: int, deadline: float | None) -> Any:
        while True:
            if self._shut and waits_for == select.POLLOUT:
                raise ConnectionAbortedError("the connection was given up")
            try:
                with self._lock:
                    return step()
            except (BlockingIOError, ssl.SSLWantReadError):
                wanted = waits_for if not isinstance(self._sock, ssl.SSLSocket) else select.POLLIN
            except ssl.SSLWantWriteError:
                wanted = select.POLLOUT
            except ssl.SSLEOFError:
                if waits_for == select.POLLOUT:
                    raise ConnectionResetError("the other side hung up") from None
                return b""  # the other side went without TLS's farewell, as Go's servers do
            self._wait(wanted, deadline)

    def _wait(self, wanted: int, deadline: float | None) -> None:
        left = _POLL_SECONDS if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        number = self._sock.fileno()
        if number < 0:
            raise ConnectionAbortedError("the connection was given up")
        poll = select.poll()
        poll.register(number, wanted)
        poll.poll(min(left, _POLL_SECONDS) * 1000)

    def _really_close(self) -> None:
        self._shut = True
        try:
            self._sock.close()
        except OSError:
            return  # there is nothing more to give up


def unix_line(path: str) -> Line:
    """A connection to a unix socket. Raises PermissionError, Unreachable, Timeout."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(CONNECT_SECONDS)
        sock.connect(path)
        return Line(sock)
    except PermissionError:
        sock.close()
        raise
    except TimeoutError as error:
        sock.close()
        raise Timeout(f"The engine at {path} takes no connections.") from error
    except OSError as error:
        sock.close()
        raise Unreachable(f"No engine listens at {path}: {error.strerror or error}.") from error


class _Reader(io.RawIOBase):
    """What `http.client` reads an answer from."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._line.recv_by_deadline(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._line.release()


class _Connection(HTTPConnection):
    """urllib3's, over a line that we dial."""

    dial: Callable[[], Line]
    line: Line | None = None

    def connect(self) -> None:
        """Dial. DriverErrors go through urllib3 and requests as they are."""
        self.line = self.dial()
        self.sock = self.line  # it has all that http.client asks of a socket


class _Pool(urllib3.HTTPConnectionPool):
    def __init__(self, dial: Callable[[], Line]) -> None:
        super().__init__("engine", maxsize=_KEPT_CONNECTIONS, block=False)
        self._dial = dial

    def _new_conn(self) -> _Connection:
        connection = _Connection("engine")
        connection.dial = self._dial
        return connection


class EngineAdapter(HTTPAdapter):
    """Mounted into the SDK's session: our connections, bounded answers, no redirects, refusals as DriverErrors."""

    def __init__(self, dial: Callable[[], Line]) -> None:
        self._pool = _Pool(dial)
        super().__init__()

    def get_connection_with_tls_context(self, *_: object, **__: object) -> _Pool:
        """There is one server, whatever the request's address says."""
        return self._pool

    def request_url(self, request: PreparedRequest, proxies: Mapping[str, str] | None) -> str:
        """Only the path: there is no proxy."""
        return request.path_url

    def send(  # type: ignore[override]
        self,
        request: PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002 - requests' own signature
        timeout: Any = None,
        **_: object,
    ) -> Response:
        """One request. The body of the answer is read here and bounded, unless `stream`."""
        response = super().send(request, stream=True, timeout=timeout, verify=False)
        status = response.status_code
        if status >= 300:  # 304 too: it was so already, which is a wrong state for our verbs
            raise errors.refusal(status, _body(response, REFUSAL_BYTES_MAX, cut=True))
        if not stream:
            # What `requests` itself would do, without a bound, the first time that somebody asks.
            response._content = _body(response, ANSWER_BYTES_MAX)  # noqa: SLF001
            response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001
        return response

    def close(self) -> None:
        """Drop the kept connections."""
        self._pool.close()


def without_deadline(response: Response) -> None:
    """Let a stream take as long as it likes from now on; `Line.shut` still ends it."""
    connection = response.raw.connection
    if isinstance(connection, _Connection) and connection.line is not None:
        connection.line.settimeout(None)


def _body(response: Response, limit: int, *, cut: bool = False) -> bytes:
    pieces, size = [], 0
    for piece in response.raw.stream(65536, decode_content=True):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            response.raw.close()
            if cut:
                break
            raise errors.unreadable(f"an answer of more than {limit // 1024 // 1024} MiB")
    else:
        response.raw.release_conn()
    return b"".join(pieces)[:limit]
