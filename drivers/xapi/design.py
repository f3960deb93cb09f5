"""A `GuestSpec` as the records that XAPI makes a guest, its drives and its cards from. No call, no thread.

What the host's own template *Other install media* says of a machine's platform is taken over, as `xe vm-install` does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from drivers import specs
from drivers.xapi.records import FACT_PREFIX, TITLE_KEY, mapping, text

if TYPE_CHECKING:
    from drivers.types import GuestSpec
    from drivers.xapi.records import Record

TEMPLATE: Final = "Other install media"
NAME_MAX: Final = 255
UUID_KEY: Final = "vmmanager.uuid"
"""Key of other_config: XAPI gives identities of its own, by this a guest is known again that an interrupted attempt has made."""
DRIVES_MAX: Final = 16
_EMULATED: Final = (3, 2, 1)
"""Places of CDs: firmware and installers see only the first four drives, the first of which is the disk's."""
_LETTERS: Final = {"disk": "c", "cdrom": "d", "network": "n"}
_PLATFORM: Final = {"acpi": "1", "apic": "true", "pae": "true", "nx": "true", "viridian": "true"}
_NO_KERNEL: Final = "XenServer boots machines by their firmware, from disks, CDs and the network."
_WISHES: Final = {
    "machine": "XenServer has one kind of machine.",
    "tpm": "this version makes no TPM on XenServer; add it there.",
    "cpu_mode": "XenServer levels processors for the whole pool; leave it empty.",
    "kernel": _NO_KERNEL,
    "initrd": _NO_KERNEL,
    "cmdline": _NO_KERNEL,
    "root": "a machine has disks, and no directory of the host.",
    "init": "a machine runs what is on its disks.",
    "image": "a machine has disks, and no container image.",
}


def check(spec: GuestSpec) -> None:
    """Raises InvalidDefinition and Unsupported with the field's name."""
    specs.check(spec)
    specs.refuse_wishes(spec, _WISHES)
    if len(spec.name) > NAME_MAX or not spec.name.isprintable():
        raise specs.refusal("name", f"1 to {NAME_MAX} characters that can be printed.")
    if spec.accelerator != "auto":
        raise specs.lacking("accelerator", "XenServer has one of its own; leave it auto.")
    if spec.graphics != "vnc":
        raise specs.lacking("graphics", "XenServer shows every machine's screen by VNC; leave it vnc.")
    for number, disk in enumerate(spec.disks):
        if disk.bus not in ("", "xen"):
            raise specs.lacking(
                f"disks[{number}].bus", "XenServer chooses how a machine sees its disks; leave it empty."
            )
    for number, nic in enumerate(spec.interfaces):
        if nic.bridge:
            raise specs.lacking(f"interfaces[{number}].bridge", "name one of XenServer's networks.")
        if nic.model:
            raise specs.lacking(f"interfaces[{number}].model", "XenServer chooses it; leave it empty.")
    places(spec)


def places(spec: GuestSpec) -> list[int]:
    """Number of the drive that each disk is. Raises Unsupported for more than there are."""
    media = iter(_EMULATED)
    taken = {}
    for number, disk in enumerate(spec.disks):
        if disk.device == "cdrom":
            place = next(media, None)
            if place is None:
                raise specs.lacking(f"disks[{number}]", f"a machine boots with {len(_EMULATED)} CDs at most.")
            taken[number] = place
    free = iter(one for one in range(DRIVES_MAX) if one not in taken.values())
    for number, disk in enumerate(spec.disks):
        if disk.device != "cdrom":
            place = next(free, None)
            if place is None:
                raise specs.lacking(f"disks[{number}]", f"a machine has {DRIVES_MAX} drives at most.")
            taken[number] = place
    return [taken[number] for number in range(len(spec.disks))]


def machine(spec: GuestSpec, template: Record) -> dict[str, Any]:
    """What `VM.create` is sent. Raises as `check`."""
    check(spec)
    memory, vcpus = str(spec.memory_bytes), str(spec.vcpus)
    order = [_LETTERS[device] for device in spec.boot_order]
    platform = {**_PLATFORM, **{name: str(value) for name, value in mapping(template, "platform").items()}}
    if spec.nested:
        platform["exp-nested-hvm"] = "true"
    if spec.firmware == "uefi":
        platform["secureboot"] = "true" if spec.secure_boot else "false"
    return {
        "name_label": spec.name,
        "name_description": spec.description,
        "user_version": "1",
        "is_a_template": False,
        "affinity": "OpaqueRef:NULL",
        **{f"memory_{which}": memory for which in ("static_max", "dynamic_max", "dynamic_min", "static_min", "target")},
        "VCPUs_params": {},
        "VCPUs_max": vcpus,
        "VCPUs_at_startup": vcpus,
        "actions_after_shutdown": "destroy",
        "actions_after_reboot": "restart",
        "actions_after_crash": "restart",
        **{
            f"PV_{which}": "" for which in ("bootloader", "kernel", "ramdisk", "args", "bootloader_args", "legacy_args")
        },
        "HVM_boot_policy": "BIOS order",
        "HVM_boot_params": {
            "order": "".join([*order, *(sign for sign in _LETTERS.values() if sign not in order)]),
            "firmware": spec.firmware,
        },
        "HVM_shadow_multiplier": 1.0,
        "platform": platform,
        "PCI_bus": "",
        "other_config": _marks(spec),
        "recommendations": text(template, "recommendations"),
        "xenstore_data": {},
        "blocked_operations": {},
        "ha_always_run": False,
        "ha_restart_priority": "",
        "tags": [],
        "domain_type": "hvm",
    }


def drive(*, owner: str, disk: str, place: int, cdrom: bool, readonly: bool) -> dict[str, Any]:
    """What `VBD.create` is sent. `owner`, `disk`: references."""
    return {
        "VM": owner,
        "VDI": disk,
        "userdevice": str(place),
        "bootable": place == 0,
        "mode": "RO" if cdrom or readonly else "RW",
        "type": "CD" if cdrom else "Disk",
        "unpluggable": not cdrom,
        "empty": False,
        "other_config": {},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
    }


def card(*, owner: str, network: str, place: int, mac: str) -> dict[str, Any]:
    """What `VIF.create` is sent; without an address XAPI makes one."""
    return {
        "VM": owner,
        "network": network,
        "device": str(place),
        "MAC": mac,
        "MTU": "1500",
        "other_config": {},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
    }


def shown(spec: GuestSpec, template: Record) -> str:
    """All of it as text, with names where XAPI has references. Raises as `check`."""
    vm = machine(spec, template)
    drives = [
        drive(owner=spec.name, disk=f"{disk.pool}/{disk.volume}" if disk.pool else disk.path, place=place,
              cdrom=disk.device == "cdrom", readonly=disk.readonly)
        for disk, place in zip(spec.disks, places(spec), strict=True)
    ]  # fmt: skip
    cards = [
        card(owner=spec.name, network=nic.network, place=place, mac=nic.mac)
        for place, nic in enumerate(spec.interfaces)
    ]
    return json.dumps({"VM": vm, "VBD": drives, "VIF": cards}, indent=2, ensure_ascii=False)


def _marks(spec: GuestSpec) -> dict[str, str]:
    found = {UUID_KEY: spec.uuid.lower(), TITLE_KEY: spec.title}
    found |= {f"{FACT_PREFIX}{name}": value for name, value in spec.metadata.items()}
    return {name: value for name, value in found.items() if value or name.startswith(FACT_PREFIX)}
