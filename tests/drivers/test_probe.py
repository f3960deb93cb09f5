"""The host doctor: one step fails, it is the right one, it says how to mend it, and it keeps its time and our secrets."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest

from drivers import reach, registry
from drivers.errors import AuthFailed, Denied, DriverError, NotFound, Timeout, Unreachable, Unsupported
from drivers.fake import FakeDriver, drop_world, world
from drivers.probe import STEPS, ProbeStep, probe
from drivers.types import Credentials, Endpoint
from drivers.uris import parse_uri
from tests.drivers import servers
from tests.drivers.servers import NOW, Authority
from tests.labs import fixtures
from tests.waiting import wait_until

DATA = Path("/nonexistent/vmm-data")


@pytest.fixture
def place(request):
    name = request.node.name
    yield world(name)
    drop_world(name)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def run(uri: str, *, place=None, credentials: Credentials | None = None, seconds: float = 10.0) -> dict[str, ProbeStep]:
    """Probe `uri`; with `place` the in-memory hypervisor stands behind whatever listens there."""
    parsed = parse_uri(uri, data_dir=DATA)
    if place is None:
        steps = probe(
            Endpoint(driver=parsed.driver, uri=parsed.text, credentials=credentials), parsed, deadline_seconds=seconds
        )
    else:
        endpoint = Endpoint(driver=parsed.driver, uri=place.endpoint.uri, credentials=credentials)
        steps = probe(endpoint, parsed, deadline_seconds=seconds, driver_of=lambda _kind: FakeDriver())
    assert tuple(step.step for step in steps) == STEPS
    return {step.step: step for step in steps}


def assert_fails_at(steps: dict[str, ProbeStep], name: str, code: str) -> ProbeStep:
    """The step of that name failed, those before it did not, those after it were not tried."""
    seen = [steps[step].state for step in STEPS]
    index = STEPS.index(name)
    assert seen[:index] == ["ok"] * index, steps
    assert seen[index] == "failed", steps
    assert seen[index + 1 :] == ["not_tried"] * (len(STEPS) - index - 1)
    failed = steps[name]
    assert failed.error_code == code, failed
    assert failed.evidence
    assert failed.hint
    return failed


def tls_uri(listener: socket.socket, host: str = "127.0.0.1") -> str:
    return f"qemu+tls://{host}:{listener.getsockname()[1]}/system"


def listens(port: int) -> bool:
    with contextlib.closing(socket.socket()) as stream:
        return stream.connect_ex(("127.0.0.1", port)) == 0


# -- all well --------------------------------------------------------------------------------------------------------


def test_healthy_hypervisor_passes_every_step_and_is_left_alone(place):
    place.add("web")
    steps = run("test:///default", place=place)
    assert [step.state for step in steps.values()] == ["ok"] * 8, steps
    assert "Not used" in steps["tls"].evidence
    assert "1 guest " in steps["rights"].evidence
    assert "start" in steps["capabilities"].evidence
    assert all(step.seconds >= 0 and step.error_code is None for step in steps.values())
    assert [info.name for info in place.infos()] == ["web"]
    wait_until(lambda: place.open_sessions == 0)


def test_unencrypted_transport_passes_with_a_warning(place):
    with servers.serving(servers.bound(), servers.mute) as listener:
        steps = run(f"qemu+tcp://127.0.0.1:{listener.getsockname()[1]}/system", place=place)
    assert [step.state for step in steps.values()] == ["ok"] * 8, steps
    assert "+tls" in steps["tls"].hint


# -- names and addresses ---------------------------------------------------------------------------------------------


def test_unknown_name():
    step = assert_fails_at(run("qemu+tls://no-such-host.invalid/system"), "name", "name_not_found")
    assert "getent hosts no-such-host.invalid" in step.hint


@pytest.mark.parametrize(
    "host",
    [
        *("169.254.169.254", "169.254.0.1", "[fe80::1]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]"),
        *("100.100.100.200", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "0.0.0.0", "[::]", "224.0.0.1"),
        *("255.255.255.255", "168.63.129.16"),
    ],
)
def test_link_local_and_metadata_addresses_are_refused(host, monkeypatch):
    monkeypatch.setattr(reach, "connect", lambda *_: pytest.fail("it was connected to"))
    for uri in (f"qemu+tls://{host}/system", f"docker+tcp://{host}:80", f"esx://{host}"):
        assert_fails_at(run(uri), "name", "address_refused")


def test_name_that_leads_to_a_link_local_address_is_refused(monkeypatch):
    rows = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 1)) for ip in ("192.0.2.1", "169.254.169.254")]
    monkeypatch.setattr(reach.socket, "getaddrinfo", lambda *_args, **_options: rows)
    assert_fails_at(run("qemu+tls://metadata.example/system"), "name", "address_refused")


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "192.168.1.1", "8.8.8.8", "::1", "2001:db8::1", "fd00::1"]
)
def test_ordinary_addresses_are_not_refused(address):
    assert reach.forbidden(address) is None


def test_name_server_that_hangs_costs_its_share_of_time_only(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(reach.socket, "getaddrinfo", lambda *_args, **_options: over.wait(30))
    try:
        started = time.monotonic()
        assert_fails_at(run("qemu+tls://slow.example/system", seconds=0.3), "name", "timeout")
        assert time.monotonic() - started < 2
    finally:
        over.set()


# -- ports -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "service"), [("qemu+tls", "libvirtd-tls.socket"), ("qemu+tcp", "libvirtd-tcp.socket"), ("qemu+ssh", "ssh")]
)
def test_port_that_nobody_listens_on(form, service):
    with contextlib.closing(servers.bound()) as listener:  # bound and not listening: nobody else gets the port
        port = listener.getsockname()[1]
        step = assert_fails_at(run(f"{form}://127.0.0.1:{port}/system"), "port", "host_unreachable")
    assert str(port) in step.evidence
    assert f"systemctl enable --now {service}" in step.hint


def test_host_that_swallows_packets(monkeypatch):
    def swallowed(_address, timeout):
        raise TimeoutError

    monkeypatch.setattr(reach.socket, "create_connection", swallowed)
    step = assert_fails_at(run("qemu+tls://192.0.2.1/system"), "reach", "timeout")
    assert "nc -vz 192.0.2.1 16514" in step.hint


def test_no_socket_file(tmp_path):
    step = assert_fails_at(run(f"qemu+unix:///system?socket={tmp_path}/none"), "name", "host_unreachable")
    assert "none" in step.evidence


def test_file_that_is_no_socket(tmp_path):
    (tmp_path / "file").touch()
    assert_fails_at(run(f"qemu+unix:///system?socket={tmp_path}/file"), "name", "host_unreachable")


def test_socket_left_over_by_a_dead_daemon(tmp_path):
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(tmp_path / "sock"))
    step = assert_fails_at(run(f"qemu+unix:///system?socket={tmp_path}/sock"), "port", "host_unreachable")
    assert "left over" in step.evidence


def test_socket_that_this_account_may_not_use(tmp_path, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(reach, "connect_unix", denied)  # root may use every socket
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "sock"))
        step = assert_fails_at(run(f"qemu+unix:///system?socket={tmp_path}/sock"), "reach", "host_denied")
    assert "usermod -aG libvirt" in step.hint


# -- TLS -------------------------------------------------------------------------------------------------------------


def test_mute_listener_does_not_hold_up_tls():
    with servers.serving(servers.bound(), servers.mute) as listener:
        started = time.monotonic()
        step = assert_fails_at(
            run(tls_uri(listener), credentials=Credentials(verify=False), seconds=1.0), "tls", "timeout"
        )
        assert time.monotonic() - started < 3
    assert "does not answer" in step.evidence


def test_listener_that_speaks_no_tls():
    with servers.serving(servers.bound(), servers.saying(b"220 mail.example ESMTP\r\n")) as listener:
        step = assert_fails_at(run(tls_uri(listener), credentials=Credentials(verify=False)), "tls", "tls_failed")
    assert "does not speak TLS" in step.evidence


@pytest.mark.parametrize("linger", [None, 0])
def test_forwarded_port_with_nothing_behind_it_blames_no_certificate(linger):
    """A proxy takes the connection and closes it, in order or with a reset."""

    def hang_up(stream):
        stream.recv(1)
        if linger is not None:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, linger))
        stream.shutdown(socket.SHUT_RDWR) if linger is None else stream.close()

    with servers.serving(servers.bound(), hang_up) as listener:
        step = assert_fails_at(run(tls_uri(listener), credentials=Credentials(verify=False)), "tls", "tls_failed")
    assert "before the TLS handshake is done" in step.evidence


@pytest.mark.parametrize("names", [("127.0.0.1",), ("other.example", "127.0.0.1")])
def test_trusted_certificate_passes(authority, tmp_path, place, names):
    handle = servers.tls(authority.sign("hv.example", *names), tmp_path)
    with servers.serving(servers.bound(), handle) as listener:
        steps = run(tls_uri(listener), place=place, credentials=Credentials(ca_certificate=authority.pem))
    assert [step.state for step in steps.values()] == ["ok"] * 8, steps
    assert "Test CA" in steps["tls"].evidence


def test_certificate_without_alternative_names_goes_by_its_cn_as_in_libvirt(authority, tmp_path, place):
    with servers.serving(servers.bound(), servers.tls(authority.sign("localhost"), tmp_path)) as listener:
        uri = tls_uri(listener, "localhost")
        assert run(uri, place=place, credentials=Credentials(ca_certificate=authority.pem))["tls"].state == "ok"


def test_certificate_for_another_name(authority, tmp_path):
    with servers.serving(servers.bound(), servers.tls(authority.sign("a", "hv1.example"), tmp_path)) as listener:
        steps = run(tls_uri(listener), credentials=Credentials(ca_certificate=authority.pem))
    assert "is for hv1.example, not for 127.0.0.1" in assert_fails_at(steps, "tls", "tls_failed").evidence


@pytest.mark.parametrize(
    ("name", "host", "fits"),
    [
        *[("*.lab.example", host, True) for host in ("a.lab.example", "A.LAB.example")],
        *[("*.lab.example", host, False) for host in ("lab.example", "b.a.lab.example", "lab.example.evil")],
        *[("*.example", "a.example", False), ("*", "host", False), ("::1", "0:0:0:0:0:0:0:1", True)],
        *[("hv", "HV", True), ("127.0.0.1", "127.0.0.2", False), ("hv.example.", "hv.example", True)],
    ],
)
def test_names_are_compared_as_they_should_be(name, host, fits):
    assert reach._fits(name, host) is fits


def test_expired_certificate(authority, tmp_path):
    pair = authority.sign("hv", "127.0.0.1", until=NOW - servers.DAY)
    with servers.serving(servers.bound(), servers.tls(pair, tmp_path)) as listener:
        steps = run(tls_uri(listener), credentials=Credentials(ca_certificate=authority.pem))
    assert "expired" in assert_fails_at(steps, "tls", "tls_failed").evidence


def test_self_signed_certificate_and_unknown_authority(authority, tmp_path):
    itself = authority.sign("hv", "127.0.0.1", by_itself=True)
    for pair, words in ((itself, "signed by itself"), (Authority("Other").sign("hv", "127.0.0.1"), "not trusted")):
        with servers.serving(servers.bound(), servers.tls(pair, tmp_path)) as listener:
            steps = run(tls_uri(listener), credentials=Credentials(ca_certificate=authority.pem))
        step = assert_fails_at(steps, "tls", "tls_failed")
        assert words in step.evidence
        assert "scp root@127.0.0.1:/etc/pki/CA/cacert.pem" in step.hint


def test_fingerprint_stands_for_an_authority(authority, tmp_path, place):
    pair = authority.sign("hv", by_itself=True)
    good = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pair.certificate)).hexdigest()
    with servers.serving(servers.bound(), servers.tls(pair, tmp_path)) as listener:
        for verify in (good, ":".join(good[i : i + 2].upper() for i in range(0, 64, 2)), False):
            assert run(tls_uri(listener), place=place, credentials=Credentials(verify=verify))["tls"].state == "ok"
        step = assert_fails_at(run(tls_uri(listener), credentials=Credentials(verify="00" * 32)), "tls", "tls_failed")
    assert good in step.hint


def test_client_certificate_is_demanded(authority, tmp_path, place):
    ours, foreign = authority.sign("vmmanager"), Authority("Other").sign("vmmanager")
    handle = servers.tls(authority.sign("hv", "127.0.0.1"), tmp_path, client_ca=authority.pem)
    base = Credentials(ca_certificate=authority.pem)
    with servers.serving(servers.bound(), handle) as listener:
        step = assert_fails_at(run(tls_uri(listener), place=place, credentials=base), "tls", "tls_failed")
        assert "asks for a client certificate" in step.evidence
        for pair, state in ((ours, "ok"), (foreign, "failed")):
            credentials = Credentials(ca_certificate=authority.pem, certificate=pair.certificate, private_key=pair.key)
            assert run(tls_uri(listener), place=place, credentials=credentials)["tls"].state == state


@pytest.mark.parametrize(
    "broken",
    [
        {"ca_certificate": "rubbish"},
        {"certificate": "rubbish", "private_key": "rubbish", "verify": False},
        {"certificate": "", "ca_certificate": ""},
    ],
)
def test_credentials_that_cannot_be_read(authority, tmp_path, broken, monkeypatch):
    monkeypatch.setattr("drivers.probe._CA_FILE", tmp_path / "no-such-ca.pem")
    with servers.serving(servers.bound(), servers.tls(authority.sign("hv", "127.0.0.1"), tmp_path)) as listener:
        assert_fails_at(run(tls_uri(listener), credentials=Credentials(**broken)), "tls", "tls_failed")


# -- SSH -------------------------------------------------------------------------------------------------------------


def test_listener_that_speaks_no_ssh():
    for handle, code in (
        (servers.saying(b"HTTP/1.1 400 Bad Request\r\n"), "host_unreachable"),
        (servers.mute, "timeout"),
    ):
        with servers.serving(servers.bound(), handle) as listener:
            steps = run(f"qemu+ssh://root@127.0.0.1:{listener.getsockname()[1]}/system", seconds=1.5)
        assert_fails_at(steps, "tls", code)


@pytest.fixture
def sshd(tmp_path):
    """A real SSH server on a port of its own: `(port, its public key line)`."""
    if not (shutil.which("sshd") and shutil.which("ssh-keyscan")):
        fixtures.require(lambda: False, "openssh-server and openssh-client")
    key = tmp_path / "host_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", key], check=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with contextlib.closing(servers.bound()) as free:
        port = free.getsockname()[1]
    options = [
        "-o",
        f"HostKey={key}",
        "-o",
        f"PidFile={tmp_path}/pid",
        "-o",
        "UsePAM=no",
        "-o",
        "ListenAddress=127.0.0.1",
    ]
    server = subprocess.Popen(
        [shutil.which("sshd"), "-D", "-f", "/dev/null", "-p", str(port), *options], stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: listens(port), message="sshd listens")
        yield port, key.with_suffix(".pub").read_text()
    finally:
        server.terminate()
        server.wait(10)


def test_host_key_is_compared(sshd, place, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    port, public = sshd
    uri = f"qemu+ssh://root@127.0.0.1:{port}/system"
    step = assert_fails_at(run(uri, place=place), "tls", "host_key_unknown")
    assert " ".join(public.split()[:2]) in step.hint
    assert run(uri, place=place, credentials=Credentials(host_key=public))["tls"].state == "ok"
    assert run(uri, place=place, credentials=Credentials(verify=False))["tls"].state == "ok"
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    step = assert_fails_at(run(uri, place=place, credentials=Credentials(host_key=other)), "tls", "host_key_mismatch")
    assert "SHA256:" in step.evidence


# -- what the driver says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "step", "code"),
    [
        (AuthFailed("wrong password"), "authentication", "auth_failed"),
        (Unreachable("the connection was reset"), "authentication", "host_unreachable"),
        (Timeout("no answer"), "authentication", "timeout"),
        (DriverError("something else"), "authentication", "hypervisor_error"),
        (Unsupported("not built"), "driver", "unsupported"),
        (NotFound("no such file"), "driver", "not_found"),
        (
            Unreachable("No hypervisor.", libvirt_message="no connection driver available for lxc:///"),
            "driver",
            "host_unreachable",
        ),
        (Denied("not you"), "rights", "host_denied"),
    ],
)
def test_error_of_an_open_lands_at_its_step(place, error, step, code):
    place.refuse(error)
    found = assert_fails_at(run("test:///default", place=place), step, code)
    assert error.detail in found.evidence


@pytest.mark.parametrize(
    ("verb", "error", "step"),
    [
        ("host_info", Unreachable("gone"), "driver"),
        ("guests", Denied("no listing"), "rights"),
        ("define", Denied("read only"), "rights"),
        ("define", Unreachable("gone"), "rights"),
    ],
)
def test_error_of_a_verb_lands_at_its_step(place, verb, error, step):
    place.fail_next(error, verb=verb)
    assert_fails_at(run("test:///default", place=place), step, error.code)


def test_read_only_account_is_named(place):
    place.fail_next(Denied("read only access prevents it"), verb="define")
    assert (
        "look but not change" in assert_fails_at(run("test:///default", place=place), "rights", "host_denied").evidence
    )


@pytest.mark.parametrize(("verb", "step"), [("open", "authentication"), ("host_info", "driver"), ("guests", "rights")])
def test_hypervisor_that_hangs_costs_the_deadline_only(place, verb, step):
    place.hang(verb)
    started = time.monotonic()
    assert_fails_at(run("test:///default", place=place, seconds=0.4), step, "timeout")
    assert time.monotonic() - started < 2
    place.release(verb)
    wait_until(lambda: place.open_sessions == 0, message="the late session is closed")


def test_frozen_close_holds_nobody_up(place):
    place.hang("close")
    assert run("test:///default", place=place)["capabilities"].state == "ok"
    place.release("close")


def test_kind_without_a_driver_fails_at_the_driver(monkeypatch):
    monkeypatch.setattr(registry, "_paths", lambda: {"qemu": "drivers.nowhere:Driver"})
    registry.get.cache_clear()
    with servers.serving(servers.bound(), servers.mute) as listener:
        steps = run(f"qemu+tcp://127.0.0.1:{listener.getsockname()[1]}/system")
    assert steps["port"].state == "ok"
    assert steps["authentication"].state == "not_tried"
    assert (steps["driver"].state, steps["driver"].error_code) == ("failed", "unsupported")
    assert "this version" in steps["driver"].hint


def test_secrets_stay_secret(place):
    place.refuse(AuthFailed("cannot sign in as root with hunter2-secret and KEY-MATERIAL"))
    credentials = Credentials(username="root", password="hunter2-secret", private_key="KEY-MATERIAL")
    steps = run("test:///default", place=place, credentials=credentials)
    assert "hunter2-secret" not in str(steps)
    assert "KEY-MATERIAL" not in str(steps)
    assert "<hidden>" in steps["authentication"].evidence


def test_foreign_error_of_a_driver_is_reported(place, caplog):
    place.lie("host_info", lambda _answer: 1 // 0)
    with caplog.at_level("CRITICAL"):
        assert_fails_at(run("test:///default", place=place), "driver", "hypervisor_error")


# -- this machine ------------------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(("uri", "word"), [("qemu:///system", "QEMU"), ("lxc:///", "Linux")])
def test_this_machines_own_hypervisors_pass(uri, word):
    fixtures.require_libvirtd(uri)
    steps = run(uri, seconds=20)
    assert [step.state for step in steps.values()] == ["ok"] * 8, steps
    assert word in steps["driver"].evidence
    assert "may change" in steps["rights"].evidence


@pytest.mark.real
def test_read_only_socket_is_told_apart():
    fixtures.require_libvirtd()
    steps = run("qemu+unix:///system?socket=/run/libvirt/libvirt-sock-ro", seconds=20)
    step = assert_fails_at(steps, "rights", "host_denied")
    assert "/run/libvirt/libvirt-sock" in step.hint


@pytest.mark.real
def test_hypervisor_that_this_daemon_lacks():
    fixtures.require_libvirtd()
    steps = run("xen:///system", seconds=20)
    step = assert_fails_at(steps, "driver", "unsupported")
    assert "Xen" in step.evidence
    assert "apt install libvirt-daemon-driver-xen" in step.hint


def test_real_driver_on_a_mute_socket_costs_the_deadline_only(tmp_path):
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "sock"))
        with servers.serving(listener, servers.mute):
            started = time.monotonic()
            steps = run(f"qemu+unix:///system?socket={tmp_path}/sock", seconds=1.0)
            assert time.monotonic() - started < 4
    assert_fails_at(steps, "authentication", "timeout")
