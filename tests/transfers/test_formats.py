"""What a file is, is seen from its content; what would lead elsewhere, lie about its size or be cut off is refused with the reason."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.units import GIB, MIB
from operations.actions import Cancelled
from tests.transfers import files
from tests.transfers.files import Quiet
from transfers import formats, tools
from transfers.formats import ImageRefused
from transfers.places import StagingFull

MOST = 1 * GIB


def look(path: Path, most: int = MOST) -> formats.Found:
    return formats.look(path, most_bytes=most)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("format_", "options"),
    [
        ("qcow2", ""),
        ("qcow2", "compat=0.10"),
        ("qcow2", "compression_type=zstd"),
        ("vmdk", ""),
        ("vmdk", "subformat=streamOptimized"),
        ("vdi", ""),
        ("vhdx", ""),
        ("raw", ""),
    ],
)
def test_a_disk_is_known_whatever_it_is_called(tmp_path: Path, format_: str, options: str) -> None:
    path = files.disk(tmp_path / "holiday.jpg", format_, options=options)
    found = look(path)
    assert (found.format, found.kind) == (format_, "disk")
    assert tools.examine(path, found, most_bytes=MOST) == 4 * MIB


def test_an_iso_is_known_also_with_a_partition_table(tmp_path: Path) -> None:
    found = look(files.iso(tmp_path / "a.qcow2"))
    assert (found.format, found.kind, found.virtual_bytes) == ("raw", "iso", 2 * MIB)


def test_a_qcow2_with_snapshots_is_fine(tmp_path: Path) -> None:
    path = files.disk(tmp_path / "a")
    files.qemu_img("snapshot", "-c", "before", path)
    assert tools.examine(path, look(path), most_bytes=MOST) == 4 * MIB


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (files.qcow2_header(backing=b"/etc/passwd"), "backing file"),
        (files.qcow2_header(features=0b100), "external data file"),
        (files.qcow2_header(features=0b10), "damaged"),
        (files.qcow2_header(features=1 << 40), "not known here"),
        (files.qcow2_header(crypt=1), "encrypted"),
        (files.qcow2_header(crypt=2), "encrypted"),
        (files.qcow2_header(size=100 * 2**40), "VMM_IMAGE_MAX_VIRTUAL_BYTES"),
        (files.qcow2_header(size=0), "empty"),
        (files.qcow2_header(version=1), "version 1"),
        (files.qcow2_header()[:60], "cut off"),
        (files.vmdk(capacity=0), "only names other files"),
        (files.vmdk(extents='RW 1 SPARSE "a"\nRW 1 SPARSE "/etc/shadow"'), "several files"),
        (files.vmdk(extents='RW 8192 FLAT "/dev/sda" 0'), "several files"),
        (files.vmdk(parent="12345678"), "snapshot"),
        (files.vmdk(extents='RW 8192 SPARSE "a"\nparentFileNameHint="/etc/passwd"'), "snapshot"),
        (files.vmdk()[:600], "cut off"),
        (b'# Disk DescriptorFile\nRW 1 FLAT "/etc/passwd" 0\n', "only names other files"),
        (b"LUKS\xba\xbe" + bytes(1000), "encrypted"),
        (b"\x1f\x8b" + bytes(1000), "gzip"),
        (b"\xfd7zXZ\0" + bytes(1000), "xz"),
        (b"PK\x03\x04" + bytes(1000), "zip"),
        (b"conectix" + bytes(1000), "Virtual PC"),
        (b"#!/bin/sh\nrm -rf /\n", "no disk image"),
        (b"", "no disk image"),
        (bytes(100_000), "no disk image"),
    ],
)
def test_what_would_lead_elsewhere_or_lies_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(ImageRefused, match=why):
        look(written(tmp_path / "a.qcow2", content))


def test_a_sparse_giant_is_refused_by_its_length(tmp_path: Path) -> None:
    path = files.raw(tmp_path / "a", size=2 * GIB)
    assert path.stat().st_blocks * 512 < MIB
    with pytest.raises(ImageRefused, match="2 GiB large, and 1 GiB is the most"):
        look(path)


@pytest.mark.parametrize("format_", ["qcow2", "vdi"])
def test_one_that_was_cut_off_in_its_middle_is_refused(tmp_path: Path, format_: str) -> None:
    path = files.disk(tmp_path / "a", format_, content=os.urandom(2 * MIB))
    os.truncate(path, path.stat().st_size - MIB)
    with pytest.raises(ImageRefused, match=r"cut off|damaged"):
        tools.examine(path, look(path), most_bytes=MOST)


def test_the_second_look_finds_what_the_first_did_not_read(tmp_path: Path) -> None:
    """A VHDX says in its middle how large it is; and a header may be good while nothing behind it is."""
    with pytest.raises(ImageRefused, match="VMM_IMAGE_MAX_VIRTUAL_BYTES"):
        tools.examine(path := files.disk(tmp_path / "a", "vhdx"), look(path), most_bytes=MIB)
    hollow = written(tmp_path / "b", files.qcow2_header())
    with pytest.raises(ImageRefused):
        tools.examine(hollow, look(hollow), most_bytes=MOST)


@given(st.binary(max_size=3000), st.sampled_from(formats._READERS))
def test_no_bytes_make_it_stumble(noise: bytes, mark: tuple[bytes, int, Any]) -> None:
    magic, offset, _ = mark
    content = bytearray(noise.ljust(offset + len(magic), b"\xff"))
    content[offset : offset + len(magic)] = magic
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        with contextlib.suppress(ImageRefused):
            assert look(Path(file.name)).virtual_bytes <= MOST


# -- conversion --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("format_", ["vmdk", "vdi", "vhdx", "raw"])
def test_a_converted_disk_is_the_same_disk(tmp_path: Path, format_: str) -> None:
    source, target = files.disk(tmp_path / "a", format_), tmp_path / "b"
    ctx = Quiet()
    tools.convert(ctx, source, target, source_format=format_, target_format="qcow2")
    assert "identical" in files.qemu_img("compare", "-f", format_, "-F", "qcow2", source, target)
    assert ctx.said[-1] == 1.0


def test_a_conversion_can_be_cancelled(tmp_path: Path) -> None:
    source = files.raw(tmp_path / "a")
    with pytest.raises(Cancelled):
        tools.convert(Quiet(cancelled=True), source, tmp_path / "b", source_format="raw", target_format="qcow2")


def test_a_conversion_needs_room_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transfers.places.free_bytes", lambda _directory: 1000)
    with pytest.raises(StagingFull):
        tools.convert(Quiet(), files.raw(tmp_path / "a"), tmp_path / "b", source_format="raw", target_format="qcow2")
    assert not (tmp_path / "b").exists()


def test_a_tool_may_write_nothing_while_it_looks(tmp_path: Path) -> None:
    path = files.disk(tmp_path / "a")
    before = path.read_bytes()
    tools.examine(path, look(path), most_bytes=MOST)
    assert path.read_bytes() == before
