"""The role *watcher*: keeps a watcher, a sampler, a survey and address rounds going for each hypervisor that this process owns.

Its own thread only keeps the books: it looks at the table when the event log says that a host was added, changed or removed, and
every 5 s. It never speaks to a hypervisor, and never waits for a thread that does.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import Error as DatabaseProblem

from core.errors import VmmError
from core.threads import LongThread
from drivers.pool import the_pool
from events import bell
from events.log import last_seq
from events.models import Event
from vms.models import VM
from watcher import lease
from watcher.addresses import AddressRounds
from watcher.hypervisor import HypervisorWatcher
from watcher.rounds import renew, rest
from watcher.sampler import Sampler
from watcher.survey import Survey

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Sequence

    from drivers.pool import SessionPool
    from hosts.models import Hypervisor

log = logging.getLogger(__name__)

NEWS = (
    "audit.host_added",
    "audit.hypervisor_changed",
    "audit.host_removed",
    "audit.hypervisor_removed",
    "audit.host_refresh",
)
LOOK_SECONDS = lease.RENEW_SECONDS
SLOW_SECONDS = 5.0
"""A measurement that takes so long: the other channel is asked whether it answers. Drivers with a keepalive know sooner."""
SILENT_SECONDS = 10.0
"""A call that waits for so long without any sign of life on any channel: the hypervisor does not answer."""
STOP_SECONDS = 1.2
"""For watchers that hang. With the half second until the service's own thread looks up, `stop` keeps its two."""
THROTTLE_SECONDS = 0.05
"""The least time between two looks at the log: every event of every guest rings the bell that wakes this thread."""


@dataclass(slots=True)
class _Followed:
    """One hypervisor in our care."""

    key: str
    host: uuid.UUID
    watcher: HypervisorWatcher
    sampler: Sampler
    survey: Survey
    addresses: AddressRounds
    silent: bool = False


class WatcherService:
    """Follows every hypervisor that this process owns.

    Args:
        pool: Where sessions come from; the process's own when left out.
        alone: No other watcher process exists: own all hypervisors. Default: in the embedded mode.
        me: This process's name on the leases.
    """

    def __init__(self, *, pool: SessionPool | None = None, alone: bool | None = None, me: str | None = None) -> None:
        self._pool = pool
        self._alone = settings.EMBEDDED if alone is None else alone
        self._me = me
        self._thread = LongThread("vmm-watcher", self._run)
        self._followed: dict[uuid.UUID, _Followed] = {}
        self._seq = 0
        self._asked_at = 0.0
        self._refresh: set[str] = set()
        self._failing = False

    def start(self) -> None:
        """Begin; returns at once."""
        self._pool = self._pool or the_pool()
        self._thread.start()

    def stop(self, timeout_seconds: float = 2.0) -> bool:
        """End within `timeout_seconds`, whatever hypervisors do; False when a thread had to be left behind."""
        return self._thread.stop(timeout_seconds)

    # -- the thread --------------------------------------------------------------------------------------------------
    def _run(self, stop: threading.Event) -> None:
        try:
            self._seq = last_seq()
            while not stop.is_set():
                self._look()
                rest()
                bell.wait_until(
                    lambda: stop.is_set() or self._news(), timeout_seconds=LOOK_SECONDS, recheck_seconds=0.5
                )
        finally:
            self._end()

    def _look(self) -> None:
        """Compare the table with what is followed. A database that fails is waited for; what is followed goes on."""
        try:
            rows = {row.pk: row for row in lease.hold(alone=self._alone, me=self._me)}
            for pk in list(self._followed):
                self._check(pk, rows.get(pk))
            for pk, row in rows.items():
                if pk not in self._followed:
                    self._follow(row)
            self._look_for_silence()
        except (DatabaseProblem, VmmError):  # VmmError: a secret that cannot be read
            if not self._failing:
                log.exception("the hypervisors cannot be looked up, trying again")
            self._failing = True
            renew()
        else:
            if self._failing:
                log.info("the hypervisors can be looked up again")
            self._failing = False
        refresh, self._refresh = self._refresh, set()
        for followed in self._followed.values():
            if f"host/{followed.host}" in refresh:
                followed.watcher.refresh()
                followed.survey.look()
                followed.addresses.look()

    def _check(self, pk: uuid.UUID, row: Hypervisor | None) -> None:
        followed = self._followed[pk]
        if row is not None and row.endpoint().key == followed.key and followed.watcher.alive:
            followed.survey.revive()
            followed.addresses.revive()
            return
        if row is not None and not followed.watcher.alive:
            log.error("a watcher ended by itself, starting it again", extra={"hypervisor": str(pk)})
        del self._followed[pk]
        self._ask_stop(followed)
        if self._pool is not None and (row is None or row.endpoint().key != followed.key):
            self._pool.forget(followed.watcher.endpoint)

    def _follow(self, row: Hypervisor) -> None:
        if self._pool is None:
            raise RuntimeError("start() comes first")
        watcher = HypervisorWatcher(row, pool=self._pool)
        sampler, survey = Sampler(watcher, pool=self._pool), Survey(watcher, pool=self._pool)
        addresses = AddressRounds(watcher, pool=self._pool)
        watcher.on_start, watcher.on_holding = addresses.look, survey.hear
        self._followed[row.pk] = _Followed(row.endpoint().key, row.host_id, watcher, sampler, survey, addresses)
        watcher.start()
        sampler.start()
        survey.start()
        addresses.start()

    def _look_for_silence(self) -> None:
        for followed in self._followed.values():
            if followed.sampler.waiting_seconds() > SLOW_SECONDS:
                followed.watcher.probe()
            seconds = followed.watcher.silent_seconds()
            if seconds < SILENT_SECONDS:
                followed.silent = False
            elif not followed.silent:
                followed.silent = True
                followed.watcher.declare_silent(seconds)

    def _news(self) -> bool:
        """Whether the log says something about hosts since the last look."""
        pause = self._asked_at + THROTTLE_SECONDS - time.monotonic()
        if pause > 0 and self._thread.stopping.wait(pause):
            return True
        self._asked_at = time.monotonic()
        try:
            events = list(
                Event.objects.filter(seq__gt=self._seq).order_by("seq").values_list("seq", "type", "object")[:2000]
            )
            self._nudge([seq for seq, type_, _ in events if type_ == "operation.changed"])
        except DatabaseProblem:
            renew()
            return False
        if events:
            self._seq = events[-1][0]
        self._refresh |= {object_ for _, type_, object_ in events if type_ == "audit.host_refresh"}
        return any(type_ in NEWS for _, type_, _ in events)

    def _nudge(self, seqs: Sequence[int]) -> None:
        """Where news has to be looked for, it is looked for soon while an operation goes on there, and after its end."""
        watchers = {pk: one.watcher for pk, one in self._followed.items() if one.watcher.polls}
        if not seqs or not watchers:
            return
        targets = set(Event.objects.filter(seq__in=seqs).values_list("data__target", flat=True))
        guests: dict[object, set[str]] = defaultdict(set)
        for pk, guest in VM.objects.filter(pk__in=_ids("vm", targets)).values_list("hypervisor_id", "uuid"):
            guests[pk].add(guest)
        hypervisors, hosts = _ids("hypervisor", targets), _ids("host", targets)
        for pk, watcher in watchers.items():
            if pk in guests or pk in hypervisors or self._followed[pk].host in hosts:
                watcher.nudge(guests.get(pk, ()))

    @staticmethod
    def _ask_stop(followed: _Followed) -> None:
        followed.addresses.ask_stop()
        followed.survey.ask_stop()
        followed.sampler.ask_stop()
        followed.watcher.ask_stop()

    def _end(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        for followed in self._followed.values():
            self._ask_stop(followed)
        for followed in self._followed.values():
            followed.watcher.join(max(0.0, deadline - time.monotonic()))
            followed.sampler.join(max(0.0, deadline - time.monotonic()))
            followed.survey.join(max(0.0, deadline - time.monotonic()))
            followed.addresses.join(max(0.0, deadline - time.monotonic()))
        self._followed.clear()
        try:
            lease.leave(me=self._me)
        except DatabaseProblem:
            log.warning("the leases could not be given back, they will run out")


def _ids(kind: str, references: Iterable[str | None]) -> set[uuid.UUID]:
    """The identifiers of `kind/<id>`."""
    found = set()
    for reference in references:
        head, _, tail = (reference or "").partition("/")
        if head == kind:
            with contextlib.suppress(ValueError):
                found.add(uuid.UUID(tail))
    return found
