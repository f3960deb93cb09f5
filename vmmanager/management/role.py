"""What the commands of single roles share."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class RoleCommand(BaseCommand):
    """A role that runs until SIGINT or SIGTERM. Needs PostgreSQL and Redis: in-memory ones are not shared."""

    requires_system_checks: list[str] = []

    def run(self, **options: Any) -> None:
        """The role itself; returns when it is asked to end."""
        raise CommandError("a role runs something")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check that roles can meet, then run."""
        if settings.EMBEDDED:
            raise CommandError(
                "Roles as processes need VMM_DATABASE_URL and VMM_REDIS_URL. Without them: `manage.py serve`."
            )
        self.run(**options)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
