"""Where guests can be reached, asked by a thread of its own for each hypervisor: an agent may take its time, and nothing waits for it.

A listing does not say addresses, and a guest that has just started has none yet. So each running guest is asked for by itself: every
few seconds while it is young and has none, every half minute while it has none, every few minutes once it has one. A round has a
budget; who was not asked in it comes first in the next.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, ClassVar, Final

from django.utils import timezone

from drivers.errors import DriverError, Unreachable, Unsupported
from drivers.types import Feature, GuestRef
from vms.addresses import reachable
from vms.choices import State
from vms.inventory import vms_addresses
from vms.models import VM
from watcher.survey import SLOT_SECONDS, Survey, sensible

if TYPE_CHECKING:
    import datetime as dt

    from drivers.base import Session
    from drivers.pool import SessionPool
    from vms.addresses import Told
    from watcher.hypervisor import HypervisorWatcher

YOUNG_SECONDS: Final = 120.0
"""So long after its start a guest is expected to get an address any moment."""
SOON_SECONDS: Final = 4.0
WITHOUT_SECONDS: Final = 30.0
WITH_SECONDS: Final = 150.0
BUDGET_SECONDS: Final = 10.0
WRITE_EVERY: Final = 50


class AddressRounds(Survey):
    """Asks for the addresses of one watcher's running guests."""

    features: ClassVar[frozenset[Feature]] = frozenset({Feature.ADDRESSES})
    word: ClassVar[str] = "addresses"

    def __init__(self, watcher: HypervisorWatcher, *, pool: SessionPool) -> None:
        super().__init__(watcher, pool=pool)
        self._when: dict[str, float] = {}
        self._starts: dict[str, dt.datetime | None] = {}
        self._next = 0.0

    def _period(self) -> float:
        return WITHOUT_SECONDS

    def _look(self) -> None:
        """One round over those whose time has come."""
        waiting = self._waiting()
        told: dict[str, Told] = {}
        if waiting:
            with self._pool.session(self._watcher.endpoint, channel="stats", timeout_seconds=SLOT_SECONDS) as session:
                until = time.monotonic() + BUDGET_SECONDS
                for ref in waiting:
                    if not self._wanted() or time.monotonic() > until:
                        break
                    self._ask(session, ref, told)
                    if len(told) >= WRITE_EVERY:
                        self._write(told)
            self._watcher.heard()
        self._write(told)
        self._due = min(self._due, self._next)

    def _waiting(self) -> list[GuestRef]:
        """Guests that run and are due, the longest overdue first. Forgets those that do not."""
        rows = VM.objects.filter(hypervisor=self._hypervisor.pk, gone_at=None, state=State.RUNNING)
        starts, names = {}, {}
        for uuid, name, started_at in rows.values_list("uuid", "name", "started_at"):
            starts[uuid], names[uuid] = started_at, name
        now = time.monotonic()
        # A guest that was started anew has another address, perhaps.
        self._when = {
            uuid: self._when[uuid] if uuid in self._when and self._starts[uuid] == started else now
            for uuid, started in starts.items()
        }
        self._starts = starts
        self._next = min(self._when.values(), default=now + WITHOUT_SECONDS)
        due = sorted((when, uuid) for uuid, when in self._when.items() if when <= now)
        return [GuestRef(uuid=uuid, name=names[uuid]) for _, uuid in due]

    def _ask(self, session: Session, ref: GuestRef, told: dict[str, Told]) -> None:
        answer: Told = {}
        try:
            answer = told[ref.uuid] = sensible("addresses", session.addresses(ref))
        except (Unreachable, Unsupported):
            raise
        except DriverError:
            pass  # it stopped in between, or is busy: its next turn comes
        self._when[ref.uuid] = time.monotonic() + self._patience(ref.uuid, answer)
        self._next = min(self._when.values())

    def _patience(self, uuid: str, answer: Told) -> float:
        """Seconds until it is asked again."""
        started = self._starts[uuid]
        known = any(reachable(one.address) for told in answer.values() if not isinstance(told, str) for one in told)
        if known:
            seconds = WITH_SECONDS
        elif started is not None and (timezone.now() - started).total_seconds() < YOUNG_SECONDS:
            seconds = SOON_SECONDS
        else:
            seconds = WITHOUT_SECONDS
        return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing

    def _write(self, told: dict[str, Told]) -> None:
        if told and self._wanted():
            vms_addresses(self._hypervisor, told)
        told.clear()
