"""Django's ASGI handler for what we have: middleware and views that are plain functions.

Django's own runs the chain in async mode: with one synchronous middleware in it a request crosses between the loop and its thread
seven times. Here it crosses once, and the whole chain runs on the request's thread; an async view still runs on the loop.

Django's own also makes a thread for each request, and with it a database connection: its opening, its settings, the reading of the
schema. Here a thread is lent to a request and used again, so that its connection may stay (`CONN_MAX_AGE`). There are still as many
threads as there are requests under way: those that wait for an operation's end for a minute hold nobody else up.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.db import connections

from core.rest import takes_stream
from vmmanager.streamed import Streamed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

IDLE_THREADS = 8
"""Kept for requests to come; each holds a database connection with what it has read."""


class Handler(ASGIHandler):
    """See the module."""

    def __init__(self) -> None:
        self._idle: list[ThreadPoolExecutor] = []  # the one used last is used first
        super().__init__()

    def load_middleware(self, is_async: bool = False) -> None:  # noqa: FBT001, FBT002 - Django's signature
        """The chain in sync mode, whatever is asked for."""
        del is_async
        super().load_middleware(is_async=False)

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[Mapping[str, Any]], Awaitable[None]],
    ) -> None:
        """One request, on a thread that is its own as long as it lasts."""
        if takes_stream(scope["method"], scope["path"]):
            receive = Streamed(receive)
        thread = self._idle.pop() if self._idle else ThreadPoolExecutor(1, thread_name_prefix="vmm-request")
        try:
            async with ThreadSensitiveContext(executor=thread):
                await self.handle(scope, receive, send)
        finally:
            # A client that went away leaves its request running: the thread is free when it has come back, not now.
            thread.submit(int).add_done_callback(lambda _done: self._give_back(thread))

    async def read_body(self, receive: Callable[[], Awaitable[Mapping[str, Any]]]) -> Any:
        """Where the view reads it itself there is nothing to wait for; else Django's way."""
        return receive.body if isinstance(receive, Streamed) else await super().read_body(receive)

    def _give_back(self, thread: ThreadPoolExecutor) -> None:
        """Called on that thread."""
        if len(self._idle) < IDLE_THREADS:
            self._idle.append(thread)
        else:
            thread.submit(connections.close_all)
            thread.shutdown(wait=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        """The whole chain on the request's thread."""
        return await sync_to_async(self.get_response)(request)
