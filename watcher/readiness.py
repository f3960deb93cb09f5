"""What `/readyz` asks about hypervisors: has every local one had its first sweep, or failed? From rows only."""

from __future__ import annotations

import time

from django.utils import timezone

from hosts import local
from hosts.choices import LinkState
from hosts.models import Hypervisor
from operations.process import is_dead_here

MOST_SECONDS = 30.0
"""A hypervisor that has neither answered nor failed after so long holds nobody up any longer."""

_started = time.monotonic()


def ready() -> tuple[bool, list[str]]:
    """Whether the local hypervisors are known, and a sentence for each that is not yet. One query.

    A watcher that takes a hypervisor over makes it `connecting`, and `online` only when it has swept it: so a row that is
    not `connecting`, under the valid lease of a process that is not known to be dead, has had its sweep or has failed.
    """
    waiting = [] if local.looked() else ["This machine's hypervisors are still being looked for."]
    now = timezone.now()
    rows = Hypervisor.objects.select_related("host").order_by("pk")
    for row in rows:
        if not local.is_local(row.uri):
            continue
        followed = bool(row.watcher) and row.watcher_lease_until is not None and row.watcher_lease_until > now
        if not followed or _dead(row.watcher):
            waiting.append(f"{row.uri} on {row.host.name} is not followed yet.")
        elif row.state == LinkState.CONNECTING:
            waiting.append(f"{row.uri} on {row.host.name} has not been listed yet.")
    return not waiting or time.monotonic() - _started > MOST_SECONDS, waiting


def _dead(name: str) -> bool:
    try:
        return is_dead_here(name)
    except ValueError:
        return False
