"""Pools and volumes on this machine's libvirtd, by REST and beside it: each sees what the other does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from core.units import MIB
from tests.labs.fixtures import require_libvirtd
from tests.labs.local import PREFIX, QEMU_URI, virsh
from tests.server import Server
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

NAME = f"{PREFIX}app"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    require_libvirtd(QEMU_URI)
    with Server(VMM_LOCAL_HOST="auto") as running:
        yield running


@pytest.fixture
def host(server: Server) -> str:
    return str(next(one for one in server.all("/hypervisors") if one["uri"] == QEMU_URI)["host"])


def done(server: Server, method: str, path: str, body: Any = None) -> Any:
    """An operation's good end."""
    answer = server.api(method, path, json=body, Prefer="wait=60")
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "succeeded", answer.json()["error"]
    return answer.json()


def test_what_is_made_here_is_there_and_what_is_made_there_shows_here(
    server: Server, host: str, pool_home: Path
) -> None:
    body = {"host": host, "name": NAME, "type": "dir", "target": str(pool_home / "p"), "autostart": False}
    pool = done(server, "POST", "/storage-pools", body)["result"]["pool"]
    try:
        assert "running" in virsh(QEMU_URI, "pool-info", NAME)
        seen = server.get(f"/storage-pools/{pool}")
        assert (seen["state"], seen["target"], seen["volume_count"]) == ("running", str(pool_home / "p"), 0)
        assert seen["capacity_bytes"] > seen["available_bytes"] > 0

        base = {"pool": pool, "name": "base.qcow2", "capacity_bytes": 8 * MIB}
        made = done(server, "POST", "/volumes", base)["result"]["volume"]
        done(server, "POST", "/volumes", {"pool": NAME, "name": "over.qcow2", "backing": "base.qcow2"})
        done(server, "POST", f"/volumes/{made}/actions/clone", {"name": "copy.qcow2"})
        assert "qcow2" in virsh(QEMU_URI, "vol-dumpxml", "--pool", NAME, "over.qcow2")
        refused = server.api("DELETE", f"/volumes/{made}")
        assert (refused.status_code, refused.json()["context"]["used_by"][0]["name"]) == (409, "over.qcow2")
        grown = server.api("PATCH", f"/volumes/{volume(server, pool, 'copy.qcow2')}", json={"capacity_bytes": 16 * MIB})
        assert (grown.status_code, grown.json()["capacity_bytes"]) == (200, 16 * MIB)

        virsh(QEMU_URI, "vol-create-as", NAME, "outside.raw", "4MiB")
        virsh(QEMU_URI, "vol-delete", "--pool", NAME, "over.qcow2")
        server.api("POST", f"/hosts/{host}/refresh")
        names = {"base.qcow2", "copy.qcow2", "outside.raw"}
        wait_until(lambda: {one["name"] for one in server.all(f"/volumes?pool={pool}")} == names, 15, "what virsh did")
        for name in sorted(names):
            done(server, "DELETE", f"/volumes/{volume(server, pool, name)}")
        assert list((pool_home / "p").iterdir()) == []

        done(server, "POST", f"/storage-pools/{pool}/actions/stop")
        assert "inactive" in virsh(QEMU_URI, "pool-info", NAME)
    finally:
        done(server, "DELETE", f"/storage-pools/{pool}")
    assert NAME not in virsh(QEMU_URI, "pool-list", "--all")


def volume(server: Server, pool: str, name: str) -> str:
    return str(next(one["id"] for one in server.all(f"/volumes?pool={pool}") if one["name"] == name))


def test_networks_of_this_machine_are_known(server: Server, host: str, lab_network: str) -> None:
    server.api("POST", f"/hosts/{host}/refresh")
    found = wait_until(
        lambda: [one for one in server.all("/networks") if one["name"] == lab_network], 15, "the network"
    )
    assert (found[0]["state"], found[0]["host"]) == ("inactive", host)
    assert server.get(f"/networks/{found[0]['id']}")["leases"] == []
