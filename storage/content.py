"""What is in a volume: put there from an upload, read out for somebody who downloads it. As `storage.volume_actions`."""

from __future__ import annotations

import uuid  # noqa: TC003 - pydantic reads the annotation
from typing import TYPE_CHECKING, Any, Final

from accounts import policy
from core.errors import TooLarge
from core.units import format_bytes
from drivers.errors import Timeout
from operations import engine
from operations.actions import NoParams, Params, Retry, action
from operations.models import Operation
from operations.problems import Recorded
from storage.volume_actions import VolumeAction, read_volume
from transfers import downloads
from transfers import services as uploads
from transfers.flow import Place, SparseFile, receive, send
from transfers.formats import refuse_leading
from transfers.places import downloads_dir, require_room, room_kept
from transfers.staged import require_whole, upload_load, upload_verify

if TYPE_CHECKING:
    from accounts.actor import Actor
    from drivers.types import VolumeInfo
    from operations.actions import Context
    from storage import uses
    from storage.models import Volume

BEGIN_SECONDS: Final = 55.0
"""How long a download's request waits for a worker that reads it out."""
LOOK_SECONDS: Final = 0.25


class UploadContentParams(Params):
    """Which upload."""

    upload: uuid.UUID


@action
class UploadVolume(VolumeAction):
    """Write an upload into a volume, from its begin. Not while a guest runs with it, nor under an overlay or an image."""

    kind = "volume.upload"
    title = "Upload to volume"
    params = UploadContentParams
    timeout_seconds = 12 * 3600.0
    cancellable = True
    long = True

    def in_the_way(self, found: list[uses.Use]) -> list[uses.Use]:
        """A guest that is off finds another disk at its next start: that is what is wished."""
        return [use for use in found if use.running or use.type != "vm"]

    def run(self, ctx: Context, target: Volume, params: Params) -> dict[str, Any]:
        """Safe to do again: it begins at the begin. Cancelled or broken off it leaves a volume that holds a part, and says so."""
        assert isinstance(params, UploadContentParams)  # noqa: S101 - narrows the type; the registry pairs them
        if ctx.done("written"):
            self._thank(params)
            return {"volume": str(target.pk)}
        upload = upload_load(params.upload)
        upload_verify(ctx, upload)
        refuse_leading(upload.path)
        self.check_uses(target)
        with ctx.session(target.pool.hypervisor.endpoint()) as session:
            place = Place(session, target.pool.name, target.name)
            with upload.path.open("rb") as file:
                send(ctx, place, file.read, length=upload.size_bytes, message=f"Writing to {target.name}")
            ctx.checkpoint("written")
            read_volume(session, target.pool, target.name)
        self._thank(params)
        return {"volume": str(target.pk)}

    @staticmethod
    def _thank(params: UploadContentParams) -> None:
        upload = uploads.upload_find(params.upload)
        if upload is not None:
            uploads.discard(upload)


@action
class DownloadVolume(VolumeAction):
    """Read a volume out into a file of ours, which somebody's answer follows. Not while a guest runs with it: it would be torn."""

    kind = "volume.download"
    title = "Download volume"
    params = NoParams
    timeout_seconds = 12 * 3600.0
    cancellable = True
    long = True
    retry = Retry(times=0)  # who follows it has what came before; he asks again himself

    def in_the_way(self, found: list[uses.Use]) -> list[uses.Use]:
        """Overlays and images only read."""
        return [use for use in found if use.running]

    def run(self, ctx: Context, target: Volume, params: Params) -> dict[str, Any]:
        """From the begin, also after an interruption: whoever followed the file was cut off with us."""
        del params
        self.check_uses(target)
        path = downloads.file_of(ctx.operation_id)
        downloads.discard(path)
        pool = target.pool
        try:
            with ctx.session(pool.hypervisor.endpoint()) as session:
                info = session.volume(pool.name, target.name)
                require_room(downloads_dir(), info.allocation_bytes)
                with room_kept(), path.open("xb", buffering=0) as file:
                    downloads.announce(path, length_of(info))
                    receive(
                        ctx,
                        Place(session, pool.name, target.name),
                        SparseFile(file).write,
                        message=f"Reading {target.name}",
                        expected=length_of(info) or info.allocation_bytes,
                    )
        except BaseException:
            downloads.discard(path)
            raise
        return {"volume": str(target.pk), "size_bytes": path.stat().st_size}


def length_of(info: VolumeInfo) -> int | None:
    """How many bytes come out of it; None where that shows only at the end: a file of another format is as long as it is."""
    return info.capacity_bytes if info.format == "raw" else info.physical_bytes or None


# -- services ------------------------------------------------------------------------------------------------------------
def volume_upload(*, volume: Volume, upload_id: uuid.UUID, by: Actor) -> Operation:
    """Queue it. Raises Missing, NotWhole, InUse, BadInput: longer than the volume."""
    policy.require(by, "volume.manage", volume.pool)
    upload = uploads.upload_get(upload_id, by=by)
    require_whole(upload)
    if volume.format == "raw" and upload.size_bytes > volume.capacity_bytes:
        raise TooLarge(
            f"{upload.filename} has {format_bytes(upload.size_bytes)}, and {volume.name} has room for "
            f"{format_bytes(volume.capacity_bytes)}. Make the volume larger first."
        )
    return engine.submit(UploadVolume, target=volume, by=by, params=UploadContentParams(upload=upload.pk))


def volume_download(*, volume: Volume, by: Actor, resume: bool) -> Operation:
    """The operation whose file is to be followed: one that is under way, or begun now; with `resume` the last one, if it is kept.

    Blocks until a worker has begun, at most 55 s. Raises InUse, Timeout: no worker is free, and whatever it failed with.
    """
    policy.require(by, "volume.manage", volume.pool)
    last = Operation.objects.filter(kind=DownloadVolume.kind, target=volume.ref).order_by("-pk").first()
    if resume and last is not None and downloads.kept(last):
        return last
    operation = engine.submit(DownloadVolume, target=volume, by=by)
    waited = 0.0
    while not downloads.begun(operation.pk) and waited < BEGIN_SECONDS:
        operation = engine.wait_ended(operation, timeout_seconds=LOOK_SECONDS)
        waited += LOOK_SECONDS
        if operation.error:
            raise Recorded(operation.error)
        if operation.ended:
            break
    if not downloads.begun(operation.pk):
        raise Timeout(
            "No worker has begun to read it yet. Ask again: you will be given the same download.",
            operation=str(operation.pk),
        )
    return Operation.objects.get(pk=operation.pk)
