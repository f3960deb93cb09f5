"""Revisions and drift underneath REST: numbers under a rush, what is kept, who is followed, and what is missed by nobody."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from django.db import connections

from core.errors import Missing
from drivers.types import GuestInfo, GuestState
from events.models import Event
from operations.models import Operation
from tests.factories import HypervisorFactory, VMFactory
from vms.choices import RevisionSource
from vms.definitions.diff import difference, paths
from vms.definitions.history import Cause, digest_of, record, text_of
from vms.inventory import vm_observe, vms_observe
from vms.models import VM, Revision

if TYPE_CHECKING:
    from collections.abc import Callable

    from hosts.models import Hypervisor

OURS = Cause(source=RevisionSource.OURS, actor="ada")
OUTSIDE = Cause(source=RevisionSource.OUTSIDE)


@pytest.fixture(autouse=True)
def _no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.doorbell.ring", lambda *_a, **_k: None)


def seen(hypervisor: Hypervisor, name: str, digest: str) -> GuestInfo:
    return GuestInfo(uuid=f"uuid-{name}", name=name, state=GuestState.SHUTOFF, xml_digest=digest)


def readings() -> list[str]:
    return list(
        Operation.objects.filter(kind="vm.record-definition").order_by("position").values_list("target", flat=True)
    )


# -- keeping ---------------------------------------------------------------------------------------------------------------
@pytest.mark.django_db(transaction=True)
def test_a_rush_of_writers_numbers_without_a_gap_or_a_double() -> None:
    vm = VMFactory()
    record(vm, "<a/>", OUTSIDE)

    def write(number: int) -> None:
        try:
            record(vm, f"<a>{number}</a>", OURS)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(18)))
    assert sorted(Revision.objects.values_list("number", flat=True)) == list(range(1, 20))
    assert Event.objects.filter(type="vm.definition_changed").count() == 18


@pytest.mark.django_db
def test_the_first_is_a_first_sight_and_tells_nothing() -> None:
    revision, _known = record(VMFactory(), "<a/>", OUTSIDE)
    assert (revision.number, revision.source, revision.actor) == (1, "first_sight", "")
    assert not Event.objects.exists()


@pytest.mark.django_db
def test_what_is_the_newest_already_is_kept_once_and_what_comes_back_again() -> None:
    vm = VMFactory()
    for xml in ("<a/>", "<a/>", "<b/>", "<a/>"):
        record(vm, xml, OURS)
    assert [one.xml for one in Revision.objects.order_by("number")] == ["<a/>", "<b/>", "<a/>"]
    assert text_of(vm.pk, digest_of("<b/>")) == "<b/>"
    assert text_of(vm.pk, "unknown") is None


@pytest.mark.django_db
def test_a_guest_that_went_altogether_is_missing() -> None:
    vm = VMFactory()
    VM.objects.all().delete()
    with pytest.raises(Missing):
        record(vm, "<a/>", OURS)


@pytest.mark.django_db
def test_a_long_difference_is_cut_in_the_event_and_whole_at_the_revision() -> None:
    vm = VMFactory()
    record(vm, "<a>\n</a>", OUTSIDE)
    lines = "\n".join(f"<line number='{n}'/>" for n in range(2000))
    revision, _known = record(vm, f"<a>\n{lines}\n</a>", OURS)
    data = Event.objects.get(type="vm.definition_changed").data
    assert (data["added"], data["diff_cut"], revision.added) == (2000, True, 2000)
    assert 3000 < len(data["diff"]) <= 4000
    assert data["diff"].endswith("'/>"), "cut at a line's end"


# -- following -------------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_of_a_sweep_only_what_is_followed_is_read(django_assert_num_queries: Callable[..., object]) -> None:
    hypervisor = HypervisorFactory()
    names = [f"g{n}" for n in range(30)]
    vms_observe(hypervisor, [seen(hypervisor, name, "1") for name in names])
    followed = VM.objects.get(name="g7")
    record(followed, "<a/>", OUTSIDE)
    vms_observe(hypervisor, [seen(hypervisor, name, "2") for name in names])
    assert readings() == [f"reading/{followed.pk}"]


@pytest.mark.django_db
def test_a_change_that_is_none_of_the_definition_is_not_followed() -> None:
    hypervisor = HypervisorFactory()
    vm = vm_observe(hypervisor, seen(hypervisor, "web", "1"))
    record(vm, "<a/>", OUTSIDE)
    vm_observe(hypervisor, GuestInfo(uuid="uuid-web", name="web", state=GuestState.RUNNING, xml_digest="1"))
    assert readings() == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("kind", "kept", "params"),
    [
        ("vm.define", False, None),
        ("vm.define", True, {"operation": "", "actor": ""}),
        ("vm.rename", False, {"operation": "<own>", "actor": "ada"}),
    ],
    ids=["our own change keeps itself", "after it was kept it is somebody else", "another change of ours"],
)
def test_whose_a_change_is_that_comes_while_we_work(kind: str, kept: bool, params: dict[str, str] | None) -> None:
    hypervisor = HypervisorFactory()
    vm = vm_observe(hypervisor, seen(hypervisor, "web", "1"))
    record(vm, "<a/>", OUTSIDE)
    own = Operation.objects.create(
        kind=kind, target=vm.ref, lock_key=vm.ref, position=1, state="running", holds_lock=True, requested_by="ada"
    )
    if kept:
        record(vm, "<b/>", Cause(source=RevisionSource.OURS, operation=own.pk))
    vm_observe(hypervisor, seen(hypervisor, "web", "2"))
    found = [one.params for one in Operation.objects.filter(kind="vm.record-definition")]
    expected = {key: value.replace("<own>", str(own.pk)) for key, value in params.items()} if params else None
    assert found == ([] if expected is None else [expected])


# -- differences -------------------------------------------------------------------------------------------------------------
BEFORE = "<domain>\n  <name>a</name>\n  <devices>\n    <disk>\n      <source/>\n    </disk>\n  </devices>\n</domain>"


def test_a_difference_names_the_element_it_is_in() -> None:
    change = difference(BEFORE, BEFORE.replace("<source/>", "<source file='x'/>"))
    assert change.text.splitlines()[0] == "@@ -2,7 +2,7 @@ domain/devices/disk/source"
    assert (change.added, change.removed, change.cut) == (1, 1, False)


def test_what_went_is_named_by_where_it_was() -> None:
    change = difference(BEFORE, BEFORE.replace("  <name>a</name>\n", ""), context=0)
    assert change.text == "@@ -2 +1,0 @@ domain/name\n-  <name>a</name>"


def test_the_same_differs_in_nothing() -> None:
    assert difference(BEFORE, BEFORE).text == ""


@pytest.mark.parametrize(
    "text",
    [
        "<" * 20_000,
        "<!--" * 20_000,
        "</" * 20_000,
        "<a>" * 60_000,
        "<a b='\n" * 9_000,
        "<![CDATA[" * 9_000,
        "\0\n<a\n>x",
    ],
)
def test_whatever_was_typed_is_compared(text: str) -> None:
    change = difference(BEFORE, text)
    assert change.added == len(text.splitlines())
    assert len(paths(text.splitlines())) == len(text.splitlines())


def test_too_much_is_not_compared_and_counted() -> None:
    change = difference("x\n" * 10_001, "y")
    assert (change.text, change.cut, change.added, change.removed) == ("", True, 1, 10_001)
