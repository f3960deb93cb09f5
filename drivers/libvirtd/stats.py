"""Libvirt's statistics become `GuestStats`: one bulk call, or guest by guest where the driver has none."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import libvirt

from drivers.libvirtd.xml.domain import Domain
from drivers.types import Feature, GuestStats, HostStats

if TYPE_CHECKING:
    from collections.abc import Mapping

KIB = 1024
NANOSECONDS = 1_000_000_000

GROUPS = (
    libvirt.VIR_DOMAIN_STATS_STATE
    | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
    | libvirt.VIR_DOMAIN_STATS_BLOCK
)
# NOWAIT always: with one hung QEMU the call took 30.5 s without it and 0.49 s with it (measured).
FLAGS = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT

_OF: dict[Feature, tuple[str, ...]] = {
    Feature.METRICS_CPU: ("cpu_time_seconds",),
    Feature.METRICS_MEMORY: ("memory_bytes",),
    Feature.METRICS_DISK: ("disk_read_bytes", "disk_write_bytes", "disk_read_requests", "disk_write_requests"),
    Feature.METRICS_NETWORK: ("network_receive_bytes", "network_transmit_bytes"),
}

Values = "Mapping[str, int | str | bool | float]"


def _int(values: Mapping[str, object], key: str) -> int | None:
    value = values.get(key)
    return value if isinstance(value, int) else None


def _total(values: Mapping[str, object], group: str, suffix: str) -> int | None:
    """Sum over `group.<n>.<suffix>`; None where no device tells (a guest without disks has 0)."""
    count = _int(values, f"{group}.count")
    if count is None:
        return None
    found = [_int(values, f"{group}.{index}.{suffix}") for index in range(count)]
    known = [value for value in found if value is not None]
    return sum(known) if known or not count else None


def memory_in_use(values: Mapping[str, object], *, prefix: str = "") -> int | None:
    """Bytes in use by the guest if its balloon driver tells, else what the host holds for it. libvirt counts in KiB."""
    available = _int(values, f"{prefix}available")
    # `usable` counts caches as free, as people expect; `unused` is its older, poorer twin.
    spare = _int(values, f"{prefix}usable")
    if spare is None:
        spare = _int(values, f"{prefix}unused")
    if available is not None and spare is not None and available >= spare:
        return (available - spare) * KIB
    held = _int(values, f"{prefix}rss")
    if held is None:
        held = _int(values, f"{prefix}current") if prefix else _int(values, "actual")
    return None if held is None else held * KIB


def from_bulk(uuid: str, values: Mapping[str, object], at: float) -> GuestStats | None:
    """One record of the bulk call; None for a guest that libvirt skipped because its monitor is busy."""
    cpu_time = _int(values, "cpu.time")
    if cpu_time is None:
        return None
    return GuestStats(
        uuid=uuid,
        at=at,
        vcpus=_int(values, "vcpu.current") or 1,
        cpu_time_seconds=cpu_time / NANOSECONDS,
        memory_bytes=memory_in_use(values, prefix="balloon."),
        disk_read_bytes=_total(values, "block", "rd.bytes"),
        disk_write_bytes=_total(values, "block", "wr.bytes"),
        disk_read_requests=_total(values, "block", "rd.reqs"),
        disk_write_requests=_total(values, "block", "wr.reqs"),
        network_receive_bytes=_total(values, "net", "rx.bytes"),
        network_transmit_bytes=_total(values, "net", "tx.bytes"),
    )


def one_by_one(domain: libvirt.virDomain) -> GuestStats:
    """The same by per-guest calls: some round trips a guest, each group by itself tolerated missing.

    Raises:
        libvirt.libvirtError: The guest is gone, or not running.
    """
    _state, _max_kib, memory_kib, vcpus, cpu_time = domain.info()
    at = time.monotonic()
    definition = Domain.parse(domain.XMLDesc(0))
    disks = _disk_counters(domain, definition)
    net = _net_counters(domain, definition)
    return GuestStats(
        uuid=domain.UUIDString(),
        at=at,
        vcpus=vcpus,
        cpu_time_seconds=cpu_time / NANOSECONDS,
        memory_bytes=_memory(domain, memory_kib),
        disk_read_bytes=disks and disks[1],
        disk_write_bytes=disks and disks[3],
        disk_read_requests=disks and disks[0],
        disk_write_requests=disks and disks[2],
        network_receive_bytes=net and net[0],
        network_transmit_bytes=net and net[1],
    )


def only(features: frozenset[Feature], stats: GuestStats) -> GuestStats:
    """Without what this kind of hypervisor does not tell: libvirt then answers what was defined, or 0."""
    blank: dict[str, Any] = {}
    for feature, names in _OF.items():
        if feature not in features:
            blank |= dict.fromkeys(names)
    return replace(stats, **blank) if blank else stats


def _memory(domain: libvirt.virDomain, memory_kib: int) -> int | None:
    try:
        used = memory_in_use(domain.memoryStats())
    except libvirt.libvirtError:
        used = None
    return memory_kib * KIB if used is None else used


def _disk_counters(domain: libvirt.virDomain, definition: Domain) -> tuple[int, int, int, int] | None:
    # The empty path means all devices: LXC's cgroup counts those also for a container that has only directories.
    targets = [disk.target for disk in definition.disks if disk.target] or [""]
    total = [0, 0, 0, 0]
    known = False
    for target in targets:
        try:
            counters = domain.blockStats(target)[:4]
        except libvirt.libvirtError:
            continue
        known = True
        total = [have + max(0, more) for have, more in zip(total, counters, strict=True)]
    return (total[0], total[1], total[2], total[3]) if known else None


def _net_counters(domain: libvirt.virDomain, definition: Domain) -> tuple[int, int] | None:
    received = sent = 0
    for interface in definition.interfaces:
        if interface.target is None:
            continue
        try:
            counters = domain.interfaceStats(interface.target)
        except libvirt.libvirtError:
            continue
        received += max(0, counters[0])
        sent += max(0, counters[4])
    return received, sent


def host_stats(connection: libvirt.virConnect, *, free_unit: int = 1) -> HostStats:
    """Counters of the host; what a driver does not tell is None."""
    busy: float | None = None
    counted: float | None = None
    try:
        cpu = connection.getCPUStats(libvirt.VIR_NODE_CPU_STATS_ALL_CPUS)
        counted = sum(value for name, value in cpu.items() if name != "utilization") / NANOSECONDS
        busy = sum(value for name, value in cpu.items() if name in {"kernel", "user", "intr"}) / NANOSECONDS
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
    at = time.monotonic()
    total, free = host_memory(connection, free_unit=free_unit)
    count = connection.getInfo()[2]
    return HostStats(
        at=at,
        cpu_count=count,
        # libvirt has no call for it. What all CPUs have counted since boot, idling and waiting too, is it as often as there are CPUs.
        uptime_seconds=None if counted is None else counted / max(1, count),
        cpu_busy_seconds=busy,
        memory_total_bytes=total,
        memory_free_bytes=free,
    )


def host_memory(connection: libvirt.virConnect, *, free_unit: int = 1) -> tuple[int | None, int | None]:
    """Total and free bytes. Free counts buffers and caches, which the kernel gives up when asked.

    `free_unit`: what the driver's `getFreeMemory` counts in, where it has no better call.
    """
    try:
        memory = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return connection.getInfo()[1] * KIB * KIB, _free_memory(connection, free_unit)
    free = sum(memory.get(name, 0) for name in ("free", "buffers", "cached"))
    return memory["total"] * KIB, free * KIB


def _free_memory(connection: libvirt.virConnect, unit: int) -> int | None:
    try:
        return connection.getFreeMemory() * unit
    except libvirt.libvirtError:
        return None
