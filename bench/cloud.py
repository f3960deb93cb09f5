"""A cloud image from its file to the first sign-in over SSH, emulated, against `virt-install` with the same image and the same seed.

Ours: the file goes up through REST, becomes an image, and a guest is made of it that is waited for until SSH answers. virt-install's
users copy the image to where the guest's disk shall be, and try SSH until it lets them in. Both end with the same sign-in, and both have
the processor that ours has: virt-install's own (qemu64) boots a sixth faster emulated, and runs no system made for x86-64-v2. The image
is made here (tests/labs/cloud-image), and `virtinst` must be installed. The pools that it leaves behind are taken away.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from bench.report import Row, load, median
from core.rest import OFFSET_STREAM
from tests.labs import local
from tests.server import Server
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AIM = 1.1
MIB = 1 << 20
PIECE = 32 * MIB
MEMORY_MIB = 512
BOOT_SECONDS = 300.0
USER = "debian"
"""The image's own account, to which cloud-init gives the key."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where both make their guests."""

    home: Path
    network: str
    server: Server
    pool: str
    hypervisor: str
    client: httpx.Client

    @property
    def image(self) -> Path:
        """What `cloud-image` has built."""
        return local.LABS_DIR / "cloud-image" / "debian.qcow2"

    @property
    def key(self) -> str:
        """The public one."""
        return (self.home / "key.pub").read_text(encoding="ascii").strip()

    def sign_in(self, address: str) -> bool:
        """Whether it lets us in."""
        with contextlib.suppress(local.LabError):
            local.run(
                "ssh", "-i", self.home / "key", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
                "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=2", f"{USER}@{address}", "true", timeout=30,
            )  # fmt: skip
            return True
        return False


def run(quick: bool) -> Iterator[Row]:  # noqa: FBT001 - the one option of every bench
    """Turn by turn; the order changes with each round."""
    local.run(local.HERE / "cloud-image" / "cloud-image", "build", local.LABS_DIR / "cloud-image", timeout=1200)
    local.ensure_libvirtd()
    times: dict[str, list[float]] = {name: [] for name in ("ours", "upload", "made", "work", "theirs", "their work")}
    with local.pool_home() as home, local.dhcp_network() as network, Server(VMM_LOCAL_HOST="auto") as server:
        local.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / "key")
        (home / "user-data").write_text(f"#cloud-config\nssh_authorized_keys:\n- {(home / 'key.pub').read_text()}")
        with _place(home, network, server) as place:
            for turn in range(1 if quick else 3):
                for way in (_ours, _theirs) if turn % 2 else (_theirs, _ours):
                    way(place, times)
                print(", ".join(f"{name} {each[-1]:.1f} s" for name, each in times.items()), "load", load(), flush=True)
    ours, theirs = median(times["ours"]), median(times["theirs"])
    mib, count = place.image.stat().st_size / MIB, len(times["ours"])
    yield Row(
        bench="cloud", figure=f"cloud image of {mib:.0f} MiB, file to SSH, emulated, p50 of {count}", ours=ours, unit="s",
        floor=theirs, against="cp and virt-install --import --cloud-init", aim=f"<= {AIM} x", met=ours <= AIM * theirs,
    )  # fmt: skip
    yield Row(
        bench="cloud", figure="the guest's processor time until then", ours=median(times["work"]), unit="s",
        floor=median(times["their work"]), against="virt-install's guest",
    )  # fmt: skip
    yield Row(bench="cloud", figure="of the whole the upload", ours=median(times["upload"]), unit="s")
    yield Row(bench="cloud", figure="and the import into the pool", ours=median(times["made"]), unit="s")


@contextlib.contextmanager
def _place(home: Path, network: str, server: Server) -> Iterator[Place]:
    hypervisor = next(one for one in server.all("/hypervisors") if one["uri"] == local.QEMU_URI)
    body = {"host": hypervisor["host"], "name": local.unique_name("cloud"), "type": "dir", "target": f"{home}/pool"}
    pool = _done(server, "POST", "/storage-pools", {**body, "autostart": False})["result"]["pool"]
    server.api("POST", f"/hosts/{hypervisor['host']}/refresh")
    wait_until(lambda: network in {one["name"] for one in server.all("/networks")}, 60, "the network is seen")
    headers = {"Authorization": f"Bearer {server.token()}", "Content-Type": OFFSET_STREAM}
    try:
        with httpx.Client(base_url=f"{server.url}/api/v1", headers=headers, timeout=120) as client:
            yield Place(home, network, server, pool, hypervisor["id"], client)
    finally:
        _done(server, "DELETE", f"/storage-pools/{pool}")


def _ours(place: Place, times: dict[str, list[float]]) -> None:
    server, name = place.server, local.unique_name("cloud")
    since = time.monotonic()
    size = place.image.stat().st_size
    upload = server.api("POST", "/uploads", json={"filename": "debian.qcow2", "size_bytes": size}).json()["id"]
    with place.image.open("rb") as file:
        while piece := file.read(PIECE):
            offset = {"Upload-Offset": str(file.tell() - len(piece))}
            place.client.patch(f"/uploads/{upload}", content=piece, headers=offset).raise_for_status()
    uploaded = time.monotonic()
    body = {"name": name, "upload": upload, "pool": place.pool}
    image = _done(server, "POST", "/images", body)["result"]["image"]
    imported = time.monotonic()
    spec = {
        "name": name, "hypervisor": place.hypervisor, "accelerator": "tcg", "memory_bytes": MEMORY_MIB * MIB,
        "graphics": "none", "disks": [{"image": image, "pool": place.pool}], "interfaces": [{"network": place.network}],
        "cloud_init": {"ssh_keys": [place.key]}, "wait_for": "ssh", "wait_timeout_seconds": int(BOOT_SECONDS),
    }  # fmt: skip
    try:
        made = _done(server, "POST", "/vms", spec)["result"]
        address = next(one["address"] for one in made["addresses"] if "." in one["address"])
        wait_until(lambda: place.sign_in(address), BOOT_SECONDS, "sign-in")
        times["ours"].append(time.monotonic() - since)
        times["work"].append(_work(name))
        times["upload"].append(uploaded - since)
        times["made"].append(imported - uploaded)
    finally:
        for vm in server.all("/vms"):
            if vm["name"] == name:
                _done(server, "DELETE", f"/vms/{vm['id']}?force=true&storage=delete&bin=false")
        _done(server, "DELETE", f"/images/{image}")


def _theirs(place: Place, times: dict[str, list[float]]) -> None:
    name, disk, mac = local.unique_name("cloud"), place.home / "virt-install.qcow2", "52:54:00:c1:0d:01"
    before, made = _pools(), {"boot", place.home.name}  # as virt-install calls those that it makes
    since = time.monotonic()
    local.run("cp", place.image, disk)
    try:
        local.run(
            "virt-install", "--connect", local.QEMU_URI, "--name", name, "--virt-type", "qemu", "--memory", str(MEMORY_MIB),
            "--vcpus", "1", "--import", "--disk", f"{disk},bus=virtio", "--network", f"network={place.network},mac={mac}",
            "--osinfo", "debian11", "--cpu", "mode=maximum", "--graphics", "none", "--noautoconsole",
            "--cloud-init", f"user-data={place.home}/user-data", timeout=120,
        )  # fmt: skip

        def signed_in() -> bool:
            leases = local.virsh(local.QEMU_URI, "net-dhcp-leases", place.network).splitlines()
            address = next((line.split()[4].split("/")[0] for line in leases if mac in line), "")
            return bool(address) and place.sign_in(address)

        wait_until(signed_in, BOOT_SECONDS, "sign-in")
        times["theirs"].append(time.monotonic() - since)
        times["their work"].append(_work(name))
    finally:
        for verb in ("destroy", "undefine"):
            with contextlib.suppress(local.LabError):
                local.virsh(local.QEMU_URI, verb, name)
            for pool in made - before:
                with contextlib.suppress(local.LabError):
                    local.virsh(local.QEMU_URI, f"pool-{verb}", pool)
        disk.unlink()


def _work(name: str) -> float:
    """Seconds of a processor that a guest has taken: they say more than the clock where others work beside it."""
    stats = local.virsh(local.QEMU_URI, "domstats", name, "--cpu-total")
    return int(stats.partition("cpu.time=")[2].split()[0]) / 1e9


def _pools() -> set[str]:
    return set(local.virsh(local.QEMU_URI, "pool-list", "--all", "--name").split())


def _done(server: Server, method: str, path: str, body: Any = None) -> Any:
    """An operation's good end."""
    answer = server.api(method, path, json=body, Prefer="wait=60")
    answer.raise_for_status()
    operation = answer.json()
    while operation["state"] in ("queued", "running"):
        operation = server.get(f"/operations/{operation['id']}?wait=60")
    if operation["state"] != "succeeded":
        raise RuntimeError(f"{method} {path}: {operation['state']}: {operation['error']}")
    return operation
