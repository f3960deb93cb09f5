"""Which snapshots are kept, grandfather, father and son: the last few, and of the days, weeks and months before the last one of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Hashable, Mapping
    from zoneinfo import ZoneInfo

K = TypeVar("K", bound="Hashable")

KEEP_MAX: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How many of each. What one of the four rules keeps is kept.

    Attributes:
        last: The newest ones, whenever they were taken.
        daily: The newest one of each of the last so many days that have one; likewise `weekly` (from Monday on) and `monthly`.
    """

    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0


_SPANS: Final[dict[str, Callable[[dt.datetime], Any]]] = {
    "daily": lambda at: at.date(),
    "weekly": lambda at: at.isocalendar()[:2],
    "monthly": lambda at: (at.year, at.month),
}


def kept(taken: Mapping[K, dt.datetime], keep: Keep, zone: ZoneInfo) -> set[K]:
    """Those that stay.

    Args:
        taken: Each with the moment it was taken.
        keep: The rules.
        zone: Whose days, weeks and months they are.
    """
    newest_first = sorted(taken, key=lambda one: (taken[one], str(one)), reverse=True)
    stay = set(newest_first[: keep.last])
    for name, span in _SPANS.items():
        seen: set[Any] = set()
        for one in newest_first:
            here = span(taken[one].astimezone(zone))
            if here not in seen and len(seen) < getattr(keep, name):
                seen.add(here)
                stay.add(one)
    return stay
