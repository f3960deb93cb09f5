"""What a spec comes to, and what cannot be: every refusal names its field, nothing hostile gets further than here."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from accounts.actor import SYSTEM, Actor
from core.errors import BadInput, PermissionRefused, VmmError
from core.ids import uuid7
from core.units import GIB, MIB
from drivers.errors import AlreadyExists, Unreachable, Unsupported, WrongState
from drivers.types import StorageState
from hosts.models import Host, Hypervisor
from images.models import Image
from networks.models import Network
from operations.models import Operation
from storage.models import StoragePool
from tests.factories import ALL_SUPPORTED, HostFactory, HypervisorFactory, VMFactory
from vms import services
from vms.creation.placing import NoPlace, plan_vm
from vms.creation.spec import NewVM, VMSpec, XmlSpec
from vms.definitions.head import head, with_uuid
from vms.models import VMDisk, VMNic

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.vms.conftest import Farm
    from vms.creation.plan import Plan

pytestmark = pytest.mark.django_db(transaction=True)
SHAPE: TypeAdapter[Any] = TypeAdapter(NewVM)


def plan(by: Actor = SYSTEM, **values: Any) -> Plan:
    return plan_vm(VMSpec.model_validate({"name": "web-01", **values}), by=by, vm_id=uuid7())


def refusal(**values: Any) -> tuple[str, str]:
    """Pointer and sentence of what stands against it."""
    with pytest.raises(BadInput) as caught:
        plan(**values)
    (error,) = caught.value.errors
    return error["pointer"], error["detail"]


# -- shapes ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("raw", "where"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "../etc"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "-a"}, "name"),
        ({"name": "a\n"}, "name"),
        ({"name": "a\x00"}, "name"),
        ({"name": "<a>"}, "name"),
        ({"name": "a" * 64}, "name"),
        ({"name": "\u0430bc"}, "name"),
        ({"name": 5}, "name"),
        ({"name": "a", "colour": "red"}, "colour"),
        ({"name": "a", "vcpus": 0}, "vcpus"),
        ({"name": "a", "vcpus": "2"}, "vcpus"),
        ({"name": "a", "vcpus": 2.5}, "vcpus"),
        ({"name": "a", "vcpus": True}, "vcpus"),
        ({"name": "a", "memory_bytes": -1}, "memory_bytes"),
        ({"name": "a", "memory_bytes": 2**63}, "memory_bytes"),
        ({"name": "a", "disks": [{}]}, "disks.0"),
        ({"name": "a", "disks": [{"size_bytes": 1}]}, "disks.0.size_bytes"),
        ({"name": "a", "disks": [{"size_bytes": 2**62}]}, "disks.0.size_bytes"),
        ({"name": "a", "disks": [{"image": ""}]}, "disks.0.image"),
        ({"name": "a", "disks": [{"image": "a\x07b"}]}, "disks.0.image"),
        ({"name": "a", "disks": [{"image": "d", "format": "raw"}]}, "disks.0"),
        ({"name": "a", "disks": [{"image": "d", "format": "vmdk"}]}, "disks.0.format"),
        ({"name": "a", "disks": [{"image": "d", "path": "/etc/shadow"}]}, "disks.0.path"),
        ({"name": "a", "disks": [{"size_bytes": MIB}] * 17}, "disks"),
        ({"name": "a", "interfaces": [{}]}, "interfaces.0.network"),
        ({"name": "a", "interfaces": [{"network": "n", "mac": "01:00:00:00:00:00"}]}, "interfaces.0.mac"),
        ({"name": "a", "interfaces": [{"network": "n", "mac": "52:54:00:00:00:0"}]}, "interfaces.0.mac"),
        ({"name": "a", "interfaces": [{"network": "n", "model": "e1000'/>"}]}, "interfaces.0.model"),
        ({"name": "a", "boot": {"initrd": "x"}}, "boot"),
        ({"name": "a", "boot": {"secure_boot": True}}, "boot"),
        ({"name": "a", "boot": {"kernel": "k", "cmdline": "a\nb"}}, "boot.cmdline"),
        ({"name": "a", "cpu": {"mode": "host-passthrough'"}}, "cpu.mode"),
        ({"name": "a", "graphics": "rdp"}, "graphics"),
        ({"name": "a", "title": "a\x1b[31m"}, "title"),
        ({"name": "a", "description": "a\x00"}, "description"),
        ({"name": "a", "description": "\ud800"}, "description"),
        ({"name": "a", "tags": ["not a tag"]}, "tags"),
        ({"name": "a", "tags": ["a"] * 51}, "tags"),
        ({"name": "a", "project": "a\nb"}, "project"),
        ({"name": "a", "cloud_init": {"hostname": "-a"}}, "cloud_init.hostname"),
        ({"name": "a", "cloud_init": {"user": "Root!"}}, "cloud_init.user"),
        ({"name": "a", "cloud_init": {"password_hash": "secret"}}, "cloud_init.password_hash"),
        ({"name": "a", "cloud_init": {"ssh_keys": ["a\nb"]}}, "cloud_init.ssh_keys.0"),
        ({"name": "a", "cloud_init": {"packages": ["a; rm -rf /"]}}, "cloud_init.packages.0"),
        ({"name": "a", "cloud_init": {"user_data": "x" * 300_000}}, "cloud_init.user_data"),
        ({"name": "a", "driver": "qemu", "placement": "auto"}, ""),
        ({"name": "a", "wait_for": "port:0"}, "wait_for"),
        ({"name": "a", "wait_for": "port:65536"}, "wait_for"),
        ({"name": "a", "wait_for": "a\x00"}, "wait_for"),
        ({"name": "a", "wait_for": "ssh", "start": False}, ""),
        ({"name": "a", "container": {"image": "a"}}, ""),
        ({"name": "a", "driver": "lxc", "container": {"root": "/srv/../etc"}}, "container.root"),
        ({"name": "a", "driver": "lxc", "container": {"root": "srv"}}, "container.root"),
        ({"name": "a", "driver": "lxc", "container": {}}, "container"),
        ({"name": "a", "driver": "lxc", "container": {"root": "/srv"}, "disks": [{"size_bytes": MIB}]}, ""),
        ({"xml": ""}, "xml"),
        ({"xml": "<domain/>", "name": "a"}, "name"),
        ({"xml": "x" * (MIB + 1)}, "xml"),
    ],
)
def test_hostile_or_wrong_shape_then_refused_at_its_field(raw: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SHAPE.validate_python(raw)
    assert where in {".".join(map(str, error["loc"])) for error in caught.value.errors()}


@given(
    raw=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*VMSpec.model_fields, "xml"]), inner)
        ),
        max_leaves=10,
    )
)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_json_then_a_spec_or_a_refusal(raw: object) -> None:
    with contextlib.suppress(ValidationError):
        assert isinstance(SHAPE.validate_python(raw), VMSpec | XmlSpec)


# -- what cannot be here -----------------------------------------------------------------------------------------------
def test_values_that_do_not_fit_the_place_then_each_says_why(farm: Farm) -> None:
    farm.world.storage.add_pool("off", state=StorageState.INACTIVE)
    farm.world.storage.add_pool("lvm", type_="logical")
    farm.world.networks.add("closed", active=False)
    farm.see()
    disk = {"image": "debian.qcow2"}
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"vcpus": 9}, "/vcpus", "8 CPUs"),
        ({"memory_bytes": 65 * GIB}, "/memory_bytes", "64 GiB in all"),
        ({"disks": [{**disk, "pool": "none"}]}, "/disks/0/pool", "no storage pool none"),
        ({"disks": [{**disk, "pool": "off"}]}, "/disks/0/pool", "start it first"),
        ({"disks": [{"image": "nothing.qcow2"}]}, "/disks/0/image", "no image nothing.qcow2"),
        ({"disks": [disk, {**disk, "size_bytes": MIB}]}, "/disks/1/size_bytes", "never made smaller"),
        ({"disks": [{"size_bytes": MIB, "pool": "lvm", "format": "qcow2"}]}, "/disks/0/pool", "holds no qcow2"),
        ({"disks": [{"template": "y"}]}, "/disks/0/template", "no template y"),
        ({"interfaces": [{"network": "none"}]}, "/interfaces/0/network", "no network none"),
        ({"interfaces": [{"network": "closed"}]}, "/interfaces/0/network", "start it first"),
        ({"boot": {"kernel": "vmlinuz"}}, "/boot/kernel", "upload it first"),
        ({"ttl_seconds": 60}, "/ttl_seconds", "leases"),
        ({"hypervisor": str(uuid.uuid4())}, "/hypervisor", "no such hypervisor"),
        ({"hypervisor": "somewhere"}, "/hypervisor", "no such hypervisor"),
    ]
    for values, pointer, words in cases:
        for where in ({}, {"hypervisor": str(farm.hypervisor.pk)}):
            if "hypervisor" in values and where:
                continue
            found = refusal(**values, **where)
            assert (found[0], words in found[1]) == (pointer, True), (values, found)


def test_two_interfaces_then_no_address_is_given_twice(farm: Farm) -> None:
    mac = "52:54:00:aa:bb:cc"
    nics = [{"network": "default", "mac": mac}, {"network": "default", "mac": mac.upper()}]
    assert refusal(interfaces=nics)[0] == "/interfaces/1/mac"
    VMNic.objects.create(vm=VMFactory(hypervisor=farm.hypervisor), mac=mac)
    assert refusal(interfaces=nics[:1])[0] == "/interfaces/0/mac"
    assert len({nic.mac for nic in plan(interfaces=[{"network": "default"}] * 5).interfaces}) == 5


def test_overlay_of_a_disk_that_a_guest_writes_then_refused(farm: Farm) -> None:
    vm = VMFactory(hypervisor=farm.hypervisor, name="writer", state="shutoff")
    VMDisk.objects.create(vm=vm, target="vda", source="/pools/default/debian.qcow2")
    disk = {"image": "debian.qcow2"}
    pointer, detail = refusal(disks=[disk])
    assert (pointer, "writer" in detail, "clone: full" in detail) == ("/disks/0/image", True, True)
    assert plan(disks=[{**disk, "clone": "full"}]).disks[0].how == "full"
    type(vm).objects.filter(pk=vm.pk).update(state="running")
    assert refusal(disks=[{**disk, "clone": "full"}])[0] == "/disks/0/image"


def test_images_that_cannot_be_used_then_why(farm: Farm) -> None:
    Image.objects.create(name="late", state="importing")
    Image.objects.create(name="broken", state="failed")
    Image.objects.create(name="arm", state="ready", architecture="aarch64", virtual_size_bytes=MIB, format="qcow2")
    Host.objects.update(cpu_architecture="x86_64")
    for name, words in (("late", "still being imported"), ("broken", "import it again"), ("arm", "aarch64")):
        assert words in refusal(disks=[{"image": name}])[1]


def test_images_by_name_and_by_id_then_their_size_system_and_kind(farm: Farm) -> None:
    disk = Image.objects.create(
        name="debian-13", state="ready", format="qcow2", virtual_size_bytes=3 * GIB, os_id="http://debian.org/debian/13"
    )
    iso = Image.objects.create(name="setup", state="ready", kind="iso", format="raw", size_bytes=MIB)
    found = plan(
        disks=[{"image": "debian-13"}, {"image": str(iso.pk)}, {"image": f"image/{disk.pk}", "size_bytes": 4 * GIB}]
    )
    assert [(one.how, one.device, one.size_bytes, one.image) for one in found.disks] == [
        ("linked", "disk", 3 * GIB, disk.pk),
        ("attach", "cdrom", MIB, iso.pk),
        ("linked", "disk", 4 * GIB, disk.pk),
    ]
    assert found.os == "http://debian.org/debian/13"
    assert len({one.volume for one in found.disks}) == 3


def test_name_that_is_taken_there_then_already_exists_and_elsewhere_it_is_free(farm: Farm) -> None:
    vm = VMFactory(hypervisor=farm.hypervisor, name="web-01")
    with pytest.raises(AlreadyExists) as caught:
        plan(hypervisor=str(farm.hypervisor.pk))
    assert caught.value.context["id"] == str(vm.pk)
    HypervisorFactory(host__name="zz-second")  # equals are tried by name: a host that comes first is taken at once
    assert plan().placement.passed_over[0]["code"] == "already_exists"


# -- where -------------------------------------------------------------------------------------------------------------
def test_pool_with_most_room_of_those_that_hold_overlays_then_that(farm: Farm) -> None:
    farm.world.storage.add_pool("huge", capacity_bytes=500 * GIB)
    farm.world.storage.add_pool("raw", type_="logical", capacity_bytes=900 * GIB)
    farm.see()
    assert plan(disks=[{"size_bytes": GIB}]).disks[0].pool == "huge"
    assert plan(disks=[{"size_bytes": GIB, "pool": "raw"}]).disks[0].format == "raw"


def test_best_place_lacks_what_is_asked_for_then_the_next_and_why(farm: Farm) -> None:
    roomy = HypervisorFactory(host=HostFactory(name="empty", memory_total_bytes=640 * GIB, memory_free_bytes=600 * GIB))
    found = plan(disks=[{"image": "debian.qcow2"}])
    assert found.placement.hypervisor == farm.hypervisor.pk
    assert found.placement.passed_over[0]["hypervisor"] == str(roomy.pk)
    assert found.placement.passed_over[0]["reason"]
    assert plan().placement.hypervisor == roomy.pk


def test_many_at_once_then_spread_before_any_of_them_is_there(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.doorbell.ring", lambda *_, **__: None)
    facts = {"memory_total_bytes": 64 * GIB, "memory_free_bytes": 60 * GIB}
    Host.objects.update(**facts)
    other = HypervisorFactory(host=HostFactory(**facts))
    for number in range(10):
        services.vm_create(spec=VMSpec(name=f"web-{number}", memory_bytes=4 * GIB), by=SYSTEM)
    placed = [one.params["plan"]["placement"]["hypervisor"] for one in Operation.objects.filter(kind="vm.create")]
    assert sorted(placed.count(str(one.pk)) for one in (farm.hypervisor, other)) == [5, 5]


def test_name_of_one_that_is_being_made_then_taken(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.doorbell.ring", lambda *_, **__: None)
    services.vm_create(spec=VMSpec(name="web-01"), by=SYSTEM)
    with pytest.raises(AlreadyExists):
        plan()


def test_driver_then_only_places_of_that_kind(farm: Farm) -> None:
    HypervisorFactory(driver="qemu")
    assert plan(driver="fake").placement.driver == "fake"
    with pytest.raises(NoPlace, match="of the kind xen"):
        plan(driver="xen")


@pytest.mark.parametrize(
    ("hypervisor", "host", "error"),
    [
        ({"state": "offline"}, {}, Unreachable),
        ({"capabilities": {}}, {}, Unreachable),
        ({"capabilities": {**ALL_SUPPORTED, "create": {"supported": False, "reason": "Not here."}}}, {}, Unsupported),
        ({}, {"maintenance": True}, WrongState),
        ({"virtualization_type": "os_level"}, {}, BadInput),
    ],
)
def test_place_that_was_named_cannot_then_why_and_auto_finds_none(
    farm: Farm, hypervisor: dict[str, Any], host: dict[str, Any], error: type[VmmError]
) -> None:
    Hypervisor.objects.update(**hypervisor)
    if host:
        Host.objects.update(**host)
    with pytest.raises(error):
        plan(hypervisor=str(farm.hypervisor.pk))
    with pytest.raises(NoPlace) as caught:
        plan()
    assert caught.value.context["refused"][0]["hypervisor"] == str(farm.hypervisor.pk)


def test_little_memory_is_free_then_auto_refuses_and_by_name_it_may_be(farm: Farm) -> None:
    Host.objects.update(memory_free_bytes=MIB)
    with pytest.raises(NoPlace):
        plan()
    assert "1 MiB" in plan(hypervisor=str(farm.hypervisor.pk)).placement.reasons[0]


def test_no_storage_there_then_its_drivers_reason(farm: Farm) -> None:
    lacking = {**ALL_SUPPORTED, "storage.pools": {"supported": False, "reason": "Volumes are made elsewhere."}}
    Hypervisor.objects.update(capabilities=lacking)
    assert "Volumes are made elsewhere." in refusal(disks=[{"size_bytes": MIB}])[1]


def lacks(*features: str) -> None:
    no = {"supported": False, "reason": "That is done elsewhere."}
    Hypervisor.objects.update(capabilities={**ALL_SUPPORTED, **dict.fromkeys(features, no)})


def test_nothing_can_be_written_there_then_no_images_and_no_seeds_but_empty_disks_and_media_that_lie_there(
    farm: Farm,
) -> None:
    farm.world.storage.add_volume("default", "install.iso", content=b"CD001", format_="iso")
    farm.see()
    lacks("storage.content")
    assert refusal(disks=[{"image": "debian.qcow2"}])[0] == "/disks/0/image"
    assert refusal(disks=[{"size_bytes": MIB}], cloud_init={})[0] == "/cloud_init"
    found = plan(disks=[{"size_bytes": MIB}, {"image": "install.iso"}])
    assert [(disk.how, disk.device) for disk in found.disks] == [("empty", "disk"), ("attach", "cdrom")]


def test_media_in_a_pool_that_holds_nothing_else_are_found_there(farm: Farm) -> None:
    farm.world.storage.add_pool("discs")
    farm.world.storage.add_volume("discs", "install.iso", content=b"CD001", format_="iso")
    farm.see()
    StoragePool.objects.filter(name="discs").update(formats=[])
    for values in ({}, {"pool": "discs"}):
        (disk,) = plan(disks=[{"image": "install.iso", **values}]).disks
        assert (disk.how, disk.pool) == ("attach", "discs")
    assert refusal(disks=[{"size_bytes": MIB, "pool": "discs"}])[0] == "/disks/0/pool"


def test_networks_are_made_elsewhere_then_the_only_one_is_the_usual_one(farm: Farm) -> None:
    Network.objects.update(name="VM Network")
    assert plan().interfaces == []
    lacks("networks.manage")
    assert [nic.network for nic in plan().interfaces] == ["VM Network"]
    farm.world.networks.add("second")
    farm.see()
    Network.objects.exclude(name="second").update(name="VM Network")
    assert plan().interfaces == []


def test_root_directory_of_a_container_then_only_for_who_may_write_raw_xml(farm: Farm, operator: User) -> None:
    Hypervisor.objects.update(virtualization_type="os_level")
    asked = {"driver": "fake", "container": {"root": "/srv/rootfs"}, "name": "ct"}
    with pytest.raises(PermissionRefused):
        plan(Actor.of_user(operator), **asked)
    assert plan(**asked).root == "/srv/rootfs"
    image = {**asked, "container": {"image": "alpine:3.22"}}
    found = plan(Actor.of_user(operator), **image)
    assert (found.container_image, found.graphics, found.interfaces) == ("alpine:3.22", "none", [])


def test_plan_then_so_many_queries_whatever_the_fleet(
    farm: Farm, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    for _ in range(30):
        HypervisorFactory()
    with django_assert_max_num_queries(15):
        plan(disks=[{"image": "debian.qcow2"}, {"size_bytes": GIB}], interfaces=[{"network": "default"}])


# -- definitions -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "xml",
    [
        "",
        "no xml",
        "<domain>",
        "<domain></domain>",
        "<domain><name></name></domain>",
        "<domain><name>a/b</name></domain>",
        "<domain><name>a\tb</name></domain>",
        "<domain><devices><name>deep</name></devices></domain>",
        "<domain><name>a</name><uuid>1</uuid></domain>",
        '<!DOCTYPE d [<!ENTITY a "b">]><domain><name>&a;</name></domain>',
        '<!DOCTYPE d SYSTEM "http://192.0.2.1/x"><domain><name>a</name></domain>',
        "<domain><name>\ud800</name></domain>",
        "<domain><name>" + "a" * 300 + "</name></domain>",
    ],
)
def test_definition_that_is_none_then_refused_before_anybody_gets_it(xml: str) -> None:
    with pytest.raises(BadInput) as caught:
        head(xml)
    assert caught.value.errors[0]["pointer"] == "/xml"


def test_definition_without_identifier_then_one_is_put_in_and_nothing_else_changes() -> None:
    xml = "\ufeff<?xml version='1.0' encoding='latin-1'?>\n<domain>\n <!-- \u00e9 -->"
    xml += "<description>\u00fc</description><name>a</name>\n</domain>"
    found = head(xml)
    assert (found.name, found.uuid) == ("a", "")
    whole = with_uuid(xml, found, "11111111-1111-4111-8111-111111111111")
    assert "<description>\u00fc</description><uuid>11111111-1111-4111-8111-111111111111</uuid><name>a</name>" in whole
    assert head(whole).uuid == "11111111-1111-4111-8111-111111111111"
