"""This machine by Linux's own account: for drivers of libvirt that say nothing of the host they run on."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

from drivers.types import HostStats

_KIB = 1024


def host_facts() -> dict[str, Any]:
    """What `drivers.types.HostInfo` wants to know of a machine, by its names."""
    memory = _memory()
    return {
        "hostname": platform.node(),
        "cpu_count": os.cpu_count() or 0,
        "cpu_model": cpu_name(),
        "cpu_architecture": platform.machine(),
        "memory_total_bytes": memory.get("MemTotal", 0),
        "memory_free_bytes": memory.get("MemAvailable", 0),
        "kernel": platform.release(),
    }


def host_stats() -> HostStats:
    """The counters of /proc/stat and /proc/meminfo."""
    memory = _memory()
    return HostStats(
        at=time.monotonic(),
        cpu_count=os.cpu_count() or 0,
        cpu_busy_seconds=_busy_seconds(),
        memory_total_bytes=memory.get("MemTotal"),
        memory_free_bytes=memory.get("MemAvailable"),
    )


def boot_id() -> str:
    """Linux makes another one up at each boot; "" where this is no Linux."""
    return next(iter(_lines("/proc/sys/kernel/random/boot_id")), "").strip()


def cpu_name() -> str:
    """This machine's CPU as Linux calls it; "" where it does not say."""
    lines = (line for line in _lines("/proc/cpuinfo") if line.startswith("model name"))
    return next(lines, "").partition(":")[2].strip()


def _memory() -> dict[str, int]:
    """/proc/meminfo in bytes."""
    found = {}
    for line in _lines("/proc/meminfo"):
        name, _, rest = line.partition(":")
        number, _, unit = rest.strip().partition(" ")
        if unit == "kB" and number.isdecimal():
            found[name] = int(number) * _KIB
    return found


def _busy_seconds() -> float | None:
    """All CPUs together, without idling and waiting for disks."""
    first = next(iter(_lines("/proc/stat")), "").split()
    if len(first) < 8 or first[0] != "cpu":
        return None
    user, nice, system, _idle, _iowait, irq, softirq = (int(word) for word in first[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
