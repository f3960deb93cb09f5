"""One guest's life, from both sides: what is done in the browser is checked with virsh, what virsh does must show by itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import live, shot
from tests.labs.local import virsh
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import FrameLocator, Page

    from tests.labs.fixtures import GuestFactory, QemuGuestFactory
    from tests.labs.local import Guest
    from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.real]
# Emulated guests share two cores with everything else that runs.
SLOW_MS = 60_000


def row_of(page: Page, guest: Guest):
    return page.locator(f"#list tr[data-name='{guest.name}']")


def open_list(page: Page, guest: Guest) -> None:
    page.goto(f"/vms?q=name:{guest.name}")
    live(page)


def open_guest(page: Page, product: Server, guest: Guest) -> str:
    """Its page; the guest's id here."""
    found = wait_until(lambda: product.all(f"/vms?q={guest.uuid}"), 15, f"{guest.name} is known")
    page.goto(f"/vms/{found[0]['id']}")
    live(page)
    expect(page.locator("h1.page")).to_have_text(guest.name)
    return str(found[0]["id"])


def console(page: Page) -> FrameLocator:
    """The frame in the dock, once it is connected."""
    frame = page.frame_locator("#dock iframe:visible")
    frame.locator("body[data-state=open]").wait_for()
    return frame


def type_until(page: Page, frame: FrameLocator, line: str, answer: str) -> None:
    """Type a line until its answer stands on the terminal: what comes before a shell listens is lost."""

    def answered() -> bool:
        frame.locator(".xterm-helper-textarea").focus()
        page.keyboard.type(f"{line}\n", delay=5)
        try:
            expect(frame.locator(".xterm-rows")).to_contain_text(answer, timeout=3000)
        except AssertionError:
            return False
        return True

    wait_until(answered, SLOW_MS / 1000, f"the console says {answer}")


def test_defined_beside_when_the_list_is_open_then_announced_and_shown(
    page: Page, product: Server, qemu_guest: QemuGuestFactory
) -> None:
    page.goto("/vms")
    live(page)
    guest = qemu_guest(kind="bootsector")
    wait_until(lambda: product.all(f"/vms?q={guest.uuid}"), 15, f"{guest.name} is known")
    page.locator("[data-new-for=vms]:visible").wait_for()
    assert row_of(page, guest).count() == 0  # nothing moves under the pointer
    page.keyboard.press("r")
    expect(row_of(page, guest).locator(".c-state .txt")).to_have_text("Shut off")
    guest.remove()
    page.locator(f"tr.gone[data-name='{guest.name}']").wait_for()


def test_a_linux_guest_when_started_here_then_boots_answers_and_ends(
    page: Page, product: Server, qemu_guest: QemuGuestFactory
) -> None:
    """The main path: start, badge, serial console, charts, shut down."""
    guest = qemu_guest()
    open_guest(page, product, guest)
    page.locator("[data-action=start]").first.click()
    expect(page.locator(".toast b").first).to_contain_text(f"Start: {guest.name}")
    expect(page.locator("#vm-head .pill .txt")).to_have_text("Running", timeout=SLOW_MS)
    assert guest.running

    page.keyboard.press("c")
    frame = console(page)
    type_until(page, frame, "echo it-is-$((6*7))", "it-is-42")
    shot(page, "guest-serial")
    page.keyboard.press("Control+Shift+Q")
    expect(page.locator("#dock")).to_have_attribute("data-open", "false")

    expect(page.locator("[data-read=memory]")).to_contain_text("MiB", timeout=SLOW_MS)
    before = page.locator("[data-chart=cpu]").evaluate("canvas => canvas.toDataURL()")
    wait_until(
        lambda: page.locator("[data-chart=cpu]").evaluate("canvas => canvas.toDataURL()") != before,
        20,
        "the chart of the CPU moves",
        interval=0.2,
    )

    page.locator("[data-page] [data-action=shutdown]").first.click()
    expect(page.locator("#vm-head .pill .txt")).to_have_text("Shut off", timeout=SLOW_MS)
    guest.wait_state("shut off")
    expect(page.locator("#ops-h").locator("xpath=ancestor::section")).to_contain_text("Shut down")
    expect(page.locator("#feed")).to_contain_text("shut off")
    shot(page, "guest-off", whole=True)


def test_suspended_beside_when_looked_at_then_shown_within_seconds(
    page: Page, product: Server, qemu_guest: QemuGuestFactory, record_property
) -> None:
    guest = qemu_guest(kind="bootsector", start=True)
    open_guest(page, product, guest)
    expect(page.locator("#vm-head .pill .txt")).to_have_text("Running")
    # The moment is taken where the pixels are: by the page, at the frame in which the word stands there.
    page.evaluate(
        """() => { window.seen = new Promise((done) => new MutationObserver((_, watch) => {
          if (document.querySelector("#vm-head .pill .txt")?.textContent === "Paused") { watch.disconnect(); done(Date.now()); }
        }).observe(document.body, { subtree: true, childList: true, characterData: true })); }"""
    )
    guest.virsh("suspend")
    returned = time.time() * 1000
    milliseconds = page.evaluate("() => window.seen") - returned
    record_property("suspend_to_badge_ms", milliseconds)
    print(f"virsh suspend's return to the badge: {milliseconds:.0f} ms")
    assert milliseconds < 5000
    expect(page.locator("[data-action=resume]").first).to_be_enabled()
    guest.virsh("resume")
    expect(page.locator("#vm-head .pill .txt")).to_have_text("Running")


def test_two_guests_when_started_together_then_both_run(page: Page, qemu_guest: QemuGuestFactory) -> None:
    one, two = qemu_guest(kind="bootsector"), qemu_guest(kind="bootsector", start=True)
    three = qemu_guest(kind="bootsector")
    page.goto("/vms?q=name:vmmtest-sector")
    live(page)
    for guest in (one, two, three):
        if not row_of(page, guest).count():
            page.reload()
            live(page)
        row_of(page, guest).locator("input[type=checkbox]").check()
    bar = page.locator("[data-bulk]")
    expect(bar).to_contain_text("3 selected")
    shot(page, "bulk")
    bar.locator("[data-do=start]").click()
    dialog = page.get_by_role("dialog", name="Start 2 guests?")
    expect(dialog).to_contain_text("1 left out")
    expect(dialog).to_contain_text(two.name)
    shot(page, "bulk-refused")
    dialog.get_by_role("button", name="Start", exact=True).click()
    for guest in (one, three):
        expect(row_of(page, guest).locator(".c-state .txt")).to_have_text("Running", timeout=SLOW_MS)
        assert guest.running


def test_force_off_when_pressed_then_asks_first(page: Page, product: Server, qemu_guest: QemuGuestFactory) -> None:
    guest = qemu_guest(kind="bootsector", start=True)
    open_guest(page, product, guest)
    page.get_by_role("button", name="More ways to start and stop").click()
    page.locator("#power [data-action=force-off]").click()
    dialog = page.get_by_role("dialog", name=f"Force off {guest.name}?")
    expect(dialog).to_contain_text("what it has not written to disk is lost")
    dialog.get_by_role("button", name="Cancel").click()
    assert guest.running
    page.get_by_role("button", name="More ways to start and stop").click()
    page.locator("#power [data-action=force-off]").click()
    page.get_by_role("dialog").get_by_role("button", name="Force off").click()
    expect(page.locator("#vm-head .pill .txt")).to_have_text("Shut off", timeout=SLOW_MS)
    assert guest.state == "shut off"


def test_a_guest_that_ignores_shutdown_when_the_deadline_passes_then_force_is_offered(
    page: Page, product: Server, qemu_guest: QemuGuestFactory
) -> None:
    guest = qemu_guest(kind="bootsector", start=True)
    open_guest(page, product, guest)
    page.get_by_role("button", name="More ways to start and stop").click()
    page.locator("[data-shutdown-by]").click()
    dialog = page.get_by_role("dialog", name=f"Shut down {guest.name}")
    dialog.get_by_label("Deadline in seconds").fill("2")
    dialog.get_by_role("button", name="Shut down").click()
    toast = page.locator(".toast.crit")
    expect(toast).to_contain_text("did not shut down within 2 s", timeout=SLOW_MS)
    shot(page, "shutdown-ignored")
    toast.get_by_role("button", name="Force off").click()
    page.get_by_role("dialog").get_by_role("button", name="Force off").click()
    guest.wait_state("shut off")


def test_a_container_when_opened_then_its_shell_answers(page: Page, product: Server, lxc_guest: GuestFactory) -> None:
    guest = lxc_guest(start=True)
    vm = open_guest(page, product, guest)
    expect(page.locator("#vm-head .drv")).to_have_text("lxc")
    page.goto(f"/vms/{vm}#console")
    frame = console(page)
    type_until(page, frame, "echo in-$((40+2))", "in-42")
    shot(page, "container-console")
    page.locator("[data-page] [data-action=shutdown]").first.click()
    expect(page.locator("#vm-head .pill .txt")).to_have_text("Shut off", timeout=SLOW_MS)
    guest.wait_state("shut off")


def test_a_screen_when_opened_then_shows_pixels(page: Page, product: Server, qemu_guest: QemuGuestFactory) -> None:
    guest = qemu_guest("--vnc", "tcp", kind="bootsector", start=True)
    open_guest(page, product, guest)
    page.locator("#vm-head [popovertarget=more]").click()
    page.locator("#more [data-console=vnc]").click()
    frame = console(page)
    canvas = frame.locator("#screen canvas")
    canvas.wait_for()

    def lit() -> int:
        """How many pixels are not black."""
        return canvas.evaluate(
            """(canvas) => { const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
              let n = 0; for (let i = 0; i < data.length; i += 4) if (data[i] + data[i + 1] + data[i + 2] > 96) n++; return n; }"""
        )

    wait_until(lambda: lit() > 200, SLOW_MS / 1000, "the screen shows something", interval=0.2)
    shot(page, "guest-screen")


def test_deleted_by_mistake_then_had_back_and_for_good_only_by_its_name(
    new_page: Callable[..., Page], product: Server, qemu_guest: QemuGuestFactory
) -> None:
    guest = qemu_guest(kind="bootsector", start=True)
    page = new_page(provoked="status of 409")  # what has ended cannot be cancelled: it is asked for the opposite
    vm = open_guest(page, product, guest)
    dialog = page.get_by_role("dialog", name=f"Delete {guest.name}?")
    go, head = dialog.get_by_role("button", name="Delete guest"), page.locator("#vm-head")

    def delete() -> None:
        page.locator("#vm-head [popovertarget=more]").click()
        page.locator("#more [data-delete]").click()
        expect(go).to_be_enabled()  # what can be undone takes no typing

    delete()
    expect(dialog).to_contain_text("forced off first")
    dialog.get_by_label("At once and for good").check()
    expect(go).to_be_disabled()
    dialog.get_by_label("At once and for good").uncheck()
    shot(page, "delete")
    go.click()
    expect(head).to_contain_text("In the bin")
    shot(page, "guest-in-the-bin")
    page.locator(".toast [data-undo]").click()
    expect(head).not_to_contain_text("In the bin")
    assert guest.name in virsh(guest.uri, "list", "--all", "--name").split()

    delete()
    go.click()
    expect(head).to_contain_text("In the bin")
    page.goto("/vms/bin")
    live(page)
    shot(page, "bin")
    page.locator(f"#bin-{vm} [data-delete]").click()
    expect(go).to_be_disabled()
    dialog.get_by_label("Type the name to confirm").fill(guest.name)
    shot(page, "delete-for-good")
    go.click()
    expect(page.locator(f"#bin-{vm}")).to_have_count(0)
    assert guest.uuid not in virsh(guest.uri, "list", "--all", "--uuid").split()
    page.goto(f"/vms/{vm}")
    expect(page.locator("#main .note")).to_contain_text(f"{guest.name} is no longer defined on")
    shot(page, "guest-gone")


def test_described_and_switched_here_when_saved_then_shown_and_true(
    new_page: Callable[..., Page], product: Server, qemu_guest: QemuGuestFactory
) -> None:
    guest = qemu_guest(kind="bootsector")
    page = new_page(provoked="status of 422")
    vm = open_guest(page, product, guest)
    page.keyboard.press("e")
    page.get_by_label("Title", exact=True).fill("Front door")
    page.get_by_label("Tags", exact=True).fill("prod No!")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#edit-tags-e")).to_contain_text("no tag")
    page.get_by_label("Tags", exact=True).fill("prod web")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#vm-head")).to_contain_text("web")
    assert product.get(f"/vms/{vm}")["title"] == "Front door"
    page.get_by_role("switch", name="Starts with host").click()
    expect(page.get_by_role("switch", name="Starts with host")).to_have_attribute("aria-checked", "true")
    assert "Autostart:      enable" in guest.virsh("dominfo")


def test_the_palette_when_a_verb_is_typed_then_does_it(
    page: Page, product: Server, qemu_guest: QemuGuestFactory
) -> None:
    guest = qemu_guest(kind="bootsector")
    wait_until(lambda: product.all(f"/vms?q={guest.uuid}"), 15, f"{guest.name} is known")
    page.goto("/")
    live(page)
    page.keyboard.press("Control+k")
    box = page.get_by_role("combobox", name="Search or run a command")
    box.fill(f"start {guest.name[-6:]}")
    expect(page.locator("#po [aria-selected=true]")).to_contain_text(f"Start {guest.name}")
    expect(page.locator("dialog.palette footer code")).to_contain_text("/actions/start")
    shot(page, "palette")
    page.keyboard.press("Enter")
    guest.wait_state("running", SLOW_MS / 1000)
    page.keyboard.press("Control+k")
    box.fill(guest.uuid[:13])
    expect(page.locator("#po [aria-selected=true]")).to_contain_text(guest.name)
    page.keyboard.press("Enter")
    expect(page.locator("h1.page")).to_have_text(guest.name)


def test_the_keyboard_when_used_alone_then_enough(page: Page, qemu_guest: QemuGuestFactory) -> None:
    guest = qemu_guest(kind="bootsector")
    page.goto("/vms")
    live(page)
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type(f"name:{guest.name}\n")
    expect(page.locator("#list tr[data-vm]")).to_have_count(1)
    expect(page.locator(".chip")).to_contain_text(guest.name)
    page.keyboard.press("Escape")
    expect(row_of(page, guest).locator("a.name")).to_be_focused()
    page.keyboard.press("p")
    expect(page.locator("[data-peek] h2")).to_have_text(guest.name)
    shot(page, "peek")
    page.keyboard.press("s")
    expect(row_of(page, guest).locator(".c-state .txt")).to_have_text("Running", timeout=SLOW_MS)
    page.keyboard.press("x")
    expect(page.locator("[data-bulk]")).to_contain_text("1 selected")
    page.keyboard.press("Escape")
    expect(page.locator("[data-bulk]")).to_be_hidden()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard map")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    expect(page.locator("h1.page")).to_have_text(guest.name)
