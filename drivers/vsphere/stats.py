"""Counters out of averages: what vSphere tells of each 20 s is added up, and played back smoothly.

vSphere has no counters that only grow. It gives each running machine one sample every 20 s: CPU milliseconds used in those
20 s, and mean kilobytes and requests a second. Added up these are counters, exact at the samples' ends and rising evenly in
between. A sample is told some seconds after its end, so counters are read where the clock was `DELAY_SECONDS` ago: the rate
between two readings, however close, is then the true one of some half a minute before, and never a gap and a jump in turn.
A machine that has no samples yet has counters that stand at 0; what it lived before we looked is not in them.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pyVmomi import vim, vmodl

from drivers.types import GuestStats
from drivers.vsphere.collector import of_objects, retrieve
from drivers.vsphere.values import items, number, text
from drivers.vsphere.wire import moid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from drivers.vsphere.wire import Wire

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 20
DELAY_SECONDS = 30.0
"""One interval, and ten seconds in which a sample is made known."""
REANCHOR_SECONDS = 120.0
HISTORY = 12
"""Samples asked for at most: 4 minutes. After a longer silence counters go on where they stood."""
CHUNK = 250
"""Machines in one query."""
_KB = 1024

Counters = tuple[float, ...]

# What is added up, in the order of `Counters`: the counter's name, its instance, and what one unit of it means.
# virtualDisk counts per virtual disk, whatever its storage; disk.* would miss NFS and vSAN.
CPU = ("cpu.used.summation", "")
DISKS = (
    ("virtualDisk.read.average", "*"),
    ("virtualDisk.write.average", "*"),
    ("virtualDisk.numberReadAveraged.average", "*"),
    ("virtualDisk.numberWriteAveraged.average", "*"),
)
NETWORK = (("net.received.average", ""), ("net.transmitted.average", ""))
WANTED = (CPU, *DISKS, *NETWORK)
_KILO = frozenset(
    {"virtualDisk.read.average", "virtualDisk.write.average", "net.received.average", "net.transmitted.average"}
)


@dataclass
class Tape:
    """What is known of one machine: (end of a sample in the server's time, counters up to there), oldest first."""

    points: list[tuple[float, Counters]] = field(default_factory=list)
    offset: float | None = None
    """Server's time minus our monotonic one, for playing back."""

    def add(self, end: float, seconds: float, grown: Counters) -> None:
        """One more sample. One that is older than the newest is known already."""
        if not self.points:
            self.points.append((end - seconds, (0.0,) * len(grown)))
        newest, counters = self.points[-1]
        if end <= newest:
            return
        if end - seconds > newest + 1:
            self.points.append((end - seconds, counters))  # a hole, in which nothing is known to have happened
        self.points.append((end, tuple(a + b for a, b in zip(counters, grown, strict=True))))
        del self.points[: -HISTORY * 2]

    def read(self, now: float) -> Counters | None:
        """The counters as they were `DELAY_SECONDS` before `now` (monotonic)."""
        if not self.points:
            return None
        newest = self.points[-1][0]
        if self.offset is None or abs(newest - (now + self.offset) - DELAY_SECONDS) > REANCHOR_SECONDS:
            self.offset = newest - DELAY_SECONDS - now
        at = now + self.offset
        before = self.points[0]
        for point in self.points[1:]:
            if point[0] >= at:
                share = min(1.0, max(0.0, (at - before[0]) / (point[0] - before[0])))
                return tuple(a + (b - a) * share for a, b in zip(before[1], point[1], strict=True))
            before = point
        return before[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """One running machine and its quick statistics."""

    object: Any
    moid: str
    uuid: str
    vcpus: int
    memory_bytes: int | None
    cpu_mhz: int | None
    core_mhz: int


class Recorder:
    """Adds up what the performance manager tells. Thread-safe; one reading at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tapes: dict[str, Tape] = {}
        self._quick: dict[str, tuple[float, float]] = {}
        self._ids: dict[tuple[str, str], int] | None = None
        self._asked: float | None = None

    def read(self, wire: Wire, running: Sequence[Running], *, sampled: bool) -> list[GuestStats]:
        """Counters of these machines: a call for each `CHUNK` of them. `sampled` False: quick statistics alone."""
        with self._lock:
            self._forget({each.moid for each in running})
            if sampled and running:
                self._record(wire, running)
            now = time.monotonic()
            return [self._stats(each, now) for each in running]

    def _forget(self, present: set[str]) -> None:
        """A machine that does not run starts anew when it runs again."""
        for known in (self._tapes, self._quick):
            for gone in known.keys() - present:
                del known[gone]

    def _record(self, wire: Wire, running: Sequence[Running]) -> None:
        manager = wire.service("perfManager")
        if self._ids is None:
            known = retrieve(wire, of_objects([manager], vim.PerformanceManager, ["perfCounter"]))
            self._ids = counter_ids(items(known[0].get("perfCounter")) if known else ())
        if not self._ids:
            return
        now = time.monotonic()
        silence = HISTORY * INTERVAL_SECONDS if self._asked is None else now - self._asked
        samples = max(3, min(HISTORY, int(silence // INTERVAL_SECONDS) + 3))
        query = vim.PerformanceManager
        metrics = [query.MetricId(counterId=key, instance=name[1]) for name, key in self._ids.items()]
        names = {key: name for name, key in self._ids.items()}
        for start in range(0, len(running), CHUNK):
            specs = [
                query.QuerySpec(entity=each.object, metricId=metrics, intervalId=INTERVAL_SECONDS, maxSample=samples)
                for each in running[start : start + CHUNK]
            ]
            try:
                answers = items(manager.QueryPerf(specs))
            except (vmodl.fault.InvalidArgument, vmodl.fault.NotSupported, vim.fault.NoPermission) as error:
                # Some counter is not known there, or not ours to read: from now on what quick statistics tell.
                log.warning("no performance samples", extra={"fault": type(error).__name__})
                self._ids = {}
                return
            for answer in answers:
                if isinstance(answer, query.EntityMetric) and answer.entity is not None:
                    self._play(self._tapes.setdefault(moid(answer.entity), Tape()), answer, names)
        self._asked = now

    def _play(self, tape: Tape, answer: Any, names: Mapping[int, tuple[str, str]]) -> None:
        for end, seconds, grown in samples_of(answer, names):
            tape.add(end, seconds, grown)

    def _stats(self, each: Running, now: float) -> GuestStats:
        tape = self._tapes.get(each.moid)
        counters = tape.read(now) if tape else None
        ids = self._ids or {}
        cpu = (counters[0] if counters else 0.0) if CPU in ids else self._quick_cpu(each, now)
        told: dict[tuple[str, str], int] = {}
        if ids:
            grown = counters or (0.0,) * len(WANTED)
            told = {name: int(grown[place]) for place, name in enumerate(WANTED) if name in ids}
        read, write, reads, writes = (told.get(name) for name in DISKS)
        received, sent = (told.get(name) for name in NETWORK)
        return GuestStats(
            uuid=each.uuid,
            at=now,
            vcpus=each.vcpus,
            cpu_time_seconds=cpu,
            memory_bytes=each.memory_bytes,
            disk_read_bytes=read,
            disk_write_bytes=write,
            disk_read_requests=reads,
            disk_write_requests=writes,
            network_receive_bytes=received,
            network_transmit_bytes=sent,
        )

    def _quick_cpu(self, each: Running, now: float) -> float:
        """Where samples tell nothing: the load that is said now, taken to have lasted since the last reading."""
        at, seconds = self._quick.get(each.moid, (now, 0.0))
        if each.cpu_mhz is not None and each.core_mhz > 0:
            seconds += min(each.cpu_mhz / each.core_mhz, each.vcpus) * max(0.0, now - at)
        self._quick[each.moid] = (now, seconds)
        return seconds


def counter_ids(counters: Iterable[Any]) -> dict[tuple[str, str], int]:
    """The numbers of the counters that we want, on this server: they differ between versions."""
    wanted = {name: (name, instance) for name, instance in WANTED}
    found: dict[tuple[str, str], int] = {}
    for each in counters:
        parts = (
            getattr(getattr(each, "groupInfo", None), "key", None),
            getattr(getattr(each, "nameInfo", None), "key", None),
            getattr(each, "rollupType", None),
        )
        key = number(getattr(each, "key", None))
        name = wanted.get(".".join(text(part) for part in parts))
        if name is not None and key is not None:
            found[name] = key
    return found


def samples_of(answer: Any, names: Mapping[int, tuple[str, str]]) -> list[tuple[float, float, Counters]]:
    """(end, length in seconds, growth) of each sample of one machine. A missing value (-1) counts as nothing."""
    infos = items(answer.sampleInfo)
    grown = [[0.0] * len(WANTED) for _ in infos]
    for series in items(answer.value):
        name = names.get(number(getattr(getattr(series, "id", None), "counterId", None)) or 0)
        if name is None:
            continue
        for place, value in enumerate(items(getattr(series, "value", None))[: len(infos)]):
            seconds = number(getattr(infos[place], "interval", None)) or INTERVAL_SECONDS
            grown[place][WANTED.index(name)] += _growth(name[0], number(value) or 0, seconds)
    found = []
    for info, values in zip(infos, grown, strict=True):
        stamp = getattr(info, "timestamp", None)
        if isinstance(stamp, datetime):
            end = (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()
            found.append((end, float(number(getattr(info, "interval", None)) or INTERVAL_SECONDS), tuple(values)))
    return sorted(found)


def _growth(name: str, value: int, seconds: float) -> float:
    """What one value adds: seconds of CPU, bytes, or requests."""
    if name == CPU[0]:
        return value / 1000
    return value * seconds * (_KB if name in _KILO else 1)


class BusyMeter:
    """CPU seconds of hosts, from how busy they say they are: each reading is taken to have lasted since the last one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at: float | None = None
        self._seconds = 0.0

    def read(self, busy_cpus: float, now: float) -> float:
        """Add up. `busy_cpus`: how many CPUs' worth is used now."""
        with self._lock:
            if self._at is not None:
                self._seconds += busy_cpus * max(0.0, now - self._at)
            self._at = now
            return self._seconds
