"""What is over and need not be kept: sessions that ran out, tokens that expired long ago, old failed sign-ins."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from axes.models import AccessAttempt
from django.contrib.sessions.models import Session

from accounts import services

if TYPE_CHECKING:
    from django.db.models import QuerySet

BATCH = 500
_ATTEMPTS_KEPT = dt.timedelta(days=1)


def trim(now: dt.datetime) -> int:
    """Remove a batch of each; returns how many rows went."""
    gone = _remove(Session.objects.filter(expire_date__lt=now))
    gone += _remove(AccessAttempt.objects.filter(attempt_time__lt=now - _ATTEMPTS_KEPT))
    return gone + services.tokens_trim(now, limit=BATCH)


def _remove(rows: QuerySet[Session] | QuerySet[AccessAttempt]) -> int:
    ids = list(rows.order_by().values_list("pk", flat=True)[:BATCH])
    return rows.filter(pk__in=ids).delete()[0]
