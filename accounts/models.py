"""Users and API tokens."""

from __future__ import annotations

import hashlib
import secrets

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models.functions import Lower

from accounts.choices import Role, Scope
from core.ids import uuid7
from core.models import BaseModel

TOKEN_PREFIX = "vmm_"  # noqa: S105 - what every token begins with, so that secret scanners find a leaked one


class User(AbstractUser):
    """A person or a robot account. `role` caps what any of its sessions and tokens may do."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    role = models.CharField(max_length=20, choices=Role.choices, default=Role.VIEWER)
    version = models.PositiveIntegerField(default=1, help_text="bumped when role or activity change; the ETag")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="user_role_known"),
            # `Admin` beside `admin` would only serve to be taken for the other.
            models.UniqueConstraint(Lower("username"), name="user_name_unique"),
        ]

    @property
    def scope(self) -> Scope:
        """The widest scope that this user has."""
        return Role(self.role).scope


class ApiToken(BaseModel):
    """A bearer token for programs: kept as a hash, shown once.

    A token is 256 random bits, so a plain SHA-256 is enough (no salt, no stretching: there is nothing to guess), and the
    lookup is one indexed read.
    """

    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=100)
    scope = models.CharField(max_length=10, choices=Scope.choices)
    digest = models.CharField(max_length=64, unique=True)
    hint = models.CharField(max_length=12, help_text="the first characters, to tell tokens apart")
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [models.CheckConstraint(condition=models.Q(scope__in=Scope.values), name="token_scope_known")]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"

    @staticmethod
    def digest_of(secret: str) -> str:
        """What is kept of a token."""
        return hashlib.sha256(secret.encode()).hexdigest()

    @staticmethod
    def new_secret() -> str:
        """A fresh token: `vmm_` and 43 URL-safe characters."""
        return TOKEN_PREFIX + secrets.token_urlsafe(32)
