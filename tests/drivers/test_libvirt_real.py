"""Real QEMU and real LXC on this machine: the conformance suite, and what only they have."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import pytest

from drivers import registry
from drivers.errors import (
    AlreadyExists,
    ConsoleBusy,
    InvalidDefinition,
    NotFound,
    Timeout,
    Unsupported,
    WrongState,
)
from drivers.libvirtd import (
    addresses,
    streams,
)
from drivers.types import (
    DiskHardware,
    DiskSpec,
    Endpoint,
    Feature,
    GuestKind,
    GuestRef,
    GuestSpec,
    GuestState,
    NicHardware,
    NicSpec,
    SnapshotSpec,
    Technique,
    VirtualizationType,
)
from tests.drivers.conformance import Conformance, Lab, News, ask, read_until, wait_state
from tests.labs import local
from tests.labs.fixtures import require_libvirtd
from tests.waiting import wait_until

pytestmark = pytest.mark.real

SCREEN = ("--vnc", "unix")


NIC = "52:54:00:76:6d:01"


def blank_disk(home: Path) -> Path:
    """A MiB that a guest may write to."""
    path = home / "blank.img"
    path.write_bytes(bytes(1 << 20))
    path.chmod(0o666)
    return path


def ref_of(guest: local.Guest) -> GuestRef:
    return GuestRef(uuid=guest.uuid, name=guest.name)


@pytest.fixture
def qemu_spec(made_guest):
    """Specs of QEMU guests: `qemu_spec()` halts at once, `qemu_spec(boots=True)` is a small Linux, emulated."""

    def spec(*, boots: bool = False, **changes: Any) -> GuestSpec:
        guest = made_guest(local.QEMU_URI)
        path = local.overlay(guest.directory) if boots else local.boot_sector(guest.directory)
        disk = DiskSpec(pool="", volume=path.name, path=str(path), format="qcow2" if boots else "raw")
        plain = GuestSpec(
            name=guest.name,
            uuid=guest.uuid,
            memory_bytes=(128 if boots else 32) << 20,
            accelerator="tcg" if boots else "auto",
            disks=(disk,),
        )
        return dataclasses.replace(plain, **changes)

    return spec


@pytest.fixture
def lxc_spec(made_guest):
    """Specs of containers with a shell on their console."""

    def spec(**changes: Any) -> GuestSpec:
        guest = made_guest(local.LXC_URI)
        root = str(local.container_root(guest.directory))
        plain = GuestSpec(name=guest.name, uuid=guest.uuid, memory_bytes=64 << 20, root=root, init="/init")
        return dataclasses.replace(plain, **changes)

    return spec


@pytest.fixture
def qemu(request, qemu_guest, qemu_spec, pool_home, lab_network):
    require_libvirtd(local.QEMU_URI)
    driver = registry.get("qemu")
    endpoint = Endpoint(driver="qemu", uri=local.QEMU_URI)
    session = driver.open(endpoint)

    def addressed() -> GuestRef:
        """A guest made from a spec, from its disk: up, with its agent, and on a network."""
        network = NicSpec(network=request.getfixturevalue("dhcp_network"))
        ref = session.create(qemu_spec(boots=True, interfaces=(network,))).ref
        session.start(ref)
        console = session.open_console(ref, "serial")
        ask(console, b"echo ready-$((6*7))", b"ready-42", local.BOOT_SECONDS)
        console.close()
        return ref

    yield Lab(
        driver=driver,
        endpoint=endpoint,
        session=session,
        make=lambda: ref_of(qemu_guest(kind="bootsector")),
        make_shell=lambda: ref_of(qemu_guest()),
        make_screen=lambda: ref_of(qemu_guest(*SCREEN, kind="bootsector")),
        spec=qemu_spec,
        addressed=addressed,
        make_kept=lambda: ref_of(qemu_guest(kind="qcow2")),
        pool_target=lambda name: str(pool_home / name),
        network=lab_network,
        disk=lambda: DiskHardware(target="sdx", bus="scsi", path=str(blank_disk(pool_home)), format="raw"),
        nic=lambda: NicHardware(mac=NIC, network=request.getfixturevalue("dhcp_network"), model="virtio"),
        plugged=lambda: ref_of(qemu_guest("--vcpus", "1/2", ready=True)),
        balloons=False,  # what is started quickly has no system in it; see test_libvirt_hardware
    )
    session.close()


@pytest.fixture
def lxc(request, lxc_guest, lxc_spec, pool_home, lab_network):
    require_libvirtd(local.LXC_URI)
    driver = registry.get("lxc")
    endpoint = Endpoint(driver="lxc", uri=local.LXC_URI)
    session = driver.open(endpoint)

    def make() -> GuestRef:
        return ref_of(lxc_guest())

    def addressed() -> GuestRef:
        """A container made from a spec: up, and it has asked its network for an address."""
        network = NicSpec(network=request.getfixturevalue("dhcp_network"))
        ref = session.create(lxc_spec(interfaces=(network,))).ref
        session.start(ref)
        console = session.open_console(ref, "serial")
        ask(console, b"ip link set eth0 up; udhcpc -i eth0 -n -q -s /bin/true; echo asked-$((6*7))", b"asked-42", 20)
        console.close()
        return ref

    yield Lab(
        driver=driver,
        endpoint=endpoint,
        session=session,
        make=make,
        make_shell=make,
        make_screen=make,
        boot_seconds=20,
        spec=lxc_spec,
        addressed=addressed,
        pool_target=lambda name: str(pool_home / name),
        network=lab_network,
        nic=lambda: NicHardware(mac=NIC, network=request.getfixturevalue("dhcp_network")),
    )
    session.close()


class TestQemu(Conformance):
    @pytest.fixture
    def lab(self, qemu: Lab) -> Lab:
        return qemu

    def test_addresses_come_by_source_or_with_a_reason(self, lab: Lab) -> None:
        """And each source for itself: an agent that tells, one that hangs, one that cannot."""
        assert lab.addressed is not None
        ref = lab.addressed()
        super().test_addresses_come_by_source_or_with_a_reason(dataclasses.replace(lab, addressed=lambda: ref))
        mac = lab.session.guest(ref).interfaces[0].mac

        def told_by_the_agent() -> object:
            answer = lab.session.addresses(ref)["agent"]
            return None if isinstance(answer, str) else [each for each in answer if each.mac == mac]

        [own] = wait_until(told_by_the_agent, 30, "the agent's answer")
        answers = lab.session.addresses(ref)
        assert [(each.address, each.mac) for each in answers["lease"]] == [(own.address, mac)]
        assert isinstance(answers["arp"], str) or own.address in {each.address for each in answers["arp"]}
        console = lab.session.open_console(ref, "serial")
        ask(console, b"killall -STOP qemu-ga && echo stopped-$((6*7))", b"stopped-42")
        console.close()
        began = time.monotonic()
        answers = lab.session.addresses(ref)
        assert time.monotonic() - began < 5
        assert answers["agent"] == addresses.SILENT
        assert [each.address for each in answers["lease"]] == [own.address]
        lab.session.suspend(ref)
        assert "paused" in lab.session.addresses(ref)["agent"]


class TestLxc(Conformance):
    @pytest.fixture
    def lab(self, lxc: Lab) -> Lab:
        return lxc


# -- what a QEMU guest is ------------------------------------------------------------------------------------------
def test_an_emulated_guest_is_hosted(qemu):
    info = qemu.session.guest(qemu.make())
    assert info.domain_type == "qemu"
    assert info.virtualization_type is VirtualizationType.HOSTED
    assert info.techniques == (Technique.FULL_VIRTUALIZATION, Technique.EMULATION)


@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK) and not os.environ.get("CI"), reason="no KVM here")
def test_a_kvm_guest_is_hybrid_and_runs(qemu, qemu_guest):
    guest = qemu_guest("--type", "kvm", kind="bootsector", start=True)
    info = qemu.session.guest(ref_of(guest))
    assert info.state is GuestState.RUNNING
    assert info.domain_type == "kvm"
    assert info.virtualization_type is VirtualizationType.HYBRID
    assert info.techniques == (Technique.FULL_VIRTUALIZATION, Technique.HARDWARE_ASSISTED, Technique.KERNEL_BASED)


@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK) and not os.environ.get("CI"), reason="no KVM here")
def test_a_guest_made_for_the_best_accelerator_runs_by_kvm(qemu, qemu_spec):
    info = qemu.session.create(qemu_spec(accelerator="auto"))
    assert info.domain_type == "kvm"
    qemu.session.start(info.ref)
    assert qemu.session.guest_state(info.ref)[0] is GuestState.RUNNING


def test_a_made_guest_has_no_agent_and_no_network_to_ask_where_it_was_given_none(qemu, qemu_spec):
    ref = qemu.session.create(qemu_spec(agent=False)).ref
    qemu.session.start(ref)
    answers = qemu.session.addresses(ref)
    assert list(answers) == ["agent", "lease", "arp"]
    for source, word in (("agent", "channel"), ("lease", "libvirt's own"), ("arp", "no network interface")):
        assert word in answers[source]


def test_the_host_is_told_as_it_is(qemu):
    info = qemu.session.host_info()
    assert info.hypervisor_version.startswith("QEMU ")
    assert info.library_version.startswith("libvirt ")
    assert info.cpu_model
    assert info.kernel == os.uname().release
    assert len(info.host_uuid) == 36
    assert info.nested_virtualization in {True, False, None}


def test_qemu_and_lxc_of_one_daemon_name_one_host(qemu, lxc):
    assert qemu.session.host_info().host_uuid == lxc.session.host_info().host_uuid


def test_a_container_shares_the_kernel(lxc):
    info = lxc.session.guest(lxc.make())
    assert (info.kind, info.domain_type) == (GuestKind.CONTAINER, "lxc")
    assert info.virtualization_type is VirtualizationType.OS_LEVEL
    assert info.techniques == (Technique.SHARED_KERNEL,)
    assert info.disks[0].target == "/"


# -- what libvirt would let through --------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["qemu", "lxc"])
def test_a_running_guest_is_not_undefined(request, name):
    lab = request.getfixturevalue(name)
    ref = lab.started()
    with pytest.raises(WrongState):
        lab.session.undefine(ref)
    assert lab.session.guest(ref).persistent


def test_the_definition_has_no_password(qemu, qemu_guest):
    ref = ref_of(qemu_guest(*SCREEN, kind="bootsector"))
    xml = qemu.session.definition(ref).replace("<graphics type='vnc'", "<graphics type='vnc' passwd='geheim'", 1)
    assert "geheim" in xml
    qemu.session.define(xml)
    assert "geheim" not in qemu.session.definition(ref)
    qemu.session.start(ref)
    assert "geheim" not in repr(qemu.session.guest(ref))
    console = qemu.session.open_console(ref, "vnc")  # the descriptor that libvirt opens is let in without it
    assert read_until(console, b"\n", 10).startswith(b"RFB 003.")
    console.close()


def test_raw_command_lines_and_unknown_elements_are_refused(qemu):
    xml = qemu.session.definition(qemu.make())
    raw = xml.replace(
        "<domain type='qemu'>", "<domain type='qemu' xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>"
    ).replace("</domain>", "<q:commandline><q:arg value='-S'/></q:commandline></domain>")
    assert raw != xml
    with pytest.raises(InvalidDefinition, match="command lines"):
        qemu.session.define(raw)
    with pytest.raises(InvalidDefinition, match="bogus"):
        qemu.session.define(xml.replace("<devices>", "<bogus/><devices>"))


def test_a_name_that_is_taken_already_exists(qemu):
    first, second = qemu.make(), qemu.make()
    xml = qemu.session.definition(second).replace(f"<name>{second.name}<", f"<name>{first.name}<")
    with pytest.raises(AlreadyExists):
        qemu.session.define(xml)


def test_a_transient_guest_is_seen_and_gone_when_it_stops(qemu, qemu_guest):
    guest = qemu_guest(kind="bootsector", start=True)
    guest.virsh("undefine")
    info = qemu.session.guest(ref_of(guest))
    assert not info.persistent
    assert next(each for each in qemu.session.guests() if each.uuid == guest.uuid).persistent is False
    qemu.session.force_off(ref_of(guest))
    assert qemu.session.guest_or_none(ref_of(guest)) is None


def test_what_virsh_does_makes_news(qemu, qemu_guest):
    news = News(qemu.session)
    guest = qemu_guest(kind="bootsector", start=True)
    news.expect(ref_of(guest), "started")
    guest.virsh("suspend")
    news.expect(ref_of(guest), "suspended/paused")
    guest.virsh("desc", "--title", "hello")
    news.expect(ref_of(guest), "metadata_change")
    assert qemu.session.guest(ref_of(guest)).title == "hello"
    guest.destroy()
    news.expect(ref_of(guest), "stopped/destroyed")


def test_counters_of_a_machine_are_whole(qemu, linux_guest):
    guest = linux_guest

    def counters():
        return next(each for each in qemu.session.stats() if each.uuid == guest.uuid)

    first = counters()
    assert first.vcpus == 1
    assert first.disk_read_bytes is not None
    assert 1 << 20 < first.memory_bytes <= 128 << 20  # the guest's balloon tells
    wait_until(lambda: counters().cpu_time_seconds > first.cpu_time_seconds, 20, "CPU time grows")


# -- consoles ------------------------------------------------------------------------------------------------------
def test_another_client_holds_the_console_and_takes_it(qemu, qemu_guest):
    guest = qemu_guest(kind="bootsector", start=True)
    ref = ref_of(guest)
    with guest.console() as theirs:
        wait_until(lambda: _busy(qemu, ref), 10, "virsh has the console")
        mine = qemu.session.open_console(ref, "serial", take_over=True)
        theirs.close()
        mine.close()
    mine = qemu.session.open_console(ref, "serial")
    thief = local.Console(guest.uri, guest.uuid, force=True)
    try:
        with pytest.raises(ConsoleBusy):
            read_until(mine, b"never", 10)
        before = time.process_time()
        assert _quiet(0.5)
        assert time.process_time() - before < 0.25  # the thrown-out stream does not spin
    finally:
        thief.close()
        mine.close()


def _busy(lab: Lab, ref: GuestRef) -> bool:
    try:
        lab.session.open_console(ref, "serial").close()
    except ConsoleBusy:
        return True
    return False


def _quiet(seconds: float) -> bool:
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, seconds + 5)
    return True


def test_a_guest_without_a_console_says_so(qemu):
    ref = qemu.make()
    xml = qemu.session.definition(ref)
    start, end = xml.index("<serial"), xml.rindex("</console>") + len("</console>")
    without = qemu.session.define(xml[:start] + xml[end:])
    assert without.consoles == ()
    qemu.session.start(ref)
    for kind in ("serial", "vnc"):
        with pytest.raises(NotFound):
            qemu.session.open_console(ref, kind)
    with pytest.raises(NotFound):
        qemu.session.screenshot(ref)


def test_a_guest_that_does_not_read_blocks_only_its_own_writer(qemu, monkeypatch):
    monkeypatch.setattr(streams, "WRITE_SECONDS", 1.0)
    ref = qemu.started()
    console = qemu.session.open_console(ref, "serial")
    with pytest.raises(Timeout):
        console.write(b"x" * (1 << 20))
    began = time.monotonic()
    assert qemu.session.guest(ref).state is GuestState.RUNNING  # the control connection does not notice
    console.close()
    assert time.monotonic() - began < 1.0


def test_a_flood_is_bounded_and_the_gap_is_announced(lxc, monkeypatch):
    monkeypatch.setattr(streams, "MOST_UNREAD", 1 << 20)
    ref = lxc.make_shell()
    lxc.session.start(ref)
    console = lxc.session.open_console(ref, "serial")
    try:
        ask(console, b"echo ready-$((6*7))", b"ready-42", 20)
        console.write(b"dd if=/dev/zero bs=1M count=6 2>/dev/null | tr '\\0' x; echo; echo end-$((6*7))\n")
        wait_until(lambda: console._dropped > 1 << 20, 60, "the flood")
        assert console.unread_bytes <= 1 << 20
        assert b"bytes are missing here" in read_until(console, b"end-42", 60)
    finally:
        console.close()


def test_a_reader_that_keeps_up_gets_everything_in_order(lxc):
    ref = lxc.make_shell()
    lxc.session.start(ref)
    console = lxc.session.open_console(ref, "serial")
    try:
        ask(console, b"echo ready-$((6*7))", b"ready-42", 20)
        console.write(b"i=0; while [ $i -lt 20000 ]; do echo line-$i; i=$((i+1)); done; echo end-$((6*7))\n")
        said = read_until(console, b"end-42", 60).replace(b"\r", b"")
        lines = [line for line in said.split(b"\n") if line.startswith(b"line-") and line[5:].isdigit()]
        assert lines == [b"line-%d" % number for number in range(20000)]
    finally:
        console.close()


def test_small_pieces_are_gathered_and_echoes_are_not_held_up(qemu, linux_guest):
    console = qemu.session.open_console(ref_of(linux_guest), "serial")
    try:
        ask(console, b"echo ready-$((6*7))", b"ready-42")
        console.write(b"seq 1 2000; echo end-$((6*7))\n")
        pieces = []
        while b"end-42" not in b"".join(pieces[-2:]):
            piece = console.read(timeout_seconds=30)
            assert piece, f"no more came after {pieces[-2:]}"
            pieces.append(piece)
        size = sum(map(len, pieces))
        assert size > 8000
        assert size / len(pieces) > 200  # one call of libvirt brings 75 to 180 bytes
    finally:
        console.close()


# -- snapshots -------------------------------------------------------------------------------------------------------
def test_a_disk_that_cannot_hold_a_snapshot_is_named(qemu):
    ref = qemu.make()
    with pytest.raises(Unsupported, match=r"Disk vda is a raw image.*qcow2"):
        qemu.session.snapshot_create(ref, SnapshotSpec(name="s"))
    assert list(qemu.session.snapshots(ref)) == []


def test_saved_memory_is_no_part_of_a_snapshot_and_goes_with_the_way_back(qemu, qemu_guest):
    ref = ref_of(qemu_guest(kind="qcow2", start=True))
    qemu.session.snapshot_create(ref, SnapshotSpec(name="alive", memory=True))
    qemu.session.managed_save(ref)
    with pytest.raises(WrongState, match="discard the saved memory"):
        qemu.session.snapshot_create(ref, SnapshotSpec(name="saved"))
    qemu.session.snapshot_revert(ref, "alive")
    info = qemu.session.guest(ref)
    assert (info.state, info.state_reason, info.has_managed_save) == (GuestState.RUNNING, "from_snapshot", False)


def test_what_virsh_took_is_read_and_overlays_are_refused_in_words(qemu, qemu_guest):
    guest = qemu_guest(kind="qcow2", start=True)
    guest.virsh("snapshot-create-as", "--name", "<i> by & virsh", "--description", "it's")
    guest.virsh("snapshot-create-as", "--name", "over", "--disk-only")
    tree = {info.name: info for info in qemu.session.snapshots(ref_of(guest))}
    assert tree["<i> by & virsh"].description == "it's"
    assert (tree["over"].kind, tree["over"].parent, tree["over"].current) == ("external", "<i> by & virsh", True)
    for verb in (qemu.session.snapshot_revert, qemu.session.snapshot_delete):
        with pytest.raises(Unsupported, match="overlay"):
            verb(ref_of(guest), "over")
    with pytest.raises(Unsupported, match="overlay"):
        qemu.session.snapshot_delete(ref_of(guest), "<i> by & virsh", children=True)


# -- life ------------------------------------------------------------------------------------------------------------
def test_no_thread_or_descriptor_is_left_behind(qemu):
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    ref = qemu.started()
    qemu.session.open_console(ref, "serial").close()
    wait_until(lambda: not qemu.session._opened, 10, "the console's line is closed")
    before = descriptors()
    for _ in range(5):
        session = qemu.driver.open(qemu.endpoint)
        session.subscribe(lambda event: None)
        session.open_console(ref, "serial", take_over=True).close()
        wait_until(lambda session=session: not session._opened, 10, "the console's line is closed")
        session.close()
    wait_until(lambda: descriptors() <= before, 10, "descriptors are given back")


def test_a_shutdown_that_is_ignored_leaves_the_guest_running(qemu):
    ref = qemu.started()
    qemu.session.shutdown(ref)
    wait_until(lambda: qemu.session.guest_state(ref)[0] is GuestState.RUNNING, 5)


def test_restored_guest_says_why_it_runs(qemu):
    ref = qemu.started()
    qemu.session.managed_save(ref)
    assert qemu.session.guest_state(ref) == (GuestState.SHUTOFF, "saved")
    qemu.session.start(ref)
    assert qemu.session.guest_state(ref) == (GuestState.RUNNING, "restored")


def test_feature_sets_differ_as_declared(qemu, lxc):
    assert qemu.has(Feature.MANAGED_SAVE)
    assert not lxc.has(Feature.MANAGED_SAVE)
    wait_state(lxc.session, lxc.started(), GuestState.RUNNING)


def test_a_container_whose_init_reads_no_initctl_is_shut_down_by_signal(lxc, lxc_guest):
    guest = lxc_guest()
    init = guest.directory / "root" / "init"
    init.write_text(init.read_text().replace("/run/initctl", "/run/nothing"))
    guest.start()
    guest.wait_ready()
    lxc.session.shutdown(ref_of(guest))
    wait_until(lambda: lxc.session.guest_state(ref_of(guest))[0] is GuestState.SHUTOFF, 10, "it is off")
