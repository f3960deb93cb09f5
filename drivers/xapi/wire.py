"""XML-RPC over HTTPS to one XAPI: the official binding's proxy over a transport of our own.

The binding's own transport has no deadline, no limit, one connection, and a session that two threads would renew against each
other. Here a call has one deadline for all of it, an answer has a size and no document type (so no entities), and an expired session
is renewed once. Connections are kept and reused; several threads may call at once, each has its own.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import select
import socket
import ssl
import threading
import time
import xmlrpc.client
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

import XenAPI

from drivers import tls
from drivers.errors import AuthFailed, DriverError, TlsFailed, Unreachable
from drivers.xapi.errors import Garbled, driver_error, translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONNECT_SECONDS = 10.0
CALL_SECONDS = 30.0
IDLE_SECONDS = 20.0
"""What was not used for so long is not used again: a stunnel or firewall on the way may have forgotten it without a word."""
ANSWER_BYTES = 96 * 1024 * 1024
"""A guest is some 8 KB with its devices: that is 10,000 of them."""
DEPTH = 100
"""Elements in each other. A table of records with maps has 17."""
HEAD_BYTES = 16 * 1024
ORIGIN = "vmmanager"
"""What XAPI calls our sessions in its log; it bounds the number of sessions an originator has."""
_SESSION = re.compile(r"[\x21-\x3a\x3c-\x7e]{1,256}")


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
    """A TLS connection whose every read and write ends at `until` (`time.monotonic()`), however slowly bytes come."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self.connection = connection
        self.until = 0.0
        self.last_used = time.monotonic()

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

    def stale(self) -> bool:
        """Whether the other side has ended it, or said something unasked: then it is of no use any more."""
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        return bool(poll.poll(0)) or time.monotonic() - self.last_used > IDLE_SECONDS

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


def dial(target: Target, *, seconds: float = CONNECT_SECONDS) -> DeadlineSocket:
    """Connect and shake hands within `seconds`. Raises Unreachable, Timeout, TlsFailed."""
    until = time.monotonic() + seconds
    host = target.host
    with translate(host=host):
        plain = socket.create_connection((host, target.port), timeout=max(0.1, seconds))
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.settimeout(max(0.1, until - time.monotonic()))
        return DeadlineSocket(target.context.wrap_socket(plain, server_hostname=host))
    except ssl.SSLError as error:
        plain.close()
        raise tls.translate(error, host=host) from error
    except TimeoutError as error:
        plain.close()
        message = f"{host} took the connection, but did not answer the TLS handshake in time."
        raise Unreachable(message, host=host) from error
    except OSError as error:
        plain.close()
        message = f"{host} ended the connection in the TLS handshake; is this the HTTPS port of a XenServer?"
        raise TlsFailed(message, host=host) from error


class Wire:
    """One login at one XAPI, over as many connections as threads call at once. Nothing is signed in before `login`."""

    def __init__(self, target: Target, password: Callable[[], str]) -> None:
        self.target = target
        self._password = password
        self._lock = threading.Lock()
        self._login_lock = threading.Lock()
        self._idle: list[DeadlineSocket] = []
        self._live: set[DeadlineSocket] = set()
        self._session = ""
        self._generation = 0
        self._closed = False
        self.calls = 0

    # -- life -----------------------------------------------------------------------------------------------------------
    def login(self) -> None:
        """Sign in. Raises AuthFailed, Unreachable (also where this host is only a member of a pool)."""
        arguments = (self.target.username, self._password(), "1.0", ORIGIN)
        with translate(host=self.target.host):
            session = self._invoke("session.login_with_password", arguments, seconds=CALL_SECONDS)
        if not isinstance(session, str) or not _SESSION.fullmatch(session):
            message = "What answers there is no XenServer: it gave no session."
            raise Garbled(message, host=self.target.host)
        self._session = session
        self._generation += 1

    def close(self) -> None:
        """End every connection and sign out within a few seconds. Never raises; may be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            live = list(self._live)
            idle, self._idle = self._idle, []
        for each in live:
            each.wake()
        for each in idle:
            each.close()
        if self._session:
            with contextlib.suppress(DriverError, _Expired):
                self._invoke("session.logout", (self._session,), seconds=3.0, last=True)

    def abandon(self) -> None:
        """End every connection at once, without a word: for a host that is gone."""
        self._session = ""
        self.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed on this side."""
        return self._closed

    # -- calls ----------------------------------------------------------------------------------------------------------
    def call(self, method: str, *arguments: object, seconds: float = CALL_SECONDS) -> Any:
        """One call, `seconds` for the whole of it. A session that has expired is renewed once. Raises DriverError.

        What comes back is XML-RPC's own types, and whatever a hostile server puts there: `drivers.xapi.records` reads it.
        """
        generation = self._generation
        try:
            return self._invoke(method, (self._session, *arguments), seconds=seconds)
        except _Expired:
            with self._login_lock:
                if self._generation == generation:
                    self.login()
        with translate(host=self.target.host):
            return self._invoke(method, (self._session, *arguments), seconds=seconds)

    def about_me(self, field: str) -> Any:
        """A field of our own session's record. Raises DriverError."""
        return self.call(f"session.get_{field}", self._session)

    def get(self, path: str, *, limit: int, at: Target | None = None) -> bytes:
        """GET with the session in the cookie (in the address it would stand in logs): a body of at most `limit` bytes.

        `at` is another host of the pool: sessions are good there too. Raises DriverError.
        """
        generation = self._generation
        status, body = self._fetch(path, limit, at)
        if status == 401:
            with self._login_lock:
                if self._generation == generation:
                    self.login()
            status, body = self._fetch(path, limit, at)
        if status != 200:
            raise refusal(status, (at or self.target).host)
        return body

    def tunnel(self, path: str, *, at: Target | None = None) -> tuple[int, DeadlineSocket]:
        """CONNECT, as XAPI serves consoles: after a 200 the connection is the console's, else it is closed. Raises DriverError."""
        target = at or self.target
        connection = dial(target)
        connection.until = time.monotonic() + CONNECT_SECONDS
        try:
            with translate(host=target.host):
                connection.send(self._head("CONNECT", path, version="1.0"))
                status = _tunnel_status(connection)
        except DriverError:
            connection.close()
            raise
        if status != 200:
            connection.close()
        return status, connection

    def _fetch(self, path: str, limit: int, at: Target | None) -> tuple[int, bytes]:
        with translate(host=(at or self.target).host):
            head = self._head("GET", path, "Accept: text/xml, application/xml")
            return self._exchange("GET", head, limit=limit, seconds=CALL_SECONDS, at=at)

    def _invoke(self, method: str, arguments: tuple[object, ...], *, seconds: float, last: bool = False) -> Any:
        transport = _Transport(lambda body: self._post(body, seconds=seconds, last=last))
        with translate(host=self.target.host):
            proxy = XenAPI.Session(f"https://{self.target.authority}/", transport=transport)
            answer = getattr(proxy, method)(*arguments)
        if isinstance(answer, dict):
            if answer.get("Status") == "Success" and "Value" in answer:
                return answer["Value"]
            if answer.get("Status") == "Failure":
                details = answer.get("ErrorDescription")
                if isinstance(details, list) and details[:1] == ["SESSION_INVALID"]:
                    raise _Expired(details)
                raise driver_error(details, host=self.target.host)
        message = "What answers there is no XenServer."
        raise Garbled(message, host=self.target.host)

    # -- HTTP -----------------------------------------------------------------------------------------------------------
    def _post(self, body: bytes, *, seconds: float, last: bool) -> bytes:
        head = self._head("POST", "/", "Content-Type: text/xml", f"Content-Length: {len(body)}", session="")
        status, answer = self._exchange("POST", head + body, limit=ANSWER_BYTES, seconds=seconds, last=last)
        if status != 200:
            raise refusal(status, self.target.host)
        return answer

    def _head(self, method: str, path: str, *lines: str, version: str = "1.1", session: str | None = None) -> bytes:
        session = self._session if session is None else session
        head = [f"{method} {path} HTTP/{version}", f"Host: {self.target.authority}", f"User-Agent: {ORIGIN}", *lines]
        if session:
            head.append(f"Cookie: session_id={session}")
        return "\r\n".join([*head, "", ""]).encode("latin-1")

    def _exchange(
        self, method: str, request: bytes, *, limit: int, seconds: float, last: bool = False, at: Target | None = None
    ) -> tuple[int, bytes]:
        with self._connected(time.monotonic() + seconds, last=last, at=at) as connection:
            connection.send(request)
            response = http.client.HTTPResponse(connection, method=method)  # type: ignore[arg-type]
            response.begin()
            content = _read(response, limit)
            if not response.will_close and at is None:
                self._give_back(connection)
            return response.status, content

    @contextlib.contextmanager
    def _connected(self, until: float, *, last: bool, at: Target | None) -> Iterator[DeadlineSocket]:
        kept_one = self._take(last=last) if at is None else None
        connection = kept_one or dial(at or self.target, seconds=min(CONNECT_SECONDS, until - time.monotonic()))
        connection.until = until
        with self._lock:
            self._live.add(connection)
            gone = self._closed and not last
            self.calls += 1
        try:
            if gone:
                raise _closed()
            yield connection
        except (OSError, http.client.HTTPException) as error:
            if self._closed and not last:
                raise _closed() from error
            raise
        finally:
            with self._lock:
                self._live.discard(connection)
                kept = connection in self._idle
            if not kept:
                connection.close()

    def _take(self, *, last: bool) -> DeadlineSocket | None:
        """A kept connection that still stands."""
        while True:
            with self._lock:
                if self._closed and not last:
                    raise _closed()
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if not connection.stale():
                return connection
            connection.close()

    def _give_back(self, connection: DeadlineSocket) -> None:
        connection.last_used = time.monotonic()
        with self._lock:
            if not self._closed:
                self._idle.append(connection)


class _Expired(XenAPI.Failure):  # type: ignore[misc]
    """XAPI does not know our session (any more): it was restarted, or the session was idle for a day."""


class _Transport:
    """What `xmlrpc.client.ServerProxy` wants of a transport."""

    def __init__(self, post: Callable[[bytes], bytes]) -> None:
        self._post = post

    def request(self, _host: str, _handler: str, body: bytes, verbose: object = None) -> Any:
        """Send one call and read its answer, a tuple of one value as the proxy wants it."""
        del verbose
        return parse(self._post(body))


def parse(body: bytes) -> Any:
    """What an XML-RPC answer says, as a tuple. Raises Garbled for a document type, and whatever the standard parser raises for damage.

    Expat expands entities that a document type declares; versions before 2.4 without any bound. XAPI sends none.
    """
    target = xmlrpc.client.Unmarshaller(use_datetime=False)
    parser = expat.ParserCreate()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEPTH:
            message = "The hypervisor's answer is nested deeper than XenServer's ever are."
            raise Garbled(message)
        target.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        target.end(tag)

    parser.StartDoctypeDeclHandler = refuse_doctype
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = target.data
    target.xml(None, None)  # type: ignore[arg-type]  # text is decoded already
    parser.Parse(body, True)  # noqa: FBT003 - expat's own signature
    return target.close()


def refuse_doctype(*_about: object) -> None:
    """For expat's `StartDoctypeDeclHandler`."""
    message = "The hypervisor's answer has a document type: that is never XenServer."
    raise Garbled(message)


def _tunnel_status(connection: DeadlineSocket) -> int:
    """Read the head of the answer to CONNECT to its end and not a byte further: what follows is the console's."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.receive(1)
        if not piece or len(head) > HEAD_BYTES:
            raise http.client.BadStatusLine("")
        head += piece
    match = re.match(rb"HTTP/1\.[01] ([0-9]{3})\b", head)
    if match is None:
        raise http.client.BadStatusLine("")
    return int(match[1])


def _read(response: http.client.HTTPResponse, limit: int) -> bytes:
    """The whole body, of at most `limit` bytes. Raises Garbled when there is more."""
    pieces: list[bytes] = []
    size = 0
    while piece := response.read(65536):
        size += len(piece)
        if size > limit:
            message = f"The hypervisor's answer is larger than {limit >> 20} MiB."
            raise Garbled(message)
        pieces.append(piece)
    return b"".join(pieces)


def refusal(status: int, host: str) -> DriverError:
    """What an HTTP status other than 200 means."""
    if status in (401, 403):
        return AuthFailed(f"The server refuses us with HTTP {status}.", host=host)
    if status in (502, 503, 504):
        return Unreachable(f"XAPI there is not ready (HTTP {status}).", host=host)
    return Garbled(f"The server answered HTTP {status}; is it a XenServer?", host=host)


def _closed() -> Unreachable:
    message = "The connection is closed."
    return Unreachable(message)
