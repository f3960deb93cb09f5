"""The production shape: four roles as processes on PostgreSQL and Redis, each of the six killed or restarted in turn."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from websockets.sync.client import connect

from core.crypto_key import ensure_key
from tests.chaos.conftest import (
    act,
    add_host,
    check_log,
    check_states,
    measured,
    operation,
    release,
    stuck,
    vm_of,
    wait_ended,
)  # fmt: skip
from tests.chaos.daemons import postgres_of, redis_of
from tests.labs import local
from tests.server import Clock, Server
from tests.services import postgres, redis_server
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.labs.fixtures import QemuGuestFactory
    from tests.server import Role

pytestmark = [pytest.mark.chaos, pytest.mark.real, pytest.mark.services, pytest.mark.timeout(178)]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Server]:
    key = tmp_path / "key"
    ensure_key(key, may_create=True)
    with (
        postgres() as database,
        redis_server() as broker,
        Server("web", VMM_DATABASE_URL=database, VMM_REDIS_URL=broker, VMM_KEY_FILE=str(key)) as server,
    ):
        yield server


def next_state(socket: object, vm: str, seconds: float) -> str:
    """The state that the next event of this guest tells."""
    deadline = time.monotonic() + seconds
    while True:
        event = json.loads(socket.recv(timeout=max(0.1, deadline - time.monotonic())))  # type: ignore[attr-defined]
        if event["type"] == "vm.state_changed" and event["object"]["id"] == vm:
            return event["data"]["to"]


def alive(*roles: Role) -> None:
    for role in roles:
        role.check_alive()


def test_each_process_killed_or_restarted_then_work_goes_on(web: Server, qemu_guest: QemuGuestFactory) -> None:
    guest, frozen = qemu_guest(kind="bootsector"), qemu_guest(kind="bootsector", start=True)
    worker, watcher, beat = (web.beside(role) for role in ("worker", "watcher", "beat"))
    add_host(web, "here", local.QEMU_URI)
    vm, cold = vm_of(web, guest)["id"], vm_of(web, frozen)["id"]
    ticket = web.api("POST", "/events/ticket").json()
    with connect(f"ws://127.0.0.1:{web.port}{ticket['url']}", subprotocols=ticket["protocols"]) as socket:
        socket.send(json.dumps({"subscribe": {"types": ["vm.state_changed"]}}))
        assert json.loads(socket.recv(timeout=10))["type"] == "subscribed"
        with Clock() as clock:
            assert act(web, vm, "start", Prefer="wait=30")["state"] == "succeeded"
        measured("four processes: start with Prefer: wait", clock.seconds)
        assert next_state(socket, vm, 10) == "running"

        # -- workers -----------------------------------------------------------------------------------------------------
        with stuck(frozen) as pids:
            wish = act(web, cold, "suspend")["id"]
            wait_until(lambda: operation(web, wish)["state"] == "running", 10, "under way")
            second = web.beside("worker")
            wait_until(lambda: act(web, vm, "autostart", {"enabled": False}, Prefer="wait=5"), 10, "both listen")
            with Clock() as clock:
                worker.kill()
                wait_until(lambda: operation(web, wish)["attempts"] == 2, 45, "the other worker takes over")
            measured("worker killed: until another one goes on", clock.seconds)
            with Clock() as clock:
                second.kill()
                third = web.beside("worker")
                wait_until(lambda: operation(web, wish)["attempts"] == 3, 20, "a new worker takes over at its start")
            measured("worker killed and started: until it goes on", clock.seconds)
            release(pids)
            assert wait_ended(web, [wish], 40)[wish]["state"] == "succeeded"
        assert next_state(socket, cold, 10) == "paused"

        # -- watchers ----------------------------------------------------------------------------------------------------
        other = web.beside("watcher")
        wait_until(lambda: "vmm" in other.log or other.threads() > 2, 15, "the second watcher runs")
        with Clock() as clock:
            watcher.kill()
            guest.virsh("suspend")
            assert next_state(socket, vm, 30) == "paused"
        measured("watcher killed: until another one tells news", clock.seconds)

        # -- Redis -------------------------------------------------------------------------------------------------------
        broker = redis_of(web.env["VMM_REDIS_URL"])
        broker.stop()
        asked = act(web, vm, "resume")["id"]
        assert web.api("GET", "/vms").status_code == 200
        broker.start()
        try:
            with Clock() as clock:
                assert wait_ended(web, [asked], 45)[asked]["state"] == "succeeded"
            measured("Redis back: until what was asked meanwhile is done", clock.seconds)
            assert next_state(socket, vm, 20) == "running"
            alive(web, third, other, beat)

            # -- PostgreSQL ------------------------------------------------------------------------------------------------
            database = postgres_of(web.env["VMM_DATABASE_URL"])
            database.stop()
            assert web.api("GET", "/vms").status_code == 503
            database.start()
            try:
                with Clock() as clock:
                    wait_until(lambda: web.api("GET", "/vms").status_code == 200, 20, "the pages are back")
                measured("PostgreSQL back: until pages are", clock.seconds)
                with Clock() as clock:
                    for _ in range(20):
                        assert web.api("GET", "/vms").status_code == 200, "no connection of before is handed out"
                    assert act(web, vm, "suspend", Prefer="wait=30")["state"] == "succeeded"
                measured("pages back: until 20 calls and an action are done", clock.seconds)
                assert next_state(socket, vm, 20) == "paused"
                alive(web, third, other, beat)
                check_states(web, [guest, frozen], 20)
                check_log(web)
                for role in (other, beat, third):
                    assert role.stop() == 0, role.log[-3000:]
                assert web.stop() == 0
            finally:
                database.close()
        finally:
            broker.close()
