"""One engine behind one dialer: the Docker SDK's calls with deadlines, and the two streams that the SDK cannot be trusted with."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import docker
import requests
from docker.constants import DEFAULT_DOCKER_API_VERSION

from drivers.dockerd import errors
from drivers.dockerd.document import Document, rows
from drivers.dockerd.wire import EngineAdapter, without_deadline
from drivers.errors import NotFound, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from requests import Response

    from drivers.dockerd.dial import Dialer
    from drivers.dockerd.wire import Line

CALL_SECONDS = 20.0
PING_SECONDS = 5.0
STATS_SECONDS = 4.0
OLDEST_API = (1, 41)
"""Docker 20.10, Podman 3: the first that tell one set of counters without waiting a second for a second one."""
_HEAD_BYTES_MAX = 64 * 1024
_ASKING_SECONDS = 2.0
_A_DAY = 24 * 60 * 60
_LIBPOD = "v4.0.0/libpod"


class Engine:
    """A Docker Engine, or Podman's service in the same words.

    Attributes:
        podman: Podman's version, "" for Docker.
        api_version: What is spoken.
    """

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._lines: weakref.WeakSet[Line] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._closed = False
        self._client = self._make(_written(OLDEST_API))
        self.podman = ""
        self.api_version = ""

    def greet(self) -> None:
        """Find out what it is, and agree on a version.

        Raises:
            Unsupported: It is too old.
            DriverError: It is none, or out of reach.
        """
        answer = self._get("/_ping", CALL_SECONDS)
        self.podman = answer.headers.get("Libpod-Api-Version", "")[:40]
        offered = _version(answer.headers.get("Api-Version", ""))
        if offered is None:
            raise errors.unreadable("it names no API version")
        if offered < OLDEST_API:
            raise Unsupported("This engine is too old: Docker 20.10 or Podman 3.0 is the oldest that is supported.")
        newest = _version(DEFAULT_DOCKER_API_VERSION) or OLDEST_API
        self.api_version = _written(min(offered, newest))
        self._client = self._make(self.api_version)

    def close(self) -> None:
        """End every connection now; whoever waits on one wakes. Never raises."""
        with self._lock:
            self._closed = True
            lines = list(self._lines)
        for line in lines:
            line.shut()
        self._client.close()
        self._dialer.close()

    def ping(self) -> None:
        """Whether it answers, within `PING_SECONDS`."""
        self._get("/_ping", PING_SECONDS)

    def do(self, call: Callable[[Any], Any]) -> Any:
        """One call of the SDK's client, its errors as ours."""
        with errors.translate():
            return call(self._client)

    def document(self, call: Callable[[Any], Any], *, what: str = "answer") -> Document:
        """A call that answers one object."""
        return Document(self.do(call), what=what)

    def documents(self, call: Callable[[Any], Any], *, what: str = "answer") -> list[Document]:
        """A call that answers a list of objects."""
        return rows(self.do(call), what=what)

    def libpod(self, path: str, **parameters: str) -> Any:
        """A read by Podman's own API, for what the Docker API cannot tell in one call."""
        answer = self._get(f"/{_LIBPOD}{path}", CALL_SECONDS, parameters)
        with errors.translate():
            return answer.json()

    def stats(self, uuid: str) -> Document:
        """The counters of one container, within `STATS_SECONDS`."""
        parameters = {"stream": "false", "one-shot": "true"}
        answer = self._get(f"/v{self.api_version}/containers/{uuid}/stats", STATS_SECONDS, parameters)
        with errors.translate():
            return Document(answer.json(), what="stats")

    def has_file(self, container: str, path: str) -> bool:
        """Whether a container's file system has this file."""
        try:
            with errors.translate():
                url = f"{self._client.base_url}/v{self.api_version}/containers/{container}/archive"
                self._client.head(url, params={"path": path}, timeout=CALL_SECONDS)
        except NotFound:
            return False
        return True

    def begin_stop(self, uuid: str) -> None:
        """Ask a container to stop and do not wait for it: Podman goes on when nobody listens any more (measured)."""
        with errors.translate():
            url = f"{self._client.base_url}/v{self.api_version}/containers/{uuid}/stop"
            with contextlib.suppress(requests.Timeout):
                self._client.post(url, params={"t": str(_A_DAY)}, timeout=_ASKING_SECONDS)

    def events(self) -> Response:
        """The stream of container events, from now on; it ends when the engine does, or by `close`."""
        with errors.translate():
            url = f"{self._client.base_url}/v{self.api_version}/events"
            filters = json.dumps({"type": ["container"]})
            response: Response = self._client.get(url, params={"filters": filters}, stream=True, timeout=CALL_SECONDS)
            without_deadline(response)
            return response

    def attach(self, exec_id: str, *, seconds: float) -> tuple[Line, bytes]:
        """Start an exec with a terminal; its stream, and what of it came with the answer's head.

        By hand: the SDK hands out the bare socket, and what was already read behind the head is lost with its buffer.
        """
        deadline = time.monotonic() + seconds
        body = json.dumps({"Detach": False, "Tty": True})
        head = (
            f"POST /v{self.api_version}/exec/{exec_id}/start HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\n"
            f"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )
        with errors.translate():
            line = self.dial()
            try:
                line.send_all(head.encode(), deadline)
                return line, _after_head(line, deadline)
            except BaseException:
                line.shut()
                line.close()
                raise

    def dial(self) -> Line:
        """A connection that `close` will end."""
        if self._closed:
            raise errors.closed()
        line = self._dialer.dial()
        with self._lock:
            self._lines.add(line)
            late = self._closed
        if late:
            line.shut()
            line.close()
            raise errors.closed()
        return line

    @property
    def local(self) -> bool:
        """Whether it is reached by a socket of this machine."""
        return self._dialer.local

    def _get(self, path: str, seconds: float, parameters: dict[str, str] | None = None) -> Response:
        with errors.translate():
            url = f"{self._client.base_url}{path}"
            answer: Response = self._client.get(url, params=parameters, timeout=seconds)
            return answer

    def _make(self, version: str) -> Any:
        with errors.translate():
            client = docker.APIClient(base_url="unix:///engine", version=version, timeout=CALL_SECONDS)
        client.mount("http+docker://", EngineAdapter(self.dial))
        client.trust_env = False  # REQUESTS_CA_BUNDLE, .netrc and proxies are for somebody else
        client._general_configs = {}  # noqa: SLF001 - ~/.docker/config.json may hold headers for another engine
        return client


def _version(text: str) -> tuple[int, int] | None:
    major, _, minor = text.partition(".")
    if not (major.isascii() and major.isdecimal() and minor.isascii() and minor.isdecimal() and len(text) < 10):
        return None
    return int(major), int(minor)


def _written(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _after_head(line: Line, deadline: float) -> bytes:
    """What came behind the head of an answer that opens a stream; raises what any other answer means."""
    status, rest = _read_head(line, deadline)
    if status not in (101, 200):
        raise errors.refusal(status, _read_some(line, rest, deadline))
    return rest


def _read_head(line: Line, deadline: float) -> tuple[int, bytes]:
    """Status, and what came behind the head."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = line.recv(4096, deadline)
        data += piece
        if not piece or len(data) > _HEAD_BYTES_MAX:
            raise errors.unreadable("an answer without a head")
    head, _, rest = data.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit() or len(words[1]) != 3:
        raise errors.unreadable("an answer that is no HTTP")
    return int(words[1]), rest


def _read_some(line: Line, data: bytes, deadline: float) -> bytes:
    """The body of a refusal: what comes within a moment; the connection is given up anyway."""
    until = min(deadline, time.monotonic() + 1.0)
    try:
        while len(data) < _HEAD_BYTES_MAX and not data.rstrip().endswith(b"}"):
            piece = line.recv(4096, until)
            if not piece:
                break
            data += piece
    except TimeoutError:
        pass  # then what there is must do
    start, end = data.find(b"{"), data.rfind(b"}")  # it may come in chunks
    return data[start : end + 1] if 0 <= start < end else data
