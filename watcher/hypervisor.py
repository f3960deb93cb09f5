"""One hypervisor, followed by a thread of its own: from the library's event to the row, with nothing in between but a queue.

A life of the link: the pool says *up* → subscribe first, then read what the machine is and sweep the full list, then let the
queued events through. All that waits is taken at once and folded by guest, and each named guest is read once: a flood folds
by itself while a reading is under way, and there is no timer in the way of a single event. When the link is lost the last
known state stands, and the next *up* begins a new life: nothing is sent for what happened meanwhile.

A hypervisor that tells no news is looked at by the same thread, whenever `drivers.polling` says that it is due; what a look finds
goes the way of events.

Whatever a driver raises or answers ends here: this hypervisor's link is then in error and tried again with back-off. No lock is
shared with other hypervisors.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import logging
import queue
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import Error as DatabaseProblem
from django.utils import timezone

from core.errors import Missing
from core.threads import LongThread
from drivers import registry
from drivers.errors import AlreadyExists, DriverError, Timeout, Unreachable, Unsupported
from drivers.polling import Poller, no_news
from drivers.pool import LinkState as PoolState
from drivers.pool import LinkStatus
from drivers.types import Feature, GuestEvent, GuestRef, HoldingEvent, Support
from hosts.choices import LinkState
from hosts.inventory import host_observe, hypervisor_observe_link, link_state
from vms.autostart.services import host_came_up
from watcher.rounds import backoff, renew, rest
from watcher.sweep import listing, read_named, read_snapshots, sweep, sweep_snapshots

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from drivers.base import Session
    from drivers.pool import SessionPool
    from hosts.models import Hypervisor

log = logging.getLogger(__name__)

CALL_SECONDS = 30.0
"""How long a reading waits for a free slot of the link."""
LISTING_SECONDS = 30.0
"""What a full listing of thousands of guests over a network may take without anybody getting worried."""
TWIN_RETRY_SECONDS = 60.0
QUIET_SECONDS = 60.0
"""The longest a watcher waits without looking at itself."""


class Order(enum.Enum):
    """What others ask of a watcher."""

    WAKE = "wake"
    REFRESH = "refresh"
    PROBE = "probe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nudge:
    """These guests (identifiers) are worked on."""

    guests: frozenset[str]


News = GuestEvent | HoldingEvent | LinkStatus | Order | Nudge | DriverError
"""What comes into a watcher's inbox."""


class HypervisorWatcher:
    """Follows one hypervisor until it is stopped.

    Args:
        hypervisor: The row; its endpoint must not change while it is followed (then a new watcher is made).
        pool: Where sessions come from.

    Attributes:
        attached: Subscribed and swept on the link as it stands now: the rows are true.
        lives: How often that has come about.
        offers: What it can do, as it last said.
        on_start: Called in its thread when guests were heard to have started; must return at once.
        on_holding: Called in its thread with what is told of a pool or a network; must return at once.
    """

    def __init__(self, hypervisor: Hypervisor, *, pool: SessionPool) -> None:
        self.hypervisor = hypervisor
        self.endpoint = hypervisor.endpoint()
        self.attached = False
        self.lives = 0
        self.offers: frozenset[Feature] = frozenset()
        self.on_start: Callable[[], None] = lambda: None
        self.on_holding: Callable[[HoldingEvent], None] = lambda _event: None
        self._pool = pool
        self._inbox: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._thread = LongThread(f"vmm-watch-{hypervisor.driver}-{str(hypervisor.pk)[-6:]}", self._run, fatal=False)
        self._up_since: float | None = None
        self._subscribed_since: float | None = None
        self._attach_at = 0.0
        self._failures = 0
        self._wanted: tuple[LinkState, DriverError | None] = (LinkState.CONNECTING, None)
        self._told: tuple[LinkState, DriverError | None] | None = None
        self._call_since: float | None = None
        self._listing = False
        self._poller: Poller | None = None
        self._told_delay: float | None = None
        self._heard_at = time.monotonic()
        self._removed = False

    # -- for the service ---------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether its thread still runs."""
        return self._thread.alive

    @property
    def removed(self) -> bool:
        """Its row is gone: there is nothing to follow."""
        return self._removed

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end: what comes late from a hypervisor is not written any more."""
        return self._thread.stopping.is_set()

    @property
    def polls(self) -> bool:
        """Whether news of this hypervisor has to be looked for: it tells none."""
        return self._poller is not None

    def ask_stop(self) -> None:
        """Ask it to end; returns at once."""
        self._thread.stopping.set()
        self._inbox.put(Order.WAKE)

    def join(self, timeout_seconds: float) -> bool:
        """Wait for its end; False when it hangs in a call, which cannot be helped (a daemon thread)."""
        return self._thread.stop(timeout_seconds)

    def refresh(self) -> None:
        """Somebody wants a full listing now, and a new attempt where the link is down."""
        self._inbox.put(Order.REFRESH)

    def nudge(self, guests: Iterable[str] = ()) -> None:
        """Somebody works on these guests of it: look soon, where news has to be looked for."""
        if self._poller is not None:
            self._inbox.put(Nudge(guests=frozenset(guests)))

    def probe(self) -> None:
        """Another channel waits for long: find out whether this one answers. Asking again while it is asked does nothing."""
        if self._call_since is None:
            self._inbox.put(Order.PROBE)

    def heard(self) -> None:
        """A call to this hypervisor has just returned, on whatever channel."""
        self._heard_at = time.monotonic()

    def trouble(self, error: DriverError) -> None:
        """The sampler met something that concerns the whole hypervisor."""
        self._inbox.put(error)

    def silent_seconds(self) -> float:
        """For how long a call has been waiting without any sign of life from the hypervisor; 0 when none waits.

        A full listing is one long call, and nothing else is asked meanwhile: it is given more time.
        """
        since = self._call_since
        if since is None:
            return 0.0
        silent = time.monotonic() - max(since, self._heard_at)
        return silent if self.attached and not self._listing else max(0.0, silent - LISTING_SECONDS)

    def declare_silent(self, seconds: float) -> None:
        """Say in its place, while its thread hangs in a call, that the hypervisor does not answer."""
        error = Timeout(f"The hypervisor has not answered for {seconds:.0f} s.")
        if hypervisor_observe_link(self.hypervisor, LinkState.OFFLINE, error):
            log.warning("hypervisor does not answer", extra=self._extra())
        self._told = None  # whatever came or comes of the call is told anew
        self._inbox.put(Order.WAKE)

    # -- the thread --------------------------------------------------------------------------------------------------
    def _run(self, stop: threading.Event) -> None:
        unsubscribe = self._pool.listen(self.endpoint, self._inbox.put)
        try:
            self._pool.ensure(self.endpoint)
            self._inbox.put(self._pool.status(self.endpoint))
            while not stop.is_set() and not self._removed:
                batch = self._take()
                if not stop.is_set():
                    self._round(batch)
                rest()
        except Unreachable:  # the pool is closed: this process ends
            log.debug("no pool any more", extra=self._extra())
        finally:
            self.attached = False
            unsubscribe()

    def _take(self) -> list[News]:
        """All that waits; blocks until there is something or something is due."""
        batch: list[News] = []
        try:
            batch.append(self._inbox.get(timeout=self._patience()))
            while True:
                batch.append(self._inbox.get_nowait())
        except queue.Empty:
            return batch

    def _patience(self) -> float:
        due = [time.monotonic() + QUIET_SECONDS]
        if self._up_since is not None and not self.attached:
            due.append(self._attach_at)
        if self._poller is not None and self.attached:
            due.append(time.monotonic() + self._poller.due_seconds())
        if self._told != self._wanted:
            due.append(time.monotonic() + 1.0)
        return max(0.0, min(due) - time.monotonic())

    def _round(self, batch: Sequence[News]) -> None:
        """One batch. Nothing that goes wrong leaves it."""
        try:
            events = self._sort(batch)
            self._tell()
            if self.attached:
                self._serve(events, probed=Order.PROBE in batch)
            elif self._up_since is not None and time.monotonic() >= self._attach_at:
                self._attach()
        except Missing:
            self._removed = True
        except DatabaseProblem:
            log.exception("the database failed, trying again", extra=self._extra())
            renew()
            self._retry_later()
        except DriverError as error:
            self._stumble(error)
        except Exception as error:  # noqa: BLE001 - drivers speak to foreign code: whatever it raises or answers is contained here
            self._stumble(DriverError(f"The hypervisor's answer makes no sense: {type(error).__name__}."), cause=error)
        with contextlib.suppress(DatabaseProblem):
            self._tell()

    def _serve(self, events: Sequence[GuestEvent], *, probed: bool) -> None:
        """What is to be done while the link stands."""
        if events:
            self._follow(events)
        elif probed:
            with self._session() as session:
                session.host_stats()
        if self._poller is not None and not self._poller.due_seconds():
            self._look(self._poller)

    def _sort(self, batch: Sequence[News]) -> list[GuestEvent]:
        for item in batch:
            match item:
                case HoldingEvent():
                    self.on_holding(item)
                case LinkStatus():
                    self._link(item)
                case DriverError():
                    if self.attached:
                        self._stumble(item)
                case Order.REFRESH:
                    self._refresh()
                case Nudge():
                    if self._poller is not None:
                        self._poller.nudge(item.guests)
        return [item for item in batch if isinstance(item, GuestEvent)]

    def _refresh(self) -> None:
        self._attach_at = 0.0
        self.attached = False
        if self._up_since is None:
            # The pool waits in its back-off: forgetting the link is how it tries at once.
            self._pool.forget(self.endpoint)
            self._pool.ensure(self.endpoint)

    # -- the link ----------------------------------------------------------------------------------------------------
    def _link(self, status: LinkStatus) -> None:
        if status.state is PoolState.UP:
            if status.since != self._up_since:
                self._up_since, self.attached, self._attach_at = status.since, False, 0.0
            return
        self._up_since, self.attached = None, False
        if status.state is PoolState.CONNECTING:
            return  # what was told last stands: why it is down, or that we are connecting
        error = status.error
        if error is None:
            if status.state is PoolState.DOWN:
                return  # not tried yet
            error = Unreachable("The connection was lost.")
        self._wanted = (link_state(error), error)

    def _tell(self) -> None:
        """Write down how the link stands, if that is not what was written last; log it once."""
        state, error = self._wanted
        if self._told is not None and self._told[0] == state and _like(self._told[1], error):
            return
        if hypervisor_observe_link(self.hypervisor, state, error):
            if state in (LinkState.OFFLINE, LinkState.ERROR):
                log.warning("hypervisor is %s: %s", state, error.detail if error else "", extra=self._extra())
            elif state == LinkState.ONLINE:
                log.info("hypervisor is online", extra=self._extra())
        self._told = self._wanted = (state, error)

    def _stumble(self, error: DriverError, *, cause: BaseException | None = None) -> None:
        """A reading failed: read all anew after a while. The first failure that may pass by itself is not shown yet."""
        self._retry_later()
        if isinstance(error, AlreadyExists):
            self._attach_at = time.monotonic() + TWIN_RETRY_SECONDS
        if self._up_since is None or isinstance(error, Unreachable):
            return  # the pool knows, and says so
        if self._failures == 1 and error.retryable:
            return
        if cause is not None and (self._wanted[1] is None or self._wanted[1].detail != error.detail):
            log.error("a driver's answer could not be used", exc_info=cause, extra=self._extra())
        self._wanted = (link_state(error), error)

    def _retry_later(self) -> None:
        self.attached = False
        self._failures += 1
        self._attach_at = time.monotonic() + backoff(self._failures)

    @contextlib.contextmanager
    def _session(self) -> Iterator[Session]:
        """A control session; how long its calls wait is watched."""
        self._call_since = time.monotonic()
        try:
            with self._pool.session(self.endpoint, timeout_seconds=CALL_SECONDS) as session:
                yield session
        finally:
            self._call_since = None
            self.heard()

    def _attach(self) -> None:
        """Subscribe, then read the machine, then sweep: nothing falls in between. Then a machine that came up starts its guests."""
        up_since = self._up_since
        with self._session() as session:
            if self._subscribed_since != up_since:
                self._poller = None if _subscribe(session, self._inbox) else Poller()
                self._subscribed_since = up_since
            self._observe(session)
            if self.stopping:
                return
            poller = self._poller
            tally = sweep(
                session,
                self.hypervisor,
                still_wanted=lambda: not self.stopping,
                read=listing if poller is None else lambda session: poller.learn(lambda: listing(session)),
            )
            sweep_snapshots(session, self.hypervisor, still_wanted=lambda: not self.stopping)
            self._observe_delay(session)
        if self.stopping:
            return
        host_came_up(self.hypervisor.host_id, now=timezone.now())
        self.attached, self._failures = True, 0
        self.lives += 1
        self._wanted = (LinkState.ONLINE, None)
        log.debug("swept", extra={**self._extra(), "guests": tally.seen, "changed": tally.changed})

    def _observe(self, session: Session) -> None:
        """Read and write down what the machine is and can do; where news has to be looked for, how late it can be."""
        info = session.host_info()
        capabilities: Mapping[Feature, Support] = session.capabilities()
        self.heard()
        if self.stopping:
            return
        self._told_delay = None
        if self._poller is not None:
            self._told_delay = self._poller.slowest_seconds
            label = registry.get(self.hypervisor.driver).label
            reason = no_news(label, slowest_seconds=self._told_delay)
            capabilities = {**capabilities, Feature.EVENTS: Support(supported=False, reason=reason)}
        host_observe(self.hypervisor, info, capabilities)
        self.offers = frozenset(feature for feature, support in capabilities.items() if support.supported)

    def _observe_delay(self, session: Session) -> None:
        if self._poller is not None and self._poller.slowest_seconds != self._told_delay:
            self._observe(session)

    def _look(self, poller: Poller) -> None:
        """Compare what is there with what was; what differs is followed like news that was told."""
        with self._session() as session:
            self._listing = True
            try:
                events = poller.look(lambda: listing(session))
            finally:
                self._listing = False
            self._observe_delay(session)
        if events and not self.stopping:
            self._follow(events)

    def _follow(self, events: Sequence[GuestEvent]) -> None:
        """Read each guest that is named once, and write down what it is now."""
        refs: dict[str, GuestRef] = {}
        started: dict[str, dt.datetime] = {}
        snapped = {event.uuid for event in events if event.snapshots}
        for event in events:
            refs[event.uuid] = GuestRef(uuid=event.uuid, name=event.name)
            if event.reason.partition("/")[0] == "started":
                started[event.uuid] = timezone.now() - dt.timedelta(seconds=max(0.0, time.monotonic() - event.at))
        with self._session() as session:
            read_named(
                session,
                self.hypervisor,
                list(refs.values()),
                started=started,
                still_wanted=lambda: not self.stopping,
            )
            read_snapshots(
                session,
                self.hypervisor,
                [ref for uuid, ref in refs.items() if uuid in snapped],
                still_wanted=lambda: not self.stopping,
            )
        self._failures = 0
        if started:
            self.on_start()

    def _extra(self) -> dict[str, str]:
        return {"hypervisor": str(self.hypervisor.pk), "uri": self.hypervisor.uri}


def _like(one: DriverError | None, other: DriverError | None) -> bool:
    return one is other or (
        one is not None and other is not None and (one.code, one.detail) == (other.code, other.detail)
    )


def _subscribe(session: Session, inbox: queue.SimpleQueue[News]) -> bool:
    """News into the inbox from now on; False where the hypervisor has none (then it is looked for)."""
    try:
        session.subscribe(inbox.put)
    except Unsupported:
        return False
    return True
