"""A definition edited in the browser and by virsh at once: each sees the other, and nobody is overwritten unawares."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import live, shot
from tests.labs.local import virsh
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.labs.fixtures import QemuGuestFactory
    from tests.labs.local import Guest
    from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.real]


def inactive(guest: Guest) -> str:
    return guest.virsh("dumpxml", "--inactive")


def by_virsh(guest: Guest, directory: Path, old: str, new: str) -> None:
    """Somebody else, with `virsh define`."""
    file = directory / "outside.xml"
    file.write_text(inactive(guest).replace(old, new, 1))
    virsh(guest.uri, "define", file)


def told(product: Server, vm: str) -> list[dict[str, Any]]:
    return product.all(f"/events?object=vm/{vm}&type=vm.definition_changed&ordering=seq")


def test_memory_when_edited_then_shown_saved_and_seen_by_virsh_and_what_virsh_does_is_told(
    new_page: Callable[..., Page], product: Server, qemu_guest: QemuGuestFactory, tmp_path: Path
) -> None:
    guest = qemu_guest(kind="bootsector")
    vm = wait_until(lambda: product.all(f"/vms?q={guest.uuid}"), 15, f"{guest.name} is known")[0]["id"]
    page = new_page(provoked="412|422")
    page.goto(f"/vms/{vm}/xml")
    live(page)
    editor = page.locator(".editor textarea")
    expect(editor).to_have_value(re.compile(guest.uuid))
    written = re.sub(r"(<(memory|currentMemory) unit='KiB'>)\d+", r"\g<1>131072", editor.input_value())

    editor.fill(written.replace("<devices>", "<devises>"))
    editor.press("Control+Enter")
    page.locator("[data-jump]").first.click()
    expect(page.locator("[data-check] .state.crit")).to_contain_text("would be refused")

    editor.fill(written)
    editor.press("Control+Enter")
    expect(page.locator("[data-check] .state.ok")).to_have_text("Valid")
    expect(page.locator(".diff .add").first).to_contain_text("<memory unit='KiB'>131072</memory>")
    assert "131072" not in inactive(guest), "nothing is saved by looking"
    page.fill("#xml-why", "room for the build")
    shot(page, "definition-diff")
    page.click("[data-xml-save]")
    expect(page.locator("[data-revision='2']")).to_contain_text("room for the build")
    assert "<memory unit='KiB'>131072</memory>" in inactive(guest)

    editor.fill(editor.input_value().replace("</name>", "</name>\n  <title>Mine</title>", 1))
    by_virsh(guest, tmp_path, "</name>", "</name>\n  <title>Theirs</title>")
    expect(page.locator("[data-revision='3'] .pill.warn")).to_have_text("outside")
    drift = wait_until(lambda: told(product, vm)[1:], 15, "the drift is told")[0]
    assert (drift["actor"], drift["data"]["source"]) == (None, "outside")
    assert "+  <title>Theirs</title>" in drift["data"]["diff"]

    editor.press("Control+Enter")
    conflict = page.locator("[data-conflict]")
    expect(conflict.locator(".diff .add").first).to_contain_text("Theirs")
    page.click("[data-take=mine]")
    page.click("[data-xml-save]")
    expect(page.locator("[data-revision='4']")).to_be_visible()
    assert "<title>Mine</title>" in inactive(guest)

    page.click("li [data-revision-restore='1']")
    page.click("dialog[open] button[type=submit]")
    expect(page.locator("[data-revision='5']")).to_contain_text("brought back 1")
    assert "<title>" not in inactive(guest)
    assert "131072" not in inactive(guest)


def test_a_guest_when_renamed_here_then_virsh_calls_it_so(
    page: Page, product: Server, qemu_guest: QemuGuestFactory
) -> None:
    guest = qemu_guest(kind="bootsector")
    vm = wait_until(lambda: product.all(f"/vms?q={guest.uuid}"), 15, f"{guest.name} is known")[0]["id"]
    page.goto(f"/vms/{vm}")
    live(page)
    page.click("[popovertarget=more]")
    page.click("[data-action=rename]")
    page.fill("#ask-name", f"{guest.name}-b")
    page.click("dialog[open] button[type=submit]")
    expect(page.locator("h1.page")).to_have_text(f"{guest.name}-b")
    assert virsh(guest.uri, "domname", guest.uuid).strip() == f"{guest.name}-b"
