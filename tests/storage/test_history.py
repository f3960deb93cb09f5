"""What is kept of how full pools were: seldom, bounded, whatever the clock does; and where the forecast is shown."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.test import override_settings
from django.utils import timezone

from core.units import GIB
from drivers.types import PoolInfo, StorageState
from storage import history
from storage.inventory import pool_observe, pools_observe
from storage.models import PoolSample, StoragePool
from tests.factories import HypervisorFactory, PoolFactory, VolumeFactory
from tests.storage.test_pages import main_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User
    from tests.conftest import Api

pytestmark = pytest.mark.django_db

HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


def lived(pool: StoragePool, days: float, pace: float, *, step: dt.timedelta = HOUR) -> StoragePool:
    """As if it had been watched for so many days until now, growing by `pace` GiB a day."""
    now, used = timezone.now(), pool.used_bytes or 0
    ages = [step * n for n in range(1, int(days * DAY / step))]
    PoolSample.objects.bulk_create(
        PoolSample(
            pool=pool, at=now - age, capacity_bytes=pool.capacity_bytes, used_bytes=used - int(pace * GIB * (age / DAY))
        )
        for age in ages
    )
    history.note([pool], now=now)
    pool.refresh_from_db()
    return pool


def test_a_pool_is_sampled_once_an_hour_and_else_costs_nothing(
    django_assert_num_queries: Callable[..., Any], django_assert_max_num_queries: Callable[..., Any]
) -> None:
    info = PoolInfo(
        uuid="a", name="a", type="dir", state=StorageState.RUNNING, capacity_bytes=1000, available_bytes=900
    )
    hypervisor = HypervisorFactory()
    pool = pool_observe(hypervisor, info)
    assert list(PoolSample.objects.values_list("capacity_bytes", "used_bytes")) == [(1000, 100)]
    pools_observe(hypervisor, [dataclasses.replace(info, available_bytes=1)], complete=True)
    pool = StoragePool.objects.get(pk=pool.pk)
    with django_assert_num_queries(0):
        history.note([pool])
    with django_assert_max_num_queries(
        8
    ):  # savepoint and its end, claim, first of its day?, sample, window, forecast; rows of a new day
        history.note([pool], now=timezone.now() + HOUR)
    assert PoolSample.objects.count() == 2


def test_what_cannot_be_reached_or_has_no_size_is_not_sampled() -> None:
    pools = [
        PoolFactory(state="inactive"),
        PoolFactory(capacity_bytes=None),
        PoolFactory(capacity_bytes=0, available_bytes=0),
        PoolFactory(available_bytes=None),
        PoolFactory(gone_at=timezone.now()),
    ]
    history.note(pools)
    assert not PoolSample.objects.exists()


def test_of_two_who_see_it_at_once_one_writes() -> None:
    pool = PoolFactory()
    twin = StoragePool.objects.get(pk=pool.pk)
    history.note([pool])
    history.note([twin])
    assert PoolSample.objects.count() == 1


def test_years_of_samples_stay_few_and_their_days_are_kept() -> None:
    pool = PoolFactory()
    now = timezone.now()
    PoolSample.objects.bulk_create(
        PoolSample(pool=pool, at=now - HOUR * n, capacity_bytes=1, used_bytes=1) for n in range(1, 24 * 600)
    )
    history._thin(pool.pk)
    kept = list(PoolSample.objects.order_by("-at").values_list("at", flat=True))
    assert len(kept) == history.HOURLY_MAX + history.DAILY_MAX
    assert kept[history.HOURLY_MAX - 1] == now - HOUR * history.HOURLY_MAX
    days = [at.date() for at in kept[history.HOURLY_MAX :]]
    assert len(set(days)) == len(days)


def test_a_clock_that_ran_ahead_for_a_moment_costs_no_history() -> None:
    pool = lived(PoolFactory(), 10, 2)
    told = pool.full_at
    assert told is not None
    history.note([pool], now=timezone.now() + 4000 * DAY)
    assert PoolSample.objects.filter(pool=pool, at__lt=timezone.now()).count() > history.HOURLY_MAX - 2
    history.note([pool], now=timezone.now() + HOUR)
    pool.refresh_from_db()
    assert pool.full_at is not None
    assert abs(pool.full_at - told) < DAY


def test_the_forecast_is_in_rest_and_on_the_pages(admin: User, client_for: Callable[..., Client], api: Api) -> None:
    browser = client_for(admin)
    pool = lived(PoolFactory(name="busy", available_bytes=60 * GIB, capacity_bytes=100 * GIB), 9, 5)
    lived(PoolFactory(name="calm"), 9, 0)
    body = api.get(f"/storage-pools/{pool.pk}").json()
    assert (body["forecast"]["based_on_days"], round(body["forecast"]["bytes_per_day"] / GIB)) == (7, 5)
    assert dt.datetime.fromisoformat(body["forecast"]["full_at"]) == pool.full_at
    assert [one["name"] for one in api.get("/storage-pools?q=is:filling").json()["items"]] == ["busy"]
    calm = api.get("/storage-pools?q=name:calm").json()["items"][0]
    assert calm["forecast"] is None
    sentence = "ull in about 12 days at the pace of the last 7"
    assert main_of(browser.get("/storage")).count('class="pill warn">12 days') == 1
    assert "<b>busy</b>" in main_of(browser.get("/storage"))
    assert f"F{sentence}: 5 GiB a day" in main_of(browser.get(f"/storage/{pool.pk}"))
    assert 'class="ahead"' in main_of(browser.get(f"/storage/{pool.pk}"))
    assert f"f{sentence}" in main_of(browser.get("/"))
    with override_settings(ENV=settings_with(pool_warn_days=7)):
        assert f"f{sentence}" not in main_of(browser.get("/"))
        assert 'class="pill warn">12 days' not in main_of(browser.get("/storage"))
        assert api.get("/storage-pools?q=is:filling").json()["items"] == []
    with override_settings(ENV=settings_with(pool_warn_days=0)):
        assert f"f{sentence}" not in main_of(browser.get("/"))
    StoragePool.objects.filter(pk=pool.pk).update(state="inactive")
    assert api.get(f"/storage-pools/{pool.pk}").json()["forecast"] is None
    assert f"f{sentence}" not in main_of(browser.get("/"))


def settings_with(**values: Any) -> Any:
    return settings.ENV.model_copy(update=values)


def test_over_commit_says_what_would_be_missing(admin: User, client_for: Callable[..., Client], api: Api) -> None:
    pool = PoolFactory(capacity_bytes=100 * GIB, available_bytes=90 * GIB)
    VolumeFactory.create_batch(3, pool=pool, capacity_bytes=40 * GIB, allocation_bytes=2 * GIB)
    VolumeFactory(pool=pool, capacity_bytes=GIB, allocation_bytes=2 * GIB)
    body = api.get(f"/storage-pools/{pool.pk}").json()
    assert (body["promised_bytes"], body["unwritten_bytes"]) == (121 * GIB, 114 * GIB)
    page = main_of(client_for(admin).get(f"/storage/{pool.pk}"))
    assert "114 GiB are not written yet, 90 GiB are free" in page
    assert "24 GiB would be missing" in page
    VolumeFactory.create_batch(2, pool=pool, capacity_bytes=2**63 - 1, allocation_bytes=0)
    assert api.get(f"/storage-pools/{pool.pk}").status_code == 200
