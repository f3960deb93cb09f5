"""When a pool will be full: what is said of histories that are known by heart, and when nothing is."""

from __future__ import annotations

import datetime as dt
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage.forecast import Reading, forecast

if TYPE_CHECKING:
    from collections.abc import Callable

GIB = 1 << 30
NOW = dt.datetime(2026, 11, 30, 12, 17, tzinfo=dt.UTC)
CAPACITY = 1000 * GIB


def hourly(days: float, used: Callable[[float], float], *, until: float = 0.0) -> list[Reading]:
    """A sample an hour from `days` ago; `used` says GiB for a day (negative: ago)."""
    hours = int(days * 24)
    return [
        Reading(NOW - dt.timedelta(hours=hour), int(used(-hour / 24) * GIB))
        for hour in range(hours, int(until * 24), -1)
    ]


def days_left(readings: list[Reading], capacity: int = CAPACITY) -> float | None:
    found = forecast(readings, capacity=capacity, now=NOW)
    return None if found is None else (found.full_at - NOW).total_seconds() / 86400


@given(
    pace=st.floats(3, 200),
    noise=st.floats(0, 0.3),
    days=st.floats(3, 40),
    seed=st.integers(0, 2**32),
    shuffled=st.booleans(),
)
def test_what_grows_steadily_is_full_when_it_says(
    pace: float, noise: float, days: float, seed: int, *, shuffled: bool
) -> None:
    by = random.Random(seed)
    readings = hourly(days, lambda at: 500 + pace * at + by.uniform(-noise, noise) * pace)
    now = readings[-1].used / GIB
    if shuffled:
        by.shuffle(readings)
    found = forecast(readings, capacity=CAPACITY, now=NOW)
    assert found is not None
    assert found.based_on_days == (7 if days >= 6 else 3) or 5 < days < 6
    assert found.bytes_per_day / GIB == pytest.approx(pace, rel=0.15)
    assert (found.full_at - NOW).total_seconds() / 86400 == pytest.approx((1000 - now) / pace, rel=0.15)


@given(pace=st.floats(0, 50), noise=st.floats(0, 5), days=st.floats(0, 40), seed=st.integers(0, 2**32))
@example(pace=0, noise=0, days=30, seed=0)
def test_what_shrinks_is_never_full(pace: float, noise: float, days: float, seed: int) -> None:
    by = random.Random(seed)
    noise = min(noise, pace / 10)
    assert days_left(hourly(days, lambda at: 500 - pace * at + by.uniform(0, noise))) is None


@given(seed=st.integers(0, 2**32), noise=st.floats(0.01, 20))
def test_what_stays_and_wavers_is_not_said_to_be_full_soon(seed: int, noise: float) -> None:
    by = random.Random(seed)
    assert days_left(hourly(28, lambda _: 500 + by.uniform(-noise, noise))) is None


@given(at=st.floats(0.1, 27), size=st.floats(1, 400))
def test_one_large_copy_is_no_pace(at: float, size: float) -> None:
    assert days_left(hourly(28, lambda day: 300 + (size if day > -at else 0))) is None


@pytest.mark.parametrize("at", [0.5, 1, 2, 3.5, 5, 6.5, 10])
@pytest.mark.parametrize("size", [-250, 250])
def test_a_jump_does_not_hide_the_pace_nor_change_it(at: float, size: float) -> None:
    left = days_left(hourly(28, lambda day: 500 + 10 * day + (size if day > -at else 0)))
    now = 500 + size
    assert left == pytest.approx((1000 - now) / 10, rel=0.3) or (left is None and 1 < at < 6)


@pytest.mark.parametrize("period", [1, 2, 7])
def test_a_saw_tooth_that_comes_back_is_not_full(period: int) -> None:
    for phase in (0.0, 0.3, 0.6, 0.95):
        assert days_left(hourly(28, lambda day, phase=phase: 500 + 200 * ((day / period + phase) % 1))) is None, phase  # type: ignore[misc]


def test_a_saw_tooth_that_grows_is_full_by_its_long_pace() -> None:
    readings = hourly(28, lambda day: 500 + 6 * day + 60 * ((day / 7) % 1))
    found = forecast(readings, capacity=CAPACITY, now=NOW)
    assert found is not None
    assert found.based_on_days == 28
    assert found.bytes_per_day / GIB == pytest.approx(6, rel=0.3)


@pytest.mark.parametrize("days", [0, 0.1, 1, 2])
def test_a_short_history_says_nothing(days: float) -> None:
    assert days_left(hourly(days, lambda day: 500 + 40 * day)) is None


def test_what_began_lately_is_said_by_the_last_three_days() -> None:
    found = forecast(hourly(28, lambda day: 400 + 100 * max(0.0, day + 3)), capacity=CAPACITY, now=NOW)
    assert found is not None
    assert found.based_on_days == 3
    assert (found.full_at - NOW).total_seconds() / 86400 == pytest.approx(3, rel=0.1)


@given(ahead=st.lists(st.floats(0.1, 4000), max_size=30), back=st.lists(st.floats(30, 20000), max_size=30))
def test_a_clock_that_was_wrong_for_a_while_changes_nothing(ahead: list[float], back: list[float]) -> None:
    readings = hourly(10, lambda day: 500 + 20 * day)
    wrong = [Reading(NOW + dt.timedelta(days=day), 3 * GIB) for day in [*ahead, *(-day for day in back)]]
    assert days_left(readings + wrong) == days_left(readings) == pytest.approx(25, rel=0.02)


@pytest.mark.parametrize(("capacity", "left"), [(1000, 25), (2000, 75), (600, 5), (400, 0)])
def test_a_pool_that_was_resized_is_full_by_its_new_size(capacity: int, left: float) -> None:
    readings = hourly(10, lambda day: 500 + 20 * day)
    assert days_left(readings, capacity * GIB) == pytest.approx(left, abs=0.5)


@pytest.mark.parametrize("capacity", [None, 0])
def test_a_pool_without_a_size_is_never_full(capacity: int | None) -> None:
    assert forecast(hourly(10, lambda day: 500 + 20 * day), capacity=capacity, now=NOW) is None


def test_what_takes_years_is_as_good_as_not_growing() -> None:
    assert days_left(hourly(10, lambda day: 500 + day), 860 * GIB) == pytest.approx(360, rel=0.01)
    assert days_left(hourly(10, lambda day: 500 + day), 880 * GIB) is None


def test_a_history_with_a_hole_is_enough_when_it_is_short() -> None:
    readings = hourly(10, lambda day: 500 + 20 * day)
    assert days_left([one for one in readings if not 2 < (NOW - one.at).days < 4]) == pytest.approx(25, rel=0.02)
    old = [one for one in readings if (NOW - one.at).days >= 5]
    assert days_left([*old, readings[-1]]) is None
