"""Twenty guests asked for at once, on a real libvirtd whose pool is too small for them, and a kill -9 in the middle.

What is there afterwards is judged by virsh and by the pool's directory alone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from core.units import MIB
from tests.labs.fixtures import require, require_libvirtd
from tests.labs.local import PREFIX, QEMU_URI, boot_sector, libvirtd_mounts, run, small_disk, unique_name, virsh
from tests.server import Server
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.chaos, pytest.mark.timeout(180)]
GUESTS = 20
ROOM_BYTES = 24 * MIB
DISK_BYTES = 2 * MIB
"""Of real data: the pool holds about half of them."""
BASE = "base.qcow2"


@pytest.fixture
def server() -> Iterator[Server]:
    require_libvirtd(QEMU_URI)
    with Server(VMM_LOCAL_HOST="auto") as running:
        yield running


@pytest.fixture
def small_pool(server: Server, pool_home: Path) -> Iterator[Path]:
    """A pool of 24 MiB with a disk in it that QEMU boots; where it is."""
    host = next(one for one in server.all("/hypervisors") if one["uri"] == QEMU_URI)["host"]
    place = pool_home / "small"
    place.mkdir()
    sector = boot_sector(pool_home)
    sector.write_bytes(sector.read_bytes()[:512] + os.urandom(DISK_BYTES - 512))
    disk = small_disk(place, size_bytes=ROOM_BYTES)
    require(disk.__enter__, "no file system of its own")
    try:
        run(*libvirtd_mounts(), "qemu-img", "convert", "-O", "qcow2", sector, place / BASE)
        body = {
            "host": host,
            "name": f"{PREFIX}{pool_home.name}",
            "type": "dir",
            "target": str(place),
            "autostart": False,
        }
        made = server.api("POST", "/storage-pools", json=body, Prefer="wait=60").json()
        assert made["state"] == "succeeded", made["error"]
        server.api("POST", f"/storage-pools/{made['result']['pool']}/actions/refresh", Prefer="wait=60")
        wait_until(lambda: server.all(f"/volumes?pool={made['result']['pool']}"), 40, "the base is seen")
        yield place
    finally:
        virsh(QEMU_URI, "pool-destroy", f"{PREFIX}{pool_home.name}")
        virsh(QEMU_URI, "pool-undefine", f"{PREFIX}{pool_home.name}")
        disk.__exit__(None, None, None)


def domains(stem: str, *options: str) -> set[str]:
    return {name for name in virsh(QEMU_URI, "list", *options, "--name").split() if name.startswith(stem)}


def files(place: Path) -> set[str]:
    return set(run(*libvirtd_mounts(), "ls", place).split())


def test_twenty_at_once_with_a_full_pool_and_a_kill_then_each_is_whole_or_not_there(
    server: Server, small_pool: Path, pool_home: Path
) -> None:
    stem = unique_name("many")
    spec: dict[str, Any] = {
        "driver": "qemu", "memory_bytes": 16 * MIB, "graphics": "none", "interfaces": [],
        "disks": [{"image": BASE, "pool": f"{PREFIX}{pool_home.name}", "clone": "full", "format": "qcow2"}],
    }  # fmt: skip
    asked = [
        server.api("POST", "/vms", json={**spec, "name": f"{stem}-{n}", "start": n % 5 == 0}).json()["id"]
        for n in range(GUESTS)
    ]
    wait_until(lambda: domains(stem, "--all"), 60, "the first is defined")
    server.kill()
    server.start()
    try:
        ends = {one: server.get(f"/operations/{one}?wait=60") for one in asked}
        made = {end["target"]["name"] for end in ends.values() if end["state"] == "succeeded"}
        assert {end["state"] for end in ends.values()} == {"succeeded", "failed"}
        assert 3 <= len(made) <= 12, sorted(made)
        assert domains(stem, "--all") == made
        assert domains(stem) == {name for name in made if int(name.rpartition("-")[2]) % 5 == 0}
        disks = files(small_pool) - {BASE}
        assert {name.rpartition("-")[0] for name in disks} == made
        assert len(disks) == len(made)
        for name in made:  # not one that is half written
            source = next(disk for disk in disks if disk.startswith(f"{name}-"))
            compared = run(*libvirtd_mounts(), "qemu-img", "compare", "-U", small_pool / BASE, small_pool / source)
            assert "identical" in compared
        assert {vm["name"] for vm in server.all(f"/vms?q={stem}")} == made
    finally:
        for vm in server.all(f"/vms?q={stem}"):
            server.api("DELETE", f"/vms/{vm['id']}?force=true&storage=delete&bin=false", Prefer="wait=60")
    assert (domains(stem, "--all"), files(small_pool)) == (set(), {BASE})
