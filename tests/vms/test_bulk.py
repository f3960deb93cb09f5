"""`core.bulk` writes what `bulk_create` writes. Here, so that it is shown on PostgreSQL too."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.forms.models import model_to_dict

from core import bulk
from events.models import Event
from tests.factories import HypervisorFactory, UserFactory
from vms.choices import Kind, State
from vms.models import VM, VMDisk

pytestmark = pytest.mark.django_db
NOON = dt.datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=dt.UTC)


def guest(hypervisor: Any, name: str, **values: Any) -> VM:
    return VM(hypervisor=hypervisor, uuid=f"uuid-{name}", name=name, observed_at=NOON, **values)


def whole(hypervisor: Any, owner: Any, name: str) -> VM:
    """A value in every column."""
    return guest(
        hypervisor, name, kind=Kind.CONTAINER, state=State.RUNNING, state_since=NOON, started_at=NOON, vcpus=3,
        memory_bytes=2**40, autostart=True, persistent=False, techniques=["a"], boot={"ключ": "'\"%s"}, tags=["b", "c"],
        graphics=[{"port": None}], title="100 % ?", owner=owner,
    )  # fmt: skip


def columns(name: str) -> dict[str, Any]:
    row = VM.objects.get(name=name)
    return {**model_to_dict(row), "id": None, "uuid": None, "name": None, "created": row.created_at is not None}


def test_objects_are_written_as_bulk_create_writes_them() -> None:
    hypervisor, owner = HypervisorFactory(), UserFactory()
    VM.objects.bulk_create([whole(hypervisor, owner, "theirs"), guest(hypervisor, "theirs, plain")])
    ours = [whole(hypervisor, owner, "ours"), guest(hypervisor, "ours, plain")]
    bulk.insert(ours)
    assert columns("ours") == columns("theirs")
    assert columns("ours, plain") == columns("theirs, plain")
    assert VM.objects.get(name="ours") == ours[0]
    ours[0].title = "again"
    ours[0].save()  # it knows that it is a row
    assert VM.objects.count() == 4


def test_rows_are_counted_up_by_the_database() -> None:
    columns = ("type", "at", "object", "object_name", "actor", "operation", "data")
    rows = [("a", NOON, "", "", "", None, {"n": number}) for number in range(3)]
    bulk.insert_rows(Event, columns, rows)
    found = list(Event.objects.order_by("seq").filter(type="a").values_list("seq", "at", "data"))
    assert [data for *_, data in found] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert [seq for seq, *_ in found] == list(range(found[0][0], found[0][0] + 3))
    assert {at for _, at, _ in found} == {NOON}


def test_nothing_is_no_statement(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        bulk.insert([])
        bulk.insert_rows(VMDisk, ("vm_id", "target"), [])


def test_what_the_database_refuses_leaves_none_of_it() -> None:
    hypervisor = HypervisorFactory()
    with pytest.raises(IntegrityError), transaction.atomic():
        bulk.insert([guest(hypervisor, "a"), guest(hypervisor, "b"), guest(hypervisor, "a")])
    assert not VM.objects.exists()
