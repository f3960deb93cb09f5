"""Snapshots in the inventory: newest wins, news are told once, a guest that goes takes them along; and the tree that pages draw."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from drivers.types import GuestState, SnapshotInfo
from events.models import Event
from live.lines import lines_of
from tests.factories import HypervisorFactory, VMFactory
from vms.inventory import vm_gone
from vms.models import VM, Snapshot
from vms.snapshots.inventory import snapshot_reverted, snapshots_observe, snapshots_observe_all
from vms.snapshots.selectors import tokens, tree

if TYPE_CHECKING:
    from collections.abc import Callable


def info(name: str, parent: str = "", **values: Any) -> SnapshotInfo:
    return SnapshotInfo(name=name, parent=parent, created_at=1_700_000_000.0, **values)


def seen(vm: VM, *infos: SnapshotInfo, ago: float = 0.0) -> bool:
    return snapshots_observe(vm, infos, seen_at=timezone.now() - dt.timedelta(seconds=ago))


def told() -> list[tuple[str, Any]]:
    rows = Event.objects.filter(type__startswith="vm.").order_by("seq")
    return [(row.type, row.data.get("snapshot") or row.data.get("changed")) for row in rows]


# -- facts -----------------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_the_first_look_adopts_what_is_there_as_one_change():
    vm = VMFactory()
    assert seen(vm, info("a"), info("b", "a", memory=True, state=GuestState.RUNNING, current=True, disks=("vda",)))
    row = Snapshot.objects.get(vm=vm, name="b")
    assert (row.parent, row.memory, row.state, row.current, row.disks) == ("a", True, "running", True, ["vda"])
    assert row.created_at == dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=dt.UTC)
    assert told() == [("vm.changed", {"snapshots": 2})]


@pytest.mark.django_db
def test_what_comes_and_goes_later_is_told_by_name_and_a_second_look_is_silent():
    vm = VMFactory()
    seen(vm)
    seen(vm, info("a"))
    seen(vm, info("a"))
    seen(vm, info("b"))
    assert told() == [("vm.snapshot_created", "a"), ("vm.snapshot_deleted", "a"), ("vm.snapshot_created", "b")]
    vm.refresh_from_db()
    assert vm.version == 4
    assert [event.data["version"] for event in Event.objects.order_by("seq")] == [2, 3, 4]
    assert next(line.text for line in lines_of(Event.objects.order_by("seq"))) == "snapshot taken: a"


@pytest.mark.django_db
def test_what_only_looks_otherwise_is_a_change():
    vm = VMFactory()
    seen(vm, info("a", current=True), info("b", "a"))
    seen(vm, info("a"), info("b", "a", current=True))
    assert told()[1:] == [("vm.changed", {"snapshots": 2})]
    assert Snapshot.objects.get(current=True).name == "b"


@pytest.mark.django_db
def test_a_slow_reader_that_comes_late_is_refused():
    vm = VMFactory()
    seen(vm, info("new"))
    assert not seen(vm, ago=30)
    assert Snapshot.objects.get().name == "new"


@pytest.mark.django_db
def test_what_a_hypervisor_may_say_is_clamped_to_what_a_column_takes():
    vm = VMFactory()
    wild = SnapshotInfo(
        name="n\0" + "x" * 400, description="<b>\0", created_at=1e30, kind="odd", size_bytes=2**80, no_revert="y" * 900
    )
    seen(vm, wild)
    row = Snapshot.objects.get()
    assert (row.name, row.description, row.created_at, row.kind) == ("n" + "x" * 254, "<b>", None, "internal")
    assert (row.size_bytes, len(row.no_revert)) == (2**63 - 1, 500)


@pytest.mark.django_db
def test_a_guest_that_goes_takes_its_snapshots_along():
    vm = VMFactory()
    seen(vm, info("a"))
    vm_gone(vm.hypervisor, vm.uuid)
    assert not Snapshot.objects.exists()
    assert VM.objects.get(pk=vm.pk).snapshots_read_at is None
    assert not seen(vm, info("a"))


@pytest.mark.django_db
def test_all_guests_of_a_hypervisor_are_written_in_few_queries(django_assert_max_num_queries: Callable[..., Any]):
    hypervisor = HypervisorFactory()
    guests = [VMFactory(hypervisor=hypervisor) for _ in range(30)]
    seen(guests[0], info("old"))
    elsewhere = VMFactory()
    seen(elsewhere, info("theirs"))
    found = {guests[1].uuid.upper(): [info("a"), info("b", "a")], "nobody": [info("x")]}
    with django_assert_max_num_queries(30):
        snapshots_observe_all(hypervisor, found, seen_at=timezone.now())
    assert set(Snapshot.objects.values_list("vm", "name")) == {
        (guests[1].pk, "a"), (guests[1].pk, "b"), (elsewhere.pk, "theirs")
    }  # fmt: skip
    assert not VM.objects.filter(hypervisor=hypervisor, snapshots_read_at=None).exists()


@pytest.mark.django_db
def test_going_back_is_told_though_no_row_differs():
    vm = VMFactory()
    seen(vm, info("a", current=True))
    snapshot_reverted(vm, "a")
    assert told()[-1] == ("vm.snapshot_reverted", "a")


# -- the tree --------------------------------------------------------------------------------------------------------------
def drawn(*pairs: tuple[str, str], current: str = "") -> str:
    rows = [Snapshot(name=name, parent=parent, current=name == current) for name, parent in pairs]
    words = {"item": "", "end": "", "open": "[", "close": "]"}
    return " ".join(
        part
        for kind, node in tokens(tree(rows))
        for part in [words[kind] or (node.snapshot.name if node else "")]
        if part
    )


@pytest.mark.parametrize(
    ("pairs", "current", "expected"),
    [
        ([], "", ""),
        ([("a", ""), ("b", "a"), ("c", "b")], "c", "a b c"),
        ([("a", ""), ("b", "a"), ("c", "a")], "b", "a [ c ] b"),
        ([("a", ""), ("b", "a"), ("c", "a")], "", "a [ b ] c"),
        ([("a", ""), ("b", "a"), ("c", "b"), ("d", "a"), ("e", "d")], "e", "a [ b c ] d e"),
        ([("a", "lost"), ("b", "")], "", "a b"),
        ([("a", "b"), ("b", "a"), ("c", "b")], "", "a b c"),
        ([("a", "a")], "", "a"),
    ],
)
def test_the_line_to_where_the_guest_is_stays_straight(pairs, current, expected):
    assert drawn(*pairs, current=current) == expected


def test_a_chain_of_thousands_is_drawn_without_recursion():
    names = [f"s{number:04d}" for number in range(3000)]
    assert drawn(*zip(names, ["", *names[:-1]], strict=True), current=names[-1]) == " ".join(names)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["", *"abcdefghz"])),
        max_size=8,
        unique_by=lambda p: p[0],
    )
)
def test_whatever_the_parents_each_snapshot_is_drawn_once_and_lists_are_closed(pairs):
    rows = [Snapshot(name=name, parent=parent) for name, parent in pairs]
    found = tokens(tree(rows))
    assert sorted(node.snapshot.name for kind, node in found if kind == "item" and node) == sorted(
        name for name, _ in pairs
    )
    depth = 0
    for kind, _ in found:
        depth += {"item": 1, "open": 1, "end": -1, "close": -1}[kind]
        assert depth >= 0
    assert depth == 0
    assert sum(1 + node.below for node in tree(rows)) == len(rows)
