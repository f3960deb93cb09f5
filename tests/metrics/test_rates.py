"""Counters become rates: never negative, never above what there is, null where nothing can be known."""

from __future__ import annotations

import dataclasses
import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from drivers.types import GuestStats, HostStats
from metrics.rates import NAMES, guest_values, host_values

COUNTER = st.none() | st.integers(min_value=-(2**63), max_value=2**64)
SECONDS = st.none() | st.floats(min_value=-1e12, max_value=1e12) | st.sampled_from([math.nan, math.inf, -math.inf])
READING = st.builds(
    GuestStats,
    uuid=st.just("u"),
    at=st.floats(allow_nan=True, allow_infinity=True),
    vcpus=st.integers(min_value=-1, max_value=512),
    cpu_time_seconds=SECONDS,
    memory_bytes=COUNTER,
    disk_read_bytes=COUNTER,
    disk_write_bytes=COUNTER,
    network_receive_bytes=COUNTER,
    network_transmit_bytes=COUNTER,
)


@given(st.none() | READING, READING)
def test_no_two_readings_whatever_give_a_negative_or_infinite_value(before, now):
    values = guest_values(before, now)
    for name in NAMES:
        value = getattr(values, name)
        assert value is None or (math.isfinite(value) and value >= 0), name
    assert values.cpu_ratio is None or values.cpu_ratio <= 1


@given(st.lists(st.integers(min_value=0, max_value=2**40), min_size=2, max_size=30), st.integers(0, 29))
def test_a_reset_is_one_gap_and_the_sum_of_the_rest_is_what_was_counted(steps, reset_at):
    counter, clock, readings = 0, 100.0, []
    for number, step in enumerate(steps):
        counter = 0 if number == reset_at else counter + step
        clock += 5.0
        readings.append(GuestStats(uuid="u", at=clock, vcpus=1, disk_read_bytes=counter))
    rates = [guest_values(a, b).disk_read_bytes_per_second for a, b in itertools.pairwise(readings)]
    for (a, b), rate in zip(itertools.pairwise(readings), rates, strict=True):
        grown = b.disk_read_bytes - a.disk_read_bytes
        assert rate == (grown / 5.0 if grown >= 0 else None)


def reading(at: float, **values: object) -> GuestStats:
    return GuestStats(uuid="u", at=at, vcpus=2, **values)


def test_half_of_two_cpus_is_a_half():
    values = guest_values(reading(10, cpu_time_seconds=100), reading(15, cpu_time_seconds=105))
    assert values.cpu_ratio == 0.5


def test_first_reading_has_memory_only():
    values = guest_values(None, reading(10, cpu_time_seconds=100, memory_bytes=7, disk_read_bytes=1))
    assert dataclasses.asdict(values) == {**dict.fromkeys(NAMES), "memory_bytes": 7}


def test_readings_too_close_or_too_far_apart_are_not_connected():
    for after in (10.01, 10.0, 9.0, 2000.0):
        assert guest_values(reading(10, cpu_time_seconds=1), reading(after, cpu_time_seconds=2)).cpu_ratio is None


def test_host_memory_is_what_is_in_use():
    before = HostStats(at=0, cpu_count=4, cpu_busy_seconds=10, memory_total_bytes=100, memory_free_bytes=30)
    now = dataclasses.replace(before, at=10, cpu_busy_seconds=20)
    values = host_values(before, now)
    assert (values.cpu_ratio, values.memory_bytes) == (0.25, 70)
