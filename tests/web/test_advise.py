"""`POST /advise`: what it takes, what it answers to whom, and from which facts."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from core.units import GIB
from dashboard.api import AdviceOut
from hosts.models import Host, Hypervisor
from metrics.models import Latest
from operations.models import Operation
from tests.factories import HostFactory, HypervisorFactory, VMFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.conftest import Api

pytestmark = pytest.mark.django_db


@pytest.fixture
def fleet() -> dict[str, Hypervisor]:
    """One machine with KVM and LXC, and one that is out of reach."""
    host = HostFactory(name="kvm-01", memory_free_bytes=48 * GIB, nested_virtualization=True)
    shared = {"virtualization_type": "os_level", "techniques": ["shared_kernel"]}
    return {
        "qemu": HypervisorFactory(host=host, driver="qemu"),
        "lxc": HypervisorFactory(host=host, driver="lxc", **shared),
        "far": HypervisorFactory(host=HostFactory(name="far", state="offline"), state="offline"),
    }


def advised(api: Api, **demand: Any) -> dict[str, Any]:
    answer = api.post("/advise", demand)
    assert answer.status_code == 200, answer.content
    AdviceOut.model_validate_json(answer.content)
    return answer.json()


def test_advice_when_a_guest_needs_its_own_kernel_then_os_level_is_refused(
    api: Api, fleet: dict[str, Hypervisor]
) -> None:
    body = advised(api, guest_os="windows", memory_bytes=4 * GIB)
    assert [one["hypervisor"] for one in body["candidates"]] == [str(fleet["qemu"].pk)]
    assert {one["hypervisor"]: one["code"] for one in body["refused"]} == {
        str(fleet["lxc"].pk): "shared_kernel",
        str(fleet["far"].pk): "out_of_reach",
    }
    best = body["candidates"][0]
    assert (best["host_name"], best["driver"], best["virtualization_type"]) == ("kvm-01", "qemu", "hybrid")
    assert 0 < best["score"] <= 1
    assert "48 GiB of 64 GiB of memory are free." in best["reasons"]


def test_advice_when_nothing_is_demanded_or_known_then_empty_or_all(api: Api) -> None:
    assert advised(api) == {"candidates": [], "refused": []}
    HypervisorFactory()
    assert len(advised(api)["candidates"]) == 1


@pytest.mark.parametrize(
    ("demand", "pointer"),
    [
        ({"colour": "red"}, "/colour"),
        ({"guest_os": "beos"}, "/guest_os"),
        ({"isolation": "none"}, "/isolation"),
        ({"density": 3}, "/density"),
        ({"start_seconds": 0}, "/start_seconds"),
        ({"start_seconds": "5"}, "/start_seconds"),
        ({"vcpus": 0}, "/vcpus"),
        ({"vcpus": 1.5}, "/vcpus"),
        ({"memory_bytes": -1}, "/memory_bytes"),
        ({"memory_bytes": 2**63}, "/memory_bytes"),
        ({"nested": "yes"}, "/nested"),
        ({"migration": 1}, "/migration"),
    ],
)
def test_advice_when_the_demand_is_wrong_then_422_with_a_pointer(
    api: Api, demand: dict[str, Any], pointer: str
) -> None:
    answer = api.post("/advise", demand)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize("demand", [{"console": "telnet"}, {"snapshots": "cloud"}, {"console": 7}, []])
def test_advice_when_the_demand_is_nonsense_then_422(api: Api, demand: Any) -> None:
    assert api.post("/advise", demand).status_code == 422


def test_advice_who_may_then_a_reader_and_nobody_without_sign_in(
    api: Api, viewer: User, fleet: dict[str, Hypervisor]
) -> None:
    assert len(advised(api.of(viewer))["candidates"]) == 2
    assert type(api)("").post("/advise", {}).status_code == 401


def test_advice_who_may_not_see_hypervisors_then_finds_none(
    api: Api, fleet: dict[str, Hypervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = fleet["lxc"].pk
    monkeypatch.setattr("hosts.places.visible", lambda _by, rows: rows.exclude(pk=hidden))
    body = advised(api)
    assert str(hidden) not in {one["hypervisor"] for one in (*body["candidates"], *body["refused"])}


def test_advice_when_starts_were_measured_then_their_middle_counts(api: Api, fleet: dict[str, Hypervisor]) -> None:
    now = timezone.now()
    for seconds, state in ((1, "succeeded"), (2, "succeeded"), (9, "succeeded"), (100, "failed")):
        Operation.objects.create(
            kind="vm.start",
            target="vm/x",
            state=state,
            slot_key=fleet["qemu"].ref,
            started_at=now - dt.timedelta(seconds=seconds),
            finished_at=now,
        )
    body = advised(api, start_seconds=2)
    told = {one["driver"]: one["reasons"] for one in body["candidates"]}
    assert "The last 3 starts took 2 s here, in the middle, without the guest's own boot." in told["qemu"]
    assert "Not measured here yet; its kind usually starts in 1 s, without the guest's own boot." in told["lxc"]
    assert advised(api, start_seconds=1.5)["refused"][-1]["code"] == "slow_start"


def test_advice_when_the_machine_is_loaded_then_lower_and_said(api: Api) -> None:
    busy, idle = HypervisorFactory(host=HostFactory(name="a")), HypervisorFactory(host=HostFactory(name="b"))
    Latest.objects.create(subject=busy.host_id, at=timezone.now(), cpu_ratio=0.9, memory_bytes=60 * GIB)
    Latest.objects.create(subject=idle.host_id, at=timezone.now(), cpu_ratio=0.1, memory_bytes=4 * GIB)
    VMFactory(hypervisor=busy, state="running", vcpus=6)
    VMFactory(hypervisor=busy, state="shutoff", vcpus=9)
    first, second = advised(api)["candidates"]
    assert (first["hypervisor"], second["hypervisor"]) == (str(idle.pk), str(busy.pk))
    assert "8 CPUs, 90 % busy; 6 vCPUs are promised." in second["reasons"]
    assert [one["code"] for one in advised(api, memory_bytes=8 * GIB)["refused"]] == ["no_memory"]


@pytest.mark.parametrize("count", [2, 60])
def test_advice_costs_the_same_whatever_the_fleet(
    api: Api, count: int, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    for _ in range(count):
        VMFactory(hypervisor=HypervisorFactory(), state="running")
    api.post("/advise", {})
    with django_assert_max_num_queries(8):
        assert len(advised(api)["candidates"]) == count
    assert Host.objects.count() == count
