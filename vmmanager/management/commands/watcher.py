"""`manage.py watcher`: follows the hypervisors, as a process of its own (production)."""

from __future__ import annotations

from typing import Any

from vmmanager.management.role import RoleCommand
from vmmanager.roles import running, wait_for_signal


class Command(RoleCommand):
    help = "Run the role watcher: follows the hypervisors."

    def run(self, **options: Any) -> None:
        with running(watcher=True):
            wait_for_signal()
