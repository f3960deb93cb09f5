"""Schedules as people read them: when, how many, when next. In the reader's language, by the schedule's own clock. No query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils import formats, timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _l
from django.utils.translation import ngettext

from core.errors import BadInput
from vms.schedules.times import Every

if TYPE_CHECKING:
    import datetime as dt

    from vms.schedules.models import SnapshotSchedule

WEEKDAYS = {
    "monday": _l("Mondays"),
    "tuesday": _l("Tuesdays"),
    "wednesday": _l("Wednesdays"),
    "thursday": _l("Thursdays"),
    "friday": _l("Fridays"),
    "saturday": _l("Saturdays"),
    "sunday": _l("Sundays"),
}


def when_words(schedule: SnapshotSchedule) -> str:
    """`Daily at 02:00`."""
    at = f"{schedule.at:%H:%M}"
    if schedule.every == Every.HOURS:
        minute = f"{schedule.at.hour % schedule.hours:02}:{schedule.at.minute:02}"
        return ngettext("Every hour, from %(at)s on", "Every %(n)s hours, from %(at)s on", schedule.hours) % {
            "n": schedule.hours,
            "at": minute,
        }
    if schedule.every == Every.WEEK:
        return _("%(day)s at %(at)s") % {"day": WEEKDAYS[schedule.weekday], "at": at}
    if schedule.every == Every.MONTH:
        return _("Monthly on day %(day)s at %(at)s") % {"day": schedule.day, "at": at}
    return _("Daily at %(at)s") % {"at": at}


def keep_words(schedule: SnapshotSchedule) -> str:
    """`the last 3, 7 daily, 4 weekly`."""
    said = (
        (schedule.keep_last, _("the last %(n)s")),
        (schedule.keep_daily, _("%(n)s daily")),
        (schedule.keep_weekly, _("%(n)s weekly")),
        (schedule.keep_monthly, _("%(n)s monthly")),
    )
    return ", ".join(text % {"n": number} for number, text in said if number)


def memory_words(schedule: SnapshotSchedule) -> str:
    """What of a guest is kept."""
    if schedule.memory is None:
        return _("disks, and memory where there is any")
    return _("disks and memory") if schedule.memory else _("disks only")


def moment_words(schedule: SnapshotSchedule, at: dt.datetime | None) -> str:
    """A moment by the schedule's own clock; "" for none."""
    if at is None:
        return ""
    try:
        zone: dt.tzinfo = schedule.when.zone
    except BadInput:
        zone = timezone.get_default_timezone()
    return formats.date_format(at.astimezone(zone), "D j M, H:i")


def shown(schedule: SnapshotSchedule) -> dict[str, Any]:
    """All of it, for a row or a page."""
    return {
        "row": schedule,
        "when": when_words(schedule),
        "keep": keep_words(schedule),
        "memory": memory_words(schedule),
        "next": moment_words(schedule, schedule.next_run_at),
        "last": moment_words(schedule, schedule.last_run_at),
    }
