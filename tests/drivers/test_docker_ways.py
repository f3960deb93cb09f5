"""The ways to a container engine: TLS, SSH, its death, and what the host doctor says of them."""

from __future__ import annotations

import dataclasses
import queue
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drivers.errors import AuthFailed, TlsFailed, Unreachable, Unsupported
from drivers.probe import STEPS, probe
from drivers.types import Credentials, Endpoint
from drivers.uris import parse_uri
from tests.drivers.conformance import News, ask
from tests.drivers.servers import Authority, bound, saying, serving
from tests.labs.engines import PATHS, opened, ref_of, running
from tests.waiting import wait_until

if TYPE_CHECKING:
    from drivers.base import Console
    from drivers.probe import ProbeStep
    from tests.labs.engines import Engine

pytestmark = [pytest.mark.lab]


def whole_way(engine: Engine, endpoint: Endpoint) -> None:
    """News, verbs and a console all come through this endpoint."""
    container = engine.make()
    ref = ref_of(container)
    with opened(endpoint) as session:
        news = News(session)
        session.start(ref)
        news.expect(ref, "started")
        console = session.open_console(ref, "shell")
        ask(console, b"echo far-$((6*7))", b"far-42", 10)
        console.close()
        session.force_off(ref)
        news.expect(ref, "stopped")
        session.undefine(ref)


@pytest.mark.parametrize("verify", ["authority", "pin", False])
def test_tls_with_a_client_certificate_reaches_all(container_engine: Engine, verify, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with container_engine.over_tls() as front:
        told = {
            "authority": {},
            "pin": {"ca_certificate": "", "verify": front.fingerprint},
            False: {"ca_certificate": "", "verify": False},
        }[verify]
        whole_way(container_engine, front.endpoint(**told))


def test_a_certificate_of_another_is_not_believed(docker_engine: Engine):
    with docker_engine.over_tls() as front:
        wrong = front.fingerprint.replace(front.fingerprint[:2], "00" if front.fingerprint[:2] != "00" else "11", 1)
        for told in ({"ca_certificate": Authority().pem}, {"ca_certificate": ""}, {"verify": wrong}):
            with pytest.raises(TlsFailed), opened(front.endpoint(**told)):
                pass


def test_a_client_without_the_right_certificate_is_refused(docker_engine: Engine):
    with docker_engine.over_tls() as front:
        for endpoint in (front.endpoint(certificate="", private_key=""), front.endpoint(authority=Authority())):
            with pytest.raises(AuthFailed, match="certificate"), opened(endpoint):
                pass


def test_a_key_of_another_certificate_is_named(docker_engine: Engine):
    with docker_engine.over_tls() as front:
        other = front.authority.sign("client").key
        with pytest.raises(TlsFailed, match="belong together"), opened(front.endpoint(private_key=other)):
            pass


def test_an_engine_without_tls_is_not_spoken_to():
    with serving(bound(), saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as listener:
        endpoint = Endpoint(driver="docker", uri=f"docker+tcp://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(TlsFailed, match="does not speak TLS"), opened(endpoint):
            pass


def test_ssh_reaches_all(container_engine: Engine):
    with container_engine.over_ssh() as endpoint:
        whole_way(container_engine, endpoint)


def test_ssh_reaches_an_engine_of_the_account_itself(container_engine: Engine):
    with (
        container_engine.over_ssh(socket_at=f"user/0/{PATHS[container_engine.kind]}") as endpoint,
        opened(endpoint) as session,
    ):
        assert session.host_info().hypervisor_version


def test_ssh_refusals_are_told_apart(docker_engine: Engine):
    with docker_engine.over_ssh(socket_at="elsewhere.sock") as endpoint:
        with pytest.raises(Unreachable, match=r"no engine answers"), opened(endpoint):
            pass
        stranger = dataclasses.replace(endpoint.credentials, private_key=Authority().sign("x").key)
        with pytest.raises(AuthFailed), opened(dataclasses.replace(endpoint, credentials=stranger)):
            pass
        impostor = dataclasses.replace(
            endpoint.credentials,
            host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        )
        with pytest.raises(AuthFailed, match="Host key"), opened(dataclasses.replace(endpoint, credentials=impostor)):
            pass
        assert not list(Path(tempfile.gettempdir()).glob("vmm-ssh-*"))


def test_ssh_takes_no_password():
    endpoint = Endpoint(driver="docker", uri="docker+ssh://me@127.0.0.1:1", credentials=Credentials(password="geheim"))
    with pytest.raises(AuthFailed, match="private key") as refusal, opened(endpoint):
        pass
    assert "geheim" not in repr(refusal.value)


def test_an_ssh_connection_that_breaks_is_noticed(docker_engine: Engine):
    lost: queue.SimpleQueue[str] = queue.SimpleQueue()
    with docker_engine.over_ssh() as endpoint, opened(endpoint) as session:
        session.on_close(lost.put)
        session.subscribe(lambda event: None)
        session._engine._dialer._process.kill()
        assert lost.get(timeout=5)
        assert not session.alive()
        with pytest.raises(Unreachable):
            session.guests()


@pytest.mark.parametrize("kind", ["docker", "podman"])
def test_an_engine_that_dies_is_noticed_at_once(request, kind):
    lost: queue.SimpleQueue[str] = queue.SimpleQueue()
    request.getfixturevalue(f"{kind}_engine")  # it skips where there is none
    with running(kind) as own, opened(own.endpoint) as session:
        container = own.make()
        container.start()
        console = session.open_console(ref_of(container), "shell")
        session.on_close(lost.put)
        session.subscribe(lambda event: None)
        own.kill()
        assert lost.get(timeout=3)
        wait_until(lambda: ended(console), 5, "the console's end")
        console.close()
        for call in (session.guests, session.stats, session.host_stats):
            with pytest.raises(Unreachable):
                call()


def ended(console: Console) -> bool:
    try:
        return console.read(timeout_seconds=0.1) == b""
    except Unreachable:
        return True


def test_the_other_engine_is_not_taken_for_this_one(docker_engine: Engine, podman_engine: Engine):
    for kind, socket in (("docker", podman_engine.socket), ("podman", docker_engine.socket)):
        with (
            pytest.raises(Unsupported, match="answers there"),
            opened(Endpoint(driver=kind, uri=f"{kind}+unix://{socket}")),
        ):
            pass


# -- the host doctor -----------------------------------------------------------------------------------------------------
def examined(endpoint: Endpoint) -> dict[str, ProbeStep]:
    parsed = parse_uri(endpoint.uri, data_dir=Path("/nonexistent"))
    return {step.step: step for step in probe(endpoint, parsed, deadline_seconds=20)}


def test_the_doctor_finds_an_engine_well(container_engine: Engine):
    with container_engine.over_tls() as front, container_engine.over_ssh() as over_ssh:
        for endpoint in (container_engine.endpoint, front.endpoint(), over_ssh):
            steps = examined(endpoint)
            assert {name: step.state for name, step in steps.items()} == dict.fromkeys(STEPS, "ok"), steps


def test_the_doctor_names_a_foreign_certificate(docker_engine: Engine):
    with docker_engine.over_tls() as front:
        steps = examined(front.endpoint(ca_certificate=Authority().pem))
        assert (steps["port"].state, steps["tls"].error_code) == ("ok", "tls_failed")
        steps = examined(front.endpoint(authority=Authority("Another")))
        assert "failed" in {steps[name].state for name in ("tls", "authentication")}
