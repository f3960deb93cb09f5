"""A guest's snapshots from both sides: taken and gone back to in the browser, judged by the guest itself and by virsh."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import live, shot
from tests.labs import local
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Locator, Page

    from tests.labs.fixtures import QemuGuestFactory
    from tests.labs.local import Guest, TinyKernel
    from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.real]
SLOW_MS = 60_000


@pytest.fixture
def disk(tiny_disk: TinyKernel) -> Iterator[Path]:
    """An ext4 of one's own, on which the tiny guest counts its boots."""
    directory = local.guest_directory("vmmtest-snapshots")
    overlay = directory / "disk.qcow2"
    local.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", tiny_disk.disk, "-F", "qcow2", overlay)
    overlay.chmod(0o666)
    yield overlay
    shutil.rmtree(directory)


def row(page: Page, name: str) -> Locator:
    return page.locator(f"[data-snapshot='{name}']")


def snapshots(guest: Guest) -> list[str]:
    return sorted(guest.virsh("snapshot-list", "--name").split("\n"))


def test_a_guest_when_taken_back_then_all_that_it_did_since_is_undone(
    new_page: Callable[..., Page], product: Server, disk: Path, qemu_guest: QemuGuestFactory
) -> None:
    """The main path: take with memory, change memory and disk, revert, look; what virsh takes shows; delete with what grew from it."""
    page = new_page(provoked="status of 422")
    guest = qemu_guest("--disk", str(disk), ready=True)
    vm = wait_until(lambda: product.all(f"/vms?q={guest.uuid}"), 15, "it is known")[0]["id"]
    page.goto(f"/vms/{vm}/snapshots")
    live(page)
    expect(page.locator("#main")).to_contain_text("No snapshots yet")

    page.keyboard.press("n")
    page.locator("#take-name").fill("1")
    page.keyboard.press("Enter")
    expect(page.locator("#take-name-e")).to_contain_text("more than a number")
    page.locator("#take-name").fill("before")
    page.locator("#take-description").fill("with <all> & sundry")
    page.locator("#take [type=submit]").click()
    expect(row(page, "before")).to_contain_text("You are here", timeout=SLOW_MS)
    expect(row(page, "before")).to_contain_text("with memory")
    expect(page.locator("#vm-head .pill .txt")).to_have_text("Running")
    assert snapshots(guest) == ["before"]

    with guest.console() as console:
        console.ask("echo gone >/dev/shm/memory; echo gone >/disk/disk; sync; echo changed-$((6*7))", "changed-42")
    guest.virsh("snapshot-create-as", "--name", "by virsh", timeout=120)
    expect(row(page, "by virsh")).to_contain_text("You are here", timeout=SLOW_MS)

    row(page, "before").locator("[data-snapshot-revert]").click()
    question = page.locator("dialog[open]")
    expect(question).to_contain_text("goes on from that moment")
    expect(question.locator("[type=submit]")).to_be_disabled()
    question.locator("input").fill(guest.name)
    shot(page, "snapshots-revert")
    question.locator("[type=submit]").click()
    expect(row(page, "before")).to_contain_text("You are here", timeout=SLOW_MS)
    expect(page.locator("#vm-head .pill .txt")).to_have_text("Running")
    assert guest.virsh("snapshot-current", "--name") == "before"
    with guest.console() as console:
        console.ask("ls /dev/shm/memory /disk/disk /disk/boots; echo seen-$((6*7))", "seen-42")
        seen = console.ask("cat /dev/shm/memory /disk/disk; echo again-$((6*7))", "again-42")
    assert "No such file" in seen
    assert "gone" not in seen.replace("gone >", "")

    row(page, "before").focus()
    page.keyboard.press("Delete")
    question.locator("input[name=children]").check()
    question.locator("[type=submit]").click()
    expect(page.locator("#main")).to_contain_text("No snapshots yet", timeout=SLOW_MS)
    assert snapshots(guest) == [""]
    assert guest.running
