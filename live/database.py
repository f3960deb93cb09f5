"""Threads for what the event loop asks of the database: a coroutine never runs a query itself.

The reader keeps one thread with one connection open (a read costs a millisecond, opening a connection as much again); all
others share a few threads that give their connection back after each call.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from django.db import DatabaseError, InterfaceError, close_old_connections, connections

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSE_SECONDS = 2.0

P = ParamSpec("P")
T = TypeVar("T")


class OwnThread:
    """One thread with a connection that stays open; dropped after an error, so that the next call opens a new one."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it there. Raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: self._call(function, *args, **kwargs)
        )

    @staticmethod
    def _call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (DatabaseError, InterfaceError):
            connections.close_all()
            raise

    async def close(self) -> None:
        """Close the connection and end the thread; one that hangs in a query is left behind after a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.get_running_loop().run_in_executor(self._pool, connections.close_all)
        self._pool.shutdown(wait=False)


_shared = ThreadPoolExecutor(max_workers=4, thread_name_prefix="vmm-live-db")


async def in_database_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` on one of the shared threads. Raises what it raises."""

    def call() -> T:
        close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return await asyncio.get_running_loop().run_in_executor(_shared, call)
