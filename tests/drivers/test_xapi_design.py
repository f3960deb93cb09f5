"""What XAPI is sent for a spec, and what is refused before it is asked."""

from __future__ import annotations

import dataclasses
import json

import pytest

from drivers.errors import InvalidDefinition, Unsupported
from drivers.types import DiskSpec, GuestSpec, NicSpec
from drivers.xapi import design
from drivers.xapi.making import addresses_of

DISK = DiskSpec(pool="Local storage", volume="web.vdi", path="", format="vdi")
CDROM = DiskSpec(pool="CDs", volume="d.iso", path="", device="cdrom", readonly=True)
SPEC = GuestSpec(
    name="web", uuid="0B7F0F4E-53A4-4F3E-9C0E-2F6A5F3F1D11", vcpus=2, memory_bytes=1 << 30, disks=(DISK, CDROM, DISK),
    interfaces=(NicSpec(network="lan", mac="00:16:3e:00:00:01"),), title="Front", metadata={"project": "x", "note": ""},
)  # fmt: skip
TEMPLATE = {
    "platform": {"device-model": "qemu-upstream-compat", "viridian": "false"},
    "recommendations": "<restrictions/>",
}


def test_the_record_says_what_was_asked_for_on_the_templates_platform():
    made = design.machine(dataclasses.replace(SPEC, nested=True, firmware="uefi", secure_boot=True), TEMPLATE)
    assert (made["memory_static_max"], made["memory_static_min"], made["VCPUs_max"]) == (
        "1073741824",
        "1073741824",
        "2",
    )
    assert made["HVM_boot_params"] == {"order": "cdn", "firmware": "uefi"}
    platform = made["platform"]
    assert (platform["device-model"], platform["viridian"], platform["secureboot"]) == (
        "qemu-upstream-compat",
        "false",
        "true",
    )
    assert platform["exp-nested-hvm"] == "true"
    assert made["other_config"] == {
        "vmmanager.uuid": SPEC.uuid.lower(),
        "vmmanager.title": "Front",
        "vmmanager.fact.project": "x",
        "vmmanager.fact.note": "",
    }


def test_a_cd_is_where_firmware_looks_and_the_first_disk_is_booted():
    shown = json.loads(design.shown(SPEC, {}))
    assert [(one["userdevice"], one["type"], one["mode"], one["bootable"]) for one in shown["VBD"]] == [
        ("0", "Disk", "RW", True),
        ("3", "CD", "RO", False),
        ("1", "Disk", "RW", False),
    ]
    assert (shown["VBD"][0]["VDI"], shown["VIF"][0]["MAC"]) == ("Local storage/web.vdi", "00:16:3e:00:00:01")
    installs = dataclasses.replace(SPEC, boot_order=("disk", "cdrom"))
    assert design.machine(installs, {})["HVM_boot_params"]["order"] == "cdn"
    assert design.machine(dataclasses.replace(SPEC, boot_order=("network",)), {})["HVM_boot_params"]["order"] == "ncd"


@pytest.mark.parametrize(
    ("field", "changes", "error"),
    [
        ("name", {"name": "x" * 201}, InvalidDefinition),
        ("accelerator", {"accelerator": "kvm"}, Unsupported),
        ("tpm", {"tpm": True}, Unsupported),
        ("kernel", {"kernel": "/vmlinuz"}, Unsupported),
        ("root", {"root": "/srv"}, Unsupported),
        ("image", {"image": "alpine"}, Unsupported),
        ("graphics", {"graphics": "spice"}, Unsupported),
        ("disks[0].bus", {"disks": (dataclasses.replace(DISK, bus="virtio"),)}, Unsupported),
        ("disks[3]", {"disks": (CDROM,) * 4}, Unsupported),
        ("disks[16]", {"disks": (DISK,) * 17}, Unsupported),
        ("interfaces[0].bridge", {"interfaces": (NicSpec(bridge="xenbr0"),)}, Unsupported),
        ("interfaces[0].model", {"interfaces": (NicSpec(network="a", model="e1000"),)}, Unsupported),
    ],
)
def test_what_it_cannot_is_refused_by_the_fields_name(field, changes, error):
    with pytest.raises(error) as refusal:
        design.shown(dataclasses.replace(SPEC, **changes), TEMPLATE)
    assert refusal.value.detail.startswith(f"{field}: ")


def test_addresses_are_told_once_and_with_their_cards():
    told = {"0/ip": "10.0.0.5", "0/ipv4/0": "10.0.0.5", "1/ipv6/0": "fd00::5", "odd": "x", "0/ipv4/1": 7, "0/ip6": ""}
    found = addresses_of({"networks": told}, {"0": "00:16:3e:00:00:01"})
    assert [(one.address, one.mac, one.source) for one in found] == [
        ("10.0.0.5", "00:16:3e:00:00:01", "agent"),
        ("fd00::5", "", "agent"),
    ]
