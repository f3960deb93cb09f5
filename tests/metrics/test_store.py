"""Samples in, series out."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from types import SimpleNamespace

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.errors import BadInput
from metrics import store
from metrics.models import Latest, Sample
from metrics.rates import NAMES, Values
from metrics.store import NewSample

pytestmark = pytest.mark.django_db

NOON = dt.datetime(2026, 5, 1, 12, 0, 0, tzinfo=dt.UTC)
SUBJECT = uuid.UUID(int=7)


def put(seconds: float, cpu: float | None = None, *, subject: uuid.UUID = SUBJECT, **values: float) -> None:
    at = NOON + dt.timedelta(seconds=seconds)
    store.append([NewSample(subject=subject, at=at, values=Values(cpu_ratio=cpu, **values))])


def read(**options: object) -> store.Series:
    options = {"start": NOON, "end": NOON + dt.timedelta(seconds=20), "step": 5, "names": ["cpu_ratio"], **options}
    return store.series(SUBJECT, **options)


def test_each_step_is_a_mean_and_a_gap_is_null():
    put(0, 0.2)
    put(4.999, 0.4)
    put(5, 0.5)
    put(15, 0.7)
    found = read()
    assert found == {"step": 5, "start": NOON, "series": {"cpu_ratio": [0.3, 0.5, None, 0.7]}}


def test_a_sample_on_the_edge_of_any_step_belongs_to_the_later_one():
    for second in range(120):
        put(second, second / 1000)
    found = read(end=NOON + dt.timedelta(seconds=120), step=1)
    assert found["series"]["cpu_ratio"] == [second / 1000 for second in range(120)]


def test_unknown_within_a_step_does_not_count():
    put(1, None, memory_bytes=10)
    put(2, 0.4, memory_bytes=20)
    found = read(names=["cpu_ratio", "memory_bytes"])
    assert found["series"]["cpu_ratio"][0] == 0.4
    assert found["series"]["memory_bytes"][0] == 15


def test_start_is_moved_down_to_a_whole_step():
    put(0, 0.1)
    found = read(start=NOON + dt.timedelta(seconds=3), step=10)
    assert found["start"] == NOON
    assert found["series"]["cpu_ratio"][0] == 0.1


def test_defaults_are_the_last_hour_and_all_series():
    found = store.series(SUBJECT)
    assert sorted(found["series"]) == sorted(NAMES)
    assert {len(points) for points in found["series"].values()} <= {720, 721}


def test_another_subject_is_not_mixed_in():
    put(1, 0.9, subject=uuid.UUID(int=8))
    assert read()["series"]["cpu_ratio"] == [None] * 4


@pytest.mark.parametrize(
    "options",
    [
        {"start": NOON, "end": NOON},
        {"start": NOON + dt.timedelta(1), "end": NOON},
        {"step": 0},
        {"step": -5},
        {"start": NOON - dt.timedelta(days=30), "step": 1},
        {"names": ["cpu_ratio", "nonsense"]},
        {"start": dt.datetime(1, 1, 1, tzinfo=dt.UTC)},
        {"end": dt.datetime(9999, 12, 31, 23, tzinfo=dt.timezone(-dt.timedelta(hours=12)))},
    ],
)
def test_bad_ranges_are_bad_input(options):
    with pytest.raises(BadInput) as caught:
        read(**options)
    assert caught.value.errors[0]["pointer"].startswith("/")


def test_long_range_without_a_step_is_thinned_out():
    found = store.series(SUBJECT, start=NOON, end=NOON + dt.timedelta(days=365))
    assert len(found["series"]["cpu_ratio"]) <= 730


def test_series_is_one_query_and_no_more_rows_than_points(django_assert_num_queries):
    Sample.objects.bulk_create(
        [Sample(subject=SUBJECT, at=NOON + dt.timedelta(seconds=number), cpu_ratio=0.5) for number in range(3600)]
    )
    with django_assert_num_queries(1):
        found = read(end=NOON + dt.timedelta(hours=1), step=60)
    assert found["series"]["cpu_ratio"] == [0.5] * 60


def test_latest_is_the_newest_and_only_while_it_is_fresh():
    put(0, 0.1)
    put(5, 0.2)
    assert store.latest([SUBJECT], now=NOON)[SUBJECT].cpu_ratio == 0.2
    assert store.latest([SUBJECT], now=NOON + dt.timedelta(minutes=10)) == {}
    store.forget_latest([SUBJECT])
    assert not Latest.objects.exists()


def test_sparklines_of_a_page_are_one_query(django_assert_num_queries):
    others = [uuid.UUID(int=number) for number in range(1, 51)]
    for number, subject in enumerate(others):
        put(-30, number / 100, subject=subject)
    with django_assert_num_queries(1):
        found = store.sparklines(others, now=NOON)
    assert all(len(points) == 24 for points in found.values())
    assert found[others[10]][22] == 0.1
    assert found[others[10]][:22] == [None] * 22


def test_the_same_moment_twice_is_kept_once():
    put(1, 0.1)
    put(1, 0.2)
    assert Sample.objects.count() == 1


def test_append_is_two_statements_for_a_hundred_guests():
    samples = [NewSample(subject=uuid.UUID(int=number), at=NOON, values=Values(cpu_ratio=0.1)) for number in range(100)]
    with CaptureQueriesContext(
        connection,
    ) as queries:
        store.append(samples)
    inserts = [query for query in queries.captured_queries if query["sql"].startswith("INSERT")]
    assert len(inserts) <= 3


def test_trim_removes_what_is_too_old_and_nothing_else(settings):
    put(0, 0.1)
    put(100, 0.2)
    now = NOON + dt.timedelta(seconds=settings.ENV.samples_keep_seconds + 50)
    assert store.trim(now) == 1
    assert Sample.objects.get().cpu_ratio == 0.2
    assert store.trim(now) == 0


def test_who_looks_is_known_for_a_while(monkeypatch):
    store.looking("vm/a")
    store.look(["vm/b", "host/c"])
    assert store.looked_at() == {"vm/a", "vm/b", "host/c"}
    later = time.time() + store.LOOK_SECONDS + 1
    monkeypatch.setattr(store, "time", SimpleNamespace(time=lambda: later))
    assert store.looked_at() == frozenset()


def test_a_clock_that_was_set_back_keeps_nobody_looking(monkeypatch):
    store.looking("vm/a")
    earlier = time.time() - 3600
    monkeypatch.setattr(store, "time", SimpleNamespace(time=lambda: earlier))
    assert store.looked_at() == frozenset()
