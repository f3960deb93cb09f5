from __future__ import annotations

from django.apps import AppConfig


class ConsolesConfig(AppConfig):
    """Consoles in the browser."""

    name = "consoles"
