"""A pool's forecast in people's words, and as a picture's lines."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from storage.history import soon

if TYPE_CHECKING:
    from storage.forecast import Forecast
    from storage.models import StoragePool

WIDTH, HEIGHT = 600, 100
SHOWN_DAYS: Final = 30
AHEAD_DAYS: Final = 30
"""The picture goes at most so far back, and ahead."""


def full_in(told: Forecast, now: dt.datetime | None = None) -> str:
    """As in: full in about 12 days at the pace of the last 7."""
    days = days_left(told, now)
    when = (
        _("full within a day")
        if days < 1
        else ngettext("full in about %(n)s day", "full in about %(n)s days", round(days)) % {"n": round(days)}
    )
    return _("%(when)s at the pace of the last %(days)s") % {"when": when, "days": told.based_on_days}


def days_left(told: Forecast, now: dt.datetime | None = None) -> float:
    """Days until it is full."""
    return max(0.0, (told.full_at - (now or timezone.now())).total_seconds() / 86400)


def urgency(told: Forecast, now: dt.datetime | None = None) -> str:
    """Class of a forecast: red within two days, amber within those of `VMM_POOL_WARN_DAYS`."""
    before = soon(now)
    if before is None or told.full_at > before:
        return ""
    return "crit" if days_left(told, now) < 2 else "warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """How full a pool was, and will be, in a box of WIDTH by HEIGHT.

    Attributes:
        line, area: Points of what was used.
        ahead: Points of the forecast; empty where there is none.
        roof: Where its capacity lies.
        now_x: Where today is.
        start, end: What the box's edges are.
        rows: Time and bytes in use, a line a day, the newest first.
    """

    line: str
    area: str
    ahead: str
    roof: str
    now_x: str
    start: dt.datetime
    end: dt.datetime
    rows: list[tuple[dt.datetime, int]]


def picture(pool: StoragePool, now: dt.datetime | None = None) -> Picture | None:
    """Of its samples; None where there are fewer than two. One query."""
    now = now or timezone.now()
    samples = pool.samples.filter(at__gte=now - dt.timedelta(days=SHOWN_DAYS), at__lte=now)
    shown = list(samples.order_by("at", "pk"))
    if len(shown) < 2 or not pool.capacity_bytes:
        return None
    told, newest = pool.forecast, shown[-1]
    start, end = shown[0].at, now
    if told is not None:
        end = max(now, min(told.full_at, now + min(2 * (now - start), dt.timedelta(days=AHEAD_DAYS))))
    top = max(pool.capacity_bytes, *(one.used_bytes for one in shown)) * 1.06
    span = max(1.0, (end - start).total_seconds())

    def place(at: dt.datetime, used: float) -> str:
        return f"{(at - start).total_seconds() / span * WIDTH:.1f},{HEIGHT - used / top * HEIGHT:.1f}"

    points = [place(one.at, one.used_bytes) for one in shown]
    ahead = ""
    if told is not None:
        grown = newest.used_bytes + told.bytes_per_day * (end - newest.at).total_seconds() / 86400
        ahead = f"{points[-1]} {place(end, min(grown, float(pool.capacity_bytes)))}"
    days = {one.at.date(): (one.at, one.used_bytes) for one in shown}
    return Picture(
        line=" ".join(points),
        area=f"{place(start, 0)} {' '.join(points)} {place(newest.at, 0)}",
        ahead=ahead,
        roof=f"{HEIGHT - pool.capacity_bytes / top * HEIGHT:.1f}",
        now_x=f"{(now - start).total_seconds() / span * WIDTH:.1f}",
        start=start,
        end=end,
        rows=list(days.values())[::-1],
    )
