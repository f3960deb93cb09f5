"""Writers of one process queue up before SQLite's write lock."""

from __future__ import annotations

import threading
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


def test_next_in_line_waits_for_its_turn_and_never_for_sqlite() -> None:
    """SQLite's waiting writers sleep up to 100 ms; these have no time to wait there, and begin all the same."""
    begun: list[int] = []
    waits = threading.Event()

    def write(number: int) -> None:
        connection.ensure_connection()
        connection.connection.execute("PRAGMA busy_timeout=0")
        waits.set()
        with transaction.atomic():
            begun.append(number)

    for number in range(20):
        waits.clear()
        with transaction.atomic():
            Event.objects.count()
            thread = in_thread(lambda number=number: write(number))
            assert waits.wait(SECONDS)
        thread.join(SECONDS)
    assert begun == list(range(20))


def test_many_writers_lose_nothing() -> None:
    def write() -> None:
        for number in range(20):
            with transaction.atomic():
                Event.objects.create(type=f"test.{number}", at="2026-01-01T00:00:00Z")

    threads = [in_thread(write) for _ in range(8)]
    for thread in threads:
        thread.join(SECONDS)
    wait_until(lambda: Event.objects.filter(type__startswith="test.").count() == 160, SECONDS, "160 events")
