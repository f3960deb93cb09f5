"""Hardware as pages and REST show it: each device as it is at the next start, beside what it is now where that differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Q

from drivers.types import (
    CpuHardware,
    DiskHardware,
    DisplayHardware,
    HostDeviceHardware,
    MemoryHardware,
    NicHardware,
    SimpleHardware,
)
from storage.models import Volume
from vms.hardware.values import device_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drivers.types import Device
    from vms.hardware.selectors import Known
    from vms.models import VM


def pending_json(found: Known, key: str) -> dict[str, Any] | None:
    """What waits of a device: `added`, `removed`, or `changed` with what it is now; None where nothing does."""
    difference = found.difference(key)
    if difference is None:
        return None
    if difference.now is None:
        return {"change": "added", "now": None}
    if difference.then is None:
        return {"change": "removed", "now": None}
    now = device_json(difference.now)
    return {"change": "changed", "now": {name: now[name] for name in difference.changed}}


def volumes_at(vm: VM, paths: Iterable[str]) -> dict[str, Volume]:
    """Path, or `pool/volume`, of a disk → the volume that lies there, on the guest's host. One query, none for no path."""
    wanted = {path for path in paths if path}
    if not wanted:
        return {}
    names = {tuple(path.split("/", 1)) for path in wanted if not path.startswith("/") and "/" in path}
    named = Q(pool__name__in={pool for pool, _ in names}, name__in={name for _, name in names})
    rows = Volume.objects.select_related("pool").filter(pool__gone_at=None, pool__host=vm.hypervisor.host_id)
    rows = rows.filter(Q(path__in=wanted) | named if names else Q(path__in=wanted)).order_by("pool__created_at")
    found: dict[str, Volume] = {}
    for row in rows:
        for path in (row.path, f"{row.pool.name}/{row.name}"):
            if path in wanted:
                found.setdefault(path, row)
    return found


def device_shown(found: Known, device: Device) -> dict[str, Any]:
    """Any device."""
    return {"key": device.key, **device_json(device), "pending": pending_json(found, device.key)}


def disks_shown(vm: VM, found: Known) -> list[dict[str, Any]]:
    """Its disks, each with the volume that it is. One query."""
    disks = [one for one in found.devices.values() if isinstance(one, DiskHardware)]
    at = volumes_at(vm, (disk.path for disk in disks))
    shown = []
    for disk in disks:
        one = device_shown(found, disk)
        volume = at.get(disk.path)
        one["source"] = one.pop("path") or None
        one["pool"] = volume.pool.name if volume else None
        one["volume"] = volume.name if volume else None
        one["size_bytes"] = volume.capacity_bytes if volume else None
        shown.append(one)
    return shown


def nics_shown(found: Known) -> list[dict[str, Any]]:
    """Its network interfaces."""
    return [device_shown(found, one) for one in found.devices.values() if isinstance(one, NicHardware)]


def others_shown(found: Known) -> list[dict[str, Any]]:
    """Its screens, small devices, and devices of the host: `type`, and what there is to say of it."""
    shown = []
    for one in found.devices.values():
        if isinstance(one, DisplayHardware):
            values: dict[str, Any] = {"type": one.type, "model": one.video, "listen": one.listen}
        elif isinstance(one, HostDeviceHardware):
            values = {"type": one.kind, "address": one.address}
        elif isinstance(one, SimpleHardware):
            values = {"type": one.kind, "model": one.model, "action": one.action}
        else:
            continue
        usual = {"model": "", "action": "", "address": "", "listen": ""}
        shown.append({"key": one.key, **usual, **values, "pending": pending_json(found, one.key)})
    return shown


def parts_shown(found: Known) -> dict[str, Any]:
    """Processors, memory and boot order."""
    shown = found.shown
    assert shown is not None  # noqa: S101 - a guest has something, at its next start or now
    cpu, memory, boot = shown.cpu, shown.memory, shown.boot
    return {one.key: _part(found, one) for one in (cpu, memory, boot)}


def _part(found: Known, one: Device) -> dict[str, Any]:
    values = device_shown(found, one)
    del values["key"]
    if isinstance(one, CpuHardware):
        values["max_vcpus"] = max(one.max_vcpus, one.vcpus)
    elif isinstance(one, MemoryHardware):
        values["max_memory_bytes"] = max(one.max_memory_bytes, one.memory_bytes)
        values["now_bytes"] = found.found.live.memory.memory_bytes if found.found.live else None
    return values
