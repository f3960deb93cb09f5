"""Real guests of real guests, looked at with the hypervisor's own tools."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.labs.local import QEMU_URI, run, unique_name, virsh
from tests.vms.test_create_real import IMAGE, done, gone, pool, qemu, server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server import Server

__all__ = ["pool", "qemu", "server"]
pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]


def chain(file: Path) -> list[str]:
    """File names from the overlay down, as qemu-img sees them."""
    found = json.loads(run("qemu-img", "info", "--force-share", "--backing-chain", "--output=json", file))
    return [one["filename"].rpartition("/")[2] for one in found]


def test_full_clone_has_disks_and_an_identity_of_its_own(
    server: Server, qemu: dict[str, Any], pool: str, pool_home: Path
) -> None:
    name, twin = unique_name("source"), unique_name("clone")
    spec = {
        "name": name, "hypervisor": qemu["id"], "accelerator": "tcg", "memory_bytes": 64 << 20, "interfaces": [],
        "disks": [{"image": IMAGE, "pool": pool}], "cloud_init": {}, "start": False,
    }  # fmt: skip
    made = [done(server, "POST", "/vms", spec)["result"]["vm"]]
    try:
        body = {"name": twin, "cloud_init": {"hostname": "reborn"}}
        result = done(server, "POST", f"/vms/{made[0]}/actions/clone", body)["result"]
        made.append(result["vm"])
        document = virsh(QEMU_URI, "dumpxml", twin)
        assert virsh(QEMU_URI, "domuuid", twin).strip() == result["vm"]
        assert name not in document
        (file,) = [one["name"] for one in result["volumes"] if one["name"].endswith(".qcow2")]
        assert chain(pool_home / "p" / file) == [file]
        assert f"{pool_home}/p/{file}" in document
        run("qemu-img", "compare", pool_home / "p" / file, pool_home / "p" / IMAGE)
    finally:
        for vm in made:
            gone(server, vm)
    assert [file.name for file in (pool_home / "p").iterdir()] == [IMAGE]


def test_guest_of_a_template_stands_on_its_disk_and_runs(
    server: Server, qemu: dict[str, Any], pool: str, pool_home: Path
) -> None:
    name, child = unique_name("source"), unique_name("linked")
    files = pool_home / "p"
    common = {"hypervisor": qemu["id"], "accelerator": "tcg", "memory_bytes": 128 << 20, "interfaces": []}
    spec = {"name": name, **common, "disks": [{"image": IMAGE, "pool": pool}], "cloud_init": {}, "start": False}
    done(server, "POST", "/vms", spec)
    made: list[str] = []
    source = next(one["id"] for one in server.all(f"/vms?q={name}"))
    body = {
        "vm": source, "name": name, "mode": "convert", "user_data": "#cloud-config\nfqdn: ${host}.example\n",
        "parameters": [{"name": "host", "required": True}, {"name": "disk", "type": "bytes", "sets": "disk_bytes"}],
    }  # fmt: skip
    template = done(server, "POST", "/templates", body)["result"]
    try:
        assert name not in virsh(QEMU_URI, "list", "--all", "--name").split()
        (base,) = [one["name"] for one in template["volumes"]]
        wish = {
            "name": child, **common, "template": name, "parameters": {"host": "reborn", "disk": 1 << 30}, "graphics": "none",
        }  # fmt: skip
        result = done(server, "POST", "/vms", wish)["result"]
        made.append(result["vm"])
        overlay = next(one["name"] for one in result["volumes"] if one["name"].endswith(".qcow2"))
        assert chain(files / overlay) == [overlay, base, IMAGE]
        assert virsh(QEMU_URI, "domstate", child).strip() == "running"
        refused = server.api("DELETE", f"/templates/{template['template']}")
        assert (refused.status_code, refused.json()["code"]) == (409, "in_use")
        assert child in {use["name"] for use in server.all(f"/templates/{template['template']}/uses")}
    finally:
        for vm in made:
            gone(server, vm)
        done(server, "DELETE", f"/templates/{template['template']}")
    assert [file.name for file in files.iterdir()] == [IMAGE]
