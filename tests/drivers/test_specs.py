"""A spec that no hypervisor could make is refused by the name of its field, before anybody is asked."""

from __future__ import annotations

import dataclasses

import pytest

from drivers import specs
from drivers.errors import InvalidDefinition
from drivers.types import DiskSpec, GuestSpec, NicSpec

SPEC = GuestSpec(name="web", uuid="0b7f0f4e-53a4-4f3e-9c0e-2f6a5f3f1d11", memory_bytes=1 << 30)
DISK = DiskSpec(pool="default", volume="a.qcow2", path="/pool/a.qcow2")
GOOD = (
    {},
    {"name": "wëb <&> \"quoted\" 'ünd'"},
    {"uuid": "0B7F0F4E-53A4-4F3E-9C0E-2F6A5F3F1D11"},
    {"description": "two\nlines and a\ttab"},
    {"firmware": "uefi", "secure_boot": True},
    {"disks": (DISK, DiskSpec(pool="p", volume="v", path="", device="cdrom", bus="sata"))},
    {"interfaces": (NicSpec(bridge="br0"), NicSpec(network="default", mac="52:54:00:0A:0b:0c"))},
    {"boot_order": ("network", "cdrom", "disk")},
    {"metadata": {"owner": "a & b", "x_1": ""}},
)
BAD = (
    ("name", {"name": ""}),
    ("name", {"name": "a\nb"}),
    ("name", {"name": "../etc"}),
    ("name", {"name": "a\x07"}),
    ("name", {"name": "ü" * 101}),
    ("uuid", {"uuid": "{0b7f0f4e-53a4-4f3e-9c0e-2f6a5f3f1d11}"}),
    ("uuid", {"uuid": "0b7f0f4e53a44f3e9c0e2f6a5f3f1d11"}),
    ("vcpus", {"vcpus": 0}),
    ("memory_bytes", {"memory_bytes": 1000}),
    ("title", {"title": "a\nb"}),
    ("cmdline", {"cmdline": "quiet\x1b[2J"}),
    ("description", {"description": "\ud800"}),
    ("accelerator", {"accelerator": "xen"}),
    ("firmware", {"firmware": ""}),
    ("secure_boot", {"secure_boot": True}),
    ("graphics", {"graphics": "rdp"}),
    ("boot_order", {"boot_order": ("disk", "floppy")}),
    ("metadata", {"metadata": {"Not Good": "x"}}),
    ("metadata.owner", {"metadata": {"owner": "\x00"}}),
    ("disks[1]", {"disks": (DISK, DiskSpec(pool="", volume="v", path=""))}),
    ("disks[0].bus", {"disks": (dataclasses.replace(DISK, bus="nvme"),)}),
    ("disks[0].device", {"disks": (dataclasses.replace(DISK, device="lun"),)}),
    ("disks[0].path", {"disks": (dataclasses.replace(DISK, path="/a\x00b"),)}),
    ("interfaces[0]", {"interfaces": (NicSpec(),)}),
    ("interfaces[0]", {"interfaces": (NicSpec(network="a", bridge="b"),)}),
    ("interfaces[0].mac", {"interfaces": (NicSpec(network="a", mac="01:00:5e:00:00:01"),)}),
    ("interfaces[0].mac", {"interfaces": (NicSpec(network="a", mac="52-54-00-00-00-01"),)}),
)


@pytest.mark.parametrize("changes", GOOD, ids=str)
def test_check_when_it_can_be_then_nothing(changes):
    specs.check(dataclasses.replace(SPEC, **changes))


@pytest.mark.parametrize(("field", "changes"), BAD, ids=str)
def test_check_when_it_cannot_be_then_its_field_is_named(field, changes):
    with pytest.raises(InvalidDefinition) as refusal:
        specs.check(dataclasses.replace(SPEC, **changes))
    assert refusal.value.context["field"] == field
    assert refusal.value.detail.startswith(f"{field}: ")
    assert refusal.value.detail.endswith(".")
