"""Storage pools and the volumes in them, once a host, whatever drivers of one libvirtd list them.

Facts are written by `storage.inventory` alone; wishes are operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.db import models
from django.db.models.functions import Lower

from core.models import BaseModel
from drivers.types import Feature
from hosts.resources import Resource, to_sibling
from storage.choices import RUNNING, PoolState
from storage.forecast import Forecast

if TYPE_CHECKING:
    from storage.uses import Use


class StoragePool(Resource):
    """A pool of one host. Calls go through `hypervisor`, the first of the host's that listed it; a pool that is gone has `gone_at`."""

    feature: ClassVar[Feature] = Feature.STORAGE_POOLS
    kind: ClassVar[str] = "storage-pool"

    host = models.ForeignKey("hosts.Host", on_delete=models.CASCADE, related_name="pools")
    hypervisor = models.ForeignKey("hosts.Hypervisor", on_delete=to_sibling, related_name="pools")
    type = models.CharField(max_length=30)
    state = models.CharField(max_length=14, choices=PoolState.choices, default=PoolState.INACTIVE)
    capacity_bytes = models.BigIntegerField(null=True, blank=True)
    allocation_bytes = models.BigIntegerField(null=True, blank=True)
    available_bytes = models.BigIntegerField(null=True, blank=True)
    target = models.CharField(max_length=4096, blank=True)
    source = models.CharField(max_length=4096, blank=True)
    formats = models.JSONField(default=list, help_text="of volumes that can be made in it, the best first")
    volumes_observed_at = models.DateTimeField(
        null=True, blank=True, help_text="before the reading that changed its volumes last; null: never listed"
    )
    sampled_at = models.DateTimeField(null=True, blank=True, help_text="its newest sample's (`storage.history`)")
    full_at = models.DateTimeField(
        null=True, blank=True, help_text="when it is full, at its pace; null: nobody can tell"
    )
    bytes_per_day = models.BigIntegerField(null=True, blank=True, help_text="that pace")
    forecast_days = models.PositiveSmallIntegerField(null=True, blank=True, help_text="how many it was taken from")

    volume_count: int
    promised_bytes: int
    unwritten_bytes: int
    """How many volumes it has, what they may grow to, and what of that is not written yet. Put on by `storage.selectors`."""
    users: list[Use] | None = None
    """Guests that run with something of it; None: not looked for yet."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["host", "uuid"], name="pool_unique_on_host"),
            models.CheckConstraint(condition=models.Q(state__in=PoolState.values), name="pool_state_known"),
        ]
        indexes = [
            models.Index(Lower("name"), "id", name="pool_name", condition=models.Q(gone_at__isnull=True)),
            models.Index(fields=["full_at"], name="pool_full_at", condition=models.Q(full_at__isnull=False)),
        ]

    @property
    def running(self) -> bool:
        """Whether what is in it can be reached."""
        return self.state in RUNNING

    @property
    def used_bytes(self) -> int | None:
        """What is not available, whoever uses it; None where nobody knows."""
        if not self.capacity_bytes or self.available_bytes is None:
            return None
        return max(0, self.capacity_bytes - self.available_bytes)

    @property
    def forecast(self) -> Forecast | None:
        """When it is full, by its last sample; None where nobody can tell, or nothing is in reach that could fill it."""
        if not self.running or self.full_at is None or self.bytes_per_day is None or self.forecast_days is None:
            return None
        return Forecast(full_at=self.full_at, bytes_per_day=self.bytes_per_day, based_on_days=self.forecast_days)

    @property
    def used_ratio(self) -> float | None:
        """How full it is, 0 to 1; None where nobody knows. What is not available is used, whoever uses it."""
        if not self.capacity_bytes or self.available_bytes is None:
            return None
        return min(1.0, max(0.0, 1 - self.available_bytes / self.capacity_bytes))


class PoolSample(models.Model):
    """How full a pool was. `storage.history` is its only writer, and keeps at most some hundred of each pool."""

    pool = models.ForeignKey("storage.StoragePool", on_delete=models.CASCADE, related_name="samples")
    at = models.DateTimeField()
    capacity_bytes = models.BigIntegerField()
    used_bytes = models.BigIntegerField()

    class Meta:
        indexes = [models.Index(fields=["pool", "at"], name="pool_sample_at")]

    def __str__(self) -> str:
        return f"{self.pool_id} {self.at}"


class LostVolume(models.Model):
    """A volume that was there until some minutes ago: a reading that began before does not bring it back."""

    pool = models.ForeignKey("storage.StoragePool", on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=255)
    lost_at = models.DateTimeField(help_text="before the reading that missed it")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["pool", "name"], name="lost_volume_unique_in_pool")]

    def __str__(self) -> str:
        return self.name


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
    observed_at = models.DateTimeField(help_text="before the reading that changed it last")

    uses: list[Use] | None = None
    """Who uses it; None: not looked for yet."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["pool", "name"], name="volume_unique_in_pool")]
        indexes = [models.Index(Lower("name"), "id", name="volume_name")]

    def __str__(self) -> str:
        return self.name

    @property
    def ref(self) -> str:
        """`volume/<id>`."""
        return f"volume/{self.pk}"
