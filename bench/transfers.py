"""A volume's bytes up and down, against `virsh vol-upload` and `vol-download` of the same file in the same run, in turn.

virsh's own start is taken off its figures, ours have everything in them: the connection of its own, and the end of the upload read
back. The best of several turns counts: what else the machine does falls on both, and not alike.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.report import Row, ms
from drivers import registry
from drivers.types import Endpoint, PoolSpec, VolumeSpec
from tests.labs import local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drivers.base import Session

MIB = 1 << 20
AIM = 0.8
"""At least so much of virsh's throughput."""
AIM_MEMORY = 32.0
"""MiB that may come on top, whatever is moved."""
POOL, VOLUME = "vmmtest-bench", "volume.raw"
NOWHERE = Path("/dev/null")
"""Where it comes down to while it is measured: writing a file is in neither figure."""

size_bytes = 256 * MIB
"""`python -m bench transfers --mib 4096` sets it."""


def run(quick: bool) -> Iterator[Row]:  # noqa: FBT001
    local.ensure_libvirtd()
    rounds = 2 if quick else 9
    session = registry.get("qemu").open(Endpoint(driver="qemu", uri=local.QEMU_URI))
    try:
        with local.pool_home() as home:
            session.pool_create(PoolSpec(name=POOL, type="dir", target=f"{home}/pool", autostart=False))
            try:
                session.volume_create(POOL, VolumeSpec(name=VOLUME, capacity_bytes=size_bytes))
                yield from _measure(session, home, rounds)
            finally:
                session.pool_delete(POOL)
    finally:
        session.close()


def _measure(session: Session, home: Path, rounds: int) -> Iterator[Row]:
    source, sink = home / "source", home / "sink"
    with source.open("wb") as file:
        for _ in range(0, size_bytes, MIB):
            file.write(os.urandom(MIB))
    ways: dict[str, tuple[Callable[[], None], Callable[[], object]]] = {
        "upload": (lambda: _up(session, source), lambda: local.virsh(*_virsh("vol-upload", source), timeout=600)),
        "download": (
            lambda: _down(session, NOWHERE),
            lambda: local.virsh(*_virsh("vol-download", NOWHERE), timeout=600),
        ),
    }
    _up(session, source)
    _down(session, sink)
    if not filecmp.cmp(source, sink, shallow=False):
        raise AssertionError("what came down is not what went up")
    sink.unlink()
    start = min(_cost(lambda: local.run("virsh", "--version")) for _ in range(5))
    mib = size_bytes / MIB
    for name, (ours, theirs) in ways.items():
        costs, floors = [], []
        for turn in range(rounds):
            for way in (ours, theirs) if turn % 2 else (theirs, ours):
                cost = _cost(way)
                if way is ours:
                    costs.append(cost)
                else:
                    floors.append((cost[0] - start[0], cost[1] - start[1]))
        with _peak() as peak:  # a turn of its own: who looks every 5 ms takes time from what is looked at
            ours()
        (wall, floor), (work, floor_work) = (
            [min(one[part] for one in each) for each in (costs, floors)] for part in (0, 1)
        )
        yield Row(
            bench="transfers",
            figure=f"{name} of {mib:,.0f} MiB, best of {rounds}",
            ours=mib / wall,
            unit="MiB/s",
            floor=mib / floor,
            against=f"virsh vol-{name}",
            aim=f"≥ {AIM} x",
            met=floor / wall >= AIM,
        )
        yield Row(
            bench="transfers",
            figure=f"processor time of the same {name}",
            ours=ms(work),
            floor=ms(floor_work),
            against="virsh's process",
        )
        yield Row(
            bench="transfers",
            figure=f"memory on top meanwhile, {name}",
            ours=peak[0] / MIB,
            unit="MiB",
            aim=f"≤ {AIM_MEMORY:.0f} MiB",
            met=peak[0] / MIB <= AIM_MEMORY,
        )


def _virsh(verb: str, file: Path) -> tuple[str, ...]:
    return local.QEMU_URI, verb, VOLUME, str(file), "--pool", POOL


def _up(session: Session, source: Path) -> None:
    with source.open("rb", buffering=0) as file:
        session.volume_upload(POOL, VOLUME, file.read, length=size_bytes)


def _down(session: Session, sink: Path) -> None:
    def write(piece: bytes) -> None:
        file.write(piece)

    with sink.open("wb", buffering=0) as file:
        session.volume_download(POOL, VOLUME, write)


def _cost(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and seconds of a processor: of this process and of the children that it waited for."""
    before, since = os.times(), time.perf_counter()
    call()
    seconds, after = time.perf_counter() - since, os.times()
    return seconds, sum(after[:4]) - sum(before[:4])


@contextlib.contextmanager
def _peak() -> Iterator[list[int]]:
    """The most bytes that this process had on top of what it had at first; right once the block is left."""
    before, most, over = _resident(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            most[0] = max(most[0], _resident() - before)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield most
    finally:
        over.set()
        watcher.join()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
