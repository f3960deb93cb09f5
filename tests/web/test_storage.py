"""Storage and networks over REST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from accounts.actor import SYSTEM
from hosts.models import Hypervisor
from networks.api import NetworkOut, NetworkWhole
from networks.selectors import network_page
from operations.models import Operation
from storage.api import PoolOut, VolumeOut, pool_json
from storage.inventory import pool_observe, volumes_observe
from storage.models import StoragePool, Volume
from storage.selectors import POOL_ORDERINGS, VOLUME_ORDERINGS, pool_page
from tests.factories import HostFactory, HypervisorFactory, NetworkFactory, PoolFactory, VMFactory, VolumeFactory
from vms.models import VMDisk, VMNic

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.conftest import Api
    from tests.web.conftest import Place

GIB = 1 << 30


def names(answer: Any) -> list[str]:
    return [item["name"] for item in answer.json()["items"]]


@pytest.fixture
def pool(place: Place) -> StoragePool:
    """`default` of a real (in-memory) hypervisor, with a volume `base`."""
    storage = place.world.storage
    row = pool_observe(place.hypervisor, storage.add_pool("default"))
    storage.add_volume("default", "base", content=b"data", capacity_bytes=GIB, format_="qcow2")
    volumes_observe(row, storage.volumes("default"), complete=True)
    return row


# -- pools ---------------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_a_pool_is_what_the_contract_says(api: Api) -> None:
    pool = PoolFactory(name="default")
    VolumeFactory(pool=pool)
    answer = api.get(f"/storage-pools/{pool.pk}")
    body = answer.json()
    PoolOut.model_validate(body)
    assert set(body) == set(PoolOut.model_fields)
    assert (body["host_name"], body["volume_count"], body["capacity_bytes"]) == (pool.host.name, 1, 100 * GIB)
    assert (body["actions"]["stop"]["allowed"], body["actions"]["start"]["allowed"]) == (True, False)
    assert api.get(f"/storage-pools/{pool.pk}", If_None_Match=answer["ETag"]).status_code == 304
    listed = api.get("/storage-pools").json()
    assert (listed["total"], set(listed["items"][0])) == (1, set(PoolOut.model_fields))


@pytest.mark.django_db
def test_pools_are_filtered_searched_and_ordered(api: Api) -> None:
    near = HypervisorFactory(host=HostFactory(name="near"))
    PoolFactory(hypervisor=near, name="alpha", type="logical", available_bytes=5 * GIB)
    PoolFactory(hypervisor=near, name="beta", state="inactive", capacity_bytes=None, available_bytes=None)
    PoolFactory(name="Gamma", target="/srv/nas", hypervisor=HypervisorFactory(state="offline"))
    PoolFactory(name="gone", gone_at="2026-01-01T00:00:00Z")
    assert names(api.get("/storage-pools")) == ["alpha", "beta", "Gamma"]
    assert names(api.get("/storage-pools?host=near&type=dir")) == ["beta"]
    assert names(api.get(f"/storage-pools?host=host/{near.host_id}&state=running,degraded")) == ["alpha"]
    assert names(api.get("/storage-pools?q=is:full")) == ["alpha"]
    assert names(api.get("/storage-pools?q=is:stale")) == ["Gamma"]
    assert names(api.get("/storage-pools?q=-is:running")) == ["beta"]
    assert names(api.get("/storage-pools?q=nas")) == ["Gamma"]
    assert names(api.get("/storage-pools?q=host:near name:a is:autostart")) == ["alpha", "beta"]
    assert names(api.get("/storage-pools?ordering=-available_bytes")) == ["Gamma", "alpha", "beta"]


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["storage-pools", "volumes", "networks"])
@pytest.mark.parametrize(
    ("query", "pointer"),
    [("state=exploded", "/state"), ("ordering=uuid", "/ordering"), ("limit=0", "/limit"), ("cursor=x", "/cursor")],
)
def test_a_bad_query_is_422_and_says_where(api: Api, path: str, query: str, pointer: str) -> None:
    if path == "volumes" and query.startswith("state"):
        query, pointer = "q=" + "a" * 3000, "/q"
    answer = api.get(f"/{path}?{query}")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


@pytest.mark.django_db
@pytest.mark.parametrize("ordering", [*POOL_ORDERINGS, *(f"-{name}" for name in POOL_ORDERINGS)])
def test_every_ordering_lists_each_pool_once(api: Api, ordering: str) -> None:
    PoolFactory.create_batch(7)
    PoolFactory(capacity_bytes=None, available_bytes=None)
    assert len(walked(api, "/storage-pools", ordering)) == 8


@pytest.mark.django_db
@pytest.mark.parametrize("ordering", [*VOLUME_ORDERINGS, *(f"-{name}" for name in VOLUME_ORDERINGS)])
def test_every_ordering_lists_each_volume_once(api: Api, ordering: str) -> None:
    for pool in PoolFactory.create_batch(2):
        VolumeFactory.create_batch(4, pool=pool)
    assert len(walked(api, "/volumes", ordering)) == 8


def walked(api: Api, path: str, ordering: str) -> set[str]:
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = api.get(f"{path}?limit=3&ordering={ordering}" + (f"&cursor={cursor}" if cursor else "")).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
    assert len(seen) == len(set(seen))
    return set(seen)


@pytest.mark.django_db
def test_a_page_of_pools_costs_the_same_whatever_stands_on_it(django_assert_num_queries: Callable[..., Any]) -> None:
    for count in (2, 40):
        for _ in range(count):
            VolumeFactory(pool=PoolFactory())
        with django_assert_num_queries(4):
            page = pool_page(SYSTEM, limit=500)
            assert all(pool_json(pool, by=SYSTEM)["volume_count"] == 1 for pool in page.items)


@pytest.mark.django_db(transaction=True)
def test_a_pool_lives_and_goes(place: Place, api: Api, workers: Callable[[], None]) -> None:
    body = {"host": place.hypervisor.host.name, "name": "guests", "type": "dir", "target": "/srv/guests"}
    answer = api.post("/storage-pools", body, Prefer="wait=10")
    made = answer.json()
    assert (answer.status_code, made["state"], made["target"]["type"]) == (200, "succeeded", "storage-pool")
    path = f"/storage-pools/{made['result']['pool']}"
    assert api.get(path).json()["autostart"] is True
    changed = api.patch(path, {"autostart": False}, If_Match=api.get(path)["ETag"])
    assert (changed.status_code, changed.json()["autostart"]) == (200, False)
    for action, state in (("stop", "inactive"), ("start", "running"), ("refresh", "running")):
        assert api.post(f"{path}/actions/{action}", Prefer="wait=10").json()["state"] == "succeeded"
        assert api.get(path).json()["state"] == state
    stopped = api.post(f"{path}/actions/start", Prefer="wait=10")
    assert (stopped.status_code, stopped.json()["code"]) == (409, "wrong_state")
    assert api.delete(path, Prefer="wait=10").json()["state"] == "succeeded"
    assert api.get(path).status_code == 404
    workers()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/host"),
        ({"host": "nowhere", "name": "a", "type": "dir"}, "/host"),
        ({"host": "here", "name": "a", "type": "floppy"}, "/type"),
        ({"host": "here", "name": "a", "type": "dir"}, "/target"),
        ({"host": "here", "name": "a/b", "type": "dir", "target": "/srv/a"}, "/name"),
        ({"host": "here", "name": "a", "type": "dir", "target": "/srv/../etc"}, "/target"),
        ({"host": "here", "name": "a", "type": "dir", "target": "/srv/a", "source_host": "nas"}, "/source_host"),
        ({"host": "here", "name": "a", "type": "dir", "target": "/srv/a", "password": "x"}, "/password"),
        ({"host": "here", "name": "a", "type": "dir", "target": "/srv/a", "autostart": "yes"}, "/autostart"),
    ],
)
def test_a_wrong_pool_is_422_and_says_where(api: Api, body: dict[str, Any], pointer: str) -> None:
    HypervisorFactory(host=HostFactory(name="here"))
    answer = api.post("/storage-pools", body)
    assert answer.status_code == 422
    assert pointer in [one["pointer"] for one in answer.json()["errors"]]
    assert not Operation.objects.exists()


@pytest.mark.django_db
def test_a_host_without_pools_says_why(api: Api) -> None:
    lacking = {"storage.manage": {"supported": False, "reason": "Docker has volumes of its own."}}
    HypervisorFactory(host=HostFactory(name="here"), capabilities=lacking)
    answer = api.post("/storage-pools", {"host": "here", "name": "a", "type": "dir", "target": "/srv/a"})
    assert (answer.status_code, answer.json()["code"]) == (422, "unsupported")
    assert "Docker has volumes of its own." in answer.json()["detail"]


@pytest.mark.django_db
def test_types_are_forms(api: Api) -> None:
    types = {one["name"]: one for one in api.get("/storage-pool-types").json()["items"]}
    assert next(iter(types)) == "dir"
    assert [field["name"] for field in types["dir"]["fields"] if field["required"]] == ["target"]
    assert types["iscsi"]["formats"] == []


@pytest.mark.django_db
def test_guests_that_run_with_it_stand_in_the_way_of_a_pools_end(api: Api) -> None:
    volume = VolumeFactory()
    vm = VMFactory(hypervisor=volume.pool.hypervisor, name="web", state="running")
    VMDisk.objects.create(vm=vm, target="vda", source=volume.path)
    body = api.get(f"/storage-pools/{volume.pool_id}").json()
    assert body["actions"]["delete"] | {"reason": ""} == {"allowed": False, "reason": "", "code": "in_use"}
    answer = api.delete(f"/storage-pools/{volume.pool_id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert answer.json()["context"]["used_by"] == [{"type": "vm", "id": str(vm.pk), "name": "web"}]


# -- volumes -------------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_a_volume_is_what_the_contract_says(api: Api) -> None:
    volume = VolumeFactory(name="disk.qcow2", backing="/pools/base")
    vm = VMFactory(hypervisor=volume.pool.hypervisor, name="web", state="running")
    VMDisk.objects.create(vm=vm, target="vda", source=volume.path)
    body = api.get(f"/volumes/{volume.pk}").json()
    VolumeOut.model_validate(body)
    assert set(body) == set(VolumeOut.model_fields)
    assert (body["backing"], body["pool_name"]) == ("/pools/base", volume.pool.name)
    assert body["used_by"] == [{"type": "vm", "id": str(vm.pk), "name": "web", "how": "vda", "running": True}]
    assert {name: one["allowed"] for name, one in body["actions"].items()} == {
        "resize": False,
        "wipe": False,
        "delete": False,
        "upload": False,
        "download": False,
        "clone": True,
    }
    assert api.get("/volumes").json()["items"] == [body]


@pytest.mark.django_db
def test_volumes_are_filtered_and_searched(api: Api) -> None:
    one = PoolFactory(name="one", hypervisor=HypervisorFactory(host=HostFactory(name="near")))
    two = PoolFactory(name="two", type="logical")
    VolumeFactory(pool=one, name="a.qcow2")
    VolumeFactory(pool=one, name="b.raw", format="raw")
    VolumeFactory(pool=two, name="c")
    assert names(api.get("/volumes?pool=one")) == ["a.qcow2", "b.raw"]
    assert names(api.get(f"/volumes?pool=storage-pool/{two.pk}&format=qcow2")) == ["c"]
    assert names(api.get("/volumes?host=near&format=raw,vmdk")) == ["b.raw"]
    assert names(api.get("/volumes?type=logical")) == ["c"]
    assert names(api.get("/volumes?q=pool:one -format:raw")) == ["a.qcow2"]
    assert names(api.get("/volumes?q=is:orphan host:near")) == ["a.qcow2", "b.raw"]
    assert names(api.get("/volumes?q=/pools/one")) == ["a.qcow2", "b.raw"]


@pytest.mark.django_db(transaction=True)
def test_a_volume_lives_and_goes(place: Place, pool: StoragePool, api: Api, workers: Callable[[], None]) -> None:
    body = {"pool": "default", "name": "disk.qcow2", "capacity_bytes": GIB}
    made = api.post("/volumes", body, Prefer="wait=10").json()
    assert made["state"] == "succeeded"
    path = f"/volumes/{made['result']['volume']}"
    assert api.get(path).json()["format"] == "qcow2"
    assert api.patch(path, {"capacity_bytes": 2 * GIB}).json()["capacity_bytes"] == 2 * GIB
    overlay = api.post("/volumes", {"pool": str(pool.pk), "name": "over", "backing": "disk.qcow2"}, Prefer="wait=10")
    assert overlay.json()["state"] == "succeeded"
    refused = api.delete(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "in_use")
    copied = api.post(f"{path}/actions/clone", {"name": "copy"}, Prefer="wait=10").json()
    assert copied["state"] == "succeeded"
    again = api.post("/volumes", {"pool": "default", "name": "third", "clone_of": "copy"}, Prefer="wait=10").json()
    assert (again["state"], again["kind"]) == ("succeeded", "volume.clone")
    copy = f"/volumes/{copied['result']['volume']}"
    assert api.post(f"{copy}/actions/wipe", Prefer="wait=10").json()["state"] == "succeeded"
    assert api.delete(copy, Prefer="wait=10").json()["state"] == "succeeded"
    assert api.get(copy).status_code == 404
    workers()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/pool"),
        ({"pool": "nowhere", "name": "a", "capacity_bytes": 1}, "/pool"),
        ({"pool": "default", "name": "../a", "capacity_bytes": 1}, "/name"),
        ({"pool": "default", "name": "a"}, "/capacity_bytes"),
        ({"pool": "default", "name": "a", "capacity_bytes": 0}, "/capacity_bytes"),
        ({"pool": "default", "name": "a", "capacity_bytes": 2**70}, "/capacity_bytes"),
        ({"pool": "default", "name": "a", "capacity_bytes": "1"}, "/capacity_bytes"),
        ({"pool": "default", "name": "a", "capacity_bytes": 1, "format": "exe"}, "/format"),
        ({"pool": "default", "name": "a", "capacity_bytes": 1, "path": "/etc/passwd"}, "/path"),
        ({"pool": "default", "name": "a", "backing": "/etc/passwd"}, "/backing"),
        ({"pool": "default", "name": "a", "clone_of": "../../etc/passwd"}, "/clone_of"),
    ],
)
def test_a_wrong_volume_is_422_and_says_where(api: Api, body: dict[str, Any], pointer: str) -> None:
    PoolFactory(name="default")
    answer = api.post("/volumes", body)
    assert answer.status_code == 422
    assert pointer in [one["pointer"] for one in answer.json()["errors"]]
    assert not Operation.objects.exists()


@pytest.mark.django_db
def test_a_name_that_several_hosts_have_needs_the_host(api: Api) -> None:
    PoolFactory(name="default", hypervisor=HypervisorFactory(host=HostFactory(name="one")))
    PoolFactory(name="default", hypervisor=HypervisorFactory(host=HostFactory(name="two")))
    body = {"pool": "default", "name": "a", "capacity_bytes": GIB}
    answer = api.post("/volumes", body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/pool")
    assert "give its id, or the host" in answer.json()["detail"]
    assert api.post("/volumes", body | {"host": "two"}).status_code == 202
    assert Operation.objects.get().params["pool"] == str(StoragePool.objects.get(host__name="two").pk)


@pytest.mark.django_db
def test_stale_changes_are_refused_and_a_disk_that_fills_up_makes_none_stale(api: Api) -> None:
    pool = PoolFactory()
    tag = api.get(f"/storage-pools/{pool.pk}")["ETag"]
    StoragePool.objects.filter(pk=pool.pk).update(available_bytes=1)
    fuller = api.get(f"/storage-pools/{pool.pk}", If_None_Match=tag)
    assert (fuller.status_code, fuller.json()["available_bytes"]) == (200, 1)
    assert api.patch(f"/storage-pools/{pool.pk}", {"autostart": True}, If_Match=tag).status_code == 200
    volume = VolumeFactory(pool=pool)
    old = api.get(f"/volumes/{volume.pk}")["ETag"]
    Volume.objects.filter(pk=volume.pk).update(version=9)
    assert api.delete(f"/volumes/{volume.pk}", If_Match=old).status_code == 412


@pytest.mark.django_db
def test_who_may_what(api: Api, viewer: User, operator: User) -> None:
    volume = VolumeFactory()
    looks, works = api.of(viewer), api.of(operator)
    pool = f"/storage-pools/{volume.pool_id}"
    for one in (looks, works):
        assert one.get(pool).status_code == one.get(f"/volumes/{volume.pk}").status_code == 200
        assert one.post(f"{pool}/actions/stop").status_code == 403
        assert one.delete(pool).status_code == 403
    assert looks.delete(f"/volumes/{volume.pk}").status_code == 403
    assert looks.get(f"/volumes/{volume.pk}").json()["actions"]["delete"]["code"] == "permission_denied"
    assert works.get(pool).json()["actions"]["create-volume"]["allowed"] is True
    assert works.delete(f"/volumes/{volume.pk}").status_code == 202


@pytest.mark.django_db
def test_a_host_out_of_reach_makes_its_pools_stale_and_says_why(api: Api) -> None:
    volume = VolumeFactory()
    Hypervisor.objects.update(state="offline")
    body = api.get(f"/storage-pools/{volume.pool_id}").json()
    assert (body["stale"], body["actions"]["refresh"]["code"]) == (True, "host_unreachable")
    assert api.delete(f"/volumes/{volume.pk}").status_code == 503


# -- networks ------------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_a_network_is_what_the_contract_says(api: Api) -> None:
    lease = {
        "mac": "52:54:00:00:00:01",
        "address": "192.168.122.9",
        "prefix": 24,
        "hostname": "web",
        "expires_at": 1800000000,
    }
    strange = {"mac": "x", "address": "y", "prefix": 0, "hostname": "", "expires_at": 2**62}
    network = NetworkFactory(name="lan", leases=[lease, strange])
    vm = VMFactory(hypervisor=network.hypervisor, name="web", state="running")
    VMNic.objects.create(vm=vm, mac="52:54:00:00:00:01", network="lan", target="vnet0")
    VMNic.objects.create(vm=vm, mac="52:54:00:00:00:02", network="virbr0")
    VMNic.objects.create(vm=VMFactory(), mac="52:54:00:00:00:03", network="lan")
    body = api.get(f"/networks/{network.pk}").json()
    NetworkWhole.model_validate(body)
    assert set(body) == set(NetworkWhole.model_fields)
    who = {"id": str(vm.pk), "name": "web"}
    assert [one["vm"] for one in body["leases"]] == [who, None]
    assert [one["expires_at"] for one in body["leases"]] == ["2027-01-15T08:00:00.000Z", None]
    assert [one["mac"][-1] for one in body["guests"]] == ["1", "2"]
    assert (body["guest_count"], body["state"]) == (1, "active")
    assert set(api.get("/networks").json()["items"][0]) == set(NetworkOut.model_fields)


@pytest.mark.django_db
def test_networks_are_filtered_and_cost_the_same(api: Api, django_assert_num_queries: Callable[..., Any]) -> None:
    NetworkFactory(name="lan", hypervisor=HypervisorFactory(host=HostFactory(name="near")))
    NetworkFactory(name="dmz", mode="route", active=False, dhcp=False)
    NetworkFactory(name="gone", gone_at="2026-01-01T00:00:00Z")
    assert names(api.get("/networks")) == ["dmz", "lan"]
    assert names(api.get("/networks?state=active")) == ["lan"]
    assert names(api.get("/networks?mode=route&state=active,inactive")) == ["dmz"]
    assert names(api.get("/networks?host=near&q=is:dhcp")) == ["lan"]
    assert names(api.get("/networks?ordering=-state")) == ["lan", "dmz"]
    NetworkFactory.create_batch(20)
    with django_assert_num_queries(4):
        network_page(SYSTEM)


@pytest.mark.django_db(transaction=True)
def test_a_network_lives_and_goes(place: Place, api: Api, workers: Callable[[], None]) -> None:
    body = {
        "host": place.hypervisor.host.name, "name": "lab", "address": "10.77.0.1/24", "dhcp_start": "10.77.0.10",
        "dhcp_end": "10.77.0.99",
    }  # fmt: skip
    answer = api.post("/networks", body, Prefer="wait=10")
    made = answer.json()
    assert (answer.status_code, made["state"], made["target"]["type"]) == (200, "succeeded", "network")
    path = f"/networks/{made['result']['network']}"
    seen = api.get(path).json()
    assert (seen["state"], seen["mode"], seen["addresses"], seen["autostart"]) == (
        "active", "nat", ["10.77.0.1/24"], True,
    )  # fmt: skip
    changed = api.patch(path, {"autostart": False}, If_Match=api.get(path)["ETag"])
    assert (changed.status_code, changed.json()["autostart"]) == (200, False)
    assert api.patch(path, {"autostart": True}, If_Match='"0"').status_code == 412
    for action, state in (("stop", "inactive"), ("start", "active")):
        assert api.post(f"{path}/actions/{action}", Prefer="wait=10").json()["state"] == "succeeded"
        assert api.get(path).json()["state"] == state
    again = api.post(f"{path}/actions/start", Prefer="wait=10")
    assert (again.status_code, again.json()["code"]) == (409, "wrong_state")
    assert api.post(f"{path}/actions/explode").status_code == 404
    assert api.delete(path, Prefer="wait=10").json()["state"] == "succeeded"
    assert api.get(path).status_code == 404
    workers()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"host": "nowhere"}, "/host"),
        ({"name": "a/b"}, "/name"),
        ({"name": "n" * 400}, "/name"),
        ({"mode": "passthrough"}, "/mode"),
        ({"address": "10.0.0.0/24"}, "/address"),
        ({"address": None}, "/address"),
        ({"dhcp_start": "10.0.0.2\n"}, "/dhcp_end"),
        ({"bridge": "br0\u0000"}, "/bridge"),
    ],
)
def test_a_wrong_network_is_422_and_says_where(api: Api, change: dict[str, Any], pointer: str) -> None:
    host = HypervisorFactory().host
    answer = api.post("/networks", {"host": str(host.pk), "name": "lab", "address": "10.0.0.1/24"} | change)
    assert answer.status_code == 422
    assert pointer in [one["pointer"] for one in answer.json()["errors"]]
    assert not Operation.objects.exists()


@pytest.mark.django_db
def test_only_administrators_change_networks(api: Api, operator: User, viewer: User) -> None:
    network = NetworkFactory(active=False)
    path = f"/networks/{network.pk}"
    for user in (operator, viewer):
        mine = api.of(user)
        for answer in (
            mine.post("/networks", {"host": network.host.name, "name": "lab", "mode": "isolated"}),
            mine.post(f"{path}/actions/start"),
            mine.patch(path, {"autostart": False}),
            mine.delete(path),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
        assert {one["code"] for one in mine.get(path).json()["actions"].values()} == {"permission_denied"}
    assert not Operation.objects.exists()
