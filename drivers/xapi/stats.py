"""Counters from XAPI's round-robin databases (`/rrd_updates`).

XAPI tells averages over 5 s, never totals. So each row is integrated once: counters begin at 0 when a session first looks, and what
happened while nobody looked for ten minutes (as long as XAPI keeps rows of 5 s) is missing from them. `at` is the time of the last
row, not of the question: a difference of counters divided by a difference of `at` is exactly what XAPI measured.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.parsers import expat

from drivers.types import GuestStats
from drivers.xapi.errors import Garbled, translate
from drivers.xapi.wire import refuse_doctype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BODY_BYTES = 32 * 1024 * 1024
FRESH_SECONDS = 0.9
"""Who asks again so soon gets what is there."""
JUMP_SECONDS = 60
_LARGEST = 1e15
_LEGEND = re.compile(r"AVERAGE:(vm|host):([0-9a-f-]{36}):([A-Za-z0-9_-]{1,64})")
_CPU = re.compile(r"cpu[0-9]{1,4}")
_RATES = (
    (_CPU, "cpu"),
    (re.compile(r"vbd_[A-Za-z0-9-]+_read"), "disk_read_bytes"),
    (re.compile(r"vbd_[A-Za-z0-9-]+_write"), "disk_write_bytes"),
    (re.compile(r"vbd_[A-Za-z0-9-]+_iops_read"), "disk_read_requests"),
    (re.compile(r"vbd_[A-Za-z0-9-]+_iops_write"), "disk_write_requests"),
    (re.compile(r"vif_[0-9]+_rx"), "network_receive_bytes"),
    (re.compile(r"vif_[0-9]+_tx"), "network_transmit_bytes"),
)
_GAUGES = ("memory", "memory_internal_free", "memory_total_kib", "memory_free_kib")


@dataclass(frozen=True, slots=True)
class Export:
    """One answer, rows oldest first."""

    step: int
    end: int
    legend: tuple[str, ...]
    rows: tuple[tuple[int, tuple[float, ...]], ...]


@dataclass(slots=True)
class Counted:
    """What was added up for one guest or host."""

    at: float = 0.0
    cpus: int = 0
    totals: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    gauges: dict[str, float] = field(default_factory=dict)


class Source:
    """The counters of one host of the pool. To be used under the lock of its `Counters`.

    Args:
        fetch: Path → body. Raises DriverError.
        now: The host's own clock, seconds since 1970.
    """

    def __init__(self, fetch: Callable[[str], bytes], now: Callable[[], int]) -> None:
        self._fetch = fetch
        self._now = now
        self._last = 0
        self._offset: float | None = None
        self.counted: dict[tuple[str, str], Counted] = {}

    def update(self) -> None:
        """Add the rows that are new. Raises DriverError; what was counted stays."""
        begin = self._last == 0
        start = self._now() - 20 if begin else self._last + 1
        export = parse(self._fetch(f"/rrd_updates?start={start}&interval=5&cf=AVERAGE&host=true"))
        if export.end < self._last - JUMP_SECONDS:
            self._last = export.end  # the host's clock was set back
        columns = list(_columns(export.legend))
        present = {(kind, uuid) for _, kind, uuid, _ in columns}
        self.counted = {key: counted for key, counted in self.counted.items() if key in present}
        for moment, values in export.rows[-1:] if begin else export.rows:
            if moment > self._last:
                self._add(moment, values, columns, 0 if begin else export.step)

    def _add(
        self, moment: int, values: Sequence[float], columns: Sequence[tuple[int, str, str, str]], step: int
    ) -> None:
        if self._offset is None:
            self._offset = time.monotonic() - moment
        self._last = moment
        cpus: dict[tuple[str, str], int] = defaultdict(int)
        for place, kind, uuid, name in columns:
            value = values[place] if place < len(values) else math.nan
            if not 0 <= value <= _LARGEST:  # NaN too: it did not run then, or it is nonsense
                continue
            counted = self.counted.setdefault((kind, uuid), Counted())
            counted.at = moment + self._offset
            if name in _GAUGES:
                counted.gauges[name] = value
            total = next((total for pattern, total in _RATES if pattern.fullmatch(name)), None)
            if total is not None:
                counted.totals[total] += value * step
                cpus[kind, uuid] += total == "cpu"
        for key, count in cpus.items():
            self.counted[key].cpus = count


class Counters:
    """The counters of a pool. Several threads may ask at once.

    Args:
        sources: The hosts as they are now, by a key of their own: called at each update. Raises DriverError.
    """

    def __init__(self, sources: Callable[[dict[str, Source]], dict[str, Source]]) -> None:
        self._find = sources
        self._sources: dict[str, Source] = {}
        self._lock = threading.Lock()
        self._fetched = -FRESH_SECONDS

    def read(self, kind: str) -> dict[str, Counted]:
        """UUID → what was counted of each `vm` or `host`. Raises DriverError."""
        with self._lock:
            if time.monotonic() - self._fetched >= FRESH_SECONDS:
                self._sources = self._find(self._sources)
                self._fetched = time.monotonic()
            return {
                uuid: Counted(counted.at, counted.cpus, dict(counted.totals), dict(counted.gauges))
                for source in self._sources.values()
                for (each, uuid), counted in source.counted.items()
                if each == kind
            }


def guest_stats(uuid: str, counted: Counted) -> GuestStats:
    """One guest's counters in the house's words."""

    def total(name: str) -> int | None:
        return int(counted.totals[name]) if name in counted.totals else None

    held, free = counted.gauges.get("memory"), counted.gauges.get("memory_internal_free", 0.0) * 1024
    return GuestStats(
        uuid=uuid,
        at=counted.at,
        vcpus=max(1, counted.cpus),
        cpu_time_seconds=counted.totals.get("cpu"),
        memory_bytes=None if held is None else int(held - free if 0 < free <= held else held),
        disk_read_bytes=total("disk_read_bytes"),
        disk_write_bytes=total("disk_write_bytes"),
        disk_read_requests=total("disk_read_requests"),
        disk_write_requests=total("disk_write_requests"),
        network_receive_bytes=total("network_receive_bytes"),
        network_transmit_bytes=total("network_transmit_bytes"),
    )


def parse(body: bytes) -> Export:
    """Read an `xport` document. Raises Garbled."""
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse_doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    with translate():
        parser.Parse(body, True)  # noqa: FBT003 - expat's own signature
    if reader.step is None or reader.finish is None or not 1 <= reader.step <= 86400:
        message = "The hypervisor's counters cannot be read."
        raise Garbled(message)
    return Export(reader.step, reader.finish, tuple(reader.legend), tuple(sorted(reader.rows, key=lambda row: row[0])))


class _Reader:
    def __init__(self) -> None:
        self.step: int | None = None
        self.finish: int | None = None
        self.legend: list[str] = []
        self.rows: list[tuple[int, tuple[float, ...]]] = []
        self._text: list[str] = []
        self._moment = 0
        self._values: list[float] = []

    def start(self, tag: str, _attributes: dict[str, str]) -> None:
        self._text = []
        if tag == "row":
            self._moment, self._values = 0, []

    def data(self, text: str) -> None:
        self._text.append(text)

    def end(self, tag: str) -> None:
        text = "".join(self._text).strip()
        self._text = []
        match tag:
            case "step":
                self.step = int(text)
            case "end":
                self.finish = int(text)
            case "entry":
                self.legend.append(text)
            case "t":
                self._moment = int(text)
            case "v":
                self._values.append(float(text))
            case "row":
                self.rows.append((self._moment, tuple(self._values)))


def _columns(legend: Sequence[str]) -> Iterator[tuple[int, str, str, str]]:
    for place, entry in enumerate(legend):
        match = _LEGEND.fullmatch(entry)
        if match is not None:
            yield place, match[1], match[2], match[3]
