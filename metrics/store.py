"""Samples in and out: appended by samplers, read as series, sparklines and latest values, trimmed by age.

It knows no noun: a subject is the uuid of a VM or a host. Who looks at what (`look`) is kept in the cache, so that the samplers of
another process see it.
"""

from __future__ import annotations

import datetime as dt
import math
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from django.conf import settings
from django.db import transaction
from django.db.models import Avg, Func, IntegerField
from django.utils import timezone

from core.errors import BadInput
from core.memory import keep, recall
from metrics.models import Latest, Sample
from metrics.rates import NAMES, Values

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.sql.compiler import SQLCompiler

POINTS_MAX = 2000
POINTS_WANTED = 720
"""About as many points as a chart has pixels, when the caller names no step."""
RANGE_DEFAULT = dt.timedelta(hours=1)
SPARK_SECONDS = 600
LOOK_SECONDS = 15.0
FRESH_SECONDS = 30.0
"""How old the latest values may be to be called so, at the least."""
_LOOKED = "metrics.looked"
_BATCH = 250
"""Samples in one transaction: 1,000 at once were measured to hold SQLite's write lock for 50 to 100 ms."""
_BREATH_SECONDS = 0.002
_TRIM_ROWS = 2000
_EARLIEST = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_LATEST = dt.datetime(2200, 1, 1, tzinfo=dt.UTC)

_look_lock = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSample:
    """One measurement of one subject."""

    subject: uuid.UUID
    at: dt.datetime
    values: Values


class Series(TypedDict):
    """The contract's answer: `step` in seconds, `start` the first point's time, null where unknown."""

    step: int
    start: dt.datetime
    series: dict[str, list[float | None]]


# -- in ----------------------------------------------------------------------------------------------------------------
def append(samples: Sequence[NewSample]) -> None:
    """Keep them, and make them the latest of their subjects, in short transactions: an event's write never waits for all of them."""
    # Sorted, so that two writers lock rows of `Latest` in the same order.
    order = sorted(samples, key=lambda sample: sample.subject)
    for start in range(0, len(order), _BATCH):
        if start:
            time.sleep(_BREATH_SECONDS)
        _append([(sample.subject, sample.at, asdict(sample.values)) for sample in order[start : start + _BATCH]])


def _append(values: list[tuple[uuid.UUID, dt.datetime, dict[str, Any]]]) -> None:
    kept = [Sample(subject=subject, at=at, **measured) for subject, at, measured in values]
    newest = [Latest(subject=subject, at=at, **measured) for subject, at, measured in values]
    with transaction.atomic():
        Sample.objects.bulk_create(kept, ignore_conflicts=True)
        Latest.objects.bulk_create(
            newest, update_conflicts=True, unique_fields=["subject"], update_fields=["at", *NAMES]
        )


def forget_latest(subjects: Iterable[uuid.UUID]) -> None:
    """These are not measured any more (their guests stopped): they have no latest values."""
    gone = list(subjects)
    for start in range(0, len(gone), 500):
        Latest.objects.filter(subject__in=gone[start : start + 500]).delete()


def trim(now: dt.datetime | None = None) -> int:
    """Delete what is older than it is kept, in short transactions; how many."""
    before = (now or timezone.now()) - dt.timedelta(seconds=settings.ENV.samples_keep_seconds)
    gone = 0
    while True:
        oldest = list(Sample.objects.filter(at__lt=before).order_by("at").values_list("pk", flat=True)[:_TRIM_ROWS])
        if not oldest:
            break
        gone += Sample.objects.filter(pk__gte=min(oldest), pk__lte=max(oldest), at__lt=before).delete()[0]
    Latest.objects.filter(at__lt=before).delete()
    return gone


# -- who looks -----------------------------------------------------------------------------------------------------------
def look(subjects: Iterable[str]) -> None:
    """Somebody looks at these (`vm/<id>`, `host/<id>`) for the next 15 s: they are measured more often. Cheap; say it again.

    Two processes that say it at the same moment may overlook each other; the next time mends it.
    """
    until = time.time() + LOOK_SECONDS
    with _look_lock:
        looked = _looked_until()
        looked.update(dict.fromkeys(subjects, until))
        keep(_LOOKED, looked, seconds=2 * LOOK_SECONDS)


def looking(subject: str) -> None:
    """`look` at one."""
    look([subject])


def looked_at() -> frozenset[str]:
    """What somebody looks at now."""
    return frozenset(_looked_until())


def _looked_until() -> dict[str, float]:
    now = time.time()
    found: dict[str, float] = recall(_LOOKED) or {}
    # The second comparison: a clock that was set back must not keep anybody looking for hours.
    return {subject: until for subject, until in found.items() if now < until <= now + LOOK_SECONDS}


# -- out -----------------------------------------------------------------------------------------------------------------
class _Bucket(Func):
    """How many whole steps of `step` seconds after `start` a time lies."""

    output_field = IntegerField()

    def __init__(self, field: str, start: dt.datetime, step: float) -> None:
        super().__init__(field)
        self._start, self._step = start, step

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **_: Any) -> tuple[str, list[Any]]:  # type: ignore[override]
        """Each database counts seconds in its own way."""
        column, params = compiler.compile(self.source_expressions[0])
        if connection.vendor == "postgresql":
            sql = f"FLOOR(EXTRACT(EPOCH FROM ({column} - %s)) / %s)::integer"
            return sql, [*params, self._start, self._step]
        # julianday is a float of some 40 microseconds: a time on the very edge of a step must not fall before it.
        text = self._start.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        sql = f"CAST((julianday({column}) - julianday(%s)) * 86400.0 / %s + 1e-4 AS INTEGER)"
        return sql, [*params, text, self._step]


def series(
    subject: uuid.UUID,
    *,
    start: dt.datetime | None = None,
    end: dt.datetime | None = None,
    step: int | None = None,
    names: Sequence[str] | None = None,
) -> Series:
    """Means of every step from `start` to `end`, null where nothing was measured. One query; memory is that of the answer.

    Args:
        subject: Whose.
        start: Aware; an hour before `end` when left out. Moved down to a whole step, so that a reload does not shift the points.
        end: Aware; now when left out.
        step: Whole seconds; as fine as it was measured, and coarser for a long range, when left out.
        names: Which series; all when left out.

    Raises:
        BadInput: A range that is none, or more than 2,000 points; an unknown name.
    """
    end = _check_time(end or timezone.now(), "to")
    start = _check_time(start or end - RANGE_DEFAULT, "from")
    if start >= end:
        raise BadInput("from must lie before to.", errors=[{"pointer": "/from", "detail": "not before to"}])
    chosen = _check_names(names)
    seconds = (end - start).total_seconds()
    step = _check_step(step, seconds)
    first = dt.datetime.fromtimestamp(start.timestamp() // step * step, tz=dt.UTC)
    count = max(1, math.ceil((end - first).total_seconds() / step))
    found: dict[str, list[float | None]] = {name: [None] * count for name in chosen}
    rows = (
        Sample.objects.filter(subject=subject, at__gte=first, at__lt=end)
        .annotate(bucket=_Bucket("at", first, step))
        .values("bucket")
        .annotate(**{f"mean_{name}": Avg(name) for name in chosen})
        .values_list("bucket", *[f"mean_{name}" for name in chosen])
        .order_by()
    )
    for bucket, *means in rows.iterator(chunk_size=500):
        if 0 <= bucket < count:
            for name, mean in zip(chosen, means, strict=True):
                found[name][bucket] = _shown(name, mean)
    return Series(step=step, start=first, series=found)


def _check_time(value: dt.datetime, name: str) -> dt.datetime:
    if value.tzinfo is None:
        value = value.replace(tzinfo=dt.UTC)
    try:
        value = value.astimezone(dt.UTC)
    except OverflowError:
        value = _LATEST
    if not _EARLIEST <= value < _LATEST:
        raise BadInput(
            f"{name} must lie between the years 2000 and 2200.",
            errors=[{"pointer": f"/{name}", "detail": "out of range"}],
        )
    return value


def _check_names(names: Sequence[str] | None) -> list[str]:
    chosen = list(dict.fromkeys(names)) if names else list(NAMES)
    unknown = [name for name in chosen if name not in NAMES]
    if unknown:
        raise BadInput(
            f"There is no series {unknown[0][:50]!r}; known: {', '.join(NAMES)}.",
            errors=[{"pointer": "/series", "detail": f"one of {', '.join(NAMES)}"}],
        )
    return chosen


def _check_step(step: int | None, seconds: float) -> int:
    if step is None:
        return max(math.ceil(settings.ENV.sample_seconds), math.ceil(seconds / POINTS_WANTED))
    if step < 1 or seconds / step > POINTS_MAX:
        raise BadInput(
            f"step must be whole seconds, and give at most {POINTS_MAX} points: at least "
            f"{max(1, math.ceil(seconds / POINTS_MAX))} for this range.",
            errors=[{"pointer": "/step", "detail": f"at most {POINTS_MAX} points"}],
        )
    return step


def _shown(name: str, mean: float | None) -> float | None:
    """Bytes are whole; ratios and rates have no more digits than they mean."""
    if mean is None:
        return None
    return round(float(mean), 4) if name == "cpu_ratio" else round(float(mean))


def latest(subjects: Iterable[uuid.UUID], *, now: dt.datetime | None = None) -> dict[uuid.UUID, Values]:
    """The newest values of each subject that is being measured. One query for each 500."""
    oldest = (now or timezone.now()) - dt.timedelta(seconds=max(FRESH_SECONDS, 4 * settings.ENV.sample_seconds))
    wanted = list(subjects)
    found: dict[uuid.UUID, Values] = {}
    for start in range(0, len(wanted), 500):
        rows = Latest.objects.filter(subject__in=wanted[start : start + 500], at__gte=oldest)
        for subject, *values in rows.values_list("subject", *NAMES):
            found[subject] = Values(**dict(zip(NAMES, values, strict=True)))
    return found


def sparklines(
    subjects: Sequence[uuid.UUID], *, points: int = 24, name: str = "cpu_ratio", now: dt.datetime | None = None
) -> dict[uuid.UUID, list[float | None]]:
    """The last ten minutes of each subject in so many points, oldest first. One query for a page of subjects."""
    _check_names([name])
    step = SPARK_SECONDS / points
    end = now or timezone.now()
    start = end - dt.timedelta(seconds=SPARK_SECONDS)
    found: dict[uuid.UUID, list[float | None]] = {subject: [None] * points for subject in subjects}
    rows = (
        Sample.objects.filter(subject__in=list(found), at__gte=start, at__lte=end)
        .annotate(bucket=_Bucket("at", start, step))
        .values("subject", "bucket")
        .annotate(mean=Avg(name))
        .values_list("subject", "bucket", "mean")
        .order_by()
    )
    for subject, bucket, mean in rows.iterator(chunk_size=2000):
        found[subject][min(max(bucket, 0), points - 1)] = _shown(name, mean)
    return found
