"""A NoCloud seed: a small ISO image with a few files, made in memory."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import pycdlib

if TYPE_CHECKING:
    from collections.abc import Mapping

LABEL: Final = "cidata"
"""By this label of its volume cloud-init finds it, whatever device it is on."""


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
