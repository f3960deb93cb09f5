"""What a worker does to images: import, copy, delete."""

from __future__ import annotations

import shutil
import uuid  # noqa: TC003 - pydantic reads the annotation
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.conf import settings
from pydantic import Field

from core.errors import Missing, VmmError
from core.problems import problem_of
from images import archives, copies
from images.choices import ImageKind, ImageState
from images.fetch import Fetch
from images.inventory import image_removed, image_settle
from images.models import Image, ImageCopy
from images.uses import refuse_used
from operations.actions import Action, Cancelled, NoParams, Params, Retry, action
from storage import uses
from storage.models import Volume
from storage.reach import check_usable, pool_of
from transfers import formats, tools
from transfers import services as uploads
from transfers.flow import Place, SparseFile, receive
from transfers.places import room_kept
from transfers.staged import digest_of, upload_load, upload_verify

if TYPE_CHECKING:
    from pathlib import Path

    from operations.actions import Context
    from storage.models import StoragePool
    from transfers.models import Upload

IMPORTS: Final = 4
"""At once: each may write as much to our disk as an image has."""
_OTHER_KIND: Final[dict[str, str]] = {
    ImageKind.DISK: "It is an installation medium, and a disk image was announced.",
    ImageKind.ISO: "It is a disk image, and an installation medium was announced.",
}


class ImageAction(Action[Image, Params]):
    """What all actions on one image share."""

    verb = "image.manage"
    cancellable = True
    timeout_seconds = 12 * 3600.0

    def load(self, target_id: uuid.UUID) -> Image:
        """Raises Missing for one that was deleted."""
        image = Image.objects.filter(pk=target_id).first()
        if image is None:
            raise Missing("This image is gone.")
        return image


class ImportParams(Params):
    """Where it comes from (one of `upload`, `url`, `volume`), and into which pool."""

    pool: uuid.UUID
    upload: uuid.UUID | None = None
    url: str = Field(default="", max_length=2000)
    sha256: str = ""
    volume: uuid.UUID | None = None
    kind: str = ""

    secret: ClassVar[frozenset[str]] = frozenset({"url"})
    """Sites put keys into it; the image's `source` shows it without them."""


@action
class ImportImage(ImageAction):
    """Take a file in: get it, look at what it really is, make it fit, put it into a pool.

    Each step leaves a file among ours, and is not done twice when a worker died in the middle.
    """

    kind = "image.import"
    title = "Import image"
    params = ImportParams
    # What can be tried again is tried again within: an attempt of the whole would fetch everything anew.
    retry: ClassVar[Retry] = Retry(times=0)

    def slot(self, target: Image) -> tuple[str, int]:
        """So many at once on the whole house."""
        del target
        return "images/import", IMPORTS

    def run(self, ctx: Context, target: Image, params: Params) -> dict[str, Any]:
        """The image is `ready` at the end, `failed` with the reason, or gone when it was cancelled."""
        assert isinstance(params, ImportParams)  # noqa: S101 - narrows the type; the registry pairs them
        try:
            if target.state != ImageState.READY:
                self._import(ctx, target, params)
        except Cancelled:
            shutil.rmtree(copies.workplace(ctx), ignore_errors=True)
            image_removed(target)
            raise
        except VmmError as error:
            shutil.rmtree(copies.workplace(ctx), ignore_errors=True)
            image_settle(target, state=ImageState.FAILED, error=problem_of(error))
            raise
        shutil.rmtree(copies.workplace(ctx), ignore_errors=True)
        _thank(params)
        return {"image": str(target.pk)}

    def _import(self, ctx: Context, image: Image, params: ImportParams) -> None:
        pool = pool_of(params.pool)
        check_usable(pool)
        file = self._made_to_fit(ctx, image, self._source(ctx, params), wanted=params.kind)
        ctx.progress(None, "Checking")
        digest = digest_of(ctx, file, message="Reading it once more")
        image_settle(image, sha256=digest, size_bytes=file.stat().st_size)
        copies.put(ctx, image, pool, file)
        image_settle(image, state=ImageState.READY)

    # -- get it --------------------------------------------------------------------------------------------------------
    def _source(self, ctx: Context, params: ImportParams) -> Path:
        """The file as it came. Checked against its checksum, where one was given."""
        if params.upload is not None:
            upload: Upload = upload_load(params.upload)
            upload_verify(ctx, upload)
            return upload.path
        file = copies.workplace(ctx) / "source"
        if ctx.done("source") and file.exists():
            return file
        if params.url:
            Fetch(ctx, params.url, file, params.sha256).run()
        elif params.volume is not None:
            self._read_out(ctx, params.volume, file)
        ctx.checkpoint("source")
        return file

    @staticmethod
    def _read_out(ctx: Context, volume_id: uuid.UUID, file: Path) -> None:
        """A volume's content into a file. Not while a guest runs with it: it would be torn."""
        volume = Volume.objects.select_related("pool").filter(pk=volume_id, pool__gone_at=None).first()
        if volume is None:
            raise Missing("The volume is gone from its pool.")
        running = [use for use in uses.uses_of([volume])[volume.pk] if use.running]
        uses.refuse(volume.name, running)
        pool = pool_of(volume.pool_id)
        with (
            ctx.session(pool.hypervisor.endpoint()) as session,
            room_kept(),
            file.open("wb") as out,
        ):
            receive(
                ctx,
                Place(session, pool.name, volume.name),
                SparseFile(out).write,
                message=f"Reading {volume.name}",
                expected=volume.allocation_bytes,
            )

    # -- make it fit -----------------------------------------------------------------------------------------------------
    def _made_to_fit(self, ctx: Context, image: Image, source: Path, *, wanted: str) -> Path:
        """The file as it is to lie in pools: an ISO as it is, any disk as qcow2. What it is stands in the image's row then."""
        most = settings.ENV.image_max_virtual_bytes
        found = formats.look(source, most_bytes=most)
        file, work = source, copies.workplace(ctx)
        if found.format == formats.ARCHIVE:
            file = work / "disk"
            archives.extract_disk(ctx, source, file)
            found = formats.look(file, most_bytes=most)
            if found.format != "vmdk":
                raise formats.ImageRefused("The disk in it is no VMDK, as an OVA has.")
        if wanted and wanted != found.kind:
            raise formats.ImageRefused(_OTHER_KIND[wanted])
        virtual = found.virtual_bytes if found.kind == ImageKind.ISO else tools.examine(file, found, most_bytes=most)
        if found.kind == ImageKind.DISK and found.format != "qcow2":
            whole = work / "image.qcow2"
            if not (ctx.done("converted") and whole.exists()):
                tools.convert(ctx, file, whole, source_format=found.format, target_format="qcow2")
                ctx.checkpoint("converted")
            file = whole
        format_ = "raw" if found.kind == ImageKind.ISO else "qcow2"
        image_settle(image, kind=found.kind, format=format_, virtual_size_bytes=virtual)
        return file


def _thank(params: ImportParams) -> None:
    """An upload that was used is not needed any more."""
    upload = uploads.upload_find(params.upload) if params.upload else None
    if upload is not None:
        uploads.discard(upload)


class CopyParams(Params):
    """Into which pool."""

    pool: uuid.UUID


@action
class CopyImage(ImageAction):
    """Have a copy in one more pool. One that is there already is what was wished."""

    kind = "image.copy"
    title = "Copy image"
    params = CopyParams

    def check(self, target: Image, params: Params, *, idle: bool) -> None:
        """The image is ready (if idle), and the pool can be reached."""
        assert isinstance(params, CopyParams)  # noqa: S101 - narrows the type; the registry pairs them
        check_usable(pool_of(params.pool))
        if idle and target.state != ImageState.READY:
            raise copies.NotReady(f"The image {target.name} is not ready.", image=str(target.pk))

    def run(self, ctx: Context, target: Image, params: Params) -> dict[str, Any]:
        """Resumes by itself: half a copy is thrown away."""
        assert isinstance(params, CopyParams)  # noqa: S101 - narrows the type; the registry pairs them
        volume = copies.ensure_copy(ctx, target, pool_of(params.pool))
        image_settle(target)
        return {"image": str(target.pk), "pool": str(params.pool), "volume": volume}


@action
class DeleteImage(ImageAction):
    """Delete it with all its copies. Not while anything stands on one."""

    kind = "image.delete"
    title = "Delete image"
    params = NoParams
    timeout_seconds = 900.0
    supersedes = frozenset({"image.import", "image.copy"})

    def load(self, target_id: uuid.UUID) -> Image:
        """One that is gone is what was wished: a worker may have died after that."""
        return Image.objects.filter(pk=target_id).first() or Image(pk=target_id, name="")

    def check(self, target: Image, params: Params, *, idle: bool) -> None:
        """Who uses it, now."""
        del params, idle
        refuse_used(target)

    def run(self, ctx: Context, target: Image, params: Params) -> None:
        """Copy by copy, then the image."""
        del params
        refuse_used(target)
        for copy in ImageCopy.objects.filter(image=target.pk).select_related("pool__hypervisor__host"):
            self._delete(ctx, copy, copy.pool)
            if ctx.cancelled():
                raise Cancelled("Cancelled: the copies that were deleted are gone, the others are there.")
        image_removed(target)

    @staticmethod
    def _delete(ctx: Context, copy: ImageCopy, pool: StoragePool) -> None:
        if pool.gone_at is None:
            check_usable(pool)
            with ctx.session(pool.hypervisor.endpoint()) as session:
                copies.remove(ctx, session, pool, copy.volume)
        copy.delete()
