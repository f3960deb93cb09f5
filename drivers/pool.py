"""The process's live sessions: one owner for each, opened with a deadline, watched, and never waited for.

Every thread that may touch a hypervisor gets its session here. What can block for ever (opening a connection to a
frozen host, closing one, asking a library whether it lives) happens on threads that the pool can afford to lose, and
counts; no lock is held meanwhile. Threads: `pool-keeper` (time), `pool-notifier` (listeners), and disposable ones for
opens, closes and checks. Made after a fork, never before: see `the_pool`.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import random
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from drivers import registry
from drivers.errors import AuthFailed, DriverError, Timeout, Unreachable
from drivers.leases import Held, Lease, fresh
from drivers.links import CHANNELS, Attempt, Channel, Check, Link, LinkState, LinkStatus, PoolCounters, Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from drivers.base import Driver, Session
    from drivers.types import Endpoint

log = logging.getLogger(__name__)

__all__ = ["Channel", "LinkState", "LinkStatus", "PoolCounters", "SessionPool", "Timing", "the_pool"]


class SessionPool:
    """One session for each endpoint and channel, shared by all threads of the process.

    Args:
        driver_of: Finds the driver of a kind.
        timing: See `Timing`.
        clock: Monotonic seconds.
        jitter: `jitter(low, high)`: the back-off's random number.
    """

    def __init__(
        self,
        *,
        driver_of: Callable[[str], Driver] = registry.get,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._driver_of = driver_of
        self._timing = timing or Timing()
        self._clock = clock
        self._jitter = jitter
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._links: dict[tuple[str, Channel], Link] = {}
        self._ghosts: dict[tuple[str, Channel], list[Attempt]] = {}  # opens that hang since before a `forget`
        self._listeners: dict[str, list[Callable[[LinkStatus], None]]] = {}
        self._news: queue.SimpleQueue[tuple[str, LinkStatus] | None] = queue.SimpleQueue()
        self._keeper: threading.Thread | None = None
        self._notifier: threading.Thread | None = None
        self._due = float("inf")
        self._next_pulse = 0.0
        self._checks: list[Check] = []
        self._closing: dict[int, float] = {}
        self._closed = False

    # -- for everybody ---------------------------------------------------------------------------------------------
    @contextmanager
    def session(
        self, endpoint: Endpoint, *, channel: Channel = "control", timeout_seconds: float | None = None
    ) -> Iterator[Session]:
        """A session on `endpoint`, shared with other threads.

        Blocks for the first connection, at most the open deadline (10 s) or `timeout_seconds`. Each verb on it waits
        for a slot (of four; readings take turns), at most `timeout_seconds` (30 s), and then for the host. A with-block may be long and
        nested: only verbs take slots. Consoles opened in it live on after it, until they are closed or the link is
        lost: the pool holds the connection, not the block.

        Raises:
            Unreachable: At once while the host is in back-off, or when the open failed or took too long.
            Timeout: `timeout_seconds` passed before the open had its whole deadline.
            DriverError: Why the open failed, also at once while in back-off (`AuthFailed`, …).
        """
        held = self._take(endpoint, channel, timeout_seconds)
        slot_seconds = self._timing.slot_seconds if timeout_seconds is None else timeout_seconds
        yield cast("Session", Lease(held, timeout_seconds=slot_seconds))

    def listen(self, endpoint: Endpoint, callback: Callable[[LinkStatus], None]) -> Callable[[], None]:
        """Hear of every change of the control link from now on, in order, in the notifier's thread; be quick there.

        Ask `status` after this call for where it stands. Returns the call that ends it.
        """
        with self._lock:
            self._usable()
            self._listeners.setdefault(endpoint.key, []).append(callback)
            if self._notifier is None:
                self._notifier = self._spawn("pool-notifier", self._notify)

        def unsubscribe() -> None:
            with self._lock:
                callbacks = self._listeners.get(endpoint.key, [])
                if callback in callbacks:
                    callbacks.remove(callback)
                if not callbacks:
                    self._listeners.pop(endpoint.key, None)

        return unsubscribe

    def status(self, endpoint: Endpoint) -> LinkStatus:
        """How the control link stands. Never blocks."""
        with self._lock:
            link = self._links.get((endpoint.key, "control"))
            if link is None:
                return LinkStatus(state=LinkState.DOWN, error=None, since=self._clock())
            return self._status(link, self._clock())

    def ensure(self, endpoint: Endpoint, *, at_once: bool = False) -> None:
        """Keep the control link up from now on, by itself, until `forget`. Never blocks.

        Args:
            endpoint: Where.
            at_once: Try now and not at the end of the back-off, as when a person asks. An open that hangs is still
                not joined by another: asking often costs nothing.
        """
        with self._lock:
            self._usable()
            link = self._link(endpoint, "control")
            link.wanted = True
            if at_once:
                link.retry_at = 0.0
            self._look_at(0.0)

    def forget(self, endpoint: Endpoint) -> None:
        """Give up everything about an endpoint (host deleted, credentials changed): its sessions end. Never blocks."""
        orphans: list[Held] = []
        with self._lock:
            for channel in CHANNELS:
                link = self._links.pop((endpoint.key, channel), None)
                if link is None:
                    continue
                if link.attempt is not None:
                    link.hung.append(link.attempt)
                if link.hung:
                    self._ghosts[endpoint.key, channel] = link.hung
                if link.held is not None:
                    orphans.append(link.held)
                link.forgotten, link.wanted, link.attempt, link.held = True, False, None, None
                self._change(link, LinkState.DOWN, None)
        self._reap(orphans, Unreachable("This host is no longer managed."))

    def counters(self) -> PoolCounters:
        """What is under way. Never blocks."""
        with self._lock:
            now, timing, links = self._clock(), self._timing, self._links.values()
            return PoolCounters(
                up=sum(link.held is not None for link in links),
                connecting=sum(link.attempt is not None for link in links),
                hung_opens=sum(len(link.hung) for link in links) + sum(map(len, self._ghosts.values())),
                hung_closes=sum(now - since > timing.pulse_bound_seconds for since in self._closing.values()),
                hung_checks=sum(self._overdue(check, now) for check in self._checks),
            )

    def close(self) -> None:
        """End everything. Returns within 3 s, whatever the hosts do; what hangs is left to daemon threads."""
        until = time.monotonic() + self._timing.close_seconds
        with self._lock:
            if self._closed:
                return
            self._closed = True
            held = [link.held for link in self._links.values() if link.held is not None]
            for link in self._links.values():
                link.held = link.attempt = None
                link.changed.notify_all()
            self._wake.notify_all()
        threads = self._reap(held, Unreachable("This process is shutting down."))
        self._news.put(None)
        for thread in (*threads, self._keeper, self._notifier):
            if thread is not None and thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    # -- getting a session -----------------------------------------------------------------------------------------
    def _take(self, endpoint: Endpoint, channel: Channel, timeout_seconds: float | None) -> Held:
        with self._lock:
            self._usable()
            link = self._link(endpoint, channel)
            now = self._clock()
            self._expire(link, now)
            if link.held is not None:
                return link.held
            if link.attempt is None:
                if self._breaker_open(link, now) or not self._begin(link, now):
                    raise self._refusal(link, now)
            elif link.failures:
                raise self._refusal(link, now)  # half open: one tries, the others are told at once
            return self._await(link, None if timeout_seconds is None else now + timeout_seconds)

    def _await(self, link: Link, until: float | None) -> Held:
        """Wait for the open under way. The lock is held, and released while waiting."""
        attempt = link.attempt
        while attempt is not None and link.attempt is attempt and not self._closed:
            now = self._clock()
            if until is not None and now >= until:
                raise Timeout("The host is still being connected to; it has not answered yet.")
            left = attempt.started + self._timing.open_seconds - now
            if left <= 0:
                self._expire(link, now)
            else:
                link.changed.wait(left if until is None else min(left, until - now))
        if link.held is not None:
            return link.held
        if self._closed or link.forgotten:
            raise Unreachable("This host is no longer managed." if link.forgotten else "This process is shutting down.")
        raise self._refusal(link, self._clock())

    def _breaker_open(self, link: Link, now: float) -> bool:
        """Whether the host is known to be away: by this link, or by the control link that somebody keeps trying."""
        if link.failures and now < link.retry_at:
            return True
        control = self._links.get((link.endpoint.key, "control"))
        if control is None or control is link or control.held is not None or not control.failures:
            return False
        if control.wanted or now < control.retry_at:
            link.error, link.retry_at = control.error, control.retry_at
            return True
        return False

    def _refusal(self, link: Link, now: float) -> DriverError:
        error = fresh(link.error or Unreachable("There is no connection to this host."))
        error.context["retry_in_seconds"] = round(max(0.0, link.retry_at - now), 1)
        return error

    # -- opening ---------------------------------------------------------------------------------------------------
    def _begin(self, link: Link, now: float) -> bool:
        """Start an open on a thread of its own; False while one that hangs must be waited for. The lock is held."""
        if link.hung and not self._written_off(link, now):
            link.retry_at = now + self._delay(link)
            link.error = link.error or Unreachable("An earlier try to connect still hangs: the host does not answer.")
            return False
        attempt = Attempt(started=now)
        try:
            self._spawn("pool-open", self._open, link, attempt)
        except RuntimeError as error:  # no thread to be had
            self._fail(link, Unreachable(f"No connection can be opened: {error}."), now)
            return False
        link.attempt = attempt
        self._change(link, LinkState.CONNECTING, link.error)
        self._look_at(now + self._timing.open_seconds)
        return True

    def _written_off(self, link: Link, now: float) -> bool:
        """Whether the opens that hang have hung for so long that another may be tried beside them."""
        count = len(link.hung)
        return count < self._timing.most_hung and (
            now - link.hung[-1].started >= self._timing.hung_seconds * 2 ** (count - 1)
        )

    def _open(self, link: Link, attempt: Attempt) -> None:
        """Thread `pool-open`: may hang for ever in the driver."""
        held: Held | None = None
        error: DriverError | None = None
        try:
            held = self._connect(link)
        except DriverError as caught:
            error = fresh(caught)
        except Exception as caught:
            log.exception("driver raised a foreign error", extra={"verb": "open", "driver": link.endpoint.driver})
            error = DriverError(f"The driver failed in open: {type(caught).__name__}.")
        with self._lock:
            self._opened(link, attempt, held, error)
            superfluous = held is not None and link.held is not held
        if held is not None and superfluous:
            self._close(deque([held]))

    def _connect(self, link: Link) -> Held:
        session = self._driver_of(link.endpoint.driver).open(link.endpoint)
        held = Held(
            session,
            calls=self._timing.calls_on(link.channel),
            on_unreachable=lambda me, error: self._lose(link, me, error),
        )
        try:
            session.on_close(lambda reason: self._lose(link, held, Unreachable(f"The connection was lost: {reason}.")))
            alive = session.alive()
        except BaseException:
            self._close(deque([held]))
            raise
        if not alive:
            held.shut(Unreachable("The connection was lost as soon as it stood."))
        return held

    def _opened(self, link: Link, attempt: Attempt, held: Held | None, error: DriverError | None) -> None:
        """An open came back, in time or late. The lock is held."""
        now = self._clock()
        current = link.attempt is attempt
        if held is not None and held.error is not None:  # lost between open and here
            error, held = held.error, None
        if attempt in link.hung:
            link.hung.remove(attempt)
            key = (link.endpoint.key, link.channel)
            if not link.hung and self._ghosts.get(key) is link.hung:
                del self._ghosts[key]
        if self._closed or link.forgotten or link.held is not None:
            return
        if held is not None:
            link.held, link.attempt = held, None
            self._change(link, LinkState.UP, None)
            self._look_at(now)
        elif current and error is not None:
            link.attempt = None
            self._fail(link, error, now)
            self._look_at(now)

    def _expire(self, link: Link, now: float) -> None:
        """Abandon an open that is over its deadline. The lock is held."""
        attempt, seconds = link.attempt, self._timing.open_seconds
        if attempt is not None and now - attempt.started >= seconds:
            link.attempt = None
            link.hung.append(attempt)
            self._fail(link, Unreachable(f"The host did not answer within {seconds:.0f} s."), now)

    def _fail(self, link: Link, error: DriverError, now: float) -> None:
        link.failures += 1
        link.retry_at = now + self._delay(link, error)
        self._change(link, LinkState.DOWN, error)
        self._look_at(link.retry_at)

    def _delay(self, link: Link, error: DriverError | None = None) -> float:
        """Full jitter: anything up to a ceiling that doubles with each failure."""
        timing = self._timing
        first, last = timing.backoff_first_seconds, timing.backoff_last_seconds
        if isinstance(error, AuthFailed):
            first, last = last, timing.refused_last_seconds
        return self._jitter(0.0, min(last, first * 2.0 ** min(link.failures, 16)))

    # -- losing ----------------------------------------------------------------------------------------------------
    def _lose(self, link: Link, held: Held, error: DriverError) -> None:
        """A session turned out to be gone. Called from any thread, libvirt's event thread too: never blocks."""
        error = fresh(error)
        with self._lock:
            if link.held is not held:
                held.shut(error)  # not in use yet, or no longer
                return
            now = self._clock()
            link.held = None
            link.failures = 0 if now - link.since >= self._timing.stable_seconds else link.failures + 1
            link.retry_at = now + self._delay(link)
            self._change(link, LinkState.LOST, error)
            self._look_at(link.retry_at)
            siblings = self._standing(link.endpoint.key)
        self._reap([held], error)
        if siblings:
            self._check(siblings)

    def _standing(self, key: str | None = None) -> list[tuple[Link, Held]]:
        return [
            (link, link.held)
            for (owner, _), link in self._links.items()
            if link.held is not None and key in (None, owner)
        ]

    def _check(self, links: list[tuple[Link, Held]]) -> None:
        """Ask sessions whether they live, on a thread that may hang."""
        check = Check(links)
        with self._lock:
            if self._closed:
                return
            self._checks.append(check)
        self._spawn("pool-check", self._ask, check)

    def _ask(self, check: Check) -> None:
        """Thread `pool-check`."""
        for link, held in check.links:
            check.asked = (link, held, self._clock())
            try:
                alive = held.session().alive()
            except Exception:  # noqa: BLE001 - whatever a broken library raises here, the answer is no
                alive = False
            check.asked = None
            if not alive:
                self._lose(link, held, Unreachable("The connection is dead."))
        with self._lock:
            if check in self._checks:
                self._checks.remove(check)

    def _overdue(self, check: Check, now: float) -> bool:
        asked = check.asked
        return asked is not None and now - asked[2] >= self._timing.pulse_bound_seconds

    # -- closing ---------------------------------------------------------------------------------------------------
    def _reap(self, held: Iterable[Held], error: DriverError) -> list[threading.Thread]:
        """Have sessions closed, each by a thread that may hang, at most 32 at once. Does not wait."""
        work = deque(held)
        for one in work:
            one.shut(error)
        return [self._spawn("pool-reaper", self._close, work) for _ in range(min(len(work), 32))]

    def _close(self, work: deque[Held]) -> None:
        """Thread `pool-reaper` (or the opener's): holds the last reference for as long as closing takes."""
        me = threading.get_ident()
        while work:
            try:
                held = work.popleft()
            except IndexError:
                return
            session = held.take()
            if session is None:
                continue
            with self._lock:
                self._closing[me] = self._clock()
            try:
                session.close()
            except Exception:  # it is given up either way
                log.warning("closing a session failed", extra={"driver": session.endpoint.driver}, exc_info=True)
            finally:
                with self._lock:
                    self._closing.pop(me, None)

    # -- time ------------------------------------------------------------------------------------------------------
    def _keep(self) -> None:
        """Thread `pool-keeper`: deadlines, retries, pulse."""
        while True:
            with self._lock:
                if self._closed:
                    return
                now = self._clock()
                pulse = self._tick(now)
                if not pulse:
                    self._wake.wait(min(60.0, max(0.0, self._due - self._clock())))
            if pulse:
                self._check(pulse)

    def _tick(self, now: float) -> list[tuple[Link, Held]]:
        """All that is due; leaves the time of the next look in `_due`, returns whom to ask. The lock is held."""
        self._due = float("inf")
        opening = sum(link.attempt is not None for link in self._links.values())
        for link in list(self._links.values()):
            self._expire(link, now)
            if link.wanted and link.held is None and link.attempt is None:
                if now < link.retry_at:
                    self._look_at(link.retry_at)
                elif opening < self._timing.parallel_opens:
                    opening += self._begin(link, now)
                    self._look_at(link.retry_at if link.attempt is None else now + self._timing.open_seconds)
            elif link.attempt is not None:
                self._look_at(link.attempt.started + self._timing.open_seconds)
        return self._pulse(now)

    def _pulse(self, now: float) -> list[tuple[Link, Held]]:
        for check in [check for check in self._checks if self._overdue(check, now)]:
            self._checks.remove(check)  # its thread is lost; the links behind it are asked in the next round
            if check.asked is not None:
                link, held, _ = check.asked
                error = Unreachable("The hypervisor's library does not answer.")
                self._spawn("pool-lose", self._lose, link, held, error)
        standing = self._standing()
        if not standing:
            return []
        if now < self._next_pulse or self._checks:
            self._look_at(
                max(self._next_pulse, now + self._timing.pulse_seconds / 4) if self._checks else self._next_pulse
            )
            return []
        self._next_pulse = now + self._timing.pulse_seconds
        return standing

    def _look_at(self, when: float) -> None:
        """Have the keeper look no later than `when`. The lock is held."""
        if self._closed:
            return
        if self._keeper is None:
            self._keeper = self._spawn("pool-keeper", self._keep)
        if when < self._due:
            self._due = when
            self._wake.notify()

    # -- small things ----------------------------------------------------------------------------------------------
    def _notify(self) -> None:
        """Thread `pool-notifier`: one thread, so that changes are heard in order."""
        while (news := self._news.get()) is not None:
            key, status = news
            with self._lock:
                callbacks = list(self._listeners.get(key, ()))
            for callback in callbacks:
                try:
                    callback(status)
                except Exception:
                    log.exception("a listener of a link failed")

    def _change(self, link: Link, state: LinkState, error: DriverError | None) -> None:
        """The lock is held."""
        now = self._clock()
        link.state, link.error, link.since = state, error, now
        link.changed.notify_all()
        if link.channel == "control" and link.endpoint.key in self._listeners:
            self._news.put((link.endpoint.key, self._status(link, now)))

    def _status(self, link: Link, now: float) -> LinkStatus:
        planned = (
            link.held is None and link.attempt is None and not link.forgotten and bool(link.wanted or link.failures)
        )
        return LinkStatus(
            state=link.state,
            error=link.error,
            since=link.since,
            retry_in_seconds=max(0.0, link.retry_at - now) if planned else None,
        )

    def _link(self, endpoint: Endpoint, channel: Channel) -> Link:
        key = (endpoint.key, channel)
        link = self._links.get(key)
        if link is None:
            link = self._links[key] = Link(endpoint, channel, threading.Condition(self._lock), self._clock())
            link.hung = self._ghosts.pop(key, link.hung)  # the same list: the old link's opens leave it when they end
        return link

    def _usable(self) -> None:
        if self._pid != os.getpid():
            raise RuntimeError("A session pool does not survive a fork: ask the_pool() for this process's own.")
        if self._closed:
            raise Unreachable("This process is shutting down.")

    def _spawn(self, name: str, target: Callable[..., None], *args: object) -> threading.Thread:
        # Bare daemon threads, not core.threads' long ones: they may be lost, and drivers know nothing above them.
        thread = threading.Thread(target=target, args=args, name=name, daemon=True)
        thread.start()
        return thread


_pools: dict[int, SessionPool] = {}
"""By process id. A parent's pool stays in its child's dictionary: dropping it would close the parent's sockets."""
_pools_lock = threading.Lock()


def the_pool() -> SessionPool:
    """This process's pool, made at the first call."""
    pool = _pools.get(os.getpid())
    if pool is None:
        with _pools_lock:
            pool = _pools.get(os.getpid())
            if pool is None:
                pool = _pools[os.getpid()] = SessionPool()
                atexit.register(pool.close)
    return pool


def _after_fork() -> None:
    global _pools_lock  # noqa: PLW0603 - a lock that another thread held at the fork would stay locked for ever
    _pools_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
