"""The event log's table. Rows are only ever inserted (by `events.log.append`) and, when too old, deleted in batches."""

from __future__ import annotations

from django.db import models


class Event(models.Model):
    """What happened, whoever caused it. Shapes of `data` by type are those of the public contract.

    `seq` grows in commit order: once a reader has seen one, none lower appears (see `events.log.append` for how).
    """

    seq = models.BigAutoField(primary_key=True)
    type = models.CharField(max_length=60)
    at = models.DateTimeField()
    object = models.CharField(max_length=120, blank=True, help_text="`vm/<id>`; empty for what concerns no one object")
    object_name = models.CharField(max_length=255, blank=True)
    actor = models.CharField(max_length=150, blank=True, help_text="user name, `watcher`, `system`; empty when unknown")
    operation = models.UUIDField(null=True, blank=True)
    data = models.JSONField(default=dict)

    class Meta:
        ordering = ["-seq"]
        indexes = [
            models.Index(fields=["object", "-seq"], name="event_object"),
            models.Index(fields=["type", "-seq"], name="event_type"),
            models.Index(fields=["at"], name="event_at"),
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.type} {self.object}"


class Trimmed(models.Model):
    """How far the log was trimmed: one row. A reader whose last `seq` lies below cannot go on without a gap.

    The lowest `seq` there is does not tell: audit lines are kept longer than other events, and stay in between.
    """

    seq = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="trimmed_is_one_row")]

    def __str__(self) -> str:
        return str(self.seq)

    @classmethod
    def up_to(cls) -> int:
        """The highest `seq` that was deleted, 0 while none was."""
        return cls.objects.values_list("seq", flat=True).first() or 0
