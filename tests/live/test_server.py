"""The real server on a real port: handshakes, closing codes, slow readers, shutdown, streams, and a latency that is seen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from events import log
from events.models import Event
from live import reader, sse, subscriber
from tests.live.conftest import LiveServer, append, make_session, make_ticket, make_user, thread
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from accounts.models import User

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def user(live_port: LiveServer) -> User:
    return make_user()


async def open_socket(server: LiveServer, user: User, **options: Any) -> ClientConnection:
    protocols = [f"ticket.{await thread(make_ticket, user)}", "events"]
    return await connect(f"ws://{server.address}/ws/events", subprotocols=protocols, compression=None, **options)


async def subscribe(client: ClientConnection, after: int | None = None, **wish: Any) -> dict[str, Any]:
    await client.send(json.dumps({"subscribe": wish, **({} if after is None else {"after": after})}))
    return json.loads(await asyncio.wait_for(client.recv(), 10))


async def code_of(client: ClientConnection) -> tuple[int, str]:
    """Reads to the end: the code and reason of the server's closing frame."""
    try:
        async with asyncio.timeout(20):
            while True:
                await client.recv()
    except ConnectionClosed as closed:
        frame = closed.rcvd
    assert frame is not None, "the connection broke without a closing frame"
    return frame.code, frame.reason


async def test_a_ticket_over_a_real_socket(live_port: LiveServer, user: User) -> None:
    async with await open_socket(live_port, user) as client:
        assert client.subprotocol == "events"
        await subscribe(client)
        seq = await thread(append, "web")
        assert json.loads(await client.recv())["seq"] == seq


async def test_a_used_ticket_is_closed_with_4401(live_port: LiveServer, user: User) -> None:
    protocols = [f"ticket.{await thread(make_ticket, user)}", "events"]
    url = f"ws://{live_port.address}/ws/events"
    async with connect(url, subprotocols=protocols) as first:
        await subscribe(first)  # so that it has redeemed the ticket
        async with connect(url, subprotocols=protocols) as second:
            assert (await code_of(second))[0] == 4401


async def test_a_browser_with_its_cookie_and_its_origin(live_port: LiveServer, user: User) -> None:
    headers = {"Cookie": f"vmm_session={await thread(make_session, user)}"}
    url = f"ws://{live_port.address}/ws/events"
    async with connect(url, origin=f"http://{live_port.address}", additional_headers=headers) as client:
        assert (await subscribe(client))["type"] == "subscribed"
    for origin in (None, "http://evil.example", f"https://{live_port.address}"):
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, origin=origin, additional_headers=headers)
        assert refused.value.response.status_code == 403


@pytest.mark.parametrize("path", ["/ws/other", "/", "/ws/events/"])
async def test_no_socket_there(live_port: LiveServer, user: User, path: str) -> None:
    with pytest.raises(InvalidStatus):
        await connect(f"ws://{live_port.address}{path}", subprotocols=[f"ticket.{await thread(make_ticket, user)}"])


@pytest.mark.parametrize(
    ("frame", "code"), [("{", 1007), (b"\x00", 1003), ("x" * 70_000, 1009), ('{"subscribe": 1}', 1008)]
)
async def test_bad_frames_over_the_wire(live_port: LiveServer, user: User, frame: str | bytes, code: int) -> None:
    client = await open_socket(live_port, user)
    await client.send(frame)
    got, reason = await code_of(client)
    assert got == code
    assert reason


async def test_a_reader_that_stops_reading_is_closed_with_4008(
    live_port: LiveServer, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber, "QUEUE_MOST", 200)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect(("127.0.0.1", live_port.port))
    slow = await open_socket(live_port, user, sock=narrow, max_queue=1)
    fast = await open_socket(live_port, user, max_queue=None)
    start = (await subscribe(slow))["seq"]
    await subscribe(fast)
    slow.transport.pause_reading()
    big, most = "x" * 8000, 2500

    def flood() -> int:
        """Until the kernel's buffers are full too, and the queue behind them."""
        for number in range(most):
            log.append([log.NewEvent(type="vm.changed", object="vm/1", data={"n": number, "big": big})])
            if reader.listeners_of(user.pk) == 1:
                return log.last_seq()
        return log.last_seq()

    async def follow() -> list[int]:
        seen: list[int] = []
        with contextlib.suppress(TimeoutError):
            while True:
                seen.append(json.loads(await asyncio.wait_for(fast.recv(), 3))["seq"])
        return seen

    _, seen = await asyncio.gather(thread(flood), follow())
    written = await thread(
        lambda: list(Event.objects.filter(seq__gt=start).order_by("seq").values_list("seq", flat=True))
    )
    assert seen == written, "the socket beside it missed nothing"
    slow.transport.resume_reading()
    assert (await code_of(slow))[0] == 4008
    await fast.close()


async def test_going_down_closes_sockets_with_1012_and_ends_streams(transactional_db: None) -> None:
    server = LiveServer().start()
    user = await thread(make_user)
    client = await open_socket(server, user)
    await subscribe(client)
    silent = await open_socket(server, user)
    with Stream(server, await thread(make_session, user)) as stream:
        stream.wait_for(": subscribed")
        began = time.monotonic()
        await asyncio.to_thread(server.stop)
        assert time.monotonic() - began < 3
        assert stream.ended_cleanly()
    assert (await code_of(client))[0] == 1012
    assert (await code_of(silent))[0] == 1012


async def test_an_event_reaches_the_socket_at_once(live_port: LiveServer, user: User) -> None:
    """No time is measured here (bench/ does); only that no event waits for the reader's next look by the clock."""
    client = await open_socket(live_port, user)
    await subscribe(client)
    began = time.monotonic()
    for number in range(20):
        await thread(append, f"g{number}")
        await asyncio.wait_for(client.recv(), 10)
    assert time.monotonic() - began < reader.LOOK_EVERY_SECONDS * 2
    await client.close()


# -- streams -------------------------------------------------------------------------------------------------------------
class Stream:
    """A program that reads `text/event-stream`, on a thread of its own."""

    def __init__(self, server: LiveServer, session: str, query: str = "", **headers: str) -> None:
        self.url = f"http://{server.address}/api/v1/events{query}"
        self.headers = {"Accept": "text/event-stream", "Cookie": f"vmm_session={session}", **headers}
        self.text = ""
        self.response: httpx.Response | None = None
        self.error: Exception | None = None
        self._ready, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Stream:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _read(self) -> None:
        try:
            with httpx.Client(timeout=20) as client, client.stream("GET", self.url, headers=self.headers) as response:
                self.response = response
                self._ready.set()
                for chunk in response.iter_text():
                    self.text += chunk
                    if self._leave.is_set():
                        return
        except httpx.HTTPError as error:
            self.error = error
        finally:
            self._ready.set()

    def wait_for(self, part: str) -> None:
        wait_until(lambda: part in self.text, 10, f"{part!r} in the stream")

    def ended_cleanly(self) -> bool:
        self._thread.join(10)
        return not self._thread.is_alive() and self.error is None

    def events(self) -> list[dict[str, str]]:
        blocks = [block for block in self.text.split("\n\n") if block and not block.startswith(":")]
        return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


@pytest.fixture
def stream_of(live_port: LiveServer, user: User, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(sse, "KEEP_ALIVE_SECONDS", 0.05)  # readers see at the next one that they may leave
    session = make_session(user)
    with contextlib.ExitStack() as stack:

        def begin(query: str = "", **headers: str) -> Stream:
            stream = stack.enter_context(Stream(live_port, session, query, **headers))
            if stream.response is not None and stream.response.status_code == 200:
                stream.wait_for(": subscribed")
            return stream

        yield begin


def test_a_stream_really_streams(stream_of: Any) -> None:
    stream = stream_of()
    headers = stream.response.headers
    assert headers["Content-Type"] == "text/event-stream"
    assert headers["X-Accel-Buffering"] == "no"
    assert headers["Cache-Control"] == "no-store"
    seq = append("web", type="vm.state_changed", object="vm/42")
    stream.wait_for(f"id: {seq}\n")
    event = stream.events()[0]
    assert event["event"] == "vm.state_changed"
    assert json.loads(event["data"])["object"] == {"type": "vm", "id": "42", "name": "web"}
    another = append("next")
    stream.wait_for(f"id: {another}\n")


def test_last_event_id_wins_over_after(stream_of: Any) -> None:
    last = append("a", "b", "c")
    stream = stream_of(f"?after={last - 3}", **{"Last-Event-ID": str(last - 1)})
    stream.wait_for(f"id: {last}\n")
    assert [event["id"] for event in stream.events()] == [str(last)]


def test_a_stream_resumes_after(stream_of: Any) -> None:
    last = append("a", "b", "c")
    stream = stream_of(f"?after={last - 2}")
    stream.wait_for(f"id: {last}\n")
    assert [event["id"] for event in stream.events()] == [str(last - 1), str(last)]


def test_a_stream_from_the_future_is_reset(stream_of: Any) -> None:
    last = append("a")
    stream = stream_of(f"?after={last + 5}")
    stream.wait_for("event: reset")
    assert stream.events()[0]["id"] == str(last)


def test_a_stream_is_filtered(stream_of: Any) -> None:
    stream = stream_of("?type=vm.*&object=vm/1")
    append("no", type="host.online", object="host/1")
    append("no", object="vm/2")
    seq = append("yes", object="vm/1")
    stream.wait_for(f"id: {seq}\n")
    assert len(stream.events()) == 1


def test_a_quiet_stream_is_kept_alive(stream_of: Any) -> None:
    stream_of().wait_for("\n\n:\n\n:\n\n")


def test_a_listener_that_leaves_is_forgotten(stream_of: Any, user: User) -> None:
    stream = stream_of()
    assert reader.listeners_of(user.pk) == 1
    stream._leave.set()
    wait_until(lambda: reader.listeners_of(user.pk) == 0, 10, "the stream is gone")


def test_more_streams_than_a_user_may_have(stream_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "STREAMS_A_USER", 1)
    stream_of()
    assert stream_of().response.status_code == 429
