"""`manage.py beat`: rings the periodic tasks, as a process of its own (production)."""

from __future__ import annotations

from typing import Any

from vmmanager.management.role import RoleCommand
from vmmanager.roles import running, wait_for_signal


class Command(RoleCommand):
    help = "Run the role beat: rings the periodic tasks."

    def run(self, **options: Any) -> None:
        with running(beat=True):
            wait_for_signal()
