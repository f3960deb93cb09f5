"""Virtual networks in a real browser: one is made from its form, stopped, started and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import live
from tests.labs.local import PREFIX, QEMU_URI, virsh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

    from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.real]

NAME = f"{PREFIX}lan"


@pytest.fixture
def forgotten(product: Server) -> Iterator[None]:
    """No network of this test is left."""
    yield
    for network in product.all(f"/networks?q=name:{NAME}"):
        product.api("DELETE", f"/networks/{network['id']}", Prefer="wait=20")


def test_a_network_is_made_stopped_and_removed(new_page: Callable[..., Page], forgotten: None) -> None:
    page = new_page(provoked=r"status of 4\d\d")  # the refused range, on purpose
    page.goto("/networks")
    live(page)
    page.get_by_role("link", name="New network").first.click()
    form = page.locator("[data-new-network]")
    form.get_by_label("Bridge of the host").check()
    expect(form.get_by_label("The host's address")).to_be_hidden()
    form.get_by_label("Isolated").check()
    form.get_by_label("Name", exact=True).fill(NAME)
    form.get_by_label("The host's address").fill("198.18.203.1/28")
    form.get_by_label("First address").fill("198.18.203.3")
    form.get_by_label("Last address").fill("198.18.204.9")
    form.get_by_label("Start it with the host").uncheck()
    form.get_by_role("button", name="Make network").click()
    expect(form.locator("#nn-dhcp_end-e")).to_contain_text("Within 198.18.203.0/28")
    form.get_by_label("Last address").fill("198.18.203.9")
    form.get_by_role("button", name="Make network").click()
    expect(page.locator("h1")).to_have_text(NAME)
    assert NAME in virsh(QEMU_URI, "net-list", "--name")

    switch = page.get_by_role("switch", name="Starts with host")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "true")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#network-head")).to_contain_text("Stopped")
    page.goto(f"/networks?q={NAME}")
    page.get_by_role("button", name=f"Start {NAME}").click()
    expect(page.locator("#networks tbody tr", has_text=NAME)).to_contain_text("Active")
    page.locator("#networks").get_by_role("link", name=NAME).click()
    page.get_by_role("button", name="Remove", exact=True).click()
    question = page.get_by_role("dialog", name="Remove this network?")
    question.get_by_label("Type the name to confirm").fill(NAME)
    question.get_by_role("button", name="Remove network").click()
    expect(page.locator("main")).to_contain_text("Done")
    assert NAME not in virsh(QEMU_URI, "net-list", "--all", "--name")
