"""Virtual networks of hosts, once a host. Facts are written by `networks.inventory` alone; wishes are operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.db import models
from django.db.models.functions import Lower

from drivers.types import Feature
from hosts.resources import Resource, to_sibling

if TYPE_CHECKING:
    from networks.guests import Plug


class Network(Resource):
    """A virtual network of one host. Calls go through `hypervisor`, the first of the host's that listed it."""

    feature: ClassVar[Feature] = Feature.NETWORKS
    kind: ClassVar[str] = "network"

    host = models.ForeignKey("hosts.Host", on_delete=models.CASCADE, related_name="networks")
    hypervisor = models.ForeignKey("hosts.Hypervisor", on_delete=to_sibling, related_name="networks")
    active = models.BooleanField(default=False)
    mode = models.CharField(max_length=20)
    bridge = models.CharField(max_length=64, blank=True)
    domain = models.CharField(max_length=255, blank=True)
    addresses = models.JSONField(default=list, help_text="the host's own in it, with prefix")
    dhcp = models.BooleanField(default=False)
    leases = models.JSONField(default=list, help_text="what its DHCP server has given out: mac, address, hostname …")

    plugs: list[Plug]
    """Interfaces of guests on it, put on by `networks.selectors`."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "uuid"], name="network_unique_on_host")]
        indexes = [models.Index(Lower("name"), "id", name="network_name", condition=models.Q(gone_at__isnull=True))]
