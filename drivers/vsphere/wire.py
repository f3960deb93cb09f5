"""SOAP over HTTPS to one ESXi or vCenter: pyVmomi's types and (de)serializer over a transport of our own.

pyVmomi's own transport reads answers of any size for any time, as long as a byte comes now and then, and passes on whatever a
damaged answer makes its parser raise. Here a call has one deadline for all of it, an answer has a size, and what cannot be read
is `Garbled`. The connections are `drivers.wires`'.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import threading
import time
import urllib.parse
import zlib
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any

from pyVmomi import VmomiSupport, vim, vmodl
from pyVmomi.SoapAdapter import SoapResponseDeserializer, SoapStubAdapterBase

from drivers import wires
from drivers.errors import AuthFailed, DriverError, Unreachable
from drivers.vsphere.errors import Garbled, driver_error, is_fault, translate
from drivers.wires import CONNECT_SECONDS, Connections, DeadlineSocket, Target

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

CALL_SECONDS = 30.0
IDLE_SECONDS = 45.0
"""hostd closes what is idle for a minute or two: we are first."""
ANSWER_BYTES = 192 * 1024 * 1024
"""1,000 guests are some 12 MB with their devices (measured); pages have 2,000 at most."""
VERSIONS_BYTES = 256 * 1024
COOKIE = "vmware_soap_session"
OLDEST = "vim.version.version10"
"""6.0. What a server calls itself that lists nothing newer that we know; ESXi 6.5 and newer all speak it."""
_VERSION = re.compile(rb"<version>([0-9.]{1,20})</version>")


def dial(
    host: str, port: int, context: ssl.SSLContext, *, seconds: float = CONNECT_SECONDS, address: str = ""
) -> ssl.SSLSocket:
    """As `drivers.wires.dial`, to what should be a VMware host."""
    return wires.dial(host, port, context, expected="a VMware host", seconds=seconds, address=address)


class Wire(SoapStubAdapterBase):
    """A session with the server, over as many connections as threads call at once.

    Managed objects made with this as their stub call through `InvokeMethod`. Nothing of it is signed in before `login`.
    """

    def __init__(self, target: Target, password: Callable[[], str]) -> None:
        self.target = target
        self._password = password
        self._connections = Connections(self._dial, idle_seconds=IDLE_SECONDS)
        self._login_lock = threading.Lock()
        self._cookie = ""
        self._generation = 0
        self.requestContext: dict[str, str] = {}  # SerializeRequest asks for it
        self.renewed: Callable[[], None] = lambda: None
        """Called after signing in again: views and collectors of the old session are gone."""
        super().__init__(OLDEST)  # type: ignore[no-untyped-call]
        self.content: Any = None

    # -- life -----------------------------------------------------------------------------------------------------------
    def open(self) -> None:
        """Agree on a version and read what the server is. Signs nobody in."""
        self.ComputeVersionInfo(self._newest_common_version())  # type: ignore[no-untyped-call]
        service = vim.ServiceInstance("ServiceInstance", self)
        content = service.RetrieveContent()
        if not isinstance(content, vim.ServiceInstanceContent) or not isinstance(content.about, vim.AboutInfo):
            message = "What answers there is no vSphere."
            raise Garbled(message, host=self.target.host)
        self.content = content

    def login(self) -> None:
        """Sign in. Raises faults and DriverErrors."""
        manager = self.service("sessionManager")
        self._cookie = ""
        self._invoke(method(manager, "Login"), manager, (self.target.username, self._password(), None))
        self._generation += 1

    def service(self, name: str) -> Any:
        """One of the server's services, by the name that the API gives it. Raises Garbled where it has none of that name."""
        found = getattr(self.content, name, None)
        if not isinstance(found, VmomiSupport.ManagedObject):
            message = f"The hypervisor does not offer its {name}."
            raise Garbled(message, host=self.target.host)
        return found

    def close(self) -> None:
        """Sign out within a few seconds, and end every connection. Never raises; may be called twice."""
        if not self._connections.shut():
            return
        if self._cookie and self.content is not None:
            with contextlib.suppress(DriverError, vmodl.MethodFault):
                manager = self.service("sessionManager")
                self._invoke(method(manager, "Logout"), manager, (), seconds=3.0, last=True)
        self._connections.cut()

    def abandon(self) -> None:
        """End every connection at once, without a word: for a host that is gone."""
        self._connections.shut()
        self._connections.cut()

    @property
    def closed(self) -> bool:
        """Whether it was closed on this side."""
        return self._connections.closed

    @property
    def calls(self) -> int:
        """How often something was sent there and answered."""
        return self._connections.uses

    # -- calls ----------------------------------------------------------------------------------------------------------
    def InvokeMethod(self, mo: Any, info: Any, args: Any) -> Any:  # noqa: N802 - pyVmomi's name
        """One call of a managed object's method. A session that has expired is renewed once. Raises faults, DriverError."""
        return self.invoke(mo, info, args)

    def invoke(self, mo: Any, info: Any, args: Any, *, seconds: float = 0.0) -> Any:
        """As `InvokeMethod`, with `seconds` for the whole of it (0: `CALL_SECONDS`)."""
        generation = self._generation
        try:
            return self._invoke(info, mo, args, seconds=seconds)
        except vim.fault.NotAuthenticated:
            if not generation:
                raise
        self.renew(generation)
        return self._invoke(info, mo, args, seconds=seconds)

    @property
    def generation(self) -> int:
        """How often it has signed in."""
        return self._generation

    def renew(self, generation: int) -> None:
        """Sign in again, unless another thread has done so since `generation`. Raises AuthFailed."""
        with self._login_lock:
            if self._generation == generation:
                self.login()
                self.renewed()

    def get(self, path: str, *, limit: int) -> tuple[int, bytes]:
        """GET with the session's cookie: status and body of at most `limit` bytes."""
        with translate(host=self.target.host):
            status, body = self._exchange("GET", path, b"", limit=limit)
        return status, body

    def _invoke(self, info: Any, mo: Any, args: Any, *, seconds: float = 0.0, last: bool = False) -> Any:
        request = self.SerializeRequest(mo, info, args)  # type: ignore[no-untyped-call]
        with translate(host=self.target.host):
            status, body = self._exchange("POST", "/sdk", request, limit=ANSWER_BYTES, seconds=seconds, last=last)
        if status not in (200, 500):
            raise _refusal(status, self.target.host)
        if status == 200 and f"{info.wsdlName}Response".encode() not in body:
            message = "What answers there is no vSphere: it does not answer what it was asked."
            raise Garbled(message, host=self.target.host)
        answer = self._decode(body, info.result)
        if status == 200:
            return answer
        if is_fault(answer):
            raise answer
        message = "The hypervisor reported an error that cannot be read."
        raise Garbled(message, host=self.target.host)

    def _decode(self, body: bytes, result: Any) -> Any:
        """What the answer says. pyVmomi's parser trusts the server: anything may come out of it for a damaged one."""
        if b"<!DOCTYPE" in body:
            message = "The hypervisor's answer has a document type, which SOAP forbids."
            raise Garbled(message, host=self.target.host)
        try:
            # As a file: given bytes, it does not look whether the document has an end.
            return SoapResponseDeserializer(self).Deserialize(io.BytesIO(body), result)
        except Exception as error:
            # KeyError, TypeError, AttributeError, ValueError, RecursionError, expat's own, and bare Exceptions: all seen.
            message = "The hypervisor's answer cannot be read."
            raise Garbled(message, host=self.target.host, trouble=type(error).__name__) from error

    def _newest_common_version(self) -> str:
        with translate(host=self.target.host):
            status, body = self._exchange("GET", "/sdk/vimServiceVersions.xml", b"", limit=VERSIONS_BYTES)
        if status in (401, 403, 503):
            raise _refusal(status, self.target.host)
        theirs = {text.decode() for text in _VERSION.findall(body)} if status == 200 else set()
        ours = {
            number: name
            for name, number in VmomiSupport.versionIdMap.items()
            if name.startswith("vim.version.") and re.fullmatch(r"[0-9.]+", number)
        }
        common = [number for number in theirs & ours.keys() if _order(number) >= _order(ours_number(OLDEST))]
        return str(ours[max(common, key=_order)]) if common else OLDEST

    # -- HTTP -----------------------------------------------------------------------------------------------------------
    def _exchange(
        self, method: str, path: str, body: bytes, *, limit: int, seconds: float = 0.0, last: bool = False
    ) -> tuple[int, bytes]:
        head = [
            f"{method} {path} HTTP/1.1", f"Host: {self.target.authority}", "Accept-Encoding: gzip", "User-Agent: vmmanager",
            f"Content-Length: {len(body)}",
        ]  # fmt: skip
        if body:
            head += ["Content-Type: text/xml; charset=utf-8", f"SOAPAction: {self.versionId}"]
        if self._cookie:
            head.append(f"Cookie: {self._cookie}")
        request = "\r\n".join([*head, "", ""]).encode() + body
        until = time.monotonic() + (seconds or CALL_SECONDS)
        with self._connections.one(until, connect_seconds=CONNECT_SECONDS, last=last) as connection:
            connection.send(request)
            response = http.client.HTTPResponse(connection, method=method)  # type: ignore[arg-type]
            response.begin()
            content = _read(response, limit)
            self._keep_cookie(response)
            connection.reusable = not response.will_close
            return response.status, content

    def _dial(self, seconds: float) -> DeadlineSocket:
        target = self.target
        return DeadlineSocket(dial(target.host, target.port, target.context, seconds=seconds))

    def _keep_cookie(self, response: http.client.HTTPResponse) -> None:
        for text in response.headers.get_all("Set-Cookie") or ():
            try:
                morsel = SimpleCookie(text).get(COOKIE)
            except CookieError:
                continue
            if morsel is not None and re.fullmatch(r"[\x21-\x7e]{1,512}", morsel.coded_value):
                self._cookie = f"{COOKIE}={morsel.coded_value}"


def method(managed: Any, name: str) -> Any:
    """What pyVmomi knows of a managed object's method."""
    return managed._GetMethodInfo(name)  # noqa: SLF001 - "public, officially supported" in spite of its name


def moid(managed: Any) -> str:
    """A managed object's identifier, unique within the server among objects of its type."""
    return str(managed._GetMoId())  # noqa: SLF001 - "public, officially supported" in spite of its name


def _read(response: http.client.HTTPResponse, limit: int) -> bytes:
    """The whole body, unpacked, of at most `limit` bytes. Raises Garbled when there is more."""
    packed = (response.headers.get("Content-Encoding") or "identity").lower() != "identity"
    unzip = zlib.decompressobj(zlib.MAX_WBITS + 32) if packed else None
    pieces: list[bytes] = []
    size = 0
    while chunk := response.read(65536):
        try:
            piece = unzip.decompress(chunk, limit + 1 - size) if unzip else chunk
        except zlib.error as error:
            message = "The hypervisor's answer is damaged: it cannot be unpacked."
            raise Garbled(message) from error
        size += len(piece)
        if size > limit or (unzip is not None and unzip.unconsumed_tail):
            message = f"The hypervisor's answer is larger than {limit >> 20} MiB."
            raise Garbled(message)
        pieces.append(piece)
    if response.length:
        message = "The hypervisor ended the connection in the middle of an answer."
        raise Unreachable(message)
    if unzip is not None and not unzip.eof:
        message = "The hypervisor's answer is damaged: it cannot be unpacked."
        raise Garbled(message)
    return b"".join(pieces)


def _refusal(status: int, host: str) -> DriverError:
    if status in (401, 403):
        return AuthFailed(f"The server refuses us with HTTP {status}.", host=host)
    if status in (502, 503, 504):
        return Unreachable(f"The management service there is not ready (HTTP {status}).", host=host)
    return Garbled(f"What answers there is no vSphere: it says HTTP {status}.", host=host)


def _order(number: str) -> tuple[int, ...]:
    return tuple(int(part) for part in number.split(".") if part)


def ours_number(name: str) -> str:
    """The number that pyVmomi gives a version."""
    return str(VmomiSupport.versionIdMap[name])


def fault_error(fault: BaseException, **context: object) -> DriverError:
    """A fault that came as a value (a task's), as our error."""
    if isinstance(fault, vmodl.MethodFault):
        return driver_error(fault, **context)
    message = "The hypervisor reported an error that cannot be read."
    return Garbled(message, **context)


def quoted(text: str) -> str:
    """A value for a query string."""
    return urllib.parse.quote(text, safe="")
