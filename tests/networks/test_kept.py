"""Addresses that a network keeps: fixed, changed and released, over REST and by the page, each refused with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from accounts.actor import SYSTEM
from drivers.types import DhcpHost
from networks.inventory import networks_observe
from networks.models import Network
from networks.selectors import network_get
from operations.models import Operation
from tests.factories import NetworkFactory, VMFactory
from vms.models import VMNic

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.networks.conftest import Place
    from tests.web.conftest import Api

MAC = "52:54:00:aa:00:01"
WEB = {"mac": MAC, "address": "192.168.122.20", "name": "web"}


def seen(place: Place) -> Network:
    networks_observe(place.hypervisor, place.world.networks.networks(), complete=True)
    return network_get(Network.objects.get(name="default").pk, by=SYSTEM)


@pytest.mark.django_db(transaction=True)
def test_an_address_is_fixed_changed_and_released(api: Api, place: Place, workers: Callable[[], None]) -> None:
    place.world.networks.add()
    path = f"/networks/{seen(place).pk}/dhcp-hosts"
    for call in (
        lambda: api.post(path, WEB | {"mac": MAC.upper().replace(":", "-")}),
        lambda: api.put(f"{path}/{MAC}", {"address": "192.168.122.21", "name": "www"}),
    ):
        assert call().status_code == 202
        workers()
        assert Operation.objects.latest("created_at").state == "succeeded"
    assert place.world.networks.networks()[0].dhcp_hosts == (DhcpHost(mac=MAC, address="192.168.122.21", name="www"),)
    kept = {"mac": MAC, "address": "192.168.122.21", "name": "www", "vm": None}
    assert api.get(path).json() == {"items": [kept], "total": 1}
    assert api.get(path.removesuffix("/dhcp-hosts")).json()["dhcp_hosts"] == [kept]
    assert api.delete(f"{path}/{MAC}").status_code == 202
    workers()
    assert api.get(path).json()["items"] == []
    assert api.delete(f"{path}/{MAC}").status_code == 404


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "status", "pointers"),
    [
        ({"mac": "52:54:00:aa:00"}, 422, ["/mac"]),
        ({"mac": "ff:ff:ff:ff:ff:ff"}, 422, ["/mac"]),
        ({"mac": "52:54:00:aa:00:01' ip='10.0.0.1"}, 422, ["/mac"]),
        ({"mac": MAC}, 409, []),
        ({"address": "192.168.122.20"}, 422, ["/address"]),
        ({"address": "192.168.122.1"}, 422, ["/address"]),
        ({"address": "192.168.122.255"}, 422, ["/address"]),
        ({"address": "192.168.1.9"}, 422, ["/address"]),
        ({"address": "::1"}, 422, ["/address"]),
        ({"name": "web"}, 422, ["/name"]),
        ({"name": "<x>"}, 422, ["/name"]),
    ],
)
def test_what_cannot_be_kept_is_said_at_its_field(
    api: Api, change: dict[str, Any], status: int, pointers: list[str]
) -> None:
    network = NetworkFactory(dhcp_hosts=[WEB])
    wish = {"mac": "52:54:00:aa:00:02", "address": "192.168.122.30", "name": "db"} | change
    answer = api.post(f"/networks/{network.pk}/dhcp-hosts", wish)
    assert answer.status_code == status, answer.json()
    assert [one["pointer"] for one in answer.json().get("errors", [])] == pointers
    assert not Operation.objects.exists()


@pytest.mark.django_db
def test_a_network_without_addresses_keeps_none(api: Api) -> None:
    network = NetworkFactory(dhcp=False)
    answer = api.post(f"/networks/{network.pk}/dhcp-hosts", WEB)
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_state")
    assert api.put(f"/networks/{network.pk}/dhcp-hosts/{MAC}", {"address": "192.168.122.9"}).status_code == 404


@pytest.mark.django_db
def test_only_administrators_fix_addresses(api: Api, operator: User) -> None:
    path = f"/networks/{NetworkFactory(dhcp_hosts=[WEB]).pk}/dhcp-hosts"
    mine = api.of(operator)
    assert mine.get(path).json()["total"] == 1
    for answer in (
        mine.post(path, WEB),
        mine.put(f"{path}/{MAC}", {"address": "192.168.122.9"}),
        mine.delete(f"{path}/{MAC}"),
    ):
        assert answer.status_code == 403


@pytest.mark.django_db
def test_the_page_offers_to_fix_what_was_given_out(admin: User, viewer: User, client_for: Callable[..., Any]) -> None:
    leases = [
        {"mac": MAC, "address": "192.168.122.20", "prefix": 24, "hostname": "web", "expires_at": 0},
        {"mac": "52:54:00:aa:00:02", "address": "192.168.122.9", "prefix": 24, "hostname": "db", "expires_at": 0},
        {"mac": "52:54:00:aa:00:03", "address": "fd00::9", "prefix": 64, "hostname": "", "expires_at": 0},
    ]
    network = NetworkFactory(name="lan", dhcp_hosts=[WEB], leases=leases)
    vm = VMFactory(hypervisor=network.hypervisor, name="web")
    VMNic.objects.create(vm=vm, mac=MAC, network="lan")
    page = client_for(admin).get(f"/networks/{network.pk}").content.decode()
    assert page.count("Make fixed") == 1
    assert page.count(f'data-release="{MAC}"') == 1
    assert page.count(f'href="/vms/{vm.pk}"') == 3
    page = client_for(viewer).get(f"/networks/{network.pk}").content.decode()
    assert "192.168.122.20" in page
    assert "Make fixed" not in page
    assert "data-release" not in page
