"""Hosts in a real browser: a second machine is added with the doctor's help, goes away and comes back, and is removed; work is followed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import DESK, PHONE, live
from tests.browser.test_pages import check
from tests.drivers import servers
from tests.drivers.servers import Authority
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.labs.fixtures import QemuGuestFactory
    from tests.labs.hosts import LabHosts
    from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.real]

HOST = 1
SLOW_MS = 60_000
NAME = "second machine"
LOOKS = [(size, theme) for size in ("desk", "phone") for theme in ("light", "dark")]
SIZES = {"desk": DESK, "phone": PHONE}


@pytest.fixture
def nothing_left(product: Server) -> Iterator[None]:
    """Whatever a test added is gone after it."""
    yield
    for host in product.all("/hosts"):
        if host["name"] in (NAME, "demo", "far"):
            product.api("DELETE", f"/hosts/{host['id']}")


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[str]:
    """Somebody with a certificate that nobody has signed; where it listens."""
    pair = Authority().sign("stranger", "127.0.0.1", by_itself=True)
    with servers.serving(servers.bound(), servers.tls(pair, tmp_path, greeting=b"no")) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def add_by_api(product: Server, lab: LabHosts) -> str:
    """The lab's host, online; its id."""
    keys = {"ca_certificate": "cacert", "certificate": "clientcert", "private_key": "clientkey"}
    credentials = {name: (lab.pki / f"{file}.pem").read_text() for name, file in keys.items()}
    uri = f"qemu+tls://{lab.address(HOST)}/system"
    answer = product.api("POST", "/hosts", json={"name": NAME, "uri": uri, "credentials": credentials})
    assert answer.status_code == 201, answer.text
    host = str(answer.json()["id"])
    wait_until(lambda: product.get(f"/hosts/{host}")["state"] == "online", 30, "the second machine is online")
    return host


@pytest.mark.usefixtures("nothing_left")
def test_a_second_machine_when_its_port_is_wrong_then_right_then_online_without_reload(
    page: Page, product: Server, lab_hosts: LabHosts
) -> None:
    page.goto("/hosts/new")
    live(page)
    page.get_by_label("Name", exact=True).fill(NAME)
    page.get_by_role("radio", name="TLS with certificates").check()
    page.get_by_label("Address").fill(lab_hosts.address(HOST))
    page.locator("#f-port").fill("1")
    for field, file in (("certificate", "clientcert"), ("private_key", "clientkey"), ("ca_certificate", "cacert")):
        page.locator(f"[name={field}]").fill((lab_hosts.pki / f"{file}.pem").read_text())
    page.get_by_role("button", name="Test", exact=True).click()
    failed = page.locator("[data-steps] li.failed")
    expect(failed).to_contain_text("Port is open")
    expect(failed).to_contain_text("Nothing listens on port 1")
    expect(failed.locator("pre.code")).to_contain_text("systemctl enable --now")
    expect(page.locator("[data-verdict]")).to_contain_text("Stopped at step 3 of 8")
    expect(page.locator("[data-countdown]")).to_contain_text("again in")
    check(page, "doctor-failed")

    page.locator("#f-port").fill("")
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("[data-verdict]")).to_have_text("All is well", timeout=SLOW_MS)
    expect(page.locator("[data-steps] li.succeeded")).to_have_count(8)
    check(page, "doctor-well")

    page.get_by_role("button", name="Add host").click()
    page.wait_for_url(re.compile(r"/hosts/[0-9a-f-]{36}$"))
    page.evaluate("window.notReloaded = true")
    expect(page.locator("h1.page")).to_have_text(NAME)
    expect(page.locator(".head .pill")).to_contain_text("Online", timeout=SLOW_MS)
    assert page.evaluate("window.notReloaded")
    assert [host["state"] for host in product.all("/hosts") if host["name"] == NAME] == ["online"]


def test_the_form_when_used_by_keyboard_then_kind_way_and_uri_follow_and_a_bad_answer_is_named_at_its_field(
    new_page: Callable[..., Page],
) -> None:
    page = new_page(provoked="422")
    page.goto("/hosts/new")
    live(page)
    find = page.get_by_role("searchbox", name="Find a hypervisor")
    find.fill("containers lx")
    expect(page.locator(".pick:visible input[name=kind]")).to_have_count(1)
    find.press("Enter")  # chooses what is left, and tests nothing
    lxc = page.get_by_role("radio", name="LXC")
    expect(lxc).to_be_checked()
    expect(lxc).to_be_focused()
    expect(page.locator("[data-proof]")).to_contain_text("tested on the hypervisor itself")
    page.get_by_role("radio", name="SSH").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="TLS with certificates")).to_be_focused()
    expect(page.locator("#f-user")).to_have_count(0)
    page.get_by_label("Address").fill("HV-7.example")
    expect(page.locator("[data-uri-shown]")).to_have_text("lxc+tls://hv-7.example/system")
    expect(page.get_by_label("Name", exact=True)).to_have_value("HV-7")
    page.get_by_label("Address").fill("hv?command=x")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#err-host")).to_contain_text("A host is a name of letters")
    expect(page.get_by_label("Address")).to_be_focused()


def test_a_strangers_certificate_when_shown_then_its_fingerprint_is_taken_by_one_click(
    page: Page, stranger: str, product: Server
) -> None:
    host, port = stranger.rsplit(":", 1)
    page.goto("/hosts/new")
    live(page)
    page.get_by_role("radio", name="Docker").check()
    page.get_by_role("radio", name="TLS").check()
    page.get_by_label("Address").fill(host)
    page.locator("#f-port").fill(port)
    page.get_by_role("button", name="Test", exact=True).click()
    failed = page.locator("[data-steps] li.failed")
    expect(failed).to_contain_text("TLS certificate", timeout=SLOW_MS)
    shown = (failed.locator("code.print").text_content() or "").replace(":", "").lower()
    assert len(shown) == 64
    check(page, "doctor-stranger")
    failed.get_by_role("button", name="Trust this fingerprint").click()
    expect(page.get_by_label("SHA-256 fingerprint")).to_have_value(shown)
    expect(page.get_by_label("SHA-256 fingerprint")).to_be_focused()
    page.get_by_role("button", name="Test", exact=True).click()
    # It is believed now; that it is no Docker is found out only after that.
    expect(page.locator("[data-steps] li.succeeded", has_text="TLS certificate")).to_be_visible(timeout=SLOW_MS)


@pytest.mark.usefixtures("nothing_left")
def test_a_way_to_a_host_when_changed_then_secrets_are_not_shown_and_the_credentials_can_stay(
    page: Page, product: Server, lab_hosts: LabHosts
) -> None:
    host = add_by_api(product, lab_hosts)
    page.goto(f"/hosts/{host}")
    live(page)
    page.get_by_role("link", name="Change how to get there").click()
    expect(page.get_by_role("radio", name="Leave them as they are")).to_be_checked()
    expect(page.locator("[name=private_key]")).to_have_count(0)
    page.get_by_role("button", name="Test", exact=True).click()
    expect(page.locator("[data-verdict]")).to_have_text("All is well", timeout=SLOW_MS)
    check(page, "host-change")
    page.get_by_role("radio", name="Give new ones").check()
    expect(page.locator("[name=private_key]")).to_have_value("")
    page.get_by_role("radio", name="Leave them as they are").check()
    page.get_by_role("button", name="Save").click()
    page.wait_for_url(f"**/hosts/{host}")
    page.get_by_role("link", name="Add hypervisor").click()
    page.get_by_role("radio", name="Test driver (simulated)").check()
    page.get_by_role("button", name="Add hypervisor").click()
    page.wait_for_url(f"**/hosts/{host}")
    wait_until(lambda: len(product.get(f"/hosts/{host}")["hypervisors"]) == 2, 10, "there are two")


@pytest.mark.usefixtures("nothing_left")
def test_a_host_when_it_goes_away_then_said_at_once_and_its_doctor_knows_why_and_when_back_then_online(
    page: Page, product: Server, lab_hosts: LabHosts
) -> None:
    host = add_by_api(product, lab_hosts)
    page.goto("/hosts")
    live(page)
    row = page.locator("#hosts tr", has_text=NAME)
    expect(row).to_have_class(re.compile("online"))
    lab_hosts.stop(HOST)
    try:
        expect(page.locator("#hosts tr.offline", has_text=NAME)).to_be_visible(timeout=SLOW_MS)
        page.locator(".note", has_text=NAME).get_by_role("link", name="Run doctor").click()
        page.wait_for_url(re.compile(f"/hosts/{host}/doctor"))
        # The lab forwards the port: it is open, with nothing behind it.
        failed = page.locator("[data-steps] li.failed")
        expect(failed).to_contain_text("closes them before the TLS handshake is done", timeout=SLOW_MS)
        page.goto("/hosts")
        live(page)
    finally:
        lab_hosts.start(HOST)
    expect(page.locator("#hosts tr.online", has_text=NAME)).to_be_visible(timeout=SLOW_MS)
    page.goto(f"/hosts/{host}/doctor")  # with the credentials that it has, which no page holds
    expect(page.locator("[data-verdict]")).to_have_text("All is well", timeout=SLOW_MS)
    assert "PRIVATE KEY" not in page.content()


@pytest.mark.usefixtures("nothing_left")
def test_a_host_when_removed_then_its_name_is_asked_and_it_leaves_the_list(
    page: Page, product: Server, lab_hosts: LabHosts
) -> None:
    host = add_by_api(product, lab_hosts)
    page.goto(f"/hosts/{host}")
    live(page)
    page.get_by_role("button", name="Remove").click()
    dialog = page.locator("dialog#remove")
    expect(dialog).to_be_visible()
    check(page, "host-remove")
    go = dialog.get_by_role("button", name="Stop managing")
    field = dialog.locator("input[name=typed]")
    field.fill("second")
    go.click()  # the browser itself says that it does not match
    expect(dialog.locator("input[name=typed]:invalid")).to_be_visible()
    field.fill(NAME)
    go.click()
    page.wait_for_url("**/hosts")
    expect(page.get_by_text(f"{NAME} is no longer managed")).to_be_visible()
    expect(page.locator("#hosts tr", has_text=NAME)).to_have_count(0)
    assert NAME not in [one["name"] for one in product.all("/hosts")]


@pytest.mark.usefixtures("nothing_left")
def test_a_demo_host_when_added_then_labelled_everywhere(page: Page, product: Server) -> None:
    product.api("POST", "/hosts/demo")
    page.goto("/hosts")
    live(page)
    row = page.locator("#hosts tr", has_text="test:///default")
    expect(row.locator(".tag", has_text="demo")).to_be_visible()
    row.locator("a.name").click()
    expect(page.locator(".head .tag")).to_contain_text("nothing real runs here")
    page.goto("/")
    expect(page.locator("#main .hv", has_text="demo").locator(".tag")).to_have_text("demo")


def test_a_shutdown_when_the_guest_ignores_it_then_seen_live_in_list_and_tray_and_cancelled(
    page: Page, product: Server, qemu_guest: QemuGuestFactory
) -> None:
    guest = qemu_guest(kind="bootsector", start=True)
    known = wait_until(lambda: product.all(f"/vms?q={guest.uuid} state:running"), 15, f"{guest.name} runs")
    page.goto("/operations")
    live(page)
    operation = product.api("POST", f"/vms/{known[0]['id']}/actions/shutdown", json={"timeout_seconds": 600}).json()
    page.get_by_role("link", name="1 new, show").click()
    row = page.locator(f"#op-{operation['id']}")
    expect(row).to_contain_text(guest.name)
    expect(row).to_contain_text("Shut down")
    check(page, "operations-running")
    page.get_by_role("button", name="Running operations").click()
    tray = page.locator("#tray")
    expect(tray).to_contain_text(guest.name)
    page.keyboard.press("Escape")
    row.get_by_role("button", name="Cancel").click()
    expect(row).to_have_attribute("data-state", "cancelled", timeout=SLOW_MS)
    wait_until(lambda: product.get(f"/operations/{operation['id']}")["state"] == "cancelled", 20, "it is cancelled")
    page.goto(f"/operations/{operation['id']}")
    expect(page.locator("#main")).to_contain_text("Cancelled")
    assert guest.running


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_pages_of_hosts_when_looked_at_then_in_order(
    new_page: Callable[..., Page], product: Server, size: str, theme: str
) -> None:
    product.api("POST", "/hosts/demo")
    answer = product.api("POST", "/hosts", json={"name": "far", "uri": "qemu+tcp://127.0.0.1:1/system"})
    far = answer.json()["id"]
    wait_until(lambda: product.get(f"/hosts/{far}")["state"] == "offline", 20, "it is out of reach")
    demo = next(host["id"] for host in product.all("/hosts") if host["name"] == "demo")
    product.api("POST", f"/hosts/{demo}/maintenance", json={"enabled": True})
    page = new_page(viewport=SIZES[size], color_scheme=theme, has_touch=size == "phone")
    for name, path in {
        "overview-hosts": "/",
        "hosts": "/hosts",
        "host": f"/hosts/{demo}",
        "host-offline": f"/hosts/{far}",
        "host-new": "/hosts/new",
        "problems": "/problems",
        "problem": "/problems/host_unreachable",
    }.items():
        page.goto(path)
        live(page)
        check(page, f"{name}-{size}-{theme}")
    page.goto(f"/hosts/{far}/doctor")
    expect(page.locator("[data-steps] li.failed")).to_be_visible()
    check(page, f"host-doctor-{size}-{theme}")
