"""Hardware by workers: done at once where the guest runs and takes it, always for its next start; once whoever dies in between; kept."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import pytest

from accounts.actor import SYSTEM
from core.errors import BadInput
from core.units import GIB, MIB
from drivers.errors import DriverError, InvalidDefinition
from drivers.types import DiskHardware, GuestRef, GuestState
from operations import engine
from operations.models import Operation
from storage.models import Volume
from storage.uses import InUse
from vms.hardware.devices import DeviceChange, DeviceIn
from vms.hardware.disks import DiskChange, LimitsChange
from vms.hardware.nics import NicChange
from vms.hardware.parts import BootChange, CpuChange, MemoryChange
from vms.hardware.selectors import known, pending_count
from vms.hardware.services import Change, hardware_read, host_devices
from vms.hardware.sources import Ask
from vms.inventory import vm_observe
from vms.models import VM, Revision, VMHardware

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vms.conftest import Farm


def guest(farm: Farm, name: str = "web", *, state: GuestState = GuestState.RUNNING, **options: Any) -> VM:
    """One with a disk, an interface and a drive."""
    farm.world.storage.add_volume("default", f"{name}.qcow2", capacity_bytes=GIB, format_="qcow2")
    info = farm.world.add(name, state=GuestState.SHUTOFF, vcpus=2, memory_bytes=GIB, **options)
    xml = farm.world.definition(info.ref).replace(
        "</domain>",
        f"""<devices><disk type="file" device="disk"><driver type="qcow2"/><source file="/pools/default/{escape(name)}.qcow2"/>
        <target dev="vda" bus="virtio"/></disk><disk type="file" device="cdrom"><driver type="raw"/><target dev="sda" bus="sata"/>
        <readonly/></disk><interface type="network"><mac address="52:54:00:00:00:{len(name):02x}"/><source network="default"/>
        <model type="virtio"/></interface></devices></domain>""",
    )
    farm.world.define(xml)
    if state is GuestState.RUNNING:
        farm.world.outside(name, "start")
    farm.see()
    return seen(farm, name)


def seen(farm: Farm, name: str = "web") -> VM:
    return vm_observe(farm.hypervisor, farm.world.info(GuestRef(uuid="", name=name)))


def has(farm: Farm, key: str, name: str = "web") -> tuple[Any, Any]:
    """What it has at its next start, and what it runs with."""
    found = farm.world.hardware(GuestRef(uuid="", name=name))
    live = found.live.devices.get(key) if found.live else None
    return found.defined.devices.get(key) if found.defined else None, live


def ended(operation: Operation) -> Operation:
    return engine.wait_ended(operation, timeout_seconds=20)


def done(operation: Operation) -> dict[str, Any]:
    operation = ended(operation)
    assert operation.state == "succeeded", operation.error
    return dict(operation.result or {})


def failed(operation: Operation) -> str:
    operation = ended(operation)
    assert operation.state == "failed", operation.result
    return str((operation.error or {})["code"])


# -- processors and memory -----------------------------------------------------------------------------------------------------
def test_memory_of_a_running_guest_changes_at_once_within_its_room_and_beyond_it_at_the_next_start(farm: Farm) -> None:
    vm = guest(farm)
    result = done(Change(vm, SYSTEM).memory(MemoryChange(memory_bytes=512 * MIB)))
    assert result["takes_effect"] == "now"
    assert [one.memory_bytes for one in has(farm, "memory")] == [512 * MIB] * 2
    result = done(Change(vm, SYSTEM).memory(MemoryChange(memory_bytes=2 * GIB)))
    assert (result["takes_effect"], result["reason"]) == ("next_start", "It was started with room for less memory.")
    defined, live = has(farm, "memory")
    assert (defined.memory_bytes, defined.max_memory_bytes, live.memory_bytes) == (2 * GIB, 2 * GIB, 512 * MIB)
    vm.refresh_from_db()
    assert (vm.memory_bytes, pending_count(vm)) == (512 * MIB, 1)
    farm.world.outside("web", "force-off")
    seen(farm)
    farm.world.outside("web", "start")
    vm = seen(farm)
    assert (vm.memory_bytes, pending_count(vm)) == (2 * GIB, 0)


def test_processors_as_many_as_there_is_room_for_at_once_and_the_rest_later(farm: Farm) -> None:
    vm = guest(farm, state=GuestState.SHUTOFF)
    shape = CpuChange(vcpus=2, max_vcpus=4, sockets=1, cores=4, threads=1, pins={"0": "0-3"})
    assert done(Change(vm, SYSTEM).cpu(shape))["takes_effect"] == "now"
    farm.world.outside("web", "start")
    vm = seen(farm)
    assert done(Change(vm, SYSTEM).cpu(CpuChange(vcpus=4)))["takes_effect"] == "now"
    assert [one.vcpus for one in has(farm, "cpu")] == [4, 4]
    result = done(Change(vm, SYSTEM).cpu(CpuChange(vcpus=6)))
    assert "room for 4 vCPUs" in result["reason"]
    defined, live = has(farm, "cpu")
    assert (defined.vcpus, defined.max_vcpus, defined.sockets, live.vcpus) == (6, 6, 0, 4)
    assert dict(defined.pins) == {0: "0-3"}


def test_later_is_later_though_it_could_be_now(farm: Farm) -> None:
    vm = guest(farm)
    result = done(Change(vm, SYSTEM, when="next_start").memory(MemoryChange(memory_bytes=512 * MIB)))
    assert (result["takes_effect"], "reason" in result) == ("next_start", False)
    assert has(farm, "memory")[1].memory_bytes == GIB


@pytest.mark.parametrize("told", [True, False])
def test_what_the_guest_does_not_take_waits_with_its_reason(farm: Farm, told: bool) -> None:
    vm = guest(farm)
    farm.world.cannot_live("memory", "It has no balloon driver.", told=told)
    result = done(Change(vm, SYSTEM).memory(MemoryChange(memory_bytes=512 * MIB)))
    assert (result["takes_effect"], result["reason"]) == ("next_start", "It has no balloon driver.")
    assert [one.memory_bytes for one in has(farm, "memory")] == [512 * MIB, GIB]


def test_a_transient_guest_is_changed_at_once_or_not_at_all(farm: Farm) -> None:
    vm = guest(farm)
    farm.world.outside("web", "undefine")
    vm = seen(farm)
    assert done(Change(vm, SYSTEM).memory(MemoryChange(memory_bytes=512 * MIB)))["takes_effect"] == "now"
    assert failed(Change(vm, SYSTEM, when="next_start").memory(MemoryChange(memory_bytes=256 * MIB))) == "wrong_state"
    farm.world.cannot_live("memory", "No.", told=False)
    assert failed(Change(vm, SYSTEM).memory(MemoryChange(memory_bytes=256 * MIB))) == "unsupported"


def test_the_boot_order_names_what_is_there_and_waits(farm: Farm) -> None:
    vm = guest(farm)
    result = done(Change(vm, SYSTEM).boot(BootChange(order=["disk/sda", "disk/vda"])))
    assert result["takes_effect"] == "next_start"
    assert has(farm, "boot")[0].order == ("disk/sda", "disk/vda")
    assert failed(Change(vm, SYSTEM).boot(BootChange(order=["disk/vdz"]))) == "invalid_input"


def test_memory_that_a_guest_does_not_give_back_waits_for_no_start(farm: Farm) -> None:
    vm = guest(farm)
    done(Change(vm, SYSTEM).memory(MemoryChange(memory_bytes=512 * MIB)))
    row = VMHardware.objects.get(vm=vm)
    row.live["memory"]["memory_bytes"] = GIB  # its balloon has no driver
    row.save()
    assert pending_count(vm) == 0
    done(Change(vm, SYSTEM, when="next_start").memory(MemoryChange(memory_bytes=256 * MIB)))
    assert pending_count(vm) == 1


def test_of_what_is_refused_as_a_whole_the_guest_takes_a_part(farm: Farm) -> None:
    farm.world.networks.add("other")
    vm = guest(farm)
    farm.see()
    farm.world.cannot_live("nic.bandwidth", "Its card counts nothing.", told=False)
    change = NicChange(network="other", inbound_bytes_per_second=1024)
    result = done(Change(vm, SYSTEM).nic_update("52:54:00:00:00:03", change))
    assert (result["takes_effect"], result["reason"]) == ("next_start", "Its card counts nothing.")
    defined, live = has(farm, "nic/52:54:00:00:00:03")
    assert (defined.network, live.network) == ("other", "other")
    assert (defined.inbound_bytes_per_second, live.inbound_bytes_per_second) == (1024, 0)


# -- disks ---------------------------------------------------------------------------------------------------------------------
def test_a_new_disk_is_made_and_attached_and_taken_away_with_its_volume(farm: Farm) -> None:
    vm = guest(farm)
    result = done(Change(vm, SYSTEM).disk_attach(Ask(size_bytes=2 * GIB), DiskChange(cache="none")))
    assert (result["key"], result["takes_effect"], result["pool"]) == ("disk/vdb", "now", "default")
    defined, live = has(farm, "disk/vdb")
    assert (defined, defined.cache, defined.format) == (live, "none", "qcow2")
    assert defined.path == f"/pools/default/{result['volume']}"
    kept = done(Change(vm, SYSTEM).disk_detach("vda"))
    assert "deleted" not in kept
    assert "web.qcow2" in farm.volumes()
    gone = done(Change(vm, SYSTEM).disk_detach("vdb", storage="delete"))
    assert (gone["deleted"], has(farm, "disk/vdb")) == (True, (None, None))
    assert result["volume"] not in farm.volumes()
    assert not Volume.objects.filter(name=result["volume"]).exists()


def test_a_volume_that_runs_on_until_the_next_start_is_not_deleted(farm: Farm) -> None:
    vm = guest(farm)
    farm.world.cannot_live("disk.detach", "It holds on to it.")
    result = done(Change(vm, SYSTEM).disk_detach("vda", storage="delete"))
    assert (result["takes_effect"], result["deleted"]) == ("next_start", False)
    assert "web.qcow2" in farm.volumes()
    found = known(vm)
    assert found is not None
    assert [(one.key, one.then) for one in found.pending] == [("disk/vda", None)]


def test_a_volume_in_use_is_refused_unless_shared_also_when_somebody_was_quicker(farm: Farm) -> None:
    vm, other = guest(farm), guest(farm, "other")
    with pytest.raises(InUse, match="other"):
        Change(vm, SYSTEM).disk_attach(Ask(volume="other.qcow2"), DiskChange())
    farm.world.storage.add_volume("default", "free.qcow2", capacity_bytes=GIB, format_="qcow2")
    farm.see()
    change = Change(vm, SYSTEM, on_conflict="wait")
    farm.world.hang("hardware")
    waits = change.disk_attach(Ask(volume="free.qcow2"), DiskChange())
    assert farm.world.wait_for_calls("hardware", 1)
    path = "/pools/default/free.qcow2"
    disk = DiskHardware(target="vdq", bus="virtio", path=path, format="qcow2")
    farm.world.do_attach(other.guest_ref, device=disk, live=False, defined=True)
    vm_observe(farm.hypervisor, farm.world.info(other.guest_ref))
    farm.world.outside("other", "force-off")
    seen(farm, "other")
    farm.world.release("hardware")
    assert failed(waits) == "in_use"
    shared = Change(vm, SYSTEM).disk_attach(Ask(volume="free.qcow2", shareable=True), DiskChange(shareable=True))
    assert has(farm, done(shared)["key"])[0].shareable


def test_an_image_becomes_a_disk_and_a_medium_is_changed_and_ejected(farm: Farm) -> None:
    vm = guest(farm)
    result = done(Change(vm, SYSTEM).disk_attach(Ask(image="debian.qcow2"), DiskChange()))
    assert has(farm, result["key"])[1].format == "qcow2"
    farm.world.storage.add_volume("default", "tools.iso", content=b"iso" * 100)
    farm.see()
    put = done(Change(vm, SYSTEM).disk_update("sda", DiskChange(), medium=Ask(volume="tools.iso")))
    assert put["takes_effect"] == "now"
    assert [one.path for one in has(farm, "disk/sda")] == ["/pools/default/tools.iso"] * 2
    assert done(Change(vm, SYSTEM).disk_update("sda", DiskChange(), eject=True))["takes_effect"] == "now"
    assert has(farm, "disk/sda")[1].path == ""
    assert failed(Change(vm, SYSTEM).disk_update("vda", DiskChange(), eject=True)) == "wrong_state"


def test_limits_take_effect_at_once_though_the_cache_beside_them_waits(farm: Farm) -> None:
    vm = guest(farm)
    change = DiskChange(cache="none", limits=LimitsChange(read_bytes_per_second=5))
    assert done(Change(vm, SYSTEM).disk_update("vda", change))["takes_effect"] == "next_start"
    defined, live = has(farm, "disk/vda")
    assert (defined.cache, live.cache) == ("none", "")
    assert defined.limits.read_bytes_per_second == live.limits.read_bytes_per_second == 5
    total = DiskChange(limits=LimitsChange(total_bytes_per_second=9))
    assert failed(Change(vm, SYSTEM).disk_update("vda", total)) == "invalid_input"


@pytest.mark.parametrize("state", [GuestState.RUNNING, GuestState.SHUTOFF])
def test_a_disk_grows_and_never_shrinks(farm: Farm, state: GuestState) -> None:
    vm = guest(farm, state=state)
    for _ in range(2):
        assert done(Change(vm, SYSTEM).disk_resize("vda", 2 * GIB))["takes_effect"] == "now"
    assert Volume.objects.get(name="web.qcow2").capacity_bytes == 2 * GIB
    assert farm.world.calls["disk_resize"] == (state is GuestState.RUNNING)
    assert failed(Change(vm, SYSTEM).disk_resize("vda", GIB)) == "invalid_input"
    assert failed(Change(vm, SYSTEM).disk_resize("vdq", GIB)) == "not_found"


def test_a_disk_that_could_not_be_attached_leaves_no_volume(farm: Farm) -> None:
    vm = guest(farm)
    before = farm.volumes()
    farm.world.fail_next(InvalidDefinition("No."), verb="attach", times=9)
    assert failed(Change(vm, SYSTEM).disk_attach(Ask(size_bytes=GIB), DiskChange())) == "invalid_definition"
    assert farm.volumes() == before


# -- interfaces and devices ------------------------------------------------------------------------------------------------------
def test_an_interface_is_attached_its_cable_pulled_and_taken_away(farm: Farm) -> None:
    vm = guest(farm)
    key = done(Change(vm, SYSTEM).nic_attach(NicChange(network="default", vlan=7)))["key"]
    mac = key.removeprefix("nic/")
    assert has(farm, key)[1].vlan == 7
    assert done(Change(vm, SYSTEM).nic_update(mac.upper(), NicChange(link="down")))["takes_effect"] == "now"
    assert has(farm, key)[1].link == "down"
    result = done(Change(vm, SYSTEM).nic_update(mac, NicChange(model="e1000e", outbound_bytes_per_second=1024)))
    assert result["takes_effect"] == "next_start"
    assert (has(farm, key)[0].model, has(farm, key)[1].outbound_bytes_per_second) == ("e1000e", 1024)
    assert done(Change(vm, SYSTEM).nic_detach(mac))["takes_effect"] == "now"
    assert has(farm, key) == (None, None)
    with pytest.raises(BadInput, match="other's"):
        Change(vm, SYSTEM).nic_attach(NicChange(network="default"), mac=guest(farm, "other").interfaces.get().mac)


def test_devices_of_all_kinds(farm: Farm) -> None:
    vm = guest(farm, state=GuestState.SHUTOFF)
    for type_, key in (("tpm", "tpm"), ("serial", "serial/0"), ("serial", "serial/1"), ("vnc", "display/vnc")):
        assert done(Change(vm, SYSTEM, comment=f"{type_} {key}").device_attach(DeviceIn(type=type_)))["key"] == key
    assert has(farm, "tpm")[0].model == "tpm-crb"
    assert failed(Change(vm, SYSTEM).device_attach(DeviceIn(type="tpm", model="tpm-tis"))) == "already_exists"
    assert failed(Change(vm, SYSTEM).device_attach(DeviceIn(type="balloon"))) == "unsupported"
    done(Change(vm, SYSTEM).device_attach(DeviceIn(type="watchdog", action="pause")))
    done(Change(vm, SYSTEM).device_update("watchdog", DeviceChange(action="reset")))
    assert has(farm, "watchdog")[0].action == "reset"
    assert done(Change(vm, SYSTEM).device_detach("serial/0"))["takes_effect"] == "now"
    assert failed(Change(vm, SYSTEM).device_detach("rng")) == "not_found"


def test_a_device_of_the_host_is_one_guests_at_a_time(farm: Farm) -> None:
    vm, other = guest(farm), guest(farm, "other")
    farm.world.add_host_device("0000:01:00.0", vendor="Acme", class_="network", iommu_group=7)
    asked = DeviceIn(type="pci", address="0000:01:00.0")
    assert done(Change(vm, SYSTEM).device_attach(asked))["takes_effect"] == "now"
    found = host_devices(host=farm.hypervisor.host, by=SYSTEM)
    assert found["devices"][0]["guests"] == [{"id": str(vm.pk), "name": "web"}]
    assert failed(Change(other, SYSTEM).device_attach(asked)) == "conflict"
    assert failed(Change(other, SYSTEM).device_attach(DeviceIn(type="pci", address="0000:09:00.0"))) == "conflict"
    done(Change(vm, SYSTEM).device_detach("pci/0000:01:00.0"))
    assert done(Change(other, SYSTEM).device_attach(asked))["takes_effect"] == "now"


# -- kept ------------------------------------------------------------------------------------------------------------------------
def test_each_change_is_a_revision_of_the_definition(farm: Farm) -> None:
    vm = guest(farm)
    operation = ended(Change(vm, SYSTEM, comment="ticket 7").memory(MemoryChange(memory_bytes=512 * MIB)))
    first, second = Revision.objects.filter(vm=vm).order_by("number")
    assert (first.source, second.source, second.comment) == ("first_sight", "ours", "ticket 7")
    assert (second.operation, second.actor, operation.result["revision"]) == (operation.pk, SYSTEM.name, 2)
    farm.workers()
    assert Revision.objects.filter(vm=vm).count() == 2


def test_what_was_decided_by_an_older_look_is_refused(farm: Farm) -> None:
    vm = guest(farm)
    base = hardware_read(vm=vm, by=SYSTEM).digest
    done(Change(vm, SYSTEM, base=base).memory(MemoryChange(memory_bytes=512 * MIB)))
    assert failed(Change(vm, SYSTEM, base=base).memory(MemoryChange(memory_bytes=256 * MIB))) == "stale"
    assert has(farm, "memory")[0].memory_bytes == 512 * MIB


def test_two_at_once_on_one_guest_both_count(farm: Farm) -> None:
    vm = guest(farm)
    both = [
        Change(vm, SYSTEM).memory(MemoryChange(memory_bytes=512 * MIB)),
        Change(vm, SYSTEM).cpu(CpuChange(vcpus=1)),
        Change(vm, SYSTEM).disk_attach(Ask(size_bytes=GIB), DiskChange()),
        Change(vm, SYSTEM).disk_attach(Ask(size_bytes=2 * GIB), DiskChange()),
    ]
    keys = [done(one)["key"] for one in both]
    assert keys == ["memory", "cpu", "disk/vdb", "disk/vdc"]


# -- interrupted -------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker answers: the test is the worker."""
    monkeypatch.setattr("operations.doorbell.ring", lambda *_a, **_k: None)


TELLING = frozenset(
    {"hardware", "attach", "detach", "update", "disk_resize", "volume_resize", "volume_delete", "guest"}
)
"""Calls by which it makes a difference whether they were made; of one kind of operation all are tried."""


class Dead(DriverError):
    """The process that made the call is gone, for all that anybody knows."""

    retryable = True


class Dying:
    """A process that dies once, before or after its N-th call of a hypervisor: the engine sees what it sees of a dead worker."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, farm: Farm, *, at: int, before: bool) -> None:
        self.verbs: list[str] = []
        enter, answer = farm.world.enter, farm.world.answer

        def entered(verb: str, session: Any) -> None:
            self.verbs.append(verb)
            if before and len(self.verbs) == at:
                raise Dead
            enter(verb, session)

        def answered(verb: str, value: Any) -> Any:
            if not before and len(self.verbs) == at:
                raise Dead
            return answer(verb, value)

        monkeypatch.setattr(farm.world, "enter", entered)
        monkeypatch.setattr(farm.world, "answer", answered)


def carried_out(operation: Operation) -> Operation:
    """By this thread, as often as it is asked for."""
    for _ in range(3):
        Operation.objects.filter(pk=operation.pk).update(not_before=None)
        engine.execute(operation.pk)
        operation.refresh_from_db()
    return operation


CHANGES: dict[str, Callable[[Change], Operation]] = {
    "vm.disk-attach": lambda change: change.disk_attach(Ask(size_bytes=GIB), DiskChange()),
    "vm.disk-detach": lambda change: change.disk_detach("vda", storage="delete"),
    "vm.disk-update": lambda change: change.disk_update(
        "vda", DiskChange(cache="none", limits=LimitsChange(read_bytes_per_second=5))
    ),
    "vm.disk-resize": lambda change: change.disk_resize("vda", 2 * GIB),
    "vm.nic-attach": lambda change: change.nic_attach(NicChange(network="default")),
    "vm.nic-detach": lambda change: change.nic_detach("52:54:00:00:00:03"),
    "vm.nic-update": lambda change: change.nic_update("52:54:00:00:00:03", NicChange(link="down", model="rtl8139")),
    "vm.cpu": lambda change: change.cpu(CpuChange(vcpus=1)),
    "vm.memory": lambda change: change.memory(MemoryChange(memory_bytes=512 * MIB)),
    "vm.boot-order": lambda change: change.boot(BootChange(menu=True)),
    "vm.device-attach": lambda change: change.device_attach(DeviceIn(type="serial")),
}


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("kind", CHANGES)
def test_whoever_dies_at_whichever_call_it_is_done_once(
    farm: Farm, nobody: None, monkeypatch: pytest.MonkeyPatch, kind: str, before: bool
) -> None:
    def tried(number: int) -> tuple[list[str], Any]:
        vm = guest(farm, f"g{number:02d}")
        operation = CHANGES[kind](Change(vm, SYSTEM))
        with monkeypatch.context() as patch:
            process = Dying(patch, farm, at=number, before=before)
            carried_out(operation)
        assert (operation.kind, operation.state, operation.error) == (kind, "succeeded", None), process.verbs
        found = farm.world.hardware(vm.guest_ref)
        assert found.live is not None
        assert found.defined is not None
        shape = sorted(found.defined.devices), sorted(found.live.devices), operation.result["takes_effect"]
        volumes = {name for name in farm.volumes() if name.startswith(vm.name)}
        return process.verbs, (*(sorted(key[:8] for key in keys) for keys in shape[:2]), shape[2], len(volumes))

    verbs, whole = tried(0)
    for number, verb in enumerate(verbs, start=1):
        if verb in TELLING or kind == "vm.disk-attach":
            assert tried(number)[1] == whole, verb
