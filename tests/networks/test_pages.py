"""Pages of networks: queries, hostile names, what they say when nothing is there."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from operations.models import Operation
from tests.factories import HostFactory, HypervisorFactory, NetworkFactory, VMFactory
from vms.models import VMNic

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User

pytestmark = pytest.mark.django_db

HOSTILE = "\"><script>alert(1)</script>{{ 7 }}'&"
LEASE = {"mac": "52:54:00:00:00:01", "address": "192.168.122.9", "prefix": 24, "hostname": "", "expires_at": 0}


@pytest.fixture
def browser(admin: User, client_for: Callable[..., Client]) -> Client:
    return client_for(admin)


def main_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.status_code
    page = re.sub(r"\s+", " ", html.unescape(answer.content.decode()))
    return page.partition("<main")[2].partition("</main>")[0] or page


@pytest.mark.parametrize(
    ("path", "queries"),
    [
        ("/networks", 11),
        ("/networks/table", 7),
        ("/networks/{}", 10),
        ("/networks/new", 8),
        ("/networks/{}/parts/head", 6),
        ("/networks/{}/parts/body", 6),
    ],
)
def test_a_page_costs_the_same_whatever_stands_on_it(
    browser: Client, path: str, queries: int, django_assert_num_queries: Callable[..., Any]
) -> None:
    for count in (1, 30):
        for _ in range(count):
            network = NetworkFactory(leases=[LEASE] * count)
            for number in range(count):
                VMNic.objects.create(
                    vm=VMFactory(hypervisor=network.hypervisor),
                    mac=f"52:54:00:00:00:{number:02x}",
                    network=network.name,
                )
        browser.get(path.format(network.pk))
        with django_assert_num_queries(queries):
            assert browser.get(path.format(network.pk)).status_code == 200


def test_an_empty_product_says_what_to_do(browser: Client) -> None:
    assert "No hypervisor answers" in main_of(browser.get("/networks"))
    HypervisorFactory()
    assert "No networks yet" in main_of(browser.get("/networks"))
    NetworkFactory(name="lan")
    assert "lan" in main_of(browser.get("/networks"))
    assert "No network matches" in main_of(browser.get("/networks?q=nothing"))


def test_one_network_says_who_is_on_it_and_what_it_has_given_out(browser: Client) -> None:
    stranger = LEASE | {"mac": "52:54:00:00:00:99", "address": "192.168.122.50", "hostname": "laptop"}
    network = NetworkFactory(name="lan", leases=[LEASE, stranger])
    vm = VMFactory(hypervisor=network.hypervisor, name="web", state="running")
    VMNic.objects.create(vm=vm, mac="52:54:00:00:00:01", network="lan", target="vnet3")
    page = main_of(browser.get(f"/networks/{network.pk}"))
    assert page.count(f'href="/vms/{vm.pk}"') == 2
    for said in ("Running, vnet3", "192.168.122.9", "192.168.122.50", "laptop", "for good", "1 guest"):
        assert said in page


def test_a_network_that_went_meanwhile_says_so_in_its_parts(browser: Client) -> None:
    network = NetworkFactory(gone_at=timezone.now())
    assert browser.get(f"/networks/{network.pk}").status_code == 404
    assert "Gone" in main_of(browser.get(f"/networks/{network.pk}/parts/head"))
    assert "This network is gone." in main_of(browser.get(f"/networks/{network.pk}/parts/body"))
    assert browser.get(f"/networks/{network.pk}/parts/nonsense").status_code == 404


def test_what_others_chose_is_text(browser: Client) -> None:
    network = NetworkFactory(
        hypervisor=HypervisorFactory(host=HostFactory(name=HOSTILE), state="offline"),
        name=HOSTILE,
        bridge=HOSTILE,
        domain=HOSTILE,
        mode=HOSTILE[:20],
        addresses=[HOSTILE],
        leases=[LEASE | {"hostname": HOSTILE, "address": HOSTILE, "mac": HOSTILE}],
    )
    vm = VMFactory(hypervisor=network.hypervisor, name=HOSTILE)
    VMNic.objects.create(vm=vm, mac=HOSTILE[:20], network=HOSTILE, target=HOSTILE)
    for path in ("/networks", f"/networks/{network.pk}", f"/networks?q={HOSTILE}"):
        raw = browser.get(path).content.decode()
        assert "<script>alert" not in raw, path
        assert "{{ 7 }}" in html.unescape(raw), path


@pytest.mark.parametrize("query", ["?cursor=x", "?ordering=uuid", "?q=" + "a" * 3000, "?q=%00"])
def test_a_hostile_query_is_refused_with_a_sentence(browser: Client, query: str) -> None:
    for path in ("/networks", "/networks/table"):
        answer = browser.get(path + query)
        assert (answer.status_code, b'role="alert"' in answer.content) == (422, True), path


def test_navigation_and_palette_know_networks(browser: Client, viewer: User, client_for: Callable[..., Client]) -> None:
    network = NetworkFactory(name="lan", active=False)
    NetworkFactory(gone_at=timezone.now())
    assert browser.get("/nav.json").json()["networks"] == 1
    found = next(item for item in browser.get("/palette.json").json()["items"] if item["kind"] == "network")
    assert (found["name"], found["url"], found["state"]) == ("lan", f"/networks/{network.pk}", "inactive")
    assert client_for(viewer).get(f"/networks/{network.pk}").status_code == 200


def test_who_may_is_offered_what_can_be_done(
    viewer: User, operator: User, admin: User, client_for: Callable[..., Client]
) -> None:
    network = NetworkFactory(name="default", active=False)
    for user, offered in ((viewer, False), (operator, False), (admin, True)):
        client = client_for(user)
        listed, one = main_of(client.get("/networks")), main_of(client.get(f"/networks/{network.pk}"))
        for word, page in (
            ('data-network-action="start"', listed),
            ('href="/networks/new"', listed),
            ('data-network-action="start"', one),
            (f'action="/networks/{network.pk}/remove"', one),
        ):
            assert (word in page) is offered, (user.username, word)
        assert ("data-why" in one) is not offered
        assert client.get("/networks/new").status_code == (200 if offered else 403)
    assert client_for(operator).post(f"/networks/{network.pk}/remove").status_code == 403


def test_guests_that_run_are_why_it_is_not_stopped(browser: Client) -> None:
    network = NetworkFactory(name="lan")
    VMNic.objects.create(
        vm=VMFactory(hypervisor=network.hypervisor, name="web", state="running"),
        mac="52:54:00:00:00:01",
        network="lan",
    )
    head = main_of(browser.get(f"/networks/{network.pk}/parts/head"))
    assert head.count('data-why="lan is used by web. Shut down what runs on it first."') == 2


def test_a_network_is_removed_once_its_name_is_typed(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.doorbell.ring", lambda *_a, **_k: None)
    network = NetworkFactory(name="lan")
    url = f"/networks/{network.pk}/remove"
    assert "Nothing was removed" in main_of(browser.post(url, {"typed": "LAN"}, follow=True))
    assert not Operation.objects.exists()
    answer = browser.post(url, {"typed": "lan"})
    operation = Operation.objects.get()
    assert (answer["Location"], operation.kind) == (f"/operations/{operation.pk}", "network.delete")


def test_the_form_says_which_hosts_cannot(browser: Client) -> None:
    assert "No host has virtual networks" in main_of(browser.get("/networks/new"))
    reason = {"networks.manage": {"supported": False, "reason": "It has none of its own."}}
    HypervisorFactory(host=HostFactory(name="esx"), capabilities=reason)
    chosen = HypervisorFactory(host=HostFactory(name="kvm")).host
    HypervisorFactory(host=HostFactory(name=HOSTILE))
    page = main_of(browser.get(f"/networks/new?host={chosen.pk}"))
    assert re.search(rf'<option value="{chosen.pk}" selected> ?kvm', page)
    assert "It has none of its own." in page
    assert b"<script>alert" not in browser.get("/networks/new").content
