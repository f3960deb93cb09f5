"""Other hosts over TLS, and hosts that die, freeze or go silent: what a session sees of it, and when."""

from __future__ import annotations

import shutil
import threading
import time

import pytest

from drivers import registry
from drivers.errors import AuthFailed, DriverError, Unreachable, Unsupported
from drivers.types import Credentials, Endpoint, Feature, GuestRef, GuestState
from tests.drivers.conformance import News, read_until
from tests.labs import local
from tests.waiting import wait_until

pytestmark = [pytest.mark.real, pytest.mark.chaos]

HOST = 1


def credentials(lab_hosts, **changed) -> Credentials:
    parts = {
        "ca_certificate": (lab_hosts.pki / "cacert.pem").read_text(),
        "certificate": (lab_hosts.pki / "clientcert.pem").read_text(),
        "private_key": (lab_hosts.pki / "clientkey.pem").read_text(),
    }
    return Credentials(**(parts | changed))


@pytest.fixture
def tls(lab_hosts) -> Endpoint:
    uri = f"qemu+tls://{lab_hosts.address(HOST)}/system"
    return Endpoint(driver="qemu", uri=uri, credentials=credentials(lab_hosts))


@pytest.fixture
def unix(lab_hosts) -> Endpoint:
    return Endpoint(driver="qemu", uri=lab_hosts.uri(HOST, "unix"))


@pytest.fixture
def sessions():
    opened = []

    def open_(endpoint: Endpoint):
        session = registry.get(endpoint.driver).open(endpoint)
        opened.append(session)
        return session

    yield open_
    for session in opened:
        session.close()


@pytest.fixture
def guest(lab_hosts):
    """A boot sector on the host, running, with a VNC screen inside it and one that can be reached."""
    name = local.unique_name("remote")
    disk = lab_hosts.shared / f"{name}.raw"
    local.run(local.HERE / "tiny-guest", "bootsector", disk)
    xml = local.run(
        local.HERE / "tiny-guest", "xml", name, lab_hosts.shared, "--mem", "16", "--no-agent", "--boot", "disk",
        "--disk", f"/srv/shared/{disk.name}:raw", "--vnc", "any",
    )  # fmt: skip
    path = lab_hosts.directory / f"{name}.xml"
    path.write_text(xml)
    uri = lab_hosts.uri(HOST, "unix")
    local.virsh(uri, "define", path)
    local.virsh(uri, "start", name)
    uuid = local.virsh(uri, "domuuid", name).strip()
    yield GuestRef(uuid=uuid, name=name)
    for verb in ("destroy", "undefine"):
        try:
            local.virsh(uri, verb, name)
        except local.LabError:
            continue
    disk.unlink(missing_ok=True)


def lost(session) -> tuple[threading.Event, list[str]]:
    event, reasons = threading.Event(), []
    session.on_close(lambda reason: (reasons.append(reason), event.set()))
    return event, reasons


# -- TLS -------------------------------------------------------------------------------------------------------------
def test_tls_with_credentials_from_memory(tls, sessions, guest):
    session = sessions(tls)
    assert session.guest(guest).state is GuestState.RUNNING
    news = News(session)
    session.suspend(guest)
    news.expect(guest, "suspended")
    console = session.open_console(guest, "serial")
    assert console.read(timeout_seconds=0.2) in (None, b"!")
    console.close()


def test_a_screen_over_tls_goes_to_its_address_and_leaves_the_connection_whole(tls, sessions, guest):
    session = sessions(tls)
    console = session.open_console(guest, "vnc")
    assert read_until(console, b"\n", 10).startswith(b"RFB 003.")
    console.close()
    assert session.alive()
    assert session.guest(guest).state is GuestState.RUNNING


def test_a_screen_that_listens_inside_only_is_refused_with_the_reason(tls, sessions, guest, lab_hosts):
    session = sessions(tls)
    session.force_off(guest)
    session.define(session.definition(guest).replace("0.0.0.0", "127.0.0.1"))
    session.start(guest)
    with pytest.raises(Unsupported, match="only inside its host"):
        session.open_console(guest, "vnc")
    assert session.alive()


def test_certificates_that_do_not_fit_are_told_from_wrong_passwords(tls, lab_hosts, tmp_path):
    local.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "key", "-out", tmp_path / "ca",
              "-subj", "/CN=stranger", "-days", "2")  # fmt: skip
    stranger = credentials(lab_hosts, ca_certificate=(tmp_path / "ca").read_text())
    with pytest.raises(AuthFailed, match="ertificate"):
        registry.get("qemu").open(Endpoint(driver="qemu", uri=tls.uri, credentials=stranger))
    unknown_client = credentials(
        lab_hosts, certificate=(tmp_path / "ca").read_text(), private_key=(tmp_path / "key").read_text()
    )
    with pytest.raises(DriverError):
        registry.get("qemu").open(Endpoint(driver="qemu", uri=tls.uri, credentials=unknown_client))


@pytest.mark.skipif(shutil.which("sshd") is None, reason="no sshd on this machine")
def test_ssh_with_a_key_and_a_host_key(lab_hosts, sessions, guest):
    address = lab_hosts.address(HOST)
    host_key = local.run("ssh-keyscan", "-t", "ed25519", address)
    key = (lab_hosts.pki / "ssh").read_text()
    good = Credentials(username="root", private_key=key, host_key=host_key)
    session = sessions(Endpoint(driver="qemu", uri=f"qemu+ssh://{address}/system", credentials=good))
    assert session.guest(guest).state is GuestState.RUNNING
    wrong = Credentials(username="root", private_key=key, host_key="ssh-ed25519 " + "A" * 68)
    with pytest.raises(DriverError):
        registry.get("qemu").open(Endpoint(driver="qemu", uri=f"qemu+ssh://{address}/system", credentials=wrong))


# -- death and silence --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("transport", ["unix", "tls"])
def test_a_killed_daemon_is_noticed_at_once_and_its_guests_live(request, lab_hosts, sessions, guest, transport):
    endpoint = request.getfixturevalue(transport)
    session = sessions(endpoint)
    event, reasons = lost(session)
    console = session.open_console(guest, "serial")
    try:
        began = time.monotonic()
        lab_hosts.kill(HOST)
        assert event.wait(5)
        assert time.monotonic() - began < 3
        assert reasons in (["it broke"], ["the hypervisor's service ended it"])
        wait_until(lambda: not session.alive(), 2, "not alive")
        with pytest.raises(Unreachable):
            session.guests()
        with pytest.raises(Unreachable):
            read_until(console, b"never", 5)
        with pytest.raises(Unreachable) as refusal:
            registry.get("qemu").open(endpoint)
        assert refusal.value.retryable
    finally:
        console.close()
        lab_hosts.start(HOST)
    assert sessions(endpoint).guest(guest).state is GuestState.RUNNING


@pytest.mark.parametrize(("how", "mend"), [("freeze", "thaw"), ("cut", "mend")])
def test_a_silent_host_is_given_up_after_eight_seconds(tls, lab_hosts, sessions, how, mend):
    session = sessions(tls)
    event, reasons = lost(session)
    try:
        began = time.monotonic()
        getattr(lab_hosts, how)(HOST)
        with pytest.raises(Unreachable):
            session.guests()
        assert 2 < time.monotonic() - began < 14
        assert event.wait(2)
        assert reasons == ["the host stopped answering"]
        assert not session.alive()
    finally:
        getattr(lab_hosts, mend)(HOST)


def test_what_is_lost_is_told_to_those_who_ask_late(tls, lab_hosts, sessions):
    session = sessions(tls)
    event, _ = lost(session)
    try:
        lab_hosts.kill(HOST)
        assert event.wait(5)
        late, reasons = lost(session)
        assert late.is_set()
        assert reasons
    finally:
        lab_hosts.start(HOST)


def test_a_console_on_a_frozen_host_ends_and_never_hangs_its_caller(tls, lab_hosts, sessions, guest):
    session = sessions(tls)
    console = session.open_console(guest, "serial")
    try:
        lab_hosts.freeze(HOST)
        began = time.monotonic()
        console.close()
        assert time.monotonic() - began < 0.5
        with pytest.raises(DriverError):  # the control connection gives up first, or the new line's deadline comes
            session.open_console(guest, "serial", take_over=True)
        assert time.monotonic() - began < 20
    finally:
        lab_hosts.thaw(HOST)


def test_features_are_the_same_over_tls(tls, unix, sessions):
    support = sessions(tls).capabilities()
    assert {feature for feature in Feature if support[feature].supported} == registry.get("qemu").features
    assert sessions(unix).capabilities() == support
