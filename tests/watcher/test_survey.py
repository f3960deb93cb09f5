"""Pools, volumes and networks that others make show by themselves, and what goes wrong with them is in nobody's way."""

from __future__ import annotations

import dataclasses
import time

import pytest

from accounts.actor import SYSTEM
from drivers.errors import DriverError, Unreachable, WrongState
from drivers.fake import FakeDriver
from drivers.types import StorageState
from events.models import Event
from hosts.services import host_refresh
from networks.models import Network, NetworkFilter
from storage.models import StoragePool, Volume
from tests.waiting import wait_until
from tests.watcher.conftest import add_host, online, state_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("watcher.survey.TICK_SECONDS", 0.02)
    monkeypatch.setattr("watcher.survey.PERIOD_SECONDS", 0.1)
    monkeypatch.setattr("watcher.survey.backoff", lambda _failures: 0.1)


def volumes() -> set[str]:
    return set(Volume.objects.values_list("name", flat=True))


def pools() -> dict[str, str]:
    return dict(StoragePool.objects.filter(gone_at=None).values_list("name", "state"))


def test_what_is_there_and_what_comes_and_goes(service, make_world):
    place = make_world()
    place.storage.add_pool("default")
    place.storage.add_volume("default", "a", capacity_bytes=10)
    place.networks.add("lan")
    place.networks.lease("lan", mac="52:54:00:AA:00:01", address="192.168.122.9", hostname="web")
    add_host("a", place.endpoint.uri)
    service.start()
    wait_until(lambda: volumes() == {"a"} and Network.objects.exists(), 10, "the first look")
    assert pools() == {"default": "running"}
    assert [lease["mac"] for lease in Network.objects.get().leases] == ["52:54:00:aa:00:01"]
    place.storage.add_volume("default", "b", capacity_bytes=10)
    place.storage.remove_volume("default", "a")
    wait_until(lambda: volumes() == {"b"}, 5, "volumes of others")
    place.storage.set_state("default", StorageState.INACTIVE)
    wait_until(lambda: pools() == {"default": "inactive"}, 5, "a pool that was stopped")
    assert volumes() == {"b"}
    place.storage.remove_pool("default")
    place.networks.remove("lan")
    wait_until(lambda: not pools() and not Network.objects.filter(gone_at=None).exists(), 5, "what was removed")
    assert volumes() == set()


def test_nothing_is_written_while_nothing_changes(service, make_world):
    place = make_world()
    place.storage.add_pool("default")
    place.storage.add_volume("default", "a", capacity_bytes=10)
    place.networks.add("lan")
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    wait_until(lambda: volumes() == {"a"} and Network.objects.exists(), 10, "the first look")
    row, seq = StoragePool.objects.values().get(), Event.objects.filter(type__startswith="storage").count()
    assert place.wait_for_calls("networks", place.calls["networks"] + 3)
    assert (StoragePool.objects.values().get(), Event.objects.filter(type__startswith="storage").count()) == (row, seq)
    assert hypervisor.pk == row["hypervisor_id"]


def test_a_look_that_hangs_delays_no_guest(service, make_world):
    place = make_world()
    place.storage.add_pool("default")
    place.add("web")
    [hypervisor] = add_host("a", place.endpoint.uri)
    place.hang("volumes")
    service.start()
    online(hypervisor)
    assert place.wait_for_calls("volumes", 1)
    place.outside("web", "start")
    wait_until(lambda: state_of("web") == "running", 2, "followed while the look hangs")
    place.storage.add_volume("default", "late", capacity_bytes=1)
    place.release("volumes")
    wait_until(lambda: volumes() == {"late"}, 5, "the look goes on")


def test_a_look_that_hangs_does_not_hold_the_end_up(service, make_world):
    place = make_world()
    [hypervisor] = add_host("a", place.endpoint.uri)
    place.hang("pools")
    service.start()
    online(hypervisor)
    assert place.wait_for_calls("pools", 1)
    began = time.monotonic()
    service.stop()
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize(
    ("verb", "lie"),
    [
        ("pools", lambda _answer: None),
        ("pools", lambda _answer: ["no pool"]),
        ("volumes", lambda _answer: {"a": 1}),
        ("networks", lambda _answer: 7),
        ("leases", lambda _answer: [object()]),
    ],
)
def test_a_lie_is_believed_by_nobody_and_passes(service, make_world, verb, lie, caplog):
    place = make_world()
    place.storage.add_pool("default")
    place.storage.add_volume("default", "a", capacity_bytes=10)
    place.networks.add("lan")
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    wait_until(lambda: volumes() == {"a"} and Network.objects.exists(), 10, "the first look")
    place.lie(verb, lie, times=2)
    place.storage.add_volume("default", "b", capacity_bytes=10)
    wait_until(lambda: volumes() == {"a", "b"}, 5, "believed again")
    assert pools() == {"default": "running"}
    assert online(hypervisor)


@pytest.mark.parametrize("error", [WrongState("stopped"), DriverError("broken"), Unreachable("lost")])
def test_a_pool_that_fails_hides_no_other(service, make_world, error):
    place = make_world()
    for name in ("one", "two"):
        place.storage.add_pool(name)
        place.storage.add_volume(name, f"in-{name}", capacity_bytes=10)
    place.fail_next(error, verb="volumes")
    add_host("a", place.endpoint.uri)
    service.start()
    wait_until(lambda: volumes() == {"in-one", "in-two"}, 10, "both")


def test_two_drivers_of_one_host_see_one_pool(service, make_world):
    first, second = make_world(), make_world()
    for place in (first, second):
        place.lie("host_info", lambda info: dataclasses.replace(info, host_uuid="one-machine"), times=1000)
        place.storage._uuid_of = first.storage._uuid_of
        place.storage.add_pool("default")
        place.storage.add_volume("default", "a", capacity_bytes=10)
    ids = {one.pk for one in add_host("a", first.endpoint.uri, second.endpoint.uri)}
    service.start()
    wait_until(lambda: volumes() == {"a"}, 10, "seen")
    owner = StoragePool.objects.get().hypervisor
    ids -= {owner.pk}
    owner.delete()
    wait_until(lambda: StoragePool.objects.get().hypervisor_id in ids and volumes() == {"a"}, 5, "handed on")


def test_somebody_who_asks_is_answered_at_once(service, make_world, monkeypatch):
    monkeypatch.setattr("watcher.survey.PERIOD_SECONDS", 3600.0)
    place = make_world()
    place.storage.add_pool("default")
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    wait_until(lambda: pools() == {"default": "running"}, 10, "the first look")
    place.storage.add_volume("default", "a", capacity_bytes=1)
    host_refresh(host=hypervisor.host, by=SYSTEM)
    wait_until(lambda: volumes() == {"a"}, 5, "the look that was asked for")


def test_a_hypervisor_without_either_has_no_thread_for_it(service, make_world, monkeypatch):
    lacking = ("storage.pools", "networks")
    monkeypatch.setattr(FakeDriver, "features", frozenset(one for one in FakeDriver.features if one not in lacking))
    place = make_world()
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    followed = service._followed[hypervisor.pk]
    wait_until(lambda: not followed.survey._thread.alive, 5, "its end")
    assert place.calls["pools"] == 0


def test_what_a_hypervisor_tells_of_pools_and_networks_is_looked_at_at_once(service, make_world, monkeypatch):
    monkeypatch.setattr("watcher.survey.PERIOD_SECONDS", 600.0)
    place = make_world()
    place.storage.add_pool("default")
    place.networks.add("lan")
    add_host("a", place.endpoint.uri)
    service.start()
    wait_until(lambda: pools() and Network.objects.exists(), 10, "the first look")
    place.storage.add_pool("other")
    place.storage.add_volume("other", "made", capacity_bytes=10)
    place.storage.set_state("default", StorageState.INACTIVE)
    wait_until(lambda: pools() == {"default": "inactive", "other": "running"}, 1, "pools of others")
    place.networks.set_active("lan", active=False)
    wait_until(lambda: not Network.objects.get().active, 1, "a network that somebody stops")
    place.networks.remove("lan")
    place.storage.remove_pool("default")
    wait_until(lambda: set(pools()) == {"other"}, 1, "a pool that somebody removes")
    wait_until(lambda: not Network.objects.filter(gone_at=None).exists(), 1, "a network that somebody removes")


def test_news_of_one_pool_reads_the_volumes_of_that_one_alone(service, make_world, monkeypatch):
    monkeypatch.setattr("watcher.survey.PERIOD_SECONDS", 600.0)
    place = make_world()
    place.storage.add_pool("large")
    place.storage.add_pool("small")
    add_host("a", place.endpoint.uri)
    service.start()
    assert place.wait_for_calls("volumes", 2)
    place.storage.add_volume("small", "a", capacity_bytes=10)
    place.storage.pool_refresh("small")
    wait_until(lambda: volumes() == {"a"}, 1, "the volumes of a pool that was refreshed")
    assert (place.calls["volumes"], place.calls["networks"]) == (3, 1)


def test_what_networks_are_made_of_is_surveyed_too(service, make_world):
    place = make_world()
    place.networks.add_interface("eth0", mac="52:54:00:AA:00:09")
    place.networks.add_interface("br0", "bridge", up=None, speed_mbps=None)
    place.networks.add_filter("clean")
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    interfaces = hypervisor.host.interfaces.order_by("name").values_list("name", "kind", "mac", "up", "speed_mbps")
    wait_until(lambda: len(interfaces.all()) == 2 and NetworkFilter.objects.exists(), 10, "the first look")
    assert list(interfaces.all()) == [
        ("br0", "bridge", "", None, None),
        ("eth0", "ethernet", "52:54:00:aa:00:09", True, 1000),
    ]
    place.networks.add_interface("eth0", up=False)
    place.networks.filter_delete("clean")
    wait_until(lambda: not hypervisor.host.interfaces.get(name="eth0").up, 5, "a link that went")
    wait_until(lambda: NetworkFilter.objects.get().gone_at, 5, "a filter that went")
    assert Event.objects.filter(type="host.changed", data__changed__interfaces=["br0", "eth0"]).count() == 2
