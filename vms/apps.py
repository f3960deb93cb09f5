from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig


class VmsConfig(AppConfig):
    """Guests."""

    name = "vms"

    def ready(self) -> None:
        """What workers do for snapshots registers itself; `operations` finds `vms.actions` alone."""
        import_module("vms.snapshots.actions")
