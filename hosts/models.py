"""A host is a machine that carries guests; a hypervisor is one driver at one endpoint of it."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.functions import Lower

from core.crypto import EncryptedJSONField
from core.fields import TagsField
from core.models import BaseModel
from drivers.types import Credentials, Endpoint
from hosts.choices import LinkState, VirtualizationTypeChoice


class Host(BaseModel):
    """A machine that carries guests. Facts (`cpu_count` …) are written by `hosts.inventory` alone."""

    name = models.CharField(max_length=100)
    host_uuid = models.CharField(max_length=64, blank=True)
    tags = TagsField()
    maintenance = models.BooleanField(default=False)
    maintenance_by = models.CharField(max_length=150, blank=True, help_text="who put it there")
    demo = models.BooleanField(default=False, help_text="libvirt's test driver: nothing real runs there")

    state = models.CharField(max_length=12, choices=LinkState.choices, default=LinkState.CONNECTING)
    error = models.JSONField(null=True, blank=True, help_text="a problem document, null when all is well")
    state_since = models.DateTimeField(null=True, blank=True)
    last_seen_at = models.DateTimeField(null=True, blank=True)

    hostname = models.CharField(max_length=255, blank=True)
    cpu_count = models.PositiveIntegerField(default=0)
    cpu_model = models.CharField(max_length=200, blank=True)
    cpu_architecture = models.CharField(max_length=30, blank=True)
    memory_total_bytes = models.BigIntegerField(default=0)
    memory_free_bytes = models.BigIntegerField(default=0)
    kernel = models.CharField(max_length=200, blank=True)
    nested_virtualization = models.BooleanField(null=True, blank=True)
    boot_id = models.CharField(max_length=64, blank=True)
    uptime_seconds = models.FloatField(
        null=True, blank=True, help_text="as last told; null: its hypervisors do not tell"
    )
    came_up_at = models.DateTimeField(
        null=True, blank=True, help_text="when it was seen to have come up, until somebody has seen to its guests"
    )

    vm_count: int
    running_vm_count: int
    """Both are put on by `hosts.selectors.count_guests`."""

    class Meta:
        constraints = [
            models.UniqueConstraint(Lower("name"), name="host_name_unique"),
            models.UniqueConstraint(fields=["host_uuid"], condition=~models.Q(host_uuid=""), name="host_uuid_unique"),
            models.CheckConstraint(condition=models.Q(state__in=LinkState.values), name="host_state_known"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def ref(self) -> str:
        """`host/<id>`, as events and filters name it."""
        return f"host/{self.pk}"


class Hypervisor(BaseModel):
    """One driver at one endpoint of a host (`qemu:///system`, `lxc:///`), with what it is and can do."""

    host = models.ForeignKey("hosts.Host", on_delete=models.CASCADE, related_name="hypervisors")
    driver = models.CharField(max_length=20)
    uri = models.CharField(max_length=1000)
    credentials = EncryptedJSONField(null=True, blank=True)

    state = models.CharField(max_length=12, choices=LinkState.choices, default=LinkState.CONNECTING)
    error = models.JSONField(null=True, blank=True)
    state_since = models.DateTimeField(null=True, blank=True)
    last_seen_at = models.DateTimeField(null=True, blank=True)
    swept_at = models.DateTimeField(null=True, blank=True, help_text="end of the last full listing")

    hypervisor_version = models.CharField(max_length=100, blank=True)
    library_version = models.CharField(max_length=100, blank=True)
    virtualization_type = models.CharField(max_length=12, choices=VirtualizationTypeChoice.choices, blank=True)
    techniques = models.JSONField(default=list)
    capabilities = models.JSONField(default=dict, help_text='feature → {"supported": bool, "reason": text}')
    slots = models.PositiveSmallIntegerField(default=4, help_text="operations that may run on it at once")

    watcher = models.CharField(max_length=100, blank=True, help_text="which watcher process follows it")
    watcher_lease_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["host", "driver", "uri"], name="hypervisor_unique_on_host"),
            models.CheckConstraint(condition=models.Q(state__in=LinkState.values), name="hypervisor_state_known"),
        ]

    def __str__(self) -> str:
        return f"{self.driver} at {self.uri}"

    @property
    def ref(self) -> str:
        """`hypervisor/<id>`."""
        return f"hypervisor/{self.pk}"

    @property
    def out_of_reach(self) -> bool:
        """Whether it is known that nothing can be done there now.

        Not while it is connected to (a start, another watcher process that takes it over): a worker has a connection of its
        own, and finds out.
        """
        return self.state in (LinkState.OFFLINE, LinkState.ERROR)

    @property
    def online(self) -> bool:
        """Whether it can be reached now."""
        return self.state == LinkState.ONLINE

    def endpoint(self) -> Endpoint:
        """Where and as whom to connect, for `drivers.pool`."""
        credentials: dict[str, Any] | None = self.credentials
        return Endpoint(
            driver=self.driver, uri=self.uri, credentials=Credentials(**credentials) if credentials else None
        )

    def support(self, feature: str) -> tuple[bool, str]:
        """Whether it has `feature`, and if not, why."""
        entry = self.capabilities.get(feature)
        if entry is None:
            return False, "Not probed yet." if not self.capabilities else "This hypervisor does not have it."
        return bool(entry["supported"]), str(entry.get("reason", ""))


class HostInterface(models.Model):
    """A network interface of a machine itself, as it was last seen; those of guests are not among them."""

    host = models.ForeignKey("hosts.Host", on_delete=models.CASCADE, related_name="interfaces")
    name = models.CharField(max_length=50)
    kind = models.CharField(max_length=20, help_text="ethernet bridge bond vlan virtual loopback")
    mac = models.CharField(max_length=20, blank=True)
    up = models.BooleanField(null=True, blank=True, help_text="whether it has a link; null: the host does not say")
    speed_mbps = models.PositiveIntegerField(null=True, blank=True)
    master = models.CharField(max_length=50, blank=True, help_text="the bridge or bond that it is a port of")
    vlan = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "name"], name="interface_unique_on_host")]

    def __str__(self) -> str:
        return self.name


class LocalEndpoint(models.Model):
    """A hypervisor of this machine that was registered by itself, once.

    The mark outlives the hypervisor: one that somebody removed does not come back by itself, nor does anything else of
    a host that somebody removed (`host` is null then).
    """

    uri = models.CharField(max_length=1000, unique=True)
    host = models.ForeignKey("hosts.Host", on_delete=models.SET_NULL, null=True)
    registered_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.uri
