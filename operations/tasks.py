"""The Celery tasks of this room: each takes at most one id, and the row says the rest."""

from __future__ import annotations

import uuid

from celery import shared_task

from core.threads import database_released
from operations import engine
from operations.reconcile import reconcile


@shared_task(name="operations.run")
def run_operation(operation_id: str) -> None:
    """Carry out one operation, if it is its turn."""
    engine.execute(uuid.UUID(operation_id))


@shared_task(name="operations.reconcile")
def reconcile_operations() -> None:
    """Mend what a dead process or a lost message left behind."""
    with database_released():
        reconcile()
