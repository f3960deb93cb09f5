"""Long calls as XAPI's tasks: begun with `Async.`, waited for with `event.from`, so no answer is waited for longer than seconds."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from drivers.errors import Aborted, DriverError, NotFound, Timeout
from drivers.xapi import records
from drivers.xapi.errors import Garbled, driver_error, news_were_lost
from drivers.xapi.records import text

if TYPE_CHECKING:
    from drivers.xapi.wire import Wire

POLL_SECONDS = 10.0
GRACE_SECONDS = 15.0
LOSSES_MAX = 3


class Tasks:
    """Runs calls as tasks of one login. Several threads may use it at once."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def run(self, method: str, *arguments: object, seconds: float) -> None:
        """Do it and wait for its end. Raises DriverError; Timeout: it still goes on there."""
        task = self._begin(method, arguments)
        if not self._wait(task, seconds):
            message = f"The hypervisor has not finished within {seconds:.0f} s; it goes on."
            raise Timeout(message)

    def begin(self, method: str, *arguments: object, seconds: float) -> None:
        """Begin it, and give it `seconds` to fail. Raises DriverError when it does."""
        self._wait(self._begin(method, arguments), seconds)

    def _begin(self, method: str, arguments: tuple[object, ...]) -> str:
        return records.reference(self._wire.call(f"Async.{method}", *arguments))

    def _wait(self, task: str, seconds: float) -> bool:
        """Whether it has ended well. What has ended is removed; XAPI removes the others some time after their end."""
        until = time.monotonic() + seconds
        token, losses = "", 0
        while (left := until - time.monotonic()) > 0:
            patience = min(POLL_SECONDS, left)
            try:
                batch = records.record(
                    self._wire.call("event.from", [f"task/{task}"], token, patience, seconds=patience + GRACE_SECONDS)
                )
            except DriverError as error:
                losses += 1
                if not news_were_lost(error) or losses > LOSSES_MAX:
                    raise
                token = ""
                continue
            token = text(batch, "token")
            for event in records.events(batch):
                if event.ref == task and self._ended(task, event.operation, event.snapshot):
                    return True
            if not token:
                message = "The hypervisor's news have no token to go on from."
                raise Garbled(message)
        return False

    def _ended(self, task: str, operation: str, row: records.Record) -> bool:
        if operation == "del":
            message = "The hypervisor's task is gone, and with it what came of it."
            raise NotFound(message)
        status = text(row, "status")
        if status in ("pending", "cancelling"):
            return False
        with contextlib.suppress(DriverError):
            self._wire.call("task.destroy", task)
        if status == "success":
            return True
        if status == "cancelled":
            message = "The operation was cancelled."
            raise Aborted(message)
        raise driver_error(row.get("error_info"), host=self._wire.target.host)
