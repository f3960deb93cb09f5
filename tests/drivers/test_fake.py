"""The in-memory hypervisor keeps its promises: what the layers above test against must itself be true."""

from __future__ import annotations

import itertools
import threading
from queue import SimpleQueue

import pytest

from drivers import registry
from drivers.errors import (
    AlreadyExists,
    AuthFailed,
    ConsoleBusy,
    DriverError,
    InvalidDefinition,
    NotFound,
    Timeout,
    Unreachable,
    Unsupported,
    WrongState,
)
from drivers.fake import FakeDriver, FakeWorld, drop_world, world
from drivers.types import (
    AddressInfo,
    DiskHardware,
    DiskSpec,
    Feature,
    GuestEventKind,
    GuestKind,
    GuestRef,
    GuestSpec,
    GuestState,
    NicHardware,
    NicSpec,
)
from tests.drivers.conformance import Conformance, Lab
from tests.waiting import wait_until

SPEC = GuestSpec(
    name="made",
    uuid="0b7f0f4e-53a4-4f3e-9c0e-2f6a5f3f1d11",
    vcpus=2,
    memory_bytes=512 << 20,
    title="<Front> & back",
    os_id="http://debian.org/debian/13",
    disks=(
        DiskSpec(pool="default", volume="made.qcow2", path="/pool/made.qcow2", format="qcow2"),
        DiskSpec(pool="default", volume="seed.iso", path="", device="cdrom"),
    ),
    interfaces=(NicSpec(network="default", mac="52:54:00:AA:BB:CC"), NicSpec(bridge="br0")),
)


@pytest.fixture
def place(request):
    name = request.node.name
    yield world(name)
    drop_world(name)


@pytest.fixture
def session(place: FakeWorld):
    return FakeDriver().open(place.endpoint)


@pytest.fixture
def lab(place: FakeWorld, session):
    def make() -> GuestRef:
        return place.add(f"guest-{next(numbers)}").ref

    def addressed() -> GuestRef:
        ref = place.add("addressed", state=GuestState.RUNNING).ref
        place.give_addresses("addressed", lease=[AddressInfo(address="192.0.2.7", prefix=24)])
        return ref

    numbers = itertools.count()
    place.networks.add()
    place.networks.add_interface("lo", "loopback", speed_mbps=None)
    place.networks.add_interface("eth0")
    return Lab(
        driver=registry.get("fake"),
        endpoint=place.endpoint,
        session=session,
        make=make,
        make_shell=make,
        make_screen=make,
        boot_seconds=1,
        spec=lambda: SPEC,
        addressed=addressed,
        disk=lambda: DiskHardware(target="vdx", bus="virtio", path="/pool/more.qcow2", format="qcow2"),
        nic=lambda: NicHardware(mac="52:54:00:00:00:99", network="default", model="virtio"),
    )


class TestConformance(Conformance):
    """All that every driver promises."""


def read_until(console, marker: bytes, seconds: float = 5.0) -> bytes:
    data = b""
    while marker not in data:
        chunk = console.read(timeout_seconds=seconds)
        assert chunk, f"{marker!r} never came: {data!r}"
        data += chunk
    return data


def test_registry_knows_it_as_fake():
    assert isinstance(registry.get("fake"), FakeDriver)


def test_every_feature_is_declared_or_has_a_reason():
    assert FakeDriver.features.isdisjoint(FakeDriver.reasons)
    assert FakeDriver.features | set(FakeDriver.reasons) == set(Feature)


def test_whole_life(session, place):
    ref = place.add("web").ref
    verbs = [
        ("start", GuestState.RUNNING),
        ("suspend", GuestState.PAUSED),
        ("resume", GuestState.RUNNING),
        ("reboot", GuestState.RUNNING),
        ("reset", GuestState.RUNNING),
        ("managed_save", GuestState.SHUTOFF),
        ("start", GuestState.RUNNING),
        ("shutdown", GuestState.SHUTOFF),
        ("start", GuestState.RUNNING),
        ("force_off", GuestState.SHUTOFF),
    ]
    for verb, state in verbs:
        getattr(session, verb)(ref)
        assert session.guest_state(ref)[0] is state, verb
    session.undefine(ref)
    assert session.guest_or_none(ref) is None


def test_managed_save_is_resumed_or_discarded(session, place):
    ref = place.add("web", state=GuestState.RUNNING).ref
    session.managed_save(ref)
    assert session.guest(ref).has_managed_save
    session.start(ref)
    assert session.guest_state(ref) == (GuestState.RUNNING, "restored")
    session.managed_save(ref)
    session.discard_managed_save(ref)
    session.start(ref)
    assert session.guest_state(ref) == (GuestState.RUNNING, "booted")


@pytest.mark.parametrize(
    ("state", "verb"),
    [
        (GuestState.RUNNING, "start"),
        (GuestState.PAUSED, "start"),
        (GuestState.RUNNING, "resume"),
        *[(GuestState.SHUTOFF, verb) for verb in ("shutdown", "reboot", "reset", "force_off", "suspend", "resume")],
        (GuestState.SHUTOFF, "managed_save"),
        (GuestState.CRASHED, "shutdown"),
    ],
)
def test_wrong_state(session, place, state, verb):
    ref = place.add("web", state=state).ref
    with pytest.raises(WrongState):
        getattr(session, verb)(ref)
    assert session.guest_state(ref)[0] is state


@pytest.mark.parametrize("verb", ["start", "shutdown", "guest", "guest_state", "definition", "undefine", "suspend"])
def test_unknown_guest_is_not_found(session, verb):
    with pytest.raises(NotFound):
        getattr(session, verb)(GuestRef(uuid="00000000-0000-0000-0000-000000000001", name="nobody"))


def test_undefined_while_running_lives_on_until_it_stops(session, place):
    ref = place.add("web", state=GuestState.RUNNING).ref
    session.undefine(ref)
    assert session.guest(ref).persistent is False
    session.force_off(ref)
    assert session.guest_or_none(ref) is None


def test_deaf_guest_ignores_shutdown(session, place):
    ref = place.add("web", state=GuestState.RUNNING, obeys=False).ref
    session.shutdown(ref)
    assert session.guest_state(ref)[0] is GuestState.RUNNING
    place.power_off_inside("web")
    assert session.guest_state(ref)[0] is GuestState.SHUTOFF


def test_definition_round_trip_and_digest(session, place):
    before = place.add("web", vcpus=2, kind=GuestKind.CONTAINER)
    assert session.define(session.definition(before.ref)).xml_digest == before.xml_digest
    changed = session.define(session.definition(before.ref).replace("<vcpu>2<", "<vcpu>3<"))
    assert (changed.uuid, changed.vcpus, changed.kind) == (before.uuid, 3, GuestKind.CONTAINER)
    assert changed.xml_digest != before.xml_digest


def test_define_reads_units_disks_and_interfaces(session):
    info = session.define(
        "<domain><name>big</name><memory unit='GiB'>2</memory><currentMemory unit='MiB'>512</currentMemory><vcpu>4</vcpu>"
        "<title>T</title><description>D</description><devices>"
        "<disk type='file' device='disk'><driver type='qcow2'/><source file='/a.qcow2'/><target dev='vda' bus='virtio'/></disk>"
        "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/><model type='virtio'/></interface>"
        "</devices></domain>"
    )
    assert (info.max_memory_bytes, info.memory_bytes, info.vcpus) == (2 << 30, 512 << 20, 4)
    assert (info.title, info.description) == ("T", "D")
    assert (info.disks[0].target, info.disks[0].source, info.disks[0].format) == ("vda", "/a.qcow2", "qcow2")
    assert (info.interfaces[0].mac, info.interfaces[0].network) == ("52:54:00:00:00:01", "default")


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<domain>",
        "<network><name>x</name></network>",
        "<domain><memory>1</memory></domain>",
        "<domain><name>a/b</name><memory>1</memory></domain>",
        "<domain><name>x</name><uuid>nonsense</uuid><memory>1</memory></domain>",
        "<domain><name>x</name><memory unit='parsec'>1</memory></domain>",
        "<domain><name>x</name><memory>1</memory><vcpu>0</vcpu></domain>",
        "<!DOCTYPE d [<!ENTITY a 'b'>]><domain><name>&a;</name><memory>1</memory></domain>",
    ],
)
def test_bad_definition(session, xml):
    with pytest.raises(InvalidDefinition):
        session.define(xml)


def test_name_and_uuid_are_unique(session, place):
    info = place.add("web")
    with pytest.raises(AlreadyExists):
        session.define(
            "<domain><name>web</name><uuid>00000000-0000-0000-0000-000000000001</uuid><memory>1</memory></domain>"
        )
    with pytest.raises(AlreadyExists):
        session.define(f"<domain><name>other</name><uuid>{info.uuid}</uuid><memory>1</memory></domain>")


def test_events_reach_every_subscriber(place):
    one, two = FakeDriver().open(place.endpoint), FakeDriver().open(place.endpoint)
    heard: list[list] = [[], []]
    one.subscribe(heard[0].append)
    two.subscribe(heard[1].append)
    ref = place.add("web").ref
    one.start(ref)
    place.outside("web", "force-off")
    place.remove("web")
    assert [event.reason for event in heard[0]] == [
        "defined/added",
        "started/booted",
        "stopped/destroyed",
        "undefined/removed",
    ]
    assert heard[0][0].kind is GuestEventKind.DEFINED
    assert heard[0] == heard[1]


def test_counters_follow_the_clock(session, place):
    place.clock = lambda: 100.0
    place.add("web", state=GuestState.RUNNING, vcpus=2)
    place.add("idle")
    before, host_before = session.stats(), session.host_stats()
    place.clock = lambda: 110.0
    after, host_after = session.stats(), session.host_stats()
    assert len(before) == len(after) == 1
    assert after[0].cpu_time_seconds - before[0].cpu_time_seconds == pytest.approx(5.0)
    assert after[0].disk_read_bytes - before[0].disk_read_bytes == 10_000_000
    assert host_after.cpu_busy_seconds - host_before.cpu_busy_seconds == pytest.approx(10.0)


def test_console_echoes_and_obeys(session, place):
    ref = place.add("web", state=GuestState.RUNNING).ref
    console = session.open_console(ref, "serial")
    read_until(console, b"web:~# ")
    console.write(b"echo hello\r")
    assert b"echo hello\r\nhello\r\n" in read_until(console, b"web:~# ")
    console.resize(columns=132, rows=43)
    console.write(b"sizx\x7fe\r")
    assert b"132 43" in read_until(console, b"web:~# ")
    assert console.read(timeout_seconds=0.01) is None
    console.write(b"poweroff\r")
    read_until(console, b"going down")
    assert console.read(timeout_seconds=5) == b""
    assert session.guest_state(ref)[0] is GuestState.SHUTOFF


def test_console_flood_is_bounded_and_whole(session, place):
    console = session.open_console(place.add("web", state=GuestState.RUNNING).ref, "serial")
    read_until(console, b"# ")
    console.write(b"flood 3000001\r")
    data = b""
    while not data.endswith(b"# "):
        chunk = console.read(10_000, timeout_seconds=5)
        assert chunk
        assert len(chunk) <= 10_000
        data += chunk
    assert data.count(b"x") == 3_000_001


def test_console_is_held_by_one(session, place):
    ref = place.add("web", state=GuestState.RUNNING).ref
    first = session.open_console(ref, "serial")
    read_until(first, b"# ")
    with pytest.raises(ConsoleBusy):
        session.open_console(ref, "serial")
    second = session.open_console(ref, "serial", take_over=True)
    with pytest.raises(ConsoleBusy):
        first.read(timeout_seconds=5)
    second.close()
    second.close()
    session.open_console(ref, "serial").close()
    with pytest.raises(Unsupported):
        session.open_console(ref, "vnc")


def test_close_wakes_a_blocked_reader(session, place):
    console = session.open_console(place.add("web", state=GuestState.RUNNING).ref, "serial")
    read_until(console, b"# ")
    got: SimpleQueue = SimpleQueue()
    reader = threading.Thread(target=lambda: got.put(console.read(timeout_seconds=30)))
    reader.start()
    console.close()
    assert got.get(timeout=5) == b""
    reader.join(5)


def test_unread_console_takes_no_endless_input(session, place, monkeypatch):
    monkeypatch.setattr("drivers.fake.console._WRITE_SECONDS", 0.05)
    monkeypatch.setattr("drivers.fake.console._BUFFER_BYTES", 1000)
    console = session.open_console(place.add("web", state=GuestState.RUNNING).ref, "serial")
    with pytest.raises(Timeout):
        console.write(b"y" * 2000)


def test_planned_failures_lies_and_refusals(session, place):
    place.add("web")
    place.fail_next(Timeout("slow"), times=2, verb="guests")
    assert session.host_info().cpu_count == 8
    for _ in range(2):
        with pytest.raises(Timeout):
            session.guests()
    place.lie("guests", lambda _answer: ["not a guest"])
    assert session.guests() == ["not a guest"]
    assert session.guests()[0].name == "web"
    place.refuse(AuthFailed("no"))
    with pytest.raises(AuthFailed):
        FakeDriver().open(place.endpoint)
    place.refuse(None)
    FakeDriver().open(place.endpoint)


@pytest.mark.parametrize("end", ["thaw", "cut"])
def test_frozen_host_holds_calls_until_it_ends(session, place, end):
    place.freeze()
    got: SimpleQueue = SimpleQueue()

    def call() -> None:
        try:
            got.put(session.guests())
        except DriverError as error:
            got.put(error)

    caller = threading.Thread(target=call)
    caller.start()
    assert place.wait_for_calls("guests", 1)
    assert got.empty()
    assert session.alive()
    getattr(place, end)()
    answer = got.get(timeout=5)
    assert answer == [] if end == "thaw" else isinstance(answer, Unreachable)
    caller.join(5)


def test_cut_tells_once_and_silence_tells_nobody(place):
    first, second = FakeDriver().open(place.endpoint), FakeDriver().open(place.endpoint)
    heard: list[str] = []
    first.on_close(heard.append)
    place.cut("killed")
    place.cut("again")
    assert heard == ["killed"]
    assert not first.alive()
    assert not second.alive()
    with pytest.raises(Unreachable):
        first.guests()
    third = FakeDriver().open(place.endpoint)
    third.on_close(heard.append)
    place.go_deaf()
    assert heard == ["killed"]
    assert not third.alive()


def test_close_of_a_frozen_connection_hangs_until_thaw(session, place):
    place.freeze()
    closer = threading.Thread(target=session.close)
    closer.start()
    assert place.wait_for_calls("close", 1)
    assert closer.is_alive()
    place.thaw()
    closer.join(5)
    assert not closer.is_alive()
    assert place.open_sessions == 0


def test_delay_takes_its_time_and_a_cut_ends_it(session, place):
    place.delay(60, verb="guests")
    got: SimpleQueue = SimpleQueue()

    def call() -> None:
        try:
            session.guests()
        except Unreachable as error:
            got.put(error)

    caller = threading.Thread(target=call)
    caller.start()
    assert place.wait_for_calls("guests", 1)
    place.cut()
    assert isinstance(got.get(timeout=5), Unreachable)
    caller.join(5)


def test_worlds_are_apart_and_stable():
    try:
        one, two = world("apart-1"), world("apart-2")
        assert one.add("web").uuid != two.add("web").uuid
        assert world("apart-1") is one
        drop_world("apart-1")
        assert world("apart-1") is not one
        assert world("apart-1").add("web").uuid == one.uuid_of("web")
    finally:
        drop_world("apart-1")
        drop_world("apart-2")


def test_peak_counts_parallel_calls(session, place):
    place.hang("guests")
    callers = [threading.Thread(target=session.guests) for _ in range(3)]
    for caller in callers:
        caller.start()
    wait_until(lambda: place.peak_calls == 3)
    place.release("guests")
    for caller in callers:
        caller.join(5)
    assert session.under_way == 0


# -- a guest to be made ------------------------------------------------------------------------------------------------
def test_what_is_made_is_what_was_asked_for(session):
    info = session.create(SPEC)
    assert (info.uuid, info.title, info.os) == (SPEC.uuid, SPEC.title, SPEC.os_id)
    assert [(disk.source, disk.pool, disk.target, disk.device, disk.format) for disk in info.disks] == [
        ("/pool/made.qcow2", None, "vda", "disk", "qcow2"),
        ("seed.iso", "default", "sdb", "cdrom", "raw"),
    ]
    assert [(nic.network, nic.model) for nic in info.interfaces] == [("default", "virtio"), ("br0", "virtio")]
    assert info.interfaces[0].mac == "52:54:00:aa:bb:cc"
    assert session.create(SPEC) == info
    assert session.design(SPEC) == session.definition(info.ref)


def test_a_made_guest_is_news(session):
    heard: SimpleQueue = SimpleQueue()
    session.subscribe(heard.put)
    session.create(SPEC)
    session.create(SPEC)
    assert heard.get(timeout=1).kind is GuestEventKind.DEFINED
    assert heard.empty()  # the second made nothing


def test_addresses_are_what_a_test_gave(session, place):
    ref = place.add("web", state=GuestState.RUNNING).ref
    silent = session.addresses(ref)
    assert list(silent) == ["agent", "lease", "arp"]
    assert all(isinstance(answer, str) for answer in silent.values())
    given = [AddressInfo(address="2001:db8::7", prefix=64, mac="52:54:00:00:00:01", source="agent")]
    place.give_addresses("web", agent=given)
    assert session.addresses(ref)["agent"] == given
    session.force_off(ref)
    with pytest.raises(WrongState):
        session.addresses(ref)
