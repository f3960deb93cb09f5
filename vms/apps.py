from __future__ import annotations

from django.apps import AppConfig


class VmsConfig(AppConfig):
    """Guests."""

    name = "vms"

    def ready(self) -> None:
        """Tell what it knows of the uses of volumes and networks."""
        from networks import guests  # noqa: PLC0415 - models cannot be imported before
        from storage import uses  # noqa: PLC0415
        from vms.uses import GuestDisks, plugs  # noqa: PLC0415

        uses.register(GuestDisks())
        guests.register(plugs)
