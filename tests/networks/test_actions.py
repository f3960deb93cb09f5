"""What a worker does to virtual networks: done once, whatever happens in between, and refused with a reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections

from accounts.actor import SYSTEM
from core.errors import BadInput, Missing
from drivers.errors import AlreadyExists, Unreachable, WrongState
from drivers.types import NetworkSpec, PortGroup
from events.models import Event
from hosts.inventory import interfaces_observe
from hosts.models import HostInterface
from networks import services
from networks.guests import InUse
from networks.inventory import networks_observe
from networks.models import Network
from networks.selectors import network_get
from operations import engine
from operations.models import Operation
from tests.factories import VMFactory
from vms.models import VMNic

if TYPE_CHECKING:
    from tests.networks.conftest import Place

pytestmark = pytest.mark.django_db(transaction=True)

Workers = Callable[[], None]
Queued = Callable[[Callable[[], Operation]], Operation]


@pytest.fixture
def network(place: Place) -> Network:
    """`default` as a fresh host has it: defined and stopped."""
    place.world.networks.add(active=False)
    return seen(place)


def seen(place: Place) -> Network:
    """As a sweep leaves it."""
    networks_observe(place.hypervisor, place.world.networks.networks(), complete=True)
    return network_get(Network.objects.get(name="default").pk, by=SYSTEM)


def again(network: Network) -> Network:
    return network_get(network.pk, by=SYSTEM)


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> Queued:
    """Submits what nobody carries out by itself."""

    def submit(ask: Callable[[], Operation]) -> Operation:
        with monkeypatch.context() as patch:
            patch.setattr("operations.doorbell.ring", lambda *_a, **_k: None)
            return ask()

    return submit


def said(operation: Operation, workers: Workers | None = None) -> tuple[str, str]:
    if workers:
        workers()
    fresh = Operation.objects.get(pk=operation.pk)
    return fresh.state, (fresh.error or {}).get("code", "")


def attempt(operation: Operation) -> None:
    engine.execute(operation.pk)
    connections.close_all()


def make(place: Place, **values: Any) -> Operation:
    spec = {"name": "lab", "address": "10.77.0.1/24", "dhcp_start": "10.77.0.10", "dhcp_end": "10.77.0.99"}
    return services.network_create(host=place.hypervisor.host, spec=NetworkSpec(**(spec | values)), by=SYSTEM)


def plug(network: Network, name: str = "web", **values: Any) -> None:
    vm = VMFactory(hypervisor=network.hypervisor, name=name, **values)
    VMNic.objects.create(vm=vm, mac="52:54:00:00:00:01", network=network.name)


GOOD = ("succeeded", "")
BARE = {"address": "", "dhcp_start": "", "dhcp_end": ""}
"""Of modes whose hosts have no address in it."""


def test_a_fresh_hosts_network_is_started_and_stopped(place: Place, network: Network, workers: Workers) -> None:
    assert said(services.network_action(network=network, name="start", by=SYSTEM), workers) == GOOD
    assert again(network).active
    with pytest.raises(WrongState, match="default is active already"):
        services.network_action(network=again(network), name="start", by=SYSTEM)
    assert said(services.network_action(network=again(network), name="stop", by=SYSTEM), workers) == GOOD
    assert not again(network).active
    assert said(services.network_autostart(network=network, enabled=False, by=SYSTEM), workers) == GOOD
    assert (again(network).autostart, place.world.networks.networks()[0].autostart) == (False, False)
    with pytest.raises(Missing):
        services.network_action(network=network, name="delete", by=SYSTEM)


def test_what_is_so_already_is_left_alone(place: Place, network: Network, queued: Queued) -> None:
    operation = queued(lambda: services.network_action(network=network, name="start", by=SYSTEM))
    place.world.networks.network_start("default")
    attempt(operation)
    assert (said(operation), place.world.calls["network_start"]) == (GOOD, 0)


@pytest.mark.parametrize("action", ["stop", "delete"])
def test_guests_that_run_on_it_stand_in_the_way(
    place: Place, network: Network, queued: Queued, workers: Workers, action: str
) -> None:
    place.world.networks.network_start("default")
    network = seen(place)

    def ask() -> Operation:
        if action == "delete":
            return services.network_delete(network=again(network), by=SYSTEM)
        return services.network_action(network=again(network), name=action, by=SYSTEM)

    plug(network, "off")
    operation = queued(ask)
    plug(network, state="running")
    allowed = services.network_actions(again(network), by=SYSTEM)[action]
    assert (allowed["allowed"], allowed["code"]) == (False, "in_use")
    attempt(operation)
    assert said(operation) == ("failed", "in_use")
    with pytest.raises(InUse, match=r"default is used by web\. Shut down") as raised:
        ask()
    assert [one["name"] for one in raised.value.context["used_by"]] == ["web"]
    assert place.world.networks.networks()[0].active


def test_a_network_is_made_under_the_id_that_was_promised(place: Place, network: Network, workers: Workers) -> None:
    operation = make(place, domain="lab.test", autostart=False)
    assert said(operation, workers) == GOOD
    row = Network.objects.get(name="lab")
    assert (operation.target, Operation.objects.get(pk=operation.pk).result) == (row.ref, {"network": str(row.pk)})
    assert (row.active, row.autostart, row.dhcp, row.addresses) == (True, False, True, ["10.77.0.1/24"])
    told = Event.objects.get(type="network.defined", object=row.ref)
    assert told.operation == operation.pk
    with pytest.raises(AlreadyExists) as raised:
        make(place)
    assert raised.value.context["id"] == str(row.pk)
    assert network.name in {one.name for one in place.world.networks.networks()}


@pytest.mark.parametrize(("active", "calls"), [(False, (1, 1, 0)), (True, (0, 0, 1))])
def test_what_an_attempt_before_has_made_is_its_own(
    place: Place, queued: Queued, *, active: bool, calls: tuple[int, ...]
) -> None:
    operation = queued(lambda: make(place, autostart=False))
    Operation.objects.filter(pk=operation.pk).update(checkpoints=["begun"], interrupted=True)
    place.world.networks.add("lab", active=active, addresses=("10.77.0.1/24",))
    attempt(operation)
    assert said(operation) == GOOD
    verbs = ("network_delete", "network_create", "network_set_autostart")
    assert tuple(place.world.calls[verb] for verb in verbs) == calls
    assert Network.objects.get(name="lab").ref == operation.target


def test_one_that_somebody_else_made_meanwhile_is_not_touched(place: Place, workers: Workers) -> None:
    place.world.networks.add("lab", addresses=("10.1.0.1/24",))
    assert said(make(place), workers) == ("failed", "already_exists")
    assert place.world.calls["network_create"] == 0


def test_a_subnet_that_the_host_has_in_use_is_said(place: Place, workers: Workers) -> None:
    place.world.networks.add("unseen", addresses=("10.77.0.129/25",))
    assert said(make(place), workers) == ("failed", "already_exists")
    assert not Network.objects.filter(name="lab").exists()


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({"name": "../etc"}, "/name"),
        ({"mode": "hostdev"}, "/mode"),
        ({"address": "192.168.122.129/25", "dhcp_start": "", "dhcp_end": ""}, "/address"),
        ({"bridge": "virbr0"}, "/bridge"),
        ({"dhcp_end": "10.78.0.9"}, "/dhcp_end"),
        ({"domain": "<x>"}, "/domain"),
        ({"mode": "bridge", "bridge": "br7"} | BARE, "/bridge"),
        ({"mode": "openvswitch", "bridge": "br7"} | BARE, "/bridge"),
        ({"mode": "macvtap", "device": "eth7"} | BARE, "/device"),
        ({"vlans": (42,)}, "/vlans"),
    ],
)
def test_a_wrong_network_says_where(place: Place, network: Network, values: dict[str, Any], pointer: str) -> None:
    HostInterface.objects.create(host=place.hypervisor.host, name="br0", kind="bridge")
    with pytest.raises(BadInput) as raised:
        make(place, **values)
    assert pointer in [one["pointer"] for one in raised.value.errors]
    assert not Operation.objects.exists()


def test_a_bridge_that_the_host_has_may_be_used_twice(place: Place, network: Network, workers: Workers) -> None:
    bridged = {"mode": "bridge", "bridge": "virbr0", "address": "", "dhcp_start": "", "dhcp_end": ""}
    assert said(make(place, **bridged), workers) == GOOD


def test_each_mode_is_made_of_what_the_host_has(place: Place, workers: Workers) -> None:
    place.world.networks.add_interface("br0", "bridge")
    place.world.networks.add_interface("eth0")
    interfaces_observe(place.hypervisor, place.world.networks.host_interfaces())
    groups = (PortGroup(name="red", vlans=(7,), default=True), PortGroup(name="all", vlans=(7, 8)))
    tagged = {"mode": "openvswitch", "bridge": "br0", "vlans": (42,), "port_groups": groups}
    assert said(make(place, name="ovs", **tagged, **BARE), workers) == GOOD
    assert said(make(place, name="tap", mode="macvtap", device="eth0", macvtap="vepa", **BARE), workers) == GOOD
    assert said(make(place, name="six", address6="fd00:9::1/64", mtu=9000), workers) == GOOD
    ovs, tap, six = (Network.objects.get(name=name) for name in ("ovs", "tap", "six"))
    assert (ovs.mode, ovs.bridge, ovs.vlans, ovs.port_groups[1]["vlans"]) == ("openvswitch", "br0", [42], [7, 8])
    assert (tap.mode, tap.devices, tap.macvtap, tap.bridge) == ("macvtap", ["eth0"], "vepa", "")
    assert (six.addresses, six.mtu) == (["10.77.0.1/24", "fd00:9::1/64"], 9000)


def test_what_a_host_lost_meanwhile_is_said(place: Place, workers: Workers) -> None:
    HostInterface.objects.create(host=place.hypervisor.host, name="eth7", kind="ethernet")
    place.world.networks.add_interface("eth0")
    assert said(make(place, mode="macvtap", device="eth7", **BARE), workers) == ("failed", "not_found")


def test_removing_it_leaves_a_tombstone_and_another_of_its_name_alone(
    place: Place, network: Network, queued: Queued, workers: Workers
) -> None:
    operation = queued(lambda: services.network_delete(network=network, by=SYSTEM))
    place.world.lie("networks", lambda found: [dataclasses.replace(one, uuid="other") for one in found], times=1)
    attempt(operation)
    assert (said(operation), place.world.calls["network_delete"]) == (GOOD, 0)
    assert Network.objects.get(pk=network.pk).gone_at is not None
    assert said(services.network_delete(network=seen(place), by=SYSTEM), workers) == GOOD
    assert (place.world.networks.networks(), place.world.calls["network_delete"]) == ([], 1)


def test_a_transient_one_is_removed_and_not_stopped(place: Place, workers: Workers) -> None:
    place.world.networks.add(persistent=False)
    network = seen(place)
    for ask in (
        lambda: services.network_action(network=network, name="stop", by=SYSTEM),
        lambda: services.network_autostart(network=network, enabled=True, by=SYSTEM),
    ):
        with pytest.raises(WrongState, match="default is transient"):
            ask()
    assert said(services.network_delete(network=network, by=SYSTEM), workers) == GOOD
    assert place.world.networks.networks() == []


def test_nothing_is_asked_of_a_host_that_is_out_of_reach(network: Network) -> None:
    network.hypervisor.state = "offline"
    network.hypervisor.save(update_fields=["state"])
    with pytest.raises(Unreachable):
        services.network_action(network=again(network), name="start", by=SYSTEM)
    codes = {one["code"] for one in services.network_actions(again(network), by=SYSTEM).values()}
    assert codes == {"host_unreachable"}
