r"""Guests as Hyper-V's settings objects tell them: a fixed number of queries for any number of guests, joined in memory.

All settings of one guest carry its identifier in theirs: `Microsoft:<GUID>\<device>…`; those of snapshots carry the snapshot's.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from drivers.hyperv.design import MARK
from drivers.hyperv.states import SAVED, state_of
from drivers.hyperv.wire import guid, quoted, select
from drivers.types import DiskInfo, GuestInfo, NicInfo, Technique, VirtualizationType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from drivers.hyperv.wire import Row, Wire

TECHNIQUES = (Technique.FULL_VIRTUALIZATION, Technique.HARDWARE_ASSISTED)
MIB = 2**20
ALWAYS_START = 4
"""`AutomaticStartupAction`; 2 is never, 3 is only if it ran when the host stopped."""

_CONTROLLERS = {
    "Microsoft:Hyper-V:Emulated IDE Controller": "ide",
    "Microsoft:Hyper-V:Synthetic SCSI Controller": "scsi",
    "Microsoft:Hyper-V:Virtual Floppy Controller": "fdc",
}
_DRIVES = {
    "Microsoft:Hyper-V:Synthetic Disk Drive": "disk",
    "Microsoft:Hyper-V:Physical Disk Drive": "disk",
    "Microsoft:Hyper-V:Synthetic DVD Drive": "cdrom",
    "Microsoft:Hyper-V:Physical DVD Drive": "cdrom",
    "Microsoft:Hyper-V:Synthetic Diskette Drive": "floppy",
}
_MEDIA = {
    "Microsoft:Hyper-V:Virtual Hard Disk": "disk",
    "Microsoft:Hyper-V:Virtual CD/DVD Disk": "cdrom",
    "Microsoft:Hyper-V:Virtual Floppy Disk": "floppy",
}
_FORMATS = {"vhd": "vhd", "vhdx": "vhdx", "avhd": "vhd", "avhdx": "vhdx", "vhds": "vhds", "iso": "raw", "vfd": "raw"}
_KEY = re.compile(r'(InstanceID|Name)="((?:[^"\\]|\\.)*)"')
_MAC = re.compile(r"[0-9A-Fa-f]{12}")

# What is asked for, and no more: each of these classes has some fifty properties.
SYSTEM = ("Name, ElementName, EnabledState, HealthState", "Msvm_ComputerSystem")
SETTINGS = (
    "InstanceID, VirtualSystemIdentifier, VirtualSystemSubType, Notes, AutomaticStartupAction",
    "Msvm_VirtualSystemSettingData",
    "VirtualSystemType = 'Microsoft:Hyper-V:System:Realized'",
)
SWITCHES = ("Name, ElementName", "Msvm_VirtualEthernetSwitch")
CLASSES = {
    "processors": ("InstanceID, VirtualQuantity", "Msvm_ProcessorSettingData"),
    "memory": ("InstanceID, VirtualQuantity, Limit, DynamicMemoryEnabled", "Msvm_MemorySettingData"),
    "devices": (
        "InstanceID, ResourceSubType, Parent, Address, AddressOnParent, HostResource",
        "Msvm_ResourceAllocationSettingData",
    ),
    "media": ("InstanceID, ResourceSubType, Parent, HostResource", "Msvm_StorageAllocationSettingData"),
    "synthetic": ("InstanceID, Address", "Msvm_SyntheticEthernetPortSettingData"),
    "legacy": ("InstanceID, Address", "Msvm_EmulatedEthernetPortSettingData"),
    "cables": ("InstanceID, Parent, HostResource, EnabledState", "Msvm_EthernetPortAllocationSettingData"),
}


@dataclass(slots=True)
class _Parts:
    """The settings of one guest, by class."""

    rows: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))

    def one(self, name: str) -> Row | None:
        found = self.rows.get(name)
        return found[0] if found else None


def read_all(wire: Wire, folder: str = "") -> list[GuestInfo]:
    """Every guest. What appears or goes between two of the queries is left out until the next time.

    `folder`: the one that is the pool `default`.
    """
    return list(_joined(wire, {}, folder))


def read_one(wire: Wire, name: str, folder: str = "") -> GuestInfo | None:
    """One guest, None when there is none of this GUID (upper case)."""
    return next((info for info in _joined(wire, {"Name": name}, folder) if info.uuid == name.lower()), None)


def system_row(wire: Wire, name: str) -> Row | None:
    """The guest's `Msvm_ComputerSystem`, None when there is none. One message."""
    rows = wire.query(select(*SYSTEM, Name=name))
    return next((row for row in rows if guid(row.text("Name")) == name), None)


def settings_row(wire: Wire, name: str) -> Row | None:
    """The guest's realized settings, not those of a snapshot."""
    rows = wire.query(select(*SETTINGS, VirtualSystemIdentifier=name))
    return rows[0] if rows else None


def _joined(wire: Wire, which: dict[str, str], folder: str) -> Iterator[GuestInfo]:
    # A guest's Name is a GUID, the host's is not. Caption and Description are in the language of the host.
    rows = wire.query(select(*SYSTEM, **which))
    systems = {name: row for row in rows if (name := guid(row.text("Name")))}
    if not systems:
        return
    one = which.get("Name")
    only = {"VirtualSystemIdentifier": one} if one else {}
    settings = {row.text("VirtualSystemIdentifier").upper(): row for row in wire.query(select(*SETTINGS, **only))}
    like = [f"InstanceID LIKE {quoted(f'Microsoft:{one}%')}"] if one else []
    parts: dict[str, _Parts] = defaultdict(_Parts)
    for sort, columns in CLASSES.items():
        for row in wire.query(select(*columns, *like)):
            parts[owner_of(row)].rows[sort].append(row)
    switches = {row.text("Name").upper(): row.text("ElementName") for row in wire.query(select(*SWITCHES))}
    for name, system in systems.items():
        if name in settings:
            yield _info(name, system, settings[name], parts[name], switches=switches, folder=folder)


def ours_in(settings: Row) -> dict[str, Any]:
    """What a line of ours in a guest's notes says of it; empty where there is none, or somebody changed it."""
    for line in _lines(settings):
        if line.startswith(MARK):
            try:
                told = json.loads(line.removeprefix(MARK))
            except (ValueError, RecursionError):
                continue
            if isinstance(told, dict):
                return told
    return {}


def description_in(settings: Row) -> str:
    """Its notes, without that line."""
    return "\n".join(line for line in _lines(settings) if not line.startswith(MARK)).strip("\n")


def _lines(settings: Row) -> list[str]:
    return "\n\n".join(settings.texts("Notes")).replace("\r\n", "\n").split("\n")


def owner_of(row: Row) -> str:
    """The GUID in an object's `InstanceID`, upper case."""
    return row.text("InstanceID").removeprefix("Microsoft:").partition("\\")[0].upper()


def media_paths(rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    """(GUID of the guest, path of the image) of storage allocations."""
    for row in rows:
        source = row.text("HostResource")
        if source:
            yield owner_of(row), source


def _info(name: str, system: Row, settings: Row, parts: _Parts, *, switches: dict[str, str], folder: str) -> GuestInfo:
    enabled = system.number("EnabledState")
    state, reason = state_of(enabled)
    if not reason and (system.number("HealthState") or 0) >= 20:
        reason = "critical"  # major or critical failure: a disk is full, the worker process does not answer
    processors, memory = parts.one("processors"), parts.one("memory")
    startup = (memory.number("VirtualQuantity") if memory else None) or 0
    limit = (memory.number("Limit") if memory and memory.flag("DynamicMemoryEnabled") else None) or 0
    disks, interfaces = tuple(_disks(parts, folder)), tuple(_interfaces(parts, switches))
    ours = ours_in(settings)
    facts = ours.get("facts")
    boot = {"firmware": "uefi" if settings.text("VirtualSystemSubType").endswith(":2") else "bios"}
    child_rows = repr((disks, interfaces, sorted(boot.items())))
    return GuestInfo(
        uuid=name.lower(),
        name=system.text("ElementName"),
        state=state,
        state_reason=reason,
        virtualization_type=VirtualizationType.BARE_METAL,
        techniques=TECHNIQUES,
        domain_type="hyperv",
        vcpus=(processors.number("VirtualQuantity") if processors else None) or 1,
        memory_bytes=startup * MIB,
        max_memory_bytes=max(startup, limit) * MIB,
        autostart=settings.number("AutomaticStartupAction") == ALWAYS_START,
        has_managed_save=enabled in SAVED,
        title=str(ours.get("title", "")),
        description=description_in(settings),
        disks=disks,
        interfaces=interfaces,
        boot=boot,
        metadata={str(key): str(value) for key, value in facts.items()} if isinstance(facts, dict) else {},
        xml_digest=hashlib.sha256(child_rows.encode()).hexdigest(),
    )


def _disks(parts: _Parts, folder: str) -> Iterator[DiskInfo]:
    """Drives on their controllers, each with what is in it; then images whose drive is not told."""
    devices = sorted(parts.rows.get("devices", ()), key=lambda row: row.text("InstanceID"))
    controllers = dict(_controllers(devices))
    media = {key_in(row.text("Parent")): row for row in parts.rows.get("media", ())}
    for row in devices:
        device = _DRIVES.get(row.text("ResourceSubType"))
        if device is None:
            continue
        bus, number = controllers.get(key_in(row.text("Parent")), ("", 0))
        inside = media.pop(row.text("InstanceID").upper(), None)
        source = (row if inside is None else inside).text("HostResource") or None
        if device == "disk" and source is None:
            continue  # a drive without a disk
        yield _disk(
            f"{bus or 'slot'}{number}:{row.text('AddressOnParent') or '0'}", device, bus or None, source, folder
        )
    for number, row in enumerate(sorted(media.values(), key=lambda row: row.text("InstanceID"))):
        device = _MEDIA.get(row.text("ResourceSubType"), "disk")
        yield _disk(f"image{number}", device, None, row.text("HostResource") or None, folder)


def _disk(target: str, device: str, bus: str | None, source: str | None, folder: str) -> DiskInfo:
    """A file of the pool's folder is named as the pool names it."""
    image = _FORMATS.get((source or "").rpartition(".")[2].lower())
    at, _, name = (source or "").rpartition("\\")
    pool = "default" if folder and name and at.lower() == folder.lower() else None
    return DiskInfo(
        target=target,
        device=device,
        bus=bus,
        source=name.lower() if pool else source,
        pool=pool,
        format=image,
        readonly=device == "cdrom",
    )


def _controllers(devices: Sequence[Row]) -> Iterator[tuple[str, tuple[str, int]]]:
    """Identifier (upper case) to bus and number. SCSI controllers have no number of their own: their order is taken."""
    count: dict[str, int] = defaultdict(int)
    for row in devices:
        bus = _CONTROLLERS.get(row.text("ResourceSubType"))
        if bus is not None:
            address = row.text("Address")
            number = int(address) if bus == "ide" and address in ("0", "1") else count[bus]
            count[bus] += 1
            yield row.text("InstanceID").upper(), (bus, number)


def _interfaces(parts: _Parts, switches: dict[str, str]) -> Iterator[NicInfo]:
    cables = {key_in(row.text("Parent")): row for row in parts.rows.get("cables", ())}
    for model in ("synthetic", "legacy"):
        for row in sorted(parts.rows.get(model, ()), key=lambda row: row.text("InstanceID")):
            cable = cables.get(row.text("InstanceID").upper())
            switch = key_in(cable.text("HostResource")) if cable else ""
            plugged = cable is not None and bool(switch) and cable.number("EnabledState") != 3
            yield NicInfo(
                mac=mac_of(row.text("Address")),
                model=model,
                network=switches.get(switch) or None,
                link="up" if plugged else "down",
            )


def key_in(path: str) -> str:
    r"""The last key in an object's path (`\\HV01\root\…:Class.InstanceID="Microsoft:…\\0"`), upper case; "" if none."""
    keys = _KEY.findall(path)
    # Pairs of backslashes are one each, others go: as `re.sub`, in a quarter of its time, for each device of each guest.
    return "\\".join(part.replace("\\", "") for part in keys[-1][1].split("\\\\")).upper() if keys else ""


def mac_of(text: str) -> str:
    """With colons; a dynamic address that is not given yet is all zeros."""
    if not _MAC.fullmatch(text):
        return "00:00:00:00:00:00"
    return ":".join(text[index : index + 2] for index in range(0, 12, 2)).lower()
