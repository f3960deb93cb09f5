"""What the fleet can do and what is best, in a real browser: reasons by mouse and keys, answers while one types, in order on a phone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import live
from tests.browser.test_pages import LOOKS, SIZES, check
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.real]


@pytest.fixture(autouse=True)
def _probed(product: Server) -> None:
    """This machine's QEMU and LXC are there and have said what they can do."""
    wait_until(
        lambda: {one["driver"] for one in product.all("/hypervisors") if one["capabilities"]} >= {"qemu", "lxc"},
        30,
        "both are probed",
    )


def test_matrix_when_a_no_is_pressed_by_mouse_or_key_then_its_reason_is_said(page: Page) -> None:
    page.goto("/capabilities")
    live(page)
    cell = page.get_by_role("button", name=re.compile(r"^Screen by VNC on .*, lxc: no$"))
    reason = cell.get_attribute("data-why") or ""
    assert len(reason) > 10
    cell.click()
    expect(page.locator("#why")).to_contain_text(reason)
    expect(page.locator("#say")).to_have_text(reason)
    page.keyboard.press("Escape")
    expect(page.locator("#why")).to_be_hidden()
    cell.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#why")).to_contain_text(reason)


def test_matrix_when_only_differences_are_wanted_then_without_a_reload_and_in_the_address(page: Page) -> None:
    page.goto("/capabilities")
    live(page)
    page.evaluate("window.same = true")
    expect(page.locator(".matrix")).to_contain_text("force-off")
    page.get_by_role("switch", name="Differences only").check()
    expect(page.locator(".matrix")).not_to_contain_text("force-off")
    expect(page).to_have_url(re.compile(r"/capabilities\?diff=1$"))
    assert page.evaluate("window.same")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    assert download.value.url.endswith("/capabilities.csv?diff=1")


def test_advice_when_the_form_is_filled_in_then_it_answers_at_once(page: Page) -> None:
    page.goto("/advise")
    live(page)
    page.evaluate("window.same = true")
    expect(page.locator(".ranked .drv", has_text="lxc")).to_be_visible()
    page.get_by_label("System").select_option("windows")
    expect(page.locator(".ranked .drv", has_text="lxc")).to_have_count(0)
    page.get_by_text(re.compile("will not do, and why$")).click()
    expect(page.locator("details.fold")).to_contain_text("shared_kernel")
    page.get_by_label("Memory, GiB").fill("100000")
    expect(page.locator("#advice")).to_contain_text("None of them will do")
    expect(page.locator("#advice")).to_contain_text("no_memory")
    expect(page).to_have_url(re.compile("guest_os=windows"))
    assert page.evaluate("window.same")


def test_palette_when_asked_which_is_best_then_leads_there(page: Page) -> None:
    page.goto("/")
    live(page)
    page.keyboard.press("Control+k")
    page.locator(".palette input").fill("which is")
    expect(page.locator(".palette .opt[aria-selected=true]")).to_contain_text("Which is best?")
    page.keyboard.press("Enter")
    page.wait_for_url("**/advise")


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_fleet_pages_when_looked_at_then_in_order(new_page: Callable[..., Page], size: str, theme: str) -> None:
    page = new_page(viewport=SIZES[size], color_scheme=theme, has_touch=size == "phone")
    for name, path in {
        "capabilities": "/capabilities",
        "architecture": "/architecture",
        "advise": "/advise?guest_os=windows&console=any",
    }.items():
        page.goto(path)
        live(page)
        check(page, f"{name}-{size}-{theme}")
