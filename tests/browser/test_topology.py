"""The topology picture in a real browser: lines, what is brought out, keys, what happens; in order at each size."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import live
from tests.browser.test_pages import SIZES, check
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from tests.labs.fixtures import QemuGuestFactory
    from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.real]


def test_a_guest_is_joined_to_its_network_and_its_start_shows(
    page: Page, new_page: Callable[..., Page], product: Server, qemu_guest: QemuGuestFactory, dhcp_network: str
) -> None:
    guest = qemu_guest("--net", dhcp_network, kind="bootsector")
    vm = wait_until(lambda: product.all(f"/vms?q={guest.uuid}"), 15, f"{guest.name} is known")[0]["id"]
    net = wait_until(lambda: product.all(f"/networks?q=name:{dhcp_network}"), 40, "the network is known")[0]["id"]
    page.goto(f"/topology?focus=network/{net}")
    live(page)
    row, node = page.locator(f'[data-ref="vm/{vm}"]'), page.locator(f'[data-ref="network/{net}"]')
    expect(node).to_have_class(re.compile("focused"))
    expect(page.locator(".wires .rests.on")).to_have_count(1)
    row.get_by_role("link").focus()
    expect(node).to_have_class(re.compile(r"\bon\b"))
    page.locator(".topobox").focus()
    page.keyboard.press("-")
    expect(page.locator("[data-zoom-text]")).to_have_text("90 %")
    page.get_by_role("button", name="Larger").click()
    expect(page.locator("[data-zoom-text]")).to_have_text("100 %")
    guest.virsh("start")
    expect(row).to_have_attribute("data-state", "running")
    expect(page.locator(".wires .runs")).to_have_count(2)  # and to its disk, which is in no pool
    row.get_by_role("link").click()
    expect(page.locator("h1")).to_have_text(guest.name)
    page.get_by_role("link", name="in the picture").click()
    expect(page.locator(".guest.focused .joins")).to_contain_text(dhcp_network)
    for size, theme in (("desk", "light"), ("phone", "dark")):
        looked = new_page(viewport=SIZES[size], color_scheme=theme, has_touch=size == "phone")
        for name, path in {
            "topology": "/topology",
            "focus": f"/topology?focus=vm/{vm}",
            "table": "/topology?view=table",
        }.items():
            looked.goto(path)
            live(looked)
            check(looked, f"topology-{name}-{size}-{theme}")
