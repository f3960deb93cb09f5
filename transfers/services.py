"""What callers may ask of uploads: begin one, append to it, give it up. Runs in request threads; nothing here meets a hypervisor.

An append writes while it receives, so that what has come when the connection breaks stays. Two at once on one upload are
kept apart by a lock on the file itself, which the kernel frees when its holder dies.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connection
from django.db.models import F, Sum
from django.http import UnreadablePostError
from django.utils import timezone

from accounts import policy
from core.errors import BadInput, Conflict, Missing, PermissionRefused, TooLarge, VmmError
from core.units import MIB, format_bytes
from operations.choices import OPEN
from operations.models import Operation
from transfers.choices import UploadState
from transfers.models import Upload
from transfers.places import FULL, StagingFull, require_room, uploads_dir

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterator

    from accounts.actor import Actor

PIECE = 1 * MIB
SYNC_BYTES = 32 * MIB
"""So much may be sent again after a crash."""
KEPT = dt.timedelta(hours=24)
"""Since the last byte came."""
UPLOADS_A_USER = 50


class WrongOffset(Conflict):
    """The upload does not go on there."""

    code = "wrong_offset"


class BeingWritten(Conflict):
    """Somebody else is sending this upload just now."""

    code = "being_written"


class CutShort(VmmError):
    """The rest of the bytes did not come."""

    code = "upload_interrupted"
    status = 400
    expected = True


class InUse(Conflict):
    """An operation uses this upload."""

    code = "upload_in_use"


def upload_create(*, filename: str, size_bytes: int, by: Actor, sha256: str = "") -> Upload:
    """Begin one.

    Raises:
        BadInput: A name that is none. TooLarge: more than VMM_UPLOAD_MAX_BYTES. StagingFull: no room on our disk.
        Conflict: this user has too many already.
    """
    policy.require(by, "upload.manage")
    if by.user is None:
        raise PermissionRefused("An upload belongs to a user.")
    most = settings.ENV.upload_max_bytes
    if size_bytes > most:
        raise TooLarge(
            f"A file has at most {format_bytes(most)} here; the administrator can raise VMM_UPLOAD_MAX_BYTES."
        )
    if Upload.objects.filter(user=by.user).count() >= UPLOADS_A_USER:
        raise Conflict(f"You have {UPLOADS_A_USER} uploads. Use or delete one of them first.")
    require_room(uploads_dir(), size_bytes, promised_bytes=promised_bytes())
    upload = Upload(
        user=by.user,
        filename=clean_filename(filename),
        size_bytes=size_bytes,
        sha256=sha256.lower(),
        expires_at=timezone.now() + KEPT,
    )
    upload.path.touch(mode=0o600, exist_ok=False)
    upload.save(force_insert=True)
    return upload


def clean_filename(name: str) -> str:
    """The last part of it: browsers of old sent whole paths. For people only, never a name on our disk. Raises BadInput."""
    last = name.replace("\\", "/").rpartition("/")[2].strip()
    if not last or last in (".", "..") or len(last) > 255 or not last.isprintable():
        raise BadInput(
            "A file has a name of 1 to 255 printable characters.",
            errors=[{"pointer": "/filename", "detail": "1 to 255 printable characters"}],
        )
    return last


def promised_bytes() -> int:
    """What uploads that are under way may still write."""
    left = Upload.objects.aggregate(left=Sum(F("size_bytes") - F("received_bytes")))["left"]
    return int(left or 0)


def upload_get(upload_id: uuid.UUID, *, by: Actor) -> Upload:
    """One of the caller's own. Raises Missing: nobody sees another's."""
    upload = Upload.objects.filter(pk=upload_id, user=by.user).first() if by.user is not None else None
    if upload is None:
        raise Missing("There is no such upload: it was never begun, has expired, or is not yours.")
    return upload


def upload_find(upload_id: uuid.UUID) -> Upload | None:
    """For who puts it to use, whoever sent it."""
    return Upload.objects.filter(pk=upload_id).first()


def upload_append(*, upload: Upload, offset: int, read: Callable[[int], bytes], by: Actor) -> Upload:
    """Write what `read(size)` gives (`b""` ends it) behind the `offset` bytes that are there.

    Blocks as long as the sender takes. Whatever ends it, what has come is kept and counted.

    Raises:
        WrongOffset: It does not go on there; `received_bytes` says where. BeingWritten: another request does it.
        TooLarge: More than was announced (what was announced is kept). StagingFull: the disk is full. CutShort: the sender
            went away, or sent nothing for a minute.
    """
    policy.require(by, "upload.manage", upload)
    with _locked(upload) as file:
        try:
            upload.refresh_from_db()
        except Upload.DoesNotExist:
            raise Missing("This upload was deleted meanwhile.") from None
        _forget_unsafe(file, upload)
        if offset != upload.received_bytes:
            raise WrongOffset(
                f"{upload.filename} goes on at {upload.received_bytes}, not at {offset}.",
                received_bytes=upload.received_bytes,
                upload=str(upload.pk),
            )
        try:
            _receive(file, upload, read)
        except UnreadablePostError:
            raise CutShort(
                "The connection broke or fell silent. What has come is kept: go on there.",
                received_bytes=upload.received_bytes,
            ) from None
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise StagingFull(
                "The disk of this server is full. What has come is kept: go on once there is room.",
                received_bytes=upload.received_bytes,
            ) from None
    return upload


@contextlib.contextmanager
def _locked(upload: Upload) -> Iterator[int]:
    """The open file, ours alone. Raises BeingWritten, Missing."""
    try:
        file = os.open(upload.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Missing("The file of this upload is gone. Begin a new one.") from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BeingWritten(
                f"Another request is sending {upload.filename}. Ask for received_bytes when it has ended, and go on there.",
                upload=str(upload.pk),
            ) from None
        yield file
    finally:
        os.close(file)


def _forget_unsafe(file: int, upload: Upload) -> None:
    """Cut off what was written and never counted; a file that lost what was counted (its disk lied) begins where it ends."""
    length = os.fstat(file).st_size
    if length < upload.received_bytes:
        _count(upload, length)
    os.ftruncate(file, upload.received_bytes)
    os.lseek(file, upload.received_bytes, os.SEEK_SET)


def _receive(file: int, upload: Upload, read: Callable[[int], bytes]) -> None:
    have = counted = upload.received_bytes
    _let_go_of_database()
    try:
        while have < upload.size_bytes:
            piece = read(min(PIECE, upload.size_bytes - have))
            if not piece:
                return
            view = memoryview(piece)
            while view:
                written = os.write(file, view)
                have += written
                view = view[written:]
            if have - counted >= SYNC_BYTES:
                counted = _sync(file, upload, have)
        if read(1):
            raise TooLarge(f"{upload.filename} was announced with {upload.size_bytes} bytes, and more came.")
    finally:
        if have != counted:
            _sync(file, upload, have)


def _sync(file: int, upload: Upload, have: int) -> int:
    os.fsync(file)
    _count(upload, have)
    _let_go_of_database()
    return have


def _count(upload: Upload, received: int) -> None:
    """Write down what is safe. Raises Missing when the upload was deleted meanwhile."""
    now = timezone.now()
    state = UploadState.COMPLETE if received == upload.size_bytes else UploadState.RECEIVING
    values = {"received_bytes": received, "state": state, "expires_at": now + KEPT, "updated_at": now}
    if Upload.objects.filter(pk=upload.pk).update(version=F("version") + 1, **values) != 1:
        raise Missing("This upload was deleted meanwhile.")
    for name, value in values.items():
        setattr(upload, name, value)
    upload.version += 1


def _let_go_of_database() -> None:
    """A sender may take hours: a pooled connection must not wait with it."""
    if connection.vendor == "postgresql" and not connection.in_atomic_block:
        connection.close()


def upload_delete(*, upload: Upload, by: Actor) -> None:
    """Give it up. Raises InUse while an operation needs it."""
    policy.require(by, "upload.manage", upload)
    user = held_by(upload)
    if user is not None:
        raise InUse(f"{upload.filename} is being used. Cancel that first, or wait for its end.", operation=str(user.pk))
    discard(upload)


def held_by(upload: Upload) -> Operation | None:
    """The operation that is to use it, or does; None when nobody needs it."""
    return Operation.objects.filter(state__in=OPEN, params__upload=str(upload.pk)).first()


def discard(upload: Upload) -> None:
    """Row first, then file: a file without a row is swept up later, a row without a file would promise what is not there."""
    path = upload.path
    Upload.objects.filter(pk=upload.pk).delete()
    path.unlink(missing_ok=True)
