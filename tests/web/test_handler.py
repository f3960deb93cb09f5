"""The ASGI handler: one thread a request, used again, and never for two at once."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.http import HttpResponse

from vmmanager.handler import IDLE_THREADS, Handler

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

SECONDS = 10.0


def handler_of(view: Callable[[HttpRequest], HttpResponse]) -> Handler:
    """The real handler, with `view` in place of middleware and URLs."""
    handler = Handler()
    handler._middleware_chain = view
    return handler


async def call(handler: Handler, *, leaves: asyncio.Event | None = None) -> list[dict[str, Any]]:
    """One GET; the client goes when `leaves` is set."""
    sent: list[dict[str, Any]] = []
    asked = [False]

    async def receive() -> dict[str, Any]:
        if not asked[0]:
            asked[0] = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await (leaves or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "http_version": "1.1"}
    await handler(scope, receive, send)
    return sent


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - what is awaited happens on other threads
            await asyncio.sleep(0.005)


async def test_one_after_another_share_a_thread() -> None:
    threads: list[int] = []

    def view(request: HttpRequest) -> HttpResponse:
        threads.append(threading.get_ident())
        return HttpResponse("here")

    handler = handler_of(view)
    for _ in range(3):
        sent = await call(handler)
        assert sent[0]["status"] == 200
        await until(lambda: len(handler._idle) == 1)
    assert len(set(threads)) == 1


@pytest.mark.parametrize("count", [IDLE_THREADS + 12])
async def test_as_many_threads_as_requests(count: int) -> None:
    """Requests that wait for an operation's end must not keep others out; afterwards only a few threads stay."""
    all_in = threading.Barrier(count + 1)

    def view(request: HttpRequest) -> HttpResponse:
        all_in.wait(SECONDS)
        return HttpResponse("here")

    handler = handler_of(view)
    calls = [asyncio.create_task(call(handler)) for _ in range(count)]
    await asyncio.to_thread(all_in.wait, SECONDS)
    assert all(sent[0]["status"] == 200 for sent in await asyncio.gather(*calls))
    await until(lambda: len(handler._idle) == IDLE_THREADS)


async def test_client_that_leaves_holds_nobody_up() -> None:
    """Its request runs on; the loop does not wait for it, and its thread serves nobody else meanwhile."""
    begun, release = threading.Event(), threading.Event()
    threads: list[int] = []

    def view(request: HttpRequest) -> HttpResponse:
        threads.append(threading.get_ident())
        if len(threads) == 1:
            begun.set()
            release.wait(SECONDS)
        return HttpResponse("here")

    handler = handler_of(view)
    leaves = asyncio.Event()
    first = asyncio.create_task(call(handler, leaves=leaves))
    try:
        await until(begun.is_set)
        leaves.set()
        async with asyncio.timeout(SECONDS / 2):
            assert (await call(handler))[0]["status"] == 200
        assert threads[0] != threads[1]
    finally:
        release.set()
    await asyncio.wait_for(first, SECONDS)
    await until(lambda: len(handler._idle) == 2)
