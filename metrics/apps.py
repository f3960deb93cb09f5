from __future__ import annotations

from django.apps import AppConfig


class MetricsConfig(AppConfig):
    """Samples of guests and hosts."""

    name = "metrics"
