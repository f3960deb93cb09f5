from __future__ import annotations

from django.apps import AppConfig


class ImagesConfig(AppConfig):
    """The catalogue of images that guests are made from."""

    name = "images"

    def ready(self) -> None:
        """Tell which volumes are its copies."""
        from images.uses import ImageCopies  # noqa: PLC0415 - models cannot be imported before
        from storage.uses import register  # noqa: PLC0415

        register(ImageCopies())
