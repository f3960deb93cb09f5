"""A body that is read while it arrives: in pieces, never whole in memory, and what came before an end is kept."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from django.http import HttpResponse, UnreadablePostError

from core.rest import OFFSET_STREAM
from core.units import MIB
from tests.server import Server
from tests.waiting import wait_until
from tests.web.test_handler import handler_of
from vmmanager import streamed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.http import HttpRequest

PATH = "/api/v1/uploads/00000000-0000-0000-0000-000000000000"


async def call(view: Callable[[HttpRequest], HttpResponse], messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One PATCH whose client sends `messages` and then waits."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "PATCH", "path": PATH, "headers": [], "query_string": b"", "http_version": "1.1"}
    async with asyncio.timeout(10):
        await handler_of(view)(scope, receive, send)
    return sent


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_the_view_reads_before_all_has_come() -> None:
    messages = [part(b"a" * streamed.PIECE)]

    def view(request: HttpRequest) -> HttpResponse:
        first = request.read(streamed.PIECE)
        messages.append(part(b"tail", more=False))
        return HttpResponse(first[:1] + request.read(100) + request.read(100))

    sent = await call(view, messages)
    assert sent[1]["body"] == b"atail"


async def test_the_body_as_a_whole_is_there_as_well() -> None:
    sent = await call(lambda request: HttpResponse(request.body), [part(b"one "), part(b""), part(b"two", more=False)])
    assert sent[1]["body"] == b"one two"


async def test_a_view_that_does_not_read_answers_at_once() -> None:
    sent = await call(lambda _request: HttpResponse("no"), [part(b"x" * 1000)])
    assert sent[1]["body"] == b"no"


async def test_what_came_before_the_client_left_is_handed_over() -> None:
    got: list[bytes] = []
    ended = threading.Event()

    def view(request: HttpRequest) -> HttpResponse:
        try:
            while piece := request.read(streamed.PIECE):
                got.append(piece)
        except UnreadablePostError:
            ended.set()
        return HttpResponse("nobody reads this")

    await call(view, [part(b"kept"), {"type": "http.disconnect"}])
    assert await asyncio.to_thread(ended.wait, 10)
    assert got == [b"kept"]


async def test_a_client_that_falls_silent_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "IDLE_SECONDS", 0.1)

    def view(request: HttpRequest) -> HttpResponse:
        with pytest.raises(UnreadablePostError):
            request.read(10)
        return HttpResponse("cut off")

    assert (await call(view, []))[1]["body"] == b"cut off"


# -- the real server -------------------------------------------------------------------------------------------------------
SIZE = 96 * MIB


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def begin(server: Server, size: int) -> str:
    answer = server.api("POST", "/uploads", json={"filename": "disk.raw", "size_bytes": size})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def half_sent(server: Server, upload: str, size: int, content: bytes) -> socket.socket:
    """A request that announces `size` bytes and has sent `content`."""
    where = urlsplit(server.url)
    connection = socket.create_connection((where.hostname, where.port), timeout=20)
    head = (
        f"PATCH /api/v1/uploads/{upload} HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer {server.token()}\r\n"
        f"Content-Type: {OFFSET_STREAM}\r\nUpload-Offset: 0\r\nContent-Length: {size}\r\n\r\n"
    )
    connection.sendall(head.encode() + content)
    return connection


def received(server: Server, upload: str) -> int:
    return int(server.get(f"/uploads/{upload}")["received_bytes"])


@pytest.mark.chaos
def test_memory_stays_flat_and_a_lost_connection_loses_nothing(server: Server) -> None:
    upload = begin(server, SIZE)
    before = server.memory_bytes()
    with half_sent(server, upload, SIZE, b"\1" * (SIZE - MIB)):
        wait_until(lambda: received(server, upload) >= SIZE // 2, 30, "half of it is counted while it comes")
    wait_until(lambda: received(server, upload) == SIZE - MIB, 30, "what came before the end is kept")
    assert server.memory_bytes() - before < 32 * MIB


@pytest.mark.chaos
def test_it_goes_on_after_kill_9(server: Server) -> None:
    upload = begin(server, SIZE)
    content = os.urandom(SIZE)
    with half_sent(server, upload, SIZE, content[: SIZE - MIB]):
        wait_until(lambda: received(server, upload) >= SIZE // 2, 30, "half of it is counted while it comes")
        server.kill()
    server.start()
    have = received(server, upload)
    assert SIZE // 2 <= have < SIZE
    client = server._client
    answer = client.patch(
        f"/api/v1/uploads/{upload}",
        content=content[have:],
        headers={
            "Authorization": f"Bearer {server.token()}",
            "Content-Type": OFFSET_STREAM,
            "Upload-Offset": str(have),
        },
    )
    assert answer.json()["state"] == "complete", answer.text
    file = next(file for file in (server.data_dir / "uploads").iterdir() if file.name == upload.replace("-", ""))
    assert file.read_bytes() == content
