from __future__ import annotations

from django.apps import AppConfig

from vmmanager.celery import app as celery_app


class VmmanagerConfig(AppConfig):
    """The wiring: commands, checks, URL tree."""

    name = "vmmanager"

    def ready(self) -> None:
        """Make our Celery app the one that every thread finds (`current_app` is thread-local unless a default is set)."""
        celery_app.set_default()
