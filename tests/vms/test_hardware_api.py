"""Hardware over REST: read by a worker, changed by operations, refused at the field that is wrong, and by who may not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from core.units import GIB, MIB
from drivers.types import GuestState
from hosts.models import Host, Hypervisor
from operations.models import Operation
from tests.factories import ALL_SUPPORTED, HypervisorFactory, VMFactory
from tests.vms.test_hardware import guest, has, seen
from vms.hardware.api_shapes import HardwareOut, HostDevicesOut
from vms.models import VM, VMHardware

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.conftest import Api
    from tests.vms.conftest import Farm

LONG = 2**70


def ended(answer: Any) -> dict[str, Any]:
    assert answer.status_code in (200, 202), answer.content
    operation = answer.json()
    assert operation["state"] == "succeeded", operation["error"]
    return dict(operation["result"])


WAIT = {"Prefer": "wait=20"}


# -- read and changed -----------------------------------------------------------------------------------------------------
def test_all_of_it_is_read_and_what_waits_stands_beside_what_is(farm: Farm, api: Api) -> None:
    vm = guest(farm)
    path = f"/vms/{vm.pk}"
    found = api.get(f"{path}/hardware").json()
    HardwareOut.model_validate(found)
    assert [(one["key"], one["pool"], one["volume"], one["size_bytes"]) for one in found["disks"]] == [
        ("disk/vda", "default", "web.qcow2", GIB),
        ("disk/sda", None, None, None),
    ]
    result = ended(api.patch(f"{path}/hardware", {"memory": {"memory_bytes": 2 * GIB}}, **WAIT))
    assert (result["key"], result["takes_effect"]) == ("memory", "next_start")
    ended(api.patch(f"{path}/disks/vda?when=next_start&comment=faster", {"cache": "none"}, **WAIT))
    ended(api.delete(f"{path}/disks/sda?when=next_start", **WAIT))
    new = ended(api.post(f"{path}/interfaces?when=next_start", {"network": "default"}, **WAIT))
    found = api.get(f"{path}/hardware").json()
    HardwareOut.model_validate(found)
    assert found["memory"]["pending"]["now"]["memory_bytes"] == GIB
    assert found["disks"][0]["pending"] == {"change": "changed", "now": {"cache": ""}}
    assert found["disks"][1]["pending"] == {"change": "removed", "now": None}
    assert found["interfaces"][1]["pending"] == {"change": "added", "now": None}
    assert set(found["pending"]) == {"memory", "disk/vda", "disk/sda", new["key"]}
    assert [one["target"] for one in api.get(f"{path}/disks").json()["items"]] == ["vda", "sda"]
    assert api.get(f"{path}/interfaces").json()["total"] == 2


def test_a_disk_is_attached_changed_grown_and_taken_away(farm: Farm, api: Api) -> None:
    vm = guest(farm)
    path = f"/vms/{vm.pk}/disks"
    made = ended(api.post(path, {"size_bytes": GIB, "cache": "none", "serial": "data 1"}, **WAIT))
    one = f"{path}/{made['key'].removeprefix('disk/')}"
    assert made["takes_effect"] == "now"
    ended(api.patch(one, {"limits": {"read_bytes_per_second": 1 * MIB}}, **WAIT))
    ended(api.post(f"{one}/resize", {"size_bytes": 2 * GIB}, **WAIT))
    item = api.get(path).json()["items"][-1]
    assert (item["size_bytes"], item["limits"]["read_bytes_per_second"], item["serial"]) == (2 * GIB, MIB, "data 1")
    assert ended(api.delete(f"{one}?storage=delete", **WAIT))["deleted"] is True


def test_a_medium_is_put_in_and_taken_out(farm: Farm, api: Api) -> None:
    vm = guest(farm)
    farm.world.storage.add_volume("default", "tools.iso", content=b"iso" * 100)
    farm.see()
    path = f"/vms/{vm.pk}/disks/sda"
    ended(api.patch(path, {"medium": {"volume": "tools.iso"}}, **WAIT))
    assert has(farm, "disk/sda")[1].path == "/pools/default/tools.iso"
    ended(api.patch(path, {"medium": None}, **WAIT))
    assert has(farm, "disk/sda")[1].path == ""


def test_devices_and_those_of_the_host(farm: Farm, api: Api) -> None:
    vm = guest(farm)
    farm.world.add_host_device("0000:01:00.0", vendor="Acme", product="Card", class_="network", iommu_group=7)
    path = f"/vms/{vm.pk}/devices"
    assert ended(api.post(path, {"type": "tpm"}, **WAIT))["takes_effect"] == "next_start"
    result = ended(api.post(path, {"type": "pci", "address": "0000:01:00.0"}, **WAIT))
    assert (result["key"], result["takes_effect"]) == ("pci/0000:01:00.0", "now")
    found = api.get(f"/hosts/{farm.hypervisor.host_id}/devices").json()
    HostDevicesOut.model_validate(found)
    assert found["items"][0]["guests"] == [{"id": str(vm.pk), "name": "web"}]
    assert (found["items"][0]["iommu_group"], found["items"][0]["class"]) == (7, "network")
    assert [one["key"] for one in api.get(path).json()["items"]] == ["tpm", "pci/0000:01:00.0"]
    ended(api.patch(f"{path}/tpm", {"model": "tpm-tis"}, **WAIT))
    ended(api.delete(f"{path}/pci/0000:01:00.0", **WAIT))
    assert api.get(f"/hosts/{farm.hypervisor.host_id}/devices").json()["items"][0]["guests"] == []


# -- two at once ------------------------------------------------------------------------------------------------------------
def test_who_decided_by_an_older_look_gets_412_and_who_does_not_say_wins(farm: Farm, api: Api) -> None:
    vm = guest(farm)
    path = f"/vms/{vm.pk}/hardware"
    tag = api.get(path).headers["ETag"]
    ended(api.patch(path, {"memory": {"memory_bytes": 512 * MIB}}, If_Match=tag, **WAIT))
    late = api.patch(path, {"memory": {"memory_bytes": 256 * MIB}}, If_Match=tag)
    assert (late.status_code, late.json()["code"]) == (412, "stale")
    for header, size in (("*", 256), ("", 512)):
        tag = header or api.get(path).headers["ETag"]
        answer = api.patch(path, {"memory": {"memory_bytes": size * MIB}}, If_Match=tag, **WAIT)
        assert ended(answer)["takes_effect"] == "now"
    assert api.patch(path, {"boot": {"menu": True}}, If_Match='"7"').status_code == 412


def test_an_outside_change_between_look_and_turn_is_seen_by_the_worker(farm: Farm, api: Api) -> None:
    vm = guest(farm)
    path = f"/vms/{vm.pk}/hardware"
    tag = api.get(path).headers["ETag"]
    xml = farm.world.definition(vm.guest_ref)
    farm.world.define(xml.replace("<vcpu>2<", "<vcpu>1<"))
    seen(farm)
    operation = api.patch(path, {"cpu": {"vcpus": 2}}, If_Match=tag, **WAIT).json()
    assert (operation["state"], operation["error"]["code"]) == ("failed", "stale")


# -- refused ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "path", "body", "pointer"),
    [
        ("PATCH", "hardware", {}, ""),
        ("PATCH", "hardware", {"cpu": {"vcpus": 1}, "memory": {"memory_bytes": GIB}}, ""),
        ("PATCH", "hardware", {"cpu": {"vcpus": 0}}, "/cpu/vcpus"),
        ("PATCH", "hardware", {"cpu": {"vcpus": LONG}}, "/cpu/vcpus"),
        ("PATCH", "hardware", {"cpu": {"vcpus": 9}}, "/cpu/vcpus"),
        ("PATCH", "hardware", {"cpu": {"vcpus": 3, "max_vcpus": 2}}, "/cpu"),
        ("PATCH", "hardware", {"cpu": {"sockets": 1}}, "/cpu"),
        ("PATCH", "hardware", {"cpu": {"pins": {"0": "0-99999"}}}, "/cpu/pins/0"),
        ("PATCH", "hardware", {"cpu": {"pins": {"x": "0"}}}, "/cpu/pins/x/[key]"),
        ("PATCH", "hardware", {"cpu": {"model": "../x"}}, "/cpu/model"),
        ("PATCH", "hardware", {"memory": {"memory_bytes": 1}}, "/memory/memory_bytes"),
        ("PATCH", "hardware", {"memory": {"memory_bytes": LONG}}, "/memory/memory_bytes"),
        ("PATCH", "hardware", {"memory": {"memory_bytes": 63 << 40}}, "/memory/memory_bytes"),
        ("PATCH", "hardware", {"boot": {"order": ["/etc/passwd"]}}, "/boot/order/0"),
        ("PATCH", "hardware", {"boot": {"order": ["hd", "disk/vda"]}}, "/boot"),
        ("POST", "disks", {}, "/size_bytes"),
        ("POST", "disks", {"size_bytes": 1}, "/size_bytes"),
        ("POST", "disks", {"size_bytes": GIB, "path": "/etc/passwd"}, "/path"),
        ("POST", "disks", {"volume": "../../etc/passwd"}, "/volume"),
        ("POST", "disks", {"volume": "web.qcow2", "size_bytes": GIB}, ""),
        ("POST", "disks", {"volume": "a\x00b"}, "/volume"),
        ("POST", "disks", {"image": "nothing"}, "/image"),
        ("POST", "disks", {"image": "debian.qcow2", "size_bytes": 2 * MIB}, "/size_bytes"),
        ("POST", "disks", {"size_bytes": GIB, "pool": "nowhere"}, "/pool"),
        ("POST", "disks", {"size_bytes": GIB, "bus": "scuzzy"}, "/bus"),
        ("POST", "disks", {"size_bytes": GIB, "limits": {"read_bytes_per_second": -1}}, "/limits/read_bytes_per_second"),
        (
            "POST",
            "disks",
            {"size_bytes": GIB, "limits": {"read_bytes_per_second": 1, "total_bytes_per_second": 1}},
            "/limits/total_bytes_per_second",
        ),
        ("PATCH", "disks/vda", {}, ""),
        ("PATCH", "disks/vda", {"serial": "<b>"}, "/serial"),
        ("PATCH", "disks/sda", {"medium": {}}, "/medium"),
        ("PATCH", "disks/sda", {"medium": {"volume": "/dev/sda"}}, "/volume"),
        ("PATCH", "disks/..%2Fvda", {"cache": "none"}, None),
        ("POST", "disks/vda/resize", {"size_bytes": LONG}, "/size_bytes"),
        ("DELETE", "disks/sda?storage=delete", None, "/storage"),
        ("POST", "interfaces", {}, "/network"),
        ("POST", "interfaces", {"network": "nowhere"}, "/network"),
        ("POST", "interfaces", {"network": "default", "mac": "01:00:00:00:00:00"}, "/mac"),
        ("POST", "interfaces", {"network": "default", "bridge": "br0"}, ""),
        ("POST", "interfaces", {"network": "default", "vlan": 4095}, "/vlan"),
        ("POST", "interfaces", {"direct": "../eth0"}, "/direct"),
        ("PATCH", "interfaces/52:54:00:00:00:03", {"link": "maybe"}, "/link"),
        ("POST", "devices", {"type": "gpu"}, "/type"),
        ("POST", "devices", {"type": "pci"}, ""),
        ("POST", "devices", {"type": "pci", "address": "../../x"}, "/address"),
        ("POST", "devices", {"type": "usb", "address": "0000:01:00.0"}, ""),
        ("DELETE", "devices/disk/vda", None, None),
    ],
)  # fmt: skip
def test_what_cannot_be_is_422_and_says_where(
    farm: Farm, api: Api, method: str, path: str, body: Any, pointer: str | None
) -> None:
    vm = guest(farm, state=GuestState.SHUTOFF)
    Host.objects.update(cpu_count=8, memory_total_bytes=16 * GIB)
    answer = api.call(method, f"/vms/{vm.pk}/{path}", body)
    assert answer.status_code in ((422,) if pointer is not None else (404, 422)), answer.content
    if pointer is not None:
        assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]
    assert not Operation.objects.filter(kind__startswith="vm.").exists()


@pytest.mark.django_db
def test_a_hypervisor_that_cannot_says_why_and_what_could(api: Api) -> None:
    lacking = {**ALL_SUPPORTED, "hardware": {"supported": False, "reason": "Nothing is changed here."}}
    vm = VMFactory(hypervisor=HypervisorFactory(capabilities=lacking))
    other = HypervisorFactory(capabilities=ALL_SUPPORTED)
    for answer in (
        api.get(f"/vms/{vm.pk}/hardware"),
        api.patch(f"/vms/{vm.pk}/hardware", {"cpu": {"vcpus": 1}}),
        api.post(f"/vms/{vm.pk}/interfaces", {"network": "default"}),
    ):
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["capability"]) == (422, "unsupported", "hardware")
        assert problem["reason"] == "Nothing is changed here."
        assert str(other.pk) in {one.get("hypervisor") for one in problem["alternatives"]}


def test_who_may_look_may_not_touch_and_what_is_the_hosts_is_for_admins(
    farm: Farm, api: Api, viewer: User, operator: User
) -> None:
    vm = guest(farm)
    look, work = api.of(viewer), api.of(operator)
    path = f"/vms/{vm.pk}"
    assert look.get(f"{path}/hardware").status_code == 200
    assert look.patch(f"{path}/hardware", {"cpu": {"vcpus": 1}}).status_code == 403
    assert look.delete(f"{path}/disks/vda").status_code == 403
    for one, body in (
        ("interfaces", {"bridge": "br0"}),
        ("interfaces", {"direct": "eth0"}),
        ("devices", {"type": "pci", "address": "0000:01:00.0"}),
    ):
        assert work.post(f"{path}/{one}", body).status_code == 403
    assert work.patch(f"{path}/hardware", {"cpu": {"vcpus": 1}}, **WAIT).status_code == 200


@pytest.mark.django_db
def test_out_of_reach_shows_what_was_seen_last_or_says_that_nothing_was(api: Api) -> None:
    vm = VMFactory()
    Hypervisor.objects.update(state="offline")
    assert api.get(f"/vms/{vm.pk}/hardware").status_code == 404
    assert api.patch(f"/vms/{vm.pk}/hardware", {"cpu": {"vcpus": 1}}).json()["code"] == "host_unreachable"


def test_a_guest_of_the_bin_is_left_alone(farm: Farm, api: Api) -> None:
    vm = guest(farm, state=GuestState.SHUTOFF)
    api.delete(f"/vms/{vm.pk}", **WAIT)
    answer = api.patch(f"/vms/{vm.pk}/hardware", {"cpu": {"vcpus": 1}})
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_state")


def test_what_a_look_costs_does_not_grow_with_the_guest(
    farm: Farm, api: Api, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    vm = guest(farm)
    api.get(f"/vms/{vm.pk}/hardware")
    Hypervisor.objects.update(state="offline")
    row = VMHardware.objects.get(vm=vm)
    for many in (1, 40):
        disks = [{**row.defined["disks"][0], "target": f"vd{number}"} for number in range(many)]
        VMHardware.objects.filter(vm=vm).update(defined={**row.defined, "disks": disks}, live=None)
        with django_assert_max_num_queries(7):
            assert len(api.get(f"/vms/{vm.pk}/hardware").json()["disks"]) == many


def test_the_list_of_guests_knows_nothing_of_hardware(
    farm: Farm, api: Api, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    guest(farm)
    with django_assert_max_num_queries(9) as queries:
        api.get("/vms")
    assert not any("vmhardware" in one["sql"] for one in queries.captured_queries)
    assert VM.objects.count() == 1
