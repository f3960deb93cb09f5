"""What holds for every page: sign-in and out, no finding of axe, no sideways scroll, light and dark, desk and phone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import DESK, PHONE, live, shot, sign_in
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from tests.labs.fixtures import QemuGuestFactory
    from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.real]

AXE = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
}
LOOKS = [(size, theme) for size in ("desk", "phone") for theme in ("light", "dark")]
SIZES = {"desk": DESK, "phone": PHONE}
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def check(page: Page, name: str) -> None:
    """No finding of axe, nothing beyond the right edge; a picture for people."""
    assert page.evaluate(SIDEWAYS) <= 0, f"{name} scrolls sideways"
    found = Axe().run(page, options=AXE).response["violations"]
    assert [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found] == [], name
    shot(page, name)


def test_signing_in_when_the_password_is_wrong_then_said_and_when_right_then_in(
    new_page: Callable[..., Page], product: Server
) -> None:
    page = new_page(signed_in=False)
    page.goto("/vms")
    assert page.url.startswith(f"{product.url}/login?next=")
    page.get_by_label("User").fill("admin")
    page.locator("input[name=password]").fill("wrong-password")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    check(page, "sign-in")
    sign_in(page, product)
    expect(page.locator("h1")).to_have_text("Overview")


def test_signing_out_when_done_then_nothing_is_shown_any_more(new_page: Callable[..., Page], product: Server) -> None:
    page = new_page(signed_in=False)
    sign_in(page, product)
    live(page)
    page.get_by_role("button", name="Account and display").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/login*")
    page.goto("/vms")
    page.wait_for_url("**/login?next=*")


def test_the_overview_when_opened_then_this_machine_is_online_with_both(page: Page, product: Server) -> None:
    wait_until(lambda: [one["state"] for one in product.all("/hosts")] == ["online"], 20, "this machine is online")
    page.goto("/")
    live(page)
    drivers = page.locator("#main .hv .drv")
    expect(drivers).to_have_count(2)
    assert sorted(drivers.all_inner_texts()) == ["lxc", "qemu"]


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_every_page_when_looked_at_then_in_order(
    new_page: Callable[..., Page], product: Server, qemu_guest: QemuGuestFactory, size: str, theme: str
) -> None:
    guest = qemu_guest("--vnc", "tcp", kind="qcow2", start=True)
    for name in ("first", "second", "third"):
        guest.virsh("snapshot-create-as", "--name", name)
        if name == "second":
            guest.virsh("snapshot-revert", "first")
    vm = wait_until(lambda: product.all(f"/vms?q={guest.uuid}"), 15, f"{guest.name} is known")[0]["id"]
    product.api("PATCH", f"/vms/{vm}", json={"title": "A guest with a title", "tags": ["prod", "web"]})
    page = new_page(viewport=SIZES[size], color_scheme=theme, has_touch=size == "phone")
    for name, path in {
        "overview": "/",
        "images": "/images",
        "guests": "/vms",
        "guests-grouped": "/vms?group=host&ordering=-cpu",
        "guests-filtered": "/vms?q=stat:running tag:prod",
        "guest": f"/vms/{vm}",
        "guest-events": f"/vms/{vm}/events",
        "guest-xml": f"/vms/{vm}/xml",
        "guest-snapshots": f"/vms/{vm}/snapshots",
        "operations": "/operations?state=all",
        "events": "/events",
        "settings": "/settings",
    }.items():
        page.goto(path)
        live(page)
        if name == "guest-xml":
            expect(page.locator(".editor textarea")).to_have_value(re.compile("<domain"))
        if name == "guest-snapshots":
            expect(page.locator("[data-snapshot]")).to_have_count(3)
        check(page, f"{name}-{size}-{theme}")
    if size == "desk":
        page.goto(f"/vms?peek={vm}")
        expect(page.locator("[data-peek] h2")).to_have_text(guest.name)
        page.locator(f"#vm-{vm} input[type=checkbox]").check()
        check(page, f"peek-{size}-{theme}")
    page.goto(f"/vms/{vm}/console")
    page.locator("body[data-state=open]").wait_for()
    check(page, f"console-{size}-{theme}")


def test_an_address_that_is_not_there_when_opened_then_says_so(new_page: Callable[..., Page], product: Server) -> None:
    for signed_in in (True, False):
        context = new_page(signed_in=signed_in).context
        answer = context.request.get(f"{product.url}/nowhere", headers={"Accept": "text/html"})
        assert answer.status == 404
        assert "Nothing is at this address" in answer.text()


def test_a_phone_when_held_then_a_guest_can_be_started(
    new_page: Callable[..., Page], product: Server, qemu_guest: QemuGuestFactory
) -> None:
    guest = qemu_guest(kind="bootsector")
    wait_until(lambda: product.all(f"/vms?q={guest.uuid}"), 15, f"{guest.name} is known")
    page = new_page(viewport=PHONE, has_touch=True)
    page.goto(f"/vms?q=name:{guest.name}")
    live(page)
    page.locator("#list [data-action=start]").tap()
    expect(page.locator("#list tr[data-vm]")).to_have_attribute("data-state", "running", timeout=60_000)
    assert guest.running
