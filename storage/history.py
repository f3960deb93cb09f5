"""How full pools were: one sample an hour, after some days one a day, and what follows of it. Written where pools are observed.

The forecast is worked out when a sample is written and stands in the pool's row: lists and the overview read it for nothing. A pool whose
hour has not passed costs nothing here. Pools are sampled at different minutes of the hour, so that not all of a fleet is written at once.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from storage.forecast import LOOK_BACK, Forecast, Reading, forecast
from storage.models import PoolSample, StoragePool

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable

EVERY_SECONDS: Final = 3600
HOURLY_MAX: Final = 8 * 24
"""So many of the newest samples are kept as they are; of the older ones the first of each day."""
DAILY_MAX: Final = 400


def note(pools: Iterable[StoragePool], *, now: dt.datetime | None = None) -> None:
    """Keep how full these are, each at most once an hour. Rows as they were just observed."""
    at = now or timezone.now()
    for pool in pools:
        used = pool.used_bytes
        if used is not None and pool.running and pool.gone_at is None and _due(pool, at):
            _sample(pool, used, at)


def soon(now: dt.datetime | None = None) -> dt.datetime | None:
    """A pool that is full before this needs a look; None where nobody wants to be warned (`VMM_POOL_WARN_DAYS=0`)."""
    days = settings.ENV.pool_warn_days
    return (now or timezone.now()) + dt.timedelta(days=days) if days else None


def _due(pool: StoragePool, at: dt.datetime) -> bool:
    """Whether another hour has begun for it since its last sample: another one, not a later one, should the clock have been set back."""
    return pool.sampled_at is None or _hour(pool.pk, pool.sampled_at) != _hour(pool.pk, at)


def _hour(pk: uuid.UUID, at: dt.datetime) -> int:
    return int(at.timestamp() + pk.int % EVERY_SECONDS) // EVERY_SECONDS


def _sample(pool: StoragePool, used: int, at: dt.datetime) -> None:
    with transaction.atomic():
        # Two hypervisors of one host, or a look and an operation, may come at the same moment: the first writes.
        mine = StoragePool.objects.filter(pk=pool.pk, gone_at=None, sampled_at=pool.sampled_at)
        if not mine.update(sampled_at=at):
            return
        kept = PoolSample.objects.filter(pool=pool.pk)
        new_day = not kept.filter(at__date=at.date()).exists()
        PoolSample.objects.create(pool_id=pool.pk, at=at, capacity_bytes=pool.capacity_bytes or 0, used_bytes=used)
        rows = kept.filter(at__gt=at - LOOK_BACK, at__lte=at).values_list("at", "used_bytes")
        found = forecast((Reading(*row) for row in rows), capacity=pool.capacity_bytes, now=at)
        _say(pool, found)
        if new_day:
            _thin(pool.pk)
    pool.sampled_at = at


def _say(pool: StoragePool, found: Forecast | None) -> None:
    pool.full_at = found.full_at if found else None
    pool.bytes_per_day = found.bytes_per_day if found else None
    pool.forecast_days = found.based_on_days if found else None
    StoragePool.objects.filter(pk=pool.pk).update(
        full_at=pool.full_at, bytes_per_day=pool.bytes_per_day, forecast_days=pool.forecast_days
    )


def _thin(pk: uuid.UUID) -> None:
    """Keep the newest as they are, one of each day before, and of those so many.

    By number, not by age: a clock that ran ahead for a moment would have made all of them old.
    """
    rows = list(PoolSample.objects.filter(pool=pk).order_by("-at", "-pk").values_list("pk", "at"))
    days: dict[dt.date, int] = {at.date(): row for row, at in rows[HOURLY_MAX:]}
    stay = set(list(days.values())[:DAILY_MAX])
    going = [row for row, _ in rows[HOURLY_MAX:] if row not in stay]
    for start in range(0, len(going), 500):
        PoolSample.objects.filter(pk__in=going[start : start + 500]).delete()
