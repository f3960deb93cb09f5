"""XML-RPC over HTTPS to one XAPI: the official binding's proxy over a transport of our own.

The binding's own transport has no deadline, no limit, one connection, and a session that two threads would renew against each
other. Here a call has one deadline for all of it, an answer has a size and no document type (so no entities), and an expired session
is renewed once. The connections are `drivers.wires`'.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import re
import threading
import time
import xmlrpc.client
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

import XenAPI

from drivers import wires
from drivers.errors import AuthFailed, DriverError, Unreachable
from drivers.wires import CONNECT_SECONDS, Connections, DeadlineSocket, Target
from drivers.xapi.errors import Garbled, driver_error, translate

if TYPE_CHECKING:
    from collections.abc import Callable

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


def dial(target: Target, seconds: float = CONNECT_SECONDS) -> DeadlineSocket:
    """As `drivers.wires.dial`, to what should be a XenServer."""
    return DeadlineSocket(wires.dial(target.host, target.port, target.context, expected="a XenServer", seconds=seconds))


class Wire:
    """One login at one XAPI, over as many connections as threads call at once. Nothing is signed in before `login`."""

    def __init__(self, target: Target, password: Callable[[], str]) -> None:
        self.target = target
        self._password = password
        self._connections = Connections(functools.partial(dial, target), idle_seconds=IDLE_SECONDS)
        self._login_lock = threading.Lock()
        self._session = ""
        self._generation = 0

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
        if not self._connections.shut():
            return
        self._connections.cut()
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
        return self._connections.closed

    @property
    def calls(self) -> int:
        """How often something was sent there and answered."""
        return self._connections.uses

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
        elsewhere = functools.partial(dial, at) if at is not None else None
        with self._connections.one(
            time.monotonic() + seconds, connect_seconds=CONNECT_SECONDS, last=last, make=elsewhere
        ) as connection:
            connection.send(request)
            response = http.client.HTTPResponse(connection, method=method)  # type: ignore[arg-type]
            response.begin()
            content = _read(response, limit)
            connection.reusable = not response.will_close
            return response.status, content


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
