"""Operations over REST: lists, waiting, logs, cancelling."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from accounts.actor import SYSTEM
from drivers.types import GuestState
from operations.answers import operation_json
from operations.api import OperationOut
from operations.models import Operation, OperationLog
from operations.selectors import operation_page
from tests.factories import VMFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.conftest import Api
    from tests.web.conftest import Place

pytestmark = pytest.mark.django_db


def make(**values: Any) -> Operation:
    target = f"vm/{uuid.uuid4()}"
    return Operation.objects.create(**{"kind": "vm.start", "target": target, "target_name": "web", **values})


def test_an_operation_is_what_the_contract_says(api: Api) -> None:
    operation = make(params={"a": 1}, secret_params={"password": "x"}, requested_by="ada")
    body = api.get(f"/operations/{operation.pk}").json()
    OperationOut.model_validate(body)
    assert set(body) == set(OperationOut.model_fields)
    assert body["params"] == {"a": 1, "password": "<hidden>"}
    assert body["target"]["type"] == "vm"
    assert (body["state"], body["cancellable"], body["parent"]) == ("queued", True, None)


def test_the_list_is_newest_first_and_filtered(api: Api) -> None:
    parent = make(kind="vm.start.bulk", target="vms/", state="running")
    child = make(parent=parent, state="failed", requested_by="ada", message="No such thing")
    stop = make(kind="vm.shutdown", target_name="db", state="succeeded", requested_by="olga")
    make(kind="vm.xml", target=f"reading/{uuid.uuid4()}")

    def ids(query: str = "") -> list[str]:
        return [item["id"] for item in api.get(f"/operations?{query}").json()["items"]]

    every = [str(operation.pk) for operation in (stop, child, parent)]
    assert ids() == every
    assert ids("ordering=created_at") == every[::-1]
    assert ids("state=failed,running") == every[1:]
    assert ids("kind=vm.shutdown") == ids("kind=vm.sh*") == every[:1]
    assert ids(f"target={child.target}") == [str(child.pk)]
    assert ids(f"parent={parent.pk}") == ids(f"parent=operation/{parent.pk}") == [str(child.pk)]
    assert ids("requested_by=olga") == every[:1]
    assert ids("q=no%20such") == [str(child.pk)]
    assert ids("q=kind:vm.shutdown%20-by:ada") == every[:1]
    assert ids("q=colour:red") == []


@pytest.mark.parametrize("query", ["state=done", "target=web", "parent=x", "wait=1", "ordering=name", "state=%00"])
def test_a_bad_query_is_422(api: Api, query: str) -> None:
    assert api.get(f"/operations?{query}").status_code == 422


def test_a_page_is_two_queries_and_leaves_out_what_is_large(django_assert_num_queries: Callable[..., Any]) -> None:
    make(kind="vm.start.bulk", target="vms/", state="succeeded", result={"items": list(range(1000))})
    make(kind="vm.delete", state="succeeded", result={"definition": "<domain/>"})
    make(kind="vm.shutdown", state="succeeded", result={"forced": True})
    with django_assert_num_queries(2):
        page = [operation_json(operation, by=SYSTEM) for operation in operation_page(SYSTEM).items]
    assert [operation["result"] for operation in page] == [{"forced": True}, None, None]


def test_an_operation_of_a_kind_that_is_no_more_can_be_read(api: Api) -> None:
    operation = make(kind="vm.levitate", state="running")
    assert api.get(f"/operations/{operation.pk}").json()["cancellable"] is False
    assert api.post(f"/operations/{operation.pk}/cancel").status_code == 409


def test_the_log_is_read_in_order(api: Api) -> None:
    operation = make()
    for n in range(5):
        OperationLog.objects.create(operation=operation, text=f"line {n}")
    first = api.get(f"/operations/{operation.pk}/log?limit=3").json()
    second = api.get(f"/operations/{operation.pk}/log?limit=3&cursor={first['next']}").json()
    lines = [line["text"] for line in first["items"] + second["items"]]
    assert lines == [f"line {n}" for n in range(5)]
    assert second["total"] == 5
    assert api.get(f"/operations/{uuid.uuid4()}/log").status_code == 404


def test_cancelling_what_waits_ends_it_and_only_once(api: Api, viewer: User) -> None:
    vm = VMFactory()
    operation = Operation.objects.get(pk=api.post(f"/vms/{vm.pk}/actions/start").json()["id"])
    assert api.of(viewer).post(f"/operations/{operation.pk}/cancel").status_code == 403
    answer = api.post(f"/operations/{operation.pk}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    again = api.post(f"/operations/{operation.pk}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "not_cancellable")


def test_waiting_is_bounded(api: Api) -> None:
    operation = make()
    assert api.get(f"/operations/{operation.pk}?wait=1").json()["state"] == "queued"
    for wait in ("61", "-1", "x", "1.5"):
        assert api.get(f"/operations/{operation.pk}?wait={wait}").status_code == 422


def test_a_running_operation_is_asked_to_stop(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("deaf", obeys=False, state=GuestState.RUNNING)
    started = api.post(f"/vms/{vm.pk}/actions/shutdown", {"timeout_seconds": 60}).json()
    assert place.world.wait_for_calls("shutdown", 1)
    answer = api.post(f"/operations/{started['id']}/cancel")
    # It may have noticed before the answer was made.
    assert (answer.status_code, answer.json()["state"]) in ((202, "running"), (200, "cancelled"))
    assert api.get(f"/operations/{started['id']}?wait=20").json()["state"] == "cancelled"
