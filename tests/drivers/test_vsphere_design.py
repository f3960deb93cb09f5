"""What vSphere is sent for a spec, and what is refused before it is asked."""

from __future__ import annotations

import dataclasses

import pytest
from pyVmomi import vim

from drivers.errors import InvalidDefinition, Unsupported
from drivers.types import DiskSpec, GuestSpec, NicSpec
from drivers.vsphere import design
from drivers.vsphere.systems import guest_id

DISK = DiskSpec(pool="ds1", volume="web.vmdk", path="", format="vmdk")
CDROM = DiskSpec(pool="ds1", volume="iso/d.iso", path="", device="cdrom", readonly=True)
SPEC = GuestSpec(
    name="web", uuid="0B7F0F4E-53A4-4F3E-9C0E-2F6A5F3F1D11", vcpus=2, memory_bytes=1 << 30, disks=(DISK, CDROM),
    interfaces=(NicSpec(network="VM Network", mac="00:50:56:00:00:01"),), description='a "b" | c',
)  # fmt: skip


def config(spec: GuestSpec) -> vim.vm.ConfigSpec:
    design.check(spec)
    plug = vim.vm.device.VirtualEthernetCard.NetworkBackingInfo(deviceName="VM Network")
    return design.config(spec, home="ds1", backings={"VM Network": plug}, api_version="8.0.2.0")


def devices(spec: GuestSpec, kind: type) -> list:
    return [one.device for one in config(spec).deviceChange if isinstance(one.device, kind)]


def test_the_vmx_is_what_is_sent():
    assert design.shown(SPEC, "8.0.2.0").splitlines() == [
        'displayName = "web"',
        'guestOS = "other-64"',
        'vc.uuid = "0b7f0f4e-53a4-4f3e-9c0e-2f6a5f3f1d11"',
        'numvcpus = "2"',
        'memSize = "1024"',
        'firmware = "bios"',
        'annotation = "a |22b|22 |7C c"',
        'scsi0.present = "TRUE"',
        'scsi0.virtualDev = "pvscsi"',
        'scsi0:0.present = "TRUE"',
        'scsi0:0.deviceType = "scsi-hardDisk"',
        'scsi0:0.fileName = "[ds1] web.vmdk"',
        'sata0.present = "TRUE"',
        'sata0:0.present = "TRUE"',
        'sata0:0.deviceType = "cdrom-image"',
        'sata0:0.fileName = "[ds1] iso/d.iso"',
        'ethernet0.present = "TRUE"',
        'ethernet0.virtualDev = "vmxnet3"',
        'ethernet0.networkName = "VM Network"',
        'ethernet0.addressType = "static"',
        'ethernet0.address = "00:50:56:00:00:01"',
    ]


def test_each_file_is_attached_as_it_lies_there_and_none_is_made():
    sent = config(SPEC)
    assert (sent.instanceUuid, sent.memoryMB, sent.numCPUs, sent.files.vmPathName) == (
        SPEC.uuid.lower(),
        1024,
        2,
        "[ds1]",
    )
    assert {(one.operation, one.fileOperation) for one in sent.deviceChange} == {("add", None)}
    [disk] = devices(SPEC, vim.vm.device.VirtualDisk)
    [drive] = devices(SPEC, vim.vm.device.VirtualCdrom)
    assert (disk.backing.fileName, drive.backing.fileName) == ("[ds1] web.vmdk", "[ds1] iso/d.iso")


def test_sixteen_disks_leave_the_controllers_own_unit_alone():
    spec = dataclasses.replace(SPEC, disks=tuple(dataclasses.replace(DISK, volume=f"{n}.vmdk") for n in range(16)))
    disks = devices(spec, vim.vm.device.VirtualDisk)
    assert [disk.unitNumber for disk in disks] == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 0]
    assert [one.busNumber for one in devices(spec, vim.vm.device.ParaVirtualSCSIController)] == [0, 1]
    assert len({disk.controllerKey for disk in disks}) == 2


def test_windows_gets_what_its_installer_knows():
    spec = dataclasses.replace(SPEC, os_id="http://microsoft.com/win/2k22")
    assert config(spec).guestId == "windows2019srvNext_64Guest"
    assert devices(spec, vim.vm.device.VirtualLsiLogicSASController)
    assert devices(spec, vim.vm.device.VirtualE1000e)


@pytest.mark.parametrize(
    ("os_id", "version", "name"),
    [
        ("http://debian.org/debian/13", "9.0.0.0", "debian13_64Guest"),
        ("http://debian.org/debian/13", "7.0.3.0", "debian11_64Guest"),
        ("http://debian.org/debian/12", "6.5", "debian10_64Guest"),
        ("http://debian.org/debian/12", "6.0", "other3xLinux64Guest"),
        ("http://alpinelinux.org/alpinelinux/3.22", "8.0.2.0", "other5xLinux64Guest"),
        ("http://microsoft.com/win/2k25", "6.7.3", "windows9Server64Guest"),
        ("http://openbsd.org/openbsd/7.8", "8.0.2.0", "freebsd64Guest"),
        ("", "", "otherGuest64"),
    ],
)
def test_a_system_is_called_as_its_version_knows_it(os_id, version, name):
    assert guest_id(os_id, version) == name


@pytest.mark.parametrize(
    ("field", "changes", "error"),
    [
        ("name", {"name": "x" * 81}, InvalidDefinition),
        ("memory_bytes", {"memory_bytes": (1 << 30) + (1 << 20)}, InvalidDefinition),
        ("accelerator", {"accelerator": "tcg"}, Unsupported),
        ("tpm", {"tpm": True}, Unsupported),
        ("kernel", {"kernel": "/vmlinuz"}, Unsupported),
        ("root", {"root": "/srv"}, Unsupported),
        ("image", {"image": "alpine"}, Unsupported),
        ("graphics", {"graphics": "spice"}, Unsupported),
        ("boot_order", {"boot_order": ("cdrom", "disk")}, Unsupported),
        ("disks[0].bus", {"disks": (dataclasses.replace(DISK, bus="virtio"),)}, Unsupported),
        ("disks[0].bus", {"disks": (dataclasses.replace(CDROM, bus="scsi"),)}, Unsupported),
        ("interfaces[0].bridge", {"interfaces": (NicSpec(bridge="br0"),)}, Unsupported),
        ("interfaces[0].model", {"interfaces": (NicSpec(network="a", model="virtio"),)}, InvalidDefinition),
    ],
)
def test_what_it_cannot_is_refused_by_the_fields_name(field, changes, error):
    with pytest.raises(error) as refusal:
        design.shown(dataclasses.replace(SPEC, **changes), "8.0")
    assert refusal.value.detail.startswith(f"{field}: ")
