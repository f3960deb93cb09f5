"""A `GuestSpec` as the settings objects that make a guest of Hyper-V's. No call, no thread.

BIOS is a guest of the first generation, which boots from IDE; UEFI one of the second, which has SCSI alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from drivers import specs
from drivers.hyperv.embedded import Thing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drivers.types import DiskSpec, GuestSpec

NAME_MAX: Final = 100
MIB: Final = 1 << 20
MEMORY_STEP: Final = 2 * MIB
MARK: Final = "vmmanager: "
"""Begin of the line in a guest's notes that is ours: Hyper-V gives identities of its own, by this a guest is known again."""
SUBTYPE: Final = "Microsoft:Hyper-V:SubType:"
SCSI: Final = "Microsoft:Hyper-V:Synthetic SCSI Controller"
_IDE_DISKS, _IDE_DISCS, _IDE_UNITS, _SCSI_UNITS = 0, 1, 2, 64
_ORDER: Final = ("disk", "cdrom", "network")
_FIRST_BOOT: Final = ["2", "1", "3", "0"]
"""Of the first generation: disk, CD, network, floppy."""
_WINDOWS_KEYS: Final = "1734c6e8-3154-4dda-ba5f-a874cc483422"
_OTHERS_KEYS: Final = "272e7447-90a4-4563-a4b9-8e4ab00526ce"
"""Whose keys Secure Boot believes: Microsoft's for Windows, or those that it signs for other systems."""
_NO_KERNEL: Final = "Hyper-V boots machines by their firmware, from disks, CDs and the network."
_WISHES: Final = {
    "machine": "Hyper-V's generation follows the firmware: bios is the first, uefi the second.",
    "tpm": "Hyper-V makes a TPM only with a key protector, which is set up on the host; add it there.",
    "cpu_mode": "Hyper-V gives its guests the host's own processors; leave it empty.",
    "kernel": _NO_KERNEL,
    "initrd": _NO_KERNEL,
    "cmdline": _NO_KERNEL,
    "root": "a machine has disks, and no directory of the host.",
    "init": "a machine runs what is on its disks.",
    "image": "a machine has disks, and no container image.",
}


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a disk goes: bus (`ide`, `scsi`), number of the controller, place on it."""

    disk: DiskSpec
    bus: str
    controller: int
    unit: int


def check(spec: GuestSpec) -> None:
    """Raises InvalidDefinition and Unsupported with the field's name."""
    specs.check(spec)
    specs.refuse_wishes(spec, _WISHES)
    if len(spec.name) > NAME_MAX:
        raise specs.refusal("name", f"at most {NAME_MAX} characters.")
    if spec.accelerator != "auto":
        raise specs.lacking("accelerator", "Hyper-V has one of its own; leave it auto.")
    if spec.memory_bytes % MEMORY_STEP:
        raise specs.refusal("memory_bytes", "Hyper-V takes a multiple of 2 MiB.")
    if spec.graphics != "vnc":
        raise specs.lacking(
            "graphics", "a machine of Hyper-V always has a screen, which is shown by RDP; leave it vnc."
        )
    places = [_ORDER.index(device) for device in spec.boot_order]
    if places != sorted(places):
        raise specs.lacking(
            "boot_order", "disks are tried first, then CDs, then the network; the host's own tools change that."
        )
    for number, nic in enumerate(spec.interfaces):
        if nic.bridge:
            raise specs.lacking(f"interfaces[{number}].bridge", "name one of Hyper-V's switches.")
        if nic.model not in ("", "synthetic"):
            raise specs.lacking(f"interfaces[{number}].model", "here it is synthetic; leave it empty.")
    slots(spec)


def slots(spec: GuestSpec) -> list[Slot]:
    """In the order of the disks. Raises Unsupported where there is no such place."""
    taken: dict[tuple[str, int], int] = {}
    found = []
    for number, disk in enumerate(spec.disks):
        if disk.readonly and disk.device == "disk":
            raise specs.lacking(f"disks[{number}].readonly", "Hyper-V has no disks that are only read.")
        place = _controller(spec, disk, number, taken)
        unit = taken.get(place, 0)
        if unit >= (_SCSI_UNITS if place[0] == "scsi" else _IDE_UNITS):
            raise specs.lacking(f"disks[{number}]", "the machine has no place left for it.")
        taken[place] = unit + 1
        found.append(Slot(disk, *place, unit))
    return found


def _controller(spec: GuestSpec, disk: DiskSpec, number: int, taken: Mapping[tuple[str, int], int]) -> tuple[str, int]:
    if disk.bus not in ("", "scsi", "ide"):
        raise specs.lacking(f"disks[{number}].bus", "Hyper-V has ide and scsi; leave it empty for the best.")
    if spec.firmware == "uefi":
        if disk.bus == "ide":
            raise specs.lacking(f"disks[{number}].bus", "a machine with UEFI has scsi alone.")
        return "scsi", 0
    if disk.device == "cdrom":
        return "ide", _IDE_DISCS
    full = taken.get(("ide", _IDE_DISKS), 0) >= _IDE_UNITS
    return ("scsi", 0) if disk.bus == "scsi" or (full and not disk.bus) else ("ide", _IDE_DISKS)


def system(spec: GuestSpec) -> Thing:
    """What `DefineSystem` is sent."""
    second = spec.firmware == "uefi"
    values: dict[str, Any] = {
        "ElementName": ("string", spec.name),
        "VirtualSystemSubType": ("string", f"{SUBTYPE}{2 if second else 1}"),
        "Notes": ("string", [notes(spec)]),
        "AutomaticStartupAction": ("uint16", "2"),
    }
    if second:
        values["SecureBootEnabled"] = ("boolean", "TRUE" if spec.secure_boot else "FALSE")
        if spec.secure_boot:
            keys = _WINDOWS_KEYS if "microsoft.com" in spec.os_id else _OTHERS_KEYS
            values["SecureBootTemplateId"] = ("string", keys)
    else:
        values["BootOrder"] = ("uint16", _FIRST_BOOT)
    return Thing("Msvm_VirtualSystemSettingData", values)


def processor(spec: GuestSpec, identity: str) -> Thing:
    """Its vCPUs; `identity`: of the object that is there."""
    values: dict[str, Any] = {"InstanceID": ("string", identity), "VirtualQuantity": ("uint64", str(spec.vcpus))}
    if spec.nested:
        values["ExposeVirtualizationExtensions"] = ("boolean", "TRUE")
    return Thing("Msvm_ProcessorSettingData", values)


def memory(spec: GuestSpec, identity: str) -> Thing:
    """Its memory, all of it at once."""
    size = str(spec.memory_bytes // MIB)
    sizes = dict.fromkeys(("VirtualQuantity", "Reservation", "Limit"), ("uint64", size))
    return Thing(
        "Msvm_MemorySettingData",
        {"InstanceID": ("string", identity), **sizes, "DynamicMemoryEnabled": ("boolean", "FALSE")},
    )


def scsi() -> Thing:
    """A controller, which a guest does not have by itself."""
    return _resource("Msvm_ResourceAllocationSettingData", 6, SCSI)


def drive(slot: Slot, controller: str) -> Thing:
    """The drive that a disk is in. `controller`: its path."""
    cdrom = slot.disk.device == "cdrom"
    kind = "Microsoft:Hyper-V:Synthetic DVD Drive" if cdrom else "Microsoft:Hyper-V:Synthetic Disk Drive"
    return _resource(
        "Msvm_ResourceAllocationSettingData", 16 if cdrom else 17, kind,
        Parent=("string", controller), AddressOnParent=("string", str(slot.unit)),
    )  # fmt: skip


def medium(slot: Slot, drive_path: str, file: str) -> Thing:
    """The disk itself."""
    cdrom = slot.disk.device == "cdrom"
    kind = "Microsoft:Hyper-V:Virtual CD/DVD Disk" if cdrom else "Microsoft:Hyper-V:Virtual Hard Disk"
    return _resource(
        "Msvm_StorageAllocationSettingData", 31, kind, Parent=("string", drive_path), HostResource=("string", [file])
    )


def card(mac: str, identity: str) -> Thing:
    """A network card. `identity`: a GUID in braces that no other of the guest's has."""
    address: dict[str, Any] = {}
    if mac:
        address = {"Address": ("string", mac.replace(":", "").upper()), "StaticMacAddress": ("boolean", "TRUE")}
    return _resource(
        "Msvm_SyntheticEthernetPortSettingData", 10, "Microsoft:Hyper-V:Synthetic Ethernet Port",
        ElementName=("string", "Network Adapter"), VirtualSystemIdentifiers=("string", [identity]), **address,
    )  # fmt: skip


def cable(card_path: str, switch_path: str) -> Thing:
    """What a card is plugged into."""
    return _resource(
        "Msvm_EthernetPortAllocationSettingData", 33, "Microsoft:Hyper-V:Ethernet Connection",
        Parent=("string", card_path), HostResource=("string", [switch_path]), EnabledState=("uint16", "2"),
    )  # fmt: skip


def things(spec: GuestSpec, files: Sequence[str]) -> list[Thing]:
    """All of it, as far as it follows from the spec: names stand where Hyper-V has paths."""
    made = [system(spec), processor(spec, spec.name), memory(spec, spec.name)]
    where = slots(spec)
    made += [scsi()] if any(slot.bus == "scsi" for slot in where) else []
    for slot, file in zip(where, files, strict=True):
        place = f"{slot.bus} {slot.controller}"
        made += [drive(slot, place), medium(slot, f"{place}:{slot.unit}", file)]
    for number, nic in enumerate(spec.interfaces):
        made += [card(nic.mac, f"{{{number}}}"), cable(f"card {number}", nic.network)]
    return made


def notes(spec: GuestSpec) -> str:
    """The description, and behind it one line of ours."""
    ours = {"uuid": spec.uuid.lower(), "title": spec.title, "facts": dict(spec.metadata)}
    line = MARK + json.dumps({name: value for name, value in ours.items() if value}, ensure_ascii=False)
    return f"{spec.description}\n\n{line}" if spec.description else line


def _resource(class_name: str, kind: int, subtype: str, **values: Any) -> Thing:
    return Thing(class_name, {"ResourceType": ("uint16", str(kind)), "ResourceSubType": ("string", subtype), **values})
