"""Uploads: what is sent arrives, goes on where it broke off, belongs to its sender, and goes away when nobody comes back."""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import os
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from django.utils import timezone

from accounts.actor import Actor
from core.errors import Missing
from core.rest import BODY_MAX
from operations.models import Operation
from tests.transfers.conftest import Sender, sha256
from tests.web.test_edge import check_problem
from transfers import places, retention, services
from transfers.models import Upload

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_django.fixtures import SettingsWrapper

    from accounts.models import User

pytestmark = pytest.mark.django_db

CONTENT = bytes(range(256)) * 4096


def test_a_file_arrives_in_pieces(sender: Sender, data_dir: Path) -> None:
    begun = sender.begin(CONTENT)
    assert (begun.status_code, begun.json()["state"], begun["Upload-Offset"]) == (201, "receiving", "0")
    upload = begun.json()["id"]
    assert begun["Location"] == f"/api/v1/uploads/{upload}"
    for start in range(0, len(CONTENT), 300_000):
        sent = sender.send(upload, CONTENT[start : start + 300_000], start)
        assert sent.json()["received_bytes"] == min(len(CONTENT), start + 300_000)
        assert sender.api.get(f"/uploads/{upload}")["Upload-Offset"] == sent["Upload-Offset"]
    assert sent.json()["state"] == "complete"
    files = list((data_dir / "uploads").iterdir())
    assert [file.read_bytes() for file in files] == [CONTENT]
    assert oct(files[0].stat().st_mode & 0o777) == "0o600"


def test_a_body_over_2_mib_is_taken_here_and_only_here(sender: Sender) -> None:
    content = b"y" * (BODY_MAX + 1)
    assert sender.whole(content)
    check_problem(sender.api.post("/uploads", content), 413, "too_large")
    other = sender.api.client.generic(
        "PATCH",
        "/api/v1/users/1",
        content,
        "application/json",
        headers={"Authorization": f"Bearer {sender.api.secret}"},
    )
    check_problem(other, 413, "too_large")


@pytest.mark.parametrize("offset", [1, 999, 10**18])
def test_a_wrong_offset_is_told_the_true_one(sender: Sender, offset: int) -> None:
    upload = sender.begin().json()["id"]
    sender.send(upload, b"x" * 10, 0)
    refused = check_problem(sender.send(upload, b"x" * 10, offset), 409, "wrong_offset")
    assert refused["context"]["received_bytes"] == 10


@pytest.mark.parametrize("offset", ["", "-1", "1.5", "x", "9" * 30, "²"])
def test_an_offset_that_is_none_is_named(sender: Sender, offset: str) -> None:
    upload = sender.begin().json()["id"]
    refused = check_problem(sender.send(upload, b"x", offset), 422, "invalid_input")
    assert refused["errors"][0]["pointer"] == "/Upload-Offset"


def test_another_media_type_is_refused(sender: Sender) -> None:
    upload = sender.begin().json()["id"]
    check_problem(sender.send(upload, b"{}", 0, "application/json"), 415, "unsupported_media_type")
    assert sender.api.get(f"/uploads/{upload}").json()["received_bytes"] == 0


def test_more_than_was_announced_is_refused_and_what_was_is_kept(sender: Sender) -> None:
    upload = sender.begin(b"x" * 10).json()["id"]
    check_problem(sender.send(upload, b"x" * 11, 0), 413, "too_large")
    assert sender.api.get(f"/uploads/{upload}").json()["state"] == "complete"


@pytest.mark.parametrize("name", ["/etc/passwd", "..\\..\\boot.ini", "a/b/c.qcow2", "C:\\disk.vmdk", "é.iso"])
def test_a_path_is_only_its_last_part(sender: Sender, name: str) -> None:
    made = sender.begin(filename=name).json()
    assert made["filename"] == name.replace("\\", "/").rpartition("/")[2]


@pytest.mark.parametrize("name", ["", "..", "a/", "a\nb", "\u202eexe.iso", "a\0b", "x" * 256, "/" * 200, "   "])
def test_a_name_that_is_none_is_refused(sender: Sender, name: str, data_dir: Path) -> None:
    check_problem(sender.begin(filename=name), 422, "invalid_input")
    assert not Upload.objects.exists()


@pytest.mark.parametrize("change", [{"size_bytes": 0}, {"size_bytes": -1}, {"size_bytes": 2**70}, {"sha256": "00"}])
def test_values_that_cannot_be(sender: Sender, change: dict[str, Any]) -> None:
    check_problem(sender.begin(**change), 422, "invalid_input")


def test_nobody_sees_anothers(sender: Sender, operator: User) -> None:
    upload = sender.begin().json()["id"]
    other = Sender(sender.api.of(operator))
    for answer in (
        other.api.get(f"/uploads/{upload}"),
        other.send(upload, b"x", 0),
        other.api.delete(f"/uploads/{upload}"),
    ):
        check_problem(answer, 404, "not_found")
    assert other.api.get("/uploads").json()["items"] == []
    assert [one["id"] for one in sender.api.get("/uploads").json()["items"]] == [upload]


def test_a_viewer_sends_nothing(sender: Sender, viewer: User) -> None:
    check_problem(Sender(sender.api.of(viewer)).begin(), 403, "permission_denied")


def test_too_long_for_the_setting(sender: Sender, settings: SettingsWrapper) -> None:
    settings.ENV = settings.ENV.model_copy(update={"upload_max_bytes": 999})
    refused = check_problem(sender.begin(), 413, "too_large")
    assert "VMM_UPLOAD_MAX_BYTES" in refused["detail"]


def test_what_others_were_promised_is_not_promised_twice(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "free_bytes", lambda _directory: 1500)
    first = sender.begin()
    check_problem(sender.begin(), 507, "staging_full")
    sender.send(first.json()["id"], b"x" * 1000, 0)
    assert sender.begin().status_code == 201, "what has come is no longer to come"


def test_a_full_disk_keeps_what_came(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = sender.begin(b"x" * 100).json()["id"]
    sender.send(upload, b"x" * 10, 0)
    write = os.write

    def full(file: int, data: Any) -> int:
        if len(data) <= 20:
            raise OSError(errno.ENOSPC, "full")
        return write(file, data[:20])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        refused = check_problem(sender.send(upload, b"x" * 40, 10), 507, "staging_full")
    assert refused["context"]["received_bytes"] == 30
    assert sender.send(upload, b"x" * 70, 30).json()["state"] == "complete"


def test_what_a_crash_left_uncounted_is_sent_again(sender: Sender) -> None:
    upload = sender.begin(b"a" * 20).json()["id"]
    sender.send(upload, b"a" * 10, 0)
    path = Upload.objects.get(pk=upload).path
    with path.open("ab") as file:
        file.write(b"\0" * 7)
    assert sender.api.get(f"/uploads/{upload}").json()["received_bytes"] == 10
    assert sender.send(upload, b"a" * 10, 10).status_code == 200
    assert path.read_bytes() == b"a" * 20


def test_a_file_shorter_than_counted_begins_where_it_ends(sender: Sender) -> None:
    upload = sender.begin(b"a" * 20).json()["id"]
    sender.send(upload, b"a" * 10, 0)
    os.truncate(Upload.objects.get(pk=upload).path, 4)
    refused = check_problem(sender.send(upload, b"a", 10), 409, "wrong_offset")
    assert refused["context"]["received_bytes"] == 4


def test_two_at_once_are_one(sender: Sender) -> None:
    upload = sender.begin().json()["id"]
    with Upload.objects.get(pk=upload).path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        check_problem(sender.send(upload, b"x" * 10, 0), 409, "being_written")
    assert sender.send(upload, b"x" * 10, 0).status_code == 200


def test_a_deleted_one_is_gone_with_its_file(sender: Sender, data_dir: Path) -> None:
    upload = sender.begin().json()["id"]
    assert sender.api.delete(f"/uploads/{upload}").status_code == 204
    assert not list((data_dir / "uploads").iterdir())
    check_problem(sender.send(upload, b"x", 0), 404, "not_found")


def test_one_that_is_deleted_while_it_comes(admin: User, sender: Sender) -> None:
    upload = Upload.objects.get(pk=sender.begin().json()["id"])

    def read(size: int) -> bytes:
        services.discard(upload)
        return b"x" * size

    with pytest.raises(Missing, match="deleted meanwhile"):
        services.upload_append(upload=upload, offset=0, read=read, by=Actor.of_user(admin))


def needed_by(upload: str, state: str) -> Operation:
    return Operation.objects.create(
        kind="image.import", target=f"image/{UUID(int=1)}", params={"upload": upload}, state=state
    )


@pytest.mark.parametrize(("state", "kept"), [("queued", True), ("running", True), ("succeeded", False)])
def test_what_an_operation_needs_stays(sender: Sender, state: str, kept: bool) -> None:
    upload = sender.begin().json()["id"]
    needed_by(upload, state)
    Upload.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    if kept:
        check_problem(sender.api.delete(f"/uploads/{upload}"), 409, "upload_in_use")
    retention.trim(timezone.now())
    assert Upload.objects.exists() == kept


def test_what_nobody_came_back_for_goes(sender: Sender, data_dir: Path) -> None:
    old, new = sender.begin().json()["id"], sender.begin().json()["id"]
    Upload.objects.filter(pk=old).update(expires_at=timezone.now())
    orphan, foreign = data_dir / "uploads" / UUID(int=5).hex, data_dir / "uploads" / "notes.txt"
    for path in (orphan, foreign):
        path.touch()
    assert retention.trim(timezone.now() + dt.timedelta(hours=2)) == 2
    assert {path.name for path in (data_dir / "uploads").iterdir()} == {UUID(new).hex, "notes.txt"}


def test_a_byte_puts_the_end_off(sender: Sender) -> None:
    upload = sender.begin().json()
    soon = timezone.now() + dt.timedelta(minutes=1)
    Upload.objects.update(expires_at=soon)
    sender.send(upload["id"], b"x", 0)
    assert Upload.objects.get().expires_at > soon


def test_one_user_has_so_many(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "UPLOADS_A_USER", 1)
    sender.begin()
    check_problem(sender.begin(), 409, "conflict")


def test_the_same_key_begins_one(sender: Sender) -> None:
    body = {"filename": "a", "size_bytes": 1}
    first, second = (sender.api.post("/uploads", body, Idempotency_Key="k") for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert Upload.objects.count() == 1


def test_the_digest_is_kept_for_later(sender: Sender) -> None:
    assert sender.begin(CONTENT, sha256=sha256(CONTENT).upper()).json()["sha256"] == sha256(CONTENT)
