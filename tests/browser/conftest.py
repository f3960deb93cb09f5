"""A real Chromium on the real product: `manage.py serve` as a process of its own, on this machine's own hypervisors.

`page` is signed in as administrator, and fails its test at the end if the browser's console said an error, a script threw, or
the policy refused something. What it showed is kept under `shots/`, which git does not.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Error, expect, sync_playwright

from tests.labs.fixtures import require, require_libvirtd
from tests.labs.local import LXC_URI, QEMU_URI
from tests.server import PASSWORD, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

SHOTS = Path(__file__).parent / "shots"
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run",
    "--disable-dev-shm-usage", "--disable-sync", "--disable-extensions", "--no-default-browser-check",
)  # fmt: skip
DESK = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
REFUSED = """addEventListener("securitypolicyviolation", (e) =>
  console.error(`policy: ${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`));"""
WAIT_MS = 20_000
CLOSE_SECONDS = 20.0
expect.set_options(timeout=WAIT_MS)  # a busy machine is slow, not wrong


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Lets the fixtures know whether the test itself failed."""
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def product() -> Iterator[Server]:
    """The product, with this machine as its host: one for the whole run, on a data directory of its own."""
    for uri in (QEMU_URI, LXC_URI):
        require_libvirtd(uri)
    with Server(VMM_LOCAL_HOST="auto") as server:
        yield server


# Of a module, not of the session: as long as Playwright lives, its event loop counts as running in this thread, and neither
# Django's database nor an asynchronous test of another module would work.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    require(lambda: Path(CHROMIUM).stat(), "no Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def session(chromium: Browser, product: Server) -> Any:
    """Cookies of somebody who signed in once."""
    context = chromium.new_context()
    sign_in(context.new_page(), product)
    state = context.storage_state()
    context.close()
    return state


def sign_in(page: Page, product: Server, password: str = PASSWORD) -> None:
    """Through the form."""
    page.goto(f"{product.url}/login")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", password)
    page.click("button[type=submit]")


@pytest.fixture
def new_page(
    chromium: Browser, product: Server, session: Any, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Page]]:
    """Opens windows, each a browser of its own: `new_page(viewport=PHONE, color_scheme="dark", signed_in=False)`.

    `provoked`: a pattern of the complaints that the test causes on purpose (a browser says each refused call on its console).
    """
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def make(*, signed_in: bool = True, provoked: str = r"(?!)", **options: Any) -> Page:
        options = {"viewport": DESK, "reduced_motion": "reduce", "base_url": product.url, **options}
        context = chromium.new_context(storage_state=session if signed_in else None, **options)
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        context.add_init_script(REFUSED)
        opened = context.new_page()
        opened.on("console", lambda message: complaints.extend(_complaint(message, provoked)))
        opened.on("pageerror", lambda error: complaints.append(f"script: {error}"))
        return opened

    yield make
    failed = request.node.stash.get(FAILED, True)
    if failed:
        SHOTS.mkdir(exist_ok=True)
        for number, context in enumerate(contexts):
            for opened in context.pages:
                _shoot(opened, SHOTS / f"failed-{request.node.name[:60]}-{number}.png")
        print(product.log[-6000:])
    for context in contexts:
        _close(context)
    assert complaints == [] or failed, f"the browser complained: {complaints}"


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """A desktop window, signed in."""
    return new_page()


def _complaint(message: ConsoleMessage, provoked: str) -> list[str]:
    text = f"{message.text} {message.location.get('url', '')}"
    return [] if message.type != "error" or re.search(provoked, text) else [f"console: {text}"]


def _close(context: BrowserContext) -> None:
    """Close it; a Chromium that never answers to that (seen on a busy machine, with a console open) loses its renderers.

    Their end makes it answer. What the page has to answer for is over by then: only the window is left.
    """
    watchdog = threading.Timer(CLOSE_SECONDS, _kill_renderers)
    watchdog.start()
    try:
        context.close()
    except Error as error:
        print(f"not closed in order: {error}")
    finally:
        watchdog.cancel()


def _kill_renderers() -> None:
    """Those of Chromiums that this very process has started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    for pid in parents:
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        with contextlib.suppress(OSError):
            if above == os.getpid() and b"--type=renderer" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


def _shoot(page: Page, path: Path) -> None:
    try:
        page.screenshot(path=path)
    except Error as error:  # a page that hangs must not hide why its test failed
        print(f"no picture: {error}")


def shot(page: Page, name: str, *, whole: bool = False) -> None:
    """Keep what is shown, for people."""
    SHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SHOTS / f"{re.sub(r'[^a-z0-9-]+', '-', name.lower())}.png", full_page=whole)


def live(page: Page) -> None:
    """Wait until the page follows what happens."""
    page.locator(".live.ok").wait_for(state="visible")
