"""The engine's event stream: one thread that reads it, and gives news to whoever subscribed."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING

from drivers.dockerd import errors
from drivers.dockerd.document import Document
from drivers.dockerd.guests import is_id
from drivers.errors import DriverError
from drivers.types import GuestEvent, GuestEventKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from requests import Response

    from drivers.dockerd.engine import Engine

log = logging.getLogger(__name__)

_LINE_BYTES_MAX = 1024 * 1024

USEFUL: dict[str, tuple[GuestEventKind, str]] = {
    "create": (GuestEventKind.DEFINED, "defined"),
    "start": (GuestEventKind.CHANGED, "started"),
    "restart": (GuestEventKind.CHANGED, "started"),
    "pause": (GuestEventKind.CHANGED, "suspended"),
    "unpause": (GuestEventKind.CHANGED, "resumed"),
    "die": (GuestEventKind.CHANGED, "stopped"),
    "died": (GuestEventKind.CHANGED, "stopped"),
    "stop": (GuestEventKind.CHANGED, "stopped"),
    "oom": (GuestEventKind.CHANGED, "stopped"),
    "rename": (GuestEventKind.CHANGED, "updated"),
    "update": (GuestEventKind.CHANGED, "updated"),
    "destroy": (GuestEventKind.UNDEFINED, "undefined"),
    "remove": (GuestEventKind.UNDEFINED, "undefined"),
}
"""Actions of both engines that change what a guest is. What is done in it (`exec_start`, `attach`, …) and what only
announces a change that follows (`kill`) are none."""


class EventTap:
    """Reads the stream from its making on.

    Args:
        engine: Whose.
        ended: Called once, from the reading thread, when the stream is over, with the reason.
    """

    def __init__(self, engine: Engine, *, ended: Callable[[str], None]) -> None:
        self._ended = ended
        self._sinks: list[Callable[[GuestEvent], None]] = []
        self._response = engine.events()
        self._thread = threading.Thread(target=self._run, name="docker-events", daemon=True)

    def add(self, sink: Callable[[GuestEvent], None]) -> None:
        """Tell `sink` too, from now on."""
        self._sinks = [*self._sinks, sink]
        if not self._thread.is_alive():
            self._thread.start()

    def _run(self) -> None:
        reason = "The engine ended its event stream."
        try:
            with errors.translate():
                self._read(self._response)
        except DriverError as error:
            reason = f"The engine's event stream broke: {error.detail}"
        finally:
            self._response.close()
            self._ended(reason)

    def _read(self, response: Response) -> None:
        rest = b""
        while piece := response.raw.read1(65536):
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > _LINE_BYTES_MAX:
                raise errors.unreadable("an event of more than 1 MiB")
            for line in lines:
                if line.strip():
                    self._tell(Document(json.loads(line), what="event"))

    def _tell(self, told: Document) -> None:
        # Podman adds what was done to `exec_start: …` and `health_status: …`; none of those is useful.
        useful = USEFUL.get(told.text("Action") or told.text("status"))
        uuid = told.text("Actor", "ID") or told.text("id")
        if useful is None or not is_id(uuid):
            return
        kind, word = useful
        attributes = told.part("Actor", "Attributes")
        code = attributes.text("exitCode") or attributes.text("containerExitCode")
        action = told.text("Action") or told.text("status")
        event = GuestEvent(
            uuid=uuid,
            name=attributes.text("name"),
            kind=kind,
            reason=f"{word}/{action}({code})" if code and word == "stopped" else f"{word}/{action}",
            at=time.monotonic(),
        )
        for sink in self._sinks:
            try:
                sink(event)
            except Exception:
                log.exception("a listener to container events failed")
