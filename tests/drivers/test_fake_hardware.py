"""Hardware of the in-memory hypervisor: what is defined and what runs differ until the next start, and what cannot be done live says so."""

from __future__ import annotations

import dataclasses

import pytest

from drivers.errors import AlreadyExists, InvalidDefinition, NotFound, Timeout, Unsupported, WrongState
from drivers.fake import FakeDriver, FakeWorld
from drivers.types import (
    BootHardware,
    CpuHardware,
    DiskHardware,
    DisplayHardware,
    GuestState,
    HostDeviceHardware,
    IoLimits,
    MemoryHardware,
    NicHardware,
    NumaNode,
    SimpleHardware,
)

GIB = 1 << 30
DISK = DiskHardware(target="vdb", bus="virtio", path="/pools/default/data.qcow2", format="qcow2")
DEVICES = [
    DiskHardware(
        target="vdb",
        bus="virtio",
        path="/p/a",
        format="raw",
        cache="none",
        serial="7",
        boot_order=2,
        limits=IoLimits(read_bytes_per_second=5),
    ),
    DiskHardware(target="sda", bus="sata", device="cdrom", readonly=True, format="raw"),
    NicHardware(mac="52:54:00:00:00:01", network="default", model="virtio", vlan=7, link="down", filter="clean"),
    NicHardware(mac="52:54:00:00:00:02", direct="eth0", direct_mode="bridge", model="e1000e"),
    CpuHardware(
        vcpus=2,
        max_vcpus=4,
        sockets=1,
        cores=2,
        threads=2,
        mode="custom",
        model="Imaginary-8000",
        pins={0: "0-3", 1: "4"},
        nodes=(NumaNode(cpus="0-1", memory_bytes=GIB), NumaNode(cpus="2-3", memory_bytes=GIB)),
        memory_nodes="0",
        memory_mode="strict",
    ),
    MemoryHardware(memory_bytes=GIB, max_memory_bytes=2 * GIB, balloon=False),
    BootHardware(order=("cdrom", "disk/vdb"), menu=True),
    DisplayHardware(type="vnc", listen="127.0.0.1", video="vga"),
    SimpleHardware(kind="tpm", model="tpm-crb"),
    SimpleHardware(kind="serial", number=1, model="isa-serial"),
    SimpleHardware(kind="watchdog", model="itco", action="reset"),
    HostDeviceHardware(kind="pci", address="0000:01:00.0", boot_order=3),
]


@pytest.fixture
def place() -> FakeWorld:
    return FakeWorld("hardware")


@pytest.fixture
def session(place: FakeWorld, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("drivers.fake.session.world", lambda _name: place)
    return FakeDriver().open(place.endpoint)


@pytest.mark.parametrize("device", DEVICES, ids=lambda one: one.key)
def test_what_is_written_is_read_again_and_the_rest_stays(place, session, device):
    ref = place.add("web", vcpus=2, memory_bytes=GIB).ref
    session.attach(
        ref, DISK if device.key != DISK.key else dataclasses.replace(DISK, target="vdz"), live=False, defined=True
    )
    rest = session.hardware(ref).defined.devices.keys() - {device.key}
    verb = session.update if device.key in ("cpu", "memory", "boot") else session.attach
    for _ in range(2):
        verb(ref, device, live=False, defined=True)
        found = session.hardware(ref)
        assert found.defined.devices[device.key] == device
        assert rest <= found.defined.devices.keys()
    if verb == session.attach:
        for _ in range(2):
            session.detach(ref, device.key, live=False, defined=True)
        assert device.key not in session.hardware(ref).defined.devices
    assert found.live is None


def test_what_is_defined_while_it_runs_takes_effect_at_the_next_start(place, session):
    ref = place.add("web", state=GuestState.RUNNING, vcpus=1).ref
    cpu = dataclasses.replace(session.hardware(ref).defined.cpu, vcpus=4, max_vcpus=4)
    session.update(ref, cpu, live=False, defined=True)
    found = session.hardware(ref)
    assert (found.defined.cpu.vcpus, found.live.cpu.vcpus, session.guest(ref).vcpus) == (4, 1, 1)
    session.force_off(ref)
    assert (session.hardware(ref).live, session.guest(ref).vcpus) == (None, 4)
    session.start(ref)
    assert session.hardware(ref).live.cpu.vcpus == 4


def test_a_running_guest_takes_a_disk_at_once_and_both_are_changed_or_none(place, session):
    ref = place.add("web", state=GuestState.RUNNING).ref
    session.attach(ref, DISK, live=True, defined=True)
    found = session.hardware(ref)
    assert found.live.devices[DISK.key] == found.defined.devices[DISK.key] == DISK
    with pytest.raises(AlreadyExists):
        session.attach(ref, dataclasses.replace(DISK, path="/other"), live=True, defined=True)
    place.cannot_live("disk.detach", "It holds on to it.", told=False)
    assert session.hardware_options(ref).live["disk.detach"] == ""
    with pytest.raises(Unsupported, match="holds on"):
        session.detach(ref, DISK.key, live=True, defined=True)
    assert DISK.key in session.hardware(ref).defined.devices


def test_what_stands_against_it_is_said(place, session):
    off, stubborn = place.add("off").ref, place.add("stubborn", state=GuestState.RUNNING, obeys=False).ref
    with pytest.raises(WrongState):
        session.attach(off, DISK, live=True, defined=False)
    session.attach(stubborn, DISK, live=True, defined=True)
    with pytest.raises(Timeout, match="let go"):
        session.detach(stubborn, DISK.key, live=True, defined=True)
    with pytest.raises(Unsupported, match="next start"):
        session.update(stubborn, dataclasses.replace(DISK, cache="none"), live=True, defined=True)
    for device in (dataclasses.replace(DISK, bus="scuzzy"), NicHardware(mac="52:54:00:00:00:01")):
        with pytest.raises(InvalidDefinition):
            session.attach(off, device, live=False, defined=True)
    with pytest.raises(NotFound):
        session.update(off, DISK, live=False, defined=True)
    place.cannot_live("memory", "It has no balloon.")
    assert session.hardware_options(off).live["memory"] == "It has no balloon."


def test_a_disk_grows_under_a_running_guest(place, session):
    place.storage.add_pool("default")
    volume = place.storage.add_volume("default", "data.qcow2", capacity_bytes=GIB, format_="qcow2")
    ref = place.add("web", state=GuestState.RUNNING).ref
    session.attach(ref, dataclasses.replace(DISK, path=volume.path), live=True, defined=True)
    session.disk_resize(ref, "vdb", capacity_bytes=2 * GIB)
    assert session.volume("default", "data.qcow2").capacity_bytes == 2 * GIB
    with pytest.raises(InvalidDefinition):
        session.disk_resize(ref, "vdb", capacity_bytes=GIB)


def test_devices_of_the_host_and_its_nodes(place, session):
    card = place.add_host_device("0000:01:00.0", vendor="Acme", class_="network", iommu_group=7)
    ref = place.add("web", state=GuestState.RUNNING).ref
    assert session.host_devices() == [card]
    session.attach(ref, HostDeviceHardware(kind="pci", address=card.address), live=True, defined=True)
    assert session.host_devices()[0].driver == "vfio-pci"
    assert [node.cpus for node in session.host_nodes()] == ["0-3", "4-7"]
