"""Every architecture at once: ten hypervisors of nine kinds on one dashboard, and what happens on each shows by itself."""

from __future__ import annotations

import contextlib
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from drivers import registry
from drivers.types import Credentials, Endpoint, GuestRef
from tests.browser.conftest import live, shot
from tests.labs import esx, xapi
from tests.labs.local import LXC_URI, QEMU_URI
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from drivers.base import Session
    from tests.labs.engines import Engine
    from tests.labs.esx import Simulator
    from tests.labs.fixtures import GuestFactory, QemuGuestFactory
    from tests.labs.hyperv import HyperVHost
    from tests.labs.openvz import OpenVzNode
    from tests.labs.xapi import StandIn
    from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.real, pytest.mark.timeout(300)]
NUMBERS = itertools.count(1)
WATCH = """() => {
  window.changed = {};
  const look = () => {
    for (const row of document.querySelectorAll("#list tr[data-name]"))
      if (row.querySelector(".c-state .txt")?.textContent.trim() !== "Running") changed[row.dataset.name] ??= Date.now();
  };
  const all = { subtree: true, childList: true, characterData: true };
  new MutationObserver(look).observe(document.querySelector("#list").parentElement, all);
  look();
}"""


@dataclass
class Neighbour:
    """One hypervisor with a guest that runs, and a session to it that is not the product's."""

    host: str
    endpoint: Endpoint
    guest: GuestRef
    session: Session

    def change(self) -> None:
        """As somebody else would. A paused OpenVZ container is known only to the connection that paused it."""
        verb = self.session.force_off if self.endpoint.driver == "openvz" else self.session.suspend
        verb(self.guest)


@pytest.fixture
def fleet(
    docker_engine: Engine,
    podman_engine: Engine,
    esx_host: Simulator,
    vcenter: Simulator,
    hyperv_host: HyperVHost,
    xapi_host: StandIn,
    openvz_node: OpenVzNode,
    qemu_guest: QemuGuestFactory,
    lxc_guest: GuestFactory,
) -> Iterator[list[Neighbour]]:
    """All that runs here in CI, each with one running guest."""

    def vsphere(one: Simulator, name: str) -> tuple[Endpoint, GuestRef]:
        who = Credentials(username=esx.USERNAME, password=esx.PASSWORD, verify=one.pin.removeprefix("sha256:"))
        return Endpoint(driver=one.uri.partition(":")[0], uri=one.uri, credentials=who), GuestRef(uuid=one.make(name))

    def engine(one: Engine) -> tuple[Endpoint, GuestRef]:
        return one.endpoint, GuestRef(uuid=one.make(name=f"shop-{one.kind}-{next(NUMBERS)}").id)

    qemu, lxc = qemu_guest(kind="bootsector"), lxc_guest()
    xen_user = Credentials(username=xapi.USERNAME, password=xapi.PASSWORD, ca_certificate=xapi_host.ca)
    parts = {
        "qemu": (Endpoint(driver="qemu", uri=QEMU_URI), GuestRef(uuid=qemu.uuid)),
        "lxc": (Endpoint(driver="lxc", uri=LXC_URI), GuestRef(uuid=lxc.uuid)),
        "docker": engine(docker_engine),
        "podman": engine(podman_engine),
        "esx-ams-01": vsphere(esx_host, f"erp-{next(NUMBERS)}"),
        "vcenter-fra": vsphere(vcenter, f"mail-{next(NUMBERS)}"),
        "hyperv-01": (hyperv_host.endpoint(), hyperv_host.add(f"files-{next(NUMBERS)}")),
        "xcp-01": (
            Endpoint(driver="xapi", uri=xapi_host.uri, credentials=xen_user),
            GuestRef(uuid=xapi_host.make(f"intranet-{next(NUMBERS)}")),
        ),
        "openvz-01": (openvz_node.endpoint, openvz_node.make()),
    }
    with contextlib.ExitStack() as stack:
        found = []
        for host, (endpoint, ref) in parts.items():
            session = registry.get(endpoint.driver).open(endpoint)
            stack.callback(session.close)
            session.start(ref)
            found.append(Neighbour(host=host, endpoint=endpoint, guest=session.guest(ref).ref, session=session))
        yield found


def add(product: Server, one: Neighbour) -> str:
    """Into the product, as a host or (an engine on this machine) as one more hypervisor of the host that is there; its path."""
    who = one.endpoint.credentials
    body: dict[str, object] = {"uri": one.endpoint.uri}
    if who is not None:
        body["credentials"] = {name: getattr(who, name) for name in Credentials.__slots__ if getattr(who, name)}
    answer = product.api("POST", "/hosts", json={"name": one.host, **body})
    if answer.status_code == 409 and "host" in answer.json():
        host = answer.json()["host"]
        answer = product.api("POST", f"/hosts/{host}/hypervisors", json=body)
        assert answer.status_code == 201, answer.text
        return f"/hypervisors/{answer.json()['id']}"
    assert answer.status_code == 201, answer.text
    return f"/hosts/{answer.json()['id']}"


@pytest.fixture
def managed(product: Server, fleet: list[Neighbour]) -> Iterator[list[Neighbour]]:
    """The fleet, added and online; qemu and lxc are there from the start, the simulated one joins too."""
    made = [add(product, one) for one in fleet if one.endpoint.uri not in (QEMU_URI, LXC_URI)]
    demo = product.api("POST", "/hosts", json={"name": "simulated", "uri": "test:///default"})
    made.append(f"/hosts/{demo.json()['id']}")

    def online() -> bool:
        rows = product.get("/hypervisors?limit=100")["items"]
        return len(rows) >= 10 and all(row["state"] == "online" for row in rows)

    wait_until(online, 60, "all hypervisors are online")
    yield fleet
    for path in made:
        product.api("DELETE", path)


def test_ten_hypervisors_of_nine_kinds_when_each_changes_outside_then_the_browser_shows_it(
    page: Page, product: Server, managed: list[Neighbour]
) -> None:
    hypervisors = product.get("/hypervisors?limit=100")["items"]
    assert len({row["driver"] for row in hypervisors}) >= 9
    assert {row["virtualization_type"] for row in hypervisors} >= {"bare_metal", "hosted", "os_level"}
    page.goto("/vms?q=state:running&limit=100")
    live(page)
    for one in managed:
        expect(page.locator(f"#list tr[data-name='{one.guest.name}'] .c-state .txt")).to_have_text("Running")
    page.evaluate(WATCH)
    asked: dict[str, float] = {}
    for one in managed:
        one.change()
        asked[one.guest.name] = time.time()
    names = {one.guest.name for one in managed}
    wait_until(lambda: not names - set(page.evaluate("changed")), 30, "each shows what it is now")
    shown = page.evaluate("changed")
    for one in managed:
        late = shown[one.guest.name] - 1000 * asked[one.guest.name]
        print(f"measured: {one.endpoint.driver}: from the end of a change outside to the browser: {late:.0f} ms")
    for path in ("/", "/hosts", "/vms", "/capabilities"):
        page.goto(path)
        live(page)
        shot(page, f"fleet-{path.strip('/') or 'overview'}", whole=path != "/vms")
