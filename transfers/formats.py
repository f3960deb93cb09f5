"""What a file is, by its content. Nothing that its name or its sender says counts, and nothing of it is believed but what is read here.

Own eyes first: an image is refused here before any tool opens it when it names other files (a backing file, an external data
file, extents elsewhere): a tool of the host would open those with the host's rights, and their content would be in somebody's
guest. `transfers.tools.examine` looks a second time, with qemu-img, at what passes.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from core.errors import VmmError
from core.units import KIB, MIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECTOR: Final = 512
ARCHIVE: Final = "ova"
"""The format of a file that holds the image, and is none itself."""
_HEAD_BYTES: Final = 68 * KIB
_DESCRIPTOR_MAX: Final = 1 * MIB
_QCOW2_KNOWN: Final = 0b11011  # dirty, corrupt, compression type, extended L2: all but the external data file
_QCOW2_CORRUPT, _QCOW2_DATA_FILE = 0b10, 0b100


class ImageRefused(VmmError):
    """This file is not taken as an image."""

    code = "image_refused"
    status = 422
    expected = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a file is.

    Attributes:
        format: qemu-img's word, or `ova`.
        kind: `disk` or `iso`.
        virtual_bytes: How large its disk is; 0 where only qemu-img can tell.
    """

    format: str
    kind: str = "disk"
    virtual_bytes: int = 0


def look(path: Path, *, most_bytes: int) -> Found:
    """Tell what it is.

    Args:
        path: A plain file of ours.
        most_bytes: How large a disk may claim to be.

    Raises:
        ImageRefused: It is nothing that we know, names other files, is encrypted, cut off, or claims to be larger than it may.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        for magic, offset, reader in _READERS:
            if head[offset : offset + len(magic)] == magic:
                found = reader(_Source(file, head, size))
                break
        else:
            raise ImageRefused(
                "This is no disk image and no installation medium that we know: neither qcow2, VMDK, VDI, VHDX, OVA nor ISO, "
                "and as a raw disk it has no partition table and no file system."
            )
    check_size(found.virtual_bytes, most_bytes)
    return found


def refuse_leading(path: Path) -> None:
    """Refuse content that leads elsewhere, for what may else be anything: a volume that is written over.

    A host looks at what lies in its pools, and believes it: a volume that says that its backing file is /etc/shadow shows that to
    the guest that gets it. Raises ImageRefused.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        for magic, offset, reader in _LEADING:
            if head[offset : offset + len(magic)] == magic:
                reader(_Source(file, head, size))


def check_size(virtual_bytes: int, most_bytes: int) -> None:
    """Raises ImageRefused for a disk larger than VMM_IMAGE_MAX_VIRTUAL_BYTES."""
    if virtual_bytes > most_bytes:
        raise ImageRefused(
            f"Its disk claims to be {format_bytes(virtual_bytes)} large, and {format_bytes(most_bytes)} is the most here. "
            "The administrator can raise VMM_IMAGE_MAX_VIRTUAL_BYTES."
        )


@dataclass(frozen=True, slots=True)
class _Source:
    file: BinaryIO
    head: bytes
    size: int

    def at(self, offset: int, form: str) -> int:
        """One number. Raises ImageRefused where the file is too short for it."""
        length = struct.calcsize(form)
        if offset + length > len(self.head):
            raise _cut_off()
        value: int = struct.unpack_from(form, self.head, offset)[0]
        return value


def _cut_off() -> ImageRefused:
    return ImageRefused("The file is cut off: it ends before what its header tells of. Send or fetch it again.")


_ENCRYPTED: Final = "It is encrypted: nobody here could read it. Decrypt it first."


# -- formats ---------------------------------------------------------------------------------------------------------------
def _qcow2(source: _Source) -> Found:
    version = source.at(4, ">I")
    if version not in (2, 3):
        raise ImageRefused(f"It is a qcow of version {version}; only 2 and 3 are taken. Convert it with qemu-img.")
    if source.at(8, ">Q"):
        raise ImageRefused(
            "It is an overlay: its content lies in a backing file. Flatten it first: qemu-img convert -O qcow2 OVERLAY WHOLE."
        )
    if source.at(32, ">I"):
        raise ImageRefused(_ENCRYPTED)
    features = source.at(72, ">Q") if version == 3 else 0
    if features & _QCOW2_DATA_FILE:
        raise ImageRefused("Its content lies in an external data file. Make it one file first: qemu-img convert.")
    if features & _QCOW2_CORRUPT:
        raise ImageRefused("It is marked as damaged. Mend it first: qemu-img check -r all.")
    if features & ~_QCOW2_KNOWN:
        raise ImageRefused("It uses features of qcow2 that are not known here. Convert it with qemu-img.")
    return Found(format="qcow2", virtual_bytes=_some(source.at(24, ">Q")))


_EXTENT = re.compile(rb"^\s*(?:RW|RDONLY|NOACCESS)\s+\d+\s+(\w+)", re.MULTILINE)
_PARENT = re.compile(rb"^\s*parentFileNameHint\s*=", re.MULTILINE | re.IGNORECASE)
_PARENT_ID = re.compile(rb"^\s*parentCID\s*=\s*([0-9a-f]+)", re.MULTILINE | re.IGNORECASE)


def _vmdk(source: _Source) -> Found:
    capacity, offset, length = source.at(12, "<Q"), source.at(28, "<Q") * SECTOR, source.at(36, "<Q") * SECTOR
    if not capacity:
        raise ImageRefused(_NAMES_OTHERS)
    if length:
        if length > _DESCRIPTOR_MAX or offset + length > source.size:
            raise _cut_off()
        source.file.seek(offset)
        descriptor = source.file.read(length)
        extents = _EXTENT.findall(descriptor)
        if len(extents) > 1 or any(kind != b"SPARSE" for kind in extents):
            raise ImageRefused("It is a VMDK in several files. Export the guest as OVA instead.")
        parent = _PARENT_ID.search(descriptor)
        if _PARENT.search(descriptor) or (parent and int(parent[1], 16) != 0xFFFFFFFF):
            raise ImageRefused("It is the VMDK of a snapshot: its content lies in another file. Consolidate it first.")
    return Found(format="vmdk", virtual_bytes=_some(capacity * SECTOR))


def _vdi(source: _Source) -> Found:
    if source.at(76, "<I") not in (1, 2):
        raise ImageRefused(
            "It is the VDI of a snapshot: its content lies in another file. Clone it in VirtualBox first."
        )
    begin, block, blocks = source.at(344, "<I"), source.at(376, "<I"), source.at(388, "<I")
    if begin + block * blocks > source.size:  # qemu-img does not look
        raise _cut_off()
    return Found(format="vdi", virtual_bytes=_some(source.at(368, "<Q")))


def _vhdx(_source: _Source) -> Found:
    return Found(
        format="vhdx"
    )  # how large it is stands behind two tables: qemu-img reads them, and refuses one with a parent


def _iso(source: _Source) -> Found:
    return Found(format="raw", kind="iso", virtual_bytes=_some(source.size))


def _raw(source: _Source) -> Found:
    return Found(format="raw", virtual_bytes=_some(source.size))


def _tar(_source: _Source) -> Found:
    return Found(format=ARCHIVE)


def _some(size: int) -> int:
    if not size:
        raise ImageRefused("It is empty.")
    return size


def _refuse(sentence: str) -> Callable[[_Source], Found]:
    def reader(_source: _Source) -> Found:
        raise ImageRefused(sentence)

    return reader


_PACKED: Final = "It is packed (%s). Unpack it, and send or fetch what is in it."
_OTHER: Final = "It is a disk of %s, which is not taken. Convert it first: qemu-img convert -O qcow2."

_NAMES_OTHERS: Final = "It is a VMDK that only names other files. Export the guest as OVA instead."
_Mark = tuple[bytes, int, "Callable[[_Source], Found]"]

_LEADING: Final[tuple[_Mark, ...]] = (
    (b"QFI\xfb", 0, _qcow2),
    (b"KDMV", 0, _vmdk),
    (b"\x7f\x10\xda\xbe", 64, _vdi),
    (b"# Disk DescriptorFile", 0, _refuse(_NAMES_OTHERS)),
    (b"COWD", 0, _refuse(_OTHER % "an old ESX")),
    (b"OOOM", 0, _refuse(_OTHER % "User Mode Linux")),
    (b"QED\0", 0, _refuse(_OTHER % "QED")),
)
"""Formats that can name other files."""
_READERS: Final[tuple[_Mark, ...]] = (
    *_LEADING,
    (b"vhdxfile", 0, _vhdx),
    (b"conectix", 0, _refuse(_OTHER % "Virtual PC (VHD)")),
    (b"WithoutFreeSpace", 0, _refuse(_OTHER % "Parallels")),
    (b"WithouFreSpacExt", 0, _refuse(_OTHER % "Parallels")),
    (b"Bochs Virtual HD Image", 0, _refuse(_OTHER % "Bochs")),
    (b"LUKS\xba\xbe", 0, _refuse(_ENCRYPTED)),
    (b"\x1f\x8b", 0, _refuse(_PACKED % "gzip")),
    (b"\xfd7zXZ\0", 0, _refuse(_PACKED % "xz")),
    (b"(\xb5/\xfd", 0, _refuse(_PACKED % "zstd")),
    (b"BZh", 0, _refuse(_PACKED % "bzip2")),
    (b"PK\x03\x04", 0, _refuse(_PACKED % "zip")),
    (b"7z\xbc\xaf\x27\x1c", 0, _refuse(_PACKED % "7z")),
    (b"ustar", 257, _tar),
    (b"CD001", 0x8001, _iso),
    # A raw disk has no mark of its own: it is known by what is on it.
    (b"\x55\xaa", 510, _raw),  # a partition table, or a boot sector
    (b"EFI PART", 512, _raw),
    (b"EFI PART", 4096, _raw),
    (b"LABELONE", 512, _raw),  # LVM
    (b"\x53\xef", 0x438, _raw),  # ext2, ext3, ext4
    (b"XFSB", 0, _raw),
    (b"hsqs", 0, _raw),  # squashfs
    (b"_BHRfS_M", 0x10040, _raw),  # btrfs
)
"""Mark, where it stands, what reads on. The first that fits counts: an ISO may carry a partition table, never the other way round."""
