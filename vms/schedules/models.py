"""The tables of snapshot schedules. `vms.schedules.services` and `vms.schedules.runs` are their only writers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from core.models import BaseModel
from vms.schedules.keeping import Keep
from vms.schedules.times import WEEKDAYS, Every, When

if TYPE_CHECKING:
    import datetime as dt


class EveryChoice(models.TextChoices):
    """How often (values: `vms.schedules.times.Every`)."""

    HOURS = "hours", _("Hourly")
    DAY = "day", _("Daily")
    WEEK = "week", _("Weekly")
    MONTH = "month", _("Monthly")


class LastState(models.TextChoices):
    """What became of the last turn."""

    RUNNING = "running", _("Running")
    SUCCEEDED = "succeeded", _("Done")
    PARTIAL = "partial", _("Not all guests")
    FAILED = "failed", _("Failed")


class SnapshotSchedule(BaseModel):
    """Snapshots of one guest, or of those that a search finds, taken again and again; in the name of `owner`, with what he may do."""

    name = models.CharField(max_length=60)
    vm = models.ForeignKey("vms.VM", on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    filter = models.TextField(blank=True, help_text="the search language of guests, where it is not of one guest")
    memory = models.BooleanField(null=True, blank=True, help_text="as `TakeParams.memory`; true leaves out what is off")
    every = models.CharField(max_length=5, choices=EveryChoice.choices)
    at = models.TimeField()
    hours = models.PositiveSmallIntegerField(default=1)
    weekday = models.CharField(max_length=9, choices=[(day, day) for day in WEEKDAYS], default=WEEKDAYS[0])
    day = models.PositiveSmallIntegerField(default=1)
    time_zone = models.CharField(max_length=64, default="UTC")
    keep_last = models.PositiveSmallIntegerField(default=0)
    keep_daily = models.PositiveSmallIntegerField(default=0)
    keep_weekly = models.PositiveSmallIntegerField(default=0)
    keep_monthly = models.PositiveSmallIntegerField(default=0)
    enabled = models.BooleanField(default=True)
    owner = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")

    next_run_at = models.DateTimeField(null=True, blank=True, help_text="null while it is switched off")
    last_run_at = models.DateTimeField(null=True, blank=True)
    last_operation = models.UUIDField(null=True, blank=True, help_text="the parent of the last turn's snapshots")
    last_state = models.CharField(max_length=9, choices=LastState.choices, blank=True)
    last_message = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(Lower("name"), name="schedule_name_unique"),
            models.CheckConstraint(
                condition=models.Q(vm__isnull=False, filter="") | (models.Q(vm__isnull=True) & ~models.Q(filter="")),
                name="schedule_of_one_or_filter",
            ),
            models.CheckConstraint(condition=models.Q(every__in=EveryChoice.values), name="schedule_every_known"),
            models.CheckConstraint(
                condition=models.Q(last_state__in=["", *LastState.values]), name="schedule_state_known"
            ),
        ]
        indexes = [
            models.Index(fields=["next_run_at"], name="schedule_due", condition=models.Q(enabled=True)),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def ref(self) -> str:
        """`snapshot-schedule/<id>`, as events and the descriptions of its snapshots name it."""
        return f"snapshot-schedule/{self.pk}"

    @property
    def when(self) -> When:
        """When it is due."""
        return When(
            every=Every(self.every),
            at=self.at,
            hours=self.hours,
            weekday=self.weekday,
            day=self.day,
            time_zone=self.time_zone,
        )

    @property
    def keep(self) -> Keep:
        """How many are kept."""
        return Keep(last=self.keep_last, daily=self.keep_daily, weekly=self.keep_weekly, monthly=self.keep_monthly)

    def next_after(self, moment: dt.datetime) -> dt.datetime | None:
        """Its next turn; None while it is switched off."""
        return self.when.after(moment) if self.enabled else None


class ScheduledSnapshot(models.Model):
    """A snapshot that a schedule has asked for: what retention may delete, if the hypervisor has it under the same name and words."""

    schedule = models.ForeignKey("vms.SnapshotSchedule", on_delete=models.CASCADE, related_name="snapshots")
    vm = models.ForeignKey("vms.VM", on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=80)
    at = models.DateTimeField(help_text="the turn, by our clock: retention counts by it")
    operation = models.UUIDField(help_text="that takes it")
    settled = models.BooleanField(
        default=False, help_text="the operation has ended, and what it calls for was asked for"
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["vm", "name"], name="scheduled_snapshot_unique")]
        indexes = [
            models.Index(fields=["operation"], name="scheduled_open", condition=models.Q(settled=False)),
        ]

    def __str__(self) -> str:
        return self.name
