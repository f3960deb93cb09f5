"""Import: from a file to a volume in a pool, or a reason and nothing left behind; whatever dies in the middle."""

from __future__ import annotations

import datetime as dt
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from core.units import MIB
from drivers.errors import NoSpace, Unreachable
from images import actions, copies
from images.inventory import images_lost
from images.models import Image, ImageCopy
from operations.models import Operation
from storage.models import Volume
from tests.transfers import files
from tests.transfers.conftest import sha256
from tests.web.test_edge import check_problem
from transfers import flow, retention, tools
from transfers.models import Upload
from transfers.places import staging_dir

if TYPE_CHECKING:
    from pathlib import Path

    from accounts.models import User
    from storage.models import StoragePool
    from tests.images.conftest import Shelf

pytestmark = pytest.mark.django_db(transaction=True)


def nothing_left(shelf: Shelf) -> None:
    """No volume, no copy, no file of ours but uploads that may be used again."""
    assert shelf.volumes() == {}
    assert not ImageCopy.objects.exists()
    assert not Volume.objects.exists()
    assert list(staging_dir().iterdir()) == []


def test_a_qcow2_lies_in_the_pool_as_it_was_sent(shelf: Shelf, pool: StoragePool, tmp_path: Path) -> None:
    path = files.disk(tmp_path / "debian")
    image = shelf.made(path, title="Debian 12", os_id="http://debian.org/debian/12", tags=["Linux"])
    assert (image.state, image.kind, image.format) == ("ready", "disk", "qcow2")
    assert (image.virtual_size_bytes, image.size_bytes) == (4 * MIB, path.stat().st_size)
    assert image.sha256 == sha256(path.read_bytes())
    assert shelf.volumes() == {copies.volume_name(image, pool): path.read_bytes()}
    assert Volume.objects.get().format == "qcow2"
    assert not Upload.objects.exists(), "what was used is not needed any more"
    assert list(staging_dir().iterdir()) == []


@pytest.mark.parametrize("format_", ["vmdk", "vdi", "vhdx", "raw"])
def test_other_disks_become_qcow2(shelf: Shelf, pool: StoragePool, tmp_path: Path, format_: str) -> None:
    path = files.disk(tmp_path / "a", format_)
    image = shelf.made(path)
    (content,) = shelf.volumes().values()
    (tmp_path / "back").write_bytes(content)
    assert image.format == "qcow2"
    assert "identical" in files.qemu_img("compare", "-f", format_, "-F", "qcow2", path, tmp_path / "back")


def test_an_ova_becomes_its_disk(shelf: Shelf, pool: StoragePool, tmp_path: Path) -> None:
    image = shelf.made(files.ova(tmp_path / "appliance.ova"))
    assert (image.kind, image.format, image.virtual_size_bytes) == ("disk", "qcow2", 4 * MIB)


def test_an_iso_stays_as_it_is(shelf: Shelf, pool: StoragePool, tmp_path: Path) -> None:
    path = files.iso(tmp_path / "install.iso")
    image = shelf.made(path)
    assert (image.kind, image.format, image.virtual_size_bytes) == ("iso", "raw", 2 * MIB)
    assert shelf.volumes() == {f"vmm-image-{image.pk.hex[-12:]}.iso": path.read_bytes()}


def test_a_pool_that_has_only_raw_gets_raw(shelf: Shelf, tmp_path: Path) -> None:
    pool = shelf.pool("vg0", type_="logical", capacity_bytes=100 * MIB)
    path = files.disk(tmp_path / "a")
    image = shelf.made(path, pool=str(pool.pk))
    content = shelf.volumes("vg0")[f"vmm-image-{image.pk.hex[-12:]}.raw"]
    assert (len(content), content[MIB : MIB + 5], image.format) == (4 * MIB, b"hello", "qcow2")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (files.qcow2_header(backing=b"/etc/passwd"), "backing file"),
        (files.qcow2_header(features=0b100), "external data file"),
        (files.qcow2_header(size=100 * 2**40), "100 TiB large"),
        (files.qcow2_header()[:3000], "qemu-img|damaged"),
        (b"<html>Sign in to download</html>", "no disk image"),
    ],
)
def test_what_is_refused_leaves_nothing_but_the_reason(
    shelf: Shelf, pool: StoragePool, tmp_path: Path, content: bytes, why: str
) -> None:
    (tmp_path / "bad").write_bytes(content)
    operation = shelf.upload(tmp_path / "bad")
    image = Image.objects.get()
    assert (operation.state, operation.error["code"]) == ("failed", "image_refused")
    assert (image.state, image.error["code"]) == ("failed", "image_refused")
    assert re.search(why, operation.error["detail"])
    assert str(tmp_path) not in operation.error["detail"]
    nothing_left(shelf)


def test_the_announced_kind_counts(shelf: Shelf, pool: StoragePool, tmp_path: Path) -> None:
    operation = shelf.upload(files.iso(tmp_path / "a"), kind="disk")
    assert operation.error["detail"] == "It is an installation medium, and a disk image was announced."


def test_another_digest_than_announced(shelf: Shelf, pool: StoragePool, tmp_path: Path) -> None:
    content = files.disk(tmp_path / "a").read_bytes()
    upload = shelf.sender.whole(content, sha256=sha256(b"other"))
    operation = shelf.create(name="a", upload=upload)
    assert operation.error["code"] == "digest_mismatch"
    good = shelf.sender.whole(content, sha256=sha256(content))
    assert shelf.create(name="b", upload=good).state == "succeeded"


def test_an_incomplete_upload_is_refused_at_once(shelf: Shelf, pool: StoragePool) -> None:
    upload = shelf.sender.begin().json()["id"]
    check_problem(shelf.api.post("/images", {"name": "a", "upload": upload}), 409, "upload_incomplete")
    assert not Image.objects.exists()


def test_another_users_upload_is_none(shelf: Shelf, pool: StoragePool, operator: User, tmp_path: Path) -> None:
    upload = shelf.sender.whole(files.disk(tmp_path / "a").read_bytes())
    other = shelf.api.of(operator)
    check_problem(other.post("/images", {"name": "a", "upload": upload}), 404, "not_found")


# -- pools that are full, hosts that go ---------------------------------------------------------------------------------------
def test_a_pool_without_room_is_told_before_anything_is_written(shelf: Shelf, tmp_path: Path) -> None:
    shelf.pool(capacity_bytes=64 * 1024)
    operation = shelf.upload(files.disk(tmp_path / "a"))
    assert operation.error["code"] == "no_space"
    assert shelf.world.calls["volume_create"] == 0
    nothing_left(shelf)
    assert Upload.objects.exists(), "it can be used for another pool"


def test_a_pool_that_is_full_in_the_middle_keeps_nothing(shelf: Shelf, pool: StoragePool, tmp_path: Path) -> None:
    shelf.world.storage.break_transfers(NoSpace("There is no space left in default."), after_bytes=100_000)
    operation = shelf.upload(files.disk(tmp_path / "a", content=os.urandom(MIB)))
    assert (operation.state, operation.error["code"]) == ("failed", "no_space")
    nothing_left(shelf)


def test_a_host_that_is_away_for_a_moment_is_tried_again(
    shelf: Shelf, pool: StoragePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "TRY_PAUSE_SECONDS", 1.2)  # a lost link is not tried again within a second
    shelf.world.storage.break_transfers(Unreachable("gone"), after_bytes=100_000)
    path = files.disk(tmp_path / "a", content=os.urandom(MIB))
    shelf.made(path)
    assert list(shelf.volumes().values()) == [path.read_bytes()]


def test_what_cannot_be_deleted_now_is_deleted_by_who_asks_next(
    shelf: Shelf, pool: StoragePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.world.storage.break_transfers(NoSpace("full"), after_bytes=100_000)
    path = files.disk(tmp_path / "a", content=os.urandom(MIB))
    with monkeypatch.context() as patched:
        patched.setattr("images.copies._drop", lambda *_: None)
        shelf.upload(path)
    assert [len(content) < path.stat().st_size for content in shelf.volumes().values()] == [True]
    image = Image.objects.get()
    answer = shelf.api.delete(f"/images/{image.pk}")
    shelf.quiet()
    assert Operation.objects.get(pk=answer.json()["id"]).state == "succeeded"
    nothing_left(shelf)


# -- death in the middle --------------------------------------------------------------------------------------------------------
def dies_once(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, when: int = 1) -> None:
    """The `when`-th call of `place.name` ends as if the process had died there: nothing of ours runs any more."""
    real, calls = getattr(place, name), [0]

    def fatal(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == when:
            raise OperationalError("as if killed")
        return real(*args, **kwargs)

    monkeypatch.setattr(place, name, fatal)


@pytest.mark.parametrize(
    ("where", "name", "when"),
    [
        (tools, "examine", 1),
        (tools, "convert", 1),
        (actions, "digest_of", 1),
        (copies, "_require_space", 1),
        (flow.Meter, "passed", 2),
        (copies, "read_volume", 2),
        (actions, "_thank", 1),
    ],
)
def test_an_import_goes_on_wherever_its_worker_died(
    shelf: Shelf, pool: StoragePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, when: int
) -> None:
    monkeypatch.setattr(flow, "PIECE", 64 * 1024)
    dies_once(monkeypatch, where, name, when)
    path = files.disk(tmp_path / "a", "vmdk", content=os.urandom(MIB))
    operation = shelf.upload(path)
    shelf.quiet()
    operation.refresh_from_db()
    assert (operation.state, operation.attempts) == ("succeeded", 2), operation.error
    image = Image.objects.get()
    (content,) = shelf.volumes().values()
    (tmp_path / "back").write_bytes(content)
    assert "identical" in files.qemu_img("compare", "-f", "vmdk", "-F", "qcow2", path, tmp_path / "back")
    assert (image.state, image.sha256) == ("ready", sha256(content))
    assert ImageCopy.objects.get().ready
    assert list(staging_dir().iterdir()) == []
    assert not Upload.objects.exists()


def test_a_cancelled_import_never_was(
    shelf: Shelf, pool: StoragePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "LOOK_SECONDS", 0)
    monkeypatch.setattr("operations.context.RunContext.cancelled", lambda self: True)
    operation = shelf.upload(files.disk(tmp_path / "a"))
    assert operation.state == "cancelled"
    assert not Image.objects.exists()
    nothing_left(shelf)


def test_an_import_that_ended_without_a_word_has_failed(shelf: Shelf) -> None:
    ended = Operation.objects.create(kind="image.import", target="image/x", state="failed", error={"code": "timeout"})
    gone = Operation.objects.create(kind="image.import", target="image/y", state="cancelled")
    lost = Image.objects.create(name="lost", operation=ended)
    Image.objects.create(name="gone", operation=gone)
    assert shelf.api.get(f"/images/{lost.pk}").json()["state"] == "failed"
    assert images_lost(timezone.now()) == 2
    assert list(Image.objects.values_list("name", "state", "error")) == [("lost", "failed", {"code": "timeout"})]


def test_what_operations_left_among_our_files_goes_some_time_after_their_end(shelf: Shelf) -> None:
    for state in ("succeeded", "running"):
        operation = Operation.objects.create(kind="image.import", target="image/x", state=state)
        (staging_dir() / operation.pk.hex).mkdir()
    retention.trim(timezone.now() + dt.timedelta(hours=2))
    assert [path.name for path in staging_dir().iterdir()] == [operation.pk.hex]


# -- from a volume ----------------------------------------------------------------------------------------------------------------
def test_a_volume_becomes_an_image_and_stays(shelf: Shelf, pool: StoragePool, tmp_path: Path) -> None:
    content = files.raw(tmp_path / "a").read_bytes()
    shelf.world.storage.add_volume("default", "golden.img", content=content, capacity_bytes=6 * MIB)
    shelf.observe()
    volume = Volume.objects.get(name="golden.img")
    operation = shelf.create(name="golden", volume=str(volume.pk))
    assert operation.state == "succeeded", operation.error
    image = Image.objects.get()
    assert (image.format, image.virtual_size_bytes, image.source) == ("qcow2", 6 * MIB, "golden.img in default")
    assert set(shelf.volumes()) == {"golden.img", copies.volume_name(image, pool)}
