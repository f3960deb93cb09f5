"""What is refused for a missing capability says what else does the job: here, now, allowed; and where else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from accounts.actor import SYSTEM
from core.rest import ProblemBody
from drivers.types import Feature
from tests.factories import ALL_SUPPORTED, HostFactory, HypervisorFactory, VMFactory
from vms.alternatives import ways
from vms.rows import vm_buttons

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.conftest import Api
    from vms.models import VM

pytestmark = pytest.mark.django_db


def guest(*lacks: str, state: str = "running", **facts: Any) -> VM:
    """On a hypervisor that can do everything but what it `lacks`."""
    none = {name: {"supported": False, "reason": f"No {name} here."} for name in lacks}
    host = HostFactory(name="ct-01", maintenance=facts.pop("maintenance", False))
    hypervisor = HypervisorFactory(host=host, driver="lxc", capabilities={**ALL_SUPPORTED, **none})
    return VMFactory(hypervisor=hypervisor, state=state, name="web", **facts)


def refused(api: Api, vm: VM, path: str, body: Any = None) -> dict[str, Any]:
    answer = api.post(f"/vms/{vm.pk}/{path}", body)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "unsupported")
    ProblemBody.model_validate(problem)
    return problem


@pytest.mark.parametrize(
    ("lacks", "state", "expected"),
    [
        (["reset"], "running", [("reboot",), ("force-off", "start")]),
        (["reset", "reboot"], "running", [("force-off", "start")]),
        (["reset", "start"], "running", [("reboot",)]),
        (["reset"], "paused", [("force-off", "start")]),
        (["managed-save"], "running", [("suspend",), ("shutdown",)]),
        (["managed-save", "suspend"], "paused", []),
        (["console.serial"], "running", [("console.shell",)]),
        (["console.serial"], "shutoff", []),
        (["snapshots.disk"], "running", []),
        (["of a later version"], "running", []),
    ],
)
def test_ways_when_a_feature_lacks_then_what_is_supported_and_possible_now(
    lacks: list[str], state: str, expected: list[tuple[str, ...]]
) -> None:
    assert ways(guest(*lacks, state=state, consoles=["shell"]), lacks[0], by=SYSTEM) == expected


def test_ways_when_the_host_is_out_of_reach_then_none() -> None:
    vm = guest("reset")
    vm.hypervisor.state = "offline"
    assert ways(vm, "reset", by=SYSTEM) == []


@pytest.mark.parametrize("feature", Feature)
def test_ways_when_any_feature_lacks_then_an_answer(feature: str) -> None:
    vm = guest(feature, consoles=["serial", "shell", "vnc", "spice"])
    assert all(feature not in way for way in ways(vm, feature, by=SYSTEM))


def test_action_when_the_hypervisor_lacks_it_then_422_with_ways_here_and_elsewhere(api: Api) -> None:
    vm = guest("reset")
    other = HypervisorFactory(host=HostFactory(name="kvm-01"), driver="qemu")
    HypervisorFactory(host=HostFactory(name="far"), state="offline")
    problem = refused(api, vm, "actions/reset")
    assert (problem["feature"], problem["reason"]) == ("reset", "No reset here.")
    assert problem["alternatives"] == [
        {"kind": "action", "steps": ["reboot"]},
        {"kind": "action", "steps": ["force-off", "start"]},
        {
            "kind": "hypervisor",
            "hypervisor": str(other.pk),
            "host": str(other.host_id),
            "host_name": "kvm-01",
            "driver": "qemu",
        },
    ]
    assert "alternatives" not in problem["context"]


def test_action_when_nothing_does_its_job_then_an_empty_list(api: Api) -> None:
    assert refused(api, guest("autostart"), "actions/autostart", {"enabled": True})["alternatives"] == []


def test_elsewhere_when_many_could_then_a_few_of_its_kind_first(api: Api) -> None:
    vm = guest("console.vnc", consoles=["vnc"])
    for number in range(5):
        HypervisorFactory(host=HostFactory(name=f"a-{number}"), virtualization_type="bare_metal")
    alike = HypervisorFactory(host=HostFactory(name="z"), virtualization_type="hybrid")
    found = refused(api, vm, "console", {"type": "vnc"})["alternatives"]
    assert [one["host_name"] for one in found] == ["z", "a-0", "a-1"]
    assert found[0]["hypervisor"] == str(alike.pk)


def test_console_when_the_hypervisor_lacks_it_then_the_other_one_of_the_guest(api: Api) -> None:
    vm = guest("console.serial", consoles=["shell", "serial"])
    found = refused(api, vm, "console", {"type": "serial"})["alternatives"]
    assert found == [{"kind": "console", "steps": ["console.shell"]}]


def test_reading_when_the_hypervisor_lacks_it_then_said_too(api: Api) -> None:
    vm = guest("screenshot", consoles=["vnc"])
    answer = api.get(f"/vms/{vm.pk}/screenshot")
    assert answer.status_code == 422
    assert answer.json()["alternatives"] == [{"kind": "console", "steps": ["console.vnc"]}]


def test_elsewhere_when_the_caller_may_not_see_it_then_not_named(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    vm = guest("autostart")
    hidden = HypervisorFactory().pk
    assert len(refused(api, vm, "actions/autostart", {"enabled": True})["alternatives"]) == 1
    monkeypatch.setattr("vms.alternatives.policy.visible", lambda _by, rows: rows.exclude(pk=hidden))
    assert refused(api, vm, "actions/autostart", {"enabled": True})["alternatives"] == []


def test_button_when_the_hypervisor_lacks_it_then_its_reason_says_what_helps(
    viewer: User, django_assert_num_queries: Callable[..., Any]
) -> None:
    vm = guest("reboot")
    with django_assert_num_queries(0):
        buttons = {one["name"]: one for one in vm_buttons(vm, by=SYSTEM)["main"]}
    assert (
        buttons["reboot"]["reason"]
        == "No reboot here. Instead: Shut down, then Start; or Reset; or Force off, then Start."
    )
    assert buttons["shutdown"]["reason"] == ""
