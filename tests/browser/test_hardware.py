"""A guest's hardware from both sides: a disk plugged in and more memory asked for in the browser, judged by virsh."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import live, shot
from tests.browser.test_pages import check
from tests.labs.local import PREFIX, QEMU_URI, virsh
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.labs.fixtures import QemuGuestFactory
    from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.real]


@pytest.fixture
def pool(product: Server, pool_home: Path) -> Iterator[str]:
    """A directory on this machine as a pool, known to the product."""
    name = f"{PREFIX}hardware"
    virsh(QEMU_URI, "pool-create-as", name, "dir", "--target", pool_home)
    try:
        wait_until(lambda: product.all(f"/storage-pools?q=name:{name}"), 30, "the pool is known")
        yield name
    finally:
        virsh(QEMU_URI, "pool-destroy", name)


def test_a_disk_when_added_then_the_guest_has_it_and_what_cannot_be_now_waits(
    new_page: Callable[..., Page], product: Server, qemu_guest: QemuGuestFactory, pool: str, pool_home: Path
) -> None:
    page = new_page()
    guest = qemu_guest(kind="raw", start=True)
    vm = wait_until(lambda: product.all(f"/vms?q={guest.uuid}"), 15, "it is known")[0]["id"]
    page.goto(f"/vms/{vm}/hardware")
    live(page)
    expect(page.locator("[data-hw-row=memory]")).to_be_visible()

    page.keyboard.press("n")
    dialog = page.locator("dialog[open]")
    dialog.locator("#hw-size_bytes").fill("0.01")
    dialog.locator("#hw-pool").select_option(pool)
    dialog.locator(".asrest summary").click()
    expect(dialog.locator(".asrest pre")).to_contain_text('"size_bytes":10737418')
    shot(page, "hardware-add-disk")
    dialog.locator("[type=submit]").click()
    row = page.locator("[data-hw-row^='disk/vd']", has_text=pool)
    expect(row).to_contain_text(re.compile(r"10\.2 MiB|10 MiB"))
    assert str(pool_home) in guest.virsh("domblklist")

    page.keyboard.press("m")
    dialog.locator("#hw-memory_bytes").fill("0.5")
    dialog.locator("[type=submit]").click()
    expect(page.locator("[data-hw-row=memory]")).to_contain_text("at next start: memory 512 MiB")
    expect(page.locator("#vm-head ~ .note", has_text="waits for its next start")).to_be_visible()
    assert ">524288</currentMemory>" in guest.virsh("dumpxml", "--inactive")
    assert ">524288</currentMemory>" not in guest.virsh("dumpxml")
    check(page, "hardware")

    row.locator("[data-hw=disk-detach]").click()
    dialog.locator("[data-kind=danger]").check()
    expect(dialog.locator("[type=submit]")).to_be_disabled()
    dialog.locator("#hw-confirm").fill(str(dialog.locator("form").get_attribute("data-typed")))
    expect(dialog.locator("[type=submit]")).to_be_enabled()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
