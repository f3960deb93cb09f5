"""Hosts and hypervisors over REST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from accounts.actor import SYSTEM
from hosts.api import HostOut, HypervisorOut, host_json
from hosts.models import Host, Hypervisor
from hosts.selectors import host_page
from operations.models import Operation
from tests.factories import HostFactory, HypervisorFactory, VMFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.conftest import Api

pytestmark = pytest.mark.django_db

SECRET = "s3cret-and-never-seen"


def test_adding_a_host_answers_it_connecting(api: Api) -> None:
    answer = api.post("/hosts", {"name": "kvm-1", "uri": "qemu+tls://kvm-1.example/system", "tags": ["ams"]})
    body = answer.json()
    assert (answer.status_code, body["state"], body["tags"]) == (201, "connecting", ["ams"])
    assert answer["Location"] == f"/api/v1/hosts/{body['id']}"
    assert [one["driver"] for one in body["hypervisors"]] == ["qemu"]
    assert api.get(f"/hosts/{body['id']}")["ETag"] == answer["ETag"]
    HostOut.model_validate(body)
    assert set(body) == set(HostOut.model_fields)
    assert set(body["hypervisors"][0]) == set(HypervisorOut.model_fields)


def test_a_machine_may_run_several_hypervisors(api: Api) -> None:
    endpoints = [{"uri": "qemu:///system"}, {"uri": "lxc:///"}]
    host = api.post("/hosts", {"name": "here", "hypervisors": endpoints}).json()
    assert {one["driver"] for one in host["hypervisors"]} == {"qemu", "lxc"}
    added = api.post(f"/hosts/{host['id']}/hypervisors", {"uri": "qemu+tcp://10.0.0.1/system"})
    assert (added.status_code, added.json()["encrypted"]) == (201, False)
    listed = api.get(f"/hypervisors?host={host['id']}&driver=qemu").json()
    assert listed["total"] == 2


def test_credentials_go_in_and_never_out(api: Api) -> None:
    credentials = {"username": "root", "password": SECRET, "verify": False}
    made = api.post("/hosts", {"name": "a", "uri": "qemu+tls://a.example/system", "credentials": credentials})
    hypervisor = made.json()["hypervisors"][0]
    assert Hypervisor.objects.get().credentials["password"] == SECRET
    changed = api.patch(f"/hypervisors/{hypervisor['id']}", {"credentials": {"password": SECRET + "2"}, "slots": 8})
    assert changed.json()["slots"] == 8
    for answer in (made, changed, api.get("/hosts"), api.get("/hypervisors"), api.get("/events"), api.get("/audit")):
        assert SECRET not in answer.content.decode()


@pytest.mark.parametrize(
    "body",
    [
        {"name": "B", "uri": "qemu+tls://other.example/system"},
        {"name": "c", "uri": "qemu+tls://b.example/system"},
    ],
)
def test_what_is_there_already_is_409_with_its_id(api: Api, body: dict[str, Any]) -> None:
    first = api.post("/hosts", {"name": "b", "uri": "qemu+tls://b.example/system"}).json()
    answer = api.post("/hosts", body)
    assert (answer.status_code, answer.json()["code"], answer.json()["id"]) == (409, "already_exists", first["id"])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": "x"}, ""),
        ({"name": "", "uri": "qemu:///system"}, "/name"),
        ({"name": "x" * 101, "uri": "qemu:///system"}, "/name"),
        ({"name": "x", "uri": "qemu+ext:///system?command=sh"}, "/uri"),
        ({"name": "x", "uri": "http://169.254.169.254/"}, "/uri"),
        ({"name": "x", "uri": "fake:///world"}, "/uri"),
        ({"name": "x", "uri": "test:////etc/passwd"}, "/uri"),
        ({"name": "x", "hypervisors": []}, "/hypervisors"),
        ({"name": "x", "hypervisors": [{"url": "lxc:///"}]}, "/hypervisors/0/uri"),
        ({"name": "x", "uri": "lxc:///", "hypervisors": [{"uri": "lxc:///"}]}, ""),
        ({"name": "x", "uri": "lxc:///", "credentials": {"pass": "x"}}, "/credentials/pass"),
        ({"name": "x", "uri": "lxc:///", "credentials": {"verify": "ab:cd"}}, "/credentials/verify"),
        ({"name": "x", "uri": "lxc:///", "tags": ["a b"]}, "/tags"),
        ({"name": "x", "uri": "lxc:///", "colour": "red"}, "/colour"),
    ],
)
def test_a_wrong_host_is_422_and_says_where(api: Api, body: dict[str, Any], pointer: str) -> None:
    answer = api.post("/hosts", body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)
    assert not Host.objects.exists()


def test_a_host_is_changed_maintained_and_forgotten(api: Api) -> None:
    host = HypervisorFactory().host
    tag = api.get(f"/hosts/{host.pk}")["ETag"]
    body = api.patch(f"/hosts/{host.pk}", {"name": "new", "tags": ["x"]}, If_Match=tag).json()
    assert (body["name"], body["tags"]) == ("new", ["x"])
    assert api.patch(f"/hosts/{host.pk}", {"name": "newer"}, If_Match=tag).status_code == 412
    assert api.post(f"/hosts/{host.pk}/maintenance", {"enabled": True}).json()["maintenance"] is True
    assert api.post(f"/hosts/{host.pk}/refresh").status_code == 200
    assert api.delete(f"/hosts/{host.pk}", If_Match=tag).status_code == 412
    gone = api.delete(f"/hosts/{host.pk}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert api.get(f"/hosts/{host.pk}").status_code == 404


def test_a_name_that_another_has_is_refused(api: Api) -> None:
    taken, host = HostFactory(name="Taken"), HostFactory()
    answer = api.patch(f"/hosts/{host.pk}", {"name": "taken"})
    assert (answer.status_code, answer.json()["id"]) == (409, str(taken.pk))
    assert api.patch(f"/hosts/{host.pk}", {"name": " "}).status_code == 422


def test_a_hypervisor_is_forgotten_alone(api: Api) -> None:
    first = HypervisorFactory()
    second = HypervisorFactory(host=first.host)
    assert api.get(f"/hypervisors/{first.pk}").json()["host"] == str(first.host_id)
    assert api.delete(f"/hypervisors/{first.pk}").status_code == 204
    assert [one["id"] for one in api.get(f"/hosts/{first.host_id}").json()["hypervisors"]] == [str(second.pk)]


def test_guests_are_counted_for_all_hosts_at_once(django_assert_num_queries: Callable[..., Any]) -> None:
    for count in (3, 1, 0):
        hypervisor = HypervisorFactory()
        for n in range(count):
            VMFactory(hypervisor=hypervisor, state="running" if n else "shutoff")
        VMFactory(hypervisor=hypervisor, gone_at="2026-01-01T00:00:00Z", state="running")
    with django_assert_num_queries(4):  # count, hosts, hypervisors, guests
        found = [host_json(host) for host in host_page(SYSTEM, ordering="created_at").items]
    assert [(host["vm_count"], host["running_vm_count"]) for host in found] == [(3, 2), (1, 0), (0, 0)]


def test_hosts_are_searched_and_filtered(api: Api) -> None:
    HostFactory(name="ams-1", tags=["ams"], state="offline", maintenance=True)
    HypervisorFactory(host=HostFactory(name="ber-1", kernel="Linux 6.1"), driver="lxc", uri="lxc:///")

    def names(query: str) -> list[str]:
        return [host["name"] for host in api.get(f"/hosts?{query}").json()["items"]]

    assert names("q=linux") == ["ber-1"]
    assert names("q=driver:lxc") == ["ber-1"]
    assert names("q=is:maintenance") == ["ams-1"]
    assert names("q=-tag:ams") == ["ber-1"]
    assert names("state=offline,error") == ["ams-1"]
    assert names("tag=ams") == ["ams-1"]
    assert names("ordering=-name") == ["ber-1", "ams-1"]
    assert api.get("/hosts?state=on").status_code == 422
    assert api.get("/hypervisors?q=type:hybrid%20host:ber-1").json()["total"] == 1


def test_only_administrators_change_hosts(api: Api, operator: User) -> None:
    host = HypervisorFactory().host
    calls = api.of(operator)
    assert calls.get(f"/hosts/{host.pk}").status_code == 200
    for answer in (
        calls.post("/hosts", {"name": "x", "uri": "lxc:///"}),
        calls.post("/hosts/demo"),
        calls.post("/hosts/probe", {"uri": "lxc:///"}),
        calls.patch(f"/hosts/{host.pk}", {"name": "x"}),
        calls.delete(f"/hosts/{host.pk}"),
        calls.post(f"/hosts/{host.pk}/maintenance", {"enabled": True}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")


def test_the_demo_host_is_marked_as_one(api: Api) -> None:
    answer = api.post("/hosts/demo")
    assert (answer.status_code, answer.json()["demo"]) == (201, True)
    assert api.post("/hosts/demo").status_code == 409


@pytest.mark.django_db(transaction=True)
def test_a_probe_answers_its_steps_and_saves_nothing(api: Api, workers: Callable[[], None]) -> None:
    credentials = {"username": "u", "password": SECRET}
    answer = api.post("/hosts/probe", {"uri": "qemu+tls://127.0.0.1:1/system", "credentials": credentials})
    body = answer.json()
    assert (answer.status_code, body["ok"]) == (200, False)
    assert [step["step"] for step in body["steps"]] == [
        "name", "reach", "port", "tls", "authentication", "driver", "rights", "capabilities",
    ]  # fmt: skip
    assert {step["state"] for step in body["steps"]} == {"ok", "failed", "not_tried"}
    failed = next(step for step in body["steps"] if step["state"] == "failed")
    assert failed["error"]["code"]
    assert not Host.objects.exists()
    operation = Operation.objects.get()
    assert SECRET not in api.get(f"/operations/{operation.pk}").content.decode()


@pytest.mark.django_db(transaction=True)
def test_a_probe_that_nobody_carries_out_is_504(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.doorbell.ring", lambda *_a, **_k: None)
    monkeypatch.setattr("hosts.api.PROBE_WAIT_SECONDS", 0.1)
    answer = api.post("/hosts/probe", {"uri": "lxc:///"})
    assert (answer.status_code, answer.json()["code"]) == (504, "timeout")
    assert answer.json()["operation"] == str(Operation.objects.get().pk)


def test_series_of_a_host(api: Api) -> None:
    host = HostFactory()
    assert "cpu_ratio" in api.get(f"/hosts/{host.pk}/metrics").json()["series"]
