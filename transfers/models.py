"""Uploads on their way. The file is the truth of what it holds; the row says how much of it is safe on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models

from core.models import BaseModel
from transfers.choices import UploadState
from transfers.places import uploads_dir

if TYPE_CHECKING:
    from pathlib import Path


class Upload(BaseModel):
    """A file that its owner sends piece by piece, for an operation that puts it to use. It goes when it was used, or at `expires_at`.

    `received_bytes` were on the disk when they were counted (fsync): what the file holds beyond them a crash may have left
    half-written, and is sent again.
    """

    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="uploads")
    filename = models.CharField(max_length=255, help_text="as the sender called it; never a path of ours")
    size_bytes = models.BigIntegerField()
    received_bytes = models.BigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True, help_text="what it must have, if the sender said")
    verified = models.BooleanField(default=False, help_text="the file was found to have that digest")
    state = models.CharField(max_length=10, choices=UploadState.choices, default=UploadState.RECEIVING)
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(state__in=UploadState.values), name="upload_state_known"),
            models.CheckConstraint(
                condition=models.Q(received_bytes__gte=0, received_bytes__lte=models.F("size_bytes")),
                name="upload_within_size",
            ),
        ]
        indexes = [models.Index(fields=["expires_at"], name="upload_expiry")]

    def __str__(self) -> str:
        return self.filename

    @property
    def ref(self) -> str:
        """`upload/<id>`."""
        return f"upload/{self.pk}"

    @property
    def path(self) -> Path:
        """The file. Its name is ours alone."""
        return uploads_dir() / self.pk.hex
