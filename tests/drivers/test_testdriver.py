"""libvirt's test driver: the conformance suite, and what is special to a simulated host."""

from __future__ import annotations

import uuid

import pytest

from drivers import registry
from drivers.types import (
    DiskHardware,
    DiskSpec,
    Endpoint,
    GuestKind,
    GuestRef,
    GuestSpec,
    GuestState,
    NicHardware,
    NicSpec,
    Technique,
    VirtualizationType,
)
from tests.drivers.conformance import Conformance, Lab
from tests.waiting import wait_until

NODE = """<node><domain type='test'><name>first</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64'>hvm</type></os></domain>
<network><name>default</name><forward mode='nat'/><bridge name='virbr0'/>
<ip address='192.168.122.1' netmask='255.255.255.0'><dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp></ip></network>
</node>"""


def guest_xml(name: str) -> str:
    return f"""<domain type='test'><name>{name}</name><uuid>{uuid.uuid4()}</uuid><memory unit='MiB'>256</memory><vcpu>2</vcpu>
<os><type arch='x86_64'>hvm</type></os><devices>
<disk type='file' device='disk'><source file='/x/{name}.img'/><target dev='vda' bus='virtio'/></disk>
<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/></interface></devices></domain>"""


@pytest.fixture
def endpoint(tmp_path) -> Endpoint:
    path = tmp_path / "node.xml"
    path.write_text(NODE)
    return Endpoint(driver="test", uri=f"test://{path}")


@pytest.fixture
def lab(endpoint):
    driver = registry.get("test")
    session = driver.open(endpoint)

    def make() -> GuestRef:
        return session.define(guest_xml(f"guest-{uuid.uuid4().hex[:8]}")).ref

    def addressed() -> GuestRef:
        ref = make()
        session.start(ref)
        return ref

    yield Lab(
        driver=driver,
        endpoint=endpoint,
        session=session,
        make=make,
        make_shell=make,
        make_screen=make,
        boot_seconds=1,
        spec=lambda: GuestSpec(
            name=f"made-{uuid.uuid4().hex[:8]}",
            uuid=str(uuid.uuid4()),
            memory_bytes=256 << 20,
            disks=(DiskSpec(pool="p", volume="v", path="/x/v.img"),),
            interfaces=(NicSpec(network="default"),),
        ),
        addressed=addressed,
        disk=lambda: DiskHardware(target="vdx", bus="virtio", path="/x/more.img", format="raw"),
        nic=lambda: NicHardware(mac="52:54:00:00:00:99", network="default", model="virtio"),
        has_bytes=False,
        has_leases=False,
    )
    session.close()


class TestConformance(Conformance):
    """All of it."""


def test_worlds_are_shared_by_uri_and_apart_otherwise(lab, tmp_path):
    ref = lab.started()
    second = lab.driver.open(lab.endpoint)
    assert second.guest_state(ref)[0] is GuestState.RUNNING
    second.close()
    assert lab.session.alive()  # the world outlives a session
    other = tmp_path / "other.xml"
    other.write_text(NODE)
    elsewhere = lab.driver.open(Endpoint(driver="test", uri=f"test://{other}"))
    assert elsewhere.guest_or_none(ref) is None
    elsewhere.close()


def test_events_reach_each_session_of_the_world(lab):
    heard: dict[str, list[str]] = {"first": [], "second": []}
    second = lab.driver.open(lab.endpoint)
    lab.session.subscribe(lambda event: heard["first"].append(event.reason))
    second.subscribe(lambda event: heard["second"].append(event.reason))
    lab.started()
    for reasons in heard.values():
        wait_until(lambda reasons=reasons: "started/booted" in reasons, 5, "the event")
    second.close()


def test_it_says_that_nothing_runs(lab):
    info = lab.session.guest(lab.make())
    assert info.kind is GuestKind.MACHINE
    assert info.virtualization_type is VirtualizationType.HOSTED
    assert info.techniques == (Technique.EMULATION,)
    assert "imulated" in lab.driver.label
    assert lab.session.host_info().kernel == ""


def test_fields_of_the_definition(lab):
    info = lab.session.define(guest_xml("fields"))
    assert (info.vcpus, info.memory_bytes) == (2, 256 << 20)
    assert [(disk.target, disk.bus, disk.source) for disk in info.disks] == [("vda", "virtio", "/x/fields.img")]
    assert [(nic.mac, nic.network) for nic in info.interfaces] == [("52:54:00:00:00:01", "default")]
