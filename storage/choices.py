"""States and types of storage: the contract's words and what people read."""

from __future__ import annotations

from typing import Final

from django.db import models
from django.utils.translation import gettext_lazy as _


class PoolState(models.TextChoices):
    """How a pool stands (values: `drivers.types.StorageState`)."""

    RUNNING = "running", _("Running")
    INACTIVE = "inactive", _("Stopped")
    BUILDING = "building", _("Being built")
    DEGRADED = "degraded", _("Degraded")
    INACCESSIBLE = "inaccessible", _("Out of reach")


RUNNING: Final = (PoolState.RUNNING, PoolState.DEGRADED)
"""What is in such a pool can be reached."""
HIGH_RATIO: Final = 0.8
FULL_RATIO: Final = 0.9
"""From here on a pool is nearly full, or as good as full: where its meter turns amber and red."""
