"""The machine under a Hyper-V, from root/cimv2."""

from __future__ import annotations

import uuid as uuids
from importlib.metadata import version
from typing import TYPE_CHECKING

from drivers.hyperv.errors import malformed
from drivers.hyperv.guests import TECHNIQUES
from drivers.hyperv.wire import CIMV2, select
from drivers.types import HostInfo, VirtualizationType

if TYPE_CHECKING:
    from drivers.hyperv.wire import Row, Wire

_ARCHITECTURES = {0: "i686", 5: "armv7l", 9: "x86_64", 12: "aarch64"}
"""`Win32_Processor.Architecture`."""
_NO_UUIDS = frozenset({0, 2**128 - 1})
"""What firmware says that was never given one: all zeros, all ones."""
REBOOT_BUILD = 14393
"""Windows Server 2016: the first whose Msvm_ShutdownComponent has InitiateReboot."""


def read(wire: Wire) -> HostInfo:
    """Four queries. Raises DriverError, also when the host leaves out what every Windows has."""
    computer = _only(wire, "Win32_ComputerSystem", "Name, DNSHostName, NumberOfLogicalProcessors, TotalPhysicalMemory")
    system = _only(wire, "Win32_OperatingSystem", "Caption, Version, TotalVisibleMemorySize, FreePhysicalMemory")
    processor = _only(wire, "Win32_Processor", "Name, Architecture")
    product = _only(wire, "Win32_ComputerSystemProduct", "UUID")
    total = (system.number("TotalVisibleMemorySize") or 0) * 1024 or computer.number("TotalPhysicalMemory") or 0
    return HostInfo(
        hostname=computer.text("DNSHostName") or computer.text("Name"),
        host_uuid=_uuid(product.text("UUID")),
        cpu_count=computer.number("NumberOfLogicalProcessors") or 0,
        cpu_model=" ".join(processor.text("Name").split()),
        cpu_architecture=_ARCHITECTURES.get(-1 if (kind := processor.number("Architecture")) is None else kind, ""),
        memory_total_bytes=total,
        memory_free_bytes=min(total, (system.number("FreePhysicalMemory") or 0) * 1024),
        kernel=f"{system.text('Caption').strip()} {system.text('Version')}".strip(),
        hypervisor_version=f"Hyper-V {system.text('Version')}".strip(),
        library_version=version("pypsrp"),
        virtualization_type=VirtualizationType.BARE_METAL,
        techniques=TECHNIQUES,
    )


def build_of(info: HostInfo) -> int:
    """Windows' build number (`10.0.20348` → 20348), 0 where it is not told."""
    last = info.hypervisor_version.rpartition(".")[2]
    return int(last) if last.isascii() and last.isdigit() and len(last) < 10 else 0


def _only(wire: Wire, class_name: str, columns: str) -> Row:
    for row in wire.query(select(columns, class_name), CIMV2):
        return row
    raise malformed(f"it has no {class_name}")


def _uuid(text: str) -> str:
    try:
        found = uuids.UUID(text)
    except ValueError:
        return ""
    return "" if found.int in _NO_UUIDS else str(found)
