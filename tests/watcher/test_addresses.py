"""A running guest's addresses come into its row by themselves, and a guest that does not answer is in nobody's way."""

from __future__ import annotations

import time

import pytest

from drivers.errors import Timeout
from drivers.types import AddressInfo, GuestState
from events.models import Event
from tests.waiting import wait_until
from tests.watcher.conftest import add_host, online
from vms.models import VM

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("watcher.survey.TICK_SECONDS", 0.02)
    monkeypatch.setattr("watcher.survey.backoff", lambda _failures: 0.1)
    monkeypatch.setattr("watcher.addresses.SOON_SECONDS", 0.05)
    monkeypatch.setattr("watcher.addresses.WITHOUT_SECONDS", 0.1)
    monkeypatch.setattr("watcher.addresses.WITH_SECONDS", 0.1)


def address(text: str, source: str = "lease") -> AddressInfo:
    return AddressInfo(address=text, prefix=24, mac="52:54:00:AA:BB:CC", source=source)


def addresses(name: str = "web") -> list[tuple[str, str]]:
    return [(one["address"], one["source"]) for one in VM.objects.get(name=name).addresses]


@pytest.fixture
def place(service, make_world):
    made = make_world()
    (hypervisor,) = add_host("a", made.endpoint.uri)
    made.add("web", state=GuestState.RUNNING)
    service.start()
    wait_until(lambda: online(hypervisor) and VM.objects.exists(), 10, "the first sweep")
    return made


def test_comes_and_changes_and_goes_with_the_guest(place):
    wait_until(lambda: VM.objects.get().address_reasons, 10, "why there is none")
    assert set(VM.objects.get().address_reasons) == {"agent", "lease", "arp"}
    place.give_addresses("web", lease=[address("192.0.2.7")])
    wait_until(addresses, 10, "its lease")
    place.give_addresses(
        "web", agent=[address("192.0.2.7", "agent"), address("fe80::1", "agent"), address("127.0.0.1")]
    )
    wait_until(lambda: addresses() == [("192.0.2.7", "agent"), ("fe80::1", "agent")], 10, "the agent is trusted more")
    assert "lease" not in VM.objects.get().address_reasons
    version = VM.objects.get().version
    calls = place.calls["addresses"]
    assert place.wait_for_calls("addresses", calls + 3)
    assert VM.objects.get().version == version, "nothing is told while nothing changes"
    place.outside("web", "force-off")
    wait_until(lambda: VM.objects.get().state == "shutoff", 10, "it is off")
    assert (addresses(), VM.objects.get().address_reasons) == ([], {})
    told = [
        event.data["changed"]["addresses"]
        for event in Event.objects.filter(data__changed__has_key="addresses").order_by("seq")
    ]
    assert ([one["address"] for one in told[0]], told[-1]) == (["192.0.2.7"], [])


def test_started_then_asked_for_at_once(place, monkeypatch):
    monkeypatch.setattr("watcher.addresses.WITHOUT_SECONDS", 3600.0)
    info = place.add("late")
    wait_until(lambda: VM.objects.filter(name="late").exists(), 10, "it is seen")
    place.outside("late", "start")
    place.give_addresses("late", arp=[address("192.0.2.9", "arp")])
    wait_until(lambda: addresses("late") == [("192.0.2.9", "arp")], 10, info.name)


def test_answer_that_makes_no_sense_or_none_then_the_others_are_asked(place):
    place.add("other", state=GuestState.RUNNING)
    place.give_addresses("other", lease=[address("192.0.2.8")])
    place.lie("addresses", lambda _answer: {"agent": 5})
    place.fail_next(Timeout("busy"), verb="addresses")
    wait_until(lambda: VM.objects.filter(name="other").exists() and addresses("other"), 10, "another one's")


def test_agent_that_hangs_then_events_are_not_late(place):
    place.hang("addresses")
    assert place.wait_for_calls("addresses", place.calls["addresses"] + 1)
    began = time.monotonic()
    place.outside("web", "suspend")
    wait_until(lambda: VM.objects.get().state == "paused", 5, "its state")
    assert time.monotonic() - began < 3
    place.release("addresses")
