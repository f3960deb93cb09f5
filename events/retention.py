"""What is too old leaves the log, in small transactions so that nobody who appends waits for it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from events import log
from events.models import Event, Trimmed

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH = 1000


def trim(now: dt.datetime) -> int:
    """Delete events older than VMM_EVENTS_KEEP_DAYS and audit events older than VMM_AUDIT_KEEP_DAYS; how many went.

    The newest event stays however old it is: `log.last_seq` must never fall, or readers that are up to date would be told
    that they have seen what does not exist.
    """
    audit = Q(type__startswith="audit.")
    old_events = ~audit & Q(at__lt=now - dt.timedelta(days=settings.ENV.events_keep_days))
    old_audit = audit & Q(at__lt=now - dt.timedelta(days=settings.ENV.audit_keep_days))
    newest = log.last_seq()
    return sum(len(batch) for old in (old_events, old_audit) for batch in _delete(old & Q(seq__lt=newest)))


def _delete(old: Q) -> Iterator[list[int]]:
    while batch := list(Event.objects.filter(old).order_by("seq").values_list("seq", flat=True)[:BATCH]):
        with transaction.atomic():
            if not Trimmed.objects.filter(seq__gte=batch[-1]).exists():
                Trimmed.objects.update_or_create(pk=1, defaults={"seq": batch[-1]})
            Event.objects.filter(seq__in=batch).delete()
        yield batch
