"""A guest's screen: Hyper-V gives it as raw RGB 565, the house wants PNG."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from functools import cache
from typing import TYPE_CHECKING

from drivers.hyperv.errors import malformed

if TYPE_CHECKING:
    from collections.abc import Sequence

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def pixels_of(texts: Sequence[str]) -> bytes:
    """The bytes of an `uint8[]`: WinRM sends one text in base64; the mapping's letter would be a number an element.

    Raises:
        DriverError: It is neither.
    """
    try:
        if len(texts) > 1:
            return bytes(int(text) for text in texts)
        return base64.b64decode("".join("".join(texts).split()), validate=True)
    except (ValueError, binascii.Error) as error:
        raise malformed("a picture that is none") from error


def png(raw: bytes, width: int, height: int) -> bytes:
    """RGB 565, little endian, row by row from the top, as a PNG of eight bits a colour.

    Raises:
        DriverError: There are not as many bytes as pixels need.
    """
    if len(raw) != width * height * 2 or not raw:
        raise malformed(f"a picture of {len(raw)} bytes where {width} x {height} pixels were asked for")
    colours = _colours()
    rows = bytearray()
    for top in range(0, len(raw), width * 2):
        rows.append(0)  # no filter
        rows += b"".join(map(colours.__getitem__, struct.unpack_from(f"<{width}H", raw, top)))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(bytes(rows), 6)), _chunk(b"IEND", b""))
    return _SIGNATURE + b"".join(parts)


@cache
def _colours() -> tuple[bytes, ...]:
    """Each of the 65536 values as three bytes: a table, because a screen has two million pixels."""
    return tuple(
        bytes((red << 3 | red >> 2, green << 2 | green >> 4, blue << 3 | blue >> 2))
        for red in range(32)
        for green in range(64)
        for blue in range(32)
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
