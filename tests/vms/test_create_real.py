"""A real guest from an image, over REST alone: its own kernel boots, its seed is read, its agent tells its address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.labs.fixtures import require_libvirtd
from tests.labs.local import (
    LXC_READY,
    LXC_URI,
    PREFIX,
    QEMU_URI,
    TINY_READY,
    container_root,
    run,
    unique_name,
    virsh,
)
from tests.server import Server
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.labs.local import TinyKernel

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]
IMAGE = "tiny.qcow2"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    require_libvirtd(QEMU_URI)
    with Server(VMM_LOCAL_HOST="auto") as running:
        yield running


@pytest.fixture
def qemu(server: Server) -> dict[str, Any]:
    return next(one for one in server.all("/hypervisors") if one["uri"] == QEMU_URI)


@pytest.fixture
def pool(server: Server, qemu: dict[str, Any], pool_home: Path, tiny_disk: TinyKernel) -> Iterator[str]:
    """A pool with the tiny guest's disk in it; its name."""
    name = f"{PREFIX}create-{pool_home.name[-8:]}"
    body = {"host": qemu["host"], "name": name, "type": "dir", "target": str(pool_home / "p"), "autostart": False}
    made = done(server, "POST", "/storage-pools", body)["result"]["pool"]
    run("cp", tiny_disk.disk, pool_home / "p" / IMAGE)
    server.api("POST", f"/storage-pools/{made}/actions/refresh", Prefer="wait=20")
    wait_until(lambda: IMAGE in {one["name"] for one in server.all(f"/volumes?pool={made}")}, 40, "the image is seen")
    yield name
    server.api("DELETE", f"/storage-pools/{made}", Prefer="wait=20")


@pytest.fixture
def net(tmp_path: Path) -> Iterator[str]:
    """The name of a network that runs and gives addresses out, to nobody outside."""
    name = unique_name("net")
    file = tmp_path / "net.xml"
    file.write_text(
        f"<network><name>{name}</name><ip address='198.51.100.1' netmask='255.255.255.0'>"
        "<dhcp><range start='198.51.100.2' end='198.51.100.9'/></dhcp></ip></network>"
    )
    virsh(QEMU_URI, "net-create", file)
    yield name
    virsh(QEMU_URI, "net-destroy", name)


def done(server: Server, method: str, path: str, body: Any = None) -> Any:
    """An operation's good end."""
    answer = server.api(method, path, json=body, Prefer="wait=60")
    operation = answer.json()
    while answer.status_code == 202:
        answer = server.api("GET", f"/operations/{operation['id']}?wait=60")
        if answer.json()["state"] in ("succeeded", "failed", "cancelled"):
            break
    assert answer.json()["state"] == "succeeded", answer.text
    return answer.json()


def gone(server: Server, vm: str) -> None:
    server.api("DELETE", f"/vms/{vm}?force=true&storage=delete&bin=false", Prefer="wait=60")


def test_from_an_image_to_a_guest_that_says_its_address(
    server: Server, qemu: dict[str, Any], pool: str, pool_home: Path, net: str
) -> None:
    name = unique_name("made")
    spec = {
        "name": name, "hypervisor": qemu["id"], "accelerator": "tcg", "memory_bytes": 128 << 20, "graphics": "none",
        "disks": [{"image": IMAGE, "pool": pool, "size_bytes": 1 << 30}], "tags": ["ci"], "project": "real",
        "interfaces": [{"network": net}], "cloud_init": {"hostname": "reborn"},
        "wait_for": "address", "wait_timeout_seconds": 120,
    }  # fmt: skip
    server.api("POST", f"/hosts/{qemu['host']}/refresh")
    wait_until(lambda: net in {one["name"] for one in server.all("/networks")}, 40, "the network is seen")
    draft = server.api("POST", "/vms?dry_run=true", json=spec)
    assert "<domain" in draft.json()["definition"], draft.text
    made = done(server, "POST", "/vms", spec)
    vm = made["result"]["vm"]
    try:
        assert any(one["address"].startswith("198.51.100.") for one in made["result"]["addresses"])
        seen = server.get(f"/vms/{vm}")
        assert (seen["state"], seen["tags"], seen["project"], seen["uuid"]) == ("running", ["ci"], "real", vm)
        files = {file.name for file in (pool_home / "p").iterdir()} - {IMAGE}
        overlay = next(file for file in files if file.endswith(".qcow2"))
        assert IMAGE in run("qemu-img", "info", "--force-share", pool_home / "p" / overlay)
        assert f":id>{vm}</" in virsh(QEMU_URI, "dumpxml", name)
    finally:
        gone(server, vm)
    assert name not in virsh(QEMU_URI, "list", "--all", "--name").split()
    assert [file.name for file in (pool_home / "p").iterdir()] == [IMAGE]


def test_marker_on_the_console_and_a_kill_in_the_middle(
    server: Server, qemu: dict[str, Any], pool: str, pool_home: Path
) -> None:
    name = unique_name("killed")
    spec = {
        "name": name, "hypervisor": qemu["id"], "accelerator": "tcg", "memory_bytes": 128 << 20, "graphics": "none",
        "disks": [{"image": IMAGE, "pool": pool, "clone": "full"}], "interfaces": [], "wait_for": f"{TINY_READY} host=reborn",
        "cloud_init": {"hostname": "reborn"}, "wait_timeout_seconds": 120,
    }  # fmt: skip
    operation = server.api("POST", "/vms", json=spec).json()
    wait_until(lambda: len(list((pool_home / "p").iterdir())) > 1, 20, "its first volume")
    server.kill()
    server.start()
    try:
        wait_until(
            lambda: server.get(f"/operations/{operation['id']}")["state"] not in ("queued", "running"), 120, "its end"
        )
        ended = server.get(f"/operations/{operation['id']}")
        assert ended["state"] == "succeeded", ended
        assert virsh(QEMU_URI, "domstate", name).strip() == "running"
        assert len(list((pool_home / "p").iterdir())) == 3
    finally:
        gone(server, operation["target"]["id"])


def test_a_container_of_libvirts_own_from_a_directory(server: Server, made_guest: Any) -> None:
    lxc = wait_until(
        lambda: next((one for one in server.all("/hypervisors") if one["driver"] == "lxc"), None), 20, "LXC"
    )
    guest = made_guest(LXC_URI)
    root = container_root(guest.directory)
    spec = {
        "name": guest.name, "hypervisor": lxc["id"], "memory_bytes": 64 << 20, "interfaces": [],
        "container": {"root": str(root), "init": "/init"}, "wait_for": LXC_READY, "wait_timeout_seconds": 60,
    }  # fmt: skip
    assert str(root) in server.api("POST", "/vms?dry_run=true", json=spec).json()["definition"]
    vm = done(server, "POST", "/vms", spec)["result"]["vm"]
    try:
        assert server.get(f"/vms/{vm}")["kind"] == "container"
        assert virsh(LXC_URI, "domstate", guest.name).strip() == "running"
    finally:
        gone(server, vm)
    assert guest.name not in virsh(LXC_URI, "list", "--all", "--name").split()
    assert (root / "init").exists()
