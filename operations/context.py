"""What a running action holds in its hand: sessions, log, progress, cancel, checkpoints."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from drivers.answers import Checked
from drivers.pool import the_pool
from events import log as event_log
from operations.models import Operation, OperationLog
from operations.rows import ring_slots

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator

    from drivers.base import Session
    from drivers.links import Channel
    from drivers.types import Endpoint

PROGRESS_SECONDS = 0.5


class RunContext:
    """The engine's `Context` for one attempt. Writes only while this attempt still owns the row."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._told_at = 0.0

    @property
    def operation_id(self) -> uuid.UUID:
        """The operation being carried out."""
        return self._operation.pk

    @contextmanager
    def session(self, endpoint: Endpoint, *, channel: Channel = "control") -> Iterator[Session]:
        """From the process's pool; an answer that makes no sense ends the action as the hypervisor's fault."""
        with the_pool().session(endpoint, channel=channel) as session:
            yield cast("Session", Checked(session))

    def log(self, text: str) -> None:
        """Add a line to the log."""
        OperationLog.objects.create(operation_id=self._operation.pk, text=text[:2000])

    def progress(self, value: float | None, message: str = "") -> None:
        """Write and announce how far it is, at most twice a second."""
        now = time.monotonic()
        if now - self._told_at < PROGRESS_SECONDS:
            return
        self._told_at = now
        operation = self._operation
        with transaction.atomic():
            mine = Operation.objects.filter(
                pk=operation.pk, state="running", worker=operation.worker, attempts=operation.attempts
            )
            if mine.update(progress=value, message=message[:500], version=F("version") + 1, updated_at=timezone.now()):
                event_log.append(
                    [
                        event_log.NewEvent(
                            type="operation.changed",
                            object=operation.ref,
                            object_name=operation.target_name,
                            actor=operation.requested_by,
                            operation=operation.pk,
                            data={
                                "state": "running",
                                "progress": value,
                                "message": message,
                                "kind": operation.kind,
                                "target": operation.target,
                            },
                        )
                    ]
                )

    def free_slot(self) -> None:
        """Give it up, for good, and ring for who waits for it."""
        operation = self._operation
        mine = Operation.objects.filter(
            pk=operation.pk, state="running", worker=operation.worker, attempts=operation.attempts
        )
        if operation.slot_key and mine.update(slot_key="", slots=0):
            ring_slots({operation.slot_key})

    def cancelled(self) -> bool:
        """One indexed read."""
        return Operation.objects.filter(pk=self._operation.pk, cancel_requested=True).exists()

    def done(self, step: str) -> bool:
        """From the row as claimed."""
        return step in self._operation.checkpoints

    def noted(self, beginning: str) -> str:
        """What comes after `beginning` in the step that was recorded with it; "" where there is none. From the row as claimed."""
        steps = self._operation.checkpoints
        return next((step.removeprefix(beginning) for step in steps if step.startswith(beginning)), "")

    def checkpoint(self, step: str) -> None:
        """Durable when it returns."""
        if step not in self._operation.checkpoints:
            self._operation.checkpoints = [*self._operation.checkpoints, step]
            Operation.objects.filter(pk=self._operation.pk).update(checkpoints=self._operation.checkpoints)
