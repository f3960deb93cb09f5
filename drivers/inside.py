"""The child's side of `drivers.isolated`: one session of a driver, served over a pipe. `python -m drivers.inside <descriptor>`.

It knows nothing but what the pipe tells it: secrets come over it too. When the pipe ends, the process ends, whatever its library is
doing.
"""

from __future__ import annotations

import importlib
import logging
import os
import resource
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol, cast

from drivers import frames
from drivers.errors import DriverError
from drivers.types import Endpoint, News

if TYPE_CHECKING:
    from drivers.base import Session

log = logging.getLogger("drivers.inside")

CLOSE_SECONDS = 2.0


class Isolable(Protocol):
    """What a driver needs beside `open` to be held in a child."""

    def open_here(self, endpoint: Endpoint) -> Session:
        """Connect in this very process."""


class Inside:
    """Serves one session.

    Args:
        stream: The pipe; its other end is the parent.
    """

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._sending = threading.Lock()
        self._session: Session | None = None
        self._over = threading.Event()

    def serve(self) -> None:
        """Until the parent hangs up: the first message says what to open, each other one is a call."""
        while not self._over.is_set():
            try:
                message = frames.receive(self._stream)
            except (EOFError, OSError):
                return
            match message:
                case ["open", str(path), Endpoint() as endpoint]:
                    self._start(self._open, path, endpoint)
                case ["call", int(number), str(verb), list(positional), dict(named)]:
                    self._start(self._call, number, verb, positional, named)
                case _:
                    raise ValueError("The parent speaks another language.")

    def end(self) -> None:
        """Close the session within `CLOSE_SECONDS`; then the process may go."""
        if self._session is not None:
            closing = threading.Thread(target=self._session.close, daemon=True)
            closing.start()
            closing.join(CLOSE_SECONDS)

    @staticmethod
    def _start(work: Any, *args: object) -> None:
        threading.Thread(target=work, args=args, daemon=True).start()

    def _open(self, path: str, endpoint: Endpoint) -> None:
        try:
            module, _, name = path.partition(":")
            driver = cast("Isolable", getattr(importlib.import_module(module), name)())
            session = driver.open_here(endpoint)
            capabilities = session.capabilities()
            session.on_close(lambda reason: self._tell(["closed", reason]))
        except Exception as error:  # noqa: BLE001 - the parent is told, and decides
            self._tell(["failed", _as_error("open", error)])
            return
        self._session = session
        self._tell(["opened", capabilities])

    def _call(self, number: int, verb: str, positional: list[Any], named: dict[str, Any]) -> None:
        try:
            self._tell(["answer", number, self._do(verb, positional, named)])
        except Exception as error:  # noqa: BLE001 - the parent is told, and decides
            self._tell(["raised", number, _as_error(verb, error)])

    def _do(self, verb: str, positional: list[Any], named: dict[str, Any]) -> object:
        if self._session is None:
            raise DriverError("The session is not open.")
        if verb == "subscribe":
            positional = [self._news]
        answer: object = getattr(self._session, verb)(*positional, **named)
        return answer

    def _news(self, event: News) -> None:
        self._tell(["news", event])

    def _tell(self, message: object) -> None:
        with self._sending:
            try:
                frames.send(self._stream, message)
            except OSError:  # the parent is gone: `serve` sees it too
                self._over.set()


def _as_error(verb: str, error: Exception) -> DriverError:
    if isinstance(error, DriverError):
        return error
    log.error("driver raised a foreign error", exc_info=error, extra={"verb": verb})
    return DriverError(f"The driver failed in {verb}: {type(error).__name__}.")


def main() -> None:
    """Serve, then end at once: a thread that hangs in the library must not keep the process."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # It may crash, that is why it is here; what it knows of credentials is not to be left in a core file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    inside = Inside(socket.socket(fileno=int(sys.argv[1])))
    try:
        inside.serve()
        inside.end()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
