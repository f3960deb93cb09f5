"""The base of every table of ours: a time-ordered uuid, timestamps, and a version that changes with every write."""

from __future__ import annotations

from django.db import models

from core.ids import uuid7


class BaseModel(models.Model):
    """uuid7 primary key, `created_at`, `updated_at`, and `version` (the ETag; bumped by whoever writes, in the same UPDATE)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    version = models.PositiveIntegerField(default=1)

    class Meta:
        abstract = True

    @property
    def etag(self) -> str:
        """The strong validator of this row as it is."""
        return f'"{self.version}"'
