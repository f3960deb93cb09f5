from __future__ import annotations

from django.apps import AppConfig


class WatcherConfig(AppConfig):
    """Follows every hypervisor and writes down what it sees."""

    name = "watcher"
