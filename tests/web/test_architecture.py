"""What follows from how the fleet virtualizes: shared kernels, guests of their own, and who could move where."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import pytest

from accounts.actor import SYSTEM
from dashboard.architecture import Circle, architecture
from tests.factories import ALL_SUPPORTED, HostFactory, HypervisorFactory, VMFactory
from tests.web.fleet import fill

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User
    from hosts.models import Host, Hypervisor

pytestmark = pytest.mark.django_db

NO_MOVE = {**ALL_SUPPORTED, "migration.live": {"supported": False, "reason": "Cannot be moved yet."}}


@pytest.fixture
def browser(viewer: User, client_for: Callable[..., Client]) -> Client:
    return client_for(viewer)


def containers(host: Host, driver: str, count: int) -> Hypervisor:
    """An engine with `count` containers, one of which runs."""
    facts = {"virtualization_type": "os_level", "techniques": ["shared_kernel"]}
    hypervisor = HypervisorFactory(host=host, driver=driver, **facts)
    for number in range(count):
        state = "running" if number == 0 else "shutoff"
        VMFactory(hypervisor=hypervisor, kind="container", virtualization_type="os_level", state=state)
    return hypervisor


def text_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.status_code
    return " ".join(html.unescape(answer.content.decode()).split())


def circles(*drivers: str) -> list[Circle]:
    return [one for one in architecture(SYSTEM).circles if one.driver in drivers]


def test_kernels_when_two_engines_are_on_one_host_then_it_is_one_kernel() -> None:
    host = HostFactory(name="ct-01", kernel="Linux 6.12")
    containers(host, "docker", 3)
    containers(host, "lxc", 2)
    VMFactory(hypervisor=HypervisorFactory(host=host, driver="qemu"), state="running")
    found = architecture(SYSTEM)
    (kernel,) = found.kernels
    assert (kernel.host.kernel, kernel.drivers, kernel.guests, kernel.running) == (
        "Linux 6.12",
        ["docker", "lxc"],
        5,
        2,
    )
    assert found.own_kernel == 1
    assert [(kind.value, kind.guests, kind.running) for kind in found.kinds] == [("hybrid", 1, 1), ("os_level", 5, 2)]


@pytest.mark.parametrize(
    ("second", "move"),
    [
        ({}, "live"),
        ({"capabilities": NO_MOVE}, "cold"),
        ({"driver": "xen"}, "none"),
        ({"techniques": ["emulation"]}, "none"),
        ({"virtualization_type": "hosted"}, "none"),
    ],
)
def test_circle_when_two_hosts_run_guests_the_same_way_then_they_could_move(second: dict[str, Any], move: str) -> None:
    HypervisorFactory(driver="qemu")
    HypervisorFactory(**{"driver": "qemu", **second})
    assert [one.move for one in circles("qemu", "xen")] == [move] * (2 if move == "none" else 1)


def test_circle_when_the_processors_differ_or_it_is_one_host_then_nowhere() -> None:
    host = HostFactory(cpu_architecture="x86_64")
    HypervisorFactory(host=host, driver="qemu")
    HypervisorFactory(host=host, driver="qemu")
    HypervisorFactory(host=HostFactory(cpu_architecture="aarch64"), driver="qemu")
    assert [(one.move, len(one.members)) for one in circles("qemu")] == [("none", 2), ("none", 1)]


def test_circle_when_nested_virtualization_differs_then_said_who_lacks_it() -> None:
    for name, nested in (("a", True), ("b", False), ("c", None)):
        HypervisorFactory(
            host=HostFactory(name=name, nested_virtualization=nested), driver="qemu", capabilities=NO_MOVE
        )
    (circle,) = circles("qemu")
    assert (circle.no_nested, circle.reason) == (["b", "c"], "Cannot be moved yet.")


def test_page_when_opened_then_says_it_in_words_with_links(browser: Client) -> None:
    containers(HostFactory(name="ct-01", kernel="Linux 6.12"), "docker", 2)
    for name in ("kvm-01", "kvm-02"):
        VMFactory(hypervisor=HypervisorFactory(host=HostFactory(name=name), driver="qemu", capabilities=NO_MOVE))
    page = text_of(browser.get("/architecture"))
    assert "2 guests are fully isolated: each has a kernel of its own." in page
    assert 'href="/vms?q=host:ct-01 type:os_level"' in page
    assert "Not while they run: Cannot be moved yet." in page
    assert "Nowhere: no other host runs guests in the same way as these." in page
    overview = text_of(browser.get("/"))
    assert "All share one kernel: if it stops, all do." in overview
    assert "Each has a kernel of its own." in overview


def test_page_when_nothing_is_there_or_never_reached_then_says_so(browser: Client) -> None:
    assert "No hypervisor yet" in text_of(browser.get("/architecture"))
    HypervisorFactory(virtualization_type="", techniques=[], capabilities={}, state="connecting")
    page = text_of(browser.get("/architecture"))
    assert "Never reached yet." in page
    assert "Nobody: no containers are there." in page


@pytest.mark.parametrize(("path", "queries"), [("/architecture", 9), ("/architecture/body", 5)])
def test_page_costs_the_same_whatever_the_fleet(
    browser: Client, path: str, queries: int, django_assert_num_queries: Callable[..., Any]
) -> None:
    browser.get(path)
    with django_assert_num_queries(queries):
        browser.get(path)
    fill(400, hosts=200)
    with django_assert_num_queries(queries):
        assert browser.get(path).status_code == 200


def test_page_is_only_read_and_only_by_who_is_signed_in(browser: Client, client: Client) -> None:
    assert browser.post("/architecture").status_code == 405
    assert client.get("/architecture", headers={"Accept": "text/html"}).status_code == 302
