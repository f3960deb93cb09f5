"""What it costs to do nothing: CPU and memory with a thousand defined guests, none running, and nobody looking.

The floor is the same server without any host, beside it in the same minute: what Python, Django and Celery take by themselves.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.fleet import SAMPLING, fleet_server
from bench.report import Row
from tests.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

AIM_PERCENT = 5.0
SETTLE_SECONDS = 10.0


def _proportional_mib(pid: int) -> float:
    """What it takes of memory, shared pages counted by their share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def run(quick: bool) -> Iterator[Row]:  # noqa: FBT001 - the one option of every bench
    seconds = 15.0 if quick else 60.0
    with fleet_server(1000, running_every=0) as server, Server(**SAMPLING) as empty:
        time.sleep(SETTLE_SECONDS)
        before = server.cpu_seconds(), empty.cpu_seconds()
        since = time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - since
        ours, floor = (100 * (one.cpu_seconds() - was) / took for one, was in zip((server, empty), before, strict=True))
        memory = server.memory_bytes() / 2**20, empty.memory_bytes() / 2**20
        proportional = _proportional_mib(server.pid), _proportional_mib(empty.pid)
        threads = server.threads(), empty.threads()
    base = {"bench": "idle", "against": "no host"}
    yield Row(
        figure=f"CPU, 1,000 defined guests, over {took:.0f} s", ours=ours, floor=floor, unit="% of a core",
        aim=f"< {AIM_PERCENT:.0f} %", met=ours < AIM_PERCENT, **base,
    )  # fmt: skip
    yield Row(figure="memory (RSS), 1,000 defined guests", ours=memory[0], floor=memory[1], unit="MiB", **base)
    yield Row(
        figure="memory (PSS), 1,000 defined guests", ours=proportional[0], floor=proportional[1], unit="MiB", **base
    )
    yield Row(figure="threads, 1,000 defined guests", ours=threads[0], floor=threads[1], unit="", **base)
