"""Django's SQLite backend, with a queue of our own before the write lock.

SQLite has no queue: who finds the database locked sleeps, up to 100 ms at a time, and looks again. With ten hosts swept at once and
requests in between that was measured as waits of 0.3 to 0.9 s for transactions of 5 ms, while others overtook. Threads of one process
can do better: they wait for a lock that wakes the next one at once. It is held exactly as long as SQLite's own, which is
still taken, and still guards against other processes.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any

from django.db.backends.sqlite3 import base

_turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""By database file."""


class DatabaseWrapper(base.DatabaseWrapper):
    """See the module. For `transaction_mode=IMMEDIATE`, where every transaction takes the write lock at its beginning."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._my_turn: threading.Lock | None = None

    def _start_transaction_under_autocommit(self) -> None:
        turn = _turns[str(self.settings_dict["NAME"])]
        # In vain after as long as SQLite itself would wait: then it says so in its own words.
        if self._my_turn is None and turn.acquire(timeout=self.settings_dict["OPTIONS"].get("timeout", 5)):
            self._my_turn = turn
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]  # Django's, private
        except BaseException:
            self._next()
            raise

    def _commit(self) -> None:
        try:
            super()._commit()  # type: ignore[misc]  # Django's, private
        except BaseException:
            if not self.connection.in_transaction:
                self._next()
            raise  # else a rollback follows
        self._next()

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]  # Django's, private
        finally:
            self._next()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]  # Django's, private
        finally:
            self._next()

    def _next(self) -> None:
        turn, self._my_turn = self._my_turn, None
        if turn is not None:
            turn.release()
