"""`manage.py serve`: everything in one process on the embedded default; what `make run` ends in."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from hosts.local import LocalHost
from vmmanager.prepare import alone, prepare
from vmmanager.roles import listen, running, serve_web


class Command(BaseCommand):
    help = "Serve everything in one process: web, worker, watcher, beat."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.EMBEDDED:
            raise CommandError(
                "VMM_DATABASE_URL is set: run `manage.py web`, `worker`, `watcher` and `beat` as processes of their own."
            )
        with alone(settings.DATA_DIR):
            listener = listen()
            made = prepare()
            scheme = "https" if settings.ENV.tls_cert else "http"
            self.stdout.write(f"vmmanager is at {settings.ENV.public_url or f'{scheme}://{settings.ENV.bind}'}")
            if made:
                self.stdout.write(f"Sign in as admin; the password is in {made}")
            self.stdout.flush()
            with running(worker=True, watcher=True, beat=True), LocalHost():
                serve_web(listener)
            sys.stdout.flush()
            sys.stderr.flush()
            # Threads that hang in a hypervisor call are daemons, but libraries' exit handlers would still wait for them.
            os._exit(0)
