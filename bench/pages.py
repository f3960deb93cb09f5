"""The list of guests, as page and over REST, with ten guests and with ten thousand: it must not matter.

Both servers are up at once and are asked in turn, by one client each on a connection that stays open.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from bench.fleet import fleet_server
from bench.report import Row, median, ms, percentile

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.server import Server

RATIO_AIM, P95_AIM_MS = 1.5, 100.0
FEW, MANY = 10, 10_000
LAST = "VM list page, its last 10"
TARGETS = {
    "VM list page (100 rows against 10)": "/vms",
    LAST: "/vms",
    "VM list page, sorted by memory (100 rows against 10)": "/vms?ordering=-memory_bytes",
    "VM list page, search that finds 10": "/vms?q=guest-0000",
    "API list (50 rows against 10)": "/api/v1/vms",
    "API list, limit=10": "/api/v1/vms?limit=10",
}
"""The aim can be read both ways: what an address answers by itself, which is more rows where there are more guests, and ten rows."""


class _Asker:
    """One client: signed in for pages, with a token for REST."""

    def __init__(self, server: Server, browser: httpx.Client) -> None:
        self._browser = browser
        self._browser.headers["Accept"] = "text/html,application/json"
        self._token = {"Authorization": f"Bearer {server.token('read')}"}
        self._paths = {**TARGETS, LAST: f"/vms?cursor={_cursor_to_last_ten(server)}"}
        self.times: dict[str, list[float]] = {name: [] for name in TARGETS}

    def ask(self, name: str, *, count: bool) -> None:
        path = self._paths[name]
        headers = self._token if path.startswith("/api/") else {}
        since = time.monotonic()
        answer = self._browser.get(path, headers=headers)
        seconds = time.monotonic() - since
        if answer.status_code != 200:
            raise RuntimeError(f"GET {path}: {answer.status_code} {answer.text[:500]}")
        if count:
            self.times[name].append(seconds)


def _cursor_to_last_ten(server: Server) -> str:
    """Where the list by name has ten more guests; the cursor of REST is that of the page. Empty where there are but ten."""
    cursor, left = "", server.get("/vms?limit=1")["total"] - FEW
    while left:
        step = min(left, 500)
        cursor = server.get(f"/vms?limit={step}&cursor={cursor}")["next"]
        left -= step
    return cursor


def run(quick: bool) -> Iterator[Row]:  # noqa: FBT001 - the one option of every bench
    many = 1000 if quick else MANY
    rounds = 20 if quick else 200
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(fleet_server(guests)) for guests in (FEW, many)]
        small, large = (_Asker(server, stack.enter_context(server.browser())) for server in servers)
        for number in range(-5, rounds):
            for name in TARGETS:
                for asker in (small, large) if number % 2 else (large, small):
                    asker.ask(name, count=number >= 0)
    for name in TARGETS:
        few, lots = small.times[name], large.times[name]
        ratio = median(lots) / median(few)
        yield Row(
            bench="pages", figure=f"{name}, {many:,} guests, p50 of {rounds}", ours=ms(median(lots)), floor=ms(median(few)),
            against="10 guests", aim=f"<= {RATIO_AIM} x", met=ratio <= RATIO_AIM,
        )  # fmt: skip
        slow = ms(percentile(lots, 95))
        yield Row(
            bench="pages", figure=f"{name}, {many:,} guests, p95", ours=slow, floor=ms(percentile(few, 95)), against="10 guests",
            aim=f"<= {P95_AIM_MS:.0f} ms", met=slow <= P95_AIM_MS,
        )  # fmt: skip
