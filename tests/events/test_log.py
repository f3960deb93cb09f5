"""Appending: within the caller's transaction, in order, one ring a commit."""

from __future__ import annotations

import threading

import pytest
from django.db import connections, transaction

from events import bell, log
from events.models import Event
from events.selectors import event_list, span

pytestmark = pytest.mark.django_db(transaction=True)


def new(name: str, **values: object) -> log.NewEvent:
    return log.NewEvent(type="vm.changed", object=f"vm/{name}", object_name=name, **values)


@pytest.fixture
def rings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    heard: list[int] = []
    monkeypatch.setattr(bell, "ring", heard.append)
    return heard


def test_an_event_falls_with_its_change(rings: list[int]) -> None:
    with transaction.atomic():
        log.append([new("a")])
        transaction.set_rollback(True)
    assert not Event.objects.exists()
    assert rings == []


def test_the_bell_rings_after_the_commit_and_once(rings: list[int]) -> None:
    with transaction.atomic():
        log.append([new("a"), new("b")])
        assert rings == []
    assert rings == [log.last_seq()]


def test_nothing_to_say_rings_nothing(rings: list[int]) -> None:
    log.append([])
    assert rings == []


def test_order_within_a_batch_is_the_order_given() -> None:
    log.append([new(str(number)) for number in range(1200)])
    assert [event.object_name for event in log.after(0, limit=2000)] == [str(number) for number in range(1200)]


def test_after_is_bounded() -> None:
    log.append([new(str(number)) for number in range(10)])
    first = log.after(0)[0].seq
    assert [event.seq for event in log.after(first, limit=3)] == [first + 1, first + 2, first + 3]


def test_threads_at_once_lose_nothing() -> None:
    def write(name: str) -> None:
        try:
            for number in range(25):
                with transaction.atomic():
                    log.append([new(f"{name}-{number}")])
        finally:
            connections.close_all()

    threads = [threading.Thread(target=write, args=(f"w{number}",)) for number in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    names = [event.object_name for event in log.after(0)]
    assert len(names) == 150
    for number in range(6):
        mine = [name for name in names if name.startswith(f"w{number}-")]
        assert mine == [f"w{number}-{index}" for index in range(25)]


def test_names_from_outside_are_cut_to_what_is_kept() -> None:
    log.append([log.NewEvent(type="vm.defined", object="vm/1", object_name="n" * 500, actor="a" * 500)])
    assert len(Event.objects.get().object_name) == 255


def test_the_json_of_an_event_without_object_or_actor() -> None:
    log.append([log.NewEvent(type="audit.started")])
    event = log.as_json(Event.objects.get())
    assert event["object"] is None
    assert event["actor"] is None
    assert event["operation"] is None
    assert event["at"].endswith("Z")


def test_an_empty_log_is_whole() -> None:
    assert (span().kept_after, log.last_seq()) == (0, 0)
    assert not event_list().exists()
