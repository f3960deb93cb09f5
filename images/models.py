"""The catalogue of images: what guests are made from. An image is a fact of ours; its copies are volumes of pools."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Lower

from core.fields import TagsField
from core.models import BaseModel
from images.choices import ImageKind, ImageState


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
    size_bytes = models.BigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True)
    source = models.CharField(max_length=2000, blank=True, help_text="where it came from, for people")
    cloud_init = models.BooleanField(null=True, blank=True, help_text="None: nobody knows")
    tags = TagsField()

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


class ImageCopy(models.Model):
    """Where an image lies: a volume by name in a pool. Complete once `ready`; guests' disks may be overlays of it."""

    image = models.ForeignKey("images.Image", on_delete=models.CASCADE, related_name="copies")
    pool = models.ForeignKey("storage.StoragePool", on_delete=models.CASCADE, related_name="image_copies")
    volume = models.CharField(max_length=255)
    ready = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["image", "pool"], name="image_once_in_pool")]

    def __str__(self) -> str:
        return f"{self.volume}"
