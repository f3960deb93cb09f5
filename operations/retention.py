"""How long ended operations are kept: `VMM_OPERATIONS_KEEP_DAYS`, parents with their children; idempotency keys a day."""

from __future__ import annotations

import datetime as dt

from django.conf import settings

from operations import actions
from operations.choices import ENDED
from operations.models import IdempotencyKey, Operation

BATCH = 500
IDEMPOTENCY_KEPT = dt.timedelta(hours=24)
READINGS_KEPT = dt.timedelta(minutes=10)


def trim(now: dt.datetime) -> int:
    """Delete what is too old, in batches that hold no lock for long; how many operations went."""
    limit = now - dt.timedelta(days=settings.ENV.operations_keep_days)
    gone = 0
    while True:
        old = Operation.objects.filter(finished_at__lt=limit, state__in=ENDED, holds_lock=False, parent=None)
        ids = list(old.values_list("pk", flat=True)[:BATCH])
        if not ids:
            break
        gone += Operation.objects.filter(pk__in=ids).delete()[0]
    readings = Operation.objects.filter(target__startswith=actions.READING, finished_at__lt=now - READINGS_KEPT)
    gone += readings.filter(holds_lock=False).delete()[0]
    IdempotencyKey.objects.filter(created_at__lt=now - IDEMPOTENCY_KEPT).delete()
    return gone
