"""Which watcher process follows which hypervisor: a lease on the row, taken by a conditional UPDATE.

A process that dies loses its leases when they run out, at once if it died on the machine of whoever looks. Two processes that
follow one hypervisor for a moment do no harm: the inventory refuses old news. Several processes share evenly: each takes no
more than its part, counting who has been heard of lately.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
from typing import TYPE_CHECKING

from django.db.models import Q
from django.utils import timezone

from core.memory import keep, recall
from hosts.choices import LinkState
from hosts.inventory import hypervisor_observe_link
from hosts.models import Hypervisor
from operations.process import identity, is_dead_here

if TYPE_CHECKING:
    import uuid

log = logging.getLogger(__name__)

LEASE = dt.timedelta(seconds=15)
RENEW_SECONDS = 5.0
_ROLL = "watcher.processes"


def hold(*, alone: bool, me: str | None = None) -> list[Hypervisor]:
    """Renew what is ours, take what is free, give away what is too much; the rows that are ours now, with their hosts.

    Args:
        alone: There is no other watcher process (everything runs in one): take all, from whomever.
        me: Our name in the rows; this process's identity when left out.
    """
    me = me or identity()
    now = timezone.now()
    if alone:
        for row in Hypervisor.objects.exclude(watcher=me):
            # Before it is ours, so that nobody takes what the last process knew of it for what this one has seen.
            hypervisor_observe_link(row, LinkState.CONNECTING)
        Hypervisor.objects.update(watcher=me, watcher_lease_until=now + LEASE)
        return list(Hypervisor.objects.select_related("host").order_by("pk"))
    Hypervisor.objects.filter(watcher=me).update(watcher_lease_until=now + LEASE)
    holders = dict(Hypervisor.objects.order_by("pk").values_list("pk", "watcher"))
    part = math.ceil(len(holders) / len(_roll_call(me, now) | _holding(now)))
    mine = [pk for pk, holder in holders.items() if holder == me]
    if len(mine) > part:
        release(mine[part:], me=me)
    elif len(mine) < part:
        _take(holders, part - len(mine), me, now)
    return list(Hypervisor.objects.filter(watcher=me).select_related("host").order_by("pk"))


def _take(holders: dict[uuid.UUID, str], most: int, me: str, now: dt.datetime) -> None:
    dead = {name for name in set(holders.values()) - {"", me} if _dead(name)}
    free = Q(watcher="") | Q(watcher__in=dead) | Q(watcher_lease_until=None) | Q(watcher_lease_until__lt=now)
    for pk in Hypervisor.objects.filter(free).exclude(watcher=me).order_by("pk").values_list("pk", flat=True)[:most]:
        Hypervisor.objects.filter(free, pk=pk).update(watcher=me, watcher_lease_until=now + LEASE)


def _dead(name: str) -> bool:
    try:
        return is_dead_here(name)
    except ValueError:  # not a name of ours: only its lease can tell
        return False


def _roll_call(me: str, now: dt.datetime) -> set[str]:
    """The watcher processes heard of within the last lease. Two that write at once may overlook each other, once."""
    roll: dict[str, float] = recall(_ROLL) or {}
    at = now.timestamp()
    roll = {name: seen for name, seen in roll.items() if at - seen < LEASE.total_seconds()} | {me: at}
    keep(_ROLL, roll, seconds=60)
    return set(roll)


def _holding(now: dt.datetime) -> set[str]:
    """Who holds something, by the rows: while the cache is away nobody else is heard of, and all would be ours to take."""
    held = Hypervisor.objects.filter(watcher_lease_until__gt=now).exclude(watcher="")
    return {name for name in held.values_list("watcher", flat=True).distinct().order_by() if not _dead(name)}


def release(pks: list[uuid.UUID], *, me: str | None = None) -> None:
    """Give these away at once."""
    Hypervisor.objects.filter(pk__in=pks, watcher=me or identity()).update(watcher="", watcher_lease_until=None)


def leave(*, me: str | None = None) -> None:
    """This process ends: everything it holds is free at once."""
    me = me or identity()
    Hypervisor.objects.filter(watcher=me).update(watcher="", watcher_lease_until=None)
    roll: dict[str, float] = recall(_ROLL) or {}
    if roll.pop(me, None) is not None:
        keep(_ROLL, roll, seconds=60)
