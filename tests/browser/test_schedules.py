"""Snapshot schedules in a real browser: one is made from its form, which says what it would do, switched off, and deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import live
from tests.labs.local import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

    from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.real]

NAME = f"{PREFIX}nightly"


@pytest.fixture
def forgotten(product: Server) -> Iterator[None]:
    """No schedule of this test is left."""
    yield
    for schedule in product.all(f"/snapshot-schedules?q={NAME}"):
        product.api("DELETE", f"/snapshot-schedules/{schedule['id']}")


def test_a_schedule_is_made_switched_off_and_deleted(new_page: Callable[..., Page], forgotten: None) -> None:
    page = new_page(provoked=r"status of 4(09|22)", timezone_id="Europe/Berlin")
    page.goto("/snapshot-schedules/new")
    live(page)
    form, told = page.locator("[data-schedule-form]"), page.locator("[data-schedule-preview]")
    form.get_by_label("Guests").fill("tga:prod")
    expect(told).to_contain_text("was tag: meant?")
    form.get_by_label("Guests").fill("tag:nobody-has-this")
    expect(told).to_contain_text("no guest")
    expect(told).to_contain_text("Europe/Berlin")
    form.get_by_label("Weekly").first.check()
    expect(form.get_by_label("Hours between")).to_be_hidden()
    form.get_by_label("Day", exact=True).select_option("sunday")
    expect(told).to_contain_text("Sun")
    form.get_by_role("button", name="Make schedule").click()
    expect(form.locator("#sc-name-e")).to_be_visible()
    form.get_by_label("Name").fill(NAME)
    form.get_by_role("button", name="Make schedule").click()

    expect(page.locator("h1")).to_have_text(NAME)
    switch = page.get_by_role("switch", name="On")
    expect(switch).to_have_attribute("aria-checked", "true")
    switch.click()
    expect(page.locator("#main")).to_contain_text("No: it takes nothing")
    page.goto(f"/snapshot-schedules?q={NAME}")
    row = page.locator("#schedules [data-schedule]")
    expect(row).to_contain_text("Sundays at 02:00")
    row.get_by_role("button", name="Run now").click()
    expect(page.locator("#toasts")).to_contain_text("No guest matches its filter")
    page.get_by_role("link", name=NAME).click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.locator("dialog[open] [type=submit]").click()
    expect(page.locator("h1")).to_have_text("Snapshot schedules")
    expect(page.locator("#main")).not_to_contain_text(NAME)
