"""What goes from a definition when it is made that of another guest, and what stays."""

from __future__ import annotations

import pytest

from drivers.errors import InvalidDefinition
from drivers.libvirtd.xml.clone import make_clone
from drivers.libvirtd.xml.domain import Domain
from drivers.types import CloneSpec

SOURCE = """
<domain type='kvm'>
  <name>web-01</name><uuid>00000000-0000-4000-8000-000000000001</uuid><genid>4f1c2c8e-0000-4000-8000-000000000002</genid>
  <title>Mine</title><description>Old</description>
  <metadata>
    <libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'><libosinfo:os id='http://debian.org/debian/12'/></libosinfo:libosinfo>
    <other:thing xmlns:other='urn:other'>web-01</other:thing>
    <vmmanager:guest xmlns:vmmanager='https://vmmanager.invalid/xmlns/1'><vmmanager:id>old</vmmanager:id></vmmanager:guest>
  </metadata>
  <memory unit='KiB'>65536</memory><vcpu>2</vcpu>
  <sysinfo type='smbios'><system>
    <entry name='uuid'>00000000-0000-4000-8000-000000000001</entry><entry name='product'>P</entry></system></sysinfo>
  <os firmware='efi'><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><loader readonly='yes' type='pflash'>/usr/share/OVMF.fd</loader>
    <nvram template='/usr/share/OVMF_VARS.fd'>/var/lib/libvirt/qemu/nvram/web-01_VARS.fd</nvram></os>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/><source file='/p/web-01.qcow2' index='1'/>
      <backingStore type='file'><format type='qcow2'/><source file='/p/base.qcow2'/></backingStore>
      <target dev='vda' bus='virtio'/><serial>S1</serial><wwn>5000c50015ea71aa</wwn></disk>
    <disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/vg/data'/><target dev='vdb' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><driver name='qemu' type='raw'/>
      <source file='/p/web-01-seed.iso'/><target dev='sda' bus='sata'/><readonly/></disk>
    <disk type='file' device='cdrom'><driver name='qemu' type='raw'/>
      <source file='/p/debian.iso'/><target dev='sdb' bus='sata'/><readonly/></disk>
    <interface type='bridge'><mac address='52:54:00:AA:00:01'/><source bridge='br0'/>
      <virtualport type='openvswitch'><parameters interfaceid='1'/></virtualport>
      <target dev='mytap'/><model type='virtio'/></interface>
    <interface type='network'><mac address='52:54:00:aa:00:02'/><source network='default'/></interface>
    <channel type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/channel/target/domain-1-web-01/agent'/>
      <target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <graphics type='vnc' port='5901' autoport='no' websocket='5701' passwd='secret' listen='127.0.0.1'/>
    <hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0' bus='1' slot='0' function='0'/></source></hostdev>
    <vsock model='virtio'><cid auto='no' address='3'/></vsock>
  </devices>
  <seclabel type='dynamic' model='apparmor'><label>libvirt-web-01</label></seclabel>
</domain>
"""
SPEC = CloneSpec(
    name="web-02",
    uuid="00000000-0000-4000-8000-00000000000A",
    disks={"vda": ("/p/web-02.qcow2", "qcow2"), "vdb": ("/p/web-02-2.img", "raw"), "sdb": ("", "")},
    macs={"52:54:00:aa:00:01": "52:54:00:bb:00:01"},
    metadata={"id": "new"},
)


def made(**changes) -> Domain:
    domain = Domain.parse(SOURCE)
    make_clone(domain, CloneSpec(**{**{name: getattr(SPEC, name) for name in SPEC.__dataclass_fields__}, **changes}))
    return domain


def test_nothing_of_the_source_is_left_by_name():
    text = made().to_xml()
    for own in (
        "web-01", "000000000001", "000000000002",
        "base.qcow2", ">S1<", "5000c50015ea71aa", "aa:00:01", "AA:00:01", "aa:00:02", "mytap", "5901",
        "5701", "interfaceid", "hostdev", "libvirt-web-01", "Mine", "Old", "urn:other", ">old<", "debian.iso",
    ):  # fmt: skip
        assert own not in text, own


def test_what_makes_the_guest_stays():
    domain = made()
    assert (domain.name, domain.uuid, domain.vcpus, domain.memory_bytes) == (
        "web-02", "00000000-0000-4000-8000-00000000000a", 2, 65536 << 10
    )  # fmt: skip
    assert domain.metadata.os_id == "http://debian.org/debian/12"
    assert (domain.os.machine, domain.os.firmware) == ("pc-q35-7.2", "efi")
    assert domain.node.find("os/nvram").get("template") == "/usr/share/OVMF_VARS.fd"
    assert [(disk.target, disk.type, disk.file, disk.format) for disk in domain.disks] == [
        ("vda", "file", "/p/web-02.qcow2", "qcow2"),
        ("vdb", "file", "/p/web-02-2.img", "raw"),
        ("sdb", "file", None, "raw"),
    ]
    assert domain.disks[0].discard == "unmap"
    assert [nic.mac for nic in domain.interfaces] == ["52:54:00:bb:00:01", None]
    screen = domain.graphics[0]
    assert (screen.password, screen.autoport, screen.listen) == ("secret", "yes", "127.0.0.1")
    assert domain.node.find("devices/vsock/cid").attrib == {"auto": "yes"}
    assert [entry.text for entry in domain.node.iterfind("sysinfo//entry")] == ["P"]


@pytest.mark.parametrize("path", ["", "pool/image", "../etc/shadow"])
def test_a_disk_needs_a_path_on_the_host(path):
    with pytest.raises(InvalidDefinition, match="vda"):
        made(disks={"vda": (path, "raw")})
