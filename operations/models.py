"""The table of wishes. A row exists before anything is sent to a hypervisor; `operations.engine` is its only writer."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from core.crypto import EncryptedJSONField
from core.models import BaseModel
from operations.choices import OPEN, State


class Operation(BaseModel):
    """Something that changes a hypervisor: asked for, under way, or ended.

    Locks: `lock_key` is what it works on (`vm/<id>`; empty for parents, which lock nothing). `holds_lock` is true from the
    claim until the working thread has really returned, which can be after the operation has ended by its deadline:
    while a call hangs in the hypervisor, nothing else may work on that guest. The database refuses two holders. What ends such
    a call (`Action.breaks`) takes the lock from it.
    """

    kind = models.CharField(max_length=60)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    target = models.CharField(max_length=120, help_text="`vm/<id>`")
    target_name = models.CharField(max_length=255, blank=True)
    params = models.JSONField(default=dict)
    secret_params = EncryptedJSONField(null=True, blank=True)

    lock_key = models.CharField(max_length=120, blank=True)
    holds_lock = models.BooleanField(default=False)
    position = models.BigIntegerField(default=0, help_text="place in the queue of its lock")
    slot_key = models.CharField(
        max_length=120, blank=True, help_text="what it takes a counted slot of (`hypervisor/<id>`)"
    )
    slots = models.PositiveSmallIntegerField(default=0, help_text="how many slots there are; 0: not counted")

    progress = models.FloatField(null=True, blank=True, help_text="0 to 1, null when it cannot be told")
    message = models.CharField(max_length=500, blank=True)
    result = models.JSONField(null=True, blank=True)
    error = models.JSONField(null=True, blank=True, help_text="a problem document")
    checkpoints = models.JSONField(default=list, help_text="named steps that are done, for who resumes it")

    requested_by = models.CharField(max_length=150, blank=True)
    user = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True, blank=True, related_name="children")

    attempts = models.PositiveSmallIntegerField(default=0)
    failures = models.PositiveSmallIntegerField(
        default=0, help_text="attempts that broke by themselves; one whose worker died is none"
    )
    interrupted = models.BooleanField(default=False, help_text="its worker died in the middle; ask `satisfied` first")
    cancel_requested = models.BooleanField(default=False)
    not_before = models.DateTimeField(null=True, blank=True)
    deadline_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=120, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["lock_key"], condition=Q(holds_lock=True) & ~Q(lock_key=""), name="one_holder_per_lock"
            ),
            models.CheckConstraint(condition=Q(state__in=State.values), name="operation_state_known"),
        ]
        indexes = [
            models.Index(fields=["lock_key", "position"], name="op_queue", condition=Q(state__in=OPEN)),
            models.Index(fields=["slot_key"], name="op_slot", condition=Q(holds_lock=True)),
            models.Index(fields=["state", "-id"], name="op_state"),
            models.Index(fields=["target", "-id"], name="op_target"),
            models.Index(fields=["parent", "state"], name="op_parent"),
            models.Index(fields=["finished_at"], name="op_finished"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.target_name or self.target}"

    @property
    def ref(self) -> str:
        """`operation/<id>`."""
        return f"operation/{self.pk}"

    @property
    def ended(self) -> bool:
        """Whether it has reached its end."""
        return self.state not in OPEN

    @property
    def shown_params(self) -> dict[str, object]:
        """Parameters for readers: secret ones are there by name only."""
        return {**self.params, **dict.fromkeys(self.secret_params or {}, "<hidden>")}


class OperationLog(models.Model):
    """One line of what an operation did."""

    operation = models.ForeignKey("operations.Operation", on_delete=models.CASCADE, related_name="lines")
    at = models.DateTimeField(auto_now_add=True)
    text = models.CharField(max_length=2000)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.text


class IdempotencyKey(models.Model):
    """A POST that was answered: the same key, method, path and body gets the same answer for 24 hours."""

    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE)
    key = models.CharField(max_length=255)
    digest = models.CharField(max_length=64, help_text="of method, path and body")
    status = models.PositiveSmallIntegerField(null=True, help_text="null while the first request is under way")
    headers = models.JSONField(default=dict)
    body = EncryptedJSONField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="idempotency_unique")]
        indexes = [models.Index(fields=["created_at"], name="idempotency_age")]

    def __str__(self) -> str:
        return self.key
