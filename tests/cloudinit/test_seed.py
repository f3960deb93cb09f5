"""The seed is an image that every system reads: by its label, and under the names that cloud-init looks for."""

from __future__ import annotations

import io

import pycdlib
import pytest

from cloudinit import LABEL, iso

FILES = {
    "meta-data": b"instance-id: i-1\n",
    "user-data": "#cloud-config\n# \u00e9\n".encode(),
    "network-config": b"",
    "vendor-data": b"x" * 70_000,
}


@pytest.mark.parametrize("names", ["joliet_path", "rr_path"])
def test_every_file_is_there_under_its_name_in_joliet_and_rock_ridge(names: str) -> None:
    image = pycdlib.PyCdlib()
    image.open_fp(io.BytesIO(iso(FILES)))
    try:
        for name, content in FILES.items():
            out = io.BytesIO()
            image.get_file_from_iso_fp(out, **{names: f"/{name}"})
            assert out.getvalue() == content
        assert image.pvd.volume_identifier.decode("ascii").strip() == LABEL
    finally:
        image.close()


def test_it_is_whole_sectors_and_small() -> None:
    made = iso(FILES)
    assert len(made) % 2048 == 0
    assert len(made) < 1024 * 1024
