from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig


class VmsConfig(AppConfig):
    """Guests."""

    name = "vms"

    def ready(self) -> None:
        """Tell what it knows of the uses of volumes and networks; the actions of a room within the room register themselves."""
        from networks import guests  # noqa: PLC0415 - models cannot be imported before
        from storage import uses  # noqa: PLC0415
        from vms.cloning.uses import TemplateVolumes  # noqa: PLC0415
        from vms.uses import GuestDisks, named_filters, plugs  # noqa: PLC0415

        uses.register(GuestDisks())
        uses.register(TemplateVolumes())
        guests.register(plugs)
        guests.register_filters(named_filters)
        import_module("vms.autostart.actions")
        import_module("vms.definitions.actions")
        import_module("vms.seeds.actions")
        for room in ("parts", "disks", "nics", "devices", "readings"):
            import_module(f"vms.hardware.{room}")
        import_module("vms.snapshots.actions")
        import_module("vms.cloning.removal")
