"""Contents of volumes on their way through this process: counted, digested, reported, cancelled, and never whole in memory.

Runs in a worker's thread; `pipe` adds one for as long as it lasts, which reads what this one writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final

from core.units import MIB, format_bytes
from drivers.errors import Aborted, DriverError, Unreachable
from operations.actions import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.base import Session
    from operations.actions import Context

PIECE: Final = 1 * MIB
PIECES_AHEAD: Final = 8
"""So many may have been read and not yet written: flat memory."""
LOOK_SECONDS: Final = 0.5
END_SECONDS: Final = 30.0
"""How long a reader that was told to stop may take; a call that hangs in a dead host is left to itself."""


@dataclass(frozen=True, slots=True)
class Place:
    """A volume behind a session."""

    session: Session
    pool: str
    volume: str


@dataclass(slots=True)
class Meter:
    """Watches bytes go by. `length`: how many are to come, 0 for unknown."""

    ctx: Context
    message: str
    length: int = 0
    moved: int = 0
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    _looked_at: float = 0.0

    @property
    def sha256(self) -> str:
        """Of all that went by."""
        return self._digest.hexdigest()

    def passed(self, piece: bytes) -> None:
        """Count it. Raises Cancelled, which breaks the driver's call off and comes out of it as it is."""
        self._digest.update(piece)
        self.moved += len(piece)
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        share = min(1.0, self.moved / self.length) if self.length else None
        self.ctx.progress(share, f"{self.message}, {format_bytes(self.moved)}")
        if self.ctx.cancelled():
            raise Cancelled


def send(ctx: Context, to: Place, read: Callable[[int], bytes], *, length: int, message: str) -> str:
    """Write `length` bytes of `read` into a volume; their SHA-256. Raises Cancelled, DriverError, and what `read` raises."""
    meter = Meter(ctx, message, length)

    def drawn(size: int) -> bytes:
        piece = read(min(size, PIECE))
        meter.passed(piece)
        return piece

    to.session.volume_upload(to.pool, to.volume, drawn, length=length)
    if meter.moved != length:
        raise Unreachable(f"Only {meter.moved} of {length} bytes went to {to.volume}.")
    return meter.sha256


def receive(
    ctx: Context, source: Place, write: Callable[[bytes], None], *, message: str, length: int = 0, expected: int = 0
) -> str:
    """Hand the bytes of a volume to `write`, `length` of them (0: all); their SHA-256.

    `expected`: about how many come, for the progress. Raises Cancelled, DriverError, and what `write` raises.
    """
    meter = Meter(ctx, message, length or expected)

    def given(piece: bytes) -> None:
        write(piece)
        meter.passed(piece)

    source.session.volume_download(source.pool, source.volume, given, length=length)
    return meter.sha256


def pipe(ctx: Context, source: Place, to: Place, *, length: int, message: str) -> str:
    """Copy `length` bytes from one volume into another, on whatever hosts they are; their SHA-256. As `send`."""
    hose = _Hose(ctx, source, length)
    try:
        return send(ctx, to, hose.read, length=length, message=message)
    finally:
        hose.stop()


class SparseFile:
    """A file that is written forwards, in which zeros take no room. Open it without a buffer: others may follow it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, piece: bytes) -> None:
        """The next bytes."""
        if piece.count(0) == len(piece):
            self._file.truncate(self._file.seek(len(piece), os.SEEK_CUR))
            return
        view = memoryview(piece)
        while view:
            view = view[self._file.write(view) :]


class _Hose:
    """A volume as something to read from: a thread of its own draws ahead, a few pieces far."""

    def __init__(self, ctx: Context, source: Place, length: int) -> None:
        self._ctx = ctx
        self._source = source
        self._length = length
        self._pieces: queue.Queue[bytes | DriverError] = queue.Queue(PIECES_AHEAD)
        self._rest = b""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._draw, name=f"hose-{source.volume}", daemon=True)
        self._thread.start()

    def _draw(self) -> None:
        end: bytes | DriverError = b""
        try:
            self._source.session.volume_download(self._source.pool, self._source.volume, self._put, length=self._length)
        except DriverError as error:
            end = error
        with contextlib.suppress(Aborted):
            self._put(end)

    def _put(self, piece: bytes | DriverError) -> None:
        while not self._stopped.is_set():
            try:
                return self._pieces.put(piece, timeout=LOOK_SECONDS)
            except queue.Full:
                continue
        raise Aborted("Nobody reads any more.")

    def read(self, size: int) -> bytes:
        """At most `size` bytes, `b""` at the end. Raises what the reading of the volume raised, and Cancelled."""
        if not self._rest:
            self._rest = self._next()
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def _next(self) -> bytes:
        while True:
            try:
                piece = self._pieces.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if self._ctx.cancelled():
                    raise Cancelled from None
                continue
            if isinstance(piece, DriverError):
                raise piece
            return piece

    def stop(self) -> None:
        """End the thread, if its call comes back."""
        self._stopped.set()
        self._thread.join(END_SECONDS)
