"""Somebody who works on while something else is broken."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

from tests.chaos.conftest import act
from tests.server import Clock

if TYPE_CHECKING:
    import httpx

    from tests.server import Server


class Life:
    """Somebody who works with the other host all the time: reads pages and calls, and suspends and resumes a guest."""

    def __init__(self, server: Server, browser: httpx.Client, vm: str, host: str) -> None:
        self.seconds: list[float] = []
        self.wrong: list[str] = []
        self.worked = 0
        self._server, self._browser, self._vm = server, browser, vm
        self._reads = (f"/vms/{vm}", "/vms", f"/hosts/{host}", "/operations?limit=20")
        self._pages = ("/", "/hosts", f"/hosts/{host}", "/operations", "/events")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _live(self) -> None:
        while not self._stop.wait(0.2):
            for path in self._reads:
                self._timed(lambda path=path: self._server.api("GET", path), path)
            for path in self._pages:
                self._timed(lambda path=path: self._browser.get(path), path)
            for action in ("suspend", "resume"):
                done = act(self._server, self._vm, action, Prefer="wait=10")
                if done["state"] != "succeeded":
                    self.wrong.append(f"{action}: {done}")
                self.worked += 1

    def _timed(self, ask: Any, what: str) -> None:
        with Clock() as clock:
            answer = ask()
        self.seconds.append(clock.seconds)
        if answer.status_code != 200:
            self.wrong.append(f"{what}: {answer.status_code}")
