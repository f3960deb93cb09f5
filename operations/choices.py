"""States of operations: the contract's words and what people read."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class State(models.TextChoices):
    """Where an operation stands."""

    QUEUED = "queued", _("Waiting")
    RUNNING = "running", _("Running")
    SUCCEEDED = "succeeded", _("Done")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Cancelled")


ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)
OPEN = (State.QUEUED, State.RUNNING)
