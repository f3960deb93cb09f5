"""States and types of storage: the contract's words and what people read."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class PoolState(models.TextChoices):
    """How a pool stands (values: `drivers.types.StorageState`)."""

    RUNNING = "running", _("Running")
    INACTIVE = "inactive", _("Stopped")
    BUILDING = "building", _("Being built")
    DEGRADED = "degraded", _("Degraded")
    INACCESSIBLE = "inaccessible", _("Out of reach")
