"""The HTTPS below pypsrp's WSMan: our trust in certificates, no environment, no redirects, and an end to every wait."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import requests
from pypsrp.negotiate import HTTPNegotiateAuth
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool

from drivers import tls
from drivers.errors import AuthFailed, Unreachable
from drivers.hyperv.errors import TooMuch, translate

if TYPE_CHECKING:
    import ssl

    from typing_extensions import Buffer

    from drivers.types import Credentials

CONNECT_SECONDS = 5.0
ANSWER_BYTES = 64 * 2**20
"""No answer may be bigger: a page of an enumeration has at most the 500 KiB of an envelope, a picture some MiB."""


class _Allowance(threading.local):
    """What this thread's call may still take."""

    until = float("inf")
    bytes_left = ANSWER_BYTES

    def begin(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds
        self.bytes_left = ANSWER_BYTES


allowance = _Allowance()


def bounded_context(credentials: Credentials | None) -> ssl.SSLContext:
    """`drivers.tls.client_context`, whose sockets keep to this thread's allowance: a host that trickles ends too."""
    context = tls.client_context(credentials)
    base: type[ssl.SSLSocket] = context.sslsocket_class

    class BoundedSocket(base):  # type: ignore[valid-type, misc]
        def recv_into(self, buffer: Buffer, nbytes: int | None = None, flags: int = 0) -> int:
            left = allowance.until - time.monotonic()
            if left <= 0:
                raise TimeoutError("the call's time is over")
            before = self.gettimeout()
            self.settimeout(left if before is None else min(before, left))
            try:
                count: int = super().recv_into(buffer, nbytes, flags)
            finally:
                self.settimeout(before)
            allowance.bytes_left -= count
            if allowance.bytes_left < 0:
                raise TooMuch("the answer is too big")
            return count

    context.sslsocket_class = BoundedSocket
    return context


class _Adapter(HTTPAdapter):
    """One connection (NTLM signs in connections, not requests), trusted as the context says and nothing else."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._opened: WeakSet[HTTPSConnection] = WeakSet()
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:  # noqa: FBT001, FBT002 - requests' own signature
        super().init_poolmanager(connections, maxsize, block, ssl_context=self._context, **options)
        opened = self._opened

        class Connection(HTTPSConnection):
            def connect(self) -> None:
                opened.add(self)
                super().connect()
                self.is_verified = True  # by the context, as the credentials want it: no warning with each request

        class Pool(HTTPSConnectionPool):
            ConnectionCls = Connection

        self.poolmanager.pool_classes_by_scheme = {"https": Pool}

    def close(self) -> None:
        """Also what is not in the pool: pypsrp drops a connection on the floor when NTLM fails half-way."""
        super().close()
        for connection in list(self._opened):
            connection.close()

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        where, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return where, {}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Requests would put its own idea of trust over the context's."""


def new_session(context: ssl.SSLContext) -> requests.Session:
    """A session that speaks HTTPS only, to the named host only; netrc and proxies of the environment are left alone."""
    session = requests.Session()
    session.trust_env = False
    session.max_redirects = 0
    session.adapters.clear()
    session.mount("https://", _Adapter(context))
    session.headers["User-Agent"] = "vmmanager"
    session.headers["Accept-Encoding"] = "identity"
    return session


def choose_auth(url: str, host: str, context: ssl.SSLContext, seconds: float) -> str:
    """What the host offers, the better first: `negotiate` (the password stays here) or `basic` (over TLS).

    Raises:
        AuthFailed: It offers neither. Unreachable: Nothing there speaks WS-Management. And what `translate` raises.
    """
    with translate(host), new_session(context) as session:
        allowance.begin(seconds)
        headers = {"Content-Type": "application/soap+xml;charset=UTF-8"}
        answer = session.post(url, data=b"", headers=headers, timeout=(CONNECT_SECONDS, seconds))
        status, offered = answer.status_code, answer.headers.get("WWW-Authenticate", "").lower()
    if status != 401:
        message = f"{host} answers, but not as WinRM does (HTTP {status} where it should ask for a password)."
        raise Unreachable(message, host=host)
    if "negotiate" in offered or "ntlm" in offered:
        return "negotiate"
    if "basic" in offered:
        return "basic"
    raise AuthFailed(f"WinRM on {host} takes neither Negotiate (NTLM) nor Basic.", host=host)


def authentication(kind: str, credentials: Credentials) -> requests.auth.AuthBase:
    """The chosen way, for a session. Only ever used over TLS."""
    if kind == "negotiate":
        made: requests.auth.AuthBase = HTTPNegotiateAuth(
            username=credentials.username, password=credentials.password, auth_provider="negotiate", service="HTTP"
        )
        return made
    return HTTPBasicAuth(credentials.username.encode(), credentials.password.encode())
