from __future__ import annotations

from django.apps import AppConfig


class VmsConfig(AppConfig):
    """Guests."""

    name = "vms"
