from __future__ import annotations

from django.apps import AppConfig


class VmsConfig(AppConfig):
    """Guests."""

    name = "vms"

    def ready(self) -> None:
        """Tell what it knows of the uses of volumes."""
        from storage.uses import register  # noqa: PLC0415
        from vms.uses import GuestDisks  # noqa: PLC0415 - models cannot be imported before

        register(GuestDisks())
