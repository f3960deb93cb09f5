"""`POST /vms` over REST: what is answered, to whom, and what a dry run shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from accounts.choices import Scope
from operations.models import Operation
from vms.models import VM

if TYPE_CHECKING:
    from accounts.models import User
    from tests.conftest import Api
    from tests.vms.conftest import Farm

pytestmark = pytest.mark.django_db(transaction=True)
SPEC = {"name": "web-01", "disks": [{"image": "debian.qcow2"}]}
XML = "<domain type='fake'><name>raw</name><memory unit='MiB'>64</memory></domain>"


def test_made_over_rest_then_the_operation_says_its_id(farm: Farm, api: Api, operator: User) -> None:
    answer = api.of(operator).post("/vms", SPEC, Prefer="wait=20")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["kind"], body["state"], body["target"]["name"]) == ("vm.create", "succeeded", "web-01")
    assert body["result"]["vm"] == body["target"]["id"]
    vm = api.get(f"/vms/{body['result']['vm']}").json()
    assert (vm["name"], vm["state"], vm["owner"]) == ("web-01", "running", operator.username)


def test_not_waited_for_then_202_and_where_to_look(farm: Farm, api: Api) -> None:
    answer = api.post("/vms", SPEC)
    assert (answer.status_code, answer["Location"]) == (202, f"/api/v1/operations/{answer.json()['id']}")


def test_same_key_twice_then_one_guest(farm: Farm, api: Api) -> None:
    first, second = (api.post("/vms", SPEC, Idempotency_Key="k1", Prefer="wait=20") for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    farm.workers()
    assert VM.objects.count() == 1


def test_who_may_only_look_makes_none(farm: Farm, api: Api, viewer: User, admin: User) -> None:
    assert api.of(viewer).post("/vms", SPEC).status_code == 403
    assert api.of(admin, scope=Scope.READ).post("/vms?dry_run=true", SPEC).status_code == 403
    assert api.of(viewer).post("/cloud-init/validate", {"user_data": ""}).status_code == 403
    assert not Operation.objects.exists()


def test_wrong_values_then_422_with_a_pointer_to_each(farm: Farm, api: Api) -> None:
    answer = api.post("/vms", {"name": "a/b", "vcpus": 0, "disks": [{"size_bytes": 1}], "colour": 1})
    assert answer.status_code == 422
    pointers = {error["pointer"] for error in answer.json()["errors"]}
    assert pointers == {"/name", "/vcpus", "/disks/0/size_bytes", "/colour"}
    answer = api.post(
        "/vms", {**SPEC, "cloud_init": {"user_data": "#cloud-config\na: [", "network_config": "version: 9"}}
    )
    assert [error["pointer"] for error in answer.json()["errors"]] == [
        "/cloud_init/user_data",
        "/cloud_init/network_config",
    ]
    assert "line 3" in answer.json()["errors"][0]["detail"]
    assert not Operation.objects.exists()


@pytest.mark.parametrize("body", [[], 1, "x", None, {"xml": 5}, {"xml": XML}, {"xml": "<a"}])
def test_bodies_that_are_no_spec_then_422(farm: Farm, api: Api, body: object) -> None:
    assert api.post("/vms", body).status_code in (400, 422)


def test_dry_run_then_placement_settled_spec_and_definition_and_nothing_is_made(farm: Farm, api: Api) -> None:
    answer = api.post("/vms?dry_run=true", {**SPEC, "cloud_init": {"ssh_keys": ["ssh-ed25519 AAAA"]}, "tags": ["prod"]})
    assert answer.status_code == 200
    body = answer.json()
    assert body["placement"]["hypervisor"] == str(farm.hypervisor.pk)
    assert body["placement"]["reasons"]
    (disk,) = body["spec"]["disks"]
    assert (disk["how"], disk["source"], disk["pool"]) == ("linked", "debian.qcow2", "default")
    assert f"/pools/default/{disk['volume']}" in body["definition"]
    assert "prod" in body["definition"]
    assert "AAAA" not in answer.content.decode()
    assert (farm.names(), farm.volumes(), VM.objects.count()) == (set(), {"debian.qcow2"}, 0)
    assert not Operation.objects.exclude(target__startswith="reading/").exists()


def test_dry_run_of_what_the_hypervisor_would_refuse_then_its_answer(farm: Farm, api: Api) -> None:
    answer = api.post("/vms?dry_run=true", {**SPEC, "boot": {"firmware": "uefi"}, "interfaces": [], "vcpus": 1})
    assert answer.status_code == 200
    answer = api.post("/vms?dry_run=true", {"xml": XML, "hypervisor": str(farm.hypervisor.pk)})
    assert answer.status_code == 422


def test_definition_as_it_is_then_only_with_scope_admin(farm: Farm, api: Api, operator: User) -> None:
    body = {"xml": XML, "hypervisor": str(farm.hypervisor.pk), "start": False}
    assert api.of(operator).post("/vms", body).status_code == 403
    answer = api.post("/vms", body, Prefer="wait=20").json()
    assert (answer["kind"], answer["state"], answer["params"]["xml"]) == ("vm.create-from-xml", "succeeded", "<hidden>")
    assert api.get(f"/vms/{answer['result']['vm']}").json()["state"] == "shutoff"


def test_definition_without_a_place_or_with_its_kind_then_asked_for_or_found(farm: Farm, api: Api) -> None:
    answer = api.post("/vms", {"xml": XML})
    assert answer.json()["errors"][0]["pointer"] == "/hypervisor"
    assert api.post("/vms", {"xml": XML, "driver": "fake"}, Prefer="wait=20").json()["state"] == "succeeded"
    assert api.post("/vms", {"xml": XML, "driver": "xen"}).status_code == 409


def test_host_is_away_then_503_and_nothing_queued(farm: Farm, api: Api) -> None:
    type(farm.hypervisor).objects.update(state="offline")
    assert api.post("/vms", {**SPEC, "hypervisor": str(farm.hypervisor.pk)}).status_code == 503
    assert api.post("/vms", SPEC).json()["code"] == "no_place"
    assert not Operation.objects.exists()


def test_documents_for_cloud_init_then_findings_with_lines(api: Api) -> None:
    body = {"user_data": "#cloud-config\nruncmd: ls\npakages: []\n", "network_config": "version: 2\nethernets: 5\n"}
    answer = api.post("/cloud-init/validate", body).json()
    assert answer["ok"] is False
    assert [(one["path"], one["line"]) for one in answer["errors"]] == [
        ("/user_data/runcmd", 2),
        ("/network_config/ethernets", 2),
    ]
    assert [(one["path"], one["line"]) for one in answer["warnings"]] == [("/user_data/pakages", 3)]
    assert api.post("/cloud-init/validate", {}).json() == {"ok": True, "errors": [], "warnings": []}


def test_addresses_of_a_guest_are_in_its_json(farm: Farm, api: Api) -> None:
    made = api.post("/vms", {**SPEC, "wait_for": "address", "wait_timeout_seconds": 1}, Prefer="wait=20").json()
    vm = api.get(f"/vms/{made['error']['context']['vm']}").json()
    assert (vm["addresses"], set(vm["address_reasons"])) == ([], {"agent", "lease", "arp"})
