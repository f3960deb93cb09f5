from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig


class VmsConfig(AppConfig):
    """Guests."""

    name = "vms"

    def ready(self) -> None:
        """The actions of a room within the room register themselves, too."""
        import_module("vms.definitions.actions")
