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
    devices = models.JSONField(
        default=list, blank=True, help_text="interfaces of the host that guests share, or that it is bound to"
    )
    macvtap = models.CharField(max_length=20, blank=True, help_text="how guests share an interface")
    domain = models.CharField(max_length=255, blank=True)
    addresses = models.JSONField(default=list, help_text="the host's own in it, with prefix")
    dhcp = models.BooleanField(default=False)
    leases = models.JSONField(default=list, help_text="what its DHCP server has given out: mac, address, hostname …")

    dhcp_hosts = models.JSONField(default=list, blank=True, help_text="addresses that it keeps: mac, address, name")
    vlans = models.JSONField(default=list, blank=True, help_text="tags of its ports")
    port_groups = models.JSONField(default=list, blank=True, help_text="name, vlans, default")
    mtu = models.PositiveIntegerField(null=True, blank=True)

    plugs: list[Plug]
    """Interfaces of guests on it, put on by `networks.selectors`."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "uuid"], name="network_unique_on_host")]
        indexes = [models.Index(Lower("name"), "id", name="network_name", condition=models.Q(gone_at__isnull=True))]


class GivenAddress(models.Model):
    """An address that a network has given to a MAC or keeps for it: by it a guest is found that is off, or tells none itself."""

    network = models.ForeignKey("networks.Network", on_delete=models.CASCADE, related_name="given")
    mac = models.CharField(max_length=20, db_index=True)
    address = models.CharField(max_length=64, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["network", "mac", "address"], name="given_address_unique")]

    def __str__(self) -> str:
        return f"{self.address} ({self.mac})"


class NetworkFilter(Resource):
    """Rules for what the interfaces of guests that name it may send and get. Once a host."""

    feature: ClassVar[Feature] = Feature.NETWORKS
    kind: ClassVar[str] = "network-filter"

    host = models.ForeignKey("hosts.Host", on_delete=models.CASCADE, related_name="filters")
    hypervisor = models.ForeignKey("hosts.Hypervisor", on_delete=to_sibling, related_name="filters")
    chain = models.CharField(max_length=50, default="root")
    rules = models.PositiveIntegerField(default=0)
    uses = models.JSONField(default=list, blank=True, help_text="names of filters that it takes in")
    xml = models.TextField(blank=True)

    users: list[str]
    """Names of filters that take it in, put on by `networks.selectors`; so are `guests`, the interfaces that name it."""
    guests: list[Plug]

    @property
    def used_by_count(self) -> int:
        """Guests with an interface that names it, and filters that take it in."""
        return len({plug.vm for plug in self.guests}) + len(self.users)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "uuid"], name="filter_unique_on_host")]
        indexes = [models.Index(Lower("name"), "id", name="filter_name", condition=models.Q(gone_at__isnull=True))]
