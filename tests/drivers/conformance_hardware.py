"""What every driver that changes hardware promises. A part of `tests.drivers.conformance`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from drivers.errors import AlreadyExists, DriverError, InvalidDefinition, NotFound, Unsupported, WrongState
from drivers.types import CpuHardware, DiskHardware, Feature, GuestRef, MemoryHardware, NicHardware
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.base import Session
    from drivers.types import Device, Hardware
    from tests.drivers.conformance import Lab

NOBODY = GuestRef(uuid="00000000-0000-0000-0000-0000000000ff", name="nobody")
LIVE_WORDS = {
    "cpu", "memory", "disk.attach", "disk.detach", "disk.media", "disk.resize", "disk.limits", "nic.attach", "nic.detach", "nic.link",
    "nic.bandwidth", "host-device",
}  # fmt: skip


def defined_of(session: Session, ref: GuestRef) -> Hardware:
    found = session.hardware(ref).defined
    assert found is not None
    return found


def live_of(session: Session, ref: GuestRef) -> Hardware:
    found = session.hardware(ref).live
    assert found is not None
    return found


class HardwareConformance:
    """Needs the `lab` fixture of whoever derives from it."""

    # -- reading --------------------------------------------------------------------------------------------------
    def test_hardware_says_what_the_guest_says(self, lab: Lab) -> None:
        if not lab.has(Feature.HARDWARE):
            return
        ref = lab.make()
        info, found = lab.session.guest(ref), lab.session.hardware(ref)
        assert found.live is None
        assert found.defined is not None
        assert found.defined.cpu.vcpus == info.vcpus
        assert found.defined.cpu.max_vcpus >= info.vcpus
        assert found.defined.memory.memory_bytes == info.memory_bytes
        assert [disk.target for disk in info.disks if disk.device != "filesystem"] == [
            disk.target for disk in found.defined.disks
        ]
        assert [nic.mac for nic in info.interfaces] == [nic.mac for nic in found.defined.interfaces]
        lab.works(Feature.HARDWARE)

    def test_a_guest_that_was_just_started_runs_with_what_is_defined(self, lab: Lab) -> None:
        if not lab.has(Feature.HARDWARE):
            return
        found = lab.session.hardware(lab.started())
        assert found.live == found.defined

    def test_options_answer_every_question(self, lab: Lab) -> None:
        if not lab.has(Feature.HARDWARE):
            return
        options = lab.session.hardware_options(lab.make())
        assert set(options.live) == LIVE_WORDS
        for why in options.live.values():
            assert not why or why.endswith(".")
        assert (options.disk_buses == ()) is (lab.disk is None)

    def test_the_host_has_nodes(self, lab: Lab) -> None:
        if not lab.has(Feature.HARDWARE):
            return
        nodes = lab.session.host_nodes()
        assert len({node.id for node in nodes}) == len(nodes) > 0
        assert all(node.cpus and node.memory_bytes > 0 for node in nodes)

    def test_devices_of_the_host_are_told_apart(self, lab: Lab) -> None:
        if not lab.has(Feature.HOST_DEVICES):
            return
        devices = lab.session.host_devices()
        assert len({(one.kind, one.address) for one in devices}) == len(devices)

    # -- what it has at its next start --------------------------------------------------------------------------------
    def test_processors_and_memory_are_changed_for_the_next_start(self, lab: Lab) -> None:
        if not lab.has(Feature.HARDWARE):
            return
        ref = lab.make()
        before = defined_of(lab.session, ref)
        more = before.memory.max_memory_bytes + (16 << 20)
        cpu = dataclasses.replace(before.cpu, vcpus=1, max_vcpus=lab.most_vcpus)
        for _ in range(2):  # the second time it is so already
            lab.session.update(ref, cpu, live=False, defined=True)
            lab.session.update(ref, MemoryHardware(memory_bytes=more), live=False, defined=True)
        after = defined_of(lab.session, ref)
        assert after.cpu == cpu
        assert (after.memory.memory_bytes, after.memory.max_memory_bytes) == (more, more)
        assert lab.session.guest(ref).memory_bytes == more
        assert (after.disks, after.interfaces) == (before.disks, before.interfaces)

    def test_a_disk_is_added_changed_and_taken_away(self, lab: Lab) -> None:
        if not lab.has(Feature.HARDWARE) or lab.disk is None:
            return
        ref, disk = lab.make(), lab.disk()
        _come_and_go(lab, ref, disk, dataclasses.replace(disk, readonly=True))

    def test_an_interface_is_added_changed_and_taken_away(self, lab: Lab) -> None:
        if not lab.has(Feature.HARDWARE) or lab.nic is None:
            return
        ref, nic = lab.make(), lab.nic()
        _come_and_go(lab, ref, nic, dataclasses.replace(nic, link="down"))

    # -- while it runs ----------------------------------------------------------------------------------------------------
    def test_what_is_plugged_into_a_running_guest_is_there_and_goes_again(self, lab: Lab) -> None:
        wanted: list[tuple[Feature, Callable[[], Device]]] = [
            (Feature.HOTPLUG_DISK, lab.disk or _none),
            (Feature.HOTPLUG_INTERFACE, lab.nic or _none),
        ]
        made = [(feature, make()) for feature, make in wanted if lab.has(feature)]
        if not made:
            return
        ref = (lab.plugged or lab.started)()
        before = lab.session.hardware(ref)
        for feature, device in made:
            for live, defined in ((True, False), (True, True), (True, True)):
                lab.session.attach(ref, device, live=live, defined=defined)
                now = lab.session.hardware(ref)
                assert now.live is not None
                assert now.defined is not None
                assert device.key in now.live.devices
                assert (device.key in now.defined.devices) is defined
            assert now.live == now.defined
            lab.session.detach(ref, device.key, live=True, defined=True)
            lab.session.detach(ref, device.key, live=True, defined=True)
            assert lab.session.hardware(ref) == before
            lab.works(feature)

    def test_vcpus_are_plugged_in_while_it_runs(self, lab: Lab) -> None:
        if not lab.has(Feature.HOTPLUG_CPU) or lab.most_vcpus == 1:
            return
        ref = lab.make()
        few = dataclasses.replace(defined_of(lab.session, ref).cpu, vcpus=1, max_vcpus=lab.most_vcpus)
        lab.session.update(ref, few, live=False, defined=True)
        lab.session.start(ref)
        more = dataclasses.replace(live_of(lab.session, ref).cpu, vcpus=lab.most_vcpus)
        lab.session.update(ref, more, live=True, defined=False)
        assert live_of(lab.session, ref).cpu.vcpus == lab.most_vcpus
        assert defined_of(lab.session, ref).cpu.vcpus == 1
        with pytest.raises(DriverError):
            lab.session.update(
                ref,
                dataclasses.replace(more, vcpus=lab.most_vcpus + 1, max_vcpus=lab.most_vcpus + 1),
                live=True,
                defined=True,
            )
        assert defined_of(lab.session, ref).cpu.max_vcpus == lab.most_vcpus  # it is as it was before the refusal
        lab.works(Feature.HOTPLUG_CPU)

    def test_memory_is_given_back_while_it_runs(self, lab: Lab) -> None:
        if not lab.has(Feature.HOTPLUG_MEMORY):
            return
        ref = lab.started()
        before = live_of(lab.session, ref).memory
        less = dataclasses.replace(before, memory_bytes=before.memory_bytes - (4 << 20))
        lab.session.update(ref, less, live=True, defined=False)
        assert defined_of(lab.session, ref).memory == before
        if lab.balloons:
            wait_until(lambda: live_of(lab.session, ref).memory == less, 20, "the memory is given back")
            lab.works(Feature.HOTPLUG_MEMORY)

    # -- refusals ---------------------------------------------------------------------------------------------------------
    def test_what_cannot_be_while_it_runs_is_refused_with_the_reason(self, lab: Lab) -> None:
        if not lab.has(Feature.HARDWARE):
            return
        ref = lab.started()
        hardware = defined_of(lab.session, ref)
        changes: list[tuple[Feature, Device]] = [
            (Feature.HOTPLUG_CPU, hardware.cpu),
            (Feature.HOTPLUG_MEMORY, hardware.memory),
            *((Feature.HOTPLUG_DISK, disk) for disk in hardware.disks),
            *((Feature.HOTPLUG_INTERFACE, nic) for nic in hardware.interfaces),
        ]
        for feature, device in changes:
            if not lab.has(feature):
                with pytest.raises(Unsupported) as refusal:
                    lab.session.update(ref, device, live=True, defined=True)
                assert refusal.value.detail == lab.driver.reasons[feature]
        assert lab.session.hardware(ref).live == hardware

    def test_a_stopped_guest_has_nothing_live_to_change(self, lab: Lab) -> None:
        if not lab.has(Feature.HARDWARE):
            return
        ref = lab.make()
        hardware = defined_of(lab.session, ref)
        if lab.has(Feature.HOTPLUG_MEMORY):
            with pytest.raises(WrongState):
                lab.session.update(ref, hardware.memory, live=True, defined=True)
        if lab.has(Feature.HOTPLUG_DISK):
            with pytest.raises(WrongState):
                lab.session.disk_resize(ref, "vda", capacity_bytes=1 << 40)

    def test_hardware_that_cannot_be_is_refused(self, lab: Lab) -> None:
        if not lab.has(Feature.HARDWARE):
            return
        ref = lab.make()
        before = defined_of(lab.session, ref)
        for wrong in (
            dataclasses.replace(before.cpu, vcpus=0),
            dataclasses.replace(before.cpu, vcpus=2, max_vcpus=1),
            dataclasses.replace(before.cpu, vcpus=2, max_vcpus=2, sockets=3, cores=5, threads=7),
            MemoryHardware(memory_bytes=0),
        ):
            with pytest.raises(InvalidDefinition):
                lab.session.update(ref, wrong, live=False, defined=True)
        with pytest.raises(InvalidDefinition):
            lab.session.detach(ref, "cpu", live=False, defined=True)
        lab.session.detach(ref, "disk/vdz", live=False, defined=True)  # it is not there: nothing happens
        assert defined_of(lab.session, ref) == before

    def test_hardware_of_nobody_is_not_found(self, lab: Lab) -> None:
        if not lab.has(Feature.HARDWARE):
            return
        ref = lab.make()
        if lab.disk is not None:
            with pytest.raises(NotFound):
                lab.session.update(ref, lab.disk(), live=False, defined=True)
        cpu = CpuHardware(vcpus=1)
        for verb in (
            lambda: lab.session.hardware_options(NOBODY),
            lambda: lab.session.update(NOBODY, cpu, live=False, defined=True),
            lambda: lab.session.detach(NOBODY, "disk/vda", live=False, defined=True),
            lambda: lab.session.attach(NOBODY, lab.nic() if lab.nic else cpu, live=False, defined=True),
        ):
            with pytest.raises(NotFound):
                verb()


def _none() -> Device:
    pytest.fail("a driver that plugs this in needs one in its lab")


def _come_and_go(
    lab: Lab, ref: GuestRef, device: DiskHardware | NicHardware, changed: DiskHardware | NicHardware
) -> None:
    """Added to a stopped guest, twice; changed; not added again as another; taken away, twice."""
    before = defined_of(lab.session, ref)
    for _ in range(2):
        lab.session.attach(ref, device, live=False, defined=True)
        there = defined_of(lab.session, ref).devices
        assert set(there) == {*before.devices, device.key}
    lab.session.update(ref, changed, live=False, defined=True)
    assert defined_of(lab.session, ref).devices[device.key] != there[device.key]
    with pytest.raises(AlreadyExists):
        lab.session.attach(ref, device, live=False, defined=True)
    for _ in range(2):
        lab.session.detach(ref, device.key, live=False, defined=True)
        assert defined_of(lab.session, ref) == before
