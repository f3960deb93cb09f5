"""Rings at a worker: sends one operation id through the broker. Losing the message loses no work, the reconciler rings again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from celery import current_app
from kombu.exceptions import OperationalError

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable

log = logging.getLogger(__name__)

TASK = "operations.run"


def ring(operation_ids: Iterable[uuid.UUID], *, delay_seconds: float = 0.0) -> None:
    """Tell some worker that these may be claimed. Never raises: the rows are the truth."""
    for operation_id in operation_ids:
        try:
            current_app.send_task(TASK, [str(operation_id)], countdown=delay_seconds or None)
        except (OperationalError, OSError) as error:
            log.warning(
                "broker out of reach, the reconciler will ring",
                extra={"operation": str(operation_id), "error": str(error)},
            )
            return
