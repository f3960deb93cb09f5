"""Files that people send: good ones by qemu-img, and what an attacker would send, byte by byte."""

from __future__ import annotations

import io
import struct
import subprocess
import tarfile
from typing import TYPE_CHECKING

from core.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

SECTOR = 512
OVF = """<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References><File ovf:id="file1" ovf:href="{href}" {more}/></References>
  <DiskSection><Disk ovf:diskId="vmdisk1" ovf:capacity="4" ovf:fileRef="file1"/>{disks}</DiskSection>
</Envelope>"""


def qemu_img(*words: object) -> str:
    return subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True, text=True).stdout


def raw(path: Path, size: int = 4 * MIB, content: bytes = b"hello") -> Path:
    """A raw disk with a boot sector, and something at its first MiB."""
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(510)
        file.write(b"\x55\xaa")
        file.seek(MIB)
        file.write(content)
    return path


def disk(
    path: Path, format_: str = "qcow2", size: int = 4 * MIB, *, options: str = "", content: bytes = b"hello"
) -> Path:
    """The same disk in another format."""
    source = raw(path.with_suffix(".source"), size, content)
    more = ("-o", options) if options else ()
    qemu_img("convert", "-f", "raw", "-O", format_, *more, source, path)
    source.unlink()
    return path


def iso(path: Path, size: int = 2 * MIB) -> Path:
    """As much of an ISO 9660 as tells it from other files."""
    content = bytearray(size)
    content[0x8000:0x8006] = b"\x01CD001"
    content[510:512] = b"\x55\xaa"  # a hybrid one
    path.write_bytes(content)
    return path


def qcow2_header(
    *, size: int = 4 * MIB, version: int = 3, backing: bytes = b"", crypt: int = 0, features: int = 0
) -> bytes:
    """A header alone, then zeros: what a hostile sender writes by hand."""
    offset = 512 if backing else 0
    head = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", version, offset, len(backing), 16, size, crypt, 1, 196608, 65536, 1, 0, 0
    )
    head += struct.pack(">QQQII", features, 0, 0, 4, 104)
    return head.ljust(512, b"\0") + backing.ljust(4 * 65536, b"\0")


def vmdk(
    *, capacity: int = 8192, descriptor: str = "", extents: str = 'RW 8192 SPARSE "a.vmdk"', parent: str = "ffffffff"
) -> bytes:
    """A hosted sparse VMDK's header with an embedded descriptor."""
    text = (
        descriptor
        or f'# Disk DescriptorFile\nversion=1\nparentCID={parent}\ncreateType="monolithicSparse"\n{extents}\n'
    )
    head = struct.pack("<4sIIQQQQIQQQ", b"KDMV", 1, 3, capacity, 128, 1, 20, 512, 21, 26, 128)
    return head.ljust(SECTOR, b"\0") + text.encode().ljust(20 * SECTOR, b"\0") + bytes(128 * SECTOR)


def ova(
    path: Path, members: dict[str, bytes] | None = None, *, ovf: str = "", more: list[tarfile.TarInfo] | None = None
) -> Path:
    """An archive; without `members` a good one with a VMDK of a small disk."""
    if members is None:
        whole = disk(path.with_suffix(".vmdk"), "vmdk", options="subformat=streamOptimized")
        members = {"a.vmdk": whole.read_bytes()}
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        text = (ovf or OVF.format(href="a.vmdk", more="", disks="")).encode()
        for name, content in {"a.ovf": text, **members}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in more or ():
            tar.addfile(info)
    return path


class Quiet:
    """A context that nobody cancels, or somebody did."""

    def __init__(self, *, cancelled: bool = False) -> None:
        self.said: list[float | None] = []
        self._cancelled = cancelled

    def progress(self, value: float | None, message: str = "") -> None:
        self.said.append(value)

    def log(self, text: str) -> None:
        pass

    def cancelled(self) -> bool:
        return self._cancelled
