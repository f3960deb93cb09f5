"""Facts in: the only writer of what an image is and how it stands. Each change is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from events import log as event_log
from images.choices import ImageState
from images.models import Image
from operations.choices import State

if TYPE_CHECKING:
    import datetime as dt


def image_added(image: Image, *, actor: str) -> None:
    """A new row, in the caller's transaction."""
    _tell(image, "image.added", {"version": image.version, "state": image.state}, actor=actor)


def image_settle(image: Image, *, actor: str = "", **facts: Any) -> None:
    """Write facts, and tell of them. Without any: its copies changed. Nothing happens to one that is gone."""
    with transaction.atomic():
        values = {**facts, "version": F("version") + 1, "updated_at": timezone.now()}
        if Image.objects.filter(pk=image.pk).update(**values) != 1:
            return
        image.refresh_from_db(fields=["version", "updated_at", *facts])
        _tell(image, "image.changed", {"version": image.version, "state": image.state}, actor=actor)


def image_removed(image: Image) -> None:
    """It is gone, with the rows of its copies. Twice is no harm."""
    with transaction.atomic():
        if Image.objects.filter(pk=image.pk).delete()[0]:
            _tell(image, "image.removed", {})


def images_lost(now: dt.datetime) -> int:
    """Write down of images whose import ended without a word (a queue's deadline, a hung host) that they failed; how many."""
    del now
    lost = [one for one in Image.objects.filter(state=ImageState.IMPORTING).select_related("operation") if one.lost]
    for image in lost:
        if image.operation is not None and image.operation.state == State.CANCELLED:
            image_removed(image)
            continue
        image_settle(image, state=ImageState.FAILED, error=image.operation.error if image.operation else None)
    return len(lost)


def _tell(image: Image, type_: str, data: dict[str, Any], *, actor: str = "") -> None:
    event_log.append([event_log.NewEvent(type=type_, object=image.ref, object_name=image.name, actor=actor, data=data)])
