from __future__ import annotations

from django.apps import AppConfig


class NetworksConfig(AppConfig):
    """Virtual networks of hosts."""

    name = "networks"
