"""What a container engine may answer that no engine should: every such answer ends as a DriverError, and in time."""

from __future__ import annotations

import contextlib
import gzip
import json
import queue
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drivers import registry
from drivers.dockerd import console as consoles
from drivers.dockerd import engine as engines
from drivers.dockerd import errors as engine_errors
from drivers.dockerd import session as sessions
from drivers.dockerd import wire
from drivers.dockerd.document import Document
from drivers.dockerd.errors import TABLE, refusal
from drivers.errors import (
    AlreadyExists,
    Busy,
    Denied,
    DriverError,
    NoSpace,
    NotFound,
    Timeout,
    Unreachable,
    Unsupported,
    WrongState,
)
from drivers.forms import compose
from drivers.types import Endpoint, Feature, GuestRef, GuestState
from drivers.uris import parse_uri
from tests.drivers.servers import Authority, bound, mute, serving
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drivers.base import Session

ID = "a" * 64
REF = GuestRef(uuid=ID, name="web")
ROW = {"Id": ID, "Names": ["/web"], "State": "running", "Status": "Up 2 hours", "Image": "nginx"}
WHOLE = {
    "Id": ID,
    "Name": "/web",
    "State": {"Status": "running"},
    "Config": {"Image": "nginx"},
    "HostConfig": {"RestartPolicy": {"Name": "no"}},
}
INFO = {"Name": "far", "NCPU": 4, "MemTotal": 1 << 33, "ServerVersion": "99"}
COUNTERS = {"cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000}}, "memory_stats": {"usage": 7}}

Answer = object
"""What a path answers: bytes as they are, a `(status, body)`, a callable that takes the stream, or a JSON value."""


class Liar:
    """An engine whose answers are replaced one by one."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {
            "/_ping": b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK",
            "/info": INFO,
            "/containers/json": [ROW],
            f"/containers/{ID}/json": WHOLE,
            f"/containers/{ID}/stats": COUNTERS,
            f"/containers/{ID}/archive": {},
            f"/containers/{ID}/exec": {"Id": "e1"},
        }
        self.asked: list[str] = []

    def serve(self, stream: socket.socket) -> None:
        """Answer requests on one connection until it ends."""
        stream.settimeout(None)
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                piece = stream.recv(65536)
                if not piece:
                    return
                data += piece
            head, _, data = data.partition(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
            )
            while len(data) < length:
                data += stream.recv(65536)
            data = data[length:]
            path = head.split()[1].decode().partition("?")[0].removeprefix("/v1.41").removeprefix("/v4.0.0/libpod")
            self.asked.append(path)
            self._answer(stream, self.answers.get(path, (404, {"message": "page not found"})))

    @staticmethod
    def _answer(stream: socket.socket, answer: Answer) -> None:
        if callable(answer):
            answer(stream)
        elif isinstance(answer, bytes):
            stream.sendall(answer)
        else:
            status, body = answer if isinstance(answer, tuple) else (200, answer)
            text = json.dumps(body).encode()
            stream.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(text)) + text)


def chunked(*chunks: bytes) -> bytes:
    """The head of a stream and its first pieces; it does not end."""
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces


def whole(body: bytes, *heads: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *heads]) + b"\r\n\r\n" + body


@contextlib.contextmanager
def listening(path: Path, handle: Callable[[socket.socket], None]) -> Iterator[Endpoint]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    with serving(listener, handle):
        yield Endpoint(driver="docker", uri=f"docker+unix://{path}")


@pytest.fixture
def liar(tmp_path_factory) -> Iterator[Liar]:
    made = Liar()
    with listening(tmp_path_factory.mktemp("s") / "s", made.serve) as endpoint:
        made.endpoint = endpoint
        yield made


@pytest.fixture
def session(liar: Liar) -> Iterator[Session]:
    made = registry.get("docker").open(liar.endpoint)
    yield made
    made.close()


@pytest.fixture
def hasty(monkeypatch) -> None:
    """Deadlines of half a second."""
    for name in ("CALL_SECONDS", "PING_SECONDS", "STATS_SECONDS"):
        monkeypatch.setattr(engines, name, 0.5)
    monkeypatch.setattr(consoles, "START_SECONDS", 0.5)


def drip(stream: socket.socket) -> None:
    """One byte now and then, for ever: each comes in time, the answer never does."""
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 1000:
        stream.sendall(bytes([byte]))
        threading.Event().wait(0.05)


def hang(stream: socket.socket) -> None:
    stream.recv(1)


# -- opening -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "words",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\xff" * 4000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK",
        b"HTTP/1.1 200 OK\r\nApi-Version: nonsense\r\nContent-Length: 2\r\n\r\nOK",
        b"HTTP/1.1 200 OK\r\nApi-Version: 9" + b"9" * 5000 + b".1\r\nContent-Length: 2\r\n\r\nOK",
        b"HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\nOK",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 5000,
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\n[1,2]\n",
        b"",
    ],
)
def test_what_is_no_engine_is_refused(tmp_path, words):
    def handle(stream: socket.socket) -> None:
        stream.recv(4096)
        stream.sendall(words)
        stream.shutdown(socket.SHUT_WR)
        stream.recv(4096)

    with listening(tmp_path / "s", handle) as endpoint, pytest.raises(DriverError):
        registry.get("docker").open(endpoint)


@pytest.mark.parametrize("handle", [mute, drip], ids=["mute", "drip"])
def test_an_engine_that_never_answers_is_given_up(tmp_path, hasty, handle):
    def wait(stream: socket.socket) -> None:
        stream.recv(4096)
        handle(stream)
        stream.recv(4096)

    since = time.monotonic()
    with listening(tmp_path / "s", wait) as endpoint, pytest.raises(Timeout):
        registry.get("docker").open(endpoint)
    assert time.monotonic() - since < 10


def test_an_old_engine_is_refused_by_name(liar):
    liar.answers["/_ping"] = b"HTTP/1.1 200 OK\r\nApi-Version: 1.24\r\nContent-Length: 2\r\n\r\nOK"
    with pytest.raises(Unsupported, match="too old"):
        registry.get("docker").open(liar.endpoint)


def test_a_newer_engine_is_spoken_to_in_a_version_that_we_know(liar):
    liar.answers["/_ping"] = b"HTTP/1.1 200 OK\r\nApi-Version: 1.99\r\nContent-Length: 2\r\n\r\nOK"
    with pytest.raises(Unsupported, match="no such call"):  # the liar has only 1.41
        registry.get("docker").open(liar.endpoint)
    assert any(path.startswith("/v1.4") for path in liar.asked)


def test_a_socket_that_is_not_there_is_out_of_reach(tmp_path):
    for uri in (f"docker+unix://{tmp_path}/nothing", "docker+tcp://127.0.0.1:1"):
        with pytest.raises(Unreachable):
            registry.get("docker").open(Endpoint(driver="docker", uri=uri))


# -- reading -------------------------------------------------------------------------------------------------------------
NONSENSE = [None, 7, "text", [], [7], [None], [[]], {}, {"Id": 7}, {"State": []}]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=repr)
@pytest.mark.parametrize("path", ["/info", "/containers/json", f"/containers/{ID}/json", f"/containers/{ID}/stats"])
def test_values_of_the_wrong_shape_end_as_ours_or_read_as_empty(liar, session, path, nonsense):
    liar.answers[path] = nonsense
    for read in (session.guests, session.stats, session.host_info, lambda: session.guest(REF)):
        with contextlib.suppress(DriverError):
            read()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("State", 7),
        ("State", {"Status": 7}),
        ("State", {"ExitCode": "x"}),
        ("State", {"ExitCode": True}),
        ("Name", {}),
        ("Id", "../../info"),
        ("Id", "A" * 64),
        ("HostConfig", {"NanoCpus": float("nan")}),
        ("HostConfig", {"NanoCpus": []}),
        ("HostConfig", {"RestartPolicy": "always"}),
        ("Mounts", {"a": "b"}),
        ("Mounts", [7]),
        ("NetworkSettings", {"Networks": {"a": 7}}),
        ("Args", "-c"),
        ("Args", [7]),
    ],
)
def test_one_odd_value_of_a_container_is_refused(liar, session, path, value):
    liar.answers[f"/containers/{ID}/json"] = WHOLE | {path: value}
    with pytest.raises(DriverError):
        session.guest(REF)


def test_odd_values_that_can_be_read_are_tamed(liar, session):
    liar.answers[f"/containers/{ID}/json"] = WHOLE | {
        "Name": "/a\x00b\ud800\x1b[31m",
        "State": {"Status": "exited", "ExitCode": 10**30},
        "HostConfig": {"NanoCpus": 10**40, "Memory": -5, "CpusetCpus": "0-99999999999999999999,x,3-1"},
    }
    info = session.guest(REF)
    assert info.name == "a\ufffdb\ufffd\ufffd[31m"
    assert (info.state, info.vcpus, info.memory_bytes) == (GuestState.SHUTOFF, 4, 1 << 33)


@pytest.mark.parametrize(
    "answer",
    [
        whole(b"{"),
        whole(b"\xff\xfe\x00"),
        whole(b"[" * 200_000),
        whole(b"[]" * 10),
        whole(b"{}", b"Content-Encoding: gzip"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_answers_that_cannot_be_parsed_end_as_ours(liar, session, answer):
    liar.answers["/containers/json"] = answer
    with pytest.raises(DriverError):
        session.guests()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_an_answer_without_end_is_not_taken_in(liar, session, monkeypatch, packed):
    monkeypatch.setattr(wire, "ANSWER_BYTES_MAX", 1 << 20)
    spaces = b" " * (1 << 26)
    head = b"Content-Encoding: gzip" if packed else b"X-Plain: yes"
    liar.answers["/containers/json"] = whole(gzip.compress(spaces, 1) if packed else spaces, head)
    with pytest.raises(DriverError, match="more than 1 MiB"):
        session.guests()


def test_another_container_than_the_one_asked_for_is_none(liar, session):
    liar.answers[f"/containers/{ID}/json"] = WHOLE | {"Id": "b" * 64}
    with pytest.raises(NotFound):
        session.guest(REF)


def test_a_container_that_hangs_stays_in_the_list(liar, hasty, session):
    before = session.guests()[0]
    liar.answers[f"/containers/{ID}/json"] = hang
    liar.answers["/containers/json"] = [ROW | {"State": "exited", "Status": "Exited (9) 3 days ago"}]
    after = session.guests()[0]
    assert (after.state, after.state_reason, after.xml_digest) == (GuestState.SHUTOFF, "exited(9)", before.xml_digest)


def test_a_container_that_hangs_from_the_first_is_listed_as_far_as_known(liar, hasty, session):
    liar.answers[f"/containers/{ID}/json"] = hang
    info = session.guests()[0]
    assert (info.name, info.state, info.vcpus) == ("web", GuestState.RUNNING, 4)


def test_a_container_whose_counters_hang_is_left_out(liar, hasty, session):
    assert session.stats()[0].cpu_time_seconds == 1.5
    liar.answers[f"/containers/{ID}/stats"] = hang
    since = time.monotonic()
    assert session.stats() == []
    assert time.monotonic() - since < 5


# -- events --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "stream",
    [
        chunked(b"nonsense\n"),
        chunked(b"[]\n"),
        chunked(b'{"Action": 7}\n'),
        chunked(b"\xff\n"),
        chunked(b" " * 2_000_000),
    ],
)
def test_an_event_stream_of_nonsense_ends_the_session(liar, session, stream):
    lost: queue.SimpleQueue[str] = queue.SimpleQueue()
    liar.answers["/events"] = stream
    session.on_close(lost.put)
    session.subscribe(lambda event: None)
    assert lost.get(timeout=10)
    assert not session.alive()
    with pytest.raises(Unreachable):
        session.guests()


def test_news_of_unknown_kinds_and_of_nobody_is_passed_over(liar, session):
    heard: queue.SimpleQueue = queue.SimpleQueue()
    rows = [
        {"Action": "exec_start: sh", "Actor": {"ID": ID}},
        {"Action": "start", "Actor": {"ID": "../x"}},
        {"Action": "start"},
        {"status": "die", "id": ID, "Actor": {"Attributes": {"name": "web", "exitCode": "9"}}},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    liar.answers["/events"] = chunked(text[:50], text[50:51], text[51:])
    session.subscribe(heard.put)
    event = heard.get(timeout=10)
    assert (event.uuid, event.name, event.reason) == (ID, "web", "stopped/die(9)")
    assert session.alive()


def test_news_may_take_longer_than_any_call(liar, hasty, session):
    heard: queue.SimpleQueue = queue.SimpleQueue()
    row = json.dumps({"Action": "start", "Actor": {"ID": ID}}).encode() + b"\n"

    def late(stream: socket.socket) -> None:
        stream.sendall(chunked())
        threading.Event().wait(1.5)
        stream.sendall(b"%x\r\n%s\r\n" % (len(row), row))
        stream.recv(1)

    liar.answers["/events"] = late
    session.subscribe(heard.put)
    assert heard.get(timeout=10).reason == "started/start"
    assert session.alive()


def test_a_frozen_engine_is_noticed(liar, hasty, monkeypatch):
    monkeypatch.setattr(sessions, "PULSE_SECONDS", 0.1)
    lost: queue.SimpleQueue[str] = queue.SimpleQueue()
    session = registry.get("docker").open(liar.endpoint)
    session.on_close(lost.put)
    liar.answers["/_ping"] = hang
    assert "in time" in lost.get(timeout=10)
    assert not session.alive()
    session.close()


def test_a_call_that_waits_ends_with_its_session(liar, session):
    liar.answers[f"/containers/{ID}/json"] = hang
    ended: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def wait() -> None:
        try:
            session.guest(REF)
        except DriverError as error:
            ended.put(error)

    threading.Thread(target=wait, daemon=True).start()
    wait_until(lambda: f"/containers/{ID}/json" in liar.asked, 5, "the call")
    session.close()
    assert isinstance(ended.get(timeout=5), Unreachable)


# -- consoles ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 UPGRADED\r\n\r\nOCI runtime exec failed: no such file\r\n",
        b"HTTP/1.1 101 UPGRADED\r\n\r\nvmm-shell nonsense\r\n",
        b"HTTP/1.1 101 UPGRADED\r\n\r\n" + b"x" * 100_000,
        b"HTTP/1.1 101 UPGRADED\r\n\r\n",
        b"HTTP/1.1 " + b"9" * 100_000,
        b"nonsense\r\n\r\n",
        whole(b"{}")[:20],
        (409, {"message": "Container is paused"}),
        (500, []),
    ],
)
def test_a_console_of_nonsense_is_refused(liar, hasty, session, answer):
    def end(stream: socket.socket) -> None:
        Liar._answer(stream, answer)
        stream.shutdown(socket.SHUT_WR)

    liar.answers["/exec/e1/start"] = end
    with pytest.raises(DriverError):
        session.open_console(REF, "shell")


@pytest.mark.parametrize("made", [{"Id": "../e1"}, {"Id": 7}, {}, []])
def test_an_exec_without_an_identity_is_refused(liar, session, made):
    liar.answers[f"/containers/{ID}/exec"] = made
    with pytest.raises(DriverError):
        session.open_console(REF, "shell")


def test_what_comes_with_the_head_is_not_lost(liar, session):
    liar.answers["/exec/e1/start"] = b"HTTP/1.1 101 UPGRADED\r\n\r\n\x1b[0mvmm-shell 42\r\nfirst words"
    console = session.open_console(REF, "shell")
    assert console.read(5, timeout_seconds=1) == b"first"
    assert console.read(timeout_seconds=1) == b" words"
    assert console.read(timeout_seconds=0.05) is None
    console.close()
    assert console.read(timeout_seconds=1) == b""


def test_a_container_that_takes_no_input_times_out(liar, session, monkeypatch):
    monkeypatch.setattr(consoles, "WRITE_SECONDS", 0.3)
    held = threading.Event()
    liar.answers["/exec/e1/start"] = lambda stream: (
        stream.sendall(b"HTTP/1.1 101 UPGRADED\r\n\r\nvmm-shell 42\r\n"), held.wait(20)
    )  # fmt: skip
    console = session.open_console(REF, "shell")
    with pytest.raises(Timeout):
        console.write(b"x" * 10_000_000)
    console.close()
    held.set()


def test_a_tls_line_whose_peer_is_gone_ends_for_both_hands(tmp_path):
    authority = Authority()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = authority.sign("127.0.0.1", "127.0.0.1")
    for name, text in (("c", pair.certificate), ("k", pair.key)):
        (tmp_path / name).write_text(text)
    server.load_cert_chain(tmp_path / "c", tmp_path / "k")

    def handle(stream: socket.socket) -> None:
        server.wrap_socket(stream, server_side=True).close()  # without TLS's farewell

    client = ssl.create_default_context(cadata=authority.pem)
    with serving(bound(), handle) as listener:
        sock = socket.create_connection(listener.getsockname(), timeout=5)
        line = wire.Line(client.wrap_socket(sock, server_hostname="127.0.0.1"))
        assert line.recv(10, time.monotonic() + 5) == b""
        with pytest.raises(OSError, match=r".") as refusal:
            line.send_all(b"x" * 65536 * 100, time.monotonic() + 5)
        assert not isinstance(refusal.value, TimeoutError)
        line.close()


# -- the table -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (404, "No such container: x", NotFound),
        (500, 'no container with name or ID "x" found: no such container', NotFound),
        (404, "page not found", Unsupported),
        (404, "No such image: x", NotFound),
        (409, 'Conflict. The container name "/c1" is already in use by container "ab"', AlreadyExists),
        (500, "creating container storage: that name is already in use", AlreadyExists),
        (409, "removal of container ab is already in progress", Busy),
        (500, "can only kill running containers: container state improper", WrongState),
        (500, "Container ab is not paused", WrongState),
        (409, "Container ab is paused, unpause the container before exec", WrongState),
        (304, "", WrongState),
        (500, "write /x: no space left on device", NoSpace),
        (403, "authorization denied by plugin", Denied),
        (503, "", Unreachable),
        (504, "", Timeout),
        (418, "short and stout", DriverError),
    ],
)
def test_refusals_become_ours(status, message, error):
    refused = refusal(status, json.dumps({"message": message}).encode())
    assert type(refused) is error
    assert refused.detail.endswith((".", "!", "?"))


def test_every_row_of_the_table_says_why():
    assert all(row.why and (row.text or row.status) for row in TABLE)


def test_a_refusal_that_is_no_json_is_quoted_in_short():
    refused = refusal(500, b"<html>\x1b[31m" + b"x" * 10_000)
    assert len(refused.detail) <= engine_errors.MESSAGE_MAX + 1
    assert "\x1b" not in refused.detail


def test_documents_read_missing_values_as_empty():
    empty = Document({"a": None})
    assert (empty.text("a", "b"), empty.number("a"), empty.texts("x"), empty.parts("a")) == ("", 0, [], [])
    assert not empty.flag("a")
    with pytest.raises(DriverError):
        Document([])


# -- what is said of it ----------------------------------------------------------------------------------------------------
def test_the_score_card_says_what_is_declared():
    lines = (Path(engines.__file__).parent / "STATUS.md").read_text().splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    header, rows = table[0], table[2:]
    assert header[1:] == ["docker", "podman"]
    assert [row[0] for row in rows] == [str(feature) for feature in Feature]
    for column, kind in enumerate(header[1:], start=1):
        driver = registry.get(kind)
        for row in rows:
            assert (row[column] == "done") is (Feature(row[0]) in driver.features), (kind, row[0])
            assert row[column] in {"done", "exempt", "todo"}


@pytest.mark.parametrize("kind", ["docker", "podman"])
def test_every_feature_is_declared_or_has_a_reason(kind):
    driver = registry.get(kind)
    assert driver.features.isdisjoint(driver.reasons)
    assert driver.features | set(driver.reasons) == set(Feature)
    assert all(reason.endswith(".") for reason in driver.reasons.values())


@pytest.mark.parametrize(
    ("kind", "way", "values", "uri"),
    [
        ("docker", "unix", {"socket": "/var/run/docker.sock"}, "docker+unix:///var/run/docker.sock"),
        ("podman", "tls", {"host": "hv-1", "port": "2377"}, "podman+tcp://hv-1:2377"),
        ("docker", "ssh", {"host": "2001:db8::1", "user": "virt"}, "docker+ssh://virt@[2001:db8::1]"),
    ],
)
def test_each_way_makes_a_uri_of_its_own(kind, way, values, uri):
    found = next(each for each in registry.get(kind).ways if each.name == way)
    assert parse_uri(compose(found, values), data_dir=Path("/nonexistent")).text == uri
