"""What only several processes on PostgreSQL and Redis can show. Run by `test_services.py` in that shape, not by itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.db import connection, connections, transaction
from django.utils import timezone

from events import bell, log
from events.models import Event
from live import reader
from tests.live.conftest import Socket, thread
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db(transaction=True)


def test_this_runs_in_the_production_shape() -> None:
    assert connection.vendor == "postgresql"
    assert not settings.EMBEDDED


def insert_without_the_lock(name: str) -> None:
    Event.objects.create(type="vm.changed", object=f"vm/{name}", at=timezone.now())


def append(name: str) -> None:
    log.append([log.NewEvent(type="vm.changed", object=f"vm/{name}")])


class Writer:
    """A transaction on a thread of its own that has written and not committed yet."""

    def __init__(self, write: Callable[[str], None], name: str) -> None:
        self.written, self._commit = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(write, name))
        self._thread.start()

    def _run(self, write: Callable[[str], None], name: str) -> None:
        try:
            with transaction.atomic():
                write(name)
                self.written.set()
                self._commit.wait(20)
        finally:
            connections.close_all()

    def commit(self) -> None:
        self._commit.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


def waiting_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return bool(cursor.fetchone()[0])


def test_a_bare_sequence_would_lose_an_event() -> None:
    """The fault that the lock is for: the later number is committed, and read, before the earlier one."""
    first = Writer(insert_without_the_lock, "first")
    assert first.written.wait(10)
    second = Writer(insert_without_the_lock, "second")
    assert second.written.wait(10)
    second.commit()
    seen = [event.object for event in log.after(0)]
    last = log.last_seq()
    first.commit()
    assert seen == ["vm/second"]
    assert list(log.after(last)) == [], "the reader never looks below what it has seen"


def test_events_are_committed_in_the_order_of_their_seq() -> None:
    first = Writer(append, "first")
    assert first.written.wait(10)
    second = Writer(append, "second")
    wait_until(waiting_for_a_lock, 10, "the second writer waits for the first")
    assert not second.written.is_set()
    assert list(log.after(0)) == [], "nothing is seen before it is committed"
    first.commit()
    assert second.written.wait(10)
    one = log.after(0)
    assert [event.object for event in one] == ["vm/first"]
    second.commit()
    assert [event.object for event in log.after(one[-1].seq)] == ["vm/second"]


def test_a_reader_among_many_writers_misses_nothing() -> None:
    writers, each = 6, 30

    def write(name: str) -> None:
        try:
            for number in range(each):
                with transaction.atomic():
                    append(f"{name}-{number}")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=write, args=(f"w{number}",)) for number in range(writers)]
    for one in threads:
        one.start()
    seen: list[int] = []

    def read() -> bool:
        seen.extend(event.seq for event in log.after(seen[-1] if seen else 0))
        return len(seen) >= writers * each

    wait_until(read, 30, "all were seen", interval=0.001)
    for one in threads:
        one.join()
    assert seen == list(Event.objects.order_by("seq").values_list("seq", flat=True))


APPEND = """
import django; django.setup()
from events import bell, log
log.append([log.NewEvent(type="vm.changed", object="vm/far")])
bell.broadcast_samples([{"object": "vm/far", "at": "2026-01-01T00:00:00.000Z", "data": {"cpu_ratio": 0.5}}])
"""


async def test_another_process_is_heard_though_it_ends_at_once(
    listener: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its ring, not by the look that makes up for lost ones: that is an hour away here."""
    monkeypatch.setattr(reader, "LOOK_EVERY_SECONDS", 3600)
    await listener.subscribe(types=["vm.changed", "metrics.sample"])
    test_database = settings.DATABASES["default"]["NAME"]
    environment = dict(os.environ)
    base, _, _ = environment["VMM_DATABASE_URL"].rpartition("/")
    environment |= {"VMM_DATABASE_URL": f"{base}/{test_database}", "DJANGO_SETTINGS_MODULE": "vmmanager.settings"}
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", APPEND], env=environment, timeout=60, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    got = [await listener.read(), await listener.read()]
    assert {message["type"] for message in got} == {"vm.changed", "metrics.sample"}


async def test_a_waiting_thread_is_woken_by_another_process(listener: Socket) -> None:
    """`GET /operations/…?wait=` in a web process ends when a worker's event is heard, without a look of its own."""
    await listener.subscribe()
    start = await thread(log.last_seq)
    waiting = asyncio.create_task(
        thread(lambda: bell.wait_until(lambda: log.last_seq() > start, timeout_seconds=20, recheck_seconds=20))
    )
    layer = bell.get_channel_layer()
    await thread(insert_without_the_lock, "far")  # another process's commit: nobody here rings
    await layer.group_send(bell.GROUP, {"type": "ring", "seq": start + 1})
    assert await asyncio.wait_for(waiting, 10)
