"""From a file by REST in pieces to volumes of real pools, between them, and back: every byte, also when everything is killed in between."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import pytest

from core.rest import OFFSET_STREAM
from core.units import MIB
from tests.labs.fixtures import require_libvirtd
from tests.labs.local import PREFIX, QEMU_URI
from tests.server import Server
from tests.transfers import files
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.labs.local import TinyKernel

pytestmark = [pytest.mark.real, pytest.mark.timeout(150)]

PIECE = 8 * MIB


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    require_libvirtd(QEMU_URI)
    with Server(VMM_LOCAL_HOST="auto") as running:
        yield running


@pytest.fixture
def pools(server: Server, pool_home: Path) -> Iterator[dict[str, Path]]:
    """Two pools of directories, `a` and `b`: their ids and where they are."""
    hypervisor = next(one for one in server.all("/hypervisors") if one["uri"] == QEMU_URI)
    made: dict[str, Path] = {}
    for name in ("a", "b"):
        body = {
            "host": hypervisor["host"], "name": f"{PREFIX}images-{name}", "type": "dir",
            "target": str(pool_home / name), "autostart": False,
        }  # fmt: skip
        made[done(server, "POST", "/storage-pools", body)["result"]["pool"]] = pool_home / name
    yield made
    if not server.alive:
        server.start()
    for pool in made:
        server.api("DELETE", f"/storage-pools/{pool}", Prefer="wait=20")


def done(server: Server, method: str, path: str, body: Any = None, wait: int = 60) -> Any:
    """An operation's good end."""
    answer = server.api(method, path, json=body, Prefer=f"wait={wait}")
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "succeeded", answer.json()["error"]
    return answer.json()


def upload(server: Server, content: bytes, name: str) -> str:
    begun = server.api("POST", "/uploads", json={"filename": name, "size_bytes": len(content)}).json()["id"]
    headers = {"Authorization": f"Bearer {server.token()}", "Content-Type": OFFSET_STREAM}
    for start in range(0, len(content), PIECE):
        answer = server._client.patch(
            f"/api/v1/uploads/{begun}",
            content=content[start : start + PIECE],
            headers=headers | {"Upload-Offset": str(start)},
        )
        assert answer.status_code == 200, answer.text
    return str(begun)


def test_from_a_file_to_two_pools_and_back(
    server: Server, pools: dict[str, Path], tiny_disk: TinyKernel, tmp_path: Path
) -> None:
    content = tiny_disk.disk.read_bytes()
    first, second = pools
    body = {"name": "tiny", "upload": upload(server, content, "debian-12-genericcloud-amd64.qcow2"), "pool": first}
    image = server.get(f"/images/{done(server, 'POST', '/images', body)['result']['image']}")
    assert (image["sha256"], image["os_id"], image["cloud_init"]) == (
        hashlib.sha256(content).hexdigest(), "http://debian.org/debian/12", True,
    )  # fmt: skip
    done(server, "POST", f"/images/{image['id']}/copies", {"pool": second})
    for place in pools.values():
        (file,) = place.iterdir()
        assert "identical" in files.qemu_img("compare", "-f", "qcow2", "-F", "qcow2", file, tiny_disk.disk)
        assert file.read_bytes() == content
    volume = next(one for one in server.all("/volumes") if one["pool"] == first)
    assert (volume["format"], volume["capacity_bytes"]) == ("qcow2", image["virtual_size_bytes"])
    assert [use["type"] for use in volume["used_by"]] == ["image"]
    check_download(server, volume["id"], content)
    done(server, "DELETE", f"/images/{image['id']}")
    assert [list(place.iterdir()) for place in pools.values()] == [[], []]


def check_download(server: Server, volume: str, content: bytes) -> None:
    """Whole, and from its middle on."""
    headers = {"Authorization": f"Bearer {server.token()}"}
    whole = server._client.get(f"/api/v1/volumes/{volume}/content", headers=headers)
    assert (whole.status_code, whole.headers["Content-Length"]) == (200, str(len(content)))
    assert whole.content == content
    middle = len(content) // 2
    headers |= {"Range": f"bytes={middle}-", "If-Range": whole.headers["ETag"]}
    rest = server._client.get(f"/api/v1/volumes/{volume}/content", headers=headers)
    assert (rest.status_code, rest.content) == (206, content[middle:])


@pytest.mark.chaos
def test_kill_9_while_a_pool_is_written_then_the_image_is_whole(
    server: Server, pools: dict[str, Path], tmp_path: Path
) -> None:
    source = files.disk(tmp_path / "large.qcow2", size=160 * MIB, content=os.urandom(150 * MIB))
    first = next(iter(pools))
    body = {"name": "large", "upload": upload(server, source.read_bytes(), "large.qcow2"), "pool": first}
    operation = server.api("POST", "/images", json=body).json()["id"]

    def half_written() -> bool:
        return any(file.stat().st_blocks * 512 > 16 * MIB for file in pools[first].iterdir())

    wait_until(half_written, 60, "the pool is written")
    server.kill()
    server.start()
    end = server.get(f"/operations/{operation}?wait=60")
    assert (end["state"], end["attempts"]) == ("succeeded", 2), end["error"]
    (file_there,) = pools[first].iterdir()
    assert file_there.read_bytes() == source.read_bytes()
