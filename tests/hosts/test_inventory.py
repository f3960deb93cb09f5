"""How hypervisors stand becomes how hosts stand, and each change is announced once."""

from __future__ import annotations

import dataclasses

import pytest

from accounts.actor import SYSTEM
from drivers.errors import AlreadyExists, AuthFailed, Unreachable
from drivers.types import Feature, HostInfo, HostStats, Support
from events.models import Event
from hosts.choices import LinkState
from hosts.inventory import host_load_observe, host_observe, hypervisor_observe_link, link_state
from hosts.models import Host, Hypervisor
from hosts.services import hypervisor_delete

pytestmark = pytest.mark.django_db

CONNECTING, ONLINE, OFFLINE, ERROR = LinkState.CONNECTING, LinkState.ONLINE, LinkState.OFFLINE, LinkState.ERROR
GONE = Unreachable("No route.")
INFO = HostInfo(
    hostname="pve1",
    host_uuid="AB-1",
    cpu_count=8,
    cpu_model="Xeon",
    cpu_architecture="x86_64",
    memory_total_bytes=1 << 34,
    memory_free_bytes=1 << 33,
    kernel="6.1",
    hypervisor_version="QEMU 7.2",
)
CAPABILITIES = {feature: Support(supported=feature != Feature.RESET, reason="") for feature in Feature}


def add(name: str = "a", uri: str = "fake:///a", host: Host | None = None) -> Hypervisor:
    return Hypervisor.objects.create(host=host or Host.objects.create(name=name), driver="fake", uri=uri)


def told() -> list[str]:
    return list(Event.objects.order_by("seq").values_list("type", flat=True))


def announced() -> list[str]:
    return [type_ for type_ in told() if type_ in ("host.online", "host.offline")]


def test_errors_that_may_pass_are_offline_others_need_somebody():
    assert link_state(GONE) == OFFLINE
    assert link_state(AuthFailed("no")) == ERROR


def test_online_and_offline_are_announced_once_a_change():
    hypervisor = add()
    for state, error in ((ONLINE, None), (ONLINE, None), (OFFLINE, GONE), (OFFLINE, GONE), (ONLINE, None)):
        hypervisor_observe_link(hypervisor, state, error)
    assert announced() == ["host.online", "host.offline", "host.online"]
    event = Event.objects.filter(type="host.offline").get()
    assert event.data["state"] == "offline"
    assert event.data["error"]["code"] == "host_unreachable"


def test_the_same_again_is_no_change():
    hypervisor = add()
    assert hypervisor_observe_link(hypervisor, OFFLINE, Unreachable("No route.", retry_in_seconds=1))
    assert not hypervisor_observe_link(hypervisor, OFFLINE, Unreachable("No route.", retry_in_seconds=9))
    assert Hypervisor.objects.get().version == 2


def test_connecting_again_after_a_restart_announces_nothing():
    hypervisor = add()
    hypervisor_observe_link(hypervisor, ONLINE)
    hypervisor_observe_link(hypervisor, CONNECTING)
    assert Host.objects.get().state == "connecting"
    hypervisor_observe_link(hypervisor, ONLINE)
    assert announced() == ["host.online"]


def test_a_host_is_online_if_any_of_its_hypervisors_is():
    first = add()
    second = add(uri="fake:///b", host=first.host)
    hypervisor_observe_link(first, ONLINE)
    hypervisor_observe_link(second, ERROR, AuthFailed("no"))
    host = Host.objects.get()
    assert (host.state, host.error) == ("online", None)
    hypervisor_observe_link(first, OFFLINE, GONE)
    host.refresh_from_db()
    assert (host.state, host.error["code"]) == ("error", "host_unreachable")
    assert announced() == ["host.online", "host.offline"]


def test_a_host_whose_last_hypervisor_online_is_removed_is_not_online():
    first = add()
    second = add(uri="fake:///b", host=first.host)
    hypervisor_observe_link(first, ONLINE)
    hypervisor_observe_link(second, OFFLINE, GONE)
    hypervisor_delete(hypervisor=first, by=SYSTEM)
    assert Host.objects.get().state == "offline"
    assert announced() == ["host.online", "host.offline"]


def test_every_event_of_a_host_has_the_version_that_its_row_has():
    hypervisor = add()
    for state, error in ((ONLINE, None), (OFFLINE, GONE), (ERROR, AuthFailed("x")), (ONLINE, None)):
        hypervisor_observe_link(hypervisor, state, error)
        host = Host.objects.get()
        assert Event.objects.latest("seq").data["version"] == host.version


def test_facts_and_capabilities_are_kept():
    hypervisor = add()
    host_observe(hypervisor, INFO, CAPABILITIES)
    host, row = Host.objects.get(), Hypervisor.objects.get()
    assert (host.host_uuid, host.cpu_count, host.memory_free_bytes) == ("ab-1", 8, 1 << 33)
    assert row.hypervisor_version == "QEMU 7.2"
    assert row.capabilities["reset"] == {"supported": False, "reason": ""}
    before = len(told())
    host_observe(hypervisor, INFO, CAPABILITIES)
    assert len(told()) == before, "nothing new, nothing told"


def test_the_first_hypervisor_tells_the_facts_the_others_fill_in():
    first = add()
    second = add(uri="fake:///b", host=first.host)
    host_observe(second, dataclasses.replace(INFO, kernel="6.1-lxc", cpu_model="other"), CAPABILITIES)
    host_observe(first, dataclasses.replace(INFO, kernel=""), CAPABILITIES)
    host_observe(second, dataclasses.replace(INFO, kernel="6.1-new", cpu_model="other"), CAPABILITIES)
    host = Host.objects.get()
    assert (host.cpu_model, host.kernel) == ("Xeon", "6.1-lxc")


def test_the_same_machine_twice_names_the_first_host():
    host_observe(add(), INFO, CAPABILITIES)
    twin = add("b", "fake:///b")
    with pytest.raises(AlreadyExists) as caught:
        host_observe(twin, INFO, CAPABILITIES)
    assert caught.value.context == {"id": str(Host.objects.get(name="a").pk), "host": "a"}
    assert Host.objects.get(name="b").host_uuid == ""


def test_another_machine_under_a_host_that_is_online_is_refused():
    first = add()
    host_observe(first, INFO, CAPABILITIES)
    hypervisor_observe_link(first, ONLINE)
    stranger = add(uri="fake:///b", host=first.host)
    with pytest.raises(AlreadyExists, match="another machine"):
        host_observe(stranger, dataclasses.replace(INFO, host_uuid="cd-2"), CAPABILITIES)


def test_a_new_mainboard_is_the_same_host():
    hypervisor = add()
    host_observe(hypervisor, INFO, CAPABILITIES)
    hypervisor_observe_link(hypervisor, ONLINE)
    host_observe(hypervisor, dataclasses.replace(INFO, host_uuid="cd-2"), CAPABILITIES)
    assert Host.objects.get().host_uuid == "cd-2"


def test_load_moves_no_version():
    hypervisor = add()
    hypervisor_observe_link(hypervisor, ONLINE)
    version = Host.objects.get().version
    host_load_observe(hypervisor, HostStats(at=1, cpu_count=8, memory_free_bytes=42))
    host = Host.objects.get()
    assert (host.memory_free_bytes, host.version) == (42, version)


def test_a_row_that_is_gone_is_nobodys_error():
    hypervisor = add()
    ghost = Hypervisor.objects.get()
    hypervisor.host.delete()
    assert not hypervisor_observe_link(ghost, ONLINE)
    host_observe(ghost, INFO, CAPABILITIES)
    host_load_observe(ghost, HostStats(at=1, cpu_count=8, memory_free_bytes=42))
