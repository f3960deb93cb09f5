"""Downloads: a worker writes a file, the answer follows it while it grows; what was cut off is asked for again, by Range.

The file belongs to an operation and is called by its id. Beside it stands how long it will be, once the worker knows. It is kept for
some minutes after somebody last read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from django.http import StreamingHttpResponse

from core.errors import VmmError
from core.units import MIB
from live.database import in_database_thread
from operations.choices import OPEN, State
from operations.models import Operation
from transfers.places import downloads_dir

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator
    from pathlib import Path

    from django.http import HttpRequest

KEPT_SECONDS: Final = 900.0
PIECE: Final = 1 * MIB
LOOK_SECONDS: Final = 0.2
TOUCH_SECONDS: Final = 60.0
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


class RangeRefused(VmmError):
    """There is nothing in that range."""

    code = "range_not_satisfiable"
    status = 416
    expected = True


class Vanished(VmmError):
    """The download is gone."""

    code = "download_gone"
    status = 503
    retryable = True
    expected = True


class CutOff(Exception):
    """The rest of the file does not come: the connection is broken off, so that nobody takes a part for the whole."""


# -- the worker's side -----------------------------------------------------------------------------------------------------
def file_of(operation_id: uuid.UUID) -> Path:
    """Where an operation writes what it downloads."""
    return downloads_dir() / operation_id.hex


def _note(path: Path) -> Path:
    return path.with_suffix(".json")


def announce(path: Path, total_bytes: int | None) -> None:
    """It is begun, and will be so long (None: nobody knows). From here on readers may follow."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"total_bytes": total_bytes}), encoding="utf-8")
    draft.rename(_note(path))


def discard(path: Path) -> None:
    """Both go; who reads keeps what he has open."""
    for one in (_note(path), path):
        one.unlink(missing_ok=True)


def trim(now: dt.datetime) -> int:
    """What nobody has read for a while goes, unless it still grows; how many went."""
    gone = 0
    for path in downloads_dir().iterdir():
        with contextlib.suppress(FileNotFoundError):
            if now.timestamp() - path.stat().st_mtime < KEPT_SECONDS:
                continue
            operation = _operation_of(path)
            if operation is None or Operation.objects.filter(state__in=OPEN, pk=operation).exists():
                continue  # none of ours, or still growing
            path.unlink()
            gone += 1
    return gone


def _operation_of(path: Path) -> uuid.UUID | None:
    try:
        return uuid.UUID(path.stem)
    except ValueError:
        return None


# -- the reader's side -----------------------------------------------------------------------------------------------------
def begun(operation_id: uuid.UUID) -> bool:
    """Whether there is something to follow."""
    return _note(file_of(operation_id)).exists()


def kept(operation: Operation) -> bool:
    """Whether the whole of it is still here."""
    return operation.state == State.SUCCEEDED and begun(operation.pk) and file_of(operation.pk).exists()


@dataclass(frozen=True, slots=True)
class _Part:
    start: int
    end: int | None
    """Behind its last byte; None: wherever the file ends."""


def answer(request: HttpRequest, operation: Operation, *, filename: str) -> StreamingHttpResponse:
    """The file from its begin or by the range that is asked for, while it still comes. Needs `begun`.

    Raises RangeRefused, Vanished.
    """
    path = file_of(operation.pk)
    try:
        return _answer(request, operation, path, filename)
    except FileNotFoundError:
        raise Vanished(
            "What was read out of it is gone again: the reading failed, or was cancelled. Ask again."
        ) from None


def _answer(request: HttpRequest, operation: Operation, path: Path, filename: str) -> StreamingHttpResponse:
    total = json.loads(_note(path).read_text(encoding="utf-8"))["total_bytes"]
    if operation.state == State.SUCCEEDED:
        total = path.stat().st_size
    etag = f'"{operation.pk.hex}"'
    part = _asked(request, etag, total)
    response = StreamingHttpResponse(
        _follow(path, operation.pk, part or _Part(0, total)),
        status=200 if part is None else 206,
        content_type="application/octet-stream",
    )
    response["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(filename)}"
    response["Cache-Control"] = "private, no-store"
    response["X-Accel-Buffering"] = "no"
    response["ETag"] = etag
    response["Accept-Ranges"] = "none" if total is None else "bytes"
    if total is not None:
        start, end = (part.start, part.end) if part is not None else (0, total)
        response["Content-Length"] = str((end or total) - start)
        if part is not None:
            response["Content-Range"] = f"bytes {part.start}-{(end or total) - 1}/{total}"
    return response


def _asked(request: HttpRequest, etag: str, total: int | None) -> _Part | None:
    """One range; None for the whole, which is the answer to what cannot be given in parts (RFC 9110, 14.2) as well."""
    match = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    if match is None or total is None or not any(match.groups()):
        return None
    if request.headers.get("If-Range", etag) != etag:
        return None
    first, last = match.groups()
    start = int(first) if first else max(0, total - int(last))
    end = min(total, int(last) + 1) if first and last else total
    if start >= total or start >= end:
        raise RangeRefused(f"The file has {total} bytes.", size_bytes=total)
    return _Part(start, end)


async def _follow(path: Path, operation_id: uuid.UUID, part: _Part) -> AsyncIterator[bytes]:
    """The bytes of the part as they come. Raises CutOff when the rest does not."""
    file = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
    at, touched = part.start, 0.0
    try:
        while part.end is None or at < part.end:
            size = PIECE if part.end is None else min(PIECE, part.end - at)
            piece = await asyncio.to_thread(os.pread, file, size, at)
            if piece:
                at += len(piece)
                yield piece
            elif await in_database_thread(_over, operation_id):
                # What came between the reading and the question is still to be read.
                if os.fstat(file).st_size <= at:
                    break
            else:
                await asyncio.sleep(LOOK_SECONDS)
            if time.monotonic() - touched > TOUCH_SECONDS:
                touched = time.monotonic()
                _touch(path)
        if part.end is not None and at < part.end:
            raise CutOff("the file is shorter than announced")
    finally:
        os.close(file)


def _over(operation_id: uuid.UUID) -> bool:
    """Whether all of it is there. Raises CutOff when it never will be."""
    state = Operation.objects.filter(pk=operation_id).values_list("state", flat=True).first()
    if state in OPEN:
        return False
    if state != State.SUCCEEDED:
        raise CutOff("the operation that reads it has failed")
    return True


def _touch(path: Path) -> None:
    for one in (path, _note(path)):
        with contextlib.suppress(FileNotFoundError):
            os.utime(one)
