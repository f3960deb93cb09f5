"""Contents of volumes: up from an upload, down while a worker reads; nobody's disk is torn, and no part is taken for the whole."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from core.units import MIB
from drivers.errors import Unreachable
from operations.models import Operation
from storage import content
from storage.models import Volume
from tests.factories import VMFactory
from tests.images.conftest import Sender, Shelf, data_dir, sender, shelf
from tests.transfers import files
from tests.web.test_edge import check_problem
from transfers import downloads, flow, retention
from transfers.models import Upload
from vms.models import VMDisk

if TYPE_CHECKING:
    from accounts.models import User

__all__ = ["Sender", "data_dir", "sender", "shelf"]
pytestmark = pytest.mark.django_db(transaction=True)

CONTENT = os.urandom(3 * MIB)


@pytest.fixture
def disk(shelf: Shelf) -> Volume:
    """A raw volume with something in it, and zeros behind."""
    shelf.pool(capacity_bytes=100 * MIB)
    shelf.world.storage.add_volume("default", "disk.img", content=CONTENT, capacity_bytes=4 * MIB)
    shelf.observe()
    return Volume.objects.get(name="disk.img")


def used(shelf: Shelf, volume: Volume, *, state: str = "running") -> None:
    vm = VMFactory(hypervisor=shelf.place.hypervisor, name="web-01", state=state)
    VMDisk.objects.create(vm=vm, target="sda", source=volume.path)


def upload(shelf: Shelf, volume: Volume, data: bytes) -> Operation:
    answer = shelf.api.post(f"/volumes/{volume.pk}/content", {"upload": shelf.sender.whole(data)})
    assert answer.status_code == 202, answer.content
    shelf.quiet()
    return Operation.objects.get(pk=answer.json()["id"])


# -- up ------------------------------------------------------------------------------------------------------------------------
def test_an_upload_goes_into_a_volume(shelf: Shelf, disk: Volume) -> None:
    operation = upload(shelf, disk, b"new" * 1000)
    assert (operation.state, operation.result) == ("succeeded", {"volume": str(disk.pk)})
    assert shelf.volumes()["disk.img"] == b"new" * 1000 + CONTENT[3000:]
    assert not Upload.objects.exists()


def test_it_is_written_again_when_its_worker_died(shelf: Shelf, disk: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "PIECE", 64 * 1024)
    real, calls = flow.Meter.passed, [0]

    def passed(self: Any, piece: bytes) -> None:
        calls[0] += 1
        if calls[0] == 3:
            raise OperationalError("as if killed")
        real(self, piece)

    monkeypatch.setattr(flow.Meter, "passed", passed)
    data = os.urandom(MIB)
    operation = upload(shelf, disk, data)
    shelf.quiet()
    operation.refresh_from_db()
    assert (operation.state, operation.attempts) == ("succeeded", 2)
    assert shelf.volumes()["disk.img"][:MIB] == data


def test_a_running_guests_disk_is_neither_written_nor_read(shelf: Shelf, disk: Volume) -> None:
    used(shelf, disk)
    body = {"upload": shelf.sender.whole(b"x")}
    for answer in (shelf.api.post(f"/volumes/{disk.pk}/content", body), shelf.api.get(f"/volumes/{disk.pk}/content")):
        assert "web-01" in check_problem(answer, 409, "in_use")["detail"]


def test_a_guest_that_is_off_gets_another_disk(shelf: Shelf, disk: Volume) -> None:
    used(shelf, disk, state="shutoff")
    assert upload(shelf, disk, b"new").state == "succeeded"


def test_under_an_overlay_nothing_is_changed(shelf: Shelf, disk: Volume) -> None:
    shelf.world.storage.add_volume("default", "over.qcow2", capacity_bytes=4 * MIB, format_="qcow2", backing="disk.img")
    shelf.observe()
    answer = shelf.api.post(f"/volumes/{disk.pk}/content", {"upload": shelf.sender.whole(b"x")})
    check_problem(answer, 409, "in_use")
    assert down(shelf, disk)[1] == CONTENT + bytes(MIB), "reading it does no harm"


def test_what_would_lead_the_host_elsewhere_is_not_written(shelf: Shelf, disk: Volume) -> None:
    """A host that looks into its pool believes it: a guest with this disk would read /etc/shadow."""
    operation = upload(shelf, disk, files.qcow2_header(backing=b"/etc/shadow"))
    assert (operation.state, operation.error["code"]) == ("failed", "image_refused")
    assert shelf.volumes()["disk.img"] == CONTENT


def test_longer_than_the_volume(shelf: Shelf, disk: Volume) -> None:
    answer = shelf.api.post(f"/volumes/{disk.pk}/content", {"upload": shelf.sender.whole(bytes(4 * MIB + 1))})
    check_problem(answer, 413, "too_large")


def test_who_may(shelf: Shelf, disk: Volume, viewer: User, operator: User) -> None:
    mine = shelf.sender.whole(b"x")
    check_problem(shelf.api.of(viewer).get(f"/volumes/{disk.pk}/content"), 403, "permission_denied")
    other = shelf.api.of(operator).post(f"/volumes/{disk.pk}/content", {"upload": mine})
    check_problem(other, 404, "not_found")


# -- down ----------------------------------------------------------------------------------------------------------------------
async def collected(response: Any) -> bytes:
    return b"".join([piece async for piece in response.streaming_content])


def down(shelf: Shelf, volume: Volume, **headers: str) -> tuple[Any, bytes]:
    answer = shelf.api.get(f"/volumes/{volume.pk}/content", **headers)
    assert answer.status_code in (200, 206), answer.content
    return answer, asyncio.run(collected(answer))


def test_a_volume_comes_down_whole(shelf: Shelf, disk: Volume) -> None:
    answer, data = down(shelf, disk)
    assert data == CONTENT + bytes(MIB)
    assert (answer["Content-Length"], answer["Accept-Ranges"]) == (str(4 * MIB), "bytes")
    assert answer["Content-Disposition"] == "attachment; filename*=UTF-8''disk.img"


def test_zeros_take_no_room_with_us(shelf: Shelf, disk: Volume) -> None:
    shelf.world.storage.add_volume("default", "empty.img", content=b"\1", capacity_bytes=64 * MIB)
    shelf.observe()
    _, data = down(shelf, Volume.objects.get(name="empty.img"))
    assert data == b"\1" + bytes(64 * MIB - 1)
    file = downloads.file_of(Operation.objects.get(kind="volume.download").pk)
    assert (file.stat().st_size, file.stat().st_blocks * 512 < MIB) == (64 * MIB, True)


def test_a_file_of_another_format_is_as_long_as_it_is(shelf: Shelf, disk: Volume) -> None:
    shelf.world.storage.add_volume("default", "a.qcow2", content=CONTENT, capacity_bytes=2**40, format_="qcow2")
    shelf.observe()
    answer, data = down(shelf, Volume.objects.get(name="a.qcow2"))
    assert (answer["Content-Length"], data) == (str(len(CONTENT)), CONTENT)


def test_where_nobody_knows_how_long_it_is_it_still_ends(
    shelf: Shelf, disk: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "length_of", lambda _info: None)
    answer, data = down(shelf, disk)
    assert data == CONTENT + bytes(MIB)
    known = answer["Accept-Ranges"] == "bytes"  # it had ended before the answer began
    assert known == ("Content-Length" in answer)


@pytest.mark.parametrize(
    ("asked", "given", "part"),
    [
        ("bytes=1000-", "bytes 1000-4194303/4194304", slice(1000, None)),
        ("bytes=0-9", "bytes 0-9/4194304", slice(0, 10)),
        ("bytes=4194303-9999999", "bytes 4194303-4194303/4194304", slice(-1, None)),
        ("bytes=-5", "bytes 4194299-4194303/4194304", slice(-5, None)),
    ],
)
def test_it_goes_on_where_it_was_cut_off(shelf: Shelf, disk: Volume, asked: str, given: str, part: slice) -> None:
    first, data = down(shelf, disk)
    answer, rest = down(shelf, disk, Range=asked, If_Range=first["ETag"])
    assert (answer.status_code, answer["Content-Range"]) == (206, given)
    assert rest == data[part]
    assert Operation.objects.filter(kind="volume.download").count() == 1, "from what was read out before"


@pytest.mark.parametrize(
    "headers", [{"Range": "bytes=0-1,5-6"}, {"Range": "lines=1-"}, {"Range": "bytes=5-", "If_Range": '"x"'}]
)
def test_what_cannot_be_given_in_parts_is_given_whole(shelf: Shelf, disk: Volume, headers: dict[str, str]) -> None:
    answer, data = down(shelf, disk, **headers)
    assert (answer.status_code, len(data)) == (200, 4 * MIB)


def test_behind_the_end_there_is_nothing(shelf: Shelf, disk: Volume) -> None:
    down(shelf, disk)
    answer = shelf.api.get(f"/volumes/{disk.pk}/content", Range="bytes=4194304-")
    check_problem(answer, 416, "range_not_satisfiable")


def test_without_a_range_it_is_read_anew(shelf: Shelf, disk: Volume) -> None:
    down(shelf, disk)
    upload(shelf, disk, b"new")
    assert down(shelf, disk)[1].startswith(b"new")


def test_two_who_ask_at_once_follow_the_same(shelf: Shelf, disk: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, real = threading.Event(), flow.SparseFile.write

    def write(self: Any, piece: bytes) -> None:
        gate.wait(20)
        real(self, piece)

    monkeypatch.setattr(flow.SparseFile, "write", write)
    answers = [shelf.api.get(f"/volumes/{disk.pk}/content") for _ in range(2)]
    gate.set()
    assert [asyncio.run(collected(answer)) for answer in answers] == [CONTENT + bytes(MIB)] * 2
    assert Operation.objects.filter(kind="volume.download").count() == 1


def test_a_part_is_never_taken_for_the_whole(shelf: Shelf, disk: Volume) -> None:
    shelf.world.storage.break_transfers(Unreachable("gone"), after_bytes=MIB)
    answer = shelf.api.get(f"/volumes/{disk.pk}/content")
    if answer.status_code == 200:
        with pytest.raises((downloads.CutOff, FileNotFoundError)):
            asyncio.run(collected(answer))
    else:
        check_problem(answer, 503, "host_unreachable")
    assert list((downloads.downloads_dir()).iterdir()) == []


def test_what_nobody_reads_any_more_goes(shelf: Shelf, disk: Volume) -> None:
    down(shelf, disk)
    soon = timezone.now() + dt.timedelta(minutes=14)
    retention.trim(soon)
    assert list(downloads.downloads_dir().iterdir())
    retention.trim(soon + dt.timedelta(minutes=2))
    assert not list(downloads.downloads_dir().iterdir())
    assert down(shelf, disk, Range="bytes=4194303-")[1] == b"\0", "it is read out again"


def test_no_worker_is_said_in_time(shelf: Shelf, disk: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.doorbell.ring", lambda *_a, **_k: None)
    monkeypatch.setattr(content, "BEGIN_SECONDS", 0.3)
    check_problem(shelf.api.get(f"/volumes/{disk.pk}/content"), 504, "timeout")


def test_head_begins_nothing(shelf: Shelf, disk: Volume) -> None:
    assert shelf.api.call("HEAD", f"/volumes/{disk.pk}/content").status_code == 200
    assert not Operation.objects.exists()
