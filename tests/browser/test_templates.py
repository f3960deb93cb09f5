"""A guest is cloned, and made a template that others are made from, in a real browser on a real QEMU."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import live, shot
from tests.browser.test_create import pool
from tests.labs.local import QEMU_URI, unique_name, virsh
from tests.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.server import Server

__all__ = ["pool"]
pytestmark = [pytest.mark.browser, pytest.mark.real]


def test_clone_template_and_a_guest_of_it(page: Page, product: Server, pool: str) -> None:
    name = unique_name("new")
    qemu = next(one for one in product.all("/hypervisors") if one["uri"] == QEMU_URI)
    spec = {"name": name, "hypervisor": qemu["id"], "disks": [{"image": "base.qcow2", "pool": pool}], "start": False}
    made = product.api("POST", "/vms", json=spec, Prefer="wait=30").json()
    page.goto(f"/vms/{made['result']['vm']}")
    live(page)
    page.get_by_role("button", name="More", exact=True).click()
    page.get_by_role("button", name="Clone …").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill(f"{name}-twin")
    dialog.get_by_text("The same call as curl").click()
    expect(dialog.locator("pre")).to_contain_text(f'"name":"{name}-twin"')
    shot(page, "clone")
    dialog.get_by_role("button", name="Clone", exact=True).click()
    wait_until(lambda: f"{name}-twin" in virsh(QEMU_URI, "list", "--all", "--name").split(), 30, "the clone is there")
    page.get_by_role("button", name="More", exact=True).click()
    page.get_by_role("button", name="Make a template …").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("becomes the template").check()
    shot(page, "make-template")
    dialog.get_by_role("button", name="Make template").click()
    wait_until(lambda: [one for one in product.all("/templates") if one["name"] == name], 30, "the template is there")
    expect(page.get_by_text("is no longer defined on")).to_be_visible()
    page.goto("/templates")
    live(page)
    page.get_by_role("link", name=name).click()
    expect(page.get_by_text("Nothing: it can be deleted.")).to_be_visible()
    page.get_by_role("link", name="New guest").click()
    page.get_by_label("Name", exact=True).fill(f"{name}-a")
    page.get_by_label("Start it now").uncheck()
    expect(page.locator("#f-p-vcpus")).to_have_value("1")
    expect(page.locator("[data-plan]")).to_contain_text(name)
    page.get_by_role("button", name="Create guest").click()
    expect(page).to_have_url(re.compile("/operations/"))
    wait_until(lambda: f"{name}-a" in virsh(QEMU_URI, "list", "--all", "--name").split(), 30, "the guest is there")
    page.goto("/templates")
    page.get_by_role("link", name=name).click()
    button = page.get_by_role("button", name="Delete")
    expect(button).to_have_attribute("data-why", re.compile(f"{name}-a"))
    shot(page, "template")
    vm = product.all(f"/vms?q={name}-a")[0]["id"]
    product.api("DELETE", f"/vms/{vm}?storage=delete&bin=false", Prefer="wait=30")
    expect(page.get_by_text("Nothing: it can be deleted.")).to_be_visible()
    button.click()
    page.get_by_label("Type the name to confirm").fill(name)
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("This template was deleted.").first).to_be_visible()
