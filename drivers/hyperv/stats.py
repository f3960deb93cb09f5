"""Counters of guests and host: Windows' raw performance counters, and the objects that have today's memory.

`Msvm_SummaryInformation` would tell a percentage of the moment (`ProcessorLoad`), for all guests in one message, which a host with
some hundred guests cannot send (`MaxEnvelopeSizekb`). The raw counters count since the guest's start, which is what the house
divides by time itself, and they come in pages. They name guests by name, not by GUID: of two guests of one name neither gets any.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from drivers.errors import Unsupported
from drivers.hyperv.guests import MIB, media_paths, owner_of
from drivers.hyperv.states import PAUSED, SAVED, state_of
from drivers.hyperv.wire import CIMV2, guid
from drivers.types import Feature, GuestState, GuestStats, HostStats

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drivers.hyperv.wire import Row, Wire

_TICKS = 10_000_000
"""Run times are in units of 100 ns."""

COUNTERS: Mapping[Feature, str] = {
    Feature.METRICS_CPU: "SELECT Name, PercentTotalRunTime FROM Win32_PerfRawData_HvStats_HyperVHypervisorVirtualProcessor",
    Feature.METRICS_DISK: "SELECT Name, ReadBytesPersec, WriteBytesPersec, ReadOperationsPerSec, WriteOperationsPerSec"
    " FROM Win32_PerfRawData_Counters_HyperVVirtualStorageDevice",
    Feature.METRICS_NETWORK: "SELECT Name, BytesReceivedPersec, BytesSentPersec"
    " FROM Win32_PerfRawData_NvspNicStats_HyperVVirtualNetworkAdapter",
}
_HOST_CPU = (
    "SELECT Name, PercentTotalRunTime FROM Win32_PerfRawData_HvStats_HyperVHypervisorLogicalProcessor"
    " WHERE Name = '_Total'"
)
_HOST_MEMORY = "SELECT TotalVisibleMemorySize, FreePhysicalMemory FROM Win32_OperatingSystem"
_SYSTEMS = "SELECT Name, ElementName, EnabledState FROM Msvm_ComputerSystem"
_PROCESSORS = "SELECT InstanceID, VirtualQuantity FROM Msvm_ProcessorSettingData"
_MEMORY = "SELECT SystemName, NumberOfBlocks FROM Msvm_Memory"
_IMAGES = "SELECT InstanceID, HostResource FROM Msvm_StorageAllocationSettingData"
_PORTS = "SELECT InstanceID FROM Msvm_SyntheticEthernetPortSettingData"
_REPLACED = str.maketrans({"(": "[", ")": "]", "#": "_", "/": "_", "\\": "_"})
"""What Windows makes of characters that have a meaning in a counter's path."""


def read(wire: Wire, features: frozenset[Feature]) -> list[GuestStats]:
    """Of all guests that run or are paused. As many questions for one guest as for a thousand."""
    at = time.monotonic()
    live = {name: row for row in wire.query(_SYSTEMS) if (name := guid(row.text("Name"))) and _is_live(row)}
    if not live:
        return []
    processors = {owner_of(row): row.number("VirtualQuantity") for row in wire.query(_PROCESSORS)}
    memory = _memory(wire)
    cpu = _cpu(wire, live) if Feature.METRICS_CPU in features else {}
    disks = _disks(wire, live) if Feature.METRICS_DISK in features else {}
    nets = _nets(wire, live) if Feature.METRICS_NETWORK in features else {}
    found = []
    for name in live:
        disk, net = disks.get(name, {}), nets.get(name, {})
        ticks = cpu.get(name)
        found.append(
            GuestStats(
                uuid=name.lower(),
                at=at,
                vcpus=processors.get(name) or 1,
                cpu_time_seconds=None if ticks is None else ticks / _TICKS,
                memory_bytes=memory.get(name),
                disk_read_bytes=disk.get("ReadBytesPersec"),
                disk_write_bytes=disk.get("WriteBytesPersec"),
                disk_read_requests=disk.get("ReadOperationsPerSec"),
                disk_write_requests=disk.get("WriteOperationsPerSec"),
                network_receive_bytes=net.get("BytesReceivedPersec"),
                network_transmit_bytes=net.get("BytesSentPersec"),
            )
        )
    return found


def read_host(wire: Wire, cpu_count: int) -> HostStats:
    """The hypervisor's own count of busy time (what guests use is in it; Windows' own counters do not see it)."""
    try:
        total = next(iter(wire.query(_HOST_CPU, CIMV2)), None)
    except Unsupported:
        total = None
    ticks = None if total is None else total.number("PercentTotalRunTime")
    memory = next(iter(wire.query(_HOST_MEMORY, CIMV2)), None)
    kib = (
        (None, None)
        if memory is None
        else (memory.number("TotalVisibleMemorySize"), memory.number("FreePhysicalMemory"))
    )
    return HostStats(
        at=time.monotonic(),
        cpu_count=cpu_count,
        cpu_busy_seconds=None if ticks is None else ticks / _TICKS,
        memory_total_bytes=None if kib[0] is None else kib[0] * 1024,
        memory_free_bytes=None if kib[1] is None else kib[1] * 1024,
    )


def missing(wire: Wire) -> dict[Feature, str]:
    """Which counters this host has not, and why. One message each."""
    reasons = {}
    for feature, query in COUNTERS.items():
        try:
            wire.query(query, CIMV2)
        except Unsupported:
            reasons[feature] = "This host has no such performance counters of Hyper-V."
    return reasons


def _memory(wire: Wire) -> dict[str, int]:
    """Bytes that each guest has now, by GUID. There is one object for all of it, and one for each of its NUMA nodes."""
    found: dict[str, int] = {}
    for row in wire.query(_MEMORY):
        name = row.text("SystemName").upper()
        found[name] = max(found.get(name, 0), (row.number("NumberOfBlocks") or 0) * MIB)
    return found


def _is_live(row: Row) -> bool:
    enabled = row.number("EnabledState")
    state, _ = state_of(enabled)
    return enabled in PAUSED or (enabled not in SAVED and state not in (GuestState.SHUTOFF, GuestState.UNKNOWN))


def _cpu(wire: Wire, live: Mapping[str, Row]) -> dict[str, int]:
    """Ticks by GUID. A counter is called `<guest's name>:Hv VP <number>`."""
    ticks: dict[str, int] = defaultdict(int)
    for row in wire.query(COUNTERS[Feature.METRICS_CPU], CIMV2):
        guest, mark, _ = row.text("Name").rpartition(":Hv VP ")
        if mark:
            ticks[guest] += row.number("PercentTotalRunTime") or 0
    names = {name: row.text("ElementName").translate(_REPLACED) for name, row in live.items()}
    shared = Counter(names.values())
    return {name: ticks[word] for name, word in names.items() if shared[word] == 1 and word in ticks}


def _disks(wire: Wire, live: Mapping[str, Row]) -> dict[str, dict[str, int]]:
    """Sums by GUID. A counter is called like its image, with `-` for each backslash."""
    counters = {_dashed(row.text("Name")): row for row in wire.query(COUNTERS[Feature.METRICS_DISK], CIMV2)}
    sums: dict[str, dict[str, int]] = {}
    for name, path in media_paths(wire.query(_IMAGES)):
        row = counters.get(_dashed(path))
        if name in live and row is not None:
            _add(sums.setdefault(name, {}), row, COUNTERS[Feature.METRICS_DISK])
    return sums


def _nets(wire: Wire, live: Mapping[str, Row]) -> dict[str, dict[str, int]]:
    """Sums by GUID. A counter's name has the GUID of its adapter in it, which is the last part of the port's identifier."""
    owners = {row.text("InstanceID").rpartition("\\")[2].upper(): owner_of(row) for row in wire.query(_PORTS)}
    sums: dict[str, dict[str, int]] = {}
    for row in wire.query(COUNTERS[Feature.METRICS_NETWORK], CIMV2):
        name = owners.get(row.text("Name")[-36:].upper())
        if name in live:
            _add(sums.setdefault(name or "", {}), row, COUNTERS[Feature.METRICS_NETWORK])
    return sums


def _add(sums: dict[str, int], row: Row, query: str) -> None:
    for column in query.partition(" FROM ")[0].removeprefix("SELECT Name, ").split(", "):
        value = row.number(column)
        if value is not None:
            sums[column] = sums.get(column, 0) + value


def _dashed(path: str) -> str:
    return path.replace("\\", "-").replace("/", "-").lower()
