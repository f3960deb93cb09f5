"""Idempotency-Key: sent twice, done once."""

from __future__ import annotations

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from core.threads import database_released
from hosts.models import Host
from operations import idempotency
from operations.models import IdempotencyKey, Operation
from tests.factories import VMFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.conftest import Api
    from tests.web.conftest import Place

HOST = {"name": "kvm-1", "uri": "qemu+tls://kvm-1.example/system"}


def same(first: Any, second: Any) -> bool:
    return (first.status_code, first.json(), first.get("Location")) == (
        second.status_code, second.json(), second.get("Location"),
    )  # fmt: skip


@pytest.mark.django_db
def test_the_same_request_is_done_once_and_answered_the_same(api: Api) -> None:
    first = api.post("/hosts", HOST, Idempotency_Key="k")
    second = api.post("/hosts", HOST, Idempotency_Key="k")
    assert first.status_code == 201
    assert same(first, second)
    assert second["Idempotency-Replayed"] == "true"
    assert Host.objects.count() == 1


@pytest.mark.django_db
def test_any_other_use_of_the_key_is_a_conflict(api: Api) -> None:
    api.post("/hosts", HOST, Idempotency_Key="k")
    for answer in (
        api.post("/hosts", HOST | {"name": "other"}, Idempotency_Key="k"),
        api.post("/hosts/demo", Idempotency_Key="k"),
        api.post("/hosts?limit=1", HOST, Idempotency_Key="k"),
    ):
        assert answer.status_code == 422
    assert api.post("/hosts/demo", Idempotency_Key="k").json()["code"] == "idempotency_conflict"
    assert Host.objects.count() == 1


@pytest.mark.django_db
def test_a_key_belongs_to_its_user(api: Api, operator: User) -> None:
    vm = VMFactory()
    first = api.post(f"/vms/{vm.pk}/actions/start", Idempotency_Key="k").json()
    other = api.of(operator).post(f"/vms/{vm.pk}/actions/start", {}, Idempotency_Key="k")
    assert other.status_code == 202
    assert other.json()["id"] == first["id"]  # joined by the engine, not by the key
    assert IdempotencyKey.objects.count() == 2


@pytest.mark.django_db
def test_a_refusal_is_kept_as_well_and_a_stranger_keeps_nothing(api: Api) -> None:
    vm = VMFactory(state="running")
    first = api.post(f"/vms/{vm.pk}/actions/start", Idempotency_Key="k")
    vm.state = "shutoff"
    vm.save()
    second = api.post(f"/vms/{vm.pk}/actions/start", Idempotency_Key="k")
    assert first.status_code == second.status_code == 409
    assert type(api)("").post("/hosts", HOST, Idempotency_Key="s").status_code == 401
    assert IdempotencyKey.objects.count() == 1


@pytest.mark.django_db
def test_a_fault_of_ours_is_not_kept_and_undone(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("planted")

    with monkeypatch.context() as patch:
        patch.setattr("hosts.api.host_whole", broken)  # after the host was inserted
        assert api.post("/hosts", HOST, Idempotency_Key="k").status_code == 500
    assert not Host.objects.exists()
    assert not IdempotencyKey.objects.exists()
    assert api.post("/hosts", HOST, Idempotency_Key="k").status_code == 201


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "ö"])
def test_what_is_no_key_is_refused(api: Api, key: str) -> None:
    answer = api.post("/hosts", HOST, Idempotency_Key=key)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert not Host.objects.exists()


@pytest.mark.django_db
def test_a_key_is_forgotten_after_a_day(api: Api) -> None:
    api.post("/hosts", HOST, Idempotency_Key="k")
    IdempotencyKey.objects.update(created_at=timezone.now() - dt.timedelta(hours=25))
    assert api.post("/hosts", HOST, Idempotency_Key="k").json()["code"] == "already_exists"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "body", "secrets"),
    [("/tokens", {"name": "ci"}, {"token"}), ("/events/ticket", None, {"ticket", "protocols"})],
)
def test_a_secret_is_answered_once(api: Api, path: str, body: Any, secrets: set[str]) -> None:
    first = api.post(path, body, Idempotency_Key="k").json()
    second = api.post(path, body, Idempotency_Key="k")
    assert second.status_code == 201
    assert second.json() == {name: value for name, value in first.items() if name not in secrets}
    assert secrets <= set(first)


def test_twenty_at_once_are_one(place: Place, api: Api, workers: Callable[[], None]) -> None:
    start = threading.Barrier(20)

    def send(_: int) -> Any:
        with database_released():
            start.wait(20)
            return type(api)(api.secret).post("/hosts", HOST, Idempotency_Key="many")

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(send, range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert Host.objects.filter(name="kvm-1").count() == 1


def test_who_comes_while_the_first_waits_gets_the_first_ones_answer(
    place: Place, api: Api, workers: Callable[[], None]
) -> None:
    vm = place.guest("web")
    place.world.delay(0.5, verb="start")
    start = threading.Barrier(5)

    def send(_: int) -> Any:
        with database_released():
            start.wait(20)
            path = f"/vms/{vm.pk}/actions/start"
            return type(api)(api.secret).post(path, Idempotency_Key="k", Prefer="wait=20")

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(send, range(5)))
    assert [answer.status_code for answer in answers] == [200] * 5
    assert {answer.json()["state"] for answer in answers} == {"succeeded"}
    assert len({answer["Location"] for answer in answers}) == 1
    assert place.world.calls["start"] == 1


def test_a_first_request_that_died_waiting_wedges_nothing(
    place: Place, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def died(*_: object) -> None:
        raise KeyboardInterrupt

    vm = place.guest("web")
    monkeypatch.setattr("operations.doorbell.ring", lambda *_a, **_k: None)
    path = f"/vms/{vm.pk}/actions/start"
    with monkeypatch.context() as patch:
        patch.setattr(idempotency, "_waited", died)  # what a killed process leaves: the row, committed, unanswered
        with pytest.raises(KeyboardInterrupt):
            api.post(path, Idempotency_Key="k", Prefer="wait=5")
    operation = Operation.objects.get()
    assert IdempotencyKey.objects.get().status is None
    IdempotencyKey.objects.update(created_at=timezone.now() - idempotency.ABANDONED - dt.timedelta(seconds=1))
    answer = api.post(path, Idempotency_Key="k", Prefer="wait=5")
    assert (answer.status_code, answer.json()["id"]) == (202, str(operation.pk))
    assert same(answer, api.post(path, Idempotency_Key="k", Prefer="wait=5"))


def test_a_probe_with_a_key_is_made_once(place: Place, api: Api, workers: Callable[[], None]) -> None:
    body = {"uri": "qemu+tls://127.0.0.1:1/system"}
    first = api.post("/hosts/probe", body, Idempotency_Key="k")
    second = api.post("/hosts/probe", body, Idempotency_Key="k")
    assert first.status_code == 200
    assert same(first, second)
    assert Operation.objects.filter(kind="host.probe").count() == 1
