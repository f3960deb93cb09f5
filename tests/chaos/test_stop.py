"""SIGTERM with work under way and sockets open: gone in time, sockets told why, the work goes on at the next start."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.chaos.conftest import (
    act,
    add_host,
    check_log,
    check_states,
    locks_held,
    measured,
    operation,
    release,
    stuck,
    vm_of,
    wait_ended,
)  # fmt: skip
from tests.labs import local
from tests.server import Clock, Server
from tests.waiting import wait_until

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

    from tests.labs.fixtures import QemuGuestFactory

pytestmark = [pytest.mark.chaos, pytest.mark.real, pytest.mark.alone, pytest.mark.timeout(120)]


def socket_of(stack: ExitStack, server: Server, ticket_path: str, body: Any = None) -> ClientConnection:
    """A socket by a one-use ticket."""
    answer = server.api("POST", ticket_path, json=body)
    assert answer.status_code == 201, answer.text
    ticket = answer.json()
    url = f"ws://127.0.0.1:{server.port}{ticket['url']}"
    return stack.enter_context(connect(url, subprotocols=ticket["protocols"], compression=None))


def code_of(client: ClientConnection) -> int:
    """Reads to the end; 1006 when the connection broke without a closing frame."""
    with suppress(ConnectionClosed):
        while True:
            client.recv(timeout=10)
    return client.protocol.close_code or 1006


def test_sigterm_with_work_under_way_then_ends_in_time_and_goes_on_at_the_next_start(
    qemu_guest: QemuGuestFactory,
) -> None:
    frozen, talking = (qemu_guest(kind="bootsector", start=True) for _ in range(2))
    with Server() as server, stuck(frozen) as pids, ExitStack() as stack:
        add_host(server, "here", local.QEMU_URI)
        wish = act(server, vm_of(server, frozen)["id"], "suspend")["id"]
        waiting = act(server, vm_of(server, talking)["id"], "shutdown", {"timeout_seconds": 6, "force_after": True})[
            "id"
        ]
        wait_until(lambda: {operation(server, id_)["state"] for id_ in (wish, waiting)} == {"running"}, 10, "both run")
        events = socket_of(stack, server, "/events/ticket")
        events.send(json.dumps({"subscribe": {}}))
        assert json.loads(events.recv(timeout=10))["type"] == "subscribed"
        console = socket_of(stack, server, f"/vms/{vm_of(server, talking)['id']}/console", {"type": "serial"})
        with Clock() as clock:
            server.kill(signal.SIGTERM)
            codes = [code_of(events), code_of(console)]
            assert server.wait(10) == 0, server.log[-3000:]
        measured("SIGTERM to exit with work under way", clock.seconds)
        assert codes == [1012, 1012]
        assert locks_held(server) == 0, "handed back before it went"
        assert "Traceback" not in server.log, server.log[-6000:]
        with Clock() as clock:
            server.start()
        measured("second start to ready", clock.seconds)
        wait_until(lambda: operation(server, wish)["attempts"] == 2, 10, "goes on")
        release(pids)
        found = wait_ended(server, [wish, waiting], 40)
        assert [found[id_]["state"] for id_ in (wish, waiting)] == ["succeeded", "succeeded"]
        check_log(server)
        check_states(server, [frozen, talking])


def test_idle_then_ends_at_once_and_twice_sigint_is_no_harm() -> None:
    with Server() as server:
        with Clock() as clock:
            server.kill(signal.SIGINT)
            server.kill(signal.SIGINT)
            assert server.wait(10) == 0, server.log[-3000:]
        measured("SIGINT to exit when idle", clock.seconds)
