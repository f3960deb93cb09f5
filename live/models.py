"""One-use tickets for sockets: what a program sends instead of its long-lived token, and never in a URL."""

from __future__ import annotations

from django.db import models

from core.models import BaseModel


class Ticket(BaseModel):
    """A ticket for `/ws/events` or `/ws/console`: 30 seconds, one use, bound to its user and purpose; kept as a hash.

    Used by a conditional UPDATE on `used_at` (see `live.tickets`), so that two sockets with the same ticket cannot both win.
    """

    digest = models.CharField(max_length=64, unique=True)
    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE)
    token = models.ForeignKey("accounts.ApiToken", on_delete=models.CASCADE, null=True, blank=True)
    purpose = models.CharField(max_length=20, help_text="`events` or `console`")
    object = models.CharField(max_length=120, blank=True, help_text="`vm/<id>` for consoles")
    params = models.JSONField(default=dict, help_text="`type`, `take_over` for consoles")
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["expires_at"], name="ticket_expiry")]

    def __str__(self) -> str:
        return f"{self.purpose} {self.object}"
