"""Log lines: time, level, logger, message, then the `extra` values as `key=value`; the request id on every line of a request."""

from __future__ import annotations

import logging
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that this code works for, "" outside of one."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class RequestIdFilter(logging.Filter):
    """Puts the current request id on every record that has none."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Never drops a record."""
        if not getattr(record, "request_id", ""):
            value = request_id.get()
            if value:
                record.request_id = value
        return True


class LineFormatter(logging.Formatter):
    """One line for people and `grep`: `2026-… INFO watcher: online hypervisor=qemu`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """The line with its extras; control characters in values cannot forge a line."""
        extras = [
            f"{key}={str(value).encode('unicode_escape').decode()[:500]}"
            for key, value in vars(record).items()
            if key not in _STANDARD
            and not key.startswith("_")
            and value not in (None, "")
            and isinstance(value, str | int | float | bool)
        ]
        return " ".join([super().formatMessage(record), *extras])
