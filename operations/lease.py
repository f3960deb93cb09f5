"""Leases: one thread a process tells the database, every 10 s, that the operations held here are still held.

A process that dies stops telling, and after 30 s any other takes its operations over. Threads that hang past their
operation's deadline keep their lock the same way: it is freed when they return, or when this process dies.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from typing import TYPE_CHECKING

from django.db import DatabaseError, close_old_connections
from django.utils import timezone

from core.threads import LongThread
from operations.models import Operation
from operations.process import identity

if TYPE_CHECKING:
    import uuid

log = logging.getLogger(__name__)

LEASE = dt.timedelta(seconds=30)
RENEW_SECONDS = 10.0
AGAIN_SECONDS = 1.0


class LeaseKeeper:
    """Renews the leases of all operations that this process holds. Starts its thread with the first one.

    Attributes:
        leaving: This process is going down, and its connections with it: what fails now fails because of that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[uuid.UUID, int] = {}
        self._thread: LongThread | None = None
        self.leaving = False

    def hold(self, operation_id: uuid.UUID, attempt: int) -> None:
        """Renew from now on."""
        with self._lock:
            self._held[operation_id] = attempt
            if self._thread is None or not self._thread.alive:
                self._thread = LongThread("vmm-leases", self._renew_for_ever).start()

    def release(self, operation_id: uuid.UUID) -> None:
        """No longer held here."""
        with self._lock:
            self._held.pop(operation_id, None)

    def held(self) -> int:
        """How many are held now: running ones and hung ones."""
        with self._lock:
            return len(self._held)

    def renew(self) -> bool:
        """One round; False when the database is away."""
        with self._lock:
            ids = list(self._held)
        if not ids:
            return True
        close_old_connections()
        try:
            Operation.objects.filter(pk__in=ids, worker=identity(), holds_lock=True).update(
                lease_until=timezone.now() + LEASE
            )
        except DatabaseError:
            log.warning("leases could not be renewed", exc_info=True)
            return False
        return True

    def _renew_for_ever(self, stop: threading.Event) -> None:
        pause = RENEW_SECONDS
        while not stop.wait(pause):
            # After an outage whoever looks for expired leases waits a little for this (`reconcile.ANSWER_SECONDS`).
            pause = RENEW_SECONDS if self.renew() else AGAIN_SECONDS

    def leave(self) -> None:
        """This process is about to close its connections and end."""
        self.leaving = True

    def stop(self) -> None:
        """End the thread (tests, orderly stop)."""
        with self._lock:
            thread, self._thread = self._thread, None
            self.leaving = False
        if thread is not None:
            thread.stop()


keeper = LeaseKeeper()
