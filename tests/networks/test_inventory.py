"""What hypervisors list of networks, written down: once a host, quiet about what moves all the time."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from drivers.types import DhcpHost, LeaseInfo, NetworkInfo, PortGroup
from events.models import Event
from hosts.choices import LinkState
from hosts.models import Hypervisor
from networks.inventory import LEASES_MAX, network_gone, network_observe, networks_observe
from networks.models import GivenAddress, Network
from tests.factories import HostFactory, HypervisorFactory

pytestmark = pytest.mark.django_db

LAN = NetworkInfo(
    uuid="AAAA-1", name="lan", active=True, mode="nat", bridge="virbr0", addresses=("192.168.122.1/24",), dhcp=True
)
LEASE = LeaseInfo(mac="52:54:00:AA:00:01", address="192.168.122.9", prefix=24, hostname="web", expires_at=1_800_000_000)


def other(**values: Any) -> NetworkInfo:
    return dataclasses.replace(LAN, **values)


def events() -> list[tuple[str, Any]]:
    return [(event.type, event.data.get("changed")) for event in Event.objects.order_by("seq")]


@pytest.fixture
def hypervisor() -> Hypervisor:
    return HypervisorFactory(host=HostFactory(), driver="qemu")


def test_a_network_is_defined_changed_and_gone(hypervisor: Hypervisor) -> None:
    networks_observe(hypervisor, [LAN], {"lan": [LEASE]}, complete=True)
    row = Network.objects.get()
    assert (row.uuid, row.active, row.addresses, row.leases[0]["mac"]) == (
        "aaaa-1",
        True,
        ["192.168.122.1/24"],
        "52:54:00:aa:00:01",
    )
    networks_observe(hypervisor, [other(active=False)], complete=True)
    row.refresh_from_db()
    assert (row.active, row.leases) == (False, [])
    networks_observe(hypervisor, [], complete=True)
    assert events() == [("network.defined", None), ("network.changed", {"active": False}), ("network.undefined", None)]
    assert Event.objects.first().object == f"network/{row.pk}"


def test_a_renewed_lease_is_written_and_not_told(hypervisor: Hypervisor) -> None:
    networks_observe(hypervisor, [LAN], {"lan": [LEASE]}, complete=True)
    later = dataclasses.replace(LEASE, expires_at=LEASE.expires_at + 60)
    networks_observe(hypervisor, [LAN], {"lan": [later]}, complete=True)
    row = Network.objects.get()
    assert (row.leases[0]["expires_at"], row.version) == (later.expires_at, 1)
    networks_observe(hypervisor, [LAN], complete=True)
    assert Network.objects.get().leases == row.leases
    assert [kind for kind, _ in events()] == ["network.defined"]


def test_nothing_is_written_when_nothing_changed(hypervisor: Hypervisor) -> None:
    leases = {"lan": [LEASE, dataclasses.replace(LEASE, address="192.168.122.8")]}
    networks_observe(hypervisor, [LAN], leases, complete=True)
    with CaptureQueriesContext(connection) as caught:
        networks_observe(hypervisor, [LAN], {"lan": leases["lan"][::-1]}, complete=True)
    assert [query["sql"].split()[0] for query in caught.captured_queries] == ["SELECT"]


def test_old_news_is_refused_and_what_was_looked_at_by_itself_counts(hypervisor: Hypervisor) -> None:
    row = network_observe(hypervisor, LAN, [LEASE])
    sibling = HypervisorFactory(host=hypervisor.host, driver="lxc")
    old = row.observed_at - dt.timedelta(seconds=1)
    networks_observe(hypervisor, [other(active=False)], seen_at=old, complete=True)
    assert Network.objects.get().active
    assert network_observe(sibling, other(bridge="virbr9")).bridge == "virbr9"
    assert Network.objects.get().hypervisor == hypervisor
    assert network_gone(row)
    assert not network_gone(row)


def test_it_goes_through_another_driver_when_the_first_is_away(hypervisor: Hypervisor) -> None:
    sibling = HypervisorFactory(host=hypervisor.host, driver="lxc")
    networks_observe(hypervisor, [LAN], complete=True)
    Hypervisor.objects.filter(pk=hypervisor.pk).update(state=LinkState.OFFLINE)
    networks_observe(sibling, [LAN], complete=True)
    assert Network.objects.get().hypervisor == sibling
    sibling.delete()
    assert Network.objects.get().hypervisor == hypervisor


@pytest.mark.parametrize(
    "lie",
    [
        {"name": "x" * 9000 + "\0"},
        {"mode": "m" * 90, "bridge": "b" * 900, "domain": "\ud800"},
        {"addresses": ("a" * 900, "\0"), "devices": ("d" * 900,), "macvtap": "v" * 90},
        {"mtu": 2**70, "vlans": (2**70, -1), "port_groups": (PortGroup(name="p" * 900, vlans=(2**70,)),)},
        {"dhcp_hosts": (DhcpHost(mac="m" * 90, address="\0", name="\ud800"), DhcpHost(mac="", address="::1"))},
    ],
)
def test_whatever_a_hypervisor_says_fits_its_column(hypervisor: Hypervisor, lie: dict[str, Any]) -> None:
    leases = [LeaseInfo(mac="m" * 90, address="\0", prefix=-1, hostname="\ud800" * 900, expires_at=2**80)]
    info = other(**lie)
    row = network_observe(hypervisor, info, leases * (LEASES_MAX + 1))
    row.full_clean(exclude=["addresses", "leases", "hypervisor", "domain"])
    assert len(row.leases) == LEASES_MAX


@pytest.mark.parametrize("lie", [{"uuid": ""}, {"name": "\0"}])
def test_what_is_no_network_is_refused(hypervisor: Hypervisor, lie: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="A network without"):
        network_observe(hypervisor, other(**lie))


def test_what_was_given_or_is_kept_can_be_looked_up(hypervisor: Hypervisor) -> None:
    kept = DhcpHost(mac="52:54:00:00:00:02", address="192.168.122.20")
    lease = LeaseInfo(mac="52:54:00:00:00:01", address="192.168.122.9")
    info = other(dhcp_hosts=(kept,))

    def given() -> set[tuple[str, str]]:
        return set(GivenAddress.objects.values_list("mac", "address"))

    network_observe(hypervisor, info, [lease])
    assert given() == {(lease.mac, lease.address), (kept.mac, kept.address)}
    network_observe(hypervisor, info, [LeaseInfo(mac=lease.mac, address="192.168.122.10")])
    assert given() == {(lease.mac, "192.168.122.10"), (kept.mac, kept.address)}
    networks_observe(hypervisor, [other(dhcp_hosts=())], {info.name: []})
    assert given() == set()
    row = network_observe(hypervisor, info)
    assert given() == {(kept.mac, kept.address)}
    network_gone(row)
    assert given() == set()
    network_observe(hypervisor, info)
    networks_observe(hypervisor, [], complete=True)
    assert given() == set()
