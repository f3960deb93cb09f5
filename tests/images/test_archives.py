"""OVA: the one disk that its description names, and nothing else that is in it."""

from __future__ import annotations

import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from core.units import GIB, MIB
from images import archives
from tests.transfers import files
from tests.transfers.files import Quiet
from transfers import formats, tools
from transfers.formats import ImageRefused

if TYPE_CHECKING:
    from pathlib import Path

MOST = 1 * GIB


def look(path: Path) -> formats.Found:
    return formats.look(path, most_bytes=MOST)


def test_the_disk_of_an_ova_is_taken_out(tmp_path: Path) -> None:
    path = files.ova(tmp_path / "a.ova")
    assert look(path).format == formats.ARCHIVE
    archives.extract_disk(Quiet(), path, tmp_path / "disk")
    assert look(tmp_path / "disk").format == "vmdk"
    assert tools.examine(tmp_path / "disk", look(tmp_path / "disk"), most_bytes=MOST) == 4 * MIB


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


OVF = files.OVF
HOSTILE = {
    "climbs": {"ovf": OVF.format(href="../../etc/passwd", more="", disks=""), "members": {"../../etc/passwd": b"x"}},
    "absolute": {"ovf": OVF.format(href="/etc/passwd", more="", disks=""), "members": {"/etc/passwd": b"x"}},
    "symbolic link": {"members": {}, "more": [link("a.vmdk", "/etc/passwd")]},
    "hard link": {"members": {}, "more": [link("a.vmdk", "/etc/passwd", tarfile.LNKTYPE)]},
    "device": {"members": {}, "more": [link("a.vmdk", "", tarfile.CHRTYPE)]},
    "no disk": {"members": {}},
    "two disks": {
        "ovf": OVF.format(href="a.vmdk", more="", disks='<Disk ovf:fileRef="file2"/></DiskSection><References><File '
        'ovf:id="file2" ovf:href="b.vmdk"/></References><DiskSection>'),
        "members": {"a.vmdk": b"x"},
    },
    "packed disk": {"ovf": OVF.format(href="a.vmdk", more='ovf:compression="gzip"', disks=""), "members": {"a.vmdk": b"x"}},
    "entities": {
        "ovf": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>' + OVF.partition("?>")[2].format(href="&b;", more="", disks=""),
        "members": {"a.vmdk": b"x"},
    },
    "no XML": {"ovf": "disk: a.vmdk", "members": {"a.vmdk": b"x"}},
    "a file that is not named": {"ovf": OVF.format(href="b.vmdk", more="", disks=""), "members": {"a.vmdk": b"x"}},
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    path = files.ova(tmp_path / "a.ova", **HOSTILE[name])
    with pytest.raises(ImageRefused):
        archives.extract_disk(Quiet(), path, tmp_path / "disk")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.ova"]


def test_an_archive_that_is_cut_off_says_so(tmp_path: Path) -> None:
    path = files.ova(tmp_path / "a.ova", {"a.vmdk": bytes(100_000)})
    os.truncate(path, 50_000)
    with pytest.raises(ImageRefused, match="cut off"):
        archives.extract_disk(Quiet(), path, tmp_path / "disk")


def test_an_archive_of_many_files_is_none_of_ours(tmp_path: Path) -> None:
    path = files.ova(tmp_path / "a.ova", {f"{number}": b"" for number in range(100)})
    with pytest.raises(ImageRefused, match="more than 64"):
        archives.extract_disk(Quiet(), path, tmp_path / "disk")
