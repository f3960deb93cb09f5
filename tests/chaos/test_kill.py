"""kill -9 in the middle of 20 operations on real guests, twice: all end, none ran twice, none is lost."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

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
from tests.server import Server
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tests.labs.fixtures import GuestFactory, QemuGuestFactory

pytestmark = [pytest.mark.chaos, pytest.mark.real, pytest.mark.alone, pytest.mark.timeout(150)]

WISHES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("frozen", "suspend", None),
    ("sent", "reset", None),
    ("off-a", "start", None),
    ("off-b", "start", None),
    ("off-b", "suspend", None),
    ("on-a", "managed-save", None),
    ("on-a", "start", None),
    ("on-b", "shutdown", {"timeout_seconds": 3, "force_after": True}),
    ("on-b", "autostart", {"enabled": True}),
    ("on-b", "autostart", {"enabled": False}),
    ("on-c", "reboot", None),
    ("on-c", "suspend", None),
    ("on-c", "resume", None),
    ("on-d", "force-off", None),
    ("box-off", "start", None),
    ("box-off", "shutdown", {"timeout_seconds": 20, "force_after": True}),
    ("box-on", "reboot", None),
    ("box-on", "force-off", None),
    ("box-auto", "autostart", {"enabled": True}),
    ("box-auto", "autostart", {"enabled": False}),
    ("test", "suspend", None),
    ("test", "resume", None),
]
"""Guest, action, parameters. In an order in which each makes sense when its turn comes."""
MAY_HAVE_BEEN_SENT = {"vm.reset", "vm.reboot"}
"""What is not repeated when the process died after sending it, and then says so."""
FORGOTTEN = ("vm.resume", "test", "wrong_state")
"""libvirt's test driver lives in the killed process: its guest runs again at the next start, and there is nothing to resume
when the kill came between the two wishes."""


@pytest.fixture
def fleet(qemu_guest: QemuGuestFactory, lxc_guest: GuestFactory) -> dict[str, local.Guest]:
    """Guests of the machine by the names above."""
    found = {}
    for label in ("frozen", "sent", "off-a", "off-b", "on-a", "on-b", "on-c", "on-d"):
        found[label] = qemu_guest(kind="bootsector", start=not label.startswith("off"))
    for label in ("box-off", "box-on", "box-auto"):
        found[label] = lxc_guest(start=label == "box-on")
    found["sent"].wait_ready()
    return found


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


def ids_of(server: Server, fleet: dict[str, local.Guest]) -> dict[str, str]:
    """Labels to the ids of REST, the demo host's only guest as `test`."""
    ids = {label: vm_of(server, guest)["id"] for label, guest in fleet.items()}
    demo = server.api("POST", "/hosts/demo").json()
    ids["test"] = wait_until(lambda: server.get(f"/vms?host={demo['id']}&q=test")["items"], 10, "the demo guest")[0][
        "id"
    ]
    return ids


def test_kill_in_the_middle_of_20_operations_then_all_end_none_twice_none_lost(
    server: Server, fleet: dict[str, local.Guest]
) -> None:
    add_host(server, "here", local.QEMU_URI, "lxc:///")
    vms = ids_of(server, fleet)
    with stuck(fleet["frozen"], fleet["sent"]) as pids:
        asked = [act(server, vms[label], action, body)["id"] for label, action, body in WISHES]
        assert len(set(asked)) == len(WISHES)
        wait_until(lambda: {operation(server, id_)["state"] for id_ in asked[:2]} == {"running"}, 10, "two are stuck")
        wait_until(lambda: operation(server, asked[2])["state"] == "succeeded", 20, "others are under way")
        server.kill(signal.SIGKILL)
        server.start()
        wait_until(lambda: operation(server, asked[0])["attempts"] == 2, 20, "taken over")
        server.kill(signal.SIGKILL)
        began = time.monotonic()
        server.start()
        wait_until(lambda: operation(server, asked[0])["attempts"] == 3, 20, "taken over again")
        release(pids)
        found = wait_ended(server, asked, began + 60 - time.monotonic())
    measured("killed in the middle of 20: from start to the last end", time.monotonic() - began)
    failed = {id_: found[id_] for id_ in asked if found[id_]["state"] != "succeeded"}
    for item in failed.values():
        if item["state"] == "cancelled":  # Force off, asked for while it still waited its turn
            assert item["message"] == "superseded by force off", item
            continue
        if (item["kind"], item["target"]["name"], item["error"]["code"]) == FORGOTTEN:
            continue
        assert (item["kind"] in MAY_HAVE_BEEN_SENT, item["error"]["code"]) == (True, "interrupted"), item
    assert asked[1] in failed, "the reset had been sent when its process died"
    assert set(found) >= set(asked)
    assert found[asked[0]]["attempts"] == 3
    check_log(server)
    assert locks_held(server) == 0
    check_states(server, list(fleet.values()))
    # Each boot of the boot sector says one `!`: the reset happened once, whoever asked for it how often.
    wait_until(lambda: fleet["sent"].serial_output() == "!!", 20, "one reset")
    fleet["off-b"].virsh("resume")  # suspended right after its start, it may not have come to its boot sector
    wait_until(fleet["off-b"].serial_output, 20, "the guest that was started once has booted")
    assert [fleet[label].serial_output() for label in ("frozen", "off-b")] == ["!", "!"]
    assert fleet["frozen"].state == "paused"
