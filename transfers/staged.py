"""An upload as the operation that uses it sees it, in a worker's thread: is it whole, is it what its sender said, and the end of it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from core.errors import Conflict, Missing, VmmError
from core.units import MIB
from operations.actions import Cancelled
from transfers.choices import UploadState
from transfers.models import Upload

if TYPE_CHECKING:
    import uuid
    from pathlib import Path

    from operations.actions import Context

PIECE = 4 * MIB


class DigestMismatch(VmmError):
    """The file is not the one that its checksum names."""

    code = "digest_mismatch"
    status = 422
    expected = True


class NotWhole(Conflict):
    """The upload is not complete."""

    code = "upload_incomplete"


def upload_load(upload_id: uuid.UUID) -> Upload:
    """One that is complete. Raises Missing, NotWhole."""
    upload = Upload.objects.filter(pk=upload_id).first()
    if upload is None:
        raise Missing("The upload is gone: it has expired or was deleted.")
    require_whole(upload)
    return upload


def require_whole(upload: Upload) -> None:
    """Raises NotWhole."""
    if upload.state != UploadState.COMPLETE:
        raise NotWhole(
            f"{upload.filename} is not complete: {upload.received_bytes} of {upload.size_bytes} bytes are here. Send the rest first.",
            received_bytes=upload.received_bytes,
        )


def upload_verify(ctx: Context, upload: Upload) -> None:
    """Compare it with the digest that its sender gave, once. Raises DigestMismatch, Missing, Cancelled."""
    try:
        if upload.path.stat().st_size != upload.size_bytes:
            raise Missing("The file of the upload is not whole any more. Send it again.")
    except FileNotFoundError:
        raise Missing("The file of the upload is gone. Send it again.") from None
    if not upload.sha256 or upload.verified:
        return
    found = digest_of(ctx, upload.path, message="Checking the upload")
    if found != upload.sha256:
        raise DigestMismatch(
            f"{upload.filename} has the SHA-256 {found}, and {upload.sha256} was announced. Send it again."
        )
    Upload.objects.filter(pk=upload.pk).update(verified=True)
    upload.verified = True


def digest_of(ctx: Context, path: Path, *, message: str) -> str:
    """SHA-256 of a file, with progress. Raises Cancelled."""
    digest = hashlib.sha256()
    done, size = 0, path.stat().st_size
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            done += len(piece)
            ctx.progress(done / size, message)
            if ctx.cancelled():
                raise Cancelled
    return digest.hexdigest()
