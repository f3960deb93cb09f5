"""`manage.py worker`: carries out operations, as a process of its own (production)."""

from __future__ import annotations

from typing import Any

from vmmanager.management.role import RoleCommand
from vmmanager.roles import running, wait_for_signal


class Command(RoleCommand):
    help = "Run the role worker: carries out operations."

    def run(self, **options: Any) -> None:
        with running(worker=True):
            wait_for_signal()
