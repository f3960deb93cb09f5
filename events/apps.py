from __future__ import annotations

from django.apps import AppConfig


class EventsConfig(AppConfig):
    """The event log."""

    name = "events"
