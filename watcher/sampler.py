"""One hypervisor, measured by a thread of its own over a connection of its own: a hung reading is nobody else's problem.

Every `VMM_SAMPLE_SECONDS`, and each second or two while somebody looks: one bulk call for all running guests, one for the host, one
transaction. It never stacks up: the next round begins when the last has ended. The same thread carries the safety net, a full
sweep each minute, so that the watcher's own thread stays free for events.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import Error as DatabaseProblem
from django.utils import timezone

from core.errors import Missing
from core.threads import LongThread
from drivers.errors import Busy, DriverError, Timeout, Unreachable
from events import bell
from hosts.choices import LinkState
from hosts.inventory import host_load_observe
from hosts.models import Hypervisor
from metrics import store
from metrics.rates import Values, guest_values, host_values
from vms.models import VM
from watcher.rounds import backoff, renew, rest
from watcher.sweep import sweep

if TYPE_CHECKING:
    import threading
    import uuid

    from drivers.pool import SessionPool
    from drivers.types import GuestStats, HostStats
    from watcher.hypervisor import HypervisorWatcher

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
SWEEP_SECONDS = 60.0
SLOT_SECONDS = 5.0
MESSAGE_SAMPLES = 500


class Sampler:
    """Measures what one watcher follows, whenever its link is up."""

    def __init__(self, watcher: HypervisorWatcher, *, pool: SessionPool) -> None:
        self._watcher = watcher
        self._pool = pool
        self._hypervisor = watcher.hypervisor
        name = f"vmm-sample-{watcher.hypervisor.driver}-{str(watcher.hypervisor.pk)[-6:]}"
        self._thread = LongThread(name, self._run, fatal=False)
        self._guests: dict[str, GuestStats] = {}
        self._host: HostStats | None = None
        self._subjects: dict[str, tuple[uuid.UUID, str]] = {}
        self._failures = 0
        self._took = 0.0
        self._sampled_at = 0.0
        self._retry_at = 0.0
        self._sweep_at = 0.0
        self._was_attached = False
        self._call_since: float | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def ask_stop(self) -> None:
        """Ask it to end; returns at once."""
        self._thread.stopping.set()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for its end; False when it hangs in a call."""
        return self._thread.stop(timeout_seconds)

    def waiting_seconds(self) -> float:
        """For how long a reading has been under way."""
        since = self._call_since
        return 0.0 if since is None else time.monotonic() - since

    # -- the thread ----------------------------------------------------------------------------------------------------
    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(TICK_SECONDS):
            if not self._watcher.attached:
                self._pause()
                continue
            if not self._was_attached:
                self._begin()
            self._call_since = time.monotonic()
            try:
                self._tick(self._call_since)
            except Missing:
                return
            except DatabaseProblem:
                log.exception("the database failed, trying again", extra=self._extra())
                renew()
                self._stumble()
            except (Unreachable, Timeout, Busy) as error:
                # The watcher's own link says whether the host is gone; a busy or hung reading is only a gap.
                log.debug("not measured: %s", error.code, extra=self._extra())
                self._stumble()
            except Exception:  # drivers speak to foreign code: whatever it raises or answers is contained here
                if not self._failures:
                    log.exception("could not measure, trying again", extra=self._extra())
                self._stumble()
            finally:
                self._call_since = None

    def _begin(self) -> None:
        now = time.monotonic()
        self._was_attached, self._sampled_at = True, 0.0
        self._sweep_at = now + self._sweep_pause()

    def _pause(self) -> None:
        """The link is down: what was measured before it came back has nothing to do with what comes after."""
        if self._was_attached:
            self._was_attached = False
            self._guests, self._host, self._failures = {}, None, 0

    def _stumble(self) -> None:
        self._failures += 1
        self._retry_at = time.monotonic() + backoff(self._failures)

    def _tick(self, now: float) -> None:
        if now >= self._sweep_at:
            self._sweep_at = now + self._sweep_pause()
            self._sweep()
            rest()
        if now >= self._retry_at and now - self._sampled_at >= self._period() - TICK_SECONDS / 2:
            self._sampled_at = now
            self._sample()
            self._took = time.monotonic() - now
            if self._failures:
                log.info("measured again", extra=self._extra())
            self._failures = 0
            rest()

    def _period(self) -> float:
        """Steady, and each second while somebody looks, but then measuring at most half of the time."""
        steady: float = settings.ENV.sample_seconds
        return min(steady, max(TICK_SECONDS, 2 * self._took)) if self._watched() else steady

    def _watched(self) -> bool:
        looked = store.looked_at()
        if not looked:
            return False
        if f"host/{self._hypervisor.host_id}" in looked:
            return True
        return any(f"vm/{pk}" in looked for pk, _ in self._subjects.values())

    def _sweep_pause(self) -> float:
        return SWEEP_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing

    def _sweep(self) -> None:
        try:
            with self._pool.session(self._watcher.endpoint, channel="stats", timeout_seconds=SLOT_SECONDS) as session:
                sweep(session, self._hypervisor, still_wanted=self._still_wanted)
        except (Unreachable, Timeout, Busy):
            raise
        except DriverError as error:
            self._watcher.trouble(error)
        except TypeError as error:
            self._watcher.trouble(DriverError(f"The hypervisor's answer makes no sense: {error}"))
        else:
            self._watcher.heard()

    def _still_wanted(self) -> bool:
        return not self._thread.stopping.is_set() and self._watcher.attached

    # -- one round -----------------------------------------------------------------------------------------------------
    def _sample(self) -> None:
        with self._pool.session(self._watcher.endpoint, channel="stats", timeout_seconds=SLOT_SECONDS) as session:
            host = session.host_stats()
            self._watcher.heard()
            guests = {stats.uuid.lower(): stats for stats in session.stats()}
        self._watcher.heard()
        if not self._still_wanted():
            return
        at = timezone.now()
        at = at.replace(microsecond=at.microsecond // 1000 * 1000)
        self._learn(guests)
        measured = [
            (f"vm/{subject[0]}", subject, guest_values(self._guests.get(uuid), stats))
            for uuid, stats in guests.items()
            if (subject := self._subjects.get(uuid)) is not None
        ]
        stopped = [self._subjects[uuid][0] for uuid in self._guests if uuid not in guests and uuid in self._subjects]
        if self._leads():
            row = self._hypervisor.host
            measured.append((f"host/{row.pk}", (row.pk, row.name), host_values(self._host, host)))
        host_load_observe(self._hypervisor, host)
        self._guests, self._host = guests, host
        store.append([store.NewSample(subject=pk, at=at, values=values) for _, (pk, _), values in measured])
        store.forget_latest(stopped)
        _broadcast(measured, at)

    def _learn(self, guests: dict[str, GuestStats]) -> None:
        """Find the rows of guests that we have not met. A row stays its guest's for ever, so once is enough."""
        unknown = [uuid for uuid in guests if uuid not in self._subjects]
        for start in range(0, len(unknown), 500):
            rows = VM.objects.filter(hypervisor_id=self._hypervisor.pk, uuid__in=unknown[start : start + 500])
            self._subjects |= {uuid: (pk, name) for uuid, pk, name in rows.values_list("uuid", "pk", "name")}

    def _leads(self) -> bool:
        """Whether the host's load is ours to tell: several hypervisors of one machine would tell it twice."""
        first = (
            Hypervisor.objects.filter(host_id=self._hypervisor.host_id, state=LinkState.ONLINE)
            .order_by("pk")
            .values_list("pk", flat=True)
            .first()
        )
        return first == self._hypervisor.pk

    def _extra(self) -> dict[str, str]:
        return {"hypervisor": str(self._hypervisor.pk), "uri": self._hypervisor.uri}


def _broadcast(measured: list[tuple[str, tuple[uuid.UUID, str], Values]], at: dt.datetime) -> None:
    said = at.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    samples: list[dict[str, Any]] = [
        {"type": "metrics.sample", "object": object_, "object_name": name, "at": said, "data": asdict(values)}
        for object_, (_, name), values in measured
    ]
    for start in range(0, len(samples), MESSAGE_SAMPLES):
        bell.broadcast_samples(samples[start : start + MESSAGE_SAMPLES])
