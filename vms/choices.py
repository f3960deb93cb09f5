"""States and kinds of guests: the contract's words and what people read."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class State(models.TextChoices):
    """Observed state (values: `drivers.types.GuestState`)."""

    RUNNING = "running", _("Running")
    PAUSED = "paused", _("Paused")
    SHUTTING_DOWN = "shutting_down", _("Shutting down")
    SHUTOFF = "shutoff", _("Shut off")
    CRASHED = "crashed", _("Crashed")
    PMSUSPENDED = "pmsuspended", _("Suspended")
    UNKNOWN = "unknown", _("Unknown")


class Kind(models.TextChoices):
    """Machine or container (values: `drivers.types.GuestKind`)."""

    MACHINE = "machine", _("Machine")
    CONTAINER = "container", _("Container")


class BinStorage(models.TextChoices):
    """What becomes of a guest's disks when it goes for good."""

    KEEP = "keep", _("Disks stay")
    DELETE = "delete", _("Disks are deleted too")


class RevisionSource(models.TextChoices):
    """Who made a guest's definition what it is."""

    FIRST_SIGHT = "first_sight", _("First sight")
    OURS = "ours", _("Changed here")
    OUTSIDE = "outside", _("Changed outside")


class SnapshotKind(models.TextChoices):
    """How a snapshot is kept (values: `drivers.types.SnapshotInfo.kind`)."""

    INTERNAL = "internal", _("Internal")
    EXTERNAL = "external", _("Overlay files")


ACTIVE = (State.RUNNING, State.PAUSED, State.SHUTTING_DOWN, State.CRASHED, State.PMSUSPENDED)
"""States in which the hypervisor holds a live guest (crashed: preserved after a panic, or gone; the driver says which)."""

AWAKE = tuple(state for state in ACTIVE if state != State.CRASHED)
"""States that a guest gets into only when somebody starts it: whatever is in the bin comes out of it then."""
