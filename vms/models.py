"""A VM is any guest we know: machine or container. Facts are written by `vms.inventory` alone, wishes are operations."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Concat, Lower

from core.fields import TagsField
from core.models import BaseModel
from drivers.types import GuestRef
from hosts.choices import VirtualizationTypeChoice
from vms.choices import BinStorage, Kind, RevisionSource, SnapshotKind, State
from vms.cloning.models import Template, TemplateGuest, TemplateVersion, TemplateVolume
from vms.schedules.models import ScheduledSnapshot, SnapshotSchedule

__all__ = [
    "BINNED",
    "PRESENT",
    "VM",
    "Revision",
    "ScheduledSnapshot",
    "Snapshot",
    "SnapshotSchedule",
    "Template",
    "TemplateGuest",
    "TemplateVersion",
    "TemplateVolume",
    "VMDisk",
    "VMNic",
]

_LINE = models.Value("\n")

PRESENT = models.Q(gone_at__isnull=True, binned_at__isnull=True)
"""Guests that lists and counts are of: on their hypervisor, and not in the bin."""
BINNED = models.Q(gone_at__isnull=True, binned_at__isnull=False)
"""Those in the bin."""


class VM(BaseModel):
    """One guest of one hypervisor.

    `version` is bumped by every observation that changes something a reader can see, and travels in its event: a
    browser drops what is not newer. A guest that is gone keeps its row as a tombstone (`gone_at`) for history and audit.
    """

    hypervisor = models.ForeignKey("hosts.Hypervisor", on_delete=models.CASCADE, related_name="vms")
    uuid = models.CharField(max_length=64, help_text="the hypervisor's own identifier")
    name = models.CharField(max_length=255)
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.MACHINE)
    virtualization_type = models.CharField(max_length=12, choices=VirtualizationTypeChoice.choices, blank=True)
    techniques = models.JSONField(default=list)
    domain_type = models.CharField(max_length=20, blank=True)

    state = models.CharField(max_length=14, choices=State.choices, default=State.UNKNOWN)
    state_reason = models.CharField(max_length=60, blank=True)
    state_since = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    observed_at = models.DateTimeField()
    gone_at = models.DateTimeField(null=True, blank=True)

    vcpus = models.PositiveIntegerField(default=1)
    memory_bytes = models.BigIntegerField(default=0)
    max_memory_bytes = models.BigIntegerField(default=0)
    persistent = models.BooleanField(default=True)
    autostart = models.BooleanField(default=False)
    autostart_order = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="its place among those that we start with their host (`vms.autostart`)"
    )
    autostart_delay_seconds = models.PositiveSmallIntegerField(default=0, help_text="then, before the next one")
    autostart_wait = models.BooleanField(default=False, help_text="the next one waits until it has an address")
    has_managed_save = models.BooleanField(default=False)
    os = models.CharField(max_length=200, blank=True)
    boot = models.JSONField(default=dict)
    graphics = models.JSONField(default=list)
    consoles = models.JSONField(default=list)
    addresses = models.JSONField(
        default=list, help_text="address, prefix, mac, source; the most trusted source of each"
    )
    address_reasons = models.JSONField(default=dict, help_text="source → why it names none")
    xml_digest = models.CharField(max_length=64, blank=True)
    snapshots_read_at = models.DateTimeField(null=True, blank=True, help_text="null: nobody has looked for any yet")

    title = models.CharField(max_length=255, blank=True)
    description = models.TextField(blank=True)
    tags = TagsField()
    project = models.CharField(max_length=100, blank=True)
    owner = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, blank=True, related_name="vms")
    protected = models.BooleanField(default=False, help_text="it cannot be deleted")

    binned_at = models.DateTimeField(
        null=True, blank=True, help_text="since when it is in the bin (`vms.deletion.binned`)"
    )
    binned_by = models.CharField(max_length=150, blank=True)
    bin_until = models.DateTimeField(null=True, blank=True, help_text="then it goes for good")
    bin_storage = models.CharField(
        max_length=6, choices=BinStorage.choices, blank=True, help_text="what its disks do then"
    )
    bin_name = models.CharField(max_length=255, blank=True, help_text="what it is called there on its hypervisor")
    bin_autostart = models.BooleanField(default=False, help_text="whether it started with its host before")

    words = models.GeneratedField(
        expression=Concat("name", _LINE, "title", _LINE, "tags", _LINE, "os", output_field=models.TextField()),
        output_field=models.TextField(),
        db_persist=True,
        help_text="what a free word of a search is looked for in, a line each; kept by the database itself",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["hypervisor", "uuid"], name="vm_unique_on_hypervisor"),
            models.CheckConstraint(condition=models.Q(state__in=State.values), name="vm_state_known"),
        ]
        indexes = [
            models.Index(Lower("name"), "id", name="vm_name", condition=PRESENT),
            models.Index(fields=["state"], name="vm_state", condition=PRESENT),
            models.Index(fields=["memory_bytes", "id"], name="vm_memory", condition=PRESENT),
            # Counted on every page, for the navigation: 10,000 guests in 0.7 ms out of the index alone, 4.4 ms without.
            models.Index(
                fields=["hypervisor", "state", "state_reason"],
                name="vm_fleet",
                condition=PRESENT,
            ),
            models.Index(fields=["bin_until"], name="vm_bin", condition=models.Q(binned_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def ref(self) -> str:
        """`vm/<id>`, as events, operations and filters name it."""
        return f"vm/{self.pk}"

    @property
    def guest_ref(self) -> GuestRef:
        """Its name for a driver session."""
        return GuestRef(uuid=self.uuid, name=self.bin_name or self.name)

    @property
    def starts_with_host(self) -> bool:
        """By its hypervisor's own doing, or by ours."""
        return self.autostart or self.autostart_order is not None

    @property
    def half_binned(self) -> bool:
        """Whether it was on its way to the bin, did not get there, and is not yet called or started as before."""
        return self.binned_at is None and bool(self.bin_name or self.bin_autostart)

    @property
    def memory_limited(self) -> bool:
        """False for a container that may use all its host has: engines say the host's memory then, OpenVZ none. Needs the host selected."""
        room = self.hypervisor.host.memory_total_bytes
        return self.kind != Kind.CONTAINER or (self.memory_bytes > 0 and not 0 < room <= self.memory_bytes)

    @property
    def stale(self) -> bool:
        """Whether its host is out of reach, so that the last known state stands. Needs `hypervisor` selected."""
        return not self.hypervisor.online


class VMDisk(models.Model):
    """A disk of a guest, rebuilt from its definition when that changes; never edited by hand."""

    vm = models.ForeignKey("vms.VM", on_delete=models.CASCADE, related_name="disks")
    target = models.CharField(max_length=100)
    device = models.CharField(max_length=20, default="disk")
    bus = models.CharField(max_length=30, blank=True)
    source = models.CharField(max_length=4096, blank=True)
    pool = models.CharField(max_length=255, blank=True)
    format = models.CharField(max_length=30, blank=True)
    size_bytes = models.BigIntegerField(null=True, blank=True)
    readonly = models.BooleanField(default=False)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["vm", "target"], name="disk_target_unique")]

    def __str__(self) -> str:
        return self.target


class VMNic(models.Model):
    """A network interface of a guest, rebuilt from its definition when that changes; never edited by hand."""

    vm = models.ForeignKey("vms.VM", on_delete=models.CASCADE, related_name="interfaces")
    mac = models.CharField(max_length=20, db_index=True)
    model = models.CharField(max_length=30, blank=True)
    network = models.CharField(max_length=255, blank=True)
    link = models.CharField(max_length=10, default="up")
    target = models.CharField(max_length=50, blank=True)
    filter = models.CharField(max_length=255, blank=True, help_text="name of a network filter")

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.mac


class Revision(models.Model):
    """A definition that a guest had or has, without passwords. Kept from the first change that is made here on, the newest of them.

    `vms.definitions.history` is its only writer.
    """

    vm = models.ForeignKey("vms.VM", on_delete=models.CASCADE, related_name="revisions")
    number = models.PositiveIntegerField(help_text="1, 2, 3 … of its guest")
    xml = models.TextField()
    digest = models.CharField(max_length=64, help_text="sha256 of the text; the ETag of `GET /vms/{id}/xml`")
    at = models.DateTimeField(auto_now_add=True)
    source = models.CharField(max_length=12, choices=RevisionSource.choices)
    actor = models.CharField(max_length=150, blank=True, help_text="empty: somebody outside")
    comment = models.CharField(max_length=500, blank=True)
    operation = models.UUIDField(null=True, blank=True)
    restored = models.PositiveIntegerField(
        null=True, blank=True, help_text="the number of the revision that it brought back"
    )
    added = models.PositiveIntegerField(default=0, help_text="lines, against the one before")
    removed = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["vm", "number"], name="revision_unique"),
            models.CheckConstraint(condition=models.Q(source__in=RevisionSource.values), name="revision_source_known"),
        ]

    def __str__(self) -> str:
        return f"{self.vm_id} {self.number}"


class Snapshot(models.Model):
    """A state of a guest that it can go back to, as the hypervisor told it last (`VM.snapshots_read_at`); never edited by hand."""

    vm = models.ForeignKey("vms.VM", on_delete=models.CASCADE, related_name="snapshots")
    name = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    parent = models.CharField(max_length=255, blank=True, help_text="name of the one that it grew from")
    created_at = models.DateTimeField(
        null=True, blank=True, help_text="by the hypervisor's clock; null: it does not tell"
    )
    state = models.CharField(max_length=14, choices=State.choices, default=State.SHUTOFF)
    memory = models.BooleanField(default=False)
    kind = models.CharField(max_length=10, choices=SnapshotKind.choices, default=SnapshotKind.INTERNAL)
    current = models.BooleanField(default=False)
    disks = models.JSONField(default=list)
    size_bytes = models.BigIntegerField(null=True, blank=True)
    no_revert = models.CharField(max_length=500, blank=True, help_text="why it cannot be gone back to")
    no_delete = models.CharField(max_length=500, blank=True, help_text="why it cannot be deleted")

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["vm", "name"], name="snapshot_name_unique"),
            models.CheckConstraint(condition=models.Q(state__in=State.values), name="snapshot_state_known"),
            models.CheckConstraint(condition=models.Q(kind__in=SnapshotKind.values), name="snapshot_kind_known"),
        ]

    def __str__(self) -> str:
        return self.name


class VMHardware(models.Model):
    """What a guest is built of, as its hypervisor told it last (`vms.hardware.values`): read when somebody looks, and after each change.

    What it ran with counts for the run that it was read in (`started_at`). `vms.hardware.inventory` is its only writer.
    """

    vm = models.OneToOneField("vms.VM", on_delete=models.CASCADE, related_name="hardware", primary_key=True)
    defined = models.JSONField(null=True, help_text="what it has at its next start; null: it is transient")
    live = models.JSONField(null=True, help_text="what it ran with; null: it was off")
    options = models.JSONField(default=dict, help_text="what its hypervisor takes for it")
    digest = models.CharField(max_length=64, help_text="of what can be changed; the ETag of `GET /vms/{id}/hardware`")
    started_at = models.DateTimeField(null=True, blank=True, help_text="of the run that `live` is of")
    told_bytes = models.BigIntegerField(
        null=True, blank=True, help_text="of memory: what it was started with or told to have since; it may never obey"
    )
    read_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"hardware of {self.vm_id}"
