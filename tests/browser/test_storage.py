"""Storage in a real browser: a pool is made from its form, fills, and goes; each page in order, on the desk and the phone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from core.units import MIB
from tests.browser.conftest import DESK, PHONE, live
from tests.browser.test_pages import check
from tests.labs.local import PREFIX, QEMU_URI, virsh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.real]

NAME = f"{PREFIX}pages"


@pytest.fixture
def forgotten(product: Server) -> Iterator[None]:
    """No pool of this test is left."""
    yield
    for pool in product.all(f"/storage-pools?q=name:{NAME}"):
        product.api("DELETE", f"/storage-pools/{pool['id']}", Prefer="wait=20")


def test_a_pool_is_made_filled_and_removed(new_page: Callable[..., Page], pool_home: Path, forgotten: None) -> None:
    page = new_page(provoked=r"status of 4\d\d")  # the refused name, on purpose
    page.goto("/storage")
    live(page)
    page.get_by_role("link", name="New pool").first.click()
    form = page.locator("[data-new-pool]")
    form.get_by_label("Name", exact=True).fill("a/b")
    form.locator("[name=target]:visible").fill(str(pool_home / "p"))
    form.get_by_role("button", name="Make pool").click()
    expect(form.locator("#np-name-e")).to_be_visible()
    form.get_by_label("Name", exact=True).fill(NAME)
    form.get_by_label("Start it with the host").uncheck()
    form.get_by_text("The same call as curl").click()
    expect(form.locator(".asrest pre")).to_contain_text(f'"name":"{NAME}"')
    form.get_by_role("button", name="Make pool").click()
    expect(page.locator("h1")).to_have_text(NAME)

    page.keyboard.press("n")
    dialog = page.get_by_role("dialog", name=f"New volume in {NAME}")
    dialog.get_by_label("Name", exact=True).fill("disk.qcow2")
    dialog.get_by_label("Size in GiB").fill("0.5")
    dialog.get_by_role("button", name="Make volume").click()
    row = page.locator("#volumes tbody tr", has_text="disk.qcow2")
    expect(row).to_contain_text("512 MiB")
    expect(row).to_contain_text("nobody")

    virsh(QEMU_URI, "vol-create-as", NAME, "outside.raw", str(4 * MIB))
    page.get_by_role("button", name="Refresh").click()
    expect(page.locator("#volumes tbody tr", has_text="outside.raw")).to_be_visible()

    row.get_by_role("button", name="More for disk.qcow2").click()
    page.get_by_role("button", name="Delete …").locator("visible=true").click()
    question = page.get_by_role("dialog", name="Delete disk.qcow2?")
    expect(question.get_by_role("button", name="Delete volume")).to_be_disabled()
    question.get_by_label("Type the name to confirm").fill("disk.qcow2")
    question.get_by_role("button", name="Delete volume").click()
    expect(row).to_have_count(0)

    page.get_by_role("button", name="Remove").click()
    question = page.get_by_role("dialog", name="Remove this pool?")
    question.get_by_label("Type the name to confirm").fill(NAME)
    question.get_by_role("button", name="Remove pool").click()
    expect(page.locator("h1")).to_contain_text("Remove pool")
    page.goto("/storage")
    expect(page.get_by_role("link", name=NAME)).to_have_count(0)


@pytest.mark.parametrize(("size", "theme"), [("desk", "light"), ("phone", "dark")])
def test_every_page_when_looked_at_then_in_order(
    new_page: Callable[..., Page], product: Server, pool_home: Path, forgotten: None, size: str, theme: str
) -> None:
    host = next(one for one in product.all("/hypervisors") if one["uri"] == QEMU_URI)["host"]
    body = {"host": host, "name": NAME, "type": "dir", "target": str(pool_home / "p"), "autostart": False}
    pool = product.api("POST", "/storage-pools", json=body, Prefer="wait=30").json()["result"]["pool"]
    wish = {"pool": pool, "name": "disk.qcow2", "capacity_bytes": MIB}
    assert product.api("POST", "/volumes", json=wish, Prefer="wait=30").json()["state"] == "succeeded"
    page = new_page(viewport=DESK if size == "desk" else PHONE, color_scheme=theme, has_touch=size == "phone")
    pages = {"storage": "/storage", "pool": f"/storage/{pool}", "pool-new": "/storage/new", "networks": "/networks"}
    for network in product.all("/networks")[:1]:
        pages["network"] = f"/networks/{network['id']}"
    for name, path in pages.items():
        page.goto(path)
        live(page)
        check(page, f"{name}-{size}-{theme}")
        if name == "pool":
            page.get_by_role("button", name="New volume").click()
            check(page, f"{name}-dialog-{size}-{theme}")
