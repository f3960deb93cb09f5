from __future__ import annotations

from django.apps import AppConfig


class LiveConfig(AppConfig):
    """Sockets, streams and their tickets."""

    name = "live"
