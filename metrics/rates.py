"""Counters become rates. Pure: two readings in, values out; no database, no clock.

Time is the readings' own monotonic one, so that a wall clock that steps does no harm. A counter that went down was reset (a
guest that restarted, a device that was replaced): what happened in between cannot be known, and is null, never negative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drivers.types import GuestStats, HostStats

LEAST_SECONDS = 0.2
"""Two readings closer together than this say nothing: counters are updated in ticks."""
MOST_SECONDS = 300.0
"""Two readings further apart than this are not connected: their mean would be drawn as one point in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """One measurement, names and units of the contract; None where unknown."""

    cpu_ratio: float | None = None
    memory_bytes: int | None = None
    disk_read_bytes_per_second: float | None = None
    disk_write_bytes_per_second: float | None = None
    network_receive_bytes_per_second: float | None = None
    network_transmit_bytes_per_second: float | None = None


NAMES: tuple[str, ...] = tuple(field.name for field in fields(Values))
"""The series, in the order in which they are listed."""


def guest_values(before: GuestStats | None, now: GuestStats) -> Values:
    """Rates of one guest between two readings; without a usable `before` only what needs none."""
    elapsed = _elapsed(before.at if before else None, now.at)
    if before is None or elapsed is None:
        return Values(memory_bytes=_size(now.memory_bytes))
    return Values(
        cpu_ratio=_ratio(before.cpu_time_seconds, now.cpu_time_seconds, elapsed, max(now.vcpus, before.vcpus)),
        memory_bytes=_size(now.memory_bytes),
        disk_read_bytes_per_second=_rate(before.disk_read_bytes, now.disk_read_bytes, elapsed),
        disk_write_bytes_per_second=_rate(before.disk_write_bytes, now.disk_write_bytes, elapsed),
        network_receive_bytes_per_second=_rate(before.network_receive_bytes, now.network_receive_bytes, elapsed),
        network_transmit_bytes_per_second=_rate(before.network_transmit_bytes, now.network_transmit_bytes, elapsed),
    )


def host_values(before: HostStats | None, now: HostStats) -> Values:
    """Load of a host between two readings, and the memory that is in use."""
    used = None
    if now.memory_total_bytes is not None and now.memory_free_bytes is not None:
        used = max(0, now.memory_total_bytes - now.memory_free_bytes)
    elapsed = _elapsed(before.at if before else None, now.at)
    if before is None or elapsed is None:
        return Values(memory_bytes=_size(used))
    return Values(
        cpu_ratio=_ratio(before.cpu_busy_seconds, now.cpu_busy_seconds, elapsed, now.cpu_count),
        memory_bytes=_size(used),
    )


def _elapsed(before: float | None, now: float) -> float | None:
    if before is None or not math.isfinite(before) or not math.isfinite(now):
        return None
    elapsed = now - before
    return elapsed if LEAST_SECONDS <= elapsed <= MOST_SECONDS else None


def _rate(before: float | None, now: float | None, elapsed: float) -> float | None:
    if before is None or now is None:
        return None
    rate = (now - before) / elapsed
    return rate if math.isfinite(rate) and rate >= 0 else None


def _ratio(before: float | None, now: float | None, elapsed: float, cpus: int) -> float | None:
    rate = _rate(before, now, elapsed)
    # A reading takes a moment, so that a busy guest comes out a little above all its CPUs.
    return None if rate is None or cpus < 1 else min(1.0, rate / cpus)


def _size(value: int | None) -> int | None:
    return None if value is None or value < 0 else min(value, 2**63 - 1)
