"""A machine's screen: RFB inside a WebSocket to the ESXi host that runs it, let in by a ticket that is good for a minute.

websockets' protocol without its threads: a guest that does not read must not hold a writer for ever, and only a socket of our
own can be waited for with a deadline. The ticket came over the trusted session and names the certificate that the host will
show: that one is believed there, whoever signed it.
"""

from __future__ import annotations

import contextlib
import hashlib
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.frames import Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from drivers import reach
from drivers.errors import Timeout, TlsFailed, Unreachable
from drivers.vsphere.errors import translate
from drivers.vsphere.wire import dial

if TYPE_CHECKING:
    from websockets.frames import Frame

OPEN_SECONDS = 10.0
WRITE_SECONDS = 10.0
FRAME_BYTES = 16 * 1024 * 1024
PIECE_BYTES = 32 * 1024
UNREAD_BYTES = 4 * 1024 * 1024
"""Nothing more is taken from the host while this much waits to be read."""
UNSENT_BYTES = 4 * 1024 * 1024
"""A host that asks for this many pongs and takes none of them is given up: they would wait in our memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Where a console waits. `thumbprints`: hex without colons, SHA-1 or SHA-256; any one must fit. Its repr is not secret-free."""

    host: str
    port: int
    path: str
    thumbprints: tuple[str, ...]


class WebSocketConsole:
    """A `drivers.base.Console` over a WebSocket of binary messages."""

    def __init__(self, connection: ssl.SSLSocket, uri: str) -> None:
        connection.settimeout(0)
        self._socket = connection
        self._lock = threading.Lock()  # one thread at a time inside OpenSSL and the protocol; nobody waits inside
        self._writing = threading.Lock()
        self._protocol = ClientProtocol(parse_uri(uri), subprotocols=["binary"], max_size=FRAME_BYTES)  # type: ignore[list-item]
        self._unsent = bytearray()
        self._unread = bytearray()
        self._ended = False
        self._closed = False
        self._wake, self._waker = socket.socketpair()

    def open(self) -> None:
        """The WebSocket's handshake. Raises Unreachable, Timeout."""
        until = time.monotonic() + OPEN_SECONDS
        with self._lock:
            self._protocol.send_request(self._protocol.connect())
        while self._protocol.state is not OPEN:
            self._turn(until - time.monotonic(), reading=True)
            error = self._protocol.handshake_exc
            if error is not None or self._ended:
                message = f"The host refused the console: {error or 'it ended the connection'}."
                raise Unreachable(message) from error
            if time.monotonic() > until:
                message = "The host did not open the console in time."
                raise Timeout(message)
        if self._protocol.subprotocol != "binary":
            message = "The host does not offer the console as binary messages."
            raise Unreachable(message)

    def read(self, size: int = 65536, *, timeout_seconds: float) -> bytes | None:
        """Bytes when there are any, `b""` at the end, None when nothing came in time."""
        until = time.monotonic() + timeout_seconds
        while True:
            with self._lock:
                if self._unread and not self._closed:
                    data = bytes(self._unread[:size])
                    del self._unread[:size]
                    return data
                if self._closed or self._ended:
                    return b""
            left = until - time.monotonic()
            self._turn(left, reading=True)
            if left <= 0 and not self._unread and not self._ended:
                return None

    def write(self, data: bytes) -> None:
        """Send all of `data`. Raises Timeout when the host takes nothing for some seconds, Unreachable when it is gone."""
        with self._writing:
            for start in range(0, len(data), PIECE_BYTES):
                self._write(data[start : start + PIECE_BYTES])

    def _write(self, piece: bytes) -> None:
        with self._lock:
            if self._closed or self._ended or self._protocol.state is not OPEN:
                raise _gone()
            self._protocol.send_binary(piece)
        until = time.monotonic() + WRITE_SECONDS
        waiting: int | None = None
        while True:
            # Only sends: what comes in is the reader's, or a reader that rests would be read past.
            self._turn(until - time.monotonic(), reading=False)
            with self._lock:
                left = len(self._unsent)
                if self._closed or self._ended:
                    raise _gone()
            if not left:
                return
            if waiting is None or left < waiting:
                waiting, until = left, time.monotonic() + WRITE_SECONDS
            elif time.monotonic() > until:
                message = "The screen does not take its input."
                raise Timeout(message)

    def resize(self, *, columns: int, rows: int) -> None:
        """A screen has its own size: nothing happens."""

    def close(self) -> None:
        """End it. Never raises; may be called twice and from any thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with contextlib.suppress(WebSocketException, OSError, ValueError):
                if self._protocol.state is OPEN:
                    self._protocol.send_close(1000)
                    self._collect()
                    self._flush()
            with contextlib.suppress(OSError):
                self._waker.send(b"x")
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            self._socket.close()

    def __del__(self) -> None:
        for each in (self._wake, self._waker, self._socket):
            each.close()

    def _turn(self, seconds: float, *, reading: bool) -> None:
        """Send what waits, take what came; waits at most `seconds` for either."""
        try:
            with self._lock:
                if self._closed or self._ended:
                    return
                self._collect()
                self._flush()
                moved = reading and self._fill()
                wants = select.POLLOUT if self._unsent else 0
            if moved or (not reading and not wants):
                return
            poll = select.poll()
            poll.register(self._wake, select.POLLIN)
            poll.register(self._socket, (select.POLLIN if reading else 0) | wants)
            poll.poll(max(0.0, seconds) * 1000)
        except (OSError, ValueError, WebSocketException):
            with self._lock:
                self._ended = True

    def _collect(self) -> None:
        for data in self._protocol.data_to_send():
            self._unsent += data
        if len(self._unsent) > UNSENT_BYTES:
            self._ended = True

    def _flush(self) -> None:
        with contextlib.suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent[:65536])]

    def _fill(self) -> bool:
        """Take what came, if there is room. Whether anything did."""
        if len(self._unread) > UNREAD_BYTES:
            return True
        try:
            data = self._socket.recv(65536)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            return False
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
            self._ended = True
        for event in self._protocol.events_received():
            self._take(event)
        if self._protocol.parser_exc is not None:
            self._ended = True
        self._collect()
        self._flush()
        return True

    def _take(self, event: object) -> None:
        frame: Frame | None = event if hasattr(event, "opcode") else None  # type: ignore[assignment]
        if frame is None:
            return
        if frame.opcode in (Opcode.BINARY, Opcode.TEXT, Opcode.CONT):
            self._unread += frame.data
        elif frame.opcode is Opcode.CLOSE:
            self._ended = True


def open_console(ticket: Ticket, context: ssl.SSLContext, *, home: str) -> WebSocketConsole:
    """Connect to where the ticket leads. Raises Unreachable, Timeout, TlsFailed.

    Args:
        ticket: As vSphere gave it; good for one connection.
        context: What to believe where it names no certificate.
        home: The host that gave it.
    """
    address = ticket.host if ticket.host == home else _place(ticket, home)
    if ticket.thumbprints:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    connection = dial(ticket.host, ticket.port, context, address=address)
    try:
        _check(connection, ticket)
        shown = f"[{ticket.host}]" if ":" in ticket.host else ticket.host
        console = WebSocketConsole(connection, f"wss://{shown}:{ticket.port}{ticket.path}")
    except BaseException:
        connection.close()
        raise
    try:
        with translate(host=ticket.host):
            console.open()
    except BaseException:
        console.close()
        raise
    return console


def _place(ticket: Ticket, home: str) -> str:
    """The address of another host that a ticket names: that is the server's word, and it may lie.

    It may name any machine but not those that no host can be (`drivers.reach.forbidden`) or, from afar, this one.
    """
    try:
        addresses = reach.resolve(ticket.host, ticket.port, reach.Budget(time.monotonic() + OPEN_SECONDS))
    except reach.Trouble as trouble:
        raise Unreachable(f"The console is at a place that we do not go to. {trouble.evidence}") from trouble
    if any(reach.is_loopback(each) for each in addresses) and not reach.is_loopback(home):
        message = f"The console is said to be at {ticket.host}: that is this machine, not the host of this guest."
        raise Unreachable(message)
    return addresses[0]


def _check(connection: ssl.SSLSocket, ticket: Ticket) -> None:
    """Nothing is said to a host whose certificate is not the ticket's."""
    der = connection.getpeercert(binary_form=True) or b""
    shown = {hashlib.sha1(der, usedforsecurity=False).hexdigest(), hashlib.sha256(der).hexdigest()}
    if ticket.thumbprints and shown.isdisjoint(ticket.thumbprints):
        message = f"{ticket.host} shows another certificate than the one that the console's ticket names."
        raise TlsFailed(message, host=ticket.host)


def _gone() -> Unreachable:
    message = "The screen's connection has ended."
    return Unreachable(message)
