"""Templates: what guests are made from beside images. Facts of ours about volumes that lie in pools and are written by nobody."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Lower

from core.models import BaseModel


class Template(BaseModel):
    """A name under which versions stand. Shown once one of them is whole (`current`)."""

    name = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    project = models.CharField(max_length=100, blank=True)
    owner = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    current = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="number of the version that is meant where none is named; null: none is whole yet",
    )
    closing = models.BooleanField(default=False, help_text="it is being deleted: nothing new is made of it")

    class Meta:
        constraints = [models.UniqueConstraint(Lower("name"), name="template_name_unique")]

    def __str__(self) -> str:
        return self.name

    @property
    def ref(self) -> str:
        """`template/<id>`."""
        return f"template/{self.pk}"


class TemplateVersion(BaseModel):
    """One state of a template, which never changes: its disks, what else makes a guest of them, and what may be chosen.

    The host's name stands here too, so that a version whose host was removed can say where it lay.
    """

    template = models.ForeignKey("vms.Template", on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(help_text="1, 2, 3 … of its template")
    ready = models.BooleanField(default=False, help_text="all of its volumes are there")
    host = models.ForeignKey("hosts.Host", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    host_name = models.CharField(max_length=255)
    driver = models.CharField(max_length=20, help_text="the kind of hypervisor that its guests run on")
    architecture = models.CharField(max_length=30, blank=True)
    definition = models.TextField(blank=True, help_text="of the guest that it was, without what named that guest")
    facts = models.JSONField(default=dict, help_text="vcpus, memory_bytes, os, firmware, graphics, interfaces")
    cloud_init = models.BooleanField(default=False, help_text="its guests get a seed")
    user_data = models.TextField(blank=True, help_text="a #cloud-config document with ${names} of parameters")
    parameters = models.JSONField(default=list, help_text="what may be chosen (`vms.cloning.parameters`)")
    notes = models.TextField(blank=True)
    mode = models.CharField(max_length=10, help_text="convert: the guest went, and its disks are here; copy")
    source = models.UUIDField(help_text="id of the guest that it was made of")
    source_name = models.CharField(max_length=255)
    created_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["template", "number"], name="template_version_unique")]

    def __str__(self) -> str:
        return f"{self.template_id}@{self.number}"


class TemplateVolume(models.Model):
    """One disk of a version: a volume by name in a pool. `storage.uses` keeps it from being deleted and written."""

    version = models.ForeignKey("vms.TemplateVersion", on_delete=models.CASCADE, related_name="volumes")
    position = models.PositiveIntegerField()
    target = models.CharField(max_length=100)
    bus = models.CharField(max_length=30, blank=True)
    pool = models.ForeignKey(
        "storage.StoragePool", on_delete=models.SET_NULL, null=True, blank=True, related_name="template_volumes"
    )
    pool_name = models.CharField(max_length=255)
    volume = models.CharField(max_length=255)
    format = models.CharField(max_length=30)
    size_bytes = models.BigIntegerField(help_text="as its guests see it")

    seen: bool
    """Put on by `vms.cloning.selectors`: it was there when its pool was last listed."""

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["pool", "volume"], name="template_volume_unique")]

    def __str__(self) -> str:
        return self.volume


class TemplateGuest(models.Model):
    """A guest that was made from a version, as far as is remembered."""

    version = models.ForeignKey("vms.TemplateVersion", on_delete=models.CASCADE, related_name="guests")
    vm = models.OneToOneField("vms.VM", on_delete=models.CASCADE, related_name="made_from")
    linked = models.BooleanField(default=True, help_text="its disks stand on the template's")

    def __str__(self) -> str:
        return f"{self.vm_id}"
