"""What nobody came back for: expired uploads, and files that no row and no operation knows any more."""

from __future__ import annotations

import logging
import shutil
import uuid
from typing import TYPE_CHECKING

from django.db.models import Q

from operations.choices import OPEN
from operations.models import Operation
from transfers import downloads, services
from transfers.models import Upload
from transfers.places import staging_dir, uploads_dir

if TYPE_CHECKING:
    import datetime as dt

log = logging.getLogger(__name__)

ORPHANED_SECONDS = 3600.0
"""A file is made before its row is committed, and deleted after it."""


def trim(now: dt.datetime) -> int:
    """Delete what has expired and no operation needs; how many went."""
    gone = 0
    for upload in Upload.objects.filter(expires_at__lt=now):
        if services.held_by(upload) is None:
            services.discard(upload)
            gone += 1
    return gone + _sweep(now) + _clear_workplaces(now) + downloads.trim(now)


def _clear_workplaces(now: dt.datetime) -> int:
    """Directories of operations that have ended, or are not known any more."""
    gone = 0
    for path in staging_dir().iterdir():
        if now.timestamp() - path.stat().st_mtime < ORPHANED_SECONDS:
            continue
        try:
            operation = uuid.UUID(path.name)
        except ValueError:
            continue  # none of ours
        alive = Q(state__in=OPEN) | Q(holds_lock=True)
        if not Operation.objects.filter(alive, pk=operation).exists():
            shutil.rmtree(path, ignore_errors=True)
            gone += 1
    return gone


def _sweep(now: dt.datetime) -> int:
    """Files without rows."""
    old = [path for path in uploads_dir().iterdir() if now.timestamp() - path.stat().st_mtime > ORPHANED_SECONDS]
    known = set(Upload.objects.values_list("pk", flat=True))
    gone = 0
    for path in old:
        try:
            orphan = uuid.UUID(path.name) not in known
        except ValueError:
            continue  # none of ours
        if orphan:
            path.unlink(missing_ok=True)
            gone += 1
    if gone:
        log.info("removed files of uploads that are no more", extra={"count": gone})
    return gone
