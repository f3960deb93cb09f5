"""Virtual networks in a real browser: one is made from its form, stopped, started and removed; filters."""

from __future__ import annotations

import re
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
    keep(page)
    virsh(QEMU_URI, "net-destroy", NAME)
    expect(page.locator("#network-head")).to_contain_text(
        "Stopped", timeout=3000
    )  # told by libvirt, not found by the survey
    page.get_by_role("button", name="Remove", exact=True).click()
    question = page.get_by_role("dialog", name="Remove this network?")
    question.get_by_label("Type the name to confirm").fill(NAME)
    question.get_by_role("button", name="Remove network").click()
    expect(page.locator("main")).to_contain_text("Done")
    assert NAME not in virsh(QEMU_URI, "net-list", "--all", "--name")


def keep(page: Page) -> None:
    """An address is fixed, changed and released."""
    page.get_by_role("button", name="Fix an address").click()
    question = page.get_by_role("dialog", name="Fix an address")
    question.get_by_label("MAC address").fill("52:54:00:AA:00:07")
    question.get_by_label("Address", exact=True).fill("198.18.203.7")
    question.get_by_role("button", name="Fix address").click()
    page.get_by_role("button", name="Change 198.18.203.7").click()
    question = page.get_by_role("dialog", name="A fixed address for 52:54:00:aa:00:07")
    question.get_by_label("Address", exact=True).fill("198.18.203.8")
    question.get_by_role("button", name="Change").click()
    expect(page.locator("main")).to_contain_text("198.18.203.8")
    assert "ip='198.18.203.8'" in virsh(QEMU_URI, "net-dumpxml", NAME)
    page.get_by_role("button", name="Release 198.18.203.8").click()
    page.get_by_role("dialog").get_by_role("button", name="Release").click()
    expect(page.locator("main")).to_contain_text("None: each guest gets what is free.")
    assert "198.18.203.8" not in virsh(QEMU_URI, "net-dumpxml", NAME)


@pytest.fixture
def filterless() -> Iterator[str]:
    """A name that no filter has afterwards."""
    name = f"{PREFIX}no-mail"
    yield name
    if name in virsh(QEMU_URI, "nwfilter-list"):
        virsh(QEMU_URI, "nwfilter-undefine", name)


def test_a_filter_is_made_changed_and_removed(new_page: Callable[..., Page], filterless: str) -> None:
    page = new_page(provoked=r"status of 4\d\d")  # the refused definition, on purpose
    page.goto("/networks")
    page.get_by_role("link", name="Filters").click()
    page.get_by_role("link", name="New filter").click()
    editor = page.get_by_label("Definition, XML")
    good = editor.input_value().replace("no-mail", filterless)
    editor.fill("<domain/>")
    page.get_by_role("button", name="Make filter").click()
    expect(page.locator("#nf-xml-e")).to_have_text("This is a <domain>, not a <filter>.")
    editor.fill(good)
    page.get_by_role("button", name="Make filter").click()
    expect(page.locator("h1")).to_have_text(filterless)
    editor.fill(good.replace("500", "400"))
    page.get_by_role("button", name="Save").click()
    expect(editor).to_have_value(re.compile("<uuid>"))  # as the host has it: the page is another one
    assert "priority='400'" in virsh(QEMU_URI, "nwfilter-dumpxml", filterless)
    page.get_by_role("button", name="Remove", exact=True).click()
    question = page.get_by_role("dialog", name="Remove this filter?")
    question.get_by_label("Type the name to confirm").fill(filterless)
    question.get_by_role("button", name="Remove filter").click()
    expect(page.locator("main")).to_contain_text("Done")
    assert filterless not in virsh(QEMU_URI, "nwfilter-list")
