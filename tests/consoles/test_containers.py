"""Containers of real Docker and Podman engines through the product as its users run it: listed, driven, entered."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.consoles.client import ConsoleClient
from tests.server import Server
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.labs.engines import Engine

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def server(docker_engine: Engine, podman_engine: Engine) -> Iterator[Server]:
    """One host with both engines."""
    with Server() as running:
        hypervisors = [{"uri": engine.endpoint.uri} for engine in (docker_engine, podman_engine)]
        answer = running.api("POST", "/hosts", json={"name": "boxes", "hypervisors": hypervisors})
        assert answer.status_code == 201, answer.text
        yield running


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest, server: Server) -> Iterator[Engine]:
    found = request.getfixturevalue(f"{request.param}_engine")
    yield found
    found.clear()


def listed(server: Server, uuid: str, state: str) -> dict[str, Any] | None:
    return next((vm for vm in server.all("/vms") if vm["uuid"] == uuid and vm["state"] == state), None)


def arrived(server: Server, uuid: str, state: str) -> dict[str, Any]:
    return wait_until(lambda: listed(server, uuid, state), 30, f"{uuid[:12]} is {state}")


async def opened(server: Server, vm: dict[str, Any], kind: str) -> ConsoleClient:
    answer = server.api("POST", f"/vms/{vm['id']}/console", json={"type": kind})
    assert answer.status_code == 201, answer.text
    return await ConsoleClient.open(f"127.0.0.1:{server.port}", answer.json()["protocols"])


def test_a_container_is_driven_like_any_guest(server: Server, engine: Engine) -> None:
    container = engine.make()
    vm = arrived(server, container.id, "shutoff")
    assert (vm["name"], vm["kind"], vm["virtualization_type"]) == (container.name, "container", "os_level")
    for action, state in (("start", "running"), ("suspend", "paused"), ("resume", "running"), ("shutdown", "shutoff")):
        answer = server.api("POST", f"/vms/{vm['id']}/actions/{action}", Prefer="wait=30")
        assert answer.json()["state"] == "succeeded", answer.text
        assert server.get(f"/vms/{vm['id']}")["state"] == state
    refused = server.api("POST", f"/vms/{vm['id']}/actions/reset")
    assert (refused.status_code, refused.json()["code"]) == (422, "unsupported")
    assert "reset button" in refused.json()["detail"]


def test_what_is_done_outside_is_seen_at_once(
    server: Server, engine: Engine, record_property: Callable[..., None]
) -> None:
    container = engine.make()
    arrived(server, container.id, "shutoff")
    container.start()
    began = time.perf_counter()
    arrived(server, container.id, "running")
    took = time.perf_counter() - began
    record_property("outside_start_ms", round(1000 * took))
    print(f"{engine.kind}: a start outside was listed after {1000 * took:.0f} ms")
    container.remove(force=True)
    wait_until(lambda: not any(vm["uuid"] == container.id for vm in server.all("/vms")), 20, "it is gone")


async def test_two_people_have_a_shell_each(server: Server, engine: Engine) -> None:
    container = engine.make()
    container.start()
    vm = await asyncio.to_thread(arrived, server, container.id, "running")
    shell, serial = await opened(server, vm, "shell"), await opened(server, vm, "serial")
    for number, client in enumerate((shell, serial)):
        await client.resize(100 + number, 30)
        await client.ask("stty size; echo one-$((6*7))", f"30 {100 + number}")
    await shell.leave()
    await asyncio.to_thread(container.kill)
    assert (await serial.code())[0] == 4404


def test_the_page_offers_the_shell(server: Server, engine: Engine) -> None:
    container = engine.make()
    container.start()
    vm = arrived(server, container.id, "running")
    with server.browser() as client:
        page = server.page(f"/vms/{vm['id']}", client)
        frame = server.page(f"/vms/{vm['id']}/console?type=shell", client)
    assert page.status_code == 200
    assert 'data-console="shell"' in page.text
    assert (frame.status_code, 'data-type="shell"' in frame.text) == (200, True)


async def test_a_container_without_a_shell_closes_with_the_reason(server: Server, engine: Engine) -> None:
    container = engine.make("rm /bin/sh; exec /bin/busybox sleep 60")
    container.start()
    vm = await asyncio.to_thread(arrived, server, container.id, "running")
    wait_until(lambda: b"busybox" in container.exec_run(["/bin/busybox", "ps"]).output, 5, "its start")
    client = await opened(server, vm, "shell")
    assert "no shell" in (await client.code())[1]
