from __future__ import annotations

from django.apps import AppConfig


class TransfersConfig(AppConfig):
    """Uploads and downloads that can be resumed."""

    name = "transfers"
