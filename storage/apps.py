from __future__ import annotations

from django.apps import AppConfig


class StorageConfig(AppConfig):
    """Storage pools and volumes of hosts."""

    name = "storage"
