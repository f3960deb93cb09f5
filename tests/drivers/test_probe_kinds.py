"""The host doctor for each kind: the right port, the host's certificate, and the words that help with that product."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from pathlib import Path

import pytest

from drivers import advice, probe, reach, registry
from drivers.base import Driver
from drivers.errors import AuthFailed, Denied, DriverError, TlsFailed, Unreachable, Unsupported
from drivers.probe import STEPS, ProbeStep
from drivers.tls import fingerprint
from drivers.types import Credentials, Endpoint
from drivers.uris import parse_uri
from tests.drivers import servers
from tests.drivers.servers import Authority, Pair
from tests.drivers.test_probe import assert_fails_at

DATA = Path("/nonexistent/vmm-data")
HTTPS = {"esx": 443, "vpx": 443, "xapi": 443, "hyperv": 5986}
PATHS = {"vpx": "/DC0"}
SIGNED_IN = Credentials(username="root", password="geheim-4711", verify=False)
KINDS = [kind for kind in registry.BUILT_IN if kind not in ("fake", "test")]


class Stub(Driver):
    """Raises what a real driver of this kind would: what the doctor makes of it is what is shown."""

    kind = "stub"
    label = "Stub"
    schemes = transports = ()
    features = frozenset()
    reasons = {}

    def __init__(self, error: DriverError) -> None:
        self.error = error

    def open(self, endpoint: Endpoint):
        raise self.error


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Authority().sign("hv.example", "hv.example", "192.0.2.7", by_itself=True)


def run(uri: str, credentials: Credentials | None = None, *, error: DriverError | None = None, seconds: float = 10.0):
    """Each step of a probe; with `error` the driver that stands behind it says so."""
    parsed = parse_uri(uri, data_dir=DATA)
    endpoint = Endpoint(driver=parsed.driver, uri=parsed.text, credentials=credentials)
    driver_of = registry.get if error is None else lambda _kind: Stub(error)
    steps = probe.probe(endpoint, parsed, deadline_seconds=seconds, driver_of=driver_of)
    assert tuple(step.step for step in steps) == STEPS
    return {step.step: step for step in steps}


def place(kind: str, listener: socket.socket) -> str:
    scheme = f"{kind}+tcp" if kind in ("docker", "podman") else kind
    return f"{scheme}://127.0.0.1:{listener.getsockname()[1]}{PATHS.get(kind, '')}"


def sha256(pair: Pair) -> str:
    return fingerprint(ssl.PEM_cert_to_DER_cert(pair.certificate))


@pytest.mark.parametrize("kind", HTTPS)
def test_a_kind_with_https_when_no_port_is_given_then_its_own_is_tried(kind, monkeypatch) -> None:
    tried = []

    def refuse(addresses, port, budget):
        tried.append(port)
        raise ConnectionRefusedError

    monkeypatch.setattr(reach, "connect", refuse)
    step = assert_fails_at(run(f"{kind}://127.0.0.1{PATHS.get(kind, '')}"), "port", "host_unreachable")
    assert tried == [HTTPS[kind]]
    assert advice.SERVICES[kind] in step.hint


@pytest.mark.parametrize("kind", [*HTTPS, "docker", "podman"])
def test_a_strangers_certificate_when_seen_then_shown_whole_with_where_to_compare_it(kind, pair, tmp_path) -> None:
    with servers.serving(servers.bound(), servers.tls(pair, tmp_path)) as listener:
        step = assert_fails_at(run(place(kind, listener), Credentials()), "tls", "tls_failed")
        assert step.trust.credential == "verify"
        assert step.trust.value == sha256(pair)
        assert step.trust.compare == advice.COMPARE[kind]
        assert "for hv.example, 192.0.2.7, from hv.example, until " in step.evidence
        assert sha256(pair) in step.evidence
        believed = run(place(kind, listener), Credentials(verify=step.trust.value))
    assert believed["tls"].state == "ok"
    assert sha256(pair) in believed["tls"].evidence


def test_another_certificate_than_the_pinned_one_when_seen_then_both_sides_are_told(pair, tmp_path) -> None:
    with servers.serving(servers.bound(), servers.tls(pair, tmp_path)) as listener:
        step = assert_fails_at(run(place("esx", listener), Credentials(verify="00" * 32)), "tls", "tls_failed")
    assert step.trust.value == sha256(pair)
    assert "Somebody may be in between" in step.hint


def test_libvirts_tls_when_the_certificate_is_a_strangers_then_no_fingerprint_is_offered(pair, tmp_path) -> None:
    with servers.serving(servers.bound(), servers.tls(pair, tmp_path)) as listener:
        uri = f"qemu+tls://127.0.0.1:{listener.getsockname()[1]}/system"
        step = assert_fails_at(run(uri, Credentials(ca_certificate=Authority().pem)), "tls", "tls_failed")
    assert step.trust is None  # libvirt cannot believe one certificate alone
    assert sha256(pair) in step.evidence
    assert "cacert.pem" in step.hint


@pytest.mark.parametrize("kind", [*HTTPS, "docker", "podman"])
def test_a_port_without_tls_when_tried_then_said_with_this_kinds_way_out(kind) -> None:
    with servers.serving(servers.bound(), servers.saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as listener:
        step = assert_fails_at(run(place(kind, listener), SIGNED_IN), "tls", "tls_failed")
    assert "does not speak TLS" in step.evidence
    assert step.hint == advice.PLAIN.get(kind, "Check the port and the transport.")


@pytest.mark.parametrize("kind", [*HTTPS, "docker"])
def test_a_host_that_freezes_after_the_handshake_when_tried_then_the_probe_ends_in_time(kind, pair, tmp_path) -> None:
    with servers.serving(servers.bound(), servers.tls(pair, tmp_path, greeting=b"")) as listener:
        started = time.monotonic()
        steps = run(place(kind, listener), SIGNED_IN, seconds=2.0)
        assert time.monotonic() - started < 6
    failed = next(step for step in steps.values() if step.state == "failed")
    assert failed.step in ("tls", "authentication", "driver")
    assert "geheim-4711" not in repr(steps)


@pytest.mark.parametrize("kind", [*HTTPS, "docker"])
def test_another_product_behind_the_port_when_tried_then_it_fails_and_nobody_learns_the_password(
    kind, pair, tmp_path
) -> None:
    page = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
    with servers.serving(servers.bound(), servers.tls(pair, tmp_path, greeting=page)) as listener:
        steps = run(place(kind, listener), SIGNED_IN, seconds=8.0)
    failed = next(step for step in steps.values() if step.state == "failed")
    assert failed.step in ("authentication", "driver")
    assert failed.evidence
    assert failed.hint
    assert "geheim-4711" not in repr(steps)


def hint_of(kind: str, error: DriverError, where: str) -> ProbeStep:
    """What the doctor says to this error of a driver of this kind, once the port is found open."""
    uri = f"{kind}+tcp://127.0.0.1{where}" if where else f"{kind}://127.0.0.1"
    endpoint = Endpoint(driver=kind, uri=uri, credentials=SIGNED_IN)
    budget = reach.Budget(time.monotonic() + 10)
    doctor = probe._Doctor(endpoint, parse_uri(uri, data_dir=DATA), budget, lambda _kind: Stub(error))
    steps = (doctor.take(name) for name in ("authentication", "driver", "rights"))
    return next(step for step in steps if step.state == "failed")


@pytest.mark.parametrize("kind", ["xen", "openvz", "vz", "vbox", "bhyve", "ch"])
def test_a_libvirt_without_this_driver_when_tried_then_what_is_missing_is_said(kind) -> None:
    step = hint_of(kind, Unsupported("libvirt there has no such driver."), "/session" if kind == "vbox" else "/system")
    assert step.step == "driver"
    assert advice.MISSING[kind] in step.hint
    assert (advice.PACKAGES.get(kind, "") in step.hint) is True


@pytest.mark.parametrize("kind", ["esx", "hyperv", "xapi"])
def test_a_refused_account_or_another_product_when_told_by_the_driver_then_this_kinds_words(kind) -> None:
    assert hint_of(kind, AuthFailed("no"), "").hint == advice.ACCOUNTS[kind]
    assert hint_of(kind, Denied("no"), "").hint == advice.ACCOUNTS[kind]
    assert hint_of(kind, Unsupported("It is another product."), "").hint == advice.MISSING[kind]
    assert advice.LOGS[kind] in hint_of(kind, Unreachable("gone"), "").hint
    assert hint_of(kind, TlsFailed("no"), "").hint


def test_vmware_workstation_without_vmrun_when_tried_then_the_product_is_named() -> None:
    steps = run("vmwarews:///session", error=Unsupported("vmrun is not in the PATH of this service."))
    step = assert_fails_at(steps, "driver", "unsupported")
    assert "VMware's own bundle" in step.hint
    assert "command -v vmrun" in step.hint


@pytest.mark.parametrize(("kind", "words"), [("docker", "docker"), ("podman", "podman.socket")])
def test_an_engines_socket_when_missing_then_what_makes_it(kind, words, tmp_path) -> None:
    step = assert_fails_at(run(f"{kind}+unix://{tmp_path}/none.sock"), "name", "host_unreachable")
    assert words in step.hint


@pytest.mark.parametrize(("kind", "words"), [("docker", "usermod -aG docker "), ("podman", "systemctl --user")])
def test_an_engines_socket_when_not_for_us_then_the_group_that_lets_in(kind, words, tmp_path, monkeypatch) -> None:
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(reach, "connect_unix", denied)  # root may use every socket
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "sock"))
        step = assert_fails_at(run(f"{kind}+unix://{tmp_path}/sock"), "reach", "host_denied")
    assert words in step.hint


@pytest.mark.parametrize("kind", KINDS)
def test_advice_when_looked_up_then_every_kind_has_its_own(kind) -> None:
    libvirt = kind not in advice.LOGS
    assert libvirt or {kind} <= set(advice.SERVICES) & set(advice.MISSING) & set(advice.COMPARE)
    assert kind in advice.PACKAGES or kind in advice.MISSING
