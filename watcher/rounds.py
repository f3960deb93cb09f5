"""What the watcher's long threads do between two rounds of work."""

from __future__ import annotations

import random

from django.db import connections

BACKOFF_FIRST_SECONDS = 1.0
BACKOFF_LAST_SECONDS = 30.0


def rest() -> None:
    """Give database connections back before a long wait: a server has few of them, and may restart meanwhile.

    A SQLite file stays open: opening it anew costs as much as writing an event.
    """
    for connection in connections.all(initialized_only=True):
        if connection.vendor != "sqlite" and not connection.in_atomic_block:
            connection.close()


def renew() -> None:
    """Drop every database connection after one failed."""
    connections.close_all()


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubling, with jitter, never nothing."""
    ceiling = min(BACKOFF_LAST_SECONDS, BACKOFF_FIRST_SECONDS * 2.0 ** min(failures - 1, 10))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
