"""The machines behind a session: one ESXi's own, or all of a datacenter added up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drivers.types import HostInfo, VirtualizationType
from drivers.vsphere.guests import TECHNIQUES
from drivers.vsphere.values import flag, identifier, number, text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from drivers.vsphere.collector import Found

PATHS = (
    "name",
    "capability.nestedHVSupported",
    "capability.screenshotSupported",
    "configManager.autoStartManager",
    "hardware.systemInfo.uuid",
    "runtime.connectionState",
    "summary.hardware.cpuMhz",
    "summary.hardware.cpuModel",
    "summary.hardware.memorySize",
    "summary.hardware.numCpuCores",
    "summary.hardware.numCpuThreads",
    "summary.quickStats.overallCpuUsage",
    "summary.quickStats.overallMemoryUsage",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One ESXi host. Sizes in bytes; `busy_ratio` is of all its cores, as it was within the last 20 s or so."""

    object: Any
    name: str
    uuid: str
    connected: bool
    threads: int
    cores: int
    mhz: int
    model: str
    memory_bytes: int
    memory_used_bytes: int
    busy_ratio: float
    nests: bool | None
    takes_screenshots: bool
    autostart: Any


def machine(found: Found) -> Machine:
    """What was read of one host."""
    cores = number(found.get("summary.hardware.numCpuCores")) or 0
    mhz = number(found.get("summary.hardware.cpuMhz")) or 0
    used_mhz = number(found.get("summary.quickStats.overallCpuUsage")) or 0
    memory_bytes = number(found.get("summary.hardware.memorySize")) or 0
    used_bytes = (number(found.get("summary.quickStats.overallMemoryUsage")) or 0) * 2**20
    return Machine(
        object=found.object,
        name=text(found.get("name")),
        uuid=identifier(found.get("hardware.systemInfo.uuid")),
        connected=text(found.get("runtime.connectionState")) in ("", "connected"),
        threads=number(found.get("summary.hardware.numCpuThreads")) or cores,
        cores=cores,
        mhz=mhz,
        model=text(found.get("summary.hardware.cpuModel")),
        memory_bytes=memory_bytes,
        memory_used_bytes=min(used_bytes, memory_bytes),
        busy_ratio=min(1.0, used_mhz / (cores * mhz)) if cores and mhz else 0.0,
        nests=flag(found.get("capability.nestedHVSupported")),
        takes_screenshots=flag(found.get("capability.screenshotSupported")) is True,
        autostart=found.get("configManager.autoStartManager"),
    )


def host_info(machines: Sequence[Machine], about: Any, *, is_vcenter: bool, address: str, library: str) -> HostInfo:
    """One machine, or the sums of all that vCenter is connected with.

    `address` names a vCenter, and a host that does not say its name.
    """
    here = [each for each in machines if each.connected]
    nests = [each.nests for each in here]
    models = sorted({each.model for each in here if each.model})
    total = sum(each.memory_bytes for each in here)
    return HostInfo(
        hostname=address if is_vcenter else (machines[0].name if machines else "") or address,
        host_uuid="" if is_vcenter or not machines else machines[0].uuid,
        cpu_count=sum(each.threads for each in here),
        cpu_model=", ".join(models)[:200],
        cpu_architecture="aarch64" if "arm" in text(getattr(about, "osType", None)).lower() else "x86_64",
        memory_total_bytes=total,
        memory_free_bytes=total - sum(each.memory_used_bytes for each in here),
        kernel=text(getattr(about, "fullName", None))[:200],
        nested_virtualization=None if not nests or None in nests else all(nests),
        hypervisor_version=f"{text(getattr(about, 'name', None))} {text(getattr(about, 'version', None))}".strip(),
        library_version=library,
        virtualization_type=VirtualizationType.BARE_METAL,
        techniques=TECHNIQUES,
    )
