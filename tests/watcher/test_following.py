"""A hypervisor followed: what happens on it becomes rows and events, whatever goes wrong on the way."""

from __future__ import annotations

import dataclasses
import threading
import time

import pytest
from django.conf import settings
from django.db import OperationalError

from drivers.errors import AuthFailed, DriverError
from drivers.types import GuestInfo, GuestState
from events.models import Event
from hosts.choices import LinkState
from hosts.models import Host, Hypervisor
from tests.waiting import wait_until
from tests.watcher.conftest import add_host, online, stands, state_of
from vms.models import VM, Snapshot
from watcher import sweep

pytestmark = pytest.mark.django_db(transaction=True)


def events(type_: str) -> list[Event]:
    return list(Event.objects.filter(type=type_).order_by("seq"))


def test_everything_there_is_adopted(service, make_world):
    place = make_world()
    place.add("web", state=GuestState.RUNNING)
    place.add("db")
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    assert (state_of("web"), state_of("db")) == ("running", "shutoff")
    assert hypervisor.swept_at is not None
    assert hypervisor.capabilities["start"] == {"supported": True, "reason": ""}
    host = Host.objects.get()
    assert (host.state, host.cpu_count, host.hostname) == ("online", 8, f"{place.name}.fake")
    assert [event.object for event in events("host.online")] == [host.ref]


def test_what_others_do_shows_up_with_its_event(service, make_world):
    place = make_world()
    place.add("web")
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    for verb, state in (
        ("start", "running"),
        ("suspend", "paused"),
        ("resume", "running"),
        ("force-off", "shutoff"),
    ):
        place.outside("web", verb)
        wait_until(lambda state=state: state_of("web") == state, 5, f"{verb} seen")
    place.outside("web", "undefine")
    wait_until(lambda: state_of("web") is None, 5, "undefine seen")
    changes = [(event.data["from"], event.data["to"]) for event in events("vm.state_changed")]
    assert changes == [("shutoff", "running"), ("running", "paused"), ("paused", "running"), ("running", "shutoff")]
    versions = [event.data["version"] for event in Event.objects.filter(object__startswith="vm/").order_by("seq")]
    assert versions == sorted(set(versions))
    assert [event.data["cause"] for event in events("vm.undefined")] == ["undefined"]


def snapshots_of(name: str) -> list[str]:
    return sorted(Snapshot.objects.filter(vm__name=name).values_list("name", flat=True))


def test_snapshots_are_read_at_first_and_after_news_that_may_be_of_them(service, make_world):
    place = make_world()
    for name in ("web", "db"):
        place.add(name)
    place.outside("web", "snapshot-create", name="old")
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    assert (snapshots_of("web"), snapshots_of("db")) == (["old"], [])
    assert not VM.objects.filter(snapshots_read_at=None).exists()
    place.outside("web", "snapshot-create", name="new")
    wait_until(lambda: snapshots_of("web") == ["new", "old"], 5, "seen")
    place.outside("web", "snapshot-delete", name="old")
    wait_until(lambda: snapshots_of("web") == ["new"], 5, "seen")
    assert [event.data["snapshot"] for event in events("vm.snapshot_created")] == ["new"]


@pytest.mark.parametrize("verb", ["snapshots", "snapshots_of_all"])
def test_nonsense_about_snapshots_costs_nobody_his_guests(service, make_world, verb):
    place = make_world()
    place.add("web")
    place.outside("web", "snapshot-create", name="old")
    place.lie(verb, lambda _answer: {"web": [None]}, times=100)
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    place.outside("web", "snapshot-create", name="new")
    place.outside("web", "start")
    wait_until(lambda: state_of("web") == "running", 5, "still followed")


def test_new_guest_is_adopted_at_once(service, make_world):
    place = make_world()
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    place.add("new", memory_bytes=64 << 20)
    wait_until(lambda: state_of("new"), 5, "adopted")
    assert VM.objects.get().memory_bytes == 64 << 20
    assert [event.data["cause"] for event in events("vm.defined")] == ["defined"]


def test_flood_of_events_is_folded_and_ends_in_the_truth(service, make_world):
    place = make_world()
    for number in range(10):
        place.add(f"g{number}")
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    before = place.calls["guests_by_ref"]
    started = time.monotonic()
    for _ in range(50):
        for number in range(10):
            place.outside(f"g{number}", "start")
            place.outside(f"g{number}", "force-off")
    flooded = time.monotonic() - started
    for number in range(10):
        place.outside(f"g{number}", "start")
    wait_until(lambda: VM.objects.filter(state="running").count() == 10, 10, "the truth")
    assert flooded < 1.0, "a thousand events within a second"
    assert place.calls["guests_by_ref"] - before < 500


def test_news_during_the_sweep_is_not_lost(service, make_world):
    place = make_world()
    place.add("web")
    place.hang("guests")
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    assert place.wait_for_calls("guests", 1)
    place.add("late", state=GuestState.SHUTOFF)
    place.outside("late", "start")
    place.release("guests")
    online(hypervisor)
    wait_until(lambda: state_of("late") == "running", 5, "news that came while sweeping")


def test_lost_link_is_offline_and_comes_back_with_the_truth(service, make_world):
    place = make_world()
    place.add("web", state=GuestState.RUNNING)
    place.add("old")
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    place.refuse(DriverError("The daemon is restarting."))
    place.cut()
    stands(hypervisor, LinkState.ERROR)
    assert state_of("web") == "running", "the last known state stands"
    place.outside("web", "force-off")
    place.outside("old", "undefine")
    place.refuse(None)
    online(hypervisor)
    assert (state_of("web"), state_of("old")) == ("shutoff", None)
    place.outside("web", "start")
    wait_until(lambda: state_of("web") == "running", 5, "subscribed again")
    kinds = list(Event.objects.filter(type__startswith="host.o").order_by("seq").values_list("type", flat=True))
    assert kinds == ["host.online", "host.offline", "host.online"]


def test_refused_credentials_are_an_error_and_named(service, make_world):
    place = make_world()
    place.refuse(AuthFailed("The password is wrong."))
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    stands(hypervisor, LinkState.ERROR)
    assert hypervisor.error["code"] == "auth_failed"
    assert Host.objects.get().error["code"] == "auth_failed"


def test_nonsense_is_contained_and_mended(service, make_world):
    place = make_world()
    place.add("web")
    place.lie("guests", lambda _: {"not": "a list"}, times=1)
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    stands(hypervisor, LinkState.ERROR)
    assert "makes no sense" in hypervisor.error["detail"]
    online(hypervisor)
    assert state_of("web") == "shutoff"


@pytest.mark.parametrize("verb", ["host_info", "guests", "subscribe"])
def test_any_exception_of_a_driver_is_contained(service, make_world, verb):
    def explode(_: object) -> object:
        raise ZeroDivisionError

    place = make_world()
    place.add("web")
    place.lie(verb, explode, times=1)
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    assert state_of("web") == "shutoff"


def test_one_odd_guest_does_not_hide_the_others(service, make_world):
    place = make_world()
    place.add("odd")
    place.add("web")
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    place.lie("guests_by_ref", lambda _: [None], times=99)
    place.lie("guest_or_none", lambda info: "nonsense" if info.name == "odd" else info, times=99)
    place.delay(0.3, verb="guests_by_ref")
    place.outside("odd", "start")
    place.outside("odd", "suspend")  # waits behind the first reading, together with the other's news
    place.outside("web", "start")
    wait_until(lambda: state_of("web") == "running", 5, "the good one")
    assert state_of("odd") == "shutoff", "stays as it was last seen"


def test_frozen_host_delays_nobody_and_shows_offline(service, make_world, monkeypatch):
    monkeypatch.setattr("watcher.service.SILENT_SECONDS", 0.5)
    monkeypatch.setattr("watcher.service.LOOK_SECONDS", 0.1)
    frozen, well = make_world(), make_world()
    frozen.add("cold", state=GuestState.RUNNING)
    well.add("warm")
    [one] = add_host("a", frozen.endpoint.uri)
    [other] = add_host("b", well.endpoint.uri)
    service.start()
    online(one)
    online(other)
    frozen.freeze()
    threading.Thread(target=frozen.outside, args=("cold", "suspend")).start()
    well.outside("warm", "start")
    wait_until(lambda: state_of("warm") == "running", 2, "the other host's news")
    stands(one, LinkState.OFFLINE)
    assert (one.error["code"], state_of("cold")) == ("timeout", "running")
    frozen.thaw()
    online(one)
    wait_until(lambda: state_of("cold") == "paused", 5, "what happened while frozen")


def test_idle_host_that_freezes_is_found_out_by_itself(service, make_world, monkeypatch):
    for name, seconds in (("SLOW_SECONDS", 0.2), ("SILENT_SECONDS", 0.3), ("LOOK_SECONDS", 0.1)):
        monkeypatch.setattr(f"watcher.service.{name}", seconds)
    monkeypatch.setattr("watcher.sampler.TICK_SECONDS", 0.05)
    monkeypatch.setattr(settings.ENV, "sample_seconds", 0.1)
    place = make_world()
    place.add("web", state=GuestState.RUNNING)
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    assert place.wait_for_calls("stats", 2)
    place.freeze()
    stands(hypervisor, LinkState.OFFLINE)
    place.thaw()
    online(hypervisor)


def test_a_database_that_fails_loses_no_news(service, make_world, monkeypatch):
    failures = iter([OperationalError("gone"), OperationalError("gone")])
    true_observe = sweep.vm_observe

    def observe(*args, **kwargs):
        for failure in failures:
            raise failure
        return true_observe(*args, **kwargs)

    place = make_world()
    place.add("web")
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    monkeypatch.setattr(sweep, "vm_observe", observe)
    place.outside("web", "start")
    wait_until(lambda: state_of("web") == "running", 10, "read again")
    assert Hypervisor.objects.get().state == "online"


def test_stop_takes_two_seconds_at_most_although_a_host_hangs(service, make_world):
    place = make_world()
    place.hang("guests")
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    assert place.wait_for_calls("guests", 1)
    started = time.monotonic()
    service.stop()
    assert time.monotonic() - started < 2.0
    place.release("guests")
    hypervisor.refresh_from_db()
    assert hypervisor.state == "connecting", "what comes late is not written"


def test_machine_that_is_managed_already_is_refused_and_its_guests_are_not_listed_twice(
    service, make_world, monkeypatch
):
    monkeypatch.setattr("watcher.service.LOOK_SECONDS", 0.1)
    place = make_world()
    place.add("web")
    [first] = add_host("a", place.endpoint.uri)
    service.start()
    online(first)
    twin = make_world()
    twin.add("web")
    with_same_uuid = Host.objects.get(name="a").host_uuid
    twin.lie("host_info", lambda info: _with_uuid(info, with_same_uuid), times=99)
    [second] = add_host("b", twin.endpoint.uri)
    stands(second, LinkState.ERROR)
    assert second.error["code"] == "already_exists"
    assert second.error["context"]["host"] == "a"
    assert VM.objects.filter(hypervisor=second).count() == 0


def _with_uuid(info: object, uuid: str) -> object:
    return dataclasses.replace(info, host_uuid=uuid)


def test_values_that_no_column_takes_are_clamped(service, make_world):
    def monster(infos: list[GuestInfo]) -> list[GuestInfo]:
        return [
            dataclasses.replace(
                info, name="n\0" * 400, vcpus=-5, memory_bytes=2**70, state_reason="x" * 500, boot={"k": "\0v"}
            )
            for info in infos
        ]

    place = make_world()
    place.add("web")
    place.lie("guests", monster, times=99)
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    vm = VM.objects.get()
    assert (len(vm.name), vm.vcpus, vm.memory_bytes, vm.boot) == (255, 0, 2**63 - 1, {"k": "v"})


def test_many_hypervisors_one_process(service, make_world):
    places = [make_world() for _ in range(8)]
    for place in places:
        place.add(f"g-{place.name}")
    hypervisors = [add_host(f"h{number}", place.endpoint.uri)[0] for number, place in enumerate(places)]
    service.start()
    for hypervisor in hypervisors:
        online(hypervisor)
    assert VM.objects.count() == len(places)
    assert Hypervisor.objects.filter(state="online").count() == len(places)
