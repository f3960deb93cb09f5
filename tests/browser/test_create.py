"""A new guest in a real browser: a name is enough, what is wrong says so where it is, and the same page makes it on a real QEMU."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PHONE, live
from tests.browser.test_pages import check
from tests.labs.local import PREFIX, QEMU_URI, run, unique_name, virsh
from tests.transfers import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.real]


@pytest.fixture
def pool(product: Server, pool_home: Path) -> Iterator[str]:
    """A pool with a disk in it, `base.qcow2`; its name. Guests that a test makes there are gone afterwards."""
    host = next(one for one in product.all("/hypervisors") if one["uri"] == QEMU_URI)["host"]
    name = f"{PREFIX}new-{pool_home.name[-6:]}"
    body = {"host": host, "name": name, "type": "dir", "target": str(pool_home / "p"), "autostart": False}
    made = product.api("POST", "/storage-pools", json=body, Prefer="wait=30").json()
    assert made["state"] == "succeeded", made["error"]
    files.disk(pool_home / "p" / "base.qcow2", size=32 << 20, content=b"x" * 4096)
    product.api("POST", f"/storage-pools/{made['result']['pool']}/actions/refresh", Prefer="wait=30")
    product.api("POST", f"/hosts/{host}/refresh")
    yield name
    for vm in product.all(f"/vms?q={PREFIX}new"):
        product.api("DELETE", f"/vms/{vm['id']}?force=true&storage=delete&bin=false", Prefer="wait=30")
    product.api("DELETE", f"/storage-pools/{made['result']['pool']}", Prefer="wait=30")


def test_made_by_keys_alone_from_a_volume_of_a_pool(page: Page, product: Server, pool: str) -> None:
    name = unique_name("new")
    page.goto("/vms")
    live(page)
    page.keyboard.press("n")
    expect(page).to_have_url(re.compile("/vms/new$"))
    check(page, "new guest")
    page.keyboard.type(name)
    page.get_by_role("radio", name="A volume of a pool").check(force=True)
    page.get_by_label("Volume", exact=True).fill("base.qcow2")
    page.get_by_label("Start it now").uncheck()
    summary = page.locator("[data-plan]")
    expect(summary).to_contain_text("base.qcow2")
    expect(summary).to_contain_text(pool)
    page.get_by_role("button", name="Dry run").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("<domain")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.get_by_label("Name", exact=True).focus()
    page.keyboard.press("Control+Enter")
    expect(page).to_have_url(re.compile("/operations/"))
    page.get_by_role("link", name="Open the guest").click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    assert virsh(QEMU_URI, "domstate", name).strip() == "shut off"


def test_what_is_wrong_says_so_at_its_field_while_one_types(
    new_page: Callable[..., Page], product: Server, pool: str
) -> None:
    page = new_page(provoked=r"status of 422", viewport=PHONE)
    page.goto("/vms/new")
    live(page)
    page.get_by_label("Name", exact=True).fill("a b")
    expect(page.locator("#f-name-e")).to_be_visible()
    page.get_by_label("Name", exact=True).fill(f"{PREFIX}new-x")
    expect(page.locator("#f-name-e")).to_be_hidden()
    page.get_by_role("radio", name="A volume of a pool").check(force=True)
    page.get_by_label("Volume", exact=True).fill("nothing.qcow2")
    expect(page.locator("#f-volume-e")).to_contain_text("no volume of this name")
    page.get_by_text("Cloud-init: user data").click()
    page.get_by_label("User data").fill("#cloud-config\npackages: nginx\nhostnam: x\n")
    findings = page.locator("[data-findings=user_data] li")
    expect(findings).to_have_count(2)
    expect(findings.first).to_contain_text("Line 2")
    page.get_by_role("button", name="Create guest").click()
    expect(page).to_have_url(re.compile("/vms/new$"))
    check(page, "new guest, wrong")


def test_its_seed_is_read_changed_and_found_on_the_volume(
    new_page: Callable[..., Page], product: Server, pool: str, pool_home: Path
) -> None:
    name = unique_name("new")
    spec = {
        "name": name, "driver": "qemu", "start": False, "graphics": "none", "interfaces": [],
        "disks": [{"image": "base.qcow2", "pool": pool}], "cloud_init": {"packages": ["git"]},
    }  # fmt: skip
    vm = product.api("POST", "/vms", json=spec, Prefer="wait=40").json()["result"]["vm"]
    page = new_page()
    page.goto(f"/vms/{vm}/cloud-init")
    live(page)
    data = page.get_by_label("User data")
    expect(data).to_have_value(re.compile("- git"))
    check(page, "cloud-init")
    data.fill("#cloud-config\npackages: nginx\n")
    expect(page.locator("[data-findings=user_data] li")).to_contain_text("Line 2")
    data.fill("#cloud-config\npackages: [nginx]\n")
    expect(page.locator("[data-findings=user_data] li")).to_have_count(0)
    page.get_by_role("button", name="Write the seed").click()
    expect(page.get_by_text("It is read at the next boot.")).to_be_visible()
    (file,) = (pool_home / "p").glob("*-seed.iso")
    assert "packages: [nginx]" in run("isoinfo", "-R", "-x", "/user-data", "-i", file)
    assert f"instance-id: i-{vm}-" in run("isoinfo", "-R", "-x", "/meta-data", "-i", file)
