"""A NoCloud seed: a small ISO image with a few files, made in memory."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Final

import pycdlib
import pycdlib.pycdlibexception

from cloudinit.document import Unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping

LABEL: Final = "cidata"
"""By this label of its volume cloud-init finds it, whatever device it is on."""
NAMES: Final = ("meta-data", "user-data", "vendor-data", "network-config")
FILE_BYTES_MAX: Final = 1024 * 1024
"""Of a file that is read back; one that was made here has a quarter of that."""


def iso(files: Mapping[str, bytes]) -> bytes:
    """ISO 9660 with Joliet and Rock Ridge, so that every system sees the names as they are. `files`: name → content."""
    image = pycdlib.PyCdlib()
    image.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
    try:
        for name, content in files.items():
            plain = "".join(letter for letter in name.upper() if letter.isalnum())[:30]
            image.add_fp(
                io.BytesIO(content),
                len(content),
                f"/{plain}.;1",
                rr_name=name,
                joliet_path=f"/{name}",
                file_mode=0o100444,
            )
        out = io.BytesIO()
        image.write_fp(out)
        return out.getvalue()
    finally:
        image.close()


def contents(data: bytes) -> dict[str, str]:
    """What stands in such an image: name → text. Raises Unreadable for what is none, also where somebody else has made it."""
    image = pycdlib.PyCdlib()
    try:
        image.open_fp(io.BytesIO(data))
        try:
            return {name: text for name in NAMES if (text := _text_of(image, name)) is not None}
        finally:
            image.close()
    except (pycdlib.pycdlibexception.PyCdlibException, struct.error, ValueError, IndexError, KeyError) as error:
        raise Unreadable("It is no ISO image with files for cloud-init.") from error


def _text_of(image: pycdlib.PyCdlib, name: str) -> str | None:
    out = io.BytesIO()
    try:
        if image.get_record(rr_path=f"/{name}").get_data_length() > FILE_BYTES_MAX:
            raise Unreadable(f"Its {name} is larger than {FILE_BYTES_MAX // 1024} KiB.")
        image.get_file_from_iso_fp(out, rr_path=f"/{name}")
    except pycdlib.pycdlibexception.PyCdlibInvalidInput:
        return None
    return out.getvalue().decode("utf-8", "replace")
