from __future__ import annotations

from django.apps import AppConfig


class ImagesConfig(AppConfig):
    """The catalogue of images that guests are made from."""

    name = "images"
