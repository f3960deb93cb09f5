"""Hosts added over REST until all their guests are in the API, against opening, listing and reading them with raw libvirt."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.fleet import SAMPLING, add_hosts, wait_for_guests, write_hosts
from bench.raw import read_everything
from bench.report import Row, median
from tests.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

RATIO_AIM, ADOPT_AIM_SECONDS = 5.0, 60.0


def _once(guests: int) -> tuple[float, float, float]:
    """Seconds of ours, of raw libvirt before it, and the server's memory afterwards in MiB."""
    with Server(**SAMPLING) as server:
        paths = write_hosts(server.data_dir / "hosts", guests)
        count, floor = read_everything(paths)
        if count != guests:
            raise RuntimeError(f"raw libvirt lists {count} of {guests} guests")
        server.token()  # made by a process of its own
        server.get("/vms?limit=1")
        # Refused for its tag, with its driver loaded by then: so is raw libvirt's library in this process.
        server.api("POST", "/hosts", json={"name": "none", "uri": "test:///default", "tags": ["!"]})
        since = time.monotonic()
        add_hosts(server, paths)
        return wait_for_guests(server, guests) - since, floor, server.memory_bytes() / 2**20


def run(quick: bool) -> Iterator[Row]:  # noqa: FBT001 - the one option of every bench
    found = [_once(1000) for _ in range(1 if quick else 5)]
    ours, floor = median([one[0] for one in found]), median([one[1] for one in found])
    yield Row(
        bench="inventory", figure=f"1,000 guests on 10 hosts, p50 of {len(found)}", ours=ours, unit="s", floor=floor,
        against="raw open, list, info, XML", aim=f"<= 5 x = {RATIO_AIM * floor:.2f} s", met=ours <= RATIO_AIM * floor,
    )  # fmt: skip
    if quick:
        return
    seconds, floor, memory = _once(10_000)
    yield Row(
        bench="inventory", figure="10,000 guests on 10 hosts adopted", ours=seconds, unit="s", floor=floor,
        against="raw open, list, info, XML", aim="<= 60 s", met=seconds <= ADOPT_AIM_SECONDS,
    )  # fmt: skip
    yield Row(bench="inventory", figure="memory after adopting 10,000", ours=memory, unit="MiB")
