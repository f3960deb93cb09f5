"""The catalogue of images: what guests are made from. An image is a fact of ours; its copies are volumes of pools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models.functions import Lower

from core.fields import TagsField
from core.models import BaseModel
from images.choices import ImageKind, ImageState

if TYPE_CHECKING:
    from storage.uses import Use


class Image(BaseModel):
    """One image. Its content is looked at before it is believed; it lives as volumes in pools, one copy each."""

    name = models.CharField(max_length=100)
    title = models.CharField(max_length=255, blank=True)
    kind = models.CharField(max_length=10, choices=ImageKind.choices, default=ImageKind.DISK)
    state = models.CharField(max_length=10, choices=ImageState.choices, default=ImageState.IMPORTING)
    error = models.JSONField(null=True, blank=True, help_text="a problem document, when the import failed")
    os_id = models.CharField(max_length=200, blank=True, help_text="libosinfo's identifier")
    architecture = models.CharField(max_length=30, blank=True)
    format = models.CharField(max_length=30, blank=True, help_text="qcow2, raw: as it lies in pools")
    virtual_size_bytes = models.BigIntegerField(default=0)
    size_bytes = models.BigIntegerField(default=0, help_text="of the file that lies in pools")
    sha256 = models.CharField(max_length=64, blank=True, help_text="of the file that lies in pools")
    source = models.CharField(max_length=2000, blank=True, help_text="where it came from, for people")
    cloud_init = models.BooleanField(null=True, blank=True, help_text="None: nobody knows")
    tags = TagsField()
    operation = models.ForeignKey(
        "operations.Operation",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="its import; where that ended without a word (a queue's deadline), it says how the image stands",
    )

    used_by: list[Use] | None = None
    """Put on by `images.selectors`: disks and overlays that stand on a copy of it."""

    class Meta:
        constraints = [
            models.UniqueConstraint(Lower("name"), name="image_name_unique"),
            models.CheckConstraint(condition=models.Q(state__in=ImageState.values), name="image_state_known"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def ref(self) -> str:
        """`image/<id>`."""
        return f"image/{self.pk}"

    @property
    def shown_state(self) -> str:
        """As it is to be told: see `lost`."""
        return ImageState.FAILED if self.lost else self.state

    @property
    def shown_error(self) -> dict[str, Any] | None:
        """Why it failed."""
        return self.operation.error if self.lost and self.operation else self.error

    @property
    def lost(self) -> bool:
        """Whether its import ended and nobody wrote down how. Needs `operation` selected."""
        return self.state == ImageState.IMPORTING and (self.operation is None or self.operation.ended)


class ImageCopy(models.Model):
    """Where an image lies: a volume by name in a pool. Complete once `ready`; guests' disks may be overlays of it."""

    image = models.ForeignKey("images.Image", on_delete=models.CASCADE, related_name="copies")
    pool = models.ForeignKey("storage.StoragePool", on_delete=models.CASCADE, related_name="image_copies")
    volume = models.CharField(max_length=255)
    ready = models.BooleanField(default=False)
    operation = models.ForeignKey(
        "operations.Operation",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="who makes it: as long as that is under way nobody else does",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    seen: bool
    """Put on by `images.selectors`: the volume was there when its pool was last listed."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["image", "pool"], name="image_once_in_pool")]

    def __str__(self) -> str:
        return f"{self.volume}"
