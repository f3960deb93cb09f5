"""OpenVZ: libvirt's real driver on a node with stand-in tools and real containers. Slow parts of a node are not shown here."""

from __future__ import annotations

import subprocess

import libvirt
import pytest

from drivers import registry
from drivers.errors import DriverError, Unreachable, Unsupported, WrongState
from drivers.libvirtd.errors import translate
from drivers.libvirtd.openvz import OpenVzDriver, VirtuozzoDriver
from drivers.types import (
    Credentials,
    Endpoint,
    Feature,
    GuestKind,
    GuestRef,
    GuestState,
    Proof,
    Technique,
    VirtualizationType,
)
from tests import scorecard
from tests.drivers.conformance import Conformance, Lab, state_of
from tests.labs.openvz import XML
from tests.waiting import wait_until

pytestmark = [pytest.mark.lab]


@pytest.fixture(scope="module")
def session(openvz_lab):
    opened = registry.get("openvz").open(openvz_lab.endpoint)
    yield opened
    opened.close()


@pytest.fixture
def lab(openvz_node, session):
    return Lab(
        driver=registry.get("openvz"),
        endpoint=openvz_node.endpoint,
        session=session,
        make=openvz_node.make,
        make_shell=openvz_node.make,
        make_screen=openvz_node.make,
        killed="shutdown",
        tells_memory=False,
    )


class TestConformance(Conformance):
    """What every driver promises."""


# -- what a node is ------------------------------------------------------------------------------------------------------
def test_a_container_shares_the_kernel_of_its_node(lab):
    ref = lab.make()
    info = lab.session.guest(ref)
    assert (info.kind, info.virtualization_type) == (GuestKind.CONTAINER, VirtualizationType.OS_LEVEL)
    assert (info.techniques, info.domain_type) == ((Technique.SHARED_KERNEL,), "openvz")
    assert [disk.device for disk in info.disks] == ["filesystem"]
    host = lab.session.host_info()
    assert host.hypervisor_version == "vzctl 4.11.1"
    assert host.virtualization_type is VirtualizationType.OS_LEVEL


def test_what_the_nodes_administrator_does_is_seen(lab, openvz_node):
    ref = lab.make()
    openvz_node.exec("vzctl", "start", ref.name)
    assert state_of(lab.session, ref) is GuestState.RUNNING
    assert openvz_node.exec("vzctl", "exec", ref.name, "hostname").strip() == f"ct{ref.name}"
    openvz_node.exec("vzctl", "stop", ref.name, "--fast")
    assert state_of(lab.session, ref) is GuestState.SHUTOFF


def test_a_container_works_so_its_cpu_time_grows(lab, openvz_node):
    ref = lab.started()

    def used():
        return next(each.cpu_time_seconds for each in lab.session.stats() if each.uuid == ref.uuid)

    before = used()
    openvz_node.exec("vzctl", "exec", ref.name, "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
    wait_until(lambda: used() > before, 10, "CPU time")


def test_traffic_of_a_containers_interface_is_counted(lab, openvz_node):
    ref = openvz_node.make(
        "<interface type='bridge'><mac address='00:18:51:5b:ea:bf'/><source bridge='vzbr0'/></interface>"
    )
    lab.session.start(ref)
    [nic] = lab.session.guest(ref).interfaces
    assert nic.target.startswith(f"veth{ref.name}.0")
    openvz_node.plug(nic.target)
    openvz_node.traffic(nic.target)

    def sent():
        stats = next(each for each in lab.session.stats() if each.uuid == ref.uuid)
        return stats.network_transmit_bytes or stats.network_receive_bytes

    wait_until(sent, 10, "counted bytes")
    scorecard.works("openvz", Feature.METRICS_NETWORK)


def test_there_is_no_news_and_the_capability_says_what_instead(lab):
    support = lab.session.capabilities()[Feature.EVENTS]
    assert not support.supported
    assert support.reason == "OpenVZ tells no news; changes made outside show within 1 to 10 s."
    with pytest.raises(Unsupported):
        lab.session.subscribe(lambda _event: None)


# -- what libvirt's driver does wrongly ----------------------------------------------------------------------------------
def test_libvirts_garbled_message_is_an_error_of_ours(openvz_node):
    """It hands vzctl a pointer for the template's name, and whatever vzctl says of that is no UTF-8."""
    xml = XML.format(name="998", uuid="6b2ff7a0-1111-4222-8333-444455556667", files="busybox", devices="")
    connection = libvirt.open(openvz_node.uri)
    with pytest.raises(DriverError), translate():
        connection.defineXML(xml.replace("type='mount'", "type='template'"))
    connection.close()


def test_undefine_would_delete_files_so_it_is_refused(lab, openvz_node):
    ref = lab.make()
    with pytest.raises(Unsupported, match="all its files"):
        lab.session.undefine(ref)
    assert (openvz_node.directory / "private" / ref.name / "sbin/init").exists()


def test_a_container_without_files_does_not_start_and_says_why(lab, openvz_node):
    ref = openvz_node.define("997", openvz_node.directory / "nowhere")
    with pytest.raises(DriverError, match="private area"):
        lab.session.start(ref)


def test_a_paused_container_cannot_be_started(lab):
    ref = lab.started()
    lab.session.suspend(ref)
    with pytest.raises(WrongState):
        lab.session.start(ref)
    lab.session.resume(ref)


# -- where there is none -------------------------------------------------------------------------------------------------
def test_a_machine_that_is_no_node_says_so(openvz_node):
    with pytest.raises(Unsupported, match="/proc/vz"):
        OpenVzDriver().open(Endpoint(driver="openvz", uri="openvz:///system"))


def test_a_node_that_dies_is_unreachable_and_told_once(openvz_lab_of_its_own):
    session = OpenVzDriver().open(openvz_lab_of_its_own.endpoint)
    reasons: list[str] = []
    session.on_close(reasons.append)
    openvz_lab_of_its_own.kill()
    wait_until(lambda: reasons, 15, "told")
    with pytest.raises(Unreachable):
        session.guests()
    session.close()
    assert len(reasons) == 1


def test_virtuozzo_says_what_is_missing(openvz_node):
    uri = openvz_node.uri.replace("openvz+unix", "vz+unix")
    with pytest.raises(Unsupported, match=r"vz\+ssh://root@node/system"):
        VirtuozzoDriver().open(Endpoint(driver="vz", uri=uri, credentials=Credentials()))
    assert VirtuozzoDriver.proof is Proof.NONE
    assert GuestRef(uuid="x").name == ""


def test_the_tools_of_the_node_are_where_libvirt_looks(openvz_node):
    assert "vzctl version 4.11.1" in openvz_node.exec("vzctl", "--version")
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(["sh", "-c", "command -v vzctl"], check=True, capture_output=True)
