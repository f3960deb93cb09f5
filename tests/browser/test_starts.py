"""The order in which a host's guests start, moved by the keyboard on the host's page, as virsh sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import live
from tests.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.labs.fixtures import QemuGuestFactory
    from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.real]


def test_a_guest_is_given_a_place_and_moved_by_the_keyboard(
    page: Page, product: Server, qemu_guest: QemuGuestFactory
) -> None:
    first, second = (qemu_guest(kind="bootsector") for _ in range(2))
    vms = [wait_until(lambda g=g: product.all(f"/vms?q={g.uuid}"), 15, "it is known")[0] for g in (first, second)]
    product.api("PATCH", f"/vms/{vms[0]['id']}", json={"autostart_order": 1}, Prefer="wait=20")
    page.goto(f"/vms/{vms[1]['id']}")
    live(page)
    page.keyboard.press("e")
    page.locator("#edit-autostart_order").fill("2")
    page.locator("#edit-autostart_delay_seconds").fill("30")
    page.locator("#edit [type=submit]").click()
    expect(page.locator("#main")).to_contain_text("In order, at place 2")
    page.get_by_role("link", name="In order, at place 2").click()
    rows = page.locator("[data-starts-list] li .name")
    expect(rows).to_have_text([first.name, second.name])
    page.get_by_role("button", name=f"{second.name} earlier").focus()
    page.keyboard.press("Enter")
    expect(rows).to_have_text([second.name, first.name])
    expect(page.get_by_role("button", name=f"{second.name} earlier")).to_be_focused()
    assert "autostart_order" in second.virsh("dumpxml")
