"""Real Xen in an emulated machine: the conformance suite on PV guests, and what only Xen has."""

from __future__ import annotations

import dataclasses
import queue
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from drivers import registry
from drivers.errors import AuthFailed, DriverError, NotFound, Unreachable, Unsupported, WrongState
from drivers.libvirtd.xen import DOMAIN_0
from drivers.types import (
    CpuHardware,
    Credentials,
    DiskHardware,
    DiskSpec,
    Endpoint,
    Feature,
    GuestRef,
    GuestSpec,
    GuestState,
    NicHardware,
    NicSpec,
    Technique,
    VirtualizationType,
)
from tests import scorecard
from tests.drivers import servers
from tests.drivers.conformance import ASKS_NO_GUEST, VERBS, Conformance, Lab, News, ask, read_until
from tests.labs import local
from tests.labs.local import unique_name
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from drivers.base import Session
    from tests.labs.xen import XenHost

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]  # the first test may build and boot the machine


@pytest.fixture
def session(xen_host):
    session = registry.get("xen").open(Endpoint(driver="xen", uri=xen_host.uri()))
    yield session
    session.close()


@pytest.fixture
def make(xen_host, xen_guests, session):
    """Defines a guest: `make("pvh", "--vnc", "5901")`."""

    def make(kind: str = "pv", *options: str) -> GuestRef:
        info = session.define(xen_host.xml(kind, *options))
        xen_guests.append(info.uuid)
        return info.ref

    return make


@pytest.fixture(scope="module")
def network(xen_host):
    with local.network(xen_host.uri()) as name:
        yield name


@pytest.fixture
def spec(xen_guests):
    """Specs of guests with dom0's guest kernel: `spec(machine="xenpv")`; PVH by itself."""

    def spec(**changes: Any) -> GuestSpec:
        plain = GuestSpec(
            name=unique_name("xen"),
            uuid=str(uuid.uuid4()),
            memory_bytes=96 << 20,
            kernel="/var/lib/xen/images/guest-kernel",
            initrd="/var/lib/xen/images/guest-initrd",
            cmdline="console=hvc0 quiet cryptomgr.notests rdinit=/init",
            graphics="none",
        )
        made = dataclasses.replace(plain, **changes)
        xen_guests.append(made.uuid)
        return made

    return spec


@pytest.fixture
def xen(xen_host, session, make, spec, network) -> Lab:
    return Lab(
        driver=registry.get("xen"),
        endpoint=session.endpoint,
        session=session,
        make=make,
        make_shell=make,
        make_screen=lambda: make("pv", "--vnc", str(xen_host.vnc_port)),
        while_rebooting=frozenset({GuestState.RUNNING, GuestState.SHUTTING_DOWN}),
        spec=spec,
        pool_target="/var/lib/libvirt/images/{}".format,
        makes_qcow2=False,  # its dom0 has no qemu-img
        network=network,
        runs_networks=False,  # nor iptables
        disk=lambda: DiskHardware(target="xvdx", bus="xen", path="/dev/loop0", format="raw"),
        nic=lambda: NicHardware(mac="00:16:3e:76:6d:01", bridge="xenbr0"),
        most_vcpus=1,  # libxl gives a guest no more than the host has, which has one
    )


def booted(session: Session, ref: GuestRef) -> GuestRef:
    """The same guest, with its kernel up."""
    console = session.open_console(ref, "serial")
    try:
        ask(console, b"echo ready-$((6*7))", b"ready-42")
    finally:
        console.close()
    return ref


class BootedLab(Lab):
    """A paravirtualized guest takes part in its own saving, and in what is plugged in: its kernel must be up."""

    def started(self) -> GuestRef:
        return booted(self.session, super().started())


class TestXen(Conformance):
    @pytest.fixture
    def lab(self, request: pytest.FixtureRequest, xen: Lab) -> Lab:
        awake = ("managed_save", "is_plugged", "given_back")
        return BootedLab(**vars(xen)) if any(words in request.node.name for words in awake) else xen

    def test_screen_as_rfb_and_as_picture(self, lab: Lab, xen_host: XenHost, tmp_path: Path) -> None:
        super().test_screen_as_rfb_and_as_picture(lab)
        [guest] = [info for info in lab.session.guests() if "vnc" in info.consoles]
        with xen_host.local_socket(tmp_path / "sock") as uri:  # here it is dialled too: libxl hands no descriptor out
            session = lab.driver.open(Endpoint(driver="xen", uri=uri))
            console = session.open_console(guest.ref, "vnc")
            assert read_until(console, b"\n", 10).startswith(b"RFB 003.")
            console.close()
            session.close()


# -- what a Xen host is ----------------------------------------------------------------------------------------------
def test_the_host_is_told_as_it_is(session):
    info = session.host_info()
    assert (info.hostname, info.cpu_count, info.cpu_architecture) == ("xen-lab", 1, "x86_64")
    assert info.cpu_model == "Emulated Xen Host CPU"  # by SMBIOS; libvirt's own guess is `pentium`
    assert info.hypervisor_version.startswith("Xen 4.")
    assert info.host_uuid == "8e2f5f52-7e2b-4a5e-9d11-78656e6c6162"
    assert info.virtualization_type is VirtualizationType.BARE_METAL
    assert set(info.techniques) == {
        Technique.PARAVIRTUALIZATION,
        Technique.HARDWARE_ASSISTED,
        Technique.FULL_VIRTUALIZATION,
    }


def test_domain_0_is_the_host_and_no_guest(session):
    host = GuestRef(uuid=DOMAIN_0, name="Domain-0")
    assert DOMAIN_0 not in {info.uuid for info in session.guests()}
    assert DOMAIN_0 not in {each.uuid for each in session.stats()}
    assert session.guest_or_none(host) is None
    for feature in registry.get("xen").features & VERBS.keys() - ASKS_NO_GUEST:
        with pytest.raises(NotFound):
            VERBS[feature](session, host)


def test_the_hosts_processor_time_is_that_of_its_domains_and_never_falls(xen, session):
    ref = xen.started()
    first = session.host_stats()
    assert first.cpu_busy_seconds > 1.0
    assert first.memory_total_bytes > first.memory_free_bytes > 0
    later = wait_until(lambda: (now := session.host_stats()).cpu_busy_seconds > first.cpu_busy_seconds and now, 10)
    session.force_off(ref)
    assert session.host_stats().cpu_busy_seconds >= later.cpu_busy_seconds


def test_the_kinds_of_guests_are_told_apart_and_made(session, spec):
    made = {
        (Technique.PARAVIRTUALIZATION,): spec(machine="xenpv"),
        (Technique.PARAVIRTUALIZATION, Technique.HARDWARE_ASSISTED): spec(machine="xenpvh"),
        (Technique.FULL_VIRTUALIZATION, Technique.HARDWARE_ASSISTED): spec(
            kernel="",
            initrd="",
            cmdline="",
            graphics="vnc",
            disks=(
                DiskSpec(pool="", volume="disk", path="/var/lib/libvirt/images/disk.img"),
                DiskSpec(pool="", volume="loop", path="/dev/loop0", device="cdrom"),
            ),
        ),
    }
    for techniques, wanted in made.items():
        info = session.create(wanted)
        assert session.create(wanted) == info
        assert (info.virtualization_type, info.techniques) == (VirtualizationType.BARE_METAL, techniques)
        assert (info.domain_type, info.state) == ("xen", GuestState.SHUTOFF)
    found = {info.uuid: info.techniques for info in session.guests()}
    assert {found[wanted.uuid] for wanted in made.values()} == set(made)


def test_a_made_guest_boots_with_its_disk_and_network_and_screen(session, spec):
    disk = DiskSpec(pool="", volume="loop", path="/dev/loop0")
    wanted = spec(machine="xenpv", disks=(disk,), interfaces=(NicSpec(bridge="xenbr0"),), graphics="vnc")
    ref = session.create(wanted).ref
    session.start(ref)
    console = session.open_console(ref, "serial")
    ask(console, b"ls /sys/class/net /sys/block; echo seen-$((6*7))", b"seen-42")
    ask(console, b"[ -b /dev/xvda ] && [ -e /sys/class/net/eth0 ] && echo both-$((6*7))", b"both-42")
    console.close()
    assert session.addresses(ref)["lease"].startswith("No network")


# -- life ------------------------------------------------------------------------------------------------------------
def test_a_pvh_guest_lives_and_a_paused_one_is_not_asked(make, session):
    ref = make("pvh")
    session.start(ref)
    console = session.open_console(ref, "serial")
    read_until(console, b"GUEST-READY xen PVH", 60)
    session.suspend(ref)
    began = time.monotonic()
    for verb in (session.shutdown, session.reboot, session.managed_save):
        with pytest.raises(WrongState, match="paused"):
            verb(ref)
    assert time.monotonic() - began < 10  # libxl would wait a minute for each
    session.resume(ref)
    session.shutdown(ref)
    wait_until(lambda: session.guest_state(ref) == (GuestState.SHUTOFF, "shutdown"), 30)
    wait_until(lambda: console.read(timeout_seconds=1.0) == b"", 30, "end of the console")
    console.close()


def test_a_reboot_from_inside_is_never_taken_for_the_end(xen, session):
    ref = booted(session, xen.started())
    heard = queue.SimpleQueue()
    session.subscribe(heard.put)
    console = session.open_console(ref, "serial")
    console.write(b"reboot -f\n")
    seen, reasons = [], []

    def back() -> bool:
        seen.append(session.guest_state(ref))
        while not heard.empty():
            event = heard.get()
            reasons.extend([event.reason] if event.uuid == ref.uuid else [])
        return "started/booted" in reasons and any(reason.startswith("stopped/") for reason in reasons)

    wait_until(back, 60, "started again")  # the stop is told after the start
    console.close()
    assert {state for state, _ in seen} <= {GuestState.RUNNING, GuestState.SHUTTING_DOWN}
    assert session.guest_state(ref)[0] is GuestState.RUNNING


def test_a_guest_that_is_destroyed_while_one_types_ends_its_console_quietly(xen, session):
    ref = xen.started()
    console = session.open_console(ref, "serial")
    console.write(b"x\n" * 2000)
    session.force_off(ref)

    def over() -> bool:
        return console.read(timeout_seconds=1.0) == b""

    wait_until(over, 30, "end of the console")
    began = time.process_time()
    assert console.read(timeout_seconds=0.5) == b""
    assert time.process_time() - began < 0.4  # its stream does not call for ever
    console.close()


def test_disk_and_network_are_counted(make, session):
    ref = make("pv", "--disk", "/dev/loop0", "--net", "xenbr0")
    session.start(ref)
    console = session.open_console(ref, "serial")
    ask(console, b"ip addr add 10.77.0.5/24 dev eth0; ip link set eth0 up; echo up-$((6*7))", b"up-42")
    ask(
        console,
        b"ping -c 1 10.77.0.1 >/dev/null && dd if=/dev/xvda of=/dev/null bs=64k && echo done-$((6*7))",
        b"done-42",
    )
    console.close()
    counters = next(each for each in session.stats() if each.uuid == ref.uuid)
    assert counters.disk_read_bytes >= 8 << 20
    assert counters.network_transmit_bytes > 0
    assert counters.network_receive_bytes > 0
    assert session.guest(ref).disks[0].source == "/dev/loop0"
    scorecard.works("xen", Feature.METRICS_DISK, Feature.METRICS_NETWORK)


# -- the ways there --------------------------------------------------------------------------------------------------
def test_over_tls_with_certificates(xen, xen_host):
    credentials = Credentials(
        ca_certificate=xen_host.key("cacert.pem"),
        certificate=xen_host.key("clientcert.pem"),
        private_key=xen_host.key("clientkey.pem"),
    )
    endpoint = Endpoint(driver="xen", uri=xen_host.uri("tls"), credentials=credentials)
    other = xen.driver.open(endpoint)
    try:
        ref = xen.make()
        news = News(other)
        other.start(ref)
        news.expect(ref, "started")
        other.open_console(ref, "serial").close()
    finally:
        other.close()
    stranger = dataclasses.replace(credentials, ca_certificate=servers.Authority().pem)
    with pytest.raises(AuthFailed, match="ertificate"):
        xen.driver.open(dataclasses.replace(endpoint, credentials=stranger))


def test_over_ssh_with_a_key_and_a_host_key(xen, xen_host):
    credentials = Credentials(
        username="root", private_key=xen_host.key("id_ed25519"), host_key=xen_host.key("ssh_host_key.pub")
    )
    endpoint = Endpoint(driver="xen", uri=xen_host.uri("ssh"), credentials=credentials)
    other = xen.driver.open(endpoint)
    try:
        ref = xen.make()
        assert other.guest(ref).state is GuestState.SHUTOFF
    finally:
        other.close()
    key = servers.Authority().sign("nobody").key  # a key that nobody let in
    for wrong in ({"host_key": "ssh-ed25519 " + "A" * 68}, {"private_key": key}):
        with pytest.raises(DriverError):
            xen.driver.open(dataclasses.replace(endpoint, credentials=dataclasses.replace(credentials, **wrong)))


def test_a_daemon_without_the_driver_says_so(xen_host):
    uri = xen_host.uri().replace("xen+", "qemu+")
    with pytest.raises(Unreachable) as refusal:
        registry.get("qemu").open(Endpoint(driver="qemu", uri=uri))
    assert "no connection driver" in refusal.value.context["libvirt_message"]


# -- hardware --------------------------------------------------------------------------------------------------------
def test_a_vcpu_is_taken_from_a_guest_that_runs_and_no_pin_is_set(session, make, xen_host):
    """No vCPU can be added here: libxl gives a guest no more than the host has, and this one has one."""
    ref = make()
    session.update(ref, CpuHardware(vcpus=2, max_vcpus=2), live=False, defined=True)
    session.start(ref)
    booted(session, ref)
    session.update(ref, CpuHardware(vcpus=1, max_vcpus=2), live=True, defined=True)
    assert session.hardware(ref).live == session.hardware(ref).defined
    assert [line.split()[-1] for line in xen_host.virsh("vcpucount", ref.uuid).splitlines()] == ["2", "2", "1", "1"]
    scorecard.works("xen", Feature.HOTPLUG_CPU)
    with pytest.raises(Unsupported, match="pins: it takes effect"):
        session.update(ref, CpuHardware(vcpus=1, max_vcpus=2, pins={0: "0"}), live=True, defined=True)


def test_a_disk_in_a_file_is_not_in_the_definition_when_xen_refuses_it(session, make):
    ref = make()
    session.start(ref)
    with pytest.raises(DriverError, match="device model in dom0"):
        session.attach(
            ref, DiskHardware(path="/var/lib/libvirt/images/disk.img", format="raw"), live=True, defined=True
        )
    assert session.hardware(ref).defined.disks == ()
