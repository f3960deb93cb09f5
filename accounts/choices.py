"""Scopes of tokens and roles of users."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Scope(models.TextChoices):
    """What a token may do; each includes those before it."""

    READ = "read", _("Read")
    WRITE = "write", _("Operate guests")
    ADMIN = "admin", _("Administer")

    @property
    def rank(self) -> int:
        """0, 1, 2: the wider the higher."""
        return _RANKS[self]

    def includes(self, other: Scope) -> bool:
        """Whether this scope is at least as wide."""
        return self.rank >= other.rank


_RANKS = {scope: rank for rank, scope in enumerate(Scope)}  # asked for each action of each guest on a page


class Role(models.TextChoices):
    """What a user is."""

    VIEWER = "viewer", _("Viewer")
    OPERATOR = "operator", _("Operator")
    ADMINISTRATOR = "administrator", _("Administrator")

    @property
    def scope(self) -> Scope:
        """The widest scope that goes with the role."""
        return {Role.VIEWER: Scope.READ, Role.OPERATOR: Scope.WRITE, Role.ADMINISTRATOR: Scope.ADMIN}[self]
