"""Running guests are measured, steadily, faster while somebody looks, and nobody waits for a reading that hangs."""

from __future__ import annotations

import time

import pytest

from drivers.fake import FakeDriver
from drivers.types import GuestState
from events import bell
from hosts.models import Host, Hypervisor
from metrics import store
from metrics.models import Latest, Sample
from tests.waiting import wait_until
from tests.watcher.conftest import add_host, online, state_of
from vms.models import VM

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("watcher.sampler.TICK_SECONDS", 0.05)


@pytest.fixture
def sent(monkeypatch):
    """What was broadcast."""
    messages: list[dict] = []
    monkeypatch.setattr(bell, "broadcast_samples", messages.extend)
    return messages


@pytest.fixture
def each(settings, monkeypatch):
    """Sets how often is measured, in seconds."""

    def choose(seconds: float) -> None:
        monkeypatch.setattr(settings.ENV, "sample_seconds", seconds)

    return choose


def pk_of(name: str):
    return VM.objects.get(name=name).pk


def test_running_guests_and_their_host_are_measured(service, make_world, each, sent):
    each(0.25)
    place = make_world()
    place.add("web", state=GuestState.RUNNING, vcpus=2)
    place.add("off")
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    web = pk_of("web")
    wait_until(lambda: Sample.objects.filter(subject=web, cpu_ratio__isnull=False).exists(), 5, "a rate")
    sample = Sample.objects.filter(subject=web, cpu_ratio__isnull=False).first()
    assert sample.cpu_ratio == pytest.approx(0.25, abs=0.01)
    assert sample.disk_read_bytes_per_second == pytest.approx(1_000_000, rel=0.05)
    assert sample.memory_bytes == 128 << 20
    assert not Sample.objects.filter(subject=pk_of("off")).exists()
    host = Sample.objects.filter(subject=hypervisor.host_id, cpu_ratio__isnull=False).first()
    assert host.cpu_ratio == pytest.approx(1 / 8, abs=0.02)
    message = next(one for one in sent if one["object"] == f"vm/{web}" and one["data"]["cpu_ratio"] is not None)
    assert (message["type"], message["at"][-1]) == ("metrics.sample", "Z")
    assert store.latest([web])[web].cpu_ratio == pytest.approx(0.25, abs=0.01)
    assert Host.objects.get().memory_free_bytes == (16 << 30) - (256 << 20)


def test_a_guest_that_stops_has_a_gap_and_no_latest(service, make_world, each):
    each(0.1)
    place = make_world()
    place.add("web", state=GuestState.RUNNING)
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    web = pk_of("web")
    wait_until(lambda: Latest.objects.filter(subject=web).exists(), 5, "measured")
    place.outside("web", "force-off")
    wait_until(lambda: not Latest.objects.filter(subject=web).exists(), 5, "no latest values")
    before = Sample.objects.filter(subject=web).count()
    asked = place.calls["stats"]
    assert place.wait_for_calls("stats", asked + 3)
    assert Sample.objects.filter(subject=web).count() == before


def test_it_is_faster_while_somebody_looks(service, make_world, each):
    each(100)
    place = make_world()
    place.add("web", state=GuestState.RUNNING)
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    wait_until(lambda: Sample.objects.filter(subject=pk_of("web")).exists(), 5, "the first")
    asked = place.calls["stats"]
    assert not place.wait_for_calls("stats", asked + 1, timeout_seconds=0.5), "nobody looks"
    store.looking(f"vm/{pk_of('web')}")
    assert place.wait_for_calls("stats", asked + 5, timeout_seconds=5)


def test_a_look_at_another_hosts_guest_does_not_hurry_this_one(service, make_world, each):
    each(100)
    place = make_world()
    place.add("web", state=GuestState.RUNNING)
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    wait_until(lambda: Sample.objects.filter(subject=pk_of("web")).exists(), 5, "the first")
    asked = place.calls["stats"]
    store.looking("vm/00000000-0000-0000-0000-000000000000")
    assert not place.wait_for_calls("stats", asked + 1, timeout_seconds=0.5)


def test_a_reading_that_hangs_does_not_stack_up_nor_delay_events(service, make_world, each):
    each(0.1)
    place = make_world()
    place.add("web", state=GuestState.RUNNING)
    place.hang("stats")
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    assert place.wait_for_calls("stats", 1)
    started = time.monotonic()
    place.outside("web", "suspend")
    wait_until(lambda: state_of("web") == "paused", 2, "the event")
    assert time.monotonic() - started < 1
    wait_until(lambda: time.monotonic() - started > 0.6, 2, "time for some rounds")
    assert place.calls["stats"] == 1, "one is out, no second is sent"
    place.release("stats")
    wait_until(Sample.objects.exists, 5, "measured again")


def test_nonsense_is_contained_and_measuring_goes_on(service, make_world, each, monkeypatch):
    each(0.1)
    monkeypatch.setattr("watcher.sampler.backoff", lambda failures: 0.05)
    place = make_world()
    place.add("web", state=GuestState.RUNNING)
    place.lie("stats", lambda _: [None, 7], times=2)
    place.lie("host_stats", lambda _: "nonsense", times=1)
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    wait_until(lambda: Sample.objects.filter(subject=pk_of("web")).exists(), 10, "measured in the end")
    assert Hypervisor.objects.get().state == "online"


def test_the_safety_net_finds_what_no_event_told(service, make_world, each, monkeypatch):
    each(100)
    monkeypatch.setattr("watcher.sampler.SWEEP_SECONDS", 0.2)
    place = make_world()
    place.add("web")
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    place._guests[place.uuid_of("web")].vcpus = 7  # behind everybody's back: no event
    wait_until(lambda: VM.objects.get(name="web").vcpus == 7, 5, "found by the sweep")
    swept = Hypervisor.objects.get().swept_at
    wait_until(lambda: Hypervisor.objects.get().swept_at > swept, 5, "again and again")


def test_two_hypervisors_of_one_host_tell_its_load_once(service, make_world, each):
    each(0.1)
    place, other = make_world(), make_world()
    other.lie("host_info", lambda info: place_info, times=99)
    [first] = add_host("a", place.endpoint.uri)
    place_info = _info_of(place)
    second = Hypervisor.objects.create(host=first.host, driver="fake", uri=other.endpoint.uri)
    service.start()
    online(first)
    online(second)
    for one in (place, other):
        one.wait_for_calls("host_stats", one.calls["host_stats"] + 3)
    Sample.objects.all().delete()
    calls = place.calls["host_stats"]
    wait_until(lambda: place.calls["host_stats"] >= calls + 5, 5, "some rounds")
    assert Sample.objects.filter(subject=first.host_id).count() <= place.calls["host_stats"] - calls + 1


def _info_of(place):
    return FakeDriver().open(place.endpoint).host_info()
