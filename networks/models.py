"""Virtual networks of hosts, once a host. Facts are written by `networks.inventory` alone; wishes are operations."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Lower

from core.models import BaseModel


class Network(BaseModel):
    """A virtual network of one host. Calls go through `hypervisor`, the first of the host's that listed it."""

    host = models.ForeignKey("hosts.Host", on_delete=models.CASCADE, related_name="networks")
    hypervisor = models.ForeignKey("hosts.Hypervisor", on_delete=models.CASCADE, related_name="networks")
    uuid = models.CharField(max_length=64, help_text="the hypervisor's own identifier")
    name = models.CharField(max_length=255)
    active = models.BooleanField(default=False)
    mode = models.CharField(max_length=20)
    bridge = models.CharField(max_length=64, blank=True)
    domain = models.CharField(max_length=255, blank=True)
    addresses = models.JSONField(default=list, help_text="the host's own in it, with prefix")
    dhcp = models.BooleanField(default=False)
    autostart = models.BooleanField(default=False)
    persistent = models.BooleanField(default=True)
    observed_at = models.DateTimeField()
    gone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "uuid"], name="network_unique_on_host")]
        indexes = [models.Index(Lower("name"), "id", name="network_name", condition=models.Q(gone_at__isnull=True))]

    def __str__(self) -> str:
        return self.name

    @property
    def ref(self) -> str:
        """`network/<id>`."""
        return f"network/{self.pk}"
