"""Storage of this machine's own libvirtd, looked at from the other side: what lies on the disk, and what a bad disk does."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import subprocess
import threading
from pathlib import Path

import pytest

from drivers import registry
from drivers.errors import Busy, InvalidDefinition, NoSpace, NotFound, Timeout, Unreachable
from drivers.libvirtd import session_storage, transfers
from drivers.types import Endpoint, PoolSpec, StorageState, VolumeSpec
from tests.labs import local
from tests.labs.fixtures import require, require_libvirtd
from tests.waiting import wait_until

pytestmark = pytest.mark.real

MIB = 1 << 20
POOL = "vmmtest-storage"


@pytest.fixture
def session():
    require_libvirtd(local.QEMU_URI)
    opened = registry.get("qemu").open(Endpoint(driver="qemu", uri=local.QEMU_URI))
    yield opened
    opened.close()


@pytest.fixture
def pool(session, pool_home):
    """The directory of a running, empty pool."""
    session.pool_create(PoolSpec(name=POOL, type="dir", target=f"{pool_home}/pool", autostart=False))
    yield pool_home / "pool"
    session.pool_delete(POOL)


@pytest.fixture
def full(session, pool_home):
    """A running pool of 16 MiB, of which 1 MiB is free."""
    (pool_home / "full").mkdir()
    with contextlib.ExitStack() as ends:
        require(
            lambda: ends.enter_context(local.small_disk(pool_home / "full", size_bytes=16 * MIB)),
            "no small file system",
        )
        session.pool_create(PoolSpec(name=POOL, type="dir", target=f"{pool_home}/full", autostart=False))
        ends.callback(session.pool_delete, POOL)
        session.volume_create(POOL, volume("filler", capacity_bytes=15 * MIB))
        session.volume_upload(POOL, "filler", random.Random(1).randbytes, length=15 * MIB)
        yield


def volume(name: str = "web.raw", **values: object) -> VolumeSpec:
    return VolumeSpec(**{"name": name, "capacity_bytes": 8 * MIB, **values})  # type: ignore[arg-type]


def image(path: Path) -> dict:
    return json.loads(local.run("qemu-img", "info", "--output=json", path))


# -- what lies on the disk -------------------------------------------------------------------------------------------------
def test_an_overlay_is_what_qemu_img_calls_one(session, pool):
    session.volume_create(POOL, volume("base.raw"))
    session.volume_create(POOL, volume("over.qcow2", format="qcow2", backing="base.raw", capacity_bytes=16 * MIB))
    found = image(pool / "over.qcow2")
    assert (found["format"], found["virtual-size"]) == ("qcow2", 16 * MIB)
    assert (found["backing-filename"], found["backing-filename-format"]) == (f"{pool}/base.raw", "raw")
    assert found["format-specific"]["data"]["compat"] == "1.1"
    assert image(pool / "base.raw")["actual-size"] == 0, "a volume that nothing was reserved for takes no room"
    copy = session.volume_clone(
        POOL, volume("copy.qcow2", format="qcow2", capacity_bytes=32 * MIB), source="over.qcow2"
    )
    assert (copy.capacity_bytes, image(pool / "copy.qcow2").get("backing-filename")) == (32 * MIB, None)
    session.volume_resize(POOL, "over.qcow2", capacity_bytes=64 * MIB)
    assert image(pool / "over.qcow2")["virtual-size"] == 64 * MIB
    assert session.volume(POOL, "over.qcow2").capacity_bytes == 64 * MIB


def test_what_is_uploaded_lies_on_the_disk_and_comes_down_again(session, pool):
    data = random.Random(3).randbytes(6 * MIB) + bytes(2 * MIB - 5) + b"end"
    session.volume_create(POOL, volume(capacity_bytes=len(data) + 4096))
    small = io.BytesIO(data)
    session.volume_upload(POOL, "web.raw", lambda size: small.read(min(size, 4000)), length=len(data), offset=4096)
    written = (pool / "web.raw").read_bytes()
    assert hashlib.sha256(written[4096:]).digest() == hashlib.sha256(data).digest()
    assert written[:4096] == bytes(4096)
    got = io.BytesIO()
    session.volume_download(POOL, "web.raw", got.write)
    assert got.getvalue() == written


def test_an_uploaded_image_is_known_for_what_it_is(session, pool, pool_home):
    local.run("qemu-img", "create", "-q", "-f", "qcow2", pool_home / "image", "5G")
    content = (pool_home / "image").read_bytes()
    session.volume_create(POOL, volume("image.qcow2", format="qcow2", capacity_bytes=1))
    session.volume_upload(POOL, "image.qcow2", io.BytesIO(content).read, length=len(content))
    assert session.volume(POOL, "image.qcow2").capacity_bytes == 5 << 30


def test_a_pool_that_does_not_start_is_not_left_behind(session, pool, pool_home):
    with pytest.raises(InvalidDefinition, match="No such file"):
        session.pool_create(PoolSpec(name="vmmtest-lost", type="dir", target=f"{pool_home}/lost", build=False))
    assert "vmmtest-lost" not in _states(session)
    assert not (pool_home / "lost").exists()


@pytest.mark.parametrize("name", ["../x", "$(touch x)", "a'b", "<name>", "-rf", ".x", "x\n"])
def test_a_name_that_could_do_harm_makes_nothing(session, pool, name):
    for spec in (volume(name), volume(name, format="qcow2")):
        with pytest.raises(InvalidDefinition):
            session.volume_create(POOL, spec)
    assert list(pool.iterdir()) == []
    assert {path.name for path in pool.parent.iterdir()} == {"pool"}


def test_files_with_odd_names_neither_hide_others_nor_break_the_list(session, pool):
    for name in (b"latin-\xff", b"line\nbreak", b"<&>", b"usual"):
        Path(os.fsdecode(bytes(pool) + b"/" + name)).touch()
    session.pool_refresh(POOL)
    assert {one.name for one in session.volumes(POOL)} == {"line\nbreak", "<&>", "usual"}
    session.volume_delete(POOL, "<&>")
    assert not (pool / "<&>").exists()


def test_a_volume_that_somebody_has_open_is_busy(session, pool):
    session.volume_create(POOL, volume("open.qcow2", format="qcow2"))
    words = ["qemu-nbd", "-f", "qcow2", "-k", str(pool.parent / "nbd"), str(pool / "open.qcow2")]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as holder:
        try:
            wait_until((pool.parent / "nbd").exists, 20, "qemu-nbd has the volume open")
            with pytest.raises(Busy):
                session.volume_resize(POOL, "open.qcow2", capacity_bytes=16 * MIB)
        finally:
            holder.terminate()


# -- what a bad disk does --------------------------------------------------------------------------------------------------
def test_a_full_pool_says_so_and_keeps_no_half_volume(session, full):
    thick = volume("thick", capacity_bytes=8 * MIB, allocation_bytes=8 * MIB)
    for make in (
        lambda: session.volume_create(POOL, thick),
        lambda: session.volume_create(POOL, volume("thick", format="qcow2", allocation_bytes=8 * MIB)),
        lambda: session.volume_clone(POOL, volume("thick", capacity_bytes=15 * MIB), source="filler"),
    ):
        with pytest.raises(NoSpace):
            make()
    assert [one.name for one in session.volumes(POOL)] == ["filler"]


@pytest.mark.parametrize("length", [2 * MIB, 6 * MIB])
def test_what_did_not_fit_is_never_said_to_be_written(session, full, length):
    """libvirt 9.0 says yes to an upload whose last MiB it could not write."""
    session.volume_create(POOL, volume())
    data = random.Random(length).randbytes(length)
    with pytest.raises(NoSpace):
        session.volume_upload(POOL, "web.raw", io.BytesIO(data).read, length=length)


def test_a_volume_that_goes_away_meanwhile_is_not_said_to_be_written(session, pool):
    session.volume_create(POOL, volume())

    def read(size: int) -> bytes:
        if (pool / "web.raw").exists():
            session.volume_delete(POOL, "web.raw")
        return b"x" * size

    with pytest.raises(NotFound):
        session.volume_upload(POOL, "web.raw", read, length=MIB)


@pytest.mark.alone
def test_a_pool_that_hangs_holds_nobody_up_but_itself(session, pool, pool_home, monkeypatch):
    monkeypatch.setattr(session_storage, "LIST_SECONDS", 1.0)
    monkeypatch.setattr(session_storage, "LOOK_SECONDS", 3.0)
    for name in ("far", "mounted"):
        (pool_home / name).mkdir()
    with contextlib.ExitStack() as ends:
        lab = local.frozen_disk(pool_home / "far", pool_home / "mounted")
        disk: list[local.FrozenDisk] = []
        require(lambda: disk.append(ends.enter_context(lab)), "no file system that can be frozen")
        session.pool_create(PoolSpec(name="vmmtest-far", type="dir", target=f"{pool_home}/mounted", autostart=False))
        ends.callback(session.pool_delete, "vmmtest-far")
        ends.callback(disk[0].thaw)
        assert _states(session)["vmmtest-far"] is StorageState.RUNNING
        disk[0].freeze()
        fresh = registry.get("qemu").open(session.endpoint)
        ends.callback(fresh.close)
        refresh = threading.Thread(target=session.pool_refresh, args=("vmmtest-far",))
        refresh.start()
        expected = {POOL: StorageState.RUNNING, "vmmtest-far": StorageState.INACCESSIBLE}
        wait_until(lambda: expected.items() <= _states(session).items(), 40, "one hangs, the other does not")
        assert fresh.volumes(POOL) == []
        with pytest.raises(Timeout):
            fresh.volumes("vmmtest-far")
        disk[0].thaw()
        refresh.join(20)
        wait_until(lambda: _states(session)["vmmtest-far"] is StorageState.RUNNING, 20, "it is back")


def _states(session) -> dict[str, StorageState]:
    return {one.name: one.state for one in session.pools()}


def test_a_slow_reader_costs_no_memory(session, pool):
    """What libvirt sends on, unasked, is bounded: it would pile all of it up here."""
    session.volume_create(POOL, volume(capacity_bytes=96 * MIB))
    before, seen = _memory(), []

    def at_rest() -> bool:
        seen.append(_memory())
        return seen[-1] - before > transfers.SEGMENT_BYTES // 2 and len(set(seen[-6:])) == 1

    def write(_piece: bytes) -> None:
        if not seen:
            wait_until(at_rest, 20, "as much as will come has piled up")
        seen.append(_memory())

    session.volume_download(POOL, "web.raw", write)
    assert max(seen) - before < 2 * transfers.SEGMENT_BYTES + 16 * MIB


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_session_that_is_closed_starts_no_transfer(session, pool):
    session.volume_create(POOL, volume())
    other = registry.get("qemu").open(session.endpoint)
    other.close()
    with pytest.raises(Unreachable):
        other.volume_upload(POOL, "web.raw", bytes, length=MIB)
