"""Images in a real browser: a file is dropped, goes up, is paused and gone on with after a reload, and becomes an image in a real pool."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from core.units import MIB
from tests.browser.conftest import live
from tests.browser.test_pages import check
from tests.labs.local import PREFIX, QEMU_URI
from tests.transfers import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.real]

DROP = """([name, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { lastModified: 1 }));
  for (const type of ["dragenter", "dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: carried }));
}"""


@pytest.fixture
def pool(product: Server, pool_home: Path) -> Iterator[tuple[str, Path]]:
    """A pool of this machine, its id and where it is; no image is left after the test."""
    host = next(one for one in product.all("/hypervisors") if one["uri"] == QEMU_URI)["host"]
    body = {"host": host, "name": f"{PREFIX}browser", "type": "dir", "target": str(pool_home / "p"), "autostart": False}
    made = product.api("POST", "/storage-pools", json=body, Prefer="wait=30").json()
    assert made["state"] == "succeeded", made["error"]
    yield made["result"]["pool"], pool_home / "p"
    for image in product.all("/images"):
        product.api("DELETE", f"/images/{image['id']}", Prefer="wait=20")
    product.api("DELETE", f"/storage-pools/{made['result']['pool']}", Prefer="wait=20")


def drop(page: Page, name: str, content: bytes) -> None:
    page.evaluate(DROP, [name, base64.b64encode(content).decode()])


def send(page: Page, name: str, pool: str) -> None:
    """The dialog that a dropped file opens."""
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_label("Into pool").select_option(pool)
    dialog.get_by_role("button", name="Upload").click()


def slow_down(page: Page, bytes_per_second: int) -> None:
    """So that there is something to see."""
    line = page.context.new_cdp_session(page)
    line.send("Network.enable")
    throughput = {"downloadThroughput": -1, "uploadThroughput": bytes_per_second}
    line.send("Network.emulateNetworkConditions", {"offline": False, "latency": 0, **throughput})


def test_a_file_when_dropped_then_its_progress_shows_and_it_becomes_an_image(
    page: Page, product: Server, pool: tuple[str, Path], tmp_path: Path
) -> None:
    content = files.disk(tmp_path / "a", size=16 * MIB, content=os.urandom(12 * MIB)).read_bytes()
    page.goto("/images")
    live(page)
    slow_down(page, 6 * MIB)
    drop(page, "debian-12-genericcloud-amd64.qcow2", content)
    send(page, "debian", pool[0])
    row = page.locator("[data-uploads-list] li")
    expect(row).to_contain_text(re.compile(r"\d+ % of [\d.]+ MiB, [\d.]+ MiB/s"))
    check(page, "images-uploading")
    row.get_by_role("button", name="Pause").click()
    expect(row).to_contain_text("Paused at")
    page.reload()
    expect(row).to_contain_text("Choose the same file to go on")
    drop(page, "debian-12-genericcloud-amd64.qcow2", content)
    image = page.locator("#images tbody tr")
    expect(image).to_contain_text("Ready")
    expect(image).to_contain_text("Debian 12")
    expect(page.locator("[data-uploads]")).to_be_hidden()
    (file,) = pool[1].iterdir()
    assert file.read_bytes() == content
    image.get_by_role("link", name="debian").click()
    expect(page.locator("h1")).to_have_text("debian")
    expect(page.locator("#main")).to_contain_text(hashlib.sha256(content).hexdigest())
    check(page, "image")


def test_an_image_when_deleted_with_its_name_typed_then_gone_from_page_and_pool(
    page: Page, product: Server, pool: tuple[str, Path], tmp_path: Path
) -> None:
    page.goto("/images")
    live(page)
    drop(page, "install.iso", files.iso(tmp_path / "a").read_bytes())
    send(page, "install", pool[0])
    page.get_by_role("link", name="install", exact=True).click()
    live(page)
    page.get_by_role("button", name="Delete").click()
    page.get_by_label("Type the name to confirm").fill("install")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("#main")).to_contain_text("This image was deleted.")
    assert list(pool[1].iterdir()) == []
