"""Hardware behind libvirt: definitions and values, the test driver, and (marked `real`) QEMU and LXC looked at with virsh."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from drivers import registry
from drivers.errors import AlreadyExists, DriverError, InvalidDefinition, Timeout, Unsupported
from drivers.libvirtd.hardware import check, edit, host, options, ports, ranges, read
from drivers.libvirtd.kinds import QemuDriver
from drivers.libvirtd.xml.capabilities import Capabilities
from drivers.libvirtd.xml.domain import Domain
from drivers.types import (
    BootHardware,
    CpuHardware,
    DiskHardware,
    DiskSpec,
    DisplayHardware,
    Endpoint,
    Feature,
    GuestRef,
    GuestSpec,
    Hardware,
    HostDeviceHardware,
    IoLimits,
    MemoryHardware,
    NicHardware,
    NicSpec,
    NumaNode,
    SimpleHardware,
)
from tests import scorecard
from tests.drivers import design_hosts
from tests.labs import local
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from drivers.types import Device

NEXT = {"live": False, "defined": True}
BOTH = {"live": True, "defined": True}
GUEST = """<domain type='qemu' xmlns:x='urn:else'><name>g</name><uuid>5e1f4c0e-53a4-4f3e-9c0e-2f6a5f3f1d11</uuid>
<memory unit='KiB'>2097152</memory><currentMemory unit='KiB'>1048576</currentMemory><vcpu placement='static' current='2'>4</vcpu>
<cputune><vcpupin vcpu='0' cpuset='0-1,3'/><emulatorpin cpuset='2'/></cputune><numatune><memory mode='interleave' nodeset='0'/></numatune>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><boot dev='hd'/><bootmenu enable='yes' timeout='3000'/></os>
<cpu mode='custom' match='exact'><model fallback='forbid'>qemu64</model><topology sockets='1' dies='2' cores='2' threads='1'/>
<feature policy='disable' name='svm'/>
<numa><cell id='0' cpus='0-1' memory='1' unit='GiB'/><cell id='1' cpus='2-3' memory='1048576'/></numa></cpu>
<devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none' io='native' discard='unmap' queues='4'/>
<source file='/p/a.qcow2'><encryption format='luks'/></source><target dev='vda' bus='virtio'/>
<iotune><total_bytes_sec>1000</total_bytes_sec>
<total_bytes_sec_max>2000</total_bytes_sec_max><read_iops_sec>9</read_iops_sec></iotune><serial>S 1</serial><shareable/><x:mine/></disk>
<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><target dev='sda' bus='sata'/><readonly/></disk>
<disk type='volume' device='disk'><source pool='rbd' volume='v'/><target dev='vdb' bus='virtio'/></disk>
<disk type='network' device='disk'><source protocol='rbd' name='p/i'><host name='h'/></source><target dev='vdc' bus='virtio'/></disk>
<controller type='pci' index='0' model='pcie-root'/><controller type='pci' index='1' model='pcie-root-port'/>
<controller type='pci' index='2' model='pcie-root-port'/>
<interface type='network'><mac address='52:54:00:AA:00:01'/><source network='default' bridge='virbr0'/><model type='virtio'/>
<target dev='vnet3'/><address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></interface>
<interface type='bridge'><mac address='52:54:00:aa:00:02'/><source bridge='br0'/><vlan><tag id='42'/></vlan><link state='down'/>
<filterref filter='clean-traffic'><parameter name='IP' value='192.0.2.1'/></filterref>
<bandwidth><inbound average='1000' peak='5000' burst='1024'/></bandwidth></interface>
<interface type='direct'><mac address='52:54:00:aa:00:03'/><source dev='eth0' mode='private'/></interface>
<serial type='pty'><target type='isa-serial' port='0'/></serial><serial type='pty'><target type='isa-serial' port='1'/></serial>
<console type='pty'><target type='serial' port='0'/></console>
<input type='tablet' bus='usb'/><input type='keyboard' bus='virtio'/><input type='mouse' bus='ps2'/>
<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
<graphics type='vnc' port='5901' autoport='yes' passwd='secret' listen='127.0.0.1'><listen type='address' address='127.0.0.1'/></graphics>
<sound model='ich9'/><video><model type='virtio' heads='1'/></video>
<hostdev mode='subsystem' type='pci' managed='yes'><source>
<address domain='0x0000' bus='0x0a' slot='0x1f' function='0x3'/></source></hostdev>
<hostdev mode='subsystem' type='usb'><source><vendor id='0x046d'/><product id='0xc52b'/><address bus='1' device='4'/></source></hostdev>
<hostdev mode='subsystem' type='usb'><source><address bus='1' device='14'/></source></hostdev>
<hostdev mode='subsystem' type='scsi'><source/></hostdev>
<watchdog model='i6300esb'/><memballoon model='virtio'/><rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
<rng model='virtio'><backend model='random'>/dev/random</backend></rng></devices></domain>"""
TRAITS = QemuDriver.hardware
assert TRAITS is not None
OFFERED = options.qemu(
    Domain.parse(GUEST), lambda: design_hosts.qemu_host(tpm=True).domains("qemu", "x86_64", "pc-q35-7.2")
)


def guest() -> Domain:
    return Domain.parse(GUEST)


def hardware() -> Hardware:
    return read.hardware(guest())


def change(device: Device, domain: Domain | None = None) -> Domain:
    """The guest's definition with the device changed in it."""
    document = domain or guest()
    edit.change(document, check.tidied(device), TRAITS, OFFERED)
    return document


def added(device: Device, domain: Domain | None = None) -> Domain:
    document = domain or guest()
    named = edit.named(check.tidied(device), [document], OFFERED)
    assert edit.attach(document, named, TRAITS, OFFERED)
    return document


# -- lists of numbers ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("written", "tidy"), [("0-3,8", "0-3,8"), ("8,0,1,2,3", "0-3,8"), ("5", "5"), ("0-7,^3", "0-2,4-7"), ("", "")]
)
def test_ranges_have_one_way_to_be_written(written, tidy):
    assert ranges.tidy(written) == tidy


@pytest.mark.parametrize("written", ["-", "1-", "3-1", "a", "0-99999999999", "1,,2", "^1", "0-9" * 2000, "1;2", "٣"])
def test_what_is_no_range_is_refused(written):
    with pytest.raises(ValueError, match=r"\w"):
        ranges.parse(written)


# -- reading ----------------------------------------------------------------------------------------------------------------
def test_processors_and_memory_are_read():
    found = hardware()
    assert found.cpu == CpuHardware(
        vcpus=2,
        max_vcpus=4,
        sockets=2,
        cores=2,
        threads=1,
        mode="custom",
        model="qemu64",
        pins={0: "0-1,3"},
        emulator_pins="2",
        nodes=(NumaNode(cpus="0-1", memory_bytes=1 << 30), NumaNode(cpus="2-3", memory_bytes=1 << 30)),
        memory_nodes="0",
        memory_mode="interleave",
    )
    assert found.memory == MemoryHardware(memory_bytes=1 << 30, max_memory_bytes=2 << 30)
    assert found.boot == BootHardware(order=("hd",), menu=True)


def test_disks_are_read():
    vda, sda, vdb, vdc = hardware().disks
    assert vda == DiskHardware(
        target="vda",
        bus="virtio",
        path="/p/a.qcow2",
        format="qcow2",
        shareable=True,
        cache="none",
        io="native",
        discard="unmap",
        serial="S 1",
        limits=IoLimits(total_bytes_per_second=1000, read_requests_per_second=9),
    )
    assert sda == DiskHardware(target="sda", device="cdrom", bus="sata", format="raw", readonly=True)
    assert (vdb.path, vdc.path) == ("rbd/v", "rbd:p/i")


def test_interfaces_are_read_as_the_guest_has_them():
    first, second, third = hardware().interfaces
    assert first == NicHardware(mac="52:54:00:aa:00:01", model="virtio", network="default")
    assert second == NicHardware(
        mac="52:54:00:aa:00:02",
        bridge="br0",
        link="down",
        inbound_bytes_per_second=1024000,
        filter="clean-traffic",
        vlan=42,
    )
    assert third == NicHardware(mac="52:54:00:aa:00:03", direct="eth0", direct_mode="private")


def test_small_devices_have_keys_of_their_own():
    assert set(hardware().devices) >= {
        "tpm", "rng", "rng/1", "watchdog", "serial/0", "serial/1", "balloon", "sound", "input", "input/1", "display/vnc"
    }  # fmt: skip
    assert hardware().devices["input/1"] == SimpleHardware(kind="input", model="virtio-keyboard", number=1)
    assert hardware().displays == (DisplayHardware(type="vnc", listen="127.0.0.1", video="virtio"),)


def test_devices_of_the_host_are_read_by_who_they_are():
    assert [one.key for one in hardware().host_devices] == ["pci/0000:0a:1f.3", "usb/046d:c52b", "usb/001:014"]


def test_a_pin_to_all_of_the_hosts_cpus_is_none():
    found = read.hardware(guest(), everywhere=frozenset({0, 1, 3})).cpu
    assert (found.pins, found.emulator_pins) == ({}, "2")


@pytest.mark.parametrize(
    ("defined", "live"),
    [
        (
            "<cpu mode='host-model' check='partial'/>",
            "<cpu mode='custom' match='exact' check='full'><model>EPYC</model></cpu>",
        ),
        ("", "<cpu mode='custom' match='exact' check='none'><model fallback='forbid'>qemu64</model></cpu>"),
        (
            "<devices><graphics type='vnc'><listen type='socket'/></graphics></devices>",
            "<devices><graphics type='vnc' socket='/v/1.sock'><listen type='socket' socket='/v/1.sock'/></graphics></devices>",
        ),
        (
            "<devices><graphics type='vnc' port='-1' autoport='yes'><listen type='address'/></graphics></devices>",
            "<devices><graphics type='vnc' port='5900' autoport='yes'><listen type='address' address='127.0.0.1'/></graphics></devices>",
        ),
        (
            "<devices><disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk></devices>",
            "<devices><disk type='file' device='cdrom'><driver name='qemu' type='raw'/><target dev='sda' bus='sata'/></disk></devices>",
        ),
        (
            "<devices><serial type='pty'><target port='0'/></serial></devices>",
            "<devices><serial type='pty'><source path='/dev/pts/1'/><target type='isa-serial' port='0'/></serial></devices>",
        ),
    ],
)
def test_what_libvirt_fills_in_at_a_start_is_no_difference(defined, live):
    around = "<domain><name>g</name><memory>1024</memory><vcpu>1</vcpu>{}</domain>"
    wanted = read.hardware(Domain.parse(around.format(defined)))
    assert read.settled(read.hardware(Domain.parse(around.format(live))), wanted) == wanted


def test_what_is_changed_is_a_difference():
    wanted = read.hardware(change(dataclasses.replace(hardware().cpu, model="qemu64", vcpus=3)))
    assert read.settled(hardware(), wanted) == hardware() != wanted


# -- editing ------------------------------------------------------------------------------------------------------------------
CHANGED = [
    dataclasses.replace(hardware().disks[0], cache="writeback", io="", serial="", limits=IoLimits(write_bytes_per_second=7)),
    dataclasses.replace(hardware().disks[0], path="/dev/vg/lv", format="raw", bus="sata", boot_order=1),
    dataclasses.replace(hardware().disks[1], path="/iso/a & b.iso"),
    dataclasses.replace(hardware().disks[2], cache="none", readonly=True, shareable=True),
    dataclasses.replace(hardware().disks[3], discard="unmap"),
    dataclasses.replace(hardware().interfaces[0], network="it's <b>&\"", link="down", outbound_bytes_per_second=4096),
    dataclasses.replace(hardware().interfaces[1], bridge="", direct="eth1", direct_mode="bridge", vlan=0, filter="no-ip"),
    dataclasses.replace(hardware().interfaces[2], direct="", direct_mode="", network="lan", vlan=7),
    DisplayHardware(type="vnc", listen="::1", video="vga"),
    DisplayHardware(type="vnc", listen="socket", video="virtio"),
    SimpleHardware(kind="watchdog", model="i6300esb", action="poweroff"),
    SimpleHardware(kind="sound", model="ac97"),
    SimpleHardware(kind="input", model="mouse"),
    HostDeviceHardware(kind="pci", address="0000:0a:1f.3", boot_order=2),
    MemoryHardware(memory_bytes=1 << 29, max_memory_bytes=2 << 30, balloon=False),
    BootHardware(order=("nic/52:54:00:aa:00:01", "disk/vda"), menu=False),
    BootHardware(order=("network", "hd")),
    CpuHardware(vcpus=6, max_vcpus=6, sockets=1, cores=3, threads=2, mode="maximum", pins={5: "1"}),
    CpuHardware(vcpus=1, max_vcpus=1, nodes=(NumaNode(cpus="0", memory_bytes=1 << 30),), memory_nodes="0-1", memory_mode="strict"),
]  # fmt: skip


@pytest.mark.parametrize("device", CHANGED, ids=lambda one: one.key)
def test_a_changed_device_is_read_as_it_was_wished_and_no_other_is_touched(device):
    after = read.hardware(change(device)).devices
    assert after[device.key] == device
    beside = {device.key} | ({"balloon", "cpu", "memory"} if device.key in ("cpu", "memory") else {"boot"})
    if device.key == "boot":
        beside |= {"disk/vda", "nic/52:54:00:aa:00:01"}
    if getattr(device, "boot_order", 0):
        beside |= {"disk/vda"}
    before = hardware().devices
    assert {key: one for key, one in after.items() if key not in beside} == {
        key: one for key, one in before.items() if key not in beside
    }


@pytest.mark.parametrize("device", CHANGED, ids=lambda one: one.key)
def test_a_device_that_is_so_already_is_not_written(device):
    document = change(device)
    text = document.to_xml()
    assert not edit.change(document, check.tidied(device), TRAITS, OFFERED)
    assert document.to_xml() == text


def test_what_is_not_ours_to_say_survives():
    text = change(dataclasses.replace(hardware().disks[0], cache="writeback", io="")).to_xml()
    for ours_not in ('queues="4"', "<encryption", "mine", 'passwd="secret"', "<total_bytes_sec_max>2000"):
        assert ours_not in text
    text = change(dataclasses.replace(hardware().interfaces[1], link="up", inbound_bytes_per_second=2048000)).to_xml()
    for ours_not in ('value="192.0.2.1"', 'peak="5000"', 'burst="1024"'):
        assert ours_not in text


def test_bursts_below_the_new_limit_go():
    more = dataclasses.replace(hardware().disks[0], limits=IoLimits(total_bytes_per_second=3000))
    assert "_max" not in change(more).to_xml()
    assert (
        'peak="' not in change(dataclasses.replace(hardware().interfaces[1], inbound_bytes_per_second=10**7)).to_xml()
    )


def test_the_first_number_of_booting_takes_what_was_booted_from_along():
    after = read.hardware(change(dataclasses.replace(hardware().interfaces[0], boot_order=1)))
    assert after.boot.order == ("nic/52:54:00:aa:00:01", "disk/vda")
    again = change(BootHardware(order=("disk/vda",)))
    with pytest.raises(InvalidDefinition, match="disk/vda is at place 1"):
        change(dataclasses.replace(hardware().interfaces[0], boot_order=1), again)


def test_memory_of_numa_nodes_is_the_guests():
    after = read.hardware(
        change(dataclasses.replace(hardware().cpu, nodes=(NumaNode(cpus="0-3", memory_bytes=1 << 29),)))
    )
    assert after.memory == MemoryHardware(memory_bytes=1 << 29, max_memory_bytes=1 << 29)
    with pytest.raises(InvalidDefinition, match="NUMA nodes"):
        change(MemoryHardware(memory_bytes=4 << 30))


def test_another_model_leaves_the_old_ones_features_behind():
    assert (
        "svm" in change(dataclasses.replace(hardware().cpu, mode="maximum", model="")).to_xml()
    )  # the host has it not
    assert "svm" not in change(dataclasses.replace(hardware().cpu, mode="", model="")).to_xml()


ADDED = [
    (DiskHardware(path="/p/b.raw", format="raw", cache="none"), "disk/vdd"),
    (DiskHardware(path="/p/b.raw", bus="scsi"), "disk/sdb"),
    (DiskHardware(path="rbd/other", bus="usb"), "disk/sdb"),
    (DiskHardware(device="cdrom"), "disk/sdb"),
    (NicHardware(network="default"), None),
    (NicHardware(mac="52:54:00:AB:00:01", direct="eth0"), "nic/52:54:00:ab:00:01"),
    (DisplayHardware(type="spice"), "display/spice"),
    (SimpleHardware(kind="serial", number=2), "serial/2"),
    (SimpleHardware(kind="rng", number=2), "rng/2"),
    (SimpleHardware(kind="tpm", number=1), "tpm/1"),
    (HostDeviceHardware(kind="pci", address="0000:01:00.0"), "pci/0000:01:00.0"),
    (HostDeviceHardware(kind="usb", address="001:004"), "usb/001:004"),
]


@pytest.mark.parametrize(("device", "key"), ADDED)
def test_an_added_device_is_there_once_and_goes_without_a_trace(device, key):
    document = added(device)
    [new] = set(read.hardware(document).devices) - set(hardware().devices)
    assert key in (new, None)
    there = read.hardware(document).devices[new]
    assert not edit.attach(document, there, TRAITS, OFFERED)
    assert edit.detach(document, new)
    assert not edit.detach(document, new)
    assert read.hardware(document) == hardware()


def test_the_same_disk_without_a_name_is_not_added_twice():
    document = added(DiskHardware(path="/p/b.raw", format="raw"))
    again = edit.named(DiskHardware(path="/p/b.raw", format="raw"), [document], OFFERED)
    assert not edit.attach(document, again, TRAITS, OFFERED)


def test_another_device_of_the_same_name_is_not_overwritten():
    with pytest.raises(AlreadyExists, match="disk/vda"):
        added(DiskHardware(target="vda", bus="virtio", path="/p/other.raw"))
    with pytest.raises(AlreadyExists, match="cpu"):
        added(CpuHardware(vcpus=3))


def test_what_belongs_to_a_device_goes_with_it():
    document = added(DiskHardware(path="/p/b.raw", bus="scsi"))
    assert "virtio-scsi" in document.to_xml()
    document = guest()
    for key in ("serial/0", "display/vnc", "balloon"):
        edit.detach(document, key)
    text = document.to_xml()
    assert "<console" not in text
    assert "<video" not in text
    assert '<memballoon model="none"/>' in text
    for key in ("cpu", "memory", "boot"):
        with pytest.raises(InvalidDefinition, match="not taken away"):
            edit.detach(document, key)


# -- what cannot be --------------------------------------------------------------------------------------------------------------
DISK = DiskHardware(target="vdx", bus="virtio", path="/p/x", format="raw")
NIC = NicHardware(mac="52:54:00:00:00:07", network="default", model="virtio")
HOSTILE: list[Device] = [
    *(dataclasses.replace(DISK, path=path) for path in ("x.img", "../x", "/p/../etc/shadow", "/p/a\nb", "/" + "x" * 5000, "/a\0b", "")),
    *(dataclasses.replace(DISK, path=path) for path in ("pool/../v", "rbd:p/i", "nbd:unix:/x")),
    *(dataclasses.replace(DISK, target=target) for target in ("vda'/><x", "../vda", "vd1", "vdaaaaa", "VDA")),
    *(dataclasses.replace(DISK, serial=serial) for serial in ("a'b", "<x/>", "x" * 40, "a,b", "a\n")),
    *(dataclasses.replace(DISK, **{field: 'x" y="'}) for field in ("bus", "format", "cache", "io", "discard", "device")),
    dataclasses.replace(DISK, io="native", cache="writeback"),
    dataclasses.replace(DISK, boot_order=-1),
    dataclasses.replace(DISK, limits=IoLimits(total_bytes_per_second=-1)),
    dataclasses.replace(DISK, limits=IoLimits(total_bytes_per_second=10**30)),
    dataclasses.replace(DISK, limits=IoLimits(total_bytes_per_second=1, read_bytes_per_second=1)),
    *(dataclasses.replace(NIC, mac=mac) for mac in ("52:54:00", "01:00:5e:00:00:01", "52:54:00:00:00:0g", "x")),
    *(dataclasses.replace(NIC, network="", bridge=name) for name in ("br0; rm", "a/b", "x" * 16, "br'0")),
    dataclasses.replace(NIC, network="a/b"),
    dataclasses.replace(NIC, network="a\nb"),
    dataclasses.replace(NIC, bridge="br0"),
    dataclasses.replace(NIC, vlan=4095),
    dataclasses.replace(NIC, filter="a\tb"),
    dataclasses.replace(NIC, link="maybe"),
    dataclasses.replace(NIC, inbound_bytes_per_second=1000),
    dataclasses.replace(NIC, outbound_bytes_per_second=1 << 60),
    dataclasses.replace(NIC, network="", direct="eth0", direct_mode="router"),
    dataclasses.replace(NIC, network=""),
    CpuHardware(vcpus=10**9),
    CpuHardware(vcpus=2, max_vcpus=2, sockets=2),
    CpuHardware(vcpus=1, mode="custom"),
    CpuHardware(vcpus=1, mode="host-model", model="EPYC"),
    CpuHardware(vcpus=1, max_vcpus=1, pins={7: "0"}),
    CpuHardware(vcpus=1, pins={-1: "0"}),
    CpuHardware(vcpus=1, pins={0: "0-999999999"}),
    CpuHardware(vcpus=1, emulator_pins="all'"),
    CpuHardware(vcpus=2, nodes=(NumaNode(cpus="0-1", memory_bytes=1 << 30), NumaNode(cpus="1", memory_bytes=1 << 30))),
    CpuHardware(vcpus=2, max_vcpus=2, nodes=(NumaNode(cpus="9", memory_bytes=1 << 30),)),
    CpuHardware(vcpus=1, memory_nodes="0", memory_mode="never"),
    MemoryHardware(memory_bytes=-5),
    MemoryHardware(memory_bytes=1 << 62),
    MemoryHardware(memory_bytes=2 << 20, max_memory_bytes=1 << 20),
    DisplayHardware(type="vnc", listen="localhost' passwd='x"),
    DisplayHardware(type=""),
    SimpleHardware(kind="gpu"),
    SimpleHardware(kind="sound", model="a b"),
    SimpleHardware(kind="watchdog", action="launch"),
    SimpleHardware(kind="serial", number=-1),
    HostDeviceHardware(kind="pci", address="0000:00:05"),
    HostDeviceHardware(kind="pci", address="0000:00:05.0'/>"),
    HostDeviceHardware(kind="usb", address="../../dev"),
    HostDeviceHardware(kind="scsi", address="0:0:0:0"),
    BootHardware(order=("disk/vda", "hd")),
    BootHardware(order=("hd", "hd")),
    BootHardware(order=("disk/nothing",)),
]  # fmt: skip


@pytest.mark.parametrize("device", HOSTILE, ids=lambda one: one.key)
def test_hostile_values_are_refused_by_their_fields(device):
    verb = change if isinstance(device, edit.ONE_OF_EACH) else added
    with pytest.raises(InvalidDefinition):
        verb(device)


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (dataclasses.replace(DISK, bus="nvme"), "bus: nvme is not there.*virtio, scsi"),
        (dataclasses.replace(NIC, model="ne2000"), "model: ne2000"),
        (DisplayHardware(type="rdp"), "type: rdp"),
        (SimpleHardware(kind="sound", model="gus", number=1), "model: gus"),
        (SimpleHardware(kind="watchdog", model="diag288", number=1), "model: diag288"),
    ],
)
def test_what_is_not_offered_is_refused_with_what_is(device, words):
    with pytest.raises(DriverError, match=words):
        added(device)


def test_no_more_vcpus_than_there_can_be():
    with pytest.raises(Unsupported, match="at most 255"):
        change(dataclasses.replace(hardware().cpu, max_vcpus=300, sockets=0, cores=0, threads=0))


def test_a_tpm_without_swtpm_says_what_to_install():
    bare = options.qemu(guest(), lambda: design_hosts.qemu_host().domains("qemu", "x86_64", "pc-q35-7.2"))
    with pytest.raises(Unsupported, match="swtpm is not installed"):
        edit.attach(guest(), SimpleHardware(kind="tpm", number=1), TRAITS, bare)


# -- the host ----------------------------------------------------------------------------------------------------------------------
def test_free_ports_are_counted_where_they_count():
    assert ports.free(guest()) == 1
    assert (
        ports.free(Domain.parse("<domain><devices><controller type='pci' model='pci-root'/></devices></domain>"))
        is None
    )


def _pci(slot: int, class_: str, more: str = "") -> str:
    return (
        f"<device><name>pci</name><driver><name>vfio-pci</name></driver><capability type='pci'><class>{class_}</class><domain>0</domain>"
        f"<bus>1</bus><slot>{slot}</slot><function>0</function><product id='0x1'>Card</product><vendor id='0x2'>Maker</vendor>{more}"
        "</capability></device>"
    )


def _usb(device: int, vendor: str, product: str) -> str:
    return (
        f"<device><name>usb</name><capability type='usb_device'><bus>1</bus><device>{device}</device><product id='{product}'/>"
        f"<vendor id='{vendor}'>Maker</vendor></capability></device>"
    )


def test_devices_of_the_host_come_without_bridges_and_hubs():
    found = host.devices(
        [
            _usb(1, "0x1d6b", "0x0002"),
            _usb(2, "0x046d", "0xc52b"),
            _usb(3, "0x0781", "0x5567"),
            _usb(4, "0x0781", "0x5567"),
            _pci(2, "0x060400"),
            _pci(0, "0x030000", "<iommuGroup number='7'><address/></iommuGroup>"),
            _pci(1, "0x0c0330"),
        ]
    )
    assert [(one.address, one.class_, one.iommu_group) for one in found] == [
        ("0000:01:00.0", "display", 7),
        ("0000:01:01.0", "usb", None),
        ("001:003", "usb", None),
        ("001:004", "usb", None),
        ("046d:c52b", "usb", None),
    ]
    assert (found[0].vendor, found[0].product, found[0].driver) == ("Maker", "Card", "vfio-pci")


def test_numa_nodes_of_the_host():
    cells = "".join(
        f"<cell id='{number}'><memory unit='KiB'>1024</memory><cpus><cpu id='{number}'/><cpu id='{number + 2}'/></cpus></cell>"
        for number in (0, 1)
    )
    told = Capabilities.parse(
        f"<capabilities><host><topology><cells num='2'>{cells}</cells></topology></host></capabilities>"
    )
    found = host.nodes(told, cpus=4, memory_bytes=1, free=[5, 6])
    assert [(node.id, node.cpus, node.memory_bytes, node.free_bytes) for node in found] == [
        (0, "0,2", 1 << 20, 5),
        (1, "1,3", 1 << 20, 6),
    ]
    [one] = host.nodes(Capabilities.parse("<capabilities/>"), cpus=4, memory_bytes=9, free=[])
    assert (one.cpus, one.memory_bytes) == ("0-3", 9)


# -- libvirt's test driver -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def simulated(tmp_path):
    node = tmp_path / "node.xml"
    node.write_text(
        "<node><domain type='test'><name>first</name><memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type>hvm</type></os></domain></node>"
    )
    session = registry.get("test").open(Endpoint(driver="test", uri=f"test://{node}"))
    yield session
    session.close()


@pytest.fixture
def made(simulated) -> GuestRef:
    xml = GUEST.replace("type='qemu'", "type='test'").replace("<x:mine/>", "").replace(" xmlns:x='urn:else'", "")
    xml = xml.replace("<hostdev mode='subsystem' type='scsi'><source/></hostdev>", "").replace("peak='5000' ", "")
    return simulated.define(xml).ref


def test_a_changed_definition_is_one_that_libvirt_takes_and_keeps_its_passwords(simulated, made):
    found = simulated.hardware(made).defined
    simulated.update(made, dataclasses.replace(found.disks[0], cache="unsafe", io=""), **NEXT)
    simulated.attach(made, dataclasses.replace(NIC, network="it's <b>&\"x"), **NEXT)
    after = simulated.hardware(made).defined
    assert after.disks[0].cache == "unsafe"
    assert after.interfaces[-1].network == "it's <b>&\"x"
    domain = simulated._domain(made)
    assert "passwd='secret'" in domain.XMLDesc(3)


@pytest.mark.parametrize("device", HOSTILE[:12], ids=lambda one: one.key)
def test_what_is_refused_changes_nothing(simulated, made, device):
    before = simulated.definition(made)
    with pytest.raises(InvalidDefinition):
        simulated.attach(made, device, **NEXT)
    assert simulated.definition(made) == before


def test_a_definition_is_put_back_when_the_running_guest_refuses(simulated, made):
    simulated.update(made, CpuHardware(vcpus=1, max_vcpus=2), **NEXT)
    simulated.start(made)
    before = simulated.definition(made)
    with pytest.raises(Unsupported, match="max_vcpus: it takes effect"):
        simulated.update(made, CpuHardware(vcpus=4, max_vcpus=4), **BOTH)
    assert simulated.definition(made) == before
    simulated.update(made, CpuHardware(vcpus=4, max_vcpus=4), **NEXT)
    # What waits for the next start already is not refused anew.
    simulated.update(made, CpuHardware(vcpus=2, max_vcpus=4), live=True, defined=False)
    now = simulated.hardware(made)
    assert (now.live.cpu.vcpus, now.defined.cpu.vcpus) == (2, 4)


# -- real QEMU ---------------------------------------------------------------------------------------------------------------------
def _file(home: Path, name: str, size: int = 1 << 20) -> str:
    path = home / name
    path.write_bytes(bytes(size))
    path.chmod(0o666)
    return str(path)


@pytest.fixture
def qemu():
    session = registry.get("qemu").open(Endpoint(driver="qemu", uri=local.QEMU_URI))
    yield session
    session.close()


def _ref(guest: local.Guest) -> GuestRef:
    return GuestRef(uuid=guest.uuid, name=guest.name)


@pytest.mark.real
def test_a_guest_of_our_design_runs_with_what_is_defined_and_has_ports_to_spare(qemu, made_guest, dhcp_network):
    guest = made_guest(local.QEMU_URI)
    path = local.boot_sector(guest.directory)
    iso = _file(guest.directory, "x.iso", 2048)
    spec = GuestSpec(
        name=guest.name,
        uuid=guest.uuid,
        memory_bytes=32 << 20,
        vcpus=2,
        disks=(
            DiskSpec(pool="", volume=path.name, path=str(path), format="raw"),
            DiskSpec(pool="", volume="x.iso", path=iso, device="cdrom"),
        ),
        interfaces=(NicSpec(network=dhcp_network),),
    )
    ref = qemu.create(spec).ref
    qemu.start(ref)
    found = qemu.hardware(ref)
    assert found.live == found.defined
    assert set(qemu.hardware_options(ref).live.values()) == {""}
    qemu.attach(ref, DiskHardware(path=_file(guest.directory, "more.img"), format="raw"), **BOTH)
    qemu.attach(ref, NicHardware(network=dhcp_network, mac="52:54:00:76:6d:07", model="virtio"), **BOTH)
    assert "vdb" in guest.virsh("domblklist")
    assert "52:54:00:76:6d:07" in guest.virsh("domiflist")
    after = qemu.hardware(ref)
    assert after.live == after.defined
    with pytest.raises(Unsupported, match="plugged in while the guest ran"):
        qemu.update(ref, dataclasses.replace(after.live.cpu, vcpus=1), **BOTH)


@pytest.mark.real
def test_a_processor_that_becomes_the_hosts_is_one_that_starts(qemu, made_guest):
    guest = made_guest(local.QEMU_URI)
    path = local.boot_sector(guest.directory)
    disk = DiskSpec(pool="", volume=path.name, path=str(path), format="raw")
    ref = qemu.create(GuestSpec(name=guest.name, uuid=guest.uuid, memory_bytes=32 << 20, disks=(disk,))).ref
    cpu = qemu.hardware(ref).defined.cpu
    for wished in (
        dataclasses.replace(cpu, mode="custom", model=qemu.hardware_options(ref).cpu_models[0]),
        dataclasses.replace(cpu, mode="host-model"),
        cpu,
    ):
        qemu.update(ref, wished, **NEXT)
        assert qemu.hardware(ref).defined.cpu == wished
    qemu.start(ref)
    assert qemu.hardware(ref).live.cpu == cpu


@pytest.mark.real
def test_a_linux_guest_takes_part(qemu, qemu_guest, dhcp_network):
    guest = qemu_guest("--vcpus", "1/2", "--net", dhcp_network, "--cdrom", _iso(), ready=True)
    ref = _ref(guest)
    found = qemu.hardware(ref)
    assert found.live == found.defined
    live = found.live
    qemu.update(ref, dataclasses.replace(live.cpu, vcpus=2, pins={0: "0"}), **BOTH)
    assert [line.split()[-1] for line in guest.virsh("vcpucount").splitlines()] == ["2", "2", "2", "2"]
    cpu = dataclasses.replace(qemu.hardware(ref).live.cpu, pins={})
    qemu.update(ref, cpu, **BOTH)
    assert qemu.hardware(ref).live.cpu.pins == {}
    qemu.update(ref, dataclasses.replace(live.interfaces[0], link="down"), live=True, defined=False)
    assert guest.virsh("domif-getlink", live.interfaces[0].mac).endswith("down")
    drive = next(disk for disk in live.disks if disk.device == "cdrom")
    qemu.update(ref, dataclasses.replace(drive, path=""), **BOTH)
    assert drive.path not in guest.virsh("domblklist")
    qemu.update(ref, drive, **BOTH)
    assert drive.path in guest.virsh("domblklist")
    qemu.update(ref, dataclasses.replace(live.memory, memory_bytes=120 << 20), **BOTH)
    wait_until(lambda: qemu.hardware(ref).live.memory.memory_bytes == 120 << 20, 30, "the balloon is blown up")
    scorecard.works("qemu", Feature.HOTPLUG_MEMORY)
    assert (
        qemu.hardware(ref).live.interfaces[0] != qemu.hardware(ref).defined.interfaces[0]
    )  # pending: it is up at the next start


def _iso() -> str:
    home = local.LABS_DIR / "media"
    home.mkdir(parents=True, exist_ok=True)
    return _file(home, "blank.iso", 2048)


@pytest.mark.real
def test_a_running_disk_is_held_to_limits_and_grows(qemu, qemu_guest, pool_home):
    guest = qemu_guest(kind="bootsector", start=True)
    ref, path = _ref(guest), _file(pool_home, "grows.img")
    disk = DiskHardware(target="sda", bus="scsi", path=path, format="raw")
    qemu.attach(ref, disk, **BOTH)
    held = dataclasses.replace(disk, limits=IoLimits(total_bytes_per_second=1 << 20, read_requests_per_second=100))
    qemu.update(ref, held, **BOTH)
    assert "total_bytes_sec: 1048576" in guest.virsh("blkdeviotune", "sda")
    qemu.update(ref, disk, **BOTH)
    assert "total_bytes_sec: 0" in guest.virsh("blkdeviotune", "sda")
    for _ in range(2):
        qemu.disk_resize(ref, "sda", capacity_bytes=2 << 20)
    assert "2097152" in guest.virsh("domblkinfo", "sda")
    with pytest.raises(InvalidDefinition, match="cannot shrink"):
        qemu.disk_resize(ref, "sda", capacity_bytes=1 << 20)
    with pytest.raises(Unsupported, match="cache: it takes effect"):
        qemu.update(ref, dataclasses.replace(disk, cache="unsafe"), **BOTH)
    found = qemu.hardware(ref)
    assert found.live == found.defined


@pytest.mark.real
def test_what_a_running_guest_refuses_is_not_in_its_definition(qemu, qemu_guest, pool_home, dhcp_network):
    guest = qemu_guest("--machine", "q35", kind="bootsector", start=True)
    ref = _ref(guest)
    last = DiskHardware(path=_file(pool_home, "last.img"), bus="virtio", format="raw")
    qemu.attach(ref, last, **BOTH)  # into the one free port that libvirt itself gives a guest
    before = guest.virsh("dumpxml", "--inactive")
    path = _file(pool_home, "more.img")
    for device, words in (
        (DiskHardware(path=path, bus="virtio", format="raw"), "no free PCIe port"),
        (NicHardware(network=dhcp_network), "no free PCIe port"),
        (DiskHardware(path=path, bus="sata", format="raw"), "sata bus cannot be plugged"),
        (DiskHardware(path=str(pool_home / "nothing.img"), bus="usb", format="raw"), "No such file"),
        (SimpleHardware(kind="sound"), "next start"),
    ):
        with pytest.raises(DriverError, match=words):
            qemu.attach(ref, device, **BOTH)
        assert guest.virsh("dumpxml", "--inactive") == before


@pytest.mark.real
def test_a_guest_that_does_not_let_go_is_told_of(qemu, qemu_guest, pool_home, monkeypatch):
    monkeypatch.setattr("drivers.libvirtd.hardware.running.DETACH_SECONDS", 0.1)
    guest = qemu_guest(kind="bootsector", start=True)
    ref = _ref(guest)
    disk = DiskHardware(target="vdb", bus="virtio", path=_file(pool_home, "kept.img"), format="raw")
    qemu.attach(ref, disk, **BOTH)
    before = qemu.hardware(ref)
    with pytest.raises(Timeout, match="does not let go of disk/vdb"):
        qemu.detach(ref, "disk/vdb", **BOTH)
    assert qemu.hardware(ref) == before


@pytest.mark.real
def test_devices_of_the_host_are_defined_and_a_start_says_why_they_cannot_be_had(qemu, qemu_guest):
    guest = qemu_guest(kind="bootsector")
    ref = _ref(guest)
    here = [one for one in qemu.host_devices() if one.kind == "pci"]
    assert all(one.driver != "pcieport" for one in here)
    pci = HostDeviceHardware(kind="pci", address=here[0].address if here else "0000:00:1f.7")
    usb = HostDeviceHardware(kind="usb", address="046d:c52b")
    for device in (pci, usb):
        qemu.attach(ref, device, **NEXT)
        assert qemu.hardware(ref).defined.host_devices == (device,)
        with pytest.raises(DriverError) as refusal:
            qemu.start(ref)
        assert (
            "IOMMU" in refusal.value.detail or "USB" in refusal.value.detail or "device" in refusal.value.detail.lower()
        )
        qemu.detach(ref, device.key, **NEXT)
    qemu.start(ref)


@pytest.mark.real
def test_a_container_has_interfaces_and_memory_and_no_disks(lxc_guest, dhcp_network):
    guest = lxc_guest(start=True)
    ref = _ref(guest)
    session = registry.get("lxc").open(Endpoint(driver="lxc", uri=local.LXC_URI))
    try:
        memory = session.hardware(ref).live.memory
        session.update(ref, dataclasses.replace(memory, memory_bytes=32 << 20), **BOTH)
        assert "32768" in guest.virsh("dommemstat")
        session.attach(ref, NicHardware(network=dhcp_network, mac="52:54:00:76:6d:09"), **BOTH)
        assert "52:54:00:76:6d:09" in guest.virsh("domiflist")
        with pytest.raises(Unsupported, match="there is none"):
            session.attach(ref, DISK, **NEXT)
        with pytest.raises(Unsupported, match="it has an init"):
            session.update(ref, BootHardware(order=("hd",)), **NEXT)
    finally:
        session.close()
