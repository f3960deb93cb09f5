"""A virtual machine's properties become a `GuestInfo`. Pure: nothing here talks to anybody.

Which UUID is a guest's? Its `instanceUuid`: vCenter keeps it unique among its guests, and gives a copied machine a new one. The
BIOS UUID (`config.uuid`) is shared by every copy whose owner said "I moved it". A lone ESXi checks neither, so a machine that
was copied by hand may share even its instance UUID: then the first by managed object id keeps it, and each further one is known
by a UUID made from both.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyVmomi import vim

from drivers.types import (
    DiskInfo,
    GraphicsInfo,
    GuestInfo,
    GuestState,
    NicInfo,
    Technique,
    VirtualizationType,
)
from drivers.vsphere.design import TITLE_KEY, facts
from drivers.vsphere.values import flag, identifier, items, number, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from drivers.vsphere.collector import Found

TECHNIQUES = (Technique.FULL_VIRTUALIZATION, Technique.HARDWARE_ASSISTED)

NAMING = ("name", "config.template", "config.instanceUuid", "config.uuid")
POWER = ("runtime.powerState", "runtime.connectionState", "runtime.cleanPowerOff")
MARK = ("config.changeVersion", "runtime.powerState")
_DEVICE, _EXTRA = "config.hardware.device", "config.extraConfig"
DEVICES = (_DEVICE, _EXTRA)
"""Most of what there is to read, and moved by a change of the configuration alone."""
LIGHT = (
    *NAMING,
    *POWER,
    "config.annotation",
    "config.changeVersion",
    "config.firmware",
    "config.guestFullName",
    "config.hardware.memoryMB",
    "config.hardware.numCPU",
    "guest.guestFullName",
)
WHOLE = (*LIGHT, *DEVICES)

_BUSES = (
    (vim.vm.device.VirtualSCSIController, "scsi"),
    (vim.vm.device.VirtualSATAController, "sata"),
    (vim.vm.device.VirtualNVMEController, "nvme"),
    (vim.vm.device.VirtualIDEController, "ide"),
)


def is_template(found: Found) -> bool:
    """Whether this is a template, which can never run."""
    return flag(found.get("config.template")) is True


def identities(found: Iterable[Found]) -> dict[str, str]:
    """Managed object id -> the UUID it is known by; see the module's head. Machines that cannot be read have none."""
    named: dict[str, str] = {}
    taken: set[str] = set()
    for each in sorted(found, key=lambda each: (len(each.moid), each.moid)):
        given = identifier(each.get("config.instanceUuid")) or identifier(each.get("config.uuid"))
        if not given:
            continue
        name = str(uuid.uuid5(uuid.UUID(given), each.moid)) if given in taken else given
        taken.add(name)
        named[each.moid] = name
    return named


def state_of(found: Found) -> tuple[GuestState, str]:
    """State and reason. vSphere remembers no reason but whether the guest itself switched off."""
    connection = text(found.get("runtime.connectionState"))
    if connection not in ("", "connected"):
        return GuestState.UNKNOWN, connection
    match text(found.get("runtime.powerState")):
        case "poweredOn":
            return GuestState.RUNNING, "booted"
        case "suspended":
            return GuestState.PAUSED, "suspended_to_disk"
        case "poweredOff":
            return GuestState.SHUTOFF, {True: "shutdown", False: "destroyed", None: ""}[
                flag(found.get("runtime.cleanPowerOff"))
            ]
    return GuestState.UNKNOWN, ""


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine's devices, and what is ours to say of it.

    `mark`: of the state in which they were read; "" where there is none: read them again.
    """

    mark: str
    disks: tuple[DiskInfo, ...]
    interfaces: tuple[NicInfo, ...]
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


def has_devices(found: Found) -> bool:
    """Whether the devices were read along."""
    return _DEVICE in found.values


def mark_of(found: Found) -> str:
    """Equal marks, equal devices: vSphere gives each change of a configuration another version; power plugs and unplugs."""
    changed = text(found.get("config.changeVersion"))
    return f"{changed} {text(found.get('runtime.powerState'))}" if changed else ""


def hardware(found: Found) -> Hardware:
    """What was read of a machine's devices."""
    devices = items(found.get(_DEVICE))
    running = text(found.get("runtime.powerState")) == "poweredOn"
    extra = {text(getattr(each, "key", None)): text(getattr(each, "value", None)) for each in items(found.get(_EXTRA))}
    return Hardware(
        mark_of(found),
        _disks(devices),
        _interfaces(devices, running=running),
        title=extra.get(TITLE_KEY, ""),
        metadata=facts(extra),
    )


def guest_info(found: Found, *, known_as: str, hardware: Hardware, autostarts: bool) -> GuestInfo:
    """All about one guest."""
    state, reason = state_of(found)
    disks, interfaces = hardware.disks, hardware.interfaces
    memory_bytes = (number(found.get("config.hardware.memoryMB")) or 0) * 2**20
    firmware = text(found.get("config.firmware"))
    boot = {"firmware": {"efi": "uefi"}.get(firmware, firmware)} if firmware else {}
    graphics = (GraphicsInfo(type="vnc"),)
    rows = repr((disks, interfaces, graphics, sorted(boot.items())))
    return GuestInfo(
        uuid=known_as,
        name=text(found.get("name")) or known_as,
        state=state,
        state_reason=reason,
        virtualization_type=VirtualizationType.BARE_METAL,
        techniques=TECHNIQUES,
        domain_type="vmware",
        vcpus=number(found.get("config.hardware.numCPU")) or 1,
        memory_bytes=memory_bytes,
        max_memory_bytes=memory_bytes,
        autostart=autostarts,
        title=hardware.title,
        description=text(found.get("config.annotation")),
        disks=disks,
        interfaces=interfaces,
        graphics=graphics,
        consoles=("vnc",),
        os=text(found.get("guest.guestFullName")) or text(found.get("config.guestFullName")),
        boot=boot,
        metadata=hardware.metadata,
        xml_digest=hashlib.sha256(rows.encode()).hexdigest(),
    )


def _disks(devices: list[Any]) -> tuple[DiskInfo, ...]:
    places = _controllers(devices)
    found = []
    for each in devices:
        device = {
            vim.vm.device.VirtualDisk: "disk",
            vim.vm.device.VirtualCdrom: "cdrom",
            vim.vm.device.VirtualFloppy: "floppy",
        }.get(type(each))
        if device is None:
            continue
        bus, place = places.get(getattr(each, "controllerKey", None), (None, ""))
        unit = number(getattr(each, "unitNumber", None)) or 0
        pool, source = place_of(text(getattr(getattr(each, "backing", None), "fileName", None)))
        found.append(
            DiskInfo(
                target=f"{place}:{unit}" if place else f"{device}{unit}",
                device=device,
                bus=bus or ("fdc" if device == "floppy" else None),
                source=source or None,
                pool=pool or None,
                format="vmdk" if device == "disk" else "raw" if source else None,
                size_bytes=_size(each) if device == "disk" else None,
                readonly=device == "cdrom",
            )
        )
    return tuple(sorted(found, key=lambda disk: disk.target))


def _controllers(devices: list[Any]) -> dict[object, tuple[str, str]]:
    """Controller's key -> its bus, and its name as VMware writes it (`scsi0`)."""
    places: dict[object, tuple[str, str]] = {}
    for each in devices:
        for kind, bus in _BUSES:
            if isinstance(each, kind):
                places[getattr(each, "key", None)] = (bus, f"{bus}{number(getattr(each, 'busNumber', None)) or 0}")
    return places


def _size(disk: Any) -> int | None:
    """Bytes; older ones tell it in KiB only."""
    exact = number(getattr(disk, "capacityInBytes", None))
    kibibytes = number(getattr(disk, "capacityInKB", None))
    return exact or (kibibytes * 1024 if kibibytes is not None else None)


def place_of(path: str) -> tuple[str, str]:
    """`[datastore1] web/web.vmdk` is `web/web.vmdk` in `datastore1`; what is written otherwise lies in none."""
    if not path.startswith("[") or "]" not in path:
        return "", path
    pool, _, name = path[1:].partition("]")
    return (pool, name.strip()) if pool else ("", path)


def _interfaces(devices: list[Any], *, running: bool) -> tuple[NicInfo, ...]:
    found = []
    for each in devices:
        if not isinstance(each, vim.vm.device.VirtualEthernetCard):
            continue
        plug = getattr(each, "connectable", None)
        plugged = flag(getattr(plug, "connected" if running else "startConnected", None))
        found.append(
            NicInfo(
                mac=text(getattr(each, "macAddress", None)).lower(),
                model=type(each).__name__.rpartition(".")[2].removeprefix("Virtual").lower(),
                network=_network(getattr(each, "backing", None)),
                link="down" if plugged is False else "up",
            )
        )
    return tuple(found)


def _network(backing: Any) -> str | None:
    """The port group's name; of a distributed switch only its key is told here."""
    port = getattr(backing, "port", None)
    for value in (
        getattr(backing, "deviceName", None),
        getattr(port, "portgroupKey", None),
        getattr(backing, "opaqueNetworkId", None),
    ):
        if text(value):
            return text(value)
    return None
