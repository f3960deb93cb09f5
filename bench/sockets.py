"""Readers of `/ws/events`: a loop on a thread of its own, and the time at which each message came in."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import websockets

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.server import Server


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message at one socket."""

    socket: int
    at: float
    message: dict[str, Any]


class Sockets:
    """So many sockets of one program, subscribed when the with-block is entered. Each comes in by a ticket, as programs do."""

    def __init__(self, server: Server, subscribe: dict[str, Any], *, count: int = 1) -> None:
        self._url = f"ws://127.0.0.1:{server.port}/ws/events"
        self._protocols = [server.api("POST", "/events/ticket").json()["protocols"] for _ in range(count)]
        self._first = json.dumps({"subscribe": subscribe})
        self._condition = threading.Condition()
        self._arrivals: list[Arrival] = []
        self._ready = 0
        self._error: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._turn, name="sockets", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._wait(lambda: self._ready == len(self._protocols), 60, "sockets subscribed")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(10)

    def wait(
        self, wanted: Callable[[dict[str, Any]], bool], *, since: float, count: int = 1, seconds: float = 20.0
    ) -> list[float]:
        """When the messages that are `wanted` came in, as soon as there are `count` of them after `since`."""
        found: list[float] = []
        done = [0]

        def there() -> bool:
            fresh = self._arrivals[done[0] :]
            found.extend(arrival.at for arrival in fresh if arrival.at >= since and wanted(arrival.message))
            done[0] = len(self._arrivals)
            return len(found) >= count

        self._wait(there, seconds, f"{count} messages")
        return found

    def forget(self) -> None:
        """What came until now is not asked for any more."""
        with self._condition:
            self._arrivals.clear()

    def _wait(self, there: Callable[[], bool], seconds: float, what: str) -> None:
        with self._condition:
            if not self._condition.wait_for(lambda: self._error is not None or there(), seconds):
                raise TimeoutError(f"{what}: not within {seconds:g} s")
        if self._error is not None:
            raise RuntimeError("a socket ended") from self._error

    # -- on the loop's thread ------------------------------------------------------------------------------------------
    def _turn(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._all())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            with self._condition:
                self._error = error
                self._condition.notify_all()
        finally:
            self._loop.close()

    def _stop(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    async def _all(self) -> None:
        await asyncio.gather(*(self._one(number, protocols) for number, protocols in enumerate(self._protocols)))

    async def _one(self, number: int, protocols: list[str]) -> None:
        async with websockets.connect(self._url, subprotocols=protocols, compression=None, open_timeout=60) as socket:
            await socket.send(self._first)
            async for text in socket:
                at = time.monotonic()
                message = json.loads(text)
                with self._condition:
                    if message["type"] == "subscribed":
                        self._ready += 1
                    else:
                        self._arrivals.append(Arrival(number, at, message))
                    self._condition.notify_all()
