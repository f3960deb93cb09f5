"""Kinds and states of images: the contract's words and what people read."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class ImageKind(models.TextChoices):
    """What can be done with it."""

    DISK = "disk", _("Disk image")
    ISO = "iso", _("Installation medium")


class ImageState(models.TextChoices):
    """Whether it can be used."""

    IMPORTING = "importing", _("Being imported")
    READY = "ready", _("Ready")
    FAILED = "failed", _("Failed")
