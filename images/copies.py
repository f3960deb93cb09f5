"""Where an image lies: one volume a pool, made once, whoever asks first; half a copy is never taken for one.

Runs in a worker's thread. A row of `ImageCopy` is the claim: its operation makes the copy, all others wait for that one. When it died
in the middle, it or whoever asks next throws away what it left and begins anew.
"""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Final

from django.db.models import Q

from core.errors import VmmError
from core.units import format_bytes
from drivers.errors import Busy, DriverError, NoSpace, NotFound, Timeout
from drivers.types import VolumeSpec
from images.choices import ImageKind, ImageState
from images.models import Image, ImageCopy
from operations.actions import Cancelled
from operations.choices import OPEN
from operations.models import Operation
from storage.reach import check_usable, pool_of, volume_or_none
from storage.volume_actions import read_volume
from transfers import tools
from transfers.flow import Place, SparseFile, pipe, receive, send
from transfers.places import room_kept, staging_dir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from drivers.base import Session
    from operations.actions import Context
    from storage.models import StoragePool

WAIT_SECONDS: Final = 4 * 3600.0
"""How long somebody else's copy is waited for."""
PAUSE_SECONDS: Final = 1.0
TRIES: Final = 3
TRY_PAUSE_SECONDS: Final = 5.0


class NotReady(VmmError):
    """The image cannot be used."""

    code = "image_not_ready"
    status = 409
    expected = True


def format_in(image: Image, pool: StoragePool) -> str:
    """In which format it lies in this pool: its own where the pool can hold that, else raw."""
    return image.format if image.format in pool.formats else "raw"


def volume_name(image: Image, pool: StoragePool) -> str:
    """What the copy is called there. Of the image's id the random end: the begin is a time."""
    suffix = "iso" if image.kind == ImageKind.ISO else format_in(image, pool)
    return f"vmm-image-{image.pk.hex[-12:]}.{suffix}"


def ensure_copy(ctx: Context, image: Image, pool: StoragePool, *, wait_seconds: float = WAIT_SECONDS) -> str:
    """The volume in `pool` that holds `image`, copied there first if need be.

    Blocks for as long as a copy takes: through this process, in small pieces. `pool` with its hypervisor selected.

    Raises:
        NotReady: The image is not, or no copy of it is left. NoSpace, Unreachable, WrongState (the pool is stopped), Timeout,
        Cancelled.
    """
    if image.state != ImageState.READY:
        raise NotReady(f"The image {image.name} is not ready.", image=str(image.pk))
    copy = _claim(ctx, image, pool, time.monotonic() + wait_seconds)
    if not copy.ready:
        source = _source(image, pool)
        ctx.log(f"Copying {image.name} from {source.pool.name} to {pool.name}.")
        fill(ctx, copy, image, pool, lambda place: _copied(ctx, image, source, place, pool))
    return copy.volume


def put(ctx: Context, image: Image, pool: StoragePool, file: Path) -> str:
    """Make the first copy, from `file`, which is the image in its own format; the volume's name. Raises as `ensure_copy`."""
    copy = _claim(ctx, image, pool, time.monotonic() + WAIT_SECONDS)
    if not copy.ready:
        fill(ctx, copy, image, pool, lambda place: _sent(ctx, image, pool, file, place))
    return copy.volume


# -- the claim ---------------------------------------------------------------------------------------------------------
def _claim(ctx: Context, image: Image, pool: StoragePool, until: float) -> ImageCopy:
    """The row, either ready and really there, or ours to fill. Waits for who makes it."""
    check_usable(pool)
    while True:
        copy, made = ImageCopy.objects.get_or_create(
            image=image,
            pool=pool,
            defaults={"volume": volume_name(image, pool), "operation_id": ctx.operation_id},
        )
        if made or (not copy.ready and copy.operation_id == ctx.operation_id):
            return copy
        if copy.ready:
            if _is_there(ctx, copy, pool) or _taken(ctx, copy):
                return copy
        elif not _under_way(copy):
            if _taken(ctx, copy):
                return copy
        else:
            _wait(ctx, copy, pool, until)


def _is_there(ctx: Context, copy: ImageCopy, pool: StoragePool) -> bool:
    """Somebody may have deleted the volume behind our back."""
    with ctx.session(pool.hypervisor.endpoint()) as session:
        return volume_or_none(session, pool.name, copy.volume) is not None


def _under_way(copy: ImageCopy) -> bool:
    """Whether its maker lives. One that was given up at its deadline may still write: its lock says so."""
    alive = Q(state__in=OPEN) | Q(holds_lock=True)
    return copy.operation_id is not None and Operation.objects.filter(alive, pk=copy.operation_id).exists()


def _taken(ctx: Context, copy: ImageCopy) -> bool:
    """Make it ours, if nobody else just did."""
    same = ImageCopy.objects.filter(pk=copy.pk, ready=copy.ready, operation=copy.operation_id)
    taken = same.update(ready=False, operation=ctx.operation_id) == 1
    if taken:
        copy.ready, copy.operation_id = False, ctx.operation_id
    return taken


def _wait(ctx: Context, copy: ImageCopy, pool: StoragePool, until: float) -> None:
    ctx.progress(None, f"Waiting for the copy that another operation makes in {pool.name}")
    if ctx.cancelled():
        raise Cancelled
    if time.monotonic() > until:
        raise Timeout(f"The copy in {pool.name} is not done yet.", operation=str(copy.operation_id))
    time.sleep(PAUSE_SECONDS)


# -- the work ----------------------------------------------------------------------------------------------------------
def fill(ctx: Context, copy: ImageCopy, image: Image, pool: StoragePool, write: Callable[[Place], None]) -> None:
    """Make the volume, `write` its content, and only then call it ready.

    A host that is away for a moment is tried again. What is left of a copy that fails is deleted.
    """
    for attempt in range(1, TRIES + 1):
        try:
            return _fill_once(ctx, copy, image, pool, write)
        except VmmError as error:
            if not (isinstance(error, DriverError) and error.retryable) or attempt == TRIES:
                _drop(ctx, copy, pool)
                raise
            ctx.log(f"Attempt {attempt}: {error.detail} Trying again.")
            time.sleep(TRY_PAUSE_SECONDS * attempt)
    return None


def _fill_once(ctx: Context, copy: ImageCopy, image: Image, pool: StoragePool, write: Callable[[Place], None]) -> None:
    spec = VolumeSpec(name=copy.volume, capacity_bytes=image.virtual_size_bytes, format=format_in(image, pool))
    with ctx.session(pool.hypervisor.endpoint()) as session:
        remove(ctx, session, pool, copy.volume)
        _require_space(session, image, pool)
        session.volume_create(pool.name, spec)
        write(Place(session, pool.name, copy.volume))
        read_volume(session, pool, copy.volume)
    ImageCopy.objects.filter(pk=copy.pk, operation=ctx.operation_id).update(ready=True, operation=None)
    copy.ready = True


def _require_space(session: Session, image: Image, pool: StoragePool) -> None:
    """Before hours of writing, not after. Raises NoSpace."""
    free = session.pool(pool.name).available_bytes
    needed = image.virtual_size_bytes if format_in(image, pool) == "raw" else image.size_bytes
    if free is not None and free < needed:
        raise NoSpace(
            f"{image.name} needs {format_bytes(needed)}, and {pool.name} has {format_bytes(free)} left. "
            "Make room there, or take another pool.",
            pool=pool.name,
        )


def remove(ctx: Context, session: Session, pool: StoragePool, volume: str) -> None:
    """Delete what an attempt before this one left, or a copy that is not wanted any more. Waits while the host works on it."""
    while True:
        try:
            session.volume_delete(pool.name, volume)
        except NotFound:
            break
        except Busy:
            ctx.progress(None, f"Waiting until {pool.hypervisor.host.name} lets go of {volume}")
            if ctx.cancelled():
                raise Cancelled from None
            time.sleep(PAUSE_SECONDS)
        else:
            break
    read_volume(session, pool, volume)


def _drop(ctx: Context, copy: ImageCopy, pool: StoragePool) -> None:
    """Leave nothing of it. What cannot be deleted now keeps its row, and the next one who asks for the copy deletes it."""
    try:
        with ctx.session(pool.hypervisor.endpoint()) as session:
            remove(ctx, session, pool, copy.volume)
    except VmmError as error:
        ctx.log(f"What was written of {copy.volume} could not be deleted: {error.detail}")
        return
    ImageCopy.objects.filter(pk=copy.pk, ready=False).delete()


def _sent(ctx: Context, image: Image, pool: StoragePool, file: Path, place: Place) -> None:
    """A file of ours, which is the image in its own format, into a new volume."""
    if format_in(image, pool) != image.format:
        other = workplace(ctx) / "other"
        tools.convert(ctx, file, other, source_format=image.format, target_format=format_in(image, pool))
        _send(ctx, other, place)
        other.unlink()
    elif _send(ctx, file, place) != image.sha256:
        raise NotReady(f"The file of {image.name} changed on this server while it was read. Import it again.")


def _send(ctx: Context, file: Path, place: Place) -> str:
    size = file.stat().st_size
    with file.open("rb") as content:
        return send(ctx, place, content.read, length=size, message=f"Writing to {place.pool}")


def _source(image: Image, pool: StoragePool) -> ImageCopy:
    """A copy elsewhere to copy from: on the same host before others, in the image's own format before others."""
    ready = ImageCopy.objects.filter(image=image, ready=True, pool__gone_at=None).exclude(pool=pool)
    usable = [copy for copy in ready.select_related("pool__hypervisor__host") if _can_read(copy.pool)]
    if not usable:
        raise NotReady(f"No copy of {image.name} can be reached: each is on a host that is away, or was deleted.")
    return min(
        usable,
        key=lambda copy: (format_in(image, copy.pool) != image.format, copy.pool.host_id != pool.host_id, copy.pk),
    )


def _can_read(pool: StoragePool) -> bool:
    try:
        check_usable(pool)
    except VmmError:
        return False
    return True


def _copied(ctx: Context, image: Image, source: ImageCopy, place: Place, pool: StoragePool) -> None:
    """From pool to pool; where they hold it in different formats, by a file of ours in between."""
    origin = pool_of(source.pool_id)
    original = format_in(image, origin) == image.format
    length = image.size_bytes if original else image.virtual_size_bytes
    with ctx.session(origin.hypervisor.endpoint()) as session:
        there, message = Place(session, origin.name, source.volume), f"Copying from {origin.name}"
        if format_in(image, origin) == format_in(image, pool):
            digest = pipe(ctx, there, place, length=length, message=message)
            if original:
                _compare(image, origin, digest)
            return
        work = workplace(ctx)
        try:
            whole, other = work / "copy", work / "copy.other"
            with room_kept(), whole.open("wb", buffering=0) as file:
                digest = receive(ctx, there, SparseFile(file).write, length=length, message=message)
            if original:
                _compare(image, origin, digest)
            formats = {"source_format": format_in(image, origin), "target_format": format_in(image, pool)}
            tools.convert(ctx, whole, other, **formats)
            _send(ctx, other, place)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _compare(image: Image, origin: StoragePool, digest: str) -> None:
    if digest != image.sha256:
        raise NotReady(
            f"The copy of {image.name} in {origin.name} is not what was put there (SHA-256 {digest}). Delete that copy.",
            pool=str(origin.pk),
        )


def workplace(ctx: Context) -> Path:
    """A directory of this operation's own among our files; what is left in it goes some time after the operation's end."""
    path = staging_dir() / ctx.operation_id.hex
    path.mkdir(mode=0o700, exist_ok=True)
    return path
