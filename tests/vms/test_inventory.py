"""Facts in: newest wins, events say what changed, nothing of ours is lost, whoever looks at the same time."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections
from django.utils import timezone

from core.errors import Missing
from drivers.types import DiskInfo, GuestInfo, GuestState, NicInfo
from events.models import Event
from hosts.models import Host, Hypervisor
from operations.models import Operation
from vms.inventory import vm_gone, vm_observe, vms_observe
from vms.models import VM, VMDisk, VMNic

RUNNING, SHUTOFF, PAUSED = GuestState.RUNNING, GuestState.SHUTOFF, GuestState.PAUSED
NOON = dt.datetime(2026, 5, 1, 12, 0, 0, tzinfo=dt.UTC)


@pytest.fixture
def hypervisor(db: None) -> Hypervisor:
    return Hypervisor.objects.create(host=Host.objects.create(name="a"), driver="fake", uri="fake:///a")


def guest(name: str = "web", state: GuestState = SHUTOFF, **values: object) -> GuestInfo:
    values = {"uuid": f"uuid-{name}", "xml_digest": "1", **values}
    return GuestInfo(name=name, state=state, **values)


def at(seconds: float) -> dt.datetime:
    return NOON + dt.timedelta(seconds=seconds)


def told(type_: str | None = None) -> list[dict]:
    rows = Event.objects.filter(object__startswith="vm/").order_by("seq")
    return [event.data for event in (rows.filter(type=type_) if type_ else rows)]


# -- one guest ---------------------------------------------------------------------------------------------------------
def test_first_sight_adopts_it_with_its_children(hypervisor):
    info = guest(
        disks=(DiskInfo(target="vda", bus="virtio", source="/a.qcow2", format="qcow2"),),
        interfaces=(NicInfo(mac="52:54:00:00:00:01", network="default"),),
        metadata={"tags": "prod, Web !!", "project": "shop"},
        title="The web",
    )
    vm = vm_observe(hypervisor, info, seen_at=at(0), cause="defined")
    assert (vm.name, vm.state, vm.tags, vm.project, vm.title) == ("web", "shutoff", ["prod", "web"], "shop", "The web")
    assert [(disk.target, disk.source) for disk in vm.disks.all()] == [("vda", "/a.qcow2")]
    assert [nic.mac for nic in vm.interfaces.all()] == ["52:54:00:00:00:01"]
    assert told("vm.defined") == [{"state": "shutoff", "cause": "defined", "version": 1}]


def test_change_of_state_is_told_as_the_contract_says(hypervisor):
    vm_observe(hypervisor, guest(), seen_at=at(0))
    vm = vm_observe(hypervisor, guest(state=RUNNING, state_reason="booted"), seen_at=at(1))
    assert told("vm.state_changed") == [{"from": "shutoff", "to": "running", "reason": "booted", "version": 2}]
    assert told("vm.changed") == []
    assert (vm.version, vm.started_at, vm.state_since) == (2, at(1), at(1))


def test_other_changes_are_told_by_name_with_a_version_of_their_own(hypervisor):
    vm_observe(hypervisor, guest(), seen_at=at(0))
    vm = vm_observe(hypervisor, guest(state=RUNNING, vcpus=4, autostart=True), seen_at=at(1))
    assert told("vm.state_changed")[0]["version"] == 2
    assert told("vm.changed") == [{"changed": {"vcpus": 4, "autostart": True}, "version": 3}]
    assert vm.version == VM.objects.get().version == 3


def test_nothing_new_writes_no_event_and_no_version(hypervisor):
    vm_observe(hypervisor, guest(), seen_at=at(0))
    vm = vm_observe(hypervisor, guest(), seen_at=at(5))
    assert (vm.version, len(told())) == (1, 1)
    assert VM.objects.get().observed_at == at(5)


def test_old_news_is_refused(hypervisor):
    vm_observe(hypervisor, guest(), seen_at=at(0))
    vm_observe(hypervisor, guest(state=RUNNING), seen_at=at(10))
    vm = vm_observe(hypervisor, guest(state=PAUSED), seen_at=at(9))
    assert vm.state == "running"
    assert not vm_gone(hypervisor, "uuid-web", seen_at=at(9))


def test_old_news_is_refused_although_the_newer_changed_nothing(hypervisor):
    vm_observe(hypervisor, guest(), seen_at=at(0))
    vm_observe(hypervisor, guest(), seen_at=at(10))
    assert vm_observe(hypervisor, guest(state=RUNNING), seen_at=at(9)).state == "shutoff"


def test_a_clock_that_was_set_back_does_not_stop_the_news(hypervisor):
    vm_observe(hypervisor, guest(), seen_at=timezone.now() + dt.timedelta(hours=1))
    assert vm_observe(hypervisor, guest(state=RUNNING)).state == "running"


def test_started_at_follows_the_guest(hypervisor):
    assert vm_observe(hypervisor, guest(state=RUNNING), seen_at=at(0)).started_at is None, "nobody saw it start"
    assert vm_observe(hypervisor, guest(state=PAUSED), seen_at=at(1)).started_at is None
    assert vm_observe(hypervisor, guest(), seen_at=at(2)).started_at is None
    assert vm_observe(hypervisor, guest(state=RUNNING), seen_at=at(3)).started_at == at(3)
    assert vm_observe(hypervisor, guest(state=PAUSED), seen_at=at(4)).started_at == at(3)
    again = vm_observe(hypervisor, guest(state=PAUSED), seen_at=at(60), started_at=at(59))
    assert again.started_at == at(59), "it stopped and started between two looks"
    late = vm_observe(hypervisor, guest(state=PAUSED), seen_at=at(62), started_at=at(60))
    assert late.started_at == at(59), "the same start, heard of a little later"


def test_what_is_ours_is_never_overwritten(hypervisor):
    info = guest(metadata={"tags": "old", "project": "old"}, title="old", description="old")
    vm = vm_observe(hypervisor, info, seen_at=at(0))
    VM.objects.filter(pk=vm.pk).update(tags=["mine"], project="mine", title="mine", description="mine")
    vm = vm_observe(hypervisor, dataclasses.replace(info, xml_digest="2", vcpus=3), seen_at=at(1))
    assert (vm.tags, vm.project, vm.title, vm.description) == (["mine"], "mine", "mine", "mine")


def test_children_are_rebuilt_only_when_they_changed(hypervisor):
    info = guest(disks=(DiskInfo(target="vda"), DiskInfo(target="vdb")))
    vm_observe(hypervisor, info, seen_at=at(0))
    before = set(VMDisk.objects.values_list("pk", flat=True))
    vm_observe(hypervisor, dataclasses.replace(info, xml_digest="2"), seen_at=at(1))
    assert set(VMDisk.objects.values_list("pk", flat=True)) == before
    assert list(told("vm.changed")[0]["changed"]) == ["definition"]
    vm_observe(hypervisor, dataclasses.replace(info, disks=(DiskInfo(target="vda"),)), seen_at=at(2))
    assert [disk.target for disk in VMDisk.objects.all()] == ["vda"]
    assert [disk["target"] for disk in told("vm.changed")[1]["changed"]["disks"]] == ["vda"]


def test_interface_that_gets_its_device_while_running_is_seen(hypervisor):
    nic = NicInfo(mac="52:54:00:00:00:01", network="default")
    vm_observe(hypervisor, guest(interfaces=(nic,)), seen_at=at(0))
    running = guest(state=RUNNING, interfaces=(dataclasses.replace(nic, target="vnet0"),))
    vm_observe(hypervisor, running, seen_at=at(1))
    assert VMNic.objects.get().target == "vnet0"


def test_two_disks_of_one_name_do_not_fail(hypervisor):
    vm_observe(hypervisor, guest(disks=(DiskInfo(target="vda", source="/1"), DiskInfo(target="vda", source="/2"))))
    assert [disk.source for disk in VMDisk.objects.all()] == ["/1"]


def test_the_operation_at_work_is_named_and_who_asked_for_it(hypervisor):
    vm = vm_observe(hypervisor, guest(), seen_at=at(0))
    operation = Operation.objects.create(
        kind="vm.start", target=vm.ref, lock_key=vm.ref, holds_lock=True, state="running", requested_by="ada"
    )
    vm_observe(hypervisor, guest(state=RUNNING), seen_at=at(1))
    event = Event.objects.get(type="vm.state_changed")
    assert (event.operation, event.actor, event.object_name) == (operation.pk, "ada", "web")


# -- coming and going --------------------------------------------------------------------------------------------------
def test_gone_leaves_a_tombstone_and_says_so(hypervisor):
    vm = vm_observe(hypervisor, guest(state=RUNNING), seen_at=at(0))
    assert vm_gone(hypervisor, "UUID-web", seen_at=at(1))
    assert not vm_gone(hypervisor, "uuid-web", seen_at=at(2)), "once"
    vm.refresh_from_db()
    assert (vm.gone_at, vm.state, vm.version) == (at(1), "shutoff", 3)
    assert [data["version"] for data in told()] == [1, 2, 3]
    assert told("vm.undefined") == [{"state": "shutoff", "version": 3}]


def test_defined_again_revives_its_row(hypervisor):
    first = vm_observe(hypervisor, guest(), seen_at=at(0))
    vm_gone(hypervisor, "uuid-web", seen_at=at(1))
    again = vm_observe(hypervisor, guest(state=RUNNING), seen_at=at(2))
    assert (again.pk, again.gone_at, again.state) == (first.pk, None, "running")
    assert len(told("vm.defined")) == 2


def test_full_listing_buries_what_is_not_in_it(hypervisor):
    vms_observe(hypervisor, [guest("a"), guest("b"), guest("c")], seen_at=at(0), complete=True)
    vm_observe(hypervisor, guest("new"), seen_at=at(5))
    tally = vms_observe(hypervisor, [guest("a"), guest("b", RUNNING)], seen_at=at(4), complete=True)
    assert (tally.seen, tally.defined, tally.changed, tally.gone) == (2, 0, 1, 1)
    assert set(VM.objects.filter(gone_at=None).values_list("name", flat=True)) == {"a", "b", "new"}


def test_partial_listing_buries_nothing(hypervisor):
    vms_observe(hypervisor, [guest("a"), guest("b")], seen_at=at(0))
    vms_observe(hypervisor, [guest("a")], seen_at=at(1))
    assert VM.objects.filter(gone_at=None).count() == 2


def test_another_hypervisor_with_the_same_uuid_is_another_guest(hypervisor):
    other = Hypervisor.objects.create(host=Host.objects.create(name="b"), driver="fake", uri="fake:///b")
    vm_observe(hypervisor, guest(), seen_at=at(0))
    vm_observe(other, guest(), seen_at=at(1))
    vms_observe(other, [], seen_at=at(2), complete=True)
    assert VM.objects.filter(gone_at=None).get().hypervisor == hypervisor


# -- cost --------------------------------------------------------------------------------------------------------------
def test_a_sweep_that_finds_nothing_new_is_three_queries_a_batch(hypervisor, django_assert_num_queries):
    infos = [guest(f"g{number:03}") for number in range(200)]
    vms_observe(hypervisor, infos, seen_at=at(0), complete=True)
    with django_assert_num_queries(3):  # rows, observed_at, who is known
        vms_observe(hypervisor, infos, seen_at=at(1), complete=True)


def test_adoption_costs_the_same_few_statements_for_ten_or_forty(hypervisor, django_assert_max_num_queries):
    with django_assert_max_num_queries(24):
        vms_observe(hypervisor, [guest(f"a{number}") for number in range(40)], seen_at=at(0))


def test_one_change_is_few_statements(hypervisor, django_assert_max_num_queries):
    vm_observe(hypervisor, guest(), seen_at=at(0))
    with django_assert_max_num_queries(9):  # savepoints among them; rows, operation, update, event
        vm_observe(hypervisor, guest(state=RUNNING), seen_at=at(1))


# -- at the same time --------------------------------------------------------------------------------------------------
def at_once(*calls) -> None:
    """Run all in threads of their own, begun together; raises what any of them raised."""
    gate = threading.Barrier(len(calls))

    def run(call) -> None:
        try:
            gate.wait(10)
            call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as threads:
        for done in [threads.submit(run, call) for call in calls]:
            done.result(60)


@pytest.mark.django_db(transaction=True)
def test_two_observers_of_one_guest_never_lose_the_newer(hypervisor):
    vm_observe(hypervisor, guest(), seen_at=at(0))
    states = [RUNNING, PAUSED, SHUTOFF]

    def observer(offset: int):
        def run() -> None:
            for step in range(offset, 90, 3):
                vm_observe(hypervisor, guest(state=states[step % 3], vcpus=step + 1), seen_at=at(step + 1))

        return run

    at_once(*(observer(offset) for offset in range(3)))
    vm = VM.objects.get()
    assert (vm.vcpus, vm.observed_at) == (90, at(90))
    versions = [data["version"] for data in told()]
    assert versions == sorted(set(versions)), "each event a version of its own, in order"
    assert versions[-1] == vm.version


@pytest.mark.django_db(transaction=True)
def test_many_who_see_a_new_guest_first_make_one_row(hypervisor):
    at_once(*(lambda: vm_observe(hypervisor, guest(), seen_at=at(1)) for _ in range(6)))
    assert VM.objects.count() == 1
    assert len(told("vm.defined")) == 1


@pytest.mark.django_db(transaction=True)
def test_two_full_adoptions_at_once_make_one_set_of_rows(hypervisor):
    infos = [guest(f"g{number:04}", disks=(DiskInfo(target="vda"),)) for number in range(600)]
    at_once(
        lambda: vms_observe(hypervisor, infos, seen_at=at(1), complete=True),
        lambda: vms_observe(hypervisor, infos[::-1], seen_at=at(2), complete=True),
        lambda: vm_observe(hypervisor, infos[-1], seen_at=at(3)),
    )
    assert (VM.objects.count(), VMDisk.objects.count(), len(told("vm.defined"))) == (600, 600, 600)


@pytest.mark.django_db(transaction=True)
def test_a_hypervisor_that_was_removed_meanwhile_is_missing(hypervisor):
    ghost = Hypervisor.objects.get(pk=hypervisor.pk)
    hypervisor.delete()
    with pytest.raises(Missing):
        vm_observe(ghost, guest())
    with pytest.raises(Missing):
        vms_observe(ghost, [guest()], complete=True)
