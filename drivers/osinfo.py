"""What guests of common operating systems need: memory, disk, processors, firmware, drivers, and who signs in to a cloud image.

The table is `osinfo.json`, made by `scripts/osinfo.py`. Its ids are libosinfo's (`http://debian.org/debian/13`), which other tools
write into and read from a guest's definition as well.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

GIB: Final = 1024**3
_TABLE: Final = Path(__file__).with_suffix(".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class OsDefaults:
    """What a guest of this system is given unless somebody says otherwise, and the least that it runs with.

    Attributes:
        id: libosinfo's; "" for a system that nobody knows.
        family: `linux bsd windows other`, the words that the advisor takes for a guest's system.
        virtio: Whether it has virtio drivers of its own: without, its disks and network cards are of older kinds.
        uefi, secure_boot, tpm: Whether it should have that, where the host can.
        user: Who signs in to its cloud images; "" where there are none.
    """

    id: str
    name: str
    family: str
    version: str
    memory_minimum_bytes: int
    memory_bytes: int
    disk_minimum_bytes: int
    disk_bytes: int
    vcpus: int
    virtio: bool
    uefi: bool
    secure_boot: bool
    tpm: bool
    user: str

    @property
    def disk_bus(self) -> str:
        """The bus that its disks go on; "" leaves it to the hypervisor's design."""
        return "" if self.virtio else "sata"

    @property
    def nic_model(self) -> str:
        """The model of its network cards; "" leaves it to the hypervisor's design."""
        return "" if self.virtio else "e1000e"


UNKNOWN: Final = OsDefaults(
    id="",
    name="Another system",
    family="other",
    version="",
    memory_minimum_bytes=GIB // 4,
    memory_bytes=2 * GIB,
    disk_minimum_bytes=GIB,
    disk_bytes=20 * GIB,
    vcpus=1,
    virtio=True,
    uefi=False,
    secure_boot=False,
    tpm=False,
    user="",
)


def defaults(os_id: str) -> OsDefaults:
    """What a guest of this system needs; `UNKNOWN` for an id that is not in the table."""
    return known().get(os_id, UNKNOWN)


@functools.cache
def known() -> Mapping[str, OsDefaults]:
    """All systems of the table by their id, in the order in which one chooses: families together, the newest first."""
    return {row["id"]: OsDefaults(**{name: value for name, value in row.items() if name != "files"}) for row in _rows()}


def guess(filename: str) -> str:
    """The id of the system that an image's file name (or the last part of its URL or path) tells of, "" where it tells none."""
    name = filename.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
    return next((os_id for os_id, pattern in _patterns() if pattern.match(name)), "")


@functools.cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((row["id"], re.compile("|".join(row["files"]))) for row in _rows())


@functools.cache
def _rows() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_TABLE.read_text())
    return found
