"""When schedules are due, through summer time and short months; and what is kept of what they took."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInput
from vms.schedules.keeping import Keep, kept
from vms.schedules.times import HOURS, WEEKDAYS, Every, When, zones

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = dt.timedelta(hours=1)


def when(every: str, at: str = "02:30", **values: Any) -> When:
    return When(every=Every(every), at=dt.time.fromisoformat(at), **{"time_zone": "Europe/Berlin", **values})


def turns(rule: When, after: str, count: int) -> list[str]:
    moment = dt.datetime.fromisoformat(after).replace(tzinfo=rule.zone)
    return [f"{turn.astimezone(rule.zone):%m-%d %H:%M}" for turn in itertools.islice(rule.turns(moment), count)]


@pytest.mark.parametrize(
    ("rule", "after", "expected"),
    [
        (when("day"), "2026-06-01 02:29", ["06-01 02:30", "06-02 02:30"]),
        (when("day"), "2026-06-01 02:30", ["06-02 02:30", "06-03 02:30"]),
        (when("week", weekday="sunday"), "2026-06-01 00:00", ["06-07 02:30", "06-14 02:30"]),
        (when("month", day=1), "2026-12-05 00:00", ["01-01 02:30", "02-01 02:30"]),
        (when("month", day=31), "2026-01-31 12:00", ["02-28 02:30", "03-31 02:30", "04-30 02:30"]),
        (when("hours", "01:15", hours=6), "2026-06-01 00:00", ["06-01 01:15", "06-01 07:15", "06-01 13:15"]),
        (when("hours", "13:15", hours=12), "2026-06-01 02:00", ["06-01 13:15", "06-02 01:15"]),
        # Put forward at 02:00: as much later. Put back at 03:00: once.
        (when("day"), "2026-03-28 12:00", ["03-29 03:30", "03-30 02:30"]),
        (when("day"), "2026-10-24 12:00", ["10-25 02:30", "10-26 02:30"]),
        (when("hours", "00:00", hours=6), "2026-10-24 20:00", ["10-25 00:00", "10-25 05:00", "10-25 11:00", "10-25 17:00", "10-26 00:00"]),
    ],
)  # fmt: skip
def test_a_turn_comes_by_the_wall_clock(rule: When, after: str, expected: list[str]) -> None:
    assert turns(rule, after, len(expected)) == expected


def test_each_hour_is_each_hour_through_both_changes_of_the_clock() -> None:
    for begin in (dt.datetime(2026, 3, 28, 20, tzinfo=dt.UTC), dt.datetime(2026, 10, 24, 20, tzinfo=dt.UTC)):
        found = list(itertools.islice(when("hours", "00:20").turns(begin), 40))
        assert {later - one for one, later in itertools.pairwise(found)} == {HOUR}


@given(
    every=st.sampled_from(list(Every)),
    at=st.times().map(lambda at: at.replace(second=0, microsecond=0)),
    hours=st.sampled_from(HOURS),
    weekday=st.sampled_from(WEEKDAYS),
    day=st.integers(1, 31),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia"]),
    moment=st.integers(1_700_000_000, 1_900_000_000).map(lambda seconds: dt.datetime.fromtimestamp(seconds, dt.UTC)),
)  # fmt: skip
def test_turns_only_grow_and_none_is_far(
    every: Every, at: dt.time, hours: int, weekday: str, day: int, zone: str, moment: dt.datetime
) -> None:
    rule = When(every=every, at=at, hours=hours, weekday=weekday, day=day, time_zone=zone)
    most = {Every.HOURS: (hours * 1.5 + 1) / 24, Every.DAY: 1.1, Every.WEEK: 7.1, Every.MONTH: 31.1}[every]
    found = [moment, *itertools.islice(rule.turns(moment), 5)]
    for one, later in itertools.pairwise(found):
        assert dt.timedelta() < later - one <= dt.timedelta(days=most)


def test_a_zone_that_is_none_is_refused_in_words() -> None:
    with pytest.raises(BadInput, match="Mars/Olympus is no time zone"):
        when("day", time_zone="Mars/Olympus").after(dt.datetime.now(dt.UTC))
    assert "Europe/Berlin" in zones()


# -- what is kept ------------------------------------------------------------------------------------------------------------
NIGHTS = {number: dt.datetime(2026, 3, 31, 1, tzinfo=dt.UTC) - number * dt.timedelta(days=1) for number in range(100)}


def test_sons_fathers_and_grandfathers_are_the_last_of_their_day_week_and_month() -> None:
    found = kept(NIGHTS, Keep(last=2, daily=3, weekly=3, monthly=3), BERLIN)
    # 31 March is a Tuesday: the last ones of the weeks before are Sundays, of the months the 28th of February and the 31st of January.
    assert {f"{NIGHTS[number]:%m-%d}" for number in found} == {
        "03-31", "03-30", "03-29", "03-22", "02-28", "01-31"
    }  # fmt: skip


def test_several_of_a_day_are_one_for_the_day() -> None:
    noon = dt.datetime(2026, 3, 31, 12, tzinfo=dt.UTC)
    hourly = {number: noon - number * HOUR for number in range(30)}
    assert kept(hourly, Keep(daily=2), BERLIN) == {0, 15}  # 23:00 in Berlin is the day's last


def test_the_day_is_the_schedules_own() -> None:
    evening = {
        "late": dt.datetime(2026, 6, 1, 22, 30, tzinfo=dt.UTC),
        "early": dt.datetime(2026, 6, 1, 1, tzinfo=dt.UTC),
    }
    assert kept(evening, Keep(daily=2), ZoneInfo("UTC")) == {"late"}
    assert kept(evening, Keep(daily=2), BERLIN) == {"late", "early"}


@given(
    ages=st.lists(st.integers(0, 200_000), max_size=60, unique=True),
    keep=st.builds(Keep, last=st.integers(0, 5), daily=st.integers(0, 5), weekly=st.integers(0, 5), monthly=st.integers(0, 5)),
)  # fmt: skip
def test_what_was_let_go_is_never_missed_later(ages: list[int], keep: Keep) -> None:
    """Deleting step by step keeps what deleting once would; the newest always stays; never more than the rules' sum."""
    now = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
    taken = {age: now - dt.timedelta(minutes=age) for age in ages}
    stay = kept(taken, keep, BERLIN)
    assert kept({age: taken[age] for age in stay}, keep, BERLIN) == stay
    assert len(stay) <= keep.last + keep.daily + keep.weekly + keep.monthly
    assert not ages or not any((keep.last, keep.daily, keep.weekly, keep.monthly)) or min(ages) in stay
