"""The process's long threads: the only place that starts one. A thread that dies takes the process down loudly.

A watcher that quietly died would leave a dashboard that looks alive and shows old truth: the worst of all states. So the
death of a long thread is logged with its traceback and ends the process; whoever started it (init, compose) restarts it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING

from django.db import connections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)


@contextlib.contextmanager
def database_released() -> Iterator[None]:
    """For work on a borrowed thread (a task, an executor): its database connections are given back at the end."""
    try:
        yield
    finally:
        connections.close_all()


class LongThread:
    """A named daemon thread that runs `target(stop)` until `stop` is set.

    Args:
        name: Shown in logs and in `py-spy`.
        target: Gets the stop event; returns only after it is set. Anything else is a death.
        fatal: Whether its death ends the process (SIGTERM to ourselves, so that the orderly way out is taken).
    """

    def __init__(self, name: str, target: Callable[[threading.Event], None], *, fatal: bool = True) -> None:
        self.name = name
        self.stopping = threading.Event()
        self._target = target
        self._fatal = fatal
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> LongThread:
        """Start it; returns itself."""
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            self._target(self.stopping)
        except Exception:
            log.exception("thread died", extra={"thread_name": self.name})
            if self._fatal and not self.stopping.is_set():
                os.kill(os.getpid(), signal.SIGTERM)
        finally:
            connections.close_all()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._thread.is_alive()

    def stop(self, timeout_seconds: float = 5.0) -> bool:
        """Ask it to end and wait; False when it did not within the time (a daemon thread: it cannot hold the process)."""
        self.stopping.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()
