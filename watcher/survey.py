"""What a hypervisor has beside guests, its storage pools and networks, looked at by a thread of its own: never in the way of events.

At each new life of the link, every half minute, and when somebody asks. What the hypervisor tells of a pool or a network is looked at
at once, and that alone; of volumes nobody tells. Our own operations write down what they did themselves, so
that only what others do shows late. Nothing is written while nothing changed. What a hypervisor lacks is not asked for: the thread
ends where it has neither, and is started again should that change.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import threading
import time
from typing import TYPE_CHECKING, ClassVar, Final

from django.db import Error as DatabaseProblem
from django.utils import timezone

from core.errors import Missing
from core.threads import LongThread
from drivers.answers import makes_sense
from drivers.errors import Busy, DriverError, NotFound, Timeout, Unreachable, Unsupported, WrongState
from drivers.types import Feature, Holding
from hosts.inventory import interfaces_observe
from networks.inventory import filters_observe, networks_observe
from storage.inventory import pools_observe, volumes_observe
from watcher.rounds import backoff, renew, rest

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import TypeVar

    from drivers.base import Session
    from drivers.pool import SessionPool
    from drivers.types import HoldingEvent, LeaseInfo
    from watcher.hypervisor import HypervisorWatcher

    T = TypeVar("T")

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 1.0
PERIOD_SECONDS: Final = 30.0
SLOT_SECONDS: Final = 5.0


class Survey:
    """Looks at what one watcher's hypervisor has, whenever its link is up."""

    features: ClassVar[frozenset[Feature]] = frozenset({Feature.STORAGE_POOLS, Feature.NETWORKS})
    """One of them must be there."""
    word: ClassVar[str] = "survey"
    """In its thread's name."""

    def __init__(self, watcher: HypervisorWatcher, *, pool: SessionPool) -> None:
        self._watcher = watcher
        self._pool = pool
        self._hypervisor = watcher.hypervisor
        self._thread = self._new_thread()
        self._wake = threading.Event()
        self._life = 0
        self._due = 0.0
        self._failures = 0
        self._told = ""
        self._news: queue.SimpleQueue[HoldingEvent] = queue.SimpleQueue()
        self._named: dict[Holding, set[str]] | None = None
        """What this look is for; None: for all there is."""

    def _new_thread(self) -> LongThread:
        name = f"vmm-{self.word}-{self._hypervisor.driver}-{str(self._hypervisor.pk)[-6:]}"
        return LongThread(name, self._run, fatal=False)

    # -- for the service -----------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def revive(self) -> None:
        """Begin anew, where it has ended and there is something to look at by now."""
        if not self._thread.alive and not self._thread.stopping.is_set() and self._watcher.offers & self.features:
            self._thread = self._new_thread()
            self._thread.start()

    def look(self) -> None:
        """Somebody wants to know now."""
        self._due = 0.0
        self._wake.set()

    def hear(self, event: HoldingEvent) -> None:
        """The hypervisor tells something: look at that."""
        self._news.put(event)
        self._wake.set()

    def ask_stop(self) -> None:
        """Ask it to end; returns at once."""
        self._thread.stopping.set()
        self._wake.set()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for its end; False when it hangs in a call."""
        return self._thread.stop(timeout_seconds)

    # -- the thread ----------------------------------------------------------------------------------------------------
    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()
            if stop.is_set() or not self._watcher.attached:
                continue
            if not self._watcher.offers & self.features:
                return
            if self._life != self._watcher.lives:
                self._life, self._due = self._watcher.lives, 0.0
            self._named = self._heard()
            if time.monotonic() >= self._due:
                # Before the round: who asks while it goes on is not forgotten.
                self._due, self._named = time.monotonic() + self._period(), None
            elif not self._named:
                continue
            if not self._round():
                return
            rest()

    def _heard(self) -> dict[Holding, set[str]]:
        """All that was told since it was asked last: a flood folds by itself while a look goes on."""
        named: dict[Holding, set[str]] = {}
        with contextlib.suppress(queue.Empty):
            while True:
                event = self._news.get_nowait()
                named.setdefault(event.kind, set()).add(event.name)
        return named

    def _round(self) -> bool:
        """One look. Nothing that goes wrong leaves it; False when there is nobody to look at any more."""
        try:
            self._look()
        except Missing:
            return False
        except DatabaseProblem:
            log.exception("the database failed, trying again", extra=self._extra())
            renew()
            self._stumble("")
        except (Unreachable, Timeout, Busy) as error:
            # The watcher's own link says whether the host is gone; a busy or hung reading is only a gap.
            log.debug("not surveyed: %s", error.code, extra=self._extra())
            self._stumble("")
        except Exception as error:  # drivers speak to foreign code: whatever it raises or answers is contained here
            if self._told != type(error).__name__:
                log.exception("could not look, trying again", extra=self._extra())
            self._stumble(type(error).__name__)
        else:
            self._failures, self._told = 0, ""
        return True

    def _period(self) -> float:
        """Seconds until the next look."""
        return PERIOD_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing

    def _stumble(self, told: str) -> None:
        self._failures += 1
        self._told = told or self._told
        self._due = time.monotonic() + backoff(self._failures)

    def _wanted(self) -> bool:
        return not self._thread.stopping.is_set() and self._watcher.attached

    def _look(self) -> None:
        offers, named = self._watcher.offers, self._named
        with self._pool.session(self._watcher.endpoint, channel="stats", timeout_seconds=SLOT_SECONDS) as session:
            if Feature.STORAGE_POOLS in offers and (named is None or Holding.POOL in named):
                self._pools(session, only=None if named is None else named[Holding.POOL])
            if Feature.NETWORKS in offers and (named is None or Holding.NETWORK in named) and self._wanted():
                self._networks(session, leases=named is None)
        self._watcher.heard()

    # -- storage -------------------------------------------------------------------------------------------------------
    def _pools(self, session: Session, *, only: Collection[str] | None) -> None:
        """The pools, then the volumes of each (of `only` these) that goes through this hypervisor: one that fails hides no other."""
        seen_at = timezone.now()
        try:
            pools = sensible("pools", session.pools())
        except Unsupported:
            return
        if not self._wanted():
            return
        found = pools_observe(self._hypervisor, pools, seen_at=seen_at, complete=True)
        failed: DriverError | None = None
        for row in found.rows.values():
            if not row.running or not self._wanted() or (only is not None and row.name not in only):
                continue
            seen_at = timezone.now()
            try:
                volumes = sensible("volumes", session.volumes(row.name))
                if self._wanted():
                    volumes_observe(row, volumes, seen_at=seen_at, complete=True)
            except (NotFound, WrongState, Missing):
                continue  # stopped or removed in between: the next look says so
            except Unreachable:
                raise
            except DriverError as error:
                failed = error
        if failed is not None:
            raise failed

    # -- networks ------------------------------------------------------------------------------------------------------
    def _networks(self, session: Session, *, leases: bool) -> None:
        seen_at = timezone.now()
        try:
            networks = sensible("networks", session.networks())
        except Unsupported:
            return
        given: dict[str, Sequence[LeaseInfo]] = {}
        for network in networks if leases else ():
            if network.active and network.dhcp and self._wanted():
                try:
                    given[network.name] = sensible("leases", session.leases(network.name))
                except (NotFound, WrongState, Unsupported):
                    continue
        if self._wanted():
            networks_observe(self._hypervisor, networks, given, seen_at=seen_at, complete=True)
        if leases:
            self._beside(session)

    def _beside(self, session: Session) -> None:
        """What networks are made of, where the hypervisor tells: the host's interfaces, filters."""
        with contextlib.suppress(Unsupported):
            interfaces = sensible("host_interfaces", session.host_interfaces())
            if self._wanted():
                interfaces_observe(self._hypervisor, interfaces)
        seen_at = timezone.now()
        with contextlib.suppress(Unsupported):
            filters = sensible("filters", session.filters())
            if self._wanted():
                filters_observe(self._hypervisor, filters, seen_at=seen_at, complete=True)

    def _extra(self) -> dict[str, str]:
        return {"hypervisor": str(self._hypervisor.pk), "uri": self._hypervisor.uri}


def sensible(verb: str, answer: T) -> T:
    """The answer, if it can be one: a driver that answers nonsense must not be taken for an empty host. Raises TypeError."""
    if not makes_sense(verb, answer):
        raise TypeError(f"The driver's answer to {verb} makes no sense: {type(answer).__name__}.")
    return answer
