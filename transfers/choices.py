"""States of an upload: the contract's words and what people read."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class UploadState(models.TextChoices):
    """Whether all of it is here."""

    RECEIVING = "receiving", _("Being received")
    COMPLETE = "complete", _("Complete")
