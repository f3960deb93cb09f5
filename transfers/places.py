"""Where files lie while they are on their way, and whether there is room for one more. Web and worker share these directories."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from django.conf import settings

from core.errors import VmmError
from core.units import MIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
RESERVE_BYTES: Final = 512 * MIB
"""Left free whatever is sent: the database may lie on the same disk."""


class StagingFull(VmmError):
    """This server has no room for the file."""

    code = "staging_full"
    status = 507
    expected = True


def uploads_dir() -> Path:
    """`VMM_DATA_DIR/uploads`, made where it is missing."""
    return _directory("uploads")


def staging_dir() -> Path:
    """`VMM_DATA_DIR/staging`: what workers fetch, unpack and convert."""
    return _directory("staging")


def downloads_dir() -> Path:
    """`VMM_DATA_DIR/downloads`: what workers read out of volumes for somebody who waits for it."""
    return _directory("downloads")


def _directory(name: str) -> Path:
    path = Path(settings.DATA_DIR) / name
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def room_kept() -> Iterator[None]:
    """What writes on our disk inside: a full one is StagingFull."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StagingFull("The disk of this server is full. Make room in VMM_DATA_DIR, and try again.") from None


def free_bytes(directory: Path) -> int:
    """What may still be written there: free for this account, less the reserve. May be negative."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize - RESERVE_BYTES


def require_room(directory: Path, size_bytes: int, *, promised_bytes: int = 0) -> None:
    """Raises StagingFull unless `size_bytes` fit beside what is promised to others already."""
    free = max(0, free_bytes(directory) - promised_bytes)
    if size_bytes > free:
        raise StagingFull(
            f"This needs {format_bytes(size_bytes)}, and this server has {format_bytes(free)} left for files on their way. "
            "Wait until others are done, or make room in VMM_DATA_DIR.",
            needed_bytes=size_bytes,
            free_bytes=free,
        )
