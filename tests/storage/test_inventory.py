"""What hypervisors list of storage, written down: once a host, newest reading first, quiet where nothing worth telling happened."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from core.errors import Missing
from drivers.types import PoolInfo, StorageState, VolumeInfo
from events.models import Event
from hosts.choices import LinkState
from hosts.models import Hypervisor
from operations.models import Operation
from storage.inventory import (
    BATCH,
    REMEMBERED,
    pool_gone,
    pool_observe,
    pools_observe,
    volume_gone,
    volume_observe,
    volumes_observe,
)
from storage.models import LostVolume, StoragePool, Volume
from tests.factories import HostFactory, HypervisorFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from hosts.models import Host

pytestmark = pytest.mark.django_db

POOL = PoolInfo(
    uuid="AAAA-1",
    name="default",
    type="dir",
    state=StorageState.RUNNING,
    capacity_bytes=1000,
    allocation_bytes=100,
    available_bytes=900,
    target="/pools/default",
    formats=("qcow2", "raw"),
    autostart=True,
)
LATE = dt.timedelta(seconds=1)


def volume(name: str, **values: Any) -> VolumeInfo:
    return VolumeInfo(name=name, pool="default", path=f"/pools/default/{name}", capacity_bytes=10, **values)


def other(**values: Any) -> PoolInfo:
    return dataclasses.replace(POOL, **values)


def events() -> list[tuple[str, Any]]:
    return [(event.type, event.data.get("changed")) for event in Event.objects.order_by("seq")]


@pytest.fixture
def host() -> Host:
    return HostFactory()


@pytest.fixture
def hypervisor(host: Host) -> Hypervisor:
    return HypervisorFactory(host=host, driver="qemu")


@pytest.fixture
def pool(hypervisor: Hypervisor) -> StoragePool:
    return pool_observe(hypervisor, POOL)


# -- pools ---------------------------------------------------------------------------------------------------------------
def test_a_pool_is_defined_changed_and_gone(hypervisor: Hypervisor) -> None:
    pools_observe(hypervisor, [POOL], {"default": [volume("a"), volume("b")]}, complete=True)
    row = StoragePool.objects.get()
    assert (row.uuid, row.name, row.host_id, row.formats) == ("aaaa-1", "default", hypervisor.host_id, ["qcow2", "raw"])
    assert (row.version, row.volumes.count()) == (1, 2)
    pools_observe(hypervisor, [other(state=StorageState.INACTIVE, capacity_bytes=None, autostart=False)], complete=True)
    pools_observe(hypervisor, [], complete=True)
    row.refresh_from_db()
    assert row.gone_at is not None
    assert (row.version, row.volumes.count(), row.volumes_observed_at) == (3, 0, None)
    assert events() == [
        ("storage_pool.defined", None),
        ("storage_pool.changed", {"state": "inactive", "capacity_bytes": None, "autostart": False}),
        ("storage_pool.undefined", None),
    ]
    assert Event.objects.first().object == f"storage-pool/{row.pk}"


def test_how_full_it_is_is_written_and_neither_told_nor_a_version(
    pool: StoragePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr("events.bell.broadcast_samples", sent.extend)
    now = pool_observe(pool.hypervisor, other(allocation_bytes=400, available_bytes=600))
    assert (now.available_bytes, now.version) == (600, pool.version)
    assert now.updated_at > pool.updated_at
    assert [kind for kind, _ in events()] == ["storage_pool.defined"]
    assert [(one["object"], one["data"]["available_bytes"]) for one in sent] == [(pool.ref, 600)]


def test_nothing_is_written_when_nothing_changed(hypervisor: Hypervisor) -> None:
    volumes = [volume(f"v{n}") for n in range(50)]
    pools_observe(hypervisor, [POOL], {"default": volumes}, complete=True)
    with CaptureQueriesContext(
        connection,
    ) as caught:
        pools_observe(hypervisor, [POOL], {"default": volumes}, complete=True)
    assert {query["sql"].split()[0] for query in caught.captured_queries} == {"SELECT"}
    assert len(caught) == 3


def test_two_drivers_of_one_libvirtd_list_it_once(hypervisor: Hypervisor) -> None:
    second = HypervisorFactory(host=hypervisor.host, driver="lxc")
    first = pools_observe(hypervisor, [POOL], complete=True)
    again = pools_observe(second, [POOL], complete=True)
    assert (first.defined, again.defined, again.changed, list(again.rows)) == (1, 0, 0, [])
    assert StoragePool.objects.get().hypervisor == hypervisor
    pools_observe(second, [], complete=True)
    assert StoragePool.objects.get().gone_at is None


def test_another_driver_takes_it_over_while_the_first_is_out_of_reach(hypervisor: Hypervisor) -> None:
    second = HypervisorFactory(host=hypervisor.host, driver="lxc")
    pools_observe(hypervisor, [POOL], complete=True)
    Hypervisor.objects.filter(pk=hypervisor.pk).update(state=LinkState.OFFLINE)
    found = pools_observe(second, [POOL], complete=True)
    assert list(found.rows) == ["aaaa-1"]
    row = StoragePool.objects.get()
    assert (row.hypervisor, row.version) == (second, 1)
    assert [kind for kind, _ in events()] == ["storage_pool.defined"]


def test_a_removed_hypervisor_hands_its_pools_on(hypervisor: Hypervisor, pool: StoragePool) -> None:
    cannot = HypervisorFactory(host=hypervisor.host, driver="docker", capabilities={"start": {"supported": True}})
    sibling = HypervisorFactory(host=hypervisor.host, driver="lxc")
    volume_observe(pool, volume("a"))
    hypervisor.delete()
    row = StoragePool.objects.get()
    assert (row.pk, row.hypervisor, row.volumes.count()) == (pool.pk, sibling, 1)
    sibling.delete()
    assert (StoragePool.objects.count(), Hypervisor.objects.get()) == (0, cannot)


def test_a_removed_host_takes_them_along(hypervisor: Hypervisor, pool: StoragePool) -> None:
    HypervisorFactory(host=hypervisor.host, driver="lxc")
    hypervisor.host.delete()
    assert not StoragePool.objects.exists()


def test_old_news_is_refused(pool: StoragePool) -> None:
    before = pool.observed_at - LATE
    assert not pools_observe(pool.hypervisor, [other(state=StorageState.INACTIVE)], seen_at=before).changed
    assert not pools_observe(pool.hypervisor, [], seen_at=before, complete=True).gone
    assert pool_gone(pool)
    assert not pools_observe(pool.hypervisor, [POOL], seen_at=before, complete=True).rows
    assert not pool_gone(pool)


def test_a_pool_that_comes_back_is_the_same_row(pool: StoragePool) -> None:
    pool_gone(pool)
    back = pool_observe(pool.hypervisor, POOL)
    assert (back.pk, back.gone_at, back.version) == (pool.pk, None, 3)


def test_whoever_sees_a_promised_pool_first_gives_it_the_promised_id(hypervisor: Hypervisor) -> None:
    promised = "01890000-0000-7000-8000-000000000001"
    Operation.objects.create(
        kind="pool.create",
        target=f"storage-pool/{promised}",
        target_name="default",
        lock_key=f"storage-pool/{promised}",
        holds_lock=True,
        state="running",
        params={"hypervisor": str(hypervisor.pk)},
        requested_by="ada",
    )
    sibling = HypervisorFactory(host=hypervisor.host, driver="lxc")
    pools_observe(sibling, [POOL, other(uuid="b", name="else")], complete=True)
    assert str(StoragePool.objects.get(name="default").pk) == promised
    told = Event.objects.get(object=f"storage-pool/{promised}")
    assert (told.actor, told.operation is not None) == ("ada", True)


@pytest.mark.parametrize(
    "lie",
    [
        {"capacity_bytes": 2**80, "available_bytes": -5},
        {"name": "x" * 9000 + "\0"},
        {"state": "exploded"},
        {"target": "/a\0b\ud800", "source": "s" * 90_000},
        {"type": "t" * 400, "formats": ("f" * 400,)},
    ],
)
def test_whatever_a_hypervisor_says_fits_its_column(hypervisor: Hypervisor, lie: dict[str, Any]) -> None:
    row = pool_observe(hypervisor, other(**lie))
    row.full_clean(exclude=["formats", "capacity_bytes", "hypervisor", "target", "source"])
    assert row.capacity_bytes is not None
    assert 0 <= row.capacity_bytes < 2**63


@pytest.mark.parametrize("lie", [{"uuid": ""}, {"uuid": "\0"}, {"name": "\0"}])
def test_what_is_no_pool_is_refused(hypervisor: Hypervisor, lie: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="A pool without"):
        pool_observe(hypervisor, other(**lie))


@pytest.mark.django_db(transaction=True)
def test_a_hypervisor_that_was_removed_meanwhile_is_missing(hypervisor: Hypervisor) -> None:
    Hypervisor.objects.filter(pk=hypervisor.pk).delete()
    with pytest.raises(Missing):
        pools_observe(hypervisor, [POOL])


# -- volumes -------------------------------------------------------------------------------------------------------------
def test_volumes_are_created_changed_and_deleted(pool: StoragePool) -> None:
    volumes_observe(pool, [volume("old")], complete=True)
    tally = volumes_observe(pool, [volume("old", format="qcow2"), volume("new")], complete=True)
    assert (tally.created, tally.changed, tally.deleted) == (1, 1, 0)
    volumes_observe(pool, [volume("new", allocation_bytes=5)], complete=True)
    row = Volume.objects.get()
    assert (row.name, row.allocation_bytes, row.version) == ("new", 5, 1)
    assert events()[1:] == [
        ("volume.created", None),
        ("volume.changed", {"format": "qcow2"}),
        ("volume.deleted", None),
    ] or events()[1:] == [
        ("volume.changed", {"format": "qcow2"}),
        ("volume.created", None),
        ("volume.deleted", None),
    ]
    told = Event.objects.filter(type="volume.created").get()
    assert (told.object, told.data["pool"], told.data["pool_name"]) == (row.ref, str(pool.pk), "default")


def test_the_first_listing_of_a_pool_is_not_told_volume_by_volume(pool: StoragePool) -> None:
    volumes_observe(pool, [volume(f"v{n}") for n in range(BATCH + 10)], complete=True)
    assert Volume.objects.count() == BATCH + 10
    volumes_observe(pool, [volume("last")])
    assert [kind for kind, _ in events()] == ["storage_pool.defined", "volume.created"]


def test_an_empty_pool_was_listed_all_the_same(pool: StoragePool) -> None:
    volumes_observe(pool, [], complete=True)
    volumes_observe(pool, [volume("a")], complete=True)
    assert [kind for kind, _ in events()] == ["storage_pool.defined", "volume.created"]


def test_a_listing_that_began_before_a_deletion_brings_nothing_back(pool: StoragePool) -> None:
    volumes_observe(pool, [volume("a"), volume("b")], complete=True)
    began = timezone.now()
    assert volume_gone(pool, "a")
    made = volume_observe(pool, volume("c"))
    assert not volumes_observe(pool, [volume("a"), volume("b")], seen_at=began, complete=True).created
    assert sorted(Volume.objects.values_list("name", flat=True)) == ["b", "c"]
    assert volume_observe(pool, volume("c")).pk == made.pk


def test_the_older_of_two_readings_counts_where_it_is_of_another_volume(pool: StoragePool) -> None:
    volumes_observe(pool, [volume("a"), volume("b")], complete=True)
    began = timezone.now()
    assert volume_gone(pool, "a")
    volume_observe(pool, volume("c"))
    assert volume_observe(pool, volume("d"), seen_at=began).name == "d"
    assert volume_observe(pool, volume("b", format="qcow2"), seen_at=began).format == "qcow2"
    assert volume_observe(pool, volume("c", format="qcow2"), seen_at=began).format == volume("c").format
    assert not volume_gone(pool, "c", seen_at=began)
    with pytest.raises(Missing, match="deleted meanwhile"):
        volume_observe(pool, volume("a"), seen_at=began)
    assert volume_observe(pool, volume("a")).name == "a"


def test_what_is_gone_is_remembered_for_a_while(pool: StoragePool) -> None:
    volumes_observe(pool, [volume("a"), volume("b")], complete=True)
    volume_gone(pool, "a")
    assert LostVolume.objects.get().name == "a"
    LostVolume.objects.update(lost_at=timezone.now() - 2 * REMEMBERED)
    volume_gone(pool, "b")
    assert LostVolume.objects.get().name == "b"
    pool_gone(pool)
    assert not LostVolume.objects.exists()


def test_whoever_sees_a_promised_volume_first_gives_it_the_promised_id(pool: StoragePool) -> None:
    promised = "01890000-0000-7000-8000-000000000002"
    Operation.objects.create(
        kind="volume.clone",
        target=f"volume/{promised}",
        target_name="copy",
        lock_key=f"volume/{promised}",
        holds_lock=True,
        state="running",
        params={"pool": str(pool.pk)},
    )
    volumes_observe(pool, [volume("copy"), volume("else")], complete=True)
    assert str(Volume.objects.get(name="copy").pk) == promised


def test_volumes_of_a_pool_that_is_gone_are_missing(pool: StoragePool) -> None:
    pool_gone(pool)
    with pytest.raises(Missing):
        volume_observe(pool, volume("a"))


def test_a_sweep_costs_the_same_few_statements_for_ten_or_a_thousand(
    pool: StoragePool, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    volumes = [volume(f"v{n:04d}") for n in range(1000)]
    volumes_observe(pool, volumes, complete=True)
    with django_assert_max_num_queries(19):  # one of them is PostgreSQL's lock on the event log
        volumes_observe(pool, [*volumes[1:], volume("new")], complete=True)
