"""A hypervisor that tells no news: what others do there is found all the same, and how late it may be is said."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from drivers.errors import Unsupported
from drivers.types import GuestState
from events import log as event_log
from events.models import Event
from tests.waiting import wait_until
from tests.watcher.conftest import add_host, online, state_of
from vms.models import VM

if TYPE_CHECKING:
    from hosts.models import Hypervisor

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def mute(make_world):
    """A world without events."""
    place = make_world()
    place.fail_next(Unsupported("No events here."), verb="subscribe")
    return place


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("drivers.polling.FASTEST_SECONDS", 0.05)


def test_what_others_do_is_found_and_told_with_its_event(service, mute, quick):
    mute.add("web")
    [hypervisor] = add_host("a", mute.endpoint.uri)
    service.start()
    online(hypervisor)
    for verb, state in (("start", "running"), ("suspend", "paused"), ("force-off", "shutoff")):
        mute.outside("web", verb)
        wait_until(lambda state=state: state_of("web") == state, 5, f"{verb} found")
    mute.add("new")
    wait_until(lambda: state_of("new") == "shutoff", 5, "a new one found")
    mute.outside("web", "undefine")
    wait_until(lambda: state_of("web") is None, 5, "undefine found")
    changes = [(event.data["from"], event.data["to"]) for event in Event.objects.filter(type="vm.state_changed")]
    assert changes == [("paused", "shutoff"), ("running", "paused"), ("shutoff", "running")]


def test_the_capability_says_how_late_news_can_be(service, mute):
    [hypervisor] = add_host("a", mute.endpoint.uri)
    service.start()
    online(hypervisor)
    assert hypervisor.capabilities["events"] == {
        "supported": False,
        "reason": "In memory tells no news; changes made outside show within 1 to 10 s.",
    }


def test_a_slow_hypervisor_is_asked_less_often_and_that_is_said(service, mute, quick, monkeypatch):
    monkeypatch.setattr("drivers.polling.REST", 99.0)
    mute.delay(0.15, verb="guests")
    [hypervisor] = add_host("a", mute.endpoint.uri)
    service.start()
    wait_until(lambda: "to 20 s." in _reason(hypervisor), 5, "15 s, in whole tens")
    assert not mute.wait_for_calls("guests", 2, timeout_seconds=0.5), "a hundredth of the time at most"


def _reason(hypervisor: Hypervisor) -> str:
    hypervisor.refresh_from_db()
    return hypervisor.capabilities.get("events", {}).get("reason", "")


def test_an_operation_there_makes_it_look_soon(service, mute, monkeypatch):
    monkeypatch.setattr("drivers.polling.LIVELY_SECONDS", 0.0)
    monkeypatch.setattr("drivers.polling.GROWTH", 1000.0)
    monkeypatch.setattr("drivers.polling.FASTEST_SECONDS", 0.2)
    monkeypatch.setattr("drivers.polling.SLOWEST_SECONDS", 60.0)
    mute.add("web", state=GuestState.RUNNING)
    [hypervisor] = add_host("a", mute.endpoint.uri)
    service.start()
    online(hypervisor)
    assert mute.wait_for_calls("guests", 2)
    assert not mute.wait_for_calls("guests", 3, timeout_seconds=0.5), "nothing happens, so it looks once a minute"
    mute.outside("web", "force-off")
    vm = VM.objects.get()
    event_log.append([event_log.NewEvent(type="operation.changed", object="operation/1", data={"target": vm.ref})])
    started = time.monotonic()
    wait_until(lambda: state_of("web") == "shutoff", 5, "found soon")
    assert time.monotonic() - started < 3


def test_nonsense_in_a_look_is_contained_and_mended(service, mute, quick):
    mute.add("web")
    [hypervisor] = add_host("a", mute.endpoint.uri)
    service.start()
    online(hypervisor)
    mute.lie("guests", lambda _: [7], times=1)
    mute.outside("web", "start")
    wait_until(lambda: state_of("web") == "running", 10, "read again")
    online(hypervisor)  # the rows are true a moment before it is said
