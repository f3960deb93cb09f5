from __future__ import annotations

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class OperationsConfig(AppConfig):
    """The engine that carries out every change on a hypervisor."""

    name = "operations"

    def ready(self) -> None:
        """Every room's actions register themselves, in whatever role this process has."""
        autodiscover_modules("actions")
