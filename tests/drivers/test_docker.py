"""Docker and Podman themselves: the conformance suite on both engines, and what only they have."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drivers import registry
from drivers.errors import AuthFailed, NotFound, TlsFailed, Unreachable, Unsupported, WrongState
from drivers.types import Credentials, Endpoint, GuestEventKind, GuestRef, GuestState
from tests.drivers.conformance import Conformance, Lab, News, ask, read_until
from tests.drivers.servers import Authority, bound, saying, serving
from tests.labs.engines import PATHS, SERVE
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.base import Session
    from tests.labs.engines import Engine

pytestmark = [pytest.mark.lab]


def lab_of(engine: Engine) -> Iterator[Lab]:
    def make() -> GuestRef:
        container = engine.make()
        return GuestRef(uuid=container.id, name=container.name)

    driver = registry.get(engine.kind)
    session = driver.open(engine.endpoint)
    yield Lab(
        driver=driver,
        endpoint=engine.endpoint,
        session=session,
        make=make,
        make_shell=make,
        make_screen=make,
        boot_seconds=10,
        killed="exited(137)",
        console_is_shared=True,
    )
    session.close()
    engine.clear()


@pytest.fixture
def docker(docker_engine: Engine) -> Iterator[Lab]:
    yield from lab_of(docker_engine)


@pytest.fixture
def podman(podman_engine: Engine) -> Iterator[Lab]:
    yield from lab_of(podman_engine)


class TestDocker(Conformance):
    @pytest.fixture
    def lab(self, docker: Lab) -> Lab:
        return docker


class TestPodman(Conformance):
    @pytest.fixture
    def lab(self, podman: Lab) -> Lab:
        return podman


# -- the ways there ------------------------------------------------------------------------------------------------------
@pytest.fixture(params=["docker", "podman"])
def engine(request) -> Engine:
    return request.getfixturevalue(f"{request.param}_engine")


@contextlib.contextmanager
def opened(endpoint: Endpoint) -> Iterator[Session]:
    session = registry.get(endpoint.driver).open(endpoint)
    try:
        yield session
    finally:
        session.close()


def whole_way(engine: Engine, endpoint: Endpoint) -> None:
    """News, verbs and a console all come through this endpoint."""
    container = engine.make()
    ref = GuestRef(uuid=container.id, name=container.name)
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
def test_tls_with_a_client_certificate_reaches_all(engine: Engine, verify, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with engine.over_tls() as front:
        told = {
            "authority": {},
            "pin": {"ca_certificate": "", "verify": front.fingerprint},
            False: {"ca_certificate": "", "verify": False},
        }[verify]
        whole_way(engine, front.endpoint(**told))


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


def test_ssh_reaches_all(engine: Engine):
    with engine.over_ssh() as endpoint:
        whole_way(engine, endpoint)


def test_ssh_reaches_an_engine_of_the_account_itself(engine: Engine):
    with engine.over_ssh(socket_at=f"user/0/{PATHS[engine.kind]}") as endpoint, opened(endpoint) as session:
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


def test_the_other_engine_is_not_taken_for_this_one(docker_engine: Engine, podman_engine: Engine):
    for kind, socket in (("docker", podman_engine.socket), ("podman", docker_engine.socket)):
        with (
            pytest.raises(Unsupported, match="answers there"),
            opened(Endpoint(driver=kind, uri=f"{kind}+unix://{socket}")),
        ):
            pass


# -- what containers do that machines do not ----------------------------------------------------------------------------
@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with opened(engine.endpoint) as made:
        yield made
    engine.clear()


def ref_of(container) -> GuestRef:
    return GuestRef(uuid=container.id, name=container.name)


def test_a_container_that_is_taken_away_is_not_found_and_makes_news(engine: Engine, session):
    news = News(session)
    container = engine.make()
    ref = ref_of(container)
    session.start(ref)
    container.remove(force=True)
    assert news.expect(ref, "undefined").kind is GuestEventKind.UNDEFINED
    assert session.guest_or_none(ref) is None
    for verb in (session.start, session.shutdown, session.undefine, session.guest_state):
        with pytest.raises(NotFound):
            verb(ref)
    assert ref.uuid not in {info.uuid for info in session.guests()}


def test_a_name_or_a_piece_of_an_identity_names_nobody(engine: Engine, session):
    container = engine.make(name="deadbeefdead")
    for text in ("deadbeefdead", container.id[:12], container.id.upper(), "../x", "", container.id + "/json"):
        assert session.guest_or_none(GuestRef(uuid=text)) is None
    assert session.guest(ref_of(container)).name == "deadbeefdead"


def test_a_running_container_is_not_removed(engine: Engine, session):
    container = engine.make()
    container.start()
    with pytest.raises(WrongState):
        session.undefine(ref_of(container))
    container.pause()
    with pytest.raises(WrongState):
        session.undefine(ref_of(container))
    session.force_off(ref_of(container))
    assert session.guest_state(ref_of(container)) == (GuestState.SHUTOFF, "exited(137)")


def test_volumes_outlive_their_container(engine: Engine, session):
    volume = engine.client.volumes.create("keep")
    container = engine.make(volumes={"keep": {"bind": "/data", "mode": "ro"}})
    info = session.guest(ref_of(container))
    disks = {disk.target: disk for disk in info.disks}
    assert set(disks) == {"/", "/data"}
    assert (disks["/data"].pool, disks["/data"].readonly) == ("keep", True)
    session.undefine(ref_of(container))
    assert engine.client.volumes.get("keep").id == volume.id
    volume.remove()


def test_a_container_may_ignore_its_shutdown(engine: Engine, session):
    container = engine.make("trap '' TERM; while :; do sleep 1; done")
    container.start()
    session.shutdown(ref_of(container))
    assert session.guest_state(ref_of(container))[0] is GuestState.RUNNING


def test_shutdown_is_by_the_signal_that_the_image_names(engine: Engine, session):
    container = engine.make("trap 'exit 7' USR1; while :; do sleep 1 & wait; done", stop_signal="SIGUSR1")
    container.start()
    session.shutdown(ref_of(container))
    wait_until(lambda: session.guest_state(ref_of(container)) == (GuestState.SHUTOFF, "exited(7)"), 10, "its end")


def test_limits_are_what_a_guest_has(engine: Engine, session):
    container = engine.make(mem_limit="64m", nano_cpus=1_000_000_000, labels={"org.opencontainers.image.title": "Door"})
    info = session.guest(ref_of(container))
    assert (info.vcpus, info.memory_bytes, info.title) == (1, 64 << 20, "Door")
    assert info.boot["command"].startswith("/bin/sh -c")


def test_a_container_that_removes_itself_is_transient(engine: Engine, session):
    container = engine.make(auto_remove=True)
    assert not session.guest(ref_of(container)).persistent
    container.start()
    session.force_off(ref_of(container))
    wait_until(lambda: session.guest_or_none(ref_of(container)) is None, 10, "its removal")


def test_what_ends_and_is_started_again_can_be_stopped(engine: Engine, session):
    container = engine.make("exit 3", restart_policy={"Name": "always"})
    assert session.guest(ref_of(container)).autostart
    container.start()
    wait_until(lambda: engine.client.api.inspect_container(container.id)["RestartCount"] >= 1, 20, "a restart")
    wait_until(lambda: _stops(session, ref_of(container)), 10, "it stays off")


def _stops(session, ref: GuestRef) -> bool:
    with contextlib.suppress(WrongState):  # between two lives there is nothing to stop
        session.force_off(ref)
    return session.guest_state(ref)[0] is GuestState.SHUTOFF


def test_a_shutdown_is_not_undone_by_the_restart_policy(docker_engine: Engine):
    container = docker_engine.make(restart_policy={"Name": "always"})
    container.start()
    with opened(docker_engine.endpoint) as session:
        session.shutdown(ref_of(container))
        wait_until(lambda: session.guest_state(ref_of(container))[0] is GuestState.SHUTOFF, 10, "its end")
    container.reload()
    assert container.attrs["RestartCount"] == 0


def test_a_policy_that_serves_already_stays(docker_engine: Engine):
    container = docker_engine.make(restart_policy={"Name": "unless-stopped"})
    failing = docker_engine.make(restart_policy={"Name": "on-failure"})
    with opened(docker_engine.endpoint) as session:
        session.set_autostart(ref_of(container), enabled=True)
        session.set_autostart(ref_of(failing), enabled=False)
    names = [docker_engine.client.api.inspect_container(each.id)["HostConfig"]["RestartPolicy"]["Name"]
             for each in (container, failing)]  # fmt: skip
    assert names == ["unless-stopped", "on-failure"]


def test_a_container_without_a_shell_says_so(engine: Engine, session):
    container = engine.make("rm /bin/sh; exec /bin/busybox sleep 60")
    container.start()
    wait_until(lambda: b"busybox" in container.exec_run(["/bin/busybox", "ps"]).output, 5, "its start")
    for kind in ("shell", "serial"):
        with pytest.raises(Unsupported, match="no shell"):
            session.open_console(ref_of(container), kind)


def test_a_shell_that_does_not_start_says_why(engine: Engine, session):
    container = engine.make("rm /bin/sh; echo nonsense >/bin/sh; exec /bin/busybox sleep 60")
    container.start()
    wait_until(lambda: b"sleep" in container.exec_run(["/bin/busybox", "ps"]).output, 5, "its start")
    with pytest.raises(Unsupported, match="does not start"):
        session.open_console(ref_of(container), "shell")


def test_a_paused_container_has_no_shell(engine: Engine, session):
    container = engine.make()
    container.start()
    container.pause()
    with pytest.raises(WrongState):
        session.open_console(ref_of(container), "shell")


def test_the_shell_ends_with_its_window(engine: Engine, session):
    container = engine.make()
    container.start()
    console = session.open_console(ref_of(container), "shell")
    ask(console, b"sleep 12345 & echo up-$((6*7)); sleep 54321", b"up-42", 10)
    console.close()
    wait_until(lambda: not any("54321" in str(row) for row in container.top()["Processes"]), 10, "its end")


def test_a_flood_arrives_whole(engine: Engine, session):
    container = engine.make()
    container.start()
    console = session.open_console(ref_of(container), "shell")
    console.write(b"stty -echo; yes 0123456789abcdef | head -c 3400000; echo END-$((6*7))\n")
    assert read_until(console, b"END-42", 30).count(b"0123456789abcdef\r\n") == 200_000
    console.close()


def test_counters_tell_what_was_done(docker_engine: Engine):
    container = docker_engine.make("while :; do :; done")
    container.start()
    with opened(docker_engine.endpoint) as session:
        first = session.stats()
        assert [each.uuid for each in first] == [container.id]
        assert first[0].network_receive_bytes is not None
        wait_until(lambda: session.stats()[0].cpu_time_seconds > first[0].cpu_time_seconds + 0.2, 10, "load")
    container.kill()


def test_this_machine_is_told_as_it_is(engine: Engine, session):
    info = session.host_info()
    assert (info.hostname, info.kernel) == (os.uname().nodename, os.uname().release)
    assert info.hypervisor_version.lower().startswith(f"{engine.kind} ")
    assert (info.host_uuid, info.nested_virtualization) == ("", None)
    assert session.host_stats().cpu_busy_seconds > 0


def test_a_pods_infrastructure_is_no_guest(podman_engine: Engine):
    pod = {"name": "pod-1", "infra_image": "lab/busybox:1", "infra_command": ["/bin/sh", "-c", SERVE]}
    api = podman_engine.client.api
    made = api._post_json(f"{api.base_url}/v4.0.0/libpod/pods/create", data=pod)
    assert made.status_code == 201, made.text
    inside = podman_engine.make()
    with opened(podman_engine.endpoint) as session:
        assert len(api.containers(all=True)) == 2
        assert [info.uuid for info in session.guests()] == [inside.id]
    api.delete(f"{api.base_url}/v4.0.0/libpod/pods/pod-1?force=true")
    podman_engine.clear()
