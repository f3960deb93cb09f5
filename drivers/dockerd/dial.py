"""How one gets to an engine: a unix socket, TCP with TLS, or SSH to the machine whose socket it is."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from drivers.dockerd import errors
from drivers.dockerd.ssh import Tunnel
from drivers.dockerd.wire import CONNECT_SECONDS, Line, unix_line
from drivers.errors import Denied, Timeout, Unreachable
from drivers.tls import client_context

if TYPE_CHECKING:
    from drivers.types import Endpoint

TLS_PORT = 2376
VERDICT_SECONDS = 1.0


class Dialer(Protocol):
    """Makes connections to one engine, as many as are asked for."""

    local: bool
    """Whether it is a socket of this machine."""

    def dial(self) -> Line:
        """One connection, within `CONNECT_SECONDS`. Raises Unreachable, Timeout, Denied, TlsFailed, AuthFailed."""

    def close(self) -> None:
        """Give up what the connections share. Never raises, twice is fine."""


def dialer(endpoint: Endpoint) -> Dialer:
    """How to get to this endpoint. Blocks while an SSH connection is made.

    Raises:
        DriverError: Credentials that cannot be used, or (SSH) a host that cannot be reached.
    """
    parts = urlsplit(endpoint.uri)
    kind, _, transport = parts.scheme.partition("+")
    if transport == "unix":
        return UnixDialer(parts.path, group=kind)
    if transport == "ssh":
        return Tunnel(endpoint, engine=kind)
    return TlsDialer(endpoint, host=parts.hostname or "", port=parts.port or TLS_PORT)


class UnixDialer:
    """A socket of this machine."""

    local = True

    def __init__(self, path: str, *, group: str) -> None:
        self._path = path
        self._group = group

    def dial(self) -> Line:
        """See `Dialer`."""
        try:
            return unix_line(self._path)
        except PermissionError as error:
            raise Denied(
                f"This account may not use {self._path}; run as root, or let its group in (usually `{self._group}`)."
            ) from error

    def close(self) -> None:
        """Nothing is shared."""


class TlsDialer:
    """TCP with TLS, believing whom the credentials say."""

    local = False

    def __init__(self, endpoint: Endpoint, *, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._context = client_context(endpoint.credentials)
        self._let_in = False

    def dial(self) -> Line:
        """See `Dialer`."""
        where = f"{self._host}:{self._port}"
        try:
            sock = socket.create_connection((self._host, self._port), timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            raise Timeout(f"{where} does not answer.") from error
        except (OSError, UnicodeError) as error:
            raise Unreachable(f"{where} cannot be reached: {getattr(error, 'strerror', None) or error}.") from error
        try:
            _keep_alive(sock)
            sock = stream = self._context.wrap_socket(sock, server_hostname=self._host)
            if not self._let_in:
                _hear_verdict(stream)
                self._let_in = True
            return Line(stream)
        except TimeoutError as error:
            sock.close()
            raise Timeout(f"{where} took the connection and did not shake hands.") from error
        except ssl.SSLError as error:
            sock.close()
            raise errors.of_tls(error, host=self._host) from error
        except OSError as error:
            sock.close()
            raise Unreachable(f"{where} closed the connection during the TLS handshake.") from error

    def close(self) -> None:
        """Nothing is shared."""


def _hear_verdict(stream: ssl.SSLSocket) -> None:
    """Wait a moment for what the server thinks of our certificate; raises SSLError when it refuses.

    With TLS 1.3 our half of the handshake is over before the server has looked. Whoever sends a request at once may be reset
    before he has read why (seen under load). A server that lets us in sends a session ticket first, as most do.
    """
    if stream.version() != "TLSv1.3":
        return
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    if poll.poll(VERDICT_SECONDS * 1000):
        stream.settimeout(0)
        with contextlib.suppress(ssl.SSLWantReadError):
            stream.recv(1)  # nothing but a ticket or an alert: nobody has asked anything yet


def _keep_alive(sock: socket.socket) -> None:
    """A peer without power is noticed within 15 s even by who only waits for it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 6)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
