"""Writers of one process queue up before SQLite's write lock."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from django.db import OperationalError, connection, connections, transaction

from core.sqlite import base
from events.models import Event
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("connection.vendor != 'sqlite'", reason="SQLite's own"),
]
SECONDS = 20.0


def turn() -> threading.Lock:
    return base._turns[str(connection.settings_dict["NAME"])]


def in_thread(function: Callable[[], object]) -> threading.Thread:
    def run() -> None:
        try:
            function()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_turn_lasts_as_long_as_the_transaction() -> None:
    with transaction.atomic():
        assert turn().locked()
        with transaction.atomic():  # a savepoint
            pass
        assert turn().locked()
    assert not turn().locked()


def test_turn_ends_with_a_rollback() -> None:
    with suppress(ZeroDivisionError), transaction.atomic():
        raise ZeroDivisionError
    assert not turn().locked()


def test_turn_ends_with_the_connection() -> None:
    with suppress(Exception), transaction.atomic():
        connection.close()
        assert not turn().locked()
        raise ZeroDivisionError
    assert not turn().locked()


def test_turn_ends_when_the_transaction_cannot_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(base.base.DatabaseWrapper, "_start_transaction_under_autocommit", refuse)
    with pytest.raises(OperationalError), transaction.atomic():
        pass
    assert not turn().locked()


def test_next_in_line_begins_at_once() -> None:
    """Where SQLite's waiting writers sleep up to 100 ms: from the end of one transaction to the begin of the next."""
    gaps: list[float] = []
    for _ in range(20):
        begun: list[float] = []

        def write(begun: list[float] = begun) -> None:
            with transaction.atomic():
                begun.append(time.monotonic())

        with transaction.atomic():
            Event.objects.count()
            thread = in_thread(write)
            time.sleep(0.03)  # the other waits by now, and SQLite's own would sleep longer and longer
        ended = time.monotonic()
        thread.join(SECONDS)
        gaps.append(begun[0] - ended)
    assert sorted(gaps)[len(gaps) // 2] < 0.005


def test_many_writers_lose_nothing() -> None:
    def write() -> None:
        for number in range(20):
            with transaction.atomic():
                Event.objects.create(type=f"test.{number}", at="2026-01-01T00:00:00Z")

    threads = [in_thread(write) for _ in range(8)]
    for thread in threads:
        thread.join(SECONDS)
    wait_until(lambda: Event.objects.filter(type__startswith="test.").count() == 160, SECONDS, "160 events")
