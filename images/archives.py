"""OVA: a tar with a description (OVF) and the disk that it names. Only that disk is taken out, under a name of ours.

Nothing is unpacked by tar's own hand: a member is found by its plain name and its bytes are copied, so that links, devices,
paths that climb and sparse maps mean nothing here.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from xml.parsers import expat

from core.units import MIB
from operations.actions import Cancelled
from transfers.formats import ImageRefused
from transfers.places import require_room, room_kept

if TYPE_CHECKING:
    from pathlib import Path

    from operations.actions import Context

MEMBERS_MAX: Final = 64
OVF_MAX: Final = 1 * MIB
PIECE: Final = 4 * MIB


def extract_disk(ctx: Context, archive: Path, target: Path) -> None:
    """Copy the one disk of an OVA to `target`.

    Raises:
        ImageRefused: It has no description, none or several disks, or is cut off. StagingFull, Cancelled.
    """
    try:
        # "r:": packed archives are refused, not opened.
        with tarfile.open(archive, "r:") as tar:
            members = _members(tar)
            disk = members.get(_disk_name(tar, members))
            if disk is None:
                raise ImageRefused("Its description names a disk that is not in it.")
            require_room(target.parent, disk.size)
            _copy(ctx, tar, disk, target)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ImageRefused(f"The archive is damaged or cut off: {error}.") from None


def _members(tar: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    """Its plain files by name. OVF allows nothing else; other members are not looked at."""
    found: dict[str, tarfile.TarInfo] = {}
    for count, member in enumerate(tar):
        if count >= MEMBERS_MAX:
            raise ImageRefused(f"The archive has more than {MEMBERS_MAX} files; an OVA has a few.")
        if not member.isreg() or member.issparse() or "/" in member.name or member.name in found:
            continue
        found[member.name] = member
    return found


def _disk_name(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> str:
    descriptions = [member for name, member in members.items() if name.lower().endswith(".ovf")]
    if len(descriptions) != 1:
        raise ImageRefused("It is an archive, and no OVA: that has one description, a file that ends in .ovf.")
    if descriptions[0].size > OVF_MAX:
        raise ImageRefused("Its description is too long.")
    file = tar.extractfile(descriptions[0])
    described = read_ovf(file.read(OVF_MAX) if file is not None else b"")
    if len(described) != 1:
        raise ImageRefused(
            f"It has {len(described)} disks, and an image is one. Take the disks out, and send them one by one."
        )
    return described[0]


def _copy(ctx: Context, tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise ImageRefused("Its disk is no file.")
    done = 0
    with room_kept(), target.open("wb") as file:
        while piece := source.read(PIECE):
            file.write(piece)
            done += len(piece)
            ctx.progress(done / member.size, "Unpacking")
            if ctx.cancelled():
                raise Cancelled
    if done != member.size:
        raise ImageRefused("The archive is cut off: it ends within its disk. Send or fetch it again.")


# -- the description -------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class _Ovf:
    files: dict[str, str] = field(default_factory=dict)
    disks: list[str] = field(default_factory=list)
    refused: str = ""


def read_ovf(text: bytes) -> list[str]:
    """Names of the files that hold its disks. Raises ImageRefused.

    Read by expat alone: no document type, no entities, nothing is fetched. Namespaces are left aside: versions of OVF differ in them.
    """
    ovf = _Ovf()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = lambda name, attributes: _element(ovf, _local(name), attributes)

    def no_doctype(*_: object) -> None:
        ovf.refused = "Its description brings a document type of its own."
        raise ImageRefused(ovf.refused)

    parser.StartDoctypeDeclHandler = no_doctype
    try:
        parser.Parse(text, True)  # noqa: FBT003 - expat's signature
    except expat.ExpatError as error:
        raise ImageRefused(f"Its description is no XML: {expat.ErrorString(error.code)}.") from None
    if ovf.refused:
        raise ImageRefused(ovf.refused)
    unknown = [one for one in ovf.disks if one not in ovf.files]
    if unknown:
        raise ImageRefused("Its description names a disk without a file.")
    return [ovf.files[one] for one in dict.fromkeys(ovf.disks)]


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _element(ovf: _Ovf, name: str, attributes: dict[str, str]) -> None:
    values = {_local(key): value for key, value in attributes.items()}
    if name == "File" and "id" in values:
        if values.get("compression") not in (None, "", "identity") or values.get("chunkSize"):
            ovf.refused = "Its disk is packed or in pieces within the archive. Export it without compression."
        ovf.files[values["id"]] = values.get("href", "")
    elif name == "Disk" and "fileRef" in values:  # a disk without a file is an empty one, which the guest would get new
        ovf.disks.append(values["fileRef"])
