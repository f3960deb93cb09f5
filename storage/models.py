"""Storage pools and the volumes in them, once a host, whatever drivers of one libvirtd list them.

Facts are written by `storage.inventory` alone; wishes are operations.
"""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Lower

from core.models import BaseModel
from storage.choices import PoolState


class StoragePool(BaseModel):
    """A pool of one host. Calls go through `hypervisor`, the first of the host's that listed it; a pool that is gone has `gone_at`."""

    host = models.ForeignKey("hosts.Host", on_delete=models.CASCADE, related_name="pools")
    hypervisor = models.ForeignKey("hosts.Hypervisor", on_delete=models.CASCADE, related_name="pools")
    uuid = models.CharField(max_length=64, help_text="the hypervisor's own identifier")
    name = models.CharField(max_length=255)
    type = models.CharField(max_length=30)
    state = models.CharField(max_length=14, choices=PoolState.choices, default=PoolState.INACTIVE)
    capacity_bytes = models.BigIntegerField(null=True, blank=True)
    allocation_bytes = models.BigIntegerField(null=True, blank=True)
    available_bytes = models.BigIntegerField(null=True, blank=True)
    target = models.CharField(max_length=4096, blank=True)
    source = models.CharField(max_length=4096, blank=True)
    formats = models.JSONField(default=list, help_text="of volumes that can be made in it, the best first")
    autostart = models.BooleanField(default=False)
    persistent = models.BooleanField(default=True)
    observed_at = models.DateTimeField()
    gone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["host", "uuid"], name="pool_unique_on_host"),
            models.CheckConstraint(condition=models.Q(state__in=PoolState.values), name="pool_state_known"),
        ]
        indexes = [models.Index(Lower("name"), "id", name="pool_name", condition=models.Q(gone_at__isnull=True))]

    def __str__(self) -> str:
        return self.name

    @property
    def ref(self) -> str:
        """`storage-pool/<id>`, as events, operations and filters name it."""
        return f"storage-pool/{self.pk}"


class Volume(BaseModel):
    """A volume of a pool. Deleted with its last sight: nothing but its name would be left to remember."""

    pool = models.ForeignKey("storage.StoragePool", on_delete=models.CASCADE, related_name="volumes")
    name = models.CharField(max_length=255)
    path = models.CharField(max_length=4096, help_text="where it is on the host: the source that a guest's disk names")
    kind = models.CharField(max_length=20, default="file")
    format = models.CharField(max_length=30, blank=True)
    capacity_bytes = models.BigIntegerField(default=0)
    allocation_bytes = models.BigIntegerField(default=0)
    backing = models.CharField(max_length=4096, blank=True, help_text="path of what it is an overlay of")
    backing_format = models.CharField(max_length=30, blank=True)
    observed_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["pool", "name"], name="volume_unique_in_pool")]
        indexes = [models.Index(Lower("name"), "id", name="volume_name")]

    def __str__(self) -> str:
        return self.name

    @property
    def ref(self) -> str:
        """`volume/<id>`."""
        return f"volume/{self.pk}"
