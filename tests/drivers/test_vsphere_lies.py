"""The vSphere driver against a server that lies: whatever it says, and however, ends as a DriverError or as something sensible."""

from __future__ import annotations

import gzip
import re
import threading
import time

import pytest

from drivers import answers, registry
from drivers.errors import AuthFailed, DriverError, Timeout, TlsFailed, Unreachable
from drivers.types import Credentials, Endpoint, GuestRef, SnapshotSpec
from drivers.vsphere import events, wire
from drivers.vsphere.errors import Garbled
from tests.drivers import servers
from tests.drivers.vsphere_liar import Liar, say
from tests.labs.esx import PASSWORD, USERNAME
from tests.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]  # the first test may build the simulator

READ = "RetrievePropertiesEx"


@pytest.fixture
def liar(esx_host, tmp_path):
    with Liar(esx_host, tmp_path).serving() as liar:
        yield liar


def endpoint_at(uri: str, **changes) -> Endpoint:
    return Endpoint(driver="esx", uri=uri, credentials=Credentials(username=USERNAME, password=PASSWORD, **changes))


def opened(liar):
    return registry.get("esx").open(endpoint_at(liar.uri, ca_certificate=liar.ca))


@pytest.fixture
def session(liar):
    session = opened(liar)
    yield session
    session.close()


@pytest.fixture
def ref(esx_host, session):
    return session.guest(GuestRef(uuid=esx_host.make())).ref


def replacing(pattern: bytes, by: bytes):
    def lie(handler, answer):
        say(handler, re.sub(pattern, by, answer))

    return lie


def saying(body: bytes, status: int = 200, **headers: str):
    return lambda handler, _answer: say(handler, body, status, **headers)


def cut(handler, answer):
    """Promise it all, say half, and hang up."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(answer)))
    handler.end_headers()
    handler.wfile.write(answer[: len(answer) // 2])
    handler.close_connection = True


def deaf(handler, _answer):
    threading.Event().wait(3)


def dripping(handler, answer):
    """A byte now and then: never silent, never done."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(answer)))
    handler.end_headers()
    for place in range(100):
        handler.wfile.write(answer[place : place + 1])
        handler.wfile.flush()
        threading.Event().wait(0.1)


ENVELOPE = b'<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>%s</soapenv:Body></soapenv:Envelope>'
BOMB = (
    b'<!DOCTYPE a [<!ENTITY x "' + b"y" * 1000 + b'">]>' + ENVELOPE % (b"<aResponse>" + b"&x;" * 1000 + b"</aResponse>")
)
DAMAGED = {
    "nothing": saying(b""),
    "no XML": saying(b"hello"),
    "HTML": saying(b"<html><body>Welcome</body></html>"),
    "not UTF-8": replacing(rb"<name>", b"\xff\xfe<name>"),
    "half": lambda handler, answer: say(handler, answer[: len(answer) // 2]),
    "cut off": cut,
    "a document type": saying(BOMB),
    "deep": saying(ENVELOPE % (b"<aResponse>" + b"<a>" * 50_000)),
    "another type": replacing(rb"<returnval>", b'<returnval xsi:type="xsd:string">'),
    "an unknown type": replacing(rb"<returnval>", b'<returnval xsi:type="Nonsense">'),
    "a fault without a fault": saying(ENVELOPE % b"<soapenv:Fault><faultstring>x</faultstring></soapenv:Fault>", 500),
    "an answer as a fault": lambda handler, answer: say(handler, answer, 500),
    "a redirect": saying(b"", 302, Location="https://example.org/"),
    "not found": saying(b"", 404),
    "no teapot": saying(b"", 418),
    "broken gzip": saying(b"\x1f\x8bnonsense", **{"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_answer_is_the_hypervisors_fault(liar, session, name):
    liar.on(READ, DAMAGED[name])
    with pytest.raises(DriverError):
        session.guests()
    liar.lie = None
    assert isinstance(session.guests(), list)


@pytest.mark.parametrize("name", ["nothing", "half", "another type", "not found"])
@pytest.mark.parametrize(
    "method", ["RetrieveServiceContent", "Login", "CreateContainerView", READ, "QueryPerfProviderSummary"]
)
def test_no_damage_gets_out_of_opening(liar, method, name):
    liar.on(method, DAMAGED[name])
    try:
        opened(liar).close()
    except DriverError:
        return


ODD = {
    "uuid": (rb"<val xsi:type=\"xsd:string\">[0-9a-f-]{36}</val>", b'<val xsi:type="xsd:string">zz</val>'),
    "state": (rb">powered(On|Off)<", b">poweredSideways<"),
    "number": (rb"(<val xsi:type=\"xsd:int\">)\d+", rb"\1-7"),
    "large number": (rb"(<val xsi:type=\"xsd:int\">)\d+", rb"\g<1>99999999999999999999999"),
    "no number": (rb"(<val xsi:type=\"xsd:int\">)\d+", rb"\1many"),
    "text for number": (rb"<val xsi:type=\"xsd:int\">", b'<val xsi:type="xsd:string">'),
    "number for text": (rb"<val xsi:type=\"xsd:string\">[^<]*", b'<val xsi:type="xsd:int">7'),
    "another object": (rb"<obj type=\"VirtualMachine\">", b'<obj type="HostSystem">'),
    "an unknown object": (rb"<obj type=\"VirtualMachine\">", b'<obj type="Toaster">'),
    "no properties": (rb"(?s)<propSet>.*?</propSet>", b""),
    "a text of devices": (rb"ArrayOfVirtualDevice", b"ArrayOfString"),
    "a long name": (rb"(<name>name</name><val xsi:type=\"xsd:string\">)", rb"\1" + b"x" * 100_000),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_value_spoils_one_guest_at_most(liar, session, ref, name):
    session._hardware = {}
    liar.on(READ, replacing(*ODD[name]))
    try:
        found = session.guests()
    except DriverError:
        return
    for info in found:
        assert answers._is_guest(info)
        assert info.vcpus >= 1
        assert 0 <= info.memory_bytes < 2**63
        assert len(info.name) < 20_000


@pytest.mark.parametrize("name", ["half", "another type", "an answer as a fault"])
@pytest.mark.parametrize(
    "method", ["PowerOnVM_Task", READ, "QueryPerf", "AcquireTicket", "FindByUuid", "CreateSnapshot_Task"]
)
def test_verbs_raise_nothing_but_our_errors(liar, session, ref, method, name):
    session.start(ref)
    session.force_off(ref) if method == "PowerOnVM_Task" else None
    liar.on(method, DAMAGED[name])
    verbs = (session.start, lambda ref: session.open_console(ref, "vnc"), session.guest_state)
    snapshots = (session.snapshots, lambda ref: session.snapshot_create(ref, SnapshotSpec(name="a snapshot")))
    for verb in (*verbs, *snapshots, lambda _ref: session.stats(), lambda _ref: session.host_stats()):
        try:
            verb(ref)
        except DriverError:
            continue
    with pytest.raises(DriverError):
        session.guest(GuestRef(uuid="50000000-0000-0000-0000-000000000001"))


def test_where_samples_are_refused_quick_statistics_count(liar, session, ref):
    session.start(ref)
    detail = b'<detail><InvalidArgumentFault xmlns="urn:vim25"/></detail>'
    liar.on(
        "QueryPerf", saying(ENVELOPE % (b"<soapenv:Fault><faultcode>x</faultcode>%s</soapenv:Fault>" % detail), 500)
    )
    for _ in range(2):
        found = next(each for each in session.stats() if each.uuid == ref.uuid)
        assert found.cpu_time_seconds is not None
        assert found.memory_bytes is not None
        assert found.disk_read_bytes is None
    assert liar.asked.count("QueryPerf") == 1


def test_an_answer_without_end_stops_at_the_limit(liar, session, monkeypatch):
    monkeypatch.setattr(wire, "ANSWER_BYTES", 1 << 20)
    liar.on(READ, saying(b" " * (2 << 20)))
    with pytest.raises(Garbled, match="larger than 1 MiB"):
        session.guests()
    packed = gzip.compress(b" " * (200 << 20), 1)
    liar.on(READ, saying(packed, **{"Content-Encoding": "gzip"}))
    with pytest.raises(Garbled, match="larger than 1 MiB"):
        session.guests()


def test_pages_without_end_come_to_one(liar, session, monkeypatch):
    monkeypatch.setattr("drivers.vsphere.collector._PAGES_MAX", 3)
    liar.on(READ, replacing(rb"<returnval>", b"<returnval><token>more</token>"))
    with pytest.raises(DriverError):
        session.guests()


@pytest.mark.parametrize("lie", [deaf, dripping])
def test_a_call_ends_at_its_deadline_however_slowly_the_answer_comes(liar, session, monkeypatch, lie):
    monkeypatch.setattr(wire, "CALL_SECONDS", 1.0)
    liar.on(READ, lie)
    began = time.monotonic()
    with pytest.raises(Timeout):
        session.guests()
    assert 0.9 < time.monotonic() - began < 3


def test_a_server_that_never_shakes_hands_is_unreachable(monkeypatch):
    monkeypatch.setattr(wire, "CONNECT_SECONDS", 0.5)
    with servers.serving(servers.bound(), servers.mute) as listener, pytest.raises(Unreachable):
        registry.get("esx").open(endpoint_at(f"esx://127.0.0.1:{listener.getsockname()[1]}"))


def test_what_speaks_no_tls_is_told_so():
    with servers.serving(servers.bound(), servers.saying(b"SSH-2.0-OpenSSH\r\n" * 10)) as listener:
        uri = f"esx://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(TlsFailed):
            registry.get("esx").open(endpoint_at(uri))


def test_a_server_that_forgets_everybody_is_asked_to_let_us_in_again_only_once(liar, session):
    session.guests()
    fault = b'<soapenv:Fault><faultcode>x</faultcode><detail><NotAuthenticatedFault xmlns="urn:vim25"/></detail></soapenv:Fault>'
    liar.on(READ, saying(ENVELOPE % fault, 500))
    liar.asked.clear()
    with pytest.raises(AuthFailed):
        session.guests()
    assert liar.asked.count("Login") <= 2


def test_damaged_news_ends_the_connection_once(liar, session, monkeypatch):
    monkeypatch.setattr(events, "WAIT_SECONDS", 1)
    heard: list[str] = []
    session.on_close(heard.append)
    session.subscribe(lambda event: None)
    liar.on("WaitForUpdatesEx", saying(b"nonsense"))
    wait_until(lambda: heard, 15, "the loss")
    assert not session.alive()


def test_empty_news_keeps_no_core_busy(liar, session, monkeypatch):
    monkeypatch.setattr(events, "WAIT_SECONDS", 1)
    session.subscribe(lambda event: None)
    liar.on("WaitForUpdatesEx", saying(ENVELOPE % b'<WaitForUpdatesExResponse xmlns="urn:vim25"/>'))
    wait_until(lambda: liar.asked.count("WaitForUpdatesEx") > 3, 15, "several empty answers")
    before, began = liar.asked.count("WaitForUpdatesEx"), time.monotonic()
    wait_until(lambda: time.monotonic() - began > 0.5, 5)
    assert (liar.asked.count("WaitForUpdatesEx") - before) / (time.monotonic() - began) < 60
