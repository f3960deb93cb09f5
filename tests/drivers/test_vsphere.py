"""The vSphere driver against govmomi's simulator, as an ESXi host and as a vCenter."""

from __future__ import annotations

import contextlib
import ssl
import statistics
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from drivers import registry
from drivers.errors import (
    AgentUnresponsive,
    AuthFailed,
    Busy,
    DriverError,
    InvalidDefinition,
    NotFound,
    TlsFailed,
    Unreachable,
    Unsafe,
    Unsupported,
    WrongState,
)
from drivers.types import (
    Credentials,
    DiskSpec,
    Endpoint,
    Feature,
    GuestRef,
    GuestSpec,
    GuestState,
    NicSpec,
    SnapshotSpec,
    VolumeSpec,
)
from drivers.vsphere import webmks
from tests.drivers.conformance import Conformance, Lab, News, read_until
from tests.labs import esx
from tests.labs.esx import PASSWORD, USERNAME
from tests.vms.sites import gone, made, managed
from tests.waiting import wait_until
from tests.web.conftest import workers

__all__ = ["workers"]

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]  # the first test may build the simulator


def endpoint_of(simulator, uri: str = "", **changes) -> Endpoint:
    uri = uri or simulator.uri
    fields = {"username": USERNAME, "password": PASSWORD, "verify": simulator.pin} | changes
    return Endpoint(driver=uri.partition(":")[0], uri=uri, credentials=Credentials(**fields))


def opened(simulator, uri: str = "", **changes):
    endpoint = endpoint_of(simulator, uri, **changes)
    return registry.get(endpoint.driver).open(endpoint)


def lab_on(simulator):
    endpoint = endpoint_of(simulator)
    session = opened(simulator)

    def make() -> GuestRef:
        return session.guest(GuestRef(uuid=simulator.make())).ref

    def addressed() -> GuestRef:
        ref = session.guest(GuestRef(uuid=simulator.make(address="192.0.2.17"))).ref
        session.start(ref)
        return ref

    made: list[GuestSpec] = []

    def spec() -> GuestSpec:
        """One with a disk, a CD drive and a card, whose files lie there."""
        name, unique = f"vmmtest-{uuid.uuid4().hex[:8]}", str(uuid.uuid4())
        disk = session.volume_create("LocalDS_0", VolumeSpec(name=f"{name}.vmdk", capacity_bytes=2**24, format="vmdk"))
        simulator.put("LocalDS_0", f"{name}.iso", b"CD001")
        made.append(
            GuestSpec(
                name=name,
                uuid=unique,
                vcpus=2,
                memory_bytes=64 * 2**20,
                disks=(
                    DiskSpec(pool="LocalDS_0", volume=disk.name, path=disk.path, format="vmdk"),
                    DiskSpec(pool="LocalDS_0", volume=f"{name}.iso", path="", device="cdrom", readonly=True),
                ),
                interfaces=(NicSpec(network="VM Network", mac="00:50:56:12:34:56"),),
            )
        )
        return made[-1]

    driver = registry.get(endpoint.driver)
    yield Lab(
        driver=driver,
        endpoint=endpoint,
        session=session,
        make=make,
        make_shell=make,
        make_screen=make,
        spec=spec,
        addressed=addressed,
        given_pool="LocalDS_0",
        network="VM Network",
    )
    for one in made:
        info = session.guest_or_none(GuestRef(uuid=one.uuid))
        if info is not None:
            session.undefine(info.ref)
        for disk in one.disks:
            session.volume_delete(disk.pool, disk.volume)
    session.close()


class TestEsx(Conformance):
    """All that every driver promises, on an ESXi host."""

    @pytest.fixture
    def lab(self, esx_host):
        yield from lab_on(esx_host)


class TestVCenter(Conformance):
    """All that every driver promises, on one datacenter of a vCenter."""

    @pytest.fixture
    def lab(self, vcenter):
        yield from lab_on(vcenter)


@pytest.fixture
def session(esx_host):
    session = opened(esx_host)
    yield session
    session.close()


@pytest.fixture
def make(esx_host, session):
    return lambda **options: session.guest(GuestRef(uuid=esx_host.make(**options))).ref


# -- who is there ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("verify", [True, "sha256:" + "00" * 32])
def test_a_certificate_that_is_not_trusted_ends_it_before_the_password_is_sent(esx_host, verify):
    with pytest.raises(TlsFailed):
        opened(esx_host, verify=verify)


def test_the_right_authority_or_no_check_at_all_let_us_in(esx_host):
    for trust in ({"verify": True, "ca_certificate": esx_host.authority}, {"verify": False}, {"verify": esx_host.pin}):
        opened(esx_host, **trust).close()


def test_a_wrong_or_missing_password_is_refused_and_not_repeated_in_words(esx_host):
    with pytest.raises(AuthFailed) as refusal:
        opened(esx_host, password="geheim-4711")
    assert "geheim-4711" not in f"{refusal.value!r} {refusal.value.detail} {refusal.value.context}"
    with pytest.raises(AuthFailed):
        opened(esx_host, password="")
    with pytest.raises(AuthFailed):
        registry.get("esx").open(Endpoint(driver="esx", uri=esx_host.uri))


def test_a_vcenter_behind_an_esx_uri_and_the_reverse_say_which_uri_to_use(esx_host, vcenter):
    with pytest.raises(Unsupported, match=f"vpx://{vcenter.address}/"):
        opened(vcenter, f"esx://{vcenter.address}")
    with pytest.raises(Unsupported, match=f"esx://{esx_host.address}"):
        opened(esx_host, f"vpx://{esx_host.address}/DC0")


def test_nobody_there_is_unreachable(esx_host):
    with pytest.raises(Unreachable):
        opened(esx_host, "esx://127.0.0.1:1")


@pytest.mark.parametrize("path", ["nowhere", "DC0/nowhere", "nowhere/DC0"])
def test_a_place_that_is_not_there_is_named_with_the_datacenters_that_are(vcenter, path):
    with pytest.raises(NotFound, match=r"DC0, DC1"):
        opened(vcenter, f"vpx://{vcenter.address}/{path}")


def test_a_datacenter_shows_its_own_guests_and_a_cluster_the_clusters(vcenter):
    ref = GuestRef(uuid=vcenter.make())
    here, elsewhere = opened(vcenter), opened(vcenter, f"vpx://{vcenter.address}/DC1")
    cluster = opened(vcenter, f"vpx://{vcenter.address}/DC0/DC0_C0")
    try:
        assert here.guest_or_none(ref) is not None
        assert elsewhere.guest_or_none(ref) is None
        assert cluster.guest_or_none(ref) is None  # it lives on the lone host DC0_H0
        assert (here.host_info().cpu_count, cluster.host_info().cpu_count) == (8, 6)
        assert here.host_info().hostname == "vcenter.lab"
    finally:
        for each in (here, elsewhere, cluster):
            each.close()


def test_an_esx_host_tells_who_it_is(session):
    info = session.host_info()
    assert info.host_uuid == info.host_uuid.lower() != ""
    assert info.hypervisor_version == "VMware ESXi 6.5.0"
    assert info.nested_virtualization is True
    assert info.library_version.startswith("pyVmomi 9")


# -- guests ------------------------------------------------------------------------------------------------------------
def test_a_guest_is_read_with_its_disks_and_interfaces(session, make):
    info = session.guest(make())
    disk = next(disk for disk in info.disks if disk.source and disk.source.endswith(".vmdk"))
    assert (disk.device, disk.bus, disk.target, disk.size_bytes) == ("disk", "scsi", "scsi0:0", 2**30)
    assert disk.pool == "LocalDS_0"
    with pytest.raises(Busy, match=info.name):
        session.volume_delete(disk.pool, disk.source)
    [nic] = info.interfaces
    assert (nic.model, nic.network) == ("vmxnet3", "VM Network")
    assert nic.mac == nic.mac.lower() != ""
    assert (info.vcpus, info.memory_bytes, info.boot["firmware"]) == (2, 64 * 2**20, "bios")


def test_a_template_is_no_guest(esx_host, session, make):
    ref = make()
    esx_host.mark_as_template(ref.uuid)
    assert session.guest_or_none(ref) is None
    assert ref.uuid not in {info.uuid for info in session.guests()}
    with pytest.raises(NotFound):
        session.start(ref)


def test_a_guest_that_was_never_listed_is_found_by_its_uuid(esx_host, session):
    wanted = "50112233-4455-6677-8899-aabbccddeeff"
    esx_host.reconfigure(esx_host.make(), instanceUuid=wanted)
    session.start(GuestRef(uuid=wanted))
    assert session.guest(GuestRef(uuid=wanted)).state is GuestState.RUNNING


def test_a_thousand_guests_are_one_round_trip_and_read_anew_only_where_changed():
    simulator = esx.start(is_esx=True, guests=1000)
    try:
        session = opened(simulator)
        session._view(esx.vim.VirtualMachine)
        before, began = session._wire.calls, time.monotonic()
        first = session.guests()
        took = time.monotonic() - began
        assert (len(first), session._wire.calls - before) == (1000, 1)
        began = time.monotonic()
        assert session.guests() == first
        again = time.monotonic() - began
        assert session._wire.calls - before == 2
        simulator.reconfigure(first[7].uuid, annotation="changed", memoryMB=96)
        changed = next(info for info in session.guests() if info.uuid == first[7].uuid)
        assert (changed.description, changed.memory_bytes) == ("changed", 96 * 2**20)
        assert session._wire.calls - before == 4
        print(f"\n1,000 guests: {took:.2f} s first, {again:.2f} s again")
        session.close()
    finally:
        simulator.stop()


def test_many_threads_may_ask_at_once(session, make):
    ref = make()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(verb) for _ in range(6) for verb in (session.guests, session.stats, session.host_stats)]
        states = [pool.submit(session.guest_state, ref) for _ in range(12)]
        assert all(answer.result(30) is not None for answer in answers)
        assert {state.result(30)[0] for state in states} == {GuestState.SHUTOFF}


# -- power -------------------------------------------------------------------------------------------------------------
def test_without_tools_shutdown_and_reboot_say_so(session, make):
    ref = make(tools=False)
    session.start(ref)
    for verb in (session.shutdown, session.reboot):
        with pytest.raises(AgentUnresponsive, match="VMware Tools"):
            verb(ref)
    assert session.guest_state(ref)[0] is GuestState.RUNNING


def test_a_guest_that_shut_itself_down_is_told_from_one_that_was_forced(session, make):
    ref = make()
    session.start(ref)
    session.shutdown(ref)
    assert session.guest_state(ref) == (GuestState.SHUTOFF, "shutdown")


def test_a_suspended_guest_is_resumed_and_not_started_or_removed(session, make):
    ref = make()
    session.start(ref)
    session.suspend(ref)
    assert session.guest_state(ref) == (GuestState.PAUSED, "suspended_to_disk")
    for verb in (session.start, session.shutdown, session.undefine, session.suspend):
        with pytest.raises(WrongState):
            verb(ref)
    session.resume(ref)
    assert session.guest_state(ref)[0] is GuestState.RUNNING
    with pytest.raises(WrongState):
        session.undefine(ref)


def test_autostart_is_not_turned_on_for_others_by_the_way(own_esx_host):
    session = opened(own_esx_host)
    first, second = (GuestRef(uuid=own_esx_host.make()) for _ in range(2))
    session.set_autostart(first, enabled=True)
    own_esx_host.disable_autostart()
    assert not session.guest(first).autostart
    with pytest.raises(Unsafe, match="1 other"):
        session.set_autostart(second, enabled=True)
    session.set_autostart(first, enabled=True)
    assert [session.guest(ref).autostart for ref in (first, second)] == [True, False]
    session.close()


def test_vcenter_leaves_autostart_to_its_hosts(vcenter):
    session = opened(vcenter)
    support = session.capabilities()[Feature.AUTOSTART]
    assert (support.supported, "vCenter" in support.reason) == (False, True)
    session.close()


# -- life of a session ---------------------------------------------------------------------------------------------------
def test_an_expired_session_is_renewed_once(own_esx_host):
    session = opened(own_esx_host)
    ref = GuestRef(uuid=own_esx_host.make())
    session.start(ref)
    own_esx_host.expire_sessions()
    assert session.guest_state(ref)[0] is GuestState.RUNNING
    own_esx_host.expire_sessions()
    assert len(session.guests()) == 1  # with a new view: the old one went with its session
    session.close()


def test_a_killed_host_is_noticed_once_and_at_once(own_esx_host):
    session = opened(own_esx_host)
    heard: list[str] = []
    session.on_close(heard.append)
    session.subscribe(lambda event: None)
    own_esx_host.process.kill()
    wait_until(lambda: heard, 10, "the loss")
    assert not session.alive()
    with pytest.raises(DriverError):
        session.guests()
    with pytest.raises(Unreachable):
        session.subscribe(lambda event: None)
    session.close()
    assert len(heard) == 1


def test_a_frozen_host_is_noticed_and_wakes_who_waits_for_it(own_esx_host):
    session = opened(own_esx_host)
    heard: list[str] = []
    session.on_close(heard.append)
    session.subscribe(lambda event: None)
    own_esx_host.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(Unreachable):
            session.guests()
        assert heard
        print(f"\na frozen host was noticed after {time.monotonic() - began:.1f} s")
        session.close()
    finally:
        own_esx_host.thaw()


def test_a_closed_session_says_nothing_of_a_loss(own_esx_host):
    session = opened(own_esx_host)
    heard: list[str] = []
    session.on_close(heard.append)
    session.subscribe(lambda event: None)
    session.close()
    session._tap._thread.join(5)
    assert not session._tap._thread.is_alive()
    assert heard == []


# -- news and numbers ----------------------------------------------------------------------------------------------------
def test_news_comes_quickly(esx_host, session, make):
    news = News(session)
    ref = make()
    news.expect(ref, "defined")
    delays = []
    for _ in range(4):
        for verb, word in ((session.start, "started"), (session.force_off, "stopped")):
            began = time.monotonic()
            verb(ref)
            delays.append(news.expect(ref, word).at - began)
    # The simulator collects changes for 250 ms before it answers; the rest is ours.
    print(f"\nnews after {statistics.mean(delays) * 1000:.0f} ms, at most {max(delays) * 1000:.0f} ms")


def test_a_changed_configuration_and_a_new_template_make_news(esx_host, session, make):
    ref = make()
    news = News(session)
    esx_host.reconfigure(ref.uuid, annotation="new words")
    assert news.expect(ref, "changed").name == ref.name
    assert session.guest(ref).description == "new words"


def test_snapshots_make_news_and_are_told_for_all_guests_at_once(session, make):
    refs = [make(), make()]
    news = News(session)
    session.snapshot_create(refs[0], SnapshotSpec(name="kept"))
    assert news.expect(refs[0], "changed").snapshots
    session.snapshot_delete(refs[0], "kept")
    assert news.expect(refs[0], "changed").snapshots
    session.snapshot_create(refs[1], SnapshotSpec(name="other"))
    found = session.snapshots_of_all()
    assert [info.name for info in found[refs[1].uuid]] == ["other"]
    assert refs[0].uuid not in found


def test_counters_rise_between_two_readings(session, make):
    ref = make()
    session.start(ref)

    def counters():
        return next(each for each in session.stats() if each.uuid == ref.uuid)

    first = counters()
    later = wait_until(lambda: (now := counters()) and now.cpu_time_seconds > first.cpu_time_seconds and now, 10)
    assert 0 < (later.cpu_time_seconds - first.cpu_time_seconds) / (later.at - first.at) <= 2  # of its two CPUs
    assert later.disk_read_bytes >= first.disk_read_bytes >= 0
    assert later.network_transmit_bytes >= first.network_transmit_bytes >= 0
    assert first.vcpus == 2


# -- screens -------------------------------------------------------------------------------------------------------------
def console_of(session, ref):
    session.start(ref)
    console = session.open_console(ref, "vnc")
    assert read_until(console, b"\n").startswith(b"RFB 003.008")
    for answer in (b"RFB 003.008\n", b"\x01", b"\x01"):
        console.write(answer)
        assert console.read(timeout_seconds=10)
    return console


def test_much_goes_through_a_console_in_both_directions(session, make):
    console = console_of(session, make())
    data = bytes(range(256)) * 4096
    got = bytearray()

    def reader() -> None:
        while len(got) < len(data) and (piece := console.read(10_000, timeout_seconds=10)):
            got.extend(piece)

    thread = threading.Thread(target=reader)
    thread.start()
    console.write(data)
    thread.join(30)
    assert bytes(got) == data
    assert console.read(timeout_seconds=0.05) is None
    console.close()


def test_closing_a_console_wakes_its_reader(session, make):
    console = console_of(session, make())
    ended = threading.Event()
    threading.Thread(target=lambda: console.read(timeout_seconds=60) == b"" and ended.set(), daemon=True).start()
    console.close()
    console.close()
    assert ended.wait(5)
    with pytest.raises(Unreachable):
        console.write(b"x")


def test_a_console_is_opened_only_at_the_host_that_the_ticket_names(esx_host):
    strange = webmks.Ticket(host=esx_host.host, port=esx_host.port, path="/ticket/x", thumbprints=("00" * 20,))
    with pytest.raises(TlsFailed):
        webmks.open_console(strange, ssl.create_default_context(), home=esx_host.host)
    unnamed = webmks.Ticket(host=esx_host.host, port=esx_host.port, path="/ticket/x", thumbprints=())
    with pytest.raises(TlsFailed):
        webmks.open_console(unnamed, ssl.create_default_context(), home=esx_host.host)


def test_a_ticket_that_is_not_good_any_more_is_refused(esx_host):
    spent = webmks.Ticket(host=esx_host.host, port=esx_host.port, path="/ticket/spent", thumbprints=())
    context = ssl._create_unverified_context()
    with pytest.raises(Unreachable, match="refused"):
        webmks.open_console(spent, context, home=esx_host.host)


# -- new guests ----------------------------------------------------------------------------------------------------------
@pytest.fixture(params=["esx_host", "vcenter"])
def site(request, transactional_db, workers):
    """An ESXi host and a vCenter, each as a managed host."""
    simulator = request.getfixturevalue(request.param)
    simulator.put("LocalDS_0", "install.iso", b"CD001")
    with managed(endpoint_of(simulator)) as hypervisor:
        yield simulator, hypervisor


def names_in(hypervisor):
    with contextlib.closing(registry.get(hypervisor.driver).open(hypervisor.endpoint())) as session:
        return {one.name for one in session.volumes("LocalDS_0")}


def test_a_guest_is_made_over_rest_and_goes_with_its_disk(api, site):
    simulator, hypervisor = site
    name = f"vmmtest-{uuid.uuid4().hex[:8]}"
    spec = {
        "name": name, "hypervisor": str(hypervisor.pk), "vcpus": 2, "memory_bytes": 2**28, "title": 'Say "hello"',
        "disks": [{"size_bytes": 2**30, "pool": "LocalDS_0"}, {"image": "install.iso", "pool": "LocalDS_0"}],
        "interfaces": [{"network": "VM Network"}], "cpu": {"nested": True}, "os": "http://debian.org/debian/12",
        "boot": {"firmware": "uefi", "secure_boot": True}, "description": "Two\nlines", "tags": ["prod"],
    }  # fmt: skip
    draft = api.post("/vms?dry_run=true", spec).json()
    for line in (f'displayName = "{name}"', 'scsi0.virtualDev = "pvscsi"', 'vhv.enable = "TRUE"', "install.iso"):
        assert line in draft["definition"]
    [nic] = draft["spec"]["interfaces"]
    assert nic["mac"].startswith("00:50:56:")
    before = names_in(hypervisor)
    ended = made(api, spec)
    assert ended["state"] == "succeeded", ended
    vm = api.get(f"/vms/{ended['result']['vm']}").json()
    assert (vm["state"], vm["title"], vm["tags"], vm["uuid"]) == ("running", 'Say "hello"', ["prod"], vm["id"])
    machine = simulator.config(vm["uuid"])
    assert (machine.firmware, machine.bootOptions.efiSecureBootEnabled) == ("efi", True)
    assert (machine.nestedHVEnabled, machine.guestId, machine.annotation) == (True, "debian10_64Guest", "Two\nlines")
    kinds = [type(one).__name__.rpartition(".")[2] for one in machine.hardware.device]
    assert {"ParaVirtualSCSIController", "VirtualVmxnet3", "VirtualAHCIController"} <= set(kinds)
    [disk] = names_in(hypervisor) - before
    ended = gone(api, vm["id"])
    assert [one["volume"] for one in ended["volumes"]] == [disk], ended
    assert names_in(hypervisor) == before


def test_what_was_made_for_a_guest_that_could_not_be_made_is_taken_away(api, site):
    simulator, hypervisor = site
    name = f"vmmtest-{uuid.uuid4().hex[:8]}"
    simulator.make(name)  # by somebody else, and not seen yet
    before = names_in(hypervisor)
    ended = made(api, {"name": name, "hypervisor": str(hypervisor.pk), "disks": [{"size_bytes": 2**30}]})
    assert (ended["state"], ended["error"]["code"]) == ("failed", "already_exists")
    assert names_in(hypervisor) == before


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({"disks": [{"size_bytes": 2**30}], "cloud_init": {}}, "/cloud_init"),
        ({"disks": [{"image": "web/web.vmdk"}]}, "/disks/0/image"),
        ({"disks": [{"size_bytes": 2**30, "format": "qcow2"}]}, "/disks/0/pool"),
    ],
)
def test_what_needs_bytes_in_a_datastore_is_refused_by_its_field(api, site, values, pointer):
    _, hypervisor = site
    answer = api.post("/vms", {"name": "vmmtest-no", "hypervisor": str(hypervisor.pk), **values})
    assert answer.status_code == 422
    assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]


def test_a_guest_on_a_distributed_port_group(vcenter):
    session = opened(vcenter)
    try:
        spec = GuestSpec(
            name=f"vmmtest-{uuid.uuid4().hex[:8]}", uuid=str(uuid.uuid4()), memory_bytes=2**26,
            os_id="http://microsoft.com/win/2k19", interfaces=(NicSpec(network="DC0_DVPG0"),),
        )  # fmt: skip
        [nic] = session.create(spec).interfaces
        assert nic.model == "e1000e"
        port = next(one.backing for one in vcenter.config(spec.uuid).hardware.device if hasattr(one, "macAddress"))
        assert (port.port.portgroupKey, bool(port.port.switchUuid)) == (nic.network, True)
        assert not any("Uplink" in one.name for one in session.networks())
        with pytest.raises(InvalidDefinition, match="no port group Nowhere"):
            session.create(
                replace(spec, name="vmmtest-x", uuid=str(uuid.uuid4()), interfaces=(NicSpec(network="Nowhere"),))
            )
    finally:
        session.close()


def test_addresses_come_from_tools_alone(session, make):
    ref = make(tools=False)
    session.start(ref)
    assert session.addresses(ref) == {
        "agent": "VMware Tools do not run in this guest, and only they know its addresses."
    }
