"""The XenServer driver against the stand-in of ours (`tests/labs/xapi-sim`): no real XenServer was ever asked."""

from __future__ import annotations

import struct
import threading
import time
import uuid
import xmlrpc.client
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drivers import registry
from drivers.errors import (
    AgentUnresponsive,
    AuthFailed,
    Busy,
    Denied,
    DriverError,
    NotFound,
    Timeout,
    TlsFailed,
    Unreachable,
    Unsafe,
    WrongState,
)
from drivers.types import (
    Credentials,
    DiskSpec,
    Endpoint,
    Feature,
    GuestEventKind,
    GuestRef,
    GuestSpec,
    GuestState,
    NicSpec,
    SnapshotSpec,
    StorageState,
    Technique,
    VolumeSpec,
)
from drivers.xapi import events, records, snapshots, stats, wire
from drivers.xapi.errors import TABLE, Garbled, driver_error
from tests.drivers.conformance import Conformance, Lab, News, read_until
from tests.labs.xapi import PASSWORD, USERNAME
from tests.vms.sites import gone, made, managed
from tests.waiting import wait_until
from tests.web.conftest import workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.xapi.session import XapiSession
    from hosts.models import Hypervisor
    from tests.labs.xapi import StandIn

__all__ = ["workers"]
pytestmark = [pytest.mark.lab]

ROOT = Path(__file__).parents[2]
ETH0 = "Pool-wide network associated with eth0"
DRIVER = registry.get("xapi")


def endpoint(host: StandIn, **credentials) -> Endpoint:
    given = {"username": USERNAME, "password": PASSWORD, "ca_certificate": host.ca} | credentials
    return Endpoint(driver="xapi", uri=host.uri, credentials=Credentials(**given))


@pytest.fixture
def session(xapi_host: StandIn) -> Iterator[XapiSession]:
    opened = DRIVER.open(endpoint(xapi_host))
    yield opened
    opened.close()


@pytest.fixture
def mischief(own_xapi_host: StandIn) -> StandIn:
    """A host that a test may break."""
    return own_xapi_host


@pytest.fixture
def own_session(mischief: StandIn) -> Iterator[XapiSession]:
    opened = DRIVER.open(endpoint(mischief))
    yield opened
    opened.close()


class TestConformance(Conformance):
    @pytest.fixture
    def lab(self, xapi_host: StandIn, session: XapiSession) -> Lab:
        def make() -> GuestRef:
            uuid = xapi_host.make()
            return GuestRef(uuid=uuid, name=xapi_host.api.VM.get_name_label(xapi_host.ref(uuid)))

        def spec() -> GuestSpec:
            name = f"vmmtest-{uuid.uuid4().hex[:8]}"
            disk = session.volume_create("Local storage", VolumeSpec(name=name, capacity_bytes=1 << 24, format="vdi"))
            disc = session.volume("CD images", "install.iso")
            return GuestSpec(
                name=name, uuid=str(uuid.uuid4()), vcpus=2, memory_bytes=64 << 20,
                disks=(
                    DiskSpec(pool="Local storage", volume=name, path=disk.path, format="vdi"),
                    DiskSpec(pool="CD images", volume=disc.name, path="", device="cdrom", readonly=True),
                ),
                interfaces=(NicSpec(network=ETH0, mac="00:16:3e:12:34:56"),),
            )  # fmt: skip

        def addressed() -> GuestRef:
            ref = make()
            session.start(ref)
            xapi_host.tell_address(ref.uuid, "192.0.2.17")
            return ref

        return Lab(
            driver=DRIVER, endpoint=endpoint(xapi_host), session=session, spec=spec, addressed=addressed,
            make=make, make_shell=make, make_screen=make, killed="", given_pool="Local storage", network=ETH0,
        )  # fmt: skip


# -- snapshots ---------------------------------------------------------------------------------------------------------
def kept(host: StandIn, session: XapiSession, *names: str) -> GuestRef:
    ref = GuestRef(uuid=host.make())
    for name in names:
        session.snapshot_create(ref, SnapshotSpec(name=name))
    return ref


def test_a_deleted_snapshot_takes_its_copies_along_and_no_disk_that_is_none(xapi_host, session):
    ref = kept(xapi_host, session, "one", "two")
    api = xapi_host.api
    own = api.VBD.get_VDI(api.VM.get_VBDs(xapi_host.ref(ref.uuid))[0])
    snapshots = {api.VM.get_name_label(each): each for each in api.VM.get_snapshots(xapi_host.ref(ref.uuid))}
    drives = {name: api.VM.get_VBDs(each)[0] for name, each in snapshots.items()}
    copy = api.VBD.get_VDI(drives["one"])
    api.VBD.set_VDI(drives["two"], own)  # a record that lies: the guest's own disk as the snapshot's
    session.snapshot_delete(ref, "one", children=True)
    left = set(api.VDI.get_all())
    assert copy not in left
    assert own in left
    assert list(session.snapshots(ref)) == []


def test_two_snapshots_of_one_name_are_told_apart(xapi_host, session):
    ref = kept(xapi_host, session, "twin", "other")
    first, second = xapi_host.api.VM.get_snapshots(xapi_host.ref(ref.uuid))
    xapi_host.api.VM.set_name_label(second, "twin")
    names = [info.name for info in session.snapshots(ref)]
    assert len(set(names)) == 2
    assert all(name.startswith("twin [") for name in names)
    session.snapshot_delete(ref, names[0])
    assert [info.name for info in session.snapshots(ref)] == ["twin"]
    assert xapi_host.api.VM.get_snapshots(xapi_host.ref(ref.uuid)) in ([first], [second])


def test_a_saved_guest_comes_back_saved_and_one_with_memory_runs(xapi_host, session):
    ref = kept(xapi_host, session)
    session.start(ref)
    session.snapshot_create(ref, SnapshotSpec(name="alive", memory=True))
    session.managed_save(ref)
    session.snapshot_create(ref, SnapshotSpec(name="saved"))
    session.snapshot_revert(ref, "alive")
    assert session.guest_state(ref)[0] is GuestState.RUNNING
    session.snapshot_revert(ref, "saved")
    assert session.guest(ref).has_managed_save


def test_snapshots_make_news(xapi_host, session):
    news = News(session)
    ref = kept(xapi_host, session, "one")
    assert news.expect(ref, "changed").snapshots
    session.snapshot_delete(ref, "one")
    assert news.expect(ref, "changed").snapshots


@pytest.mark.parametrize(
    "row", [{}, {"name_label": 7, "parent": [], "snapshot_time": "today", "snapshot_info": "x"}, {"power_state": None}]
)
def test_a_snapshot_that_cannot_be_read_is_a_plain_one(row):
    (info,) = snapshots.infos({"parent": "OpaqueRef:other"}, {"OpaqueRef:1": row}).values()
    assert (info.memory, info.state, info.parent, info.created_at) == (False, GuestState.SHUTOFF, "", 0.0)
    assert info.name


# -- who may ----------------------------------------------------------------------------------------------------------
def test_open_when_the_password_is_wrong_then_authentication_failed(xapi_host):
    with pytest.raises(AuthFailed, match="user name or the password"):
        DRIVER.open(endpoint(xapi_host, password="other"))


def test_open_when_the_role_only_reads_then_verbs_are_refused_with_the_reason(xapi_host):
    session = DRIVER.open(endpoint(xapi_host, username="reader"))
    try:
        support = session.capabilities()
        assert not support[Feature.START].supported
        assert "role" in support[Feature.START].reason
        assert support[Feature.METRICS_CPU].supported
        assert session.host_info().hostname == "xcp1"
        with pytest.raises(Denied):
            session.start(GuestRef(uuid=xapi_host.make()))
    finally:
        session.close()


def test_a_session_when_it_has_expired_then_it_is_renewed_once_and_unseen(xapi_host, session):
    before = xapi_host.order(counts=True)["session.login_with_password"]
    uuid = xapi_host.make()
    xapi_host.order(expire=True)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: session.guest(GuestRef(uuid=uuid)).uuid, range(8)))
    assert found == [uuid] * 8
    assert xapi_host.order(counts=True)["session.login_with_password"] == before + 1
    xapi_host.__dict__.pop("_client")("close")()


def test_open_at_a_member_of_a_pool_then_the_master_is_named_and_not_followed(mischief):
    mischief.order(refuse={"session.login_with_password": ["HOST_IS_SLAVE", "192.0.2.7"]})
    with pytest.raises(Unreachable, match=r"192\.0\.2\.7") as refusal:
        DRIVER.open(endpoint(mischief))
    assert refusal.value.context["master"] == "192.0.2.7"


def test_nothing_that_is_shown_has_the_password_or_the_session(xapi_host, session):
    secret = session._wire._session
    for shown in (session, session._wire, session._wire.target, session.endpoint):
        assert PASSWORD not in repr(shown)
        assert secret not in repr(shown)
    with pytest.raises(DriverError) as error:
        session._wire.call("VM.get_record", secret)
    assert secret not in f"{error.value.detail}{error.value.context}"


# -- TLS --------------------------------------------------------------------------------------------------------------
def test_open_when_nobody_vouches_for_the_certificate_then_tls_failed(xapi_host):
    with pytest.raises(TlsFailed, match="not trusted"):
        DRIVER.open(endpoint(xapi_host, ca_certificate=""))


def test_open_with_a_pin_then_only_that_certificate_is_believed(xapi_host):
    DRIVER.open(endpoint(xapi_host, ca_certificate="", verify=xapi_host.pin)).close()
    with pytest.raises(TlsFailed, match="another one than expected"):
        DRIVER.open(endpoint(xapi_host, ca_certificate="", verify="sha256:" + "0" * 64))
    DRIVER.open(endpoint(xapi_host, ca_certificate="", verify=False)).close()


# -- a server that hangs or lies --------------------------------------------------------------------------------------
def test_a_call_when_the_server_hangs_then_timeout_within_its_deadline(mischief, own_session, monkeypatch):
    mischief.order(hang="host.get_all_records")
    monkeypatch.setattr(wire, "CALL_SECONDS", 0.5)
    with pytest.raises(Timeout):
        own_session._wire.call("host.get_all_records", seconds=0.5)
    assert own_session.guests() is not None


def test_the_loss_of_a_frozen_host_is_told_once(mischief, own_session, monkeypatch):
    monkeypatch.setattr(events, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(events, "GRACE_SECONDS", 0.5)
    told = []
    own_session.on_close(told.append)
    own_session.subscribe(lambda event: None)
    mischief.freeze()
    try:
        wait_until(lambda: told, 10, "the loss")
        assert not own_session.alive()
        with pytest.raises(Unreachable):
            own_session.guests()
    finally:
        mischief.thaw()
    assert len(told) == 1


def test_the_loss_without_subscribers_is_noticed_by_the_heartbeat(mischief, monkeypatch):
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(events, "HEARTBEAT_CALL_SECONDS", 1.0)
    session = DRIVER.open(endpoint(mischief))
    told = []
    session.on_close(told.append)
    mischief.process.kill()
    wait_until(lambda: told, 10, "the loss")
    assert not session.alive()
    session.close()


LIES = {
    "no XML": "nonsense",
    "nothing": "",
    "cut off": "<methodResponse><params>",
    "no status": xmlrpc.client.dumps(({},), methodresponse=True),
    "a number": xmlrpc.client.dumps((7,), methodresponse=True),
    "a fault": xmlrpc.client.dumps(xmlrpc.client.Fault(1, "no")),
    "no table": xmlrpc.client.dumps(({"Status": "Success", "Value": [1, 2]},), methodresponse=True),
    "an odd error": xmlrpc.client.dumps(({"Status": "Failure", "ErrorDescription": 7},), methodresponse=True),
    "an empty error": xmlrpc.client.dumps(({"Status": "Failure", "ErrorDescription": []},), methodresponse=True),
    "entities": '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><methodResponse>&b;</methodResponse>',
    "a file": '<!DOCTYPE a SYSTEM "file:///etc/passwd"><methodResponse/>',
    "depth": "<methodResponse><params><param>" + "<value><array><data>" * 5000,
    "bad number": "<methodResponse><params><param><value><int>x</int></value></param></params></methodResponse>",
}


@pytest.mark.parametrize("lie", LIES)
def test_nonsense_for_an_answer_then_a_driver_error(mischief, own_session, lie):
    mischief.order(lie={"VM.get_all_records": LIES[lie], "/rrd_updates": LIES[lie] or " "})
    with pytest.raises(DriverError):
        own_session.guests()
    with pytest.raises(DriverError):
        own_session.stats()


@pytest.mark.parametrize("value", [None, 7, "", [], {}, {"a": {"b": 1}}, [[1]], "NaN", True])
def test_records_of_the_wrong_types_are_read_as_empty(value):
    fields = [
        "name_label", "power_state", "current_operations", "VBDs", "VIFs", "metrics", "other_config", "domain_type",
        "memory_target", "memory_static_max", "HVM_boot_params", "VCPUs_at_startup", "guest_metrics",
    ]  # fmt: skip
    vm = {"uuid": "11111111-1111-1111-1111-111111111111"} | dict.fromkeys(fields, value)
    info = records.guest_info(vm, records.Around(vbds={"": {}}, metrics={"": {"VCPUs_number": value}}))
    assert info.name in ("", "NaN")
    assert info.vcpus == 1
    assert (
        events.Ledger(print).tell({"events": [{"class": "vm", "ref": "x", "snapshot": vm}, value], "token": "1"}) == "1"
    )


def test_an_answer_when_it_is_larger_than_allowed_then_garbled(mischief, own_session, monkeypatch):
    monkeypatch.setattr(wire, "ANSWER_BYTES", 1000)
    mischief.order(lie={"VM.get_all_records": " " * 2000})
    with pytest.raises(Garbled, match="larger"):
        own_session.guests()


# -- errors -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("code", TABLE)
def test_each_code_has_its_error_and_a_sentence(code):
    error = driver_error([code, "OpaqueRef:secret", "some words"])
    assert type(error) is TABLE[code].error
    assert error.detail.endswith((".", "!", "?"))
    assert "OpaqueRef" not in f"{error.detail}{error.context}"


def test_an_unknown_code_is_told_in_its_own_words():
    error = driver_error(["SR_BACKEND_FAILURE_46", "", "The VDI is not available", "OpaqueRef:1"])
    assert type(error) is DriverError
    assert error.detail == "Sr backend failure 46: The VDI is not available."
    state = driver_error(["VM_BAD_POWER_STATE", "OpaqueRef:1", "running", "halted"])
    assert state.detail == "The guest is halted; it would have to be running."
    assert isinstance(driver_error("nonsense"), Garbled)


# -- guests -----------------------------------------------------------------------------------------------------------
def test_guests_when_there_are_many_then_no_more_calls(xapi_host, session):
    session.guests()
    before = session._wire.calls
    session.guests()
    first = session._wire.calls - before
    for _ in range(5):
        xapi_host.make()
    before = session._wire.calls
    session.guests()
    assert session._wire.calls - before == first == 9


def test_templates_snapshots_and_control_domains_are_no_guests(xapi_host, session):
    names = {info.name for info in session.guests()}
    assert names.isdisjoint({"Control domain", "Other install media", "before the update"})
    for row in xapi_host.api.VM.get_all_records().values():
        if row["name_label"] in ("Control domain", "Other install media", "before the update"):
            assert session.guest_or_none(GuestRef(uuid=row["uuid"])) is None
            with pytest.raises(NotFound):
                session.force_off(GuestRef(uuid=row["uuid"]))


def test_a_guest_has_what_its_records_say(xapi_host, session):
    info = session.guest(GuestRef(uuid=xapi_host.make("web", domain_type="pvh", name_description="shop")))
    assert (info.name, info.description, info.domain_type) == ("web", "shop", "pvh")
    assert info.techniques == (Technique.PARAVIRTUALIZATION, Technique.HARDWARE_ASSISTED)
    assert [(disk.target, disk.device, disk.size_bytes) for disk in info.disks] == [
        ("xvda", "disk", 2**30),
        ("xvdd", "cdrom", None),
    ]
    assert info.interfaces[0].mac.startswith("00:16:3e:")
    assert info.interfaces[0].network == "Pool-wide network associated with eth0"


def test_a_saved_guest_cannot_be_forced_off_unawares(xapi_host, session):
    ref = GuestRef(uuid=xapi_host.make())
    session.start(ref)
    session.managed_save(ref)
    with pytest.raises(WrongState, match="saved"):
        session.force_off(ref)
    assert session.guest(ref).has_managed_save


def test_shutdown_when_the_guest_is_deaf_then_at_once_and_it_is_shutting_down(xapi_host, session):
    ref = GuestRef(uuid=xapi_host.make(other_config={"lab_deaf": "true"}))
    session.start(ref)
    session.shutdown(ref)
    assert session.guest_state(ref)[0] is GuestState.SHUTTING_DOWN
    with pytest.raises(Busy):
        session.shutdown(ref)
    session.force_off(ref)
    assert session.guest_state(ref)[0] is GuestState.SHUTOFF


def test_shutdown_when_the_guest_has_no_drivers_then_the_agent_is_named(xapi_host, session):
    ref = GuestRef(uuid=xapi_host.make(other_config={"lab_no_drivers": "true"}))
    session.start(ref)
    with pytest.raises(AgentUnresponsive, match="tools"):
        session.shutdown(ref)


def test_long_work_when_it_takes_too_long_then_timeout_and_it_goes_on_there(xapi_host, session):
    ref = GuestRef(uuid=xapi_host.make(other_config={"lab_deaf": "true"}))
    session.start(ref)
    opaque = xapi_host.ref(ref.uuid)
    with pytest.raises(Timeout, match="goes on"):
        session._tasks.run("VM.clean_shutdown", opaque, seconds=0.3)
    xapi_host.api.VM.remove_from_other_config(opaque, "lab_deaf")
    wait_until(lambda: session.guest_state(ref)[0] is GuestState.SHUTOFF, 10, "the shutdown")


def test_long_work_when_news_of_it_were_lost_then_it_is_asked_again(mischief, own_session):
    ref = GuestRef(uuid=mischief.make())
    mischief.order(lose_events="task")
    own_session.start(ref)
    assert own_session.guest_state(ref)[0] is GuestState.RUNNING


def test_tasks_when_they_have_ended_are_removed(xapi_host, session):
    ref = GuestRef(uuid=xapi_host.make())
    before = len(xapi_host.api.task.get_all())
    session.start(ref)
    session.force_off(ref)
    with pytest.raises(WrongState):
        session.force_off(ref)
    assert len(xapi_host.api.task.get_all()) == before


def test_autostart_when_the_pool_would_start_others_too_then_unsafe(mischief, own_session):
    mischief.make("sleeper", other_config={"auto_poweron": "true"})
    ref = GuestRef(uuid=mischief.make())
    with pytest.raises(Unsafe, match="sleeper"):
        own_session.set_autostart(ref, enabled=True)
    assert not own_session.guest(ref).autostart


# -- news -------------------------------------------------------------------------------------------------------------
def test_news_when_some_were_lost_then_everything_is_read_again(mischief, own_session, monkeypatch):
    monkeypatch.setattr(events, "POLL_SECONDS", 0.2)
    gone, kept = GuestRef(uuid=mischief.make()), GuestRef(uuid=mischief.make())
    news = News(own_session)
    mischief.order(lose_events="vm")
    own_session.undefine(gone)
    assert news.expect(gone, "undefined").kind is GuestEventKind.UNDEFINED
    mischief.api.VM.set_name_label(mischief.ref(kept.uuid), "renamed")
    assert news.expect(kept, "changed").name == "renamed"
    assert own_session.alive()


def test_news_of_a_disk_that_is_put_in(xapi_host, session):
    ref = GuestRef(uuid=xapi_host.make())
    news = News(session)
    drive = xapi_host.api.VM.get_VBDs(xapi_host.ref(ref.uuid))[1]
    xapi_host.api.VBD.set_VDI(drive, "OpaqueRef:some-disk")
    news.expect(ref, "changed/vbd")


def test_news_come_within_milliseconds(xapi_host, session, capsys):
    ref = GuestRef(uuid=xapi_host.make())
    news = News(session)
    opaque = xapi_host.ref(ref.uuid)
    began = time.monotonic()
    xapi_host.api.VM.start(opaque, False, False)
    event = news.expect(ref, "started")
    with capsys.disabled():
        print(f" [news after {(event.at - began) * 1000:.0f} ms] ", end="")


# -- counters ---------------------------------------------------------------------------------------------------------
def test_counters_are_what_the_rates_add_up_to(xapi_host, session):
    ref = GuestRef(uuid=xapi_host.make())
    session.start(ref)

    def counters():
        return next((each for each in session.stats() if each.uuid == ref.uuid), None)

    first = wait_until(counters, 10, "counters")
    later = wait_until(lambda: (now := counters()) and now.at > first.at + 1.5 and now, 10, "later counters")
    seconds = later.at - first.at
    assert (later.cpu_time_seconds - first.cpu_time_seconds) / seconds == pytest.approx(0.25)
    assert (later.disk_read_bytes - first.disk_read_bytes) / seconds == pytest.approx(1024)
    assert (later.disk_write_requests - first.disk_write_requests) / seconds == pytest.approx(1)
    assert (later.network_transmit_bytes - first.network_transmit_bytes) / seconds == pytest.approx(4096)
    assert later.memory_bytes == (256 << 20) - (256 << 20) // 4


def test_the_hosts_own_domain_is_not_counted_and_the_host_is(xapi_host, session):
    for row in xapi_host.api.VM.get_all_records().values():
        if row["is_control_domain"]:
            assert row["uuid"] not in {each.uuid for each in session.stats()}
    host = session.host_stats()
    assert (host.memory_total_bytes, host.memory_free_bytes) == (16 << 30, 8 << 30)


def test_counters_of_many_strangers_when_told_then_few_calls_and_none_is_a_guest(mischief, own_session):
    own_session.stats()
    names = [f"AVERAGE:vm:{number:08d}-1111-1111-1111-111111111111:cpu0" for number in range(500)]
    legend = "".join(f"<entry>{name}</entry>" for name in names)
    row = f"<row><t>9000000000</t>{'<v>1.0</v>' * len(names)}</row>"
    text = f"<xport><meta><step>5</step><end>9000000000</end><legend>{legend}</legend></meta><data>{row}</data></xport>"
    mischief.order(lie={"/rrd_updates": text})
    before = own_session._wire.calls
    wait_until(lambda: own_session._counters.read("vm").keys() >= {names[499][11:47]}, 5, "the strangers")
    assert own_session.stats() == []
    assert own_session._wire.calls - before < 10


def test_numbers_when_they_are_absurd_then_bounded():
    vm = {"uuid": "11111111-1111-1111-1111-111111111111", "memory_static_max": "9" * 19, "VCPUs_at_startup": "9" * 19}
    info = records.guest_info(vm, records.Around())
    assert info.max_memory_bytes < 2**62
    assert info.vcpus < 2**31


def test_a_clock_that_was_set_back_does_not_stop_the_counters():
    rows = iter([(1000, 1000), (1005, 1005), (500, 500), (505, 505)])

    def fetch(_path: str) -> bytes:
        end, moment = next(rows)
        uuid = "11111111-1111-1111-1111-111111111111"
        legend = f"<legend><entry>AVERAGE:vm:{uuid}:cpu0</entry></legend>"
        row = f"<row><t>{moment}</t><v>1.0</v></row>"
        return f"<xport><meta><step>5</step><end>{end}</end>{legend}</meta><data>{row}</data></xport>".encode()

    source = stats.Source(fetch, lambda: 1000)
    totals = []
    for _ in range(4):
        source.update()
        totals += [counted.totals["cpu"] for counted in source.counted.values()]
    assert totals == [0.0, 5.0, 5.0, 10.0]


# -- the screen -------------------------------------------------------------------------------------------------------
def test_the_screen_when_asked_for_a_picture_then_it_sends_one(xapi_host, session):
    ref = GuestRef(uuid=xapi_host.make())
    session.start(ref)
    console = session.open_console(ref, "vnc")
    read_until(console, b"\n")
    for said, bytes_back in ((b"RFB 003.008\n", 2), (b"\x01", 4), (b"\x01", 24 + len("xapi-sim"))):
        console.write(said)
        wait_until(lambda size=bytes_back: console.read(size, timeout_seconds=2), 5, "an answer")
    console.write(struct.pack(">BBHHHH", 3, 0, 0, 0, 64, 48))
    picture = b""
    while len(picture) < 16 + 64 * 48 * 4:
        picture += console.read(timeout_seconds=5) or pytest.fail("no picture")
    assert picture[16:20] == b"\x80\x80\x80\x00"
    console.close()


def test_close_wakes_who_reads_the_screen(xapi_host, session):
    ref = GuestRef(uuid=xapi_host.make())
    session.start(ref)
    console = session.open_console(ref, "vnc")
    read_until(console, b"\n")
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(console.read, timeout_seconds=60)
        console.close()
        assert reading.result(5) == b""
    console.close()
    with pytest.raises(Unreachable):
        console.write(b"x")


# -- pools ------------------------------------------------------------------------------------------------------------
def test_a_pool_of_several_hosts_is_summed_up(xapi_pool):
    session = DRIVER.open(endpoint(xapi_pool))
    try:
        info = session.host_info()
        assert (info.cpu_count, info.memory_total_bytes) == (4, 32 << 30)
        assert info.host_uuid == xapi_pool.api.pool.get_all_records().popitem()[1]["uuid"]
    finally:
        session.close()


@pytest.mark.parametrize("address", ["169.254.169.254", "224.0.0.1", "", "intranet", "0.0.0.0"])
def test_a_member_at_an_address_that_no_host_has_is_not_visited(xapi_pool, address):
    api = xapi_pool.api
    session = DRIVER.open(endpoint(xapi_pool))
    try:
        member = next(ref for ref in api.host.get_all() if ref != session._members.here)
        api.host.set_address(member, address)
        with pytest.raises(Unreachable):
            session._members.target(member)
    finally:
        session.close()
        api.host.set_address(member, "127.0.0.1")


def test_a_member_when_the_master_is_pinned_then_by_the_certificate_that_the_master_names(xapi_pool):
    session = DRIVER.open(endpoint(xapi_pool, ca_certificate="", verify=xapi_pool.pin))
    try:
        member = next(ref for ref in xapi_pool.api.host.get_all() if ref != session._members.here)
        target = session._members.target(member)
        with pytest.raises(TlsFailed):
            wire.dial(target)  # the stand-in's hosts all have the first one's certificate
    finally:
        session.close()


def test_a_guest_on_a_member_shows_its_screen_from_there(xapi_pool):
    api = xapi_pool.api
    session = DRIVER.open(endpoint(xapi_pool))
    try:
        ref = GuestRef(uuid=xapi_pool.make())
        session.start(ref)
        member = next(each for each in api.host.get_all() if each != session._members.here)
        api.VM.set_resident_on(xapi_pool.ref(ref.uuid), member)
        console = session.open_console(ref, "vnc")
        assert read_until(console, b"\n").startswith(b"RFB 003.")
        console.close()
    finally:
        session.close()


def test_the_score_card_says_what_is_declared():
    lines = (ROOT / "drivers/xapi/STATUS.md").read_text().splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]
    assert [row[0] for row in table] == [str(feature) for feature in Feature]
    for feature, word in table:
        assert word in {"done", "exempt", "todo"}
        assert (word == "done") is (Feature(feature) in DRIVER.features), feature


# -- the end ----------------------------------------------------------------------------------------------------------
def listeners() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("xapi-")}


def test_a_loss_when_news_were_refused_before_is_noticed_all_the_same(mischief, own_session):
    mischief.order(refuse={"event.from": ["INTERNAL_ERROR", "no news today"]})
    before = listeners()
    with pytest.raises(DriverError):
        own_session.subscribe(lambda _event: None)
    own_session.on_close(lambda _reason: None)
    assert len(listeners() - before) == 1


def test_a_session_when_closed_then_nobody_listens_any_more(mischief, own_session):
    before = listeners()
    own_session.close()
    own_session.close()
    own_session.on_close(lambda _reason: pytest.fail("nothing was lost"))
    with pytest.raises(Unreachable):
        own_session.subscribe(lambda _event: None)
    assert not listeners() - before


# -- new guests --------------------------------------------------------------------------------------------------------
@pytest.fixture
def site(mischief: StandIn, transactional_db, workers) -> Iterator[Hypervisor]:
    """A host as a managed one."""
    with managed(endpoint(mischief)) as hypervisor:
        yield hypervisor


def asked(hypervisor: Hypervisor, **values) -> dict:
    return {
        "name": "rest", "hypervisor": str(hypervisor.pk), "memory_bytes": 1 << 28, "title": "The front", "tags": ["prod"],
        "disks": [{"size_bytes": 1 << 30, "pool": "Local storage"}, {"image": "install.iso"}],
        "interfaces": [{"network": ETH0}], "boot": {"firmware": "uefi"},
    } | values  # fmt: skip


def test_a_guest_is_made_over_rest_and_goes_with_its_disk(api, mischief, site):
    draft = api.post("/vms?dry_run=true", asked(site)).json()
    assert '"device-model": "qemu-upstream-compat"' in draft["definition"]
    assert draft["spec"]["interfaces"][0]["mac"].startswith("00:16:3e:")
    before = set(mischief.api.VDI.get_all())
    ended = made(api, asked(site, wait_for="running"))
    assert ended["state"] == "succeeded", ended
    vm = api.get(f"/vms/{ended['result']['vm']}").json()
    assert (vm["state"], vm["title"], vm["tags"], vm["boot"]["firmware"]) == ("running", "The front", ["prod"], "uefi")
    assert sorted(disk["pool"] for disk in vm["disks"]) == ["CD images", "Local storage"]
    row = mischief.api.VM.get_record(mischief.ref(vm["uuid"]))
    drives = {mischief.api.VBD.get_userdevice(each): mischief.api.VBD.get_type(each) for each in row["VBDs"]}
    assert (drives, row["other_config"]["vmmanager.uuid"]) == ({"0": "Disk", "3": "CD"}, vm["id"])
    [disk] = set(mischief.api.VDI.get_all()) - before
    label = mischief.api.VDI.get_name_label(disk)
    assert [one["volume"] for one in gone(api, vm["id"])["volumes"]] == [label]
    assert set(mischief.api.VDI.get_all()) == before


def test_what_was_made_for_a_guest_that_could_not_be_made_is_taken_away(api, mischief, site):
    before = (set(mischief.api.VDI.get_all()), set(mischief.api.VM.get_all()))
    mischief.order(refuse={"VIF.create": ["MAC_INVALID", "x"]})
    ended = made(api, asked(site))
    assert (ended["state"], ended["error"]["code"]) == ("failed", "invalid_definition")
    assert (set(mischief.api.VDI.get_all()), set(mischief.api.VM.get_all())) == before


def test_nothing_is_written_into_disks(api, site):
    for values, pointer in (
        ({"cloud_init": {}}, "/cloud_init"),
        ({"disks": [{"image": "install.iso", "clone": "full", "pool": "Local storage"}]}, "/disks/0/image"),
        ({"disks": [{"size_bytes": 1 << 30, "pool": "CD images"}]}, "/disks/0/pool"),
    ):
        answer = api.post("/vms", asked(site, **values))
        assert [one["pointer"] for one in answer.json()["errors"]] == [pointer], answer.content


def test_what_an_interrupted_attempt_left_out_is_added(mischief, own_session):
    spec = GuestSpec(
        name="twice", uuid=str(uuid.uuid4()), memory_bytes=1 << 26, interfaces=(NicSpec(network=ETH0), NicSpec(network=ETH0))
    )  # fmt: skip
    mischief.order(refuse={"VIF.create": ["TOO_BUSY"]})
    with pytest.raises(Busy):
        own_session.create(spec)
    mischief.order(clear=True)
    info = own_session.create(spec)
    assert len(info.interfaces) == 2
    assert [one.uuid for one in own_session.guests() if one.name == "twice"] == [info.uuid]


def test_a_disk_of_a_guest_or_of_its_snapshot_is_not_deleted(xapi_host, session):
    ref = kept(xapi_host, session, "before")
    label = f"{xapi_host.api.VM.get_name_label(xapi_host.ref(ref.uuid))} disk ["
    disks = [one.name for one in session.volumes("Local storage") if one.name.startswith(label)]
    assert len(disks) == 2
    assert session.guest(ref).disks[0].source in disks
    for name in disks:
        with pytest.raises(Busy, match="belongs to"):
            session.volume_delete("Local storage", name)


def test_repositories_of_one_name_are_told_apart_and_drives_are_none(mischief, own_session):
    first = mischief.api.SR.get_all_records()
    twin = next(row for row in first.values() if row["name_label"] == "Local storage")
    mischief.api.SR.lab_put({**twin, "uuid": "0b7f0f4e-53a4-4f3e-9c0e-2f6a5f3f1d11", "PBDs": []})
    found = {one.name: one for one in own_session.pools()}
    assert set(found) == {"CD images", f"Local storage [{twin['uuid'][:8]}]", "Local storage [0b7f0f4e]"}
    other = found["Local storage [0b7f0f4e]"]
    assert (other.state, other.capacity_bytes) == (StorageState.INACTIVE, None)
    assert own_session.guest(GuestRef(uuid=mischief.make())).disks[0].pool == f"Local storage [{twin['uuid'][:8]}]"
