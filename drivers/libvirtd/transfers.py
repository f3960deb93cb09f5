"""A volume's bytes over a libvirt stream, up and down: in pieces, with flat memory, and believed only when they are there.

Measured on libvirt 9.0:

- Pieces of 512 KiB go up at the least cost (64 KiB and 1 MiB take twice the processor time, 4 MiB four times); coming down the daemon
  cuts at 256 KiB. The processor time is that of `virsh vol-upload` and `vol-download` (`bench/transfers.py`).
- Going up, a disk that stalls stalls the sender: the daemon stops reading the connection, keepalive answers too, and the client's
  own keepalive would call the host dead. So a transfer has a connection of its own, and patience with it (`KEEPALIVE`).
- Coming down nothing holds the daemon back: whatever `write` has not taken piles up in this process (256 MiB in three seconds). So a
  download is many short streams, each asked for shortly before the last is through, and no more than these can pile up.
- The daemon writes behind the stream's back. What fails in the last MiB or two, a full disk above all, is never told: `finish` says
  yes. So the end of each upload is read back and compared.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import libvirt

from drivers.errors import DriverError, NoSpace

if TYPE_CHECKING:
    from collections.abc import Callable

PIECE_BYTES = 512 * 1024
SEGMENT_BYTES = 16 * 1024 * 1024
"""As much as one stream brings down."""
AHEAD_BYTES = 1024 * 1024
"""When so much of a stream is still to come the next is asked for: a round trip costs no pause. No earlier: what the next one sends
meanwhile piles up in memory that is new each time (half a stream ahead took 130 ms of processor time for 256 MiB, this 90)."""
RECEIVED_BYTES = 256 * 1024
"""As the daemon cuts: the binding clears as much memory as it is asked for before it fills it."""
KEEPALIVE = (5, 6)
"""Interval, count: 35 s, a little more than the 30 s after which the daemon itself gives up a connection that it does not read."""
_ZEROS = bytes(PIECE_BYTES)


class Transfer:
    """One volume on a connection that nothing else uses. libvirt's own errors are let out: who gave the connection knows them.

    Args:
        line: The connection.
        pool: Name of its pool.
        name: Its own.
    """

    def __init__(self, line: libvirt.virConnect, pool: str, name: str) -> None:
        self._line, self._pool, self._name = line, pool, name
        self._home = line.storagePoolLookupByName(pool)
        self.volume = self._home.storageVolLookupByName(name)

    # -- up ----------------------------------------------------------------------------------------------------------------
    def upload(self, read: Callable[[int], bytes], *, offset: int, length: int) -> None:
        """Write up to `length` bytes from `read` at `offset`, and look whether they are there.

        Raises:
            NoSpace: The pool is full.
            DriverError: The host did not keep what was written.
        """
        stream = self._line.newStream(0)
        self.volume.upload(stream, offset, length, 0)
        # Where the last piece that is not all zeros lies, and the last one: a fresh volume reads as zeros whether they arrived or not.
        telling: tuple[int, bytes] | None = None
        last: tuple[int, bytes] | None = None
        moved = 0
        try:
            while piece := _filled(read, min(PIECE_BYTES, length - moved)):
                _send(stream, piece)
                last = (offset + moved, piece)
                if piece != _ZEROS[: len(piece)]:
                    telling = last
                moved += len(piece)
            stream.finish()
        except BaseException:
            _abort(stream)
            raise
        for place in (telling, None if last is telling else last):
            if place is not None:
                self._check(*place)

    def _check(self, at: int, piece: bytes) -> None:
        kept = bytearray()
        self.download(kept.extend, offset=at, length=len(piece))
        if kept != piece:
            raise self._not_kept()

    def _not_kept(self) -> DriverError:
        self._home.refresh(0)
        free = self._home.info()[3]
        if free < 2 * PIECE_BYTES:
            return NoSpace(f"There is no space left in the storage pool {self._pool}.", pool=self._pool)
        return DriverError(
            "The host did not keep what was written: look at its storage, and at its log.",
            pool=self._pool,
            volume=self._name,
        )

    # -- down --------------------------------------------------------------------------------------------------------------
    def download(self, write: Callable[[bytes], object], *, offset: int, length: int, all_of_it: bool = False) -> None:
        """Hand `length` bytes from `offset` on to `write`; 0: all up to the end.

        Args:
            write: Takes a piece; what it raises breaks the download off.
            offset: In bytes.
            length: In bytes.
            all_of_it: There are so many, or something is wrong.

        Raises:
            DriverError: There came fewer.
        """
        moved = asked = 0
        coming: deque[_Stretch] = deque()
        try:
            while True:
                if (not length or asked < length) and (
                    not coming or (len(coming) == 1 and coming[0].left <= AHEAD_BYTES)
                ):
                    wanted = min(SEGMENT_BYTES, length - asked) if length else SEGMENT_BYTES
                    coming.append(self._begin(offset + asked, wanted))
                    asked += wanted
                if not coming:
                    break
                piece = coming[0].take()
                if piece:
                    moved += len(piece)
                    write(piece)
                elif coming.popleft().left:  # that was the end
                    break
        finally:
            for stretch in coming:
                _abort(stretch.stream)
        if all_of_it and moved < length:
            raise DriverError(
                f"The volume ended after {moved} bytes of {length}: it was changed meanwhile, or its storage is broken.",
                pool=self._pool,
                volume=self._name,
            )

    def _begin(self, offset: int, length: int) -> _Stretch:
        stream = self._line.newStream(0)
        self.volume.download(stream, offset, length, 0)
        return _Stretch(stream, length)


@dataclass(slots=True)
class _Stretch:
    """A part of a volume that is on its way. `left`: bytes of it that have not come yet."""

    stream: libvirt.virStream
    left: int

    def take(self) -> bytes:
        """The next piece; `b""` at its end, which is told to the host."""
        piece = self.stream.recv(RECEIVED_BYTES)
        if isinstance(piece, int) or not piece:
            self.stream.finish()
            return b""
        self.left -= len(piece)
        return piece


def _filled(read: Callable[[int], bytes], size: int) -> bytes:
    """`size` bytes, fewer at the end: a reader that gives little at a time costs no message for each."""
    piece = read(size) if size else b""
    if not piece or len(piece) == size:
        return piece
    whole = bytearray(piece)
    while len(whole) < size and (piece := read(size - len(whole))):
        whole += piece
    return bytes(whole)


def _send(stream: libvirt.virStream, piece: bytes) -> None:
    sent = stream.send(piece)
    while sent < len(piece):
        sent += stream.send(piece[sent:])


def _abort(stream: libvirt.virStream) -> None:
    try:
        stream.abort()
    except (libvirt.libvirtError, SystemError):
        return  # it is over already, which is what was wanted
