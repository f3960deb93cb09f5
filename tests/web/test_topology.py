"""The topology: what is joined to what, at what price, as a page and by REST, and what hostile names make of it."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from hosts.models import Host, Hypervisor
from networks.models import Network
from storage.models import StoragePool
from tests.factories import HostFactory, HypervisorFactory, NetworkFactory, PoolFactory, VMFactory, VolumeFactory
from tests.web import fleet
from vms.models import VM, VMDisk, VMNic

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User
    from tests.conftest import Api

pytestmark = pytest.mark.django_db

NOBODY = "00000000-0000-4000-8000-000000000000"  # the same in every process that collects
HOSTILE = "\"><script>alert(1)</script>{{ 7 }}'&"


@pytest.fixture
def browser(viewer: User, client_for: Callable[..., Client]) -> Client:
    return client_for(viewer)


def main_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.content
    page = re.sub(r"\s+", " ", html.unescape(answer.content.decode()))
    return page.partition("<main")[2].partition("</main>")[0] if "<main" in page else page


def guest(
    hypervisor: Hypervisor, name: str, *, nets: tuple[str, ...] = (), disks: tuple[str, ...] = (), **facts: Any
) -> VM:
    vm = VMFactory(hypervisor=hypervisor, name=name, **facts)
    for number, net in enumerate(nets):
        VMNic.objects.create(vm=vm, mac=f"52:54:00:00:00:0{number}", network=net)
    for number, disk in enumerate(disks):
        VMDisk.objects.create(vm=vm, target=f"vd{'abc'[number]}", source=disk)
    return vm


def edges(body: dict[str, Any], kind: str) -> set[tuple[str, str, tuple[str, ...]]]:
    """By names."""
    names = {node["id"]: node["name"] for node in body["nodes"]}
    return {
        (names[one["source"]], names[one["target"]], tuple(one["labels"]))
        for one in body["edges"]
        if one["kind"] == kind
    }


def names(body: dict[str, Any], type_: str = "vm") -> list[str]:
    return sorted(node["name"] for node in body["nodes"] if node["type"] == type_)


# -- what is joined to what --------------------------------------------------------------------------------------------
def test_guests_are_joined_by_names_bridges_pools_directories_and_volumes(api: Api) -> None:
    one, other = HypervisorFactory(host=HostFactory(name="kvm")), HypervisorFactory()
    NetworkFactory(hypervisor=one, name="lan", bridge="br7")
    NetworkFactory(hypervisor=other, name="lan", bridge="br7")
    PoolFactory(hypervisor=one, name="dir", target="/pools/dir/")
    PoolFactory(hypervisor=one, name="deeper", target="/pools/dir/deeper")
    PoolFactory(hypervisor=other, name="dir", target="/pools/dir")
    rbd = PoolFactory(hypervisor=one, name="rbd", type="rbd", target="")
    VolumeFactory(pool=rbd, path="ceph/vol-1")
    vm = guest(one, "web", nets=("lan", "br7", "br9"), disks=("/pools/dir/a", "ceph/vol-1", "/else/where"))
    VMDisk.objects.create(vm=vm, target="vdd", source="vol-9", pool="deeper")
    VMDisk.objects.create(vm=vm, target="vde", source="/pools/dir/deeper/b")
    VMDisk.objects.create(vm=vm, target="vdf", source="/pools/directory/c")
    VMDisk.objects.create(vm=vm, target="sda", source="/isos/x.iso", device="cdrom")
    VMDisk.objects.create(vm=vm, target="sdb", device="cdrom")
    guest(one, "gone", gone_at=timezone.now())
    guest(one, "binned", binned_at=timezone.now())
    body = api.get(f"/topology?focus=vm/{vm.pk}&depth=1").json()
    macs = ("52:54:00:00:00:00", "52:54:00:00:00:01")
    assert edges(body, "on_network") == {("web", "lan", macs), ("web", "br9", ("52:54:00:00:00:02",))}
    assert edges(body, "disk_in") == {
        ("web", "dir", ("vda",)),
        ("web", "deeper", ("vdd", "vde")),
        ("web", "rbd", ("vdb",)),
        ("web", "", ("vdc", "vdf")),
    }
    assert names(api.get("/topology").json()) == ["web"]
    assert names(api.get("/topology").json(), "bridge") == ["br9"]


def test_a_focus_has_its_neighbours_and_no_others(api: Api) -> None:
    hypervisor = HypervisorFactory(host=HostFactory(name="kvm"))
    lan, idle = (
        NetworkFactory(hypervisor=hypervisor, name="lan", bridge=""),
        NetworkFactory(hypervisor=hypervisor, name="idle"),
    )
    pool = PoolFactory(hypervisor=hypervisor, name="pool")
    web = guest(hypervisor, "web", nets=("lan",), disks=(f"{pool.target}/web",))
    guest(hypervisor, "db", disks=(f"{pool.target}/db",))
    guest(HypervisorFactory(), "far", nets=("lan",))
    expected = {
        ("vm", web.pk, 1): [["web"], ["lan"], ["pool"]],
        ("network", lan.pk, 1): [["web"], ["lan"], []],
        ("network", lan.pk, 2): [["web"], ["idle", "lan"], ["pool"]],
        ("network", idle.pk, 1): [[], ["idle"], []],
        ("storage-pool", pool.pk, 1): [["db", "web"], [], ["pool"]],
        ("hypervisor", hypervisor.pk, 1): [["db", "web"], [], []],
        ("host", hypervisor.host_id, 1): [[], ["idle", "lan"], ["pool"]],
        ("host", hypervisor.host_id, 2): [["db", "web"], ["idle", "lan"], ["pool"]],
    }
    for (kind, pk, depth), found in expected.items():
        body = api.get(f"/topology?focus={kind}/{pk}&depth={depth}").json()
        assert [names(body, type_) for type_ in ("vm", "network", "storage-pool")] == found, (kind, depth)


def test_storage_that_several_hosts_see_joins_them(api: Api, browser: Client) -> None:
    pools = [
        PoolFactory(
            hypervisor=HypervisorFactory(host=HostFactory(name=name)),
            name="share",
            type="netfs",
            source="nas:/a",
            target="/mnt",
        )
        for name in ("kvm-1", "kvm-2")
    ]
    PoolFactory(type="netfs", source="nas:/b")
    for pool in pools:
        guest(pool.hypervisor, f"on-{pool.host.name}", disks=("/mnt/disk",))
    body = api.get(f"/topology?focus=storage-pool/{pools[1].pk}&depth=1").json()
    assert names(body) == ["on-kvm-1", "on-kvm-2"]
    assert edges(body, "same_storage") == {("share", "share", ())}
    page = main_of(browser.get("/topology"))
    assert "Storage that several hosts see" in page
    assert page.count('class="tag" href="?focus=storage-pool/') == 1
    page = main_of(browser.get(f"/topology?focus=storage-pool/{pools[0].pk}"))
    assert "on-kvm-1" in page
    assert "on-kvm-2" in page


def test_who_shares_a_kernel_stands_together(api: Api, browser: Client) -> None:
    host = HostFactory(name="ct")
    boxes = [
        HypervisorFactory(host=host, driver=driver, virtualization_type="os_level") for driver in ("lxc", "docker")
    ]
    guest(HypervisorFactory(host=host, driver="qemu"), "vm")
    for box in boxes:
        guest(box, f"c-{box.driver}")
    page = main_of(browser.get("/topology"))
    assert "2 guests share the host's kernel: if it stops, all do" in page
    kernel = page.partition('class="kernel"')[2]
    assert ("c-lxc" in kernel, "c-docker" in kernel, ">vm<" in kernel) == (True, True, False)
    body = api.get("/topology").json()
    assert {node["name"]: node["shared_kernel"] for node in body["nodes"] if node["type"] == "hypervisor"} == {
        "lxc": True,
        "docker": True,
        "qemu": False,
    }


# -- the page ------------------------------------------------------------------------------------------------------------
def joined(hosts: int, guests: int) -> Hypervisor:
    """Hosts with two networks and two pools each, all guests on both; some of it in no pool and on no network that is known."""
    for _ in range(hosts):
        hypervisor = HypervisorFactory()
        NetworkFactory(hypervisor=hypervisor, name="lan")
        NetworkFactory(hypervisor=hypervisor, name="san", bridge="br1")
        PoolFactory(hypervisor=hypervisor, target="/a")
        PoolFactory(hypervisor=hypervisor, target="/b")
        for number in range(guests):
            guest(hypervisor, f"g{number}", nets=("lan", "br1", "brx"), disks=("/a/1", "/b/1", "/c/1"))
    return hypervisor


@pytest.mark.parametrize(
    ("path", "queries"),
    [
        ("/topology", 16),
        ("/topology?view=table", 16),
        ("/topology?q=g1", 16),
        ("/topology?focus=host/{host}", 17),
        ("/topology?focus=network/{network}", 17),
        ("/topology?focus=storage-pool/{pool}", 17),
        ("/topology?focus=bridge/{host}/brx", 17),
        ("/topology?focus=vm/{vm}", 17),
        ("/topology/hosts/{host}", 12),
        ("/topology/counts.json", 4),
    ],
)
def test_a_page_costs_the_same_whatever_the_fleet(
    browser: Client, path: str, queries: int, django_assert_num_queries: Callable[..., Any]
) -> None:
    for hosts, guests in ((1, 3), (6, 10)):
        hypervisor = joined(hosts, guests)
        ids = {
            "host": hypervisor.host_id,
            "network": hypervisor.networks.get(name="san").pk,
            "pool": hypervisor.pools.first().pk,
            "vm": hypervisor.vms.first().pk,
        }
        browser.get(path.format(**ids))
        with django_assert_num_queries(queries):
            assert browser.get(path.format(**ids)).status_code == 200


def large_fleet(hosts: int = 200, guests: int = 50) -> None:
    """Rows only, in few statements: the test is of what reading them costs."""
    now = timezone.now()
    machines = Host.objects.bulk_create(Host(name=f"kvm-{n:03}", state="online") for n in range(hosts))
    boxes = Hypervisor.objects.bulk_create(
        Hypervisor(host=host, driver="fake", uri=f"fake:///{host.name}", state="online") for host in machines
    )
    for model, more in ((Network, {"mode": "nat"}), (StoragePool, {"type": "dir", "state": "running"})):
        model.objects.bulk_create(
            model(host=box.host, hypervisor=box, uuid=box.uri, name="default", observed_at=now, **more) for box in boxes
        )
    VM.objects.bulk_create(
        (
            VM(hypervisor=box, uuid=f"{box.uri}{n}", name=f"vm-{n:05}", state="running", observed_at=now)
            for box in boxes
            for n in range(guests)
        ),
        batch_size=1000,
    )


def test_a_large_fleet_is_closed_and_its_hosts_are_read_one_by_one(
    browser: Client, api: Api, django_assert_num_queries: Callable[..., Any]
) -> None:
    large_fleet()
    with django_assert_num_queries(12):
        page = main_of(browser.get("/topology"))
    assert (page.count("data-open-lane"), page.count('class="guest ')) == (200, 0)
    assert "of 50 running" in page
    host = Host.objects.get(name="kvm-007")
    lane = main_of(browser.get(f"/topology/hosts/{host.pk}"))
    assert lane.count('class="guest ') == 50
    body = api.get("/topology").json()
    assert (body["truncated"], names(body)) == (True, [])
    assert sum(sum(node["guests"].values()) for node in body["nodes"] if node["guests"]) == 10_000
    found = main_of(browser.get("/topology?q=name:vm-00007 host:kvm-00*"))
    assert (found.count("data-open-lane"), found.count('class="guest ')) == (0, 10)
    assert browser.get("/topology/counts.json").json()[str(host.pk)]["total"] == 50


def test_a_crowded_host_says_how_many_are_not_drawn(browser: Client) -> None:
    vms = fleet.fill(230, hosts=1)
    page = main_of(browser.get(f"/topology?focus=host/{vms[0].hypervisor.host_id}"))
    assert page.count('class="guest ') == 200
    assert "30 more guests" in page


def test_what_is_looked_at_is_marked_and_its_neighbours_are_named(browser: Client) -> None:
    hypervisor = joined(1, 2)
    vm = hypervisor.vms.first()
    page = main_of(browser.get(f"/topology?focus=vm/{vm.pk}"))
    assert page.count(" focused") == 1
    assert page.count('class="guest ') == 1
    assert "52:54:00:00:00:01" in page
    table = main_of(browser.get(f"/topology?focus=vm/{vm.pk}&view=table"))
    assert f'href="/networks/{hypervisor.networks.first().pk}"' in table
    assert "outside of pools" in table
    for path, ref in {
        f"/hosts/{hypervisor.host_id}": f"host/{hypervisor.host_id}",
        f"/networks/{hypervisor.networks.first().pk}": f"network/{hypervisor.networks.first().pk}",
        f"/storage/{hypervisor.pools.first().pk}": f"storage-pool/{hypervisor.pools.first().pk}",
        f"/vms/{vm.pk}": f"vm/{vm.pk}",
    }.items():
        assert f'href="/topology?focus={ref}"' in main_of(browser.get(path)), path
    assert 'href="/topology"' in browser.get("/").content.decode()


def test_an_empty_fleet_and_an_empty_search_say_what_to_do(browser: Client) -> None:
    assert "No hypervisor answers" in main_of(browser.get("/topology"))
    joined(1, 1)
    assert "No guest matches" in main_of(browser.get("/topology?q=nothing"))


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?focus=x", 422),
        ("?focus=host/x", 422),
        (f"?focus=user/{NOBODY}", 422),
        (f"?focus=host/{NOBODY}/x", 422),
        (f"?focus=bridge/{NOBODY}", 422),
        (f"?focus=host/{NOBODY}", 404),
        (f"?focus=bridge/{NOBODY}/br0", 404),
        (f"?focus=vm/{NOBODY}", 404),
        ("?q=" + "a" * 3000, 422),
        ("?q=%00", 422),
        ("?focus=%00", 422),
    ],
)
def test_what_is_not_there_or_no_focus_is_refused_with_a_sentence(
    browser: Client, api: Api, query: str, status: int
) -> None:
    HypervisorFactory()
    answer = browser.get("/topology" + query)
    assert (answer.status_code, b'role="alert"' in answer.content) == (status, True)
    assert browser.get(f"/topology/counts.json{query}").status_code == status
    assert api.get("/topology" + query).status_code == status


def test_what_others_chose_is_text(browser: Client) -> None:
    hypervisor = HypervisorFactory(host=HostFactory(name=HOSTILE), driver="qemu")
    network = NetworkFactory(
        hypervisor=hypervisor, name=HOSTILE, bridge=HOSTILE, mode=HOSTILE[:20], addresses=[HOSTILE]
    )
    pool = PoolFactory(hypervisor=hypervisor, name=HOSTILE, target=HOSTILE, source=HOSTILE, type=HOSTILE[:30])
    vm = guest(hypervisor, HOSTILE, nets=(HOSTILE, HOSTILE + "2"), disks=(HOSTILE,))
    for path in ("", f"?q={HOSTILE}", f"?focus={network.ref}", f"?focus={pool.ref}", f"?focus={vm.ref}&view=table"):
        raw = browser.get(f"/topology{path}").content.decode()
        assert "<script>alert" not in raw, path
    page = browser.get("/topology").content.decode()
    link = re.search(r'href="\?focus=(bridge/[^"]+)"', page)
    assert link is not None
    assert HOSTILE + "2" in html.unescape(browser.get(f"/topology?focus={link[1]}").content.decode())
