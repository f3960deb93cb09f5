"""`manage.py web`: HTTP and WebSockets, as a process of its own (production)."""

from __future__ import annotations

from typing import Any

from vmmanager.management.role import RoleCommand
from vmmanager.prepare import prepare
from vmmanager.roles import listen, running, serve_web


class Command(RoleCommand):
    help = "Run the role web: HTTP and WebSockets."

    def run(self, **options: Any) -> None:
        listener = listen()
        prepare()
        with running():
            serve_web(listener)
