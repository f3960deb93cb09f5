"""Facts about a running product, from outside it: REST, its database's file, the hypervisors themselves."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.labs import local
    from tests.server import Server

ENDED = ("succeeded", "failed", "cancelled")
STATES = {"running": "running", "paused": "paused", "shut off": "shutoff", "in shutdown": "shutting_down"}
"""virsh's words in ours."""
MEASURED: dict[str, str] = {}


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was measured, for whoever writes it down."""
    for name, value in sorted(MEASURED.items()):
        terminalreporter.write_line(f"measured: {name}: {value}")


def measured(name: str, seconds: float) -> None:
    MEASURED[name] = f"{seconds:.2f} s"


def add_host(server: Server, name: str, *uris: str, credentials: dict[str, str] | None = None) -> dict[str, Any]:
    """Register a host and wait until all its hypervisors are online."""
    endpoints = [{"uri": uri, **({"credentials": credentials} if credentials else {})} for uri in uris]
    answer = server.api("POST", "/hosts", json={"name": name, "hypervisors": endpoints})
    assert answer.status_code == 201, answer.text
    return wait_host(server, answer.json()["id"], "online", 30)


def wait_host(server: Server, host: str, state: str, seconds: float) -> dict[str, Any]:
    """Wait until all hypervisors of a host stand so; the host."""

    def stands() -> dict[str, Any] | None:
        found = server.get(f"/hosts/{host}")
        return found if {item["state"] for item in found["hypervisors"]} == {state} else None

    return wait_until(stands, seconds, f"host {state}")


def vm_of(server: Server, guest: local.Guest, seconds: float = 10.0) -> dict[str, Any]:
    """The guest as REST tells it, once it is seen."""

    def find() -> dict[str, Any] | None:
        return next((vm for vm in server.get(f"/vms?q={guest.name}")["items"] if vm["uuid"] == guest.uuid), None)

    return wait_until(find, seconds, f"{guest.name} is seen")


def act(server: Server, vm: str, action: str, body: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
    """Queue an action; the operation."""
    answer = server.api("POST", f"/vms/{vm}/actions/{action}", json=body, **headers)
    assert answer.status_code in (200, 202), answer.text
    return answer.json()


def operation(server: Server, id_: str) -> dict[str, Any]:
    return server.get(f"/operations/{id_}")


def wait_ended(server: Server, ids: Sequence[str], seconds: float) -> dict[str, dict[str, Any]]:
    """Wait until all of these have ended; by id."""

    def over() -> dict[str, dict[str, Any]]:
        found = {item["id"]: item for item in server.all("/operations")}
        return found if all(found[id_]["state"] in ENDED for id_ in ids) else {}

    try:
        return wait_until(over, seconds, "all operations have ended")
    except AssertionError as error:
        open_ = [item for item in server.all("/operations") if item["state"] not in ENDED]
        raise AssertionError(f"{error}; open: {open_}") from None


def check_log(server: Server) -> None:
    """From the event log: on no target did two operations run at once; each attempt is one run; an end is the last word."""
    running: dict[str, set[str]] = defaultdict(set)
    runs: dict[str, int] = defaultdict(int)
    last: dict[str, str] = {}
    for event in server.all("/events?after=0&type=operation.changed"):
        id_, target, state = event["object"]["id"], event["data"]["target"], event["data"]["state"]
        assert last.get(id_) not in ENDED, f"{id_} went on after its end"
        if state == "running" and last.get(id_) != "running":
            assert not running[target], f"two at once on {target}: {running[target]} and {id_}"
            running[target].add(id_)
            runs[id_] += 1
        elif state != "running":
            running[target].discard(id_)
        last[id_] = state
    for item in server.all("/operations"):
        if not item["kind"].endswith(".bulk"):
            assert last[item["id"]] == item["state"]
            assert runs[item["id"]] == item["attempts"]


def locks_held(server: Server) -> int:
    """From the database's file."""
    with contextlib.closing(sqlite3.connect(f"file:{server.data_dir}/db.sqlite3?mode=ro", uri=True)) as database:
        return database.execute("SELECT count(*) FROM operations_operation WHERE holds_lock").fetchone()[0]


def check_states(server: Server, guests: Sequence[local.Guest], seconds: float = 10.0) -> None:
    """What REST says of these guests is what virsh says."""

    def differ() -> list[tuple[str, str, str]]:
        known = {vm["uuid"]: vm["state"] for vm in server.all("/vms")}
        pairs = [(guest.name, known.get(guest.uuid, "gone"), STATES[guest.state]) for guest in guests]
        return [pair for pair in pairs if pair[1] != pair[2]]

    wait_until(lambda: not differ(), seconds, "states equal to virsh's")


@contextlib.contextmanager
def stuck(*guests: local.Guest) -> Iterator[list[int]]:
    """Stop the processes of QEMU guests: every command to them waits in libvirtd until they go on."""
    pids = [int(Path(f"/run/libvirt/qemu/{guest.name}.pid").read_text()) for guest in guests]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield pids
    finally:
        release(pids)


def release(pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.fixture(autouse=True)
def _no_zombies() -> Iterator[None]:
    """No process of the product outlives its test."""
    before = _ours()  # the browser tests' own lives as long as the run
    yield
    left = _ours() - before
    assert not left, f"left behind: {left}"


def _ours() -> set[str]:
    return {path.parent.name for path in Path("/proc").glob("[0-9]*/stat") if _child_of_ours(path)}


def _child_of_ours(stat: Path) -> bool:
    try:
        fields = stat.read_text().rpartition(")")[2].split()
        command = (stat.parent / "cmdline").read_bytes()
    except OSError:
        return False
    return int(fields[1]) == os.getpid() and b"manage.py" in command
