"""Docker and Podman themselves: the conformance suite on both engines, and what only they have."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from drivers import registry
from drivers.errors import NotFound, Unsupported, WrongState
from drivers.types import GuestEventKind, GuestRef, GuestSpec, GuestState, NicSpec
from tests.drivers.conformance import Conformance, Lab, News, ask, read_until
from tests.labs.engines import IMAGE, SERVE, opened, ref_of
from tests.vms.sites import gone, made, managed
from tests.waiting import wait_until
from tests.web.conftest import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drivers.base import Session
    from hosts.models import Hypervisor
    from tests.conftest import Api
    from tests.labs.engines import Engine

__all__ = ["workers"]
pytestmark = [pytest.mark.lab]


def lab_of(engine: Engine) -> Iterator[Lab]:
    def make() -> GuestRef:
        return ref_of(engine.make())

    def addressed() -> GuestRef:
        container = engine.make()
        container.start()
        return ref_of(container)

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
        spec=lambda: spec_of(engine),
        network="bridge",
        addressed=addressed if engine.kind == "docker" else None,  # the lab's Podman has no network to give any from
    )
    session.close()


def spec_of(engine: Engine, **changes: Any) -> GuestSpec:
    """A container of the lab's image that obeys its shutdown."""
    plain = GuestSpec(
        name=f"made-{next(engine.numbers)}",
        uuid=str(uuid.uuid4()),
        memory_bytes=64 << 20,
        image=IMAGE,
        init=shlex.join(["/bin/sh", "-c", SERVE]),
        graphics="none",
    )
    return dataclasses.replace(plain, **changes)


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


# -- what containers do that machines do not ----------------------------------------------------------------------------
@pytest.fixture(autouse=True)
def nothing_is_left(request) -> Iterator[None]:
    """The engines live longer than a test."""
    yield
    for name in {"docker_engine", "podman_engine"} & set(request.fixturenames):
        request.getfixturevalue(name).clear()


@pytest.fixture
def session(container_engine: Engine) -> Iterator[Session]:
    with opened(container_engine.endpoint) as made:
        yield made
    container_engine.clear()


def test_a_container_that_is_taken_away_is_not_found_and_makes_news(container_engine: Engine, session):
    news = News(session)
    container = container_engine.make()
    ref = ref_of(container)
    session.start(ref)
    container.remove(force=True)
    assert news.expect(ref, "undefined").kind is GuestEventKind.UNDEFINED
    assert session.guest_or_none(ref) is None
    for verb in (session.start, session.shutdown, session.undefine, session.guest_state):
        with pytest.raises(NotFound):
            verb(ref)
    assert ref.uuid not in {info.uuid for info in session.guests()}


# -- making ------------------------------------------------------------------------------------------------------------
def test_a_made_container_has_what_was_asked_for(container_engine: Engine, session):
    spec = spec_of(container_engine, title="Front & <door>", metadata={"tags": "a b"}, init="")
    info = session.create(spec)
    assert (info.title, info.metadata) == ("Front & <door>", {"tags": "a b"})
    assert info.os.endswith(IMAGE)  # Podman says where it would come from
    told = container_engine.client.api.inspect_container(info.uuid)
    assert (told["HostConfig"]["Memory"], told["HostConfig"]["NanoCpus"]) == (64 << 20, 1_000_000_000)
    assert told["Config"]["Tty"]
    assert told["Config"]["OpenStdin"]
    session.start(info.ref)  # the image's own command is a shell, which lives on at a terminal
    console = session.open_console(info.ref, "serial")
    ask(console, b"echo made-$((6*7))", b"made-42")
    console.close()
    assert session.guest_state(info.ref)[0] is GuestState.RUNNING


def test_an_image_that_is_not_there_is_not_found_and_nothing_is_made(container_engine: Engine, session):
    spec = spec_of(container_engine, image="nobody/nothing:9")
    for verb in (session.design, session.create):
        with pytest.raises(NotFound, match=r"image: .*pull nobody/nothing:9") as refusal:
            verb(spec)
        assert refusal.value.context["field"] == "image"
    assert spec.name not in {info.name for info in session.guests()}


def test_a_container_off_every_network_says_so(container_engine: Engine, session):
    ref = session.create(spec_of(container_engine, interfaces=(NicSpec(network="none"),))).ref
    session.start(ref)
    assert list(session.addresses(ref)) == ["lease"]
    assert "no network" in session.addresses(ref)["lease"]


def test_a_name_or_a_piece_of_an_identity_names_nobody(container_engine: Engine, session):
    container = container_engine.make(name="deadbeefdead")
    for text in ("deadbeefdead", container.id[:12], container.id.upper(), "../x", "", container.id + "/json"):
        assert session.guest_or_none(GuestRef(uuid=text)) is None
    assert session.guest(ref_of(container)).name == "deadbeefdead"


def test_a_running_container_is_not_removed(container_engine: Engine, session):
    container = container_engine.make()
    container.start()
    with pytest.raises(WrongState):
        session.undefine(ref_of(container))
    container.pause()
    with pytest.raises(WrongState):
        session.undefine(ref_of(container))
    session.force_off(ref_of(container))
    assert session.guest_state(ref_of(container)) == (GuestState.SHUTOFF, "exited(137)")


def test_volumes_outlive_their_container(container_engine: Engine, session):
    volume = container_engine.client.volumes.create("keep")
    container = container_engine.make(volumes={"keep": {"bind": "/data", "mode": "ro"}})
    info = session.guest(ref_of(container))
    disks = {disk.target: disk for disk in info.disks}
    assert set(disks) == {"/", "/data"}
    assert (disks["/data"].pool, disks["/data"].readonly) == ("keep", True)
    session.undefine(ref_of(container))
    assert container_engine.client.volumes.get("keep").id == volume.id
    volume.remove()


def test_a_container_may_ignore_its_shutdown(container_engine: Engine, session):
    container = container_engine.make("trap '' TERM; while :; do sleep 1; done")
    container.start()
    for _ in range(2):
        session.shutdown(ref_of(container))
        # Podman knows that it was asked to.
        waits = {"docker": (GuestState.RUNNING, "booted"), "podman": (GuestState.SHUTTING_DOWN, "stopping")}
        assert session.guest_state(ref_of(container)) == waits[container_engine.kind]
    session.force_off(ref_of(container))
    assert session.guest_state(ref_of(container)) == (GuestState.SHUTOFF, "exited(137)")


def test_shutdown_is_by_the_signal_that_the_image_names(container_engine: Engine, session):
    container = container_engine.make("trap 'exit 7' USR1; while :; do sleep 1 & wait; done", stop_signal="SIGUSR1")
    container.start()
    session.shutdown(ref_of(container))
    wait_until(lambda: session.guest_state(ref_of(container)) == (GuestState.SHUTOFF, "exited(7)"), 10, "its end")


def test_limits_are_what_a_guest_has(container_engine: Engine, session):
    container = container_engine.make(
        mem_limit="64m", nano_cpus=1_000_000_000, labels={"org.opencontainers.image.title": "Door"}
    )
    info = session.guest(ref_of(container))
    assert (info.vcpus, info.memory_bytes, info.title) == (1, 64 << 20, "Door")
    assert info.boot["command"].startswith("/bin/sh -c")


def test_a_container_that_removes_itself_is_transient(container_engine: Engine, session):
    container = container_engine.make(auto_remove=True)
    assert not session.guest(ref_of(container)).persistent
    container.start()
    session.force_off(ref_of(container))
    wait_until(lambda: session.guest_or_none(ref_of(container)) is None, 10, "its removal")


def test_what_ends_and_is_started_again_can_be_stopped(container_engine: Engine, session):
    container = container_engine.make("exit 3", restart_policy={"Name": "always"})
    assert session.guest(ref_of(container)).autostart
    container.start()
    wait_until(
        lambda: container_engine.client.api.inspect_container(container.id)["RestartCount"] >= 1, 20, "a restart"
    )
    wait_until(lambda: _stops(session, ref_of(container)), 10, "it stays off")


def _stops(session, ref: GuestRef) -> bool:
    with contextlib.suppress(WrongState):  # between two lives there is nothing to stop
        session.force_off(ref)
    return session.guest_state(ref)[0] is GuestState.SHUTOFF


@pytest.mark.parametrize("verb", ["shutdown", "force_off"])
def test_what_is_switched_off_is_not_brought_back_by_its_policy(container_engine: Engine, session, verb):
    container = container_engine.make(restart_policy={"Name": "always"})
    container.start()
    getattr(session, verb)(ref_of(container))
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


def test_a_container_without_a_shell_says_so(container_engine: Engine, session):
    container = container_engine.make("rm /bin/sh; exec /bin/busybox sleep 60")
    container.start()
    wait_until(lambda: b"busybox" in container.exec_run(["/bin/busybox", "ps"]).output, 5, "its start")
    for kind in ("shell", "serial"):
        with pytest.raises(Unsupported, match="no shell"):
            session.open_console(ref_of(container), kind)


def test_a_shell_that_does_not_start_says_why(container_engine: Engine, session):
    container = container_engine.make("rm /bin/sh; echo nonsense >/bin/sh; exec /bin/busybox sleep 60")
    container.start()
    wait_until(lambda: b"sleep" in container.exec_run(["/bin/busybox", "ps"]).output, 5, "its start")
    with pytest.raises(Unsupported, match="does not start"):
        session.open_console(ref_of(container), "shell")


def test_a_paused_container_has_no_shell(container_engine: Engine, session):
    container = container_engine.make()
    container.start()
    container.pause()
    with pytest.raises(WrongState):
        session.open_console(ref_of(container), "shell")


def test_the_shell_ends_with_its_window(container_engine: Engine, session):
    container = container_engine.make()
    container.start()
    console = session.open_console(ref_of(container), "shell")
    ask(console, b"sleep 12345 & echo up-$((6*7)); sleep 54321", b"up-42", 10)
    console.close()
    wait_until(lambda: not any("54321" in str(row) for row in container.top()["Processes"]), 10, "its end")


def test_a_flood_arrives_whole(container_engine: Engine, session):
    container = container_engine.make()
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


def test_this_machine_is_told_as_it_is(container_engine: Engine, session):
    info = session.host_info()
    assert (info.hostname, info.kernel) == (os.uname().nodename, os.uname().release)
    assert info.hypervisor_version.lower().startswith(f"{container_engine.kind} ")
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


# -- over REST ----------------------------------------------------------------------------------------------------------
def asked(hypervisor: Hypervisor, name: str, **values: Any) -> dict[str, Any]:
    """The body of a new container's call."""
    box = {"image": IMAGE, "init": shlex.join(["/bin/sh", "-c", SERVE])}
    plain = {"name": name, "hypervisor": str(hypervisor.pk), "memory_bytes": 64 << 20, "container": box, "tags": ["ci"]}
    return plain | values


@pytest.mark.django_db(transaction=True)
def test_a_container_is_made_over_rest_once_and_goes(
    api: Api, container_engine: Engine, workers: Callable[[], None]
) -> None:
    with managed(container_engine.endpoint) as hypervisor:
        body = asked(hypervisor, "rest-1")
        draft = api.post("/vms?dry_run=true", body).json()
        assert f'"Image": "{IMAGE}"' in draft["definition"]
        assert container_engine.client.containers.list(all=True) == []
        ended = made(api, body)
        assert ended["state"] == "succeeded", ended
        vm = api.get(f"/vms/{ended['result']['vm']}").json()
        assert (vm["name"], vm["state"], vm["kind"], vm["tags"]) == ("rest-1", "running", "container", ["ci"])
        [container] = container_engine.client.containers.list()
        assert (container.name, container.labels["vmmanager.fact.id"]) == ("rest-1", vm["id"])
        gone(api, vm["id"], storage="keep")
        assert container_engine.client.containers.list(all=True) == []


@pytest.mark.django_db(transaction=True)
def test_a_container_on_a_network_says_its_address(
    api: Api, docker_engine: Engine, workers: Callable[[], None]
) -> None:
    with managed(docker_engine.endpoint) as hypervisor:
        body = asked(hypervisor, "rest-2", interfaces=[{"network": "bridge"}], wait_for="address")
        ended = made(api, body)
        assert ended["state"] == "succeeded", ended
        [address] = ended["result"]["addresses"]
        [container] = docker_engine.client.containers.list()
        assert container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == address["address"]


@pytest.mark.django_db(transaction=True)
def test_an_image_that_the_engine_has_not_is_refused_with_what_to_do(
    api: Api, container_engine: Engine, workers: Callable[[], None]
) -> None:
    with managed(container_engine.endpoint) as hypervisor:
        body = asked(hypervisor, "rest-3", container={"image": "docker.io/library/nothing:1"})
        for answer in (api.post("/vms?dry_run=true", body), api.post("/vms", body, Prefer="wait=30")):
            told = answer.json().get("error") or answer.json()
            assert (told["code"], "pull docker.io/library/nothing:1" in told["detail"]) == ("not_found", True)
        assert container_engine.client.containers.list(all=True) == []
