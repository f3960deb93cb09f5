"""When a pool will be full, from what was used of it: a robust line, or nothing. Pure: no database, no clock of its own.

The pace is the median of the slopes between all pairs of points (Theil and Sen): a quarter of the points may be anything. Nothing is
said where the history is short, use does not grow, or it did not grow steadily: one large copy is no pace, and a clean-up that
comes again and again is part of it, so that only the pace over the whole of it counts.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from itertools import combinations, groupby, pairwise
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DAY_SECONDS: Final = 86400.0
LOOK_BACK: Final = dt.timedelta(days=28)
SPANS: Final = (7, 3)
"""Days that a pace is taken from, the first that holds. A pool that began to fill lately shows in the shorter one."""
FARTHEST: Final = dt.timedelta(days=365)
"""What is full later than that is as good as not growing."""
POINTS: Final = 28
"""Of a line, whatever the span: 378 pairs."""
POINTS_MIN: Final = 14
COVERED: Final = 0.8
"""Share of the span that must be known."""
STEADY: Final = 0.25
"""Each half must grow with at least this share of the pace of the whole."""
NOISE: Final = 0.35
"""The half of the points that lies off the line must not lie farther off than this share of the rise."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Bytes in use at one time."""

    at: dt.datetime
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """When it is full at the pace of the last `based_on_days`."""

    full_at: dt.datetime
    bytes_per_day: int
    based_on_days: int


_Point = tuple[float, float]
"""Seconds before now (negative), bytes."""


def forecast(readings: Iterable[Reading], *, capacity: int | None, now: dt.datetime) -> Forecast | None:
    """When `capacity` bytes will be used; None where nothing can be said. Readings in any order; what lies after `now` says nothing."""
    known = sorted(
        ((one.at - now).total_seconds(), float(one.used)) for one in readings if now - LOOK_BACK <= one.at <= now
    )
    if not capacity or not known:
        return None
    spans = (LOOK_BACK.days,) if _is_cleaned(_thinned(known, LOOK_BACK.days)) else SPANS
    for days in spans:
        pace = _pace(_thinned(known, days), days)
        if pace is not None:
            wait = max(0.0, capacity - known[-1][1]) / pace
            if wait > FARTHEST.total_seconds():
                return None
            full_at = (now + dt.timedelta(seconds=wait)).replace(microsecond=0)
            return Forecast(full_at=full_at, bytes_per_day=round(pace * DAY_SECONDS), based_on_days=days)
    return None


def _thinned(known: Sequence[_Point], days: int) -> list[_Point]:
    """At most POINTS of the last so many days: the medians of as many equal spans."""
    width = days * DAY_SECONDS / POINTS
    spans: dict[int, list[_Point]] = {}
    for at, used in known:
        if at > -days * DAY_SECONDS:
            spans.setdefault(int(-at // width), []).append((at, used))
    return [(median(at for at, _ in one), median(used for _, used in one)) for _, one in sorted(spans.items())][::-1]


def _is_cleaned(points: Sequence[_Point]) -> bool:
    """Whether it came down again and again, far, and together by at least a quarter of what it rose."""
    steps = [after - before for (_, before), (_, after) in pairwise(points)]
    runs = [(down, -sum(run)) for down, run in groupby(steps, key=lambda step: step < 0)]
    height = max(used for _, used in points) - min(used for _, used in points)
    falls = [depth for down, depth in runs if down and depth * 8 > height]
    return len(falls) >= 2 and sum(falls) * 4 >= sum(step for step in steps if step > 0)


def _pace(points: Sequence[_Point], days: int) -> float | None:
    """Bytes a second; None where the points are too few, or do not rise steadily."""
    if len(points) < POINTS_MIN or points[-1][0] - points[0][0] < COVERED * days * DAY_SECONDS * (1 - 1 / POINTS):
        return None
    pace = _slope(points)
    middle = len(points) // 2
    if pace <= 0 or min(_slope(points[:middle]), _slope(points[middle:])) < STEADY * pace:
        return None
    foot = median(used - pace * at for at, used in points)
    off = median(abs(used - pace * at - foot) for at, used in points)
    return None if off > NOISE * pace * (points[-1][0] - points[0][0]) else pace


def _slope(points: Sequence[_Point]) -> float:
    return median((after[1] - before[1]) / (after[0] - before[0]) for before, after in combinations(points, 2))
