"""When a schedule is due. Knows clocks and calendars, and neither guests nor a database.

A turn is a moment of the wall clock in a named time zone. Where the clock is put forward over one, it comes as much later as the clock
was put; where the clock is put back, it comes once, the first time. Turns every few hours are counted from each midnight in hours that
pass, so that none falls out and none comes twice.
"""

from __future__ import annotations

import calendar
import datetime as dt
import itertools
import zoneinfo
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Final

from core.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator

HOURS: Final = (1, 2, 3, 4, 6, 8, 12)
"""Those that a day is a multiple of: so the turns of each day are the same."""
WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_HOUR: Final = dt.timedelta(hours=1)
_DAY: Final = dt.timedelta(days=1)


class Every(StrEnum):
    """How often."""

    HOURS = "hours"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """The rule.

    Attributes:
        every: How often; `hours` counts for HOURS, `weekday` for WEEK, `day` for MONTH.
        at: Wall clock; of HOURS the turn that all others of the day are counted from.
        hours: One of `HOURS`.
        weekday: One of `WEEKDAYS`.
        day: 1 to 31; in a month that is shorter its last.
        time_zone: IANA's name.
    """

    every: Every
    at: dt.time
    hours: int = 1
    weekday: str = "monday"
    day: int = 1
    time_zone: str = "UTC"

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """Raises BadInput for one that this machine does not know."""
        try:
            return zoneinfo.ZoneInfo(self.time_zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            detail = f"{self.time_zone[:64]} is no time zone that this machine knows"
            raise BadInput(f"{detail}.", errors=[{"pointer": "/when/time_zone", "detail": detail}]) from None

    def after(self, moment: dt.datetime) -> dt.datetime:
        """The first turn later than `moment`, in UTC."""
        return next(self.turns(moment))

    def turns(self, moment: dt.datetime) -> Iterator[dt.datetime]:
        """All turns later than `moment`, in UTC, without an end."""
        first = moment.astimezone(self.zone).date() - _DAY
        for number in itertools.count():
            for turn in self._of_day(first + number * _DAY):
                if turn > moment:
                    yield turn

    def _of_day(self, day: dt.date) -> list[dt.datetime]:
        """The turns of one local day, in UTC."""
        if self.every == Every.HOURS:
            return self._hourly(day)
        if self.every == Every.WEEK and day.weekday() != WEEKDAYS.index(self.weekday):
            return []
        if self.every == Every.MONTH and day.day != min(self.day, calendar.monthrange(day.year, day.month)[1]):
            return []
        return [self._moment(day, self.at)]

    def _hourly(self, day: dt.date) -> list[dt.datetime]:
        midnight, following = self._moment(day, dt.time()), self._moment(day + _DAY, dt.time())
        first = midnight + (self.at.hour % self.hours) * _HOUR + self.at.minute * dt.timedelta(minutes=1)
        turns = (first + number * self.hours * _HOUR for number in range(25))
        # A day of 25 hours has no turn right before the next day's first.
        end = following + (first - midnight) - self.hours * _HOUR / 2
        return [turn for turn in turns if turn < end]

    def _moment(self, day: dt.date, at: dt.time) -> dt.datetime:
        return dt.datetime.combine(day, at, tzinfo=self.zone).astimezone(dt.UTC)


@cache
def zones() -> tuple[str, ...]:
    """The names of all time zones that this machine knows, by name."""
    return tuple(sorted(name for name in zoneinfo.available_timezones() if name != "localtime"))
