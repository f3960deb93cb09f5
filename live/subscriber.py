"""One listener's place in the event log: what it wants, how far it is, and a bounded queue of what it was not sent yet.

A listener is either *catching up*, reading chunks of the table at its own pace while nothing is queued for it, or *live*, fed by
the reader. It turns live in one step of the loop, at the moment when it has read as far as the reader has: so nothing is
missed, nothing comes twice, and a backlog of any length needs no memory.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from typing import TYPE_CHECKING

from django.utils import timezone

from accounts.policy import may
from events import selectors
from live import callers
from live.database import in_database_thread
from live.reader import entries_after
from live.sight import AUDIT, sees
from live.wants import Want

if TYPE_CHECKING:
    from collections.abc import Sequence

    from accounts.actor import Actor
    from live.callers import Caller
    from live.reader import Entry, EventReader, SampleEntry

QUEUE_MOST = 4000
CHUNK = 500
RENEW_SECONDS = 300.0
"""A right that ended without an audit event (a session that ran out) is noticed within this time."""


class TooSlow(Exception):
    """The queue is full: the listener does not keep up."""


class Drained(Exception):
    """The server is going down."""


class Subscriber:
    """See the module. Everything runs on the reader's loop."""

    def __init__(self, reader: EventReader, caller: Caller) -> None:
        self._reader = reader
        self._caller = caller
        self._want = Want()
        self._refs = caller.refs
        self._session = hashlib.sha256(caller.session_key.encode()).hexdigest() if caller.session_key else ""
        self._signed_out = False
        self._queue: deque[Entry | SampleEntry] = deque()
        self._begun = False
        self._live = False
        self._cursor = 0
        self._stale_right = False
        self._renew_at = asyncio.get_running_loop().time()
        self._plan_renewal()
        self.idle = False
        """Whether the last `take` came back because nothing happened for so long."""
        self.wake = asyncio.Event()
        self.overflowed = asyncio.Event()
        self.drained = asyncio.Event()
        reader.add(self)

    @property
    def user(self) -> object:
        """The key of the user who listens."""
        return self._caller.actor.user.pk if self._caller.actor.user else None

    @property
    def actor(self) -> Actor:
        """Who listens, with the rights of the last look."""
        return self._caller.actor

    @property
    def wants_samples(self) -> bool:
        """Whether samples are to be offered."""
        return self._want.samples

    def close(self) -> None:
        """Nothing more is wanted."""
        self._live = False
        self._queue.clear()
        self._reader.discard(self)

    # -- fed by the reader ---------------------------------------------------------------------------------------------
    def offer(self, entries: Sequence[Entry]) -> None:
        """Queue what is wanted of a batch. Whether the caller may see it is asked when it is taken."""
        for entry in entries:
            if entry.type.startswith(AUDIT) and entry.object in self._refs:
                self._stale_right = True
                # The event may come before the session is deleted, so the row would still be found.
                self._signed_out |= bool(self._session) and entry.ends_session == self._session
                self.wake.set()
        if not self._live:
            return
        takes, cursor = self._want.takes, self._cursor
        self._queue.extend(entry for entry in entries if entry.seq > cursor and takes(entry.type, entry.object))
        if len(self._queue) > QUEUE_MOST:
            self._live = False
            self._queue.clear()
            self.overflowed.set()
        if self._queue or self.overflowed.is_set():
            self.wake.set()

    def offer_samples(self, samples: Sequence[SampleEntry]) -> None:
        """Queue wanted samples; they are dropped for a listener that lags, since the next ones are better."""
        if len(self._queue) > QUEUE_MOST // 2:
            return
        takes = self._want.takes
        self._queue.extend(sample for sample in samples if takes(sample.type, sample.object))
        if self._queue:
            self.wake.set()

    def drain(self) -> None:
        """The server is going down."""
        self.drained.set()
        self.wake.set()

    # -- used by the socket or stream ----------------------------------------------------------------------------------
    async def subscribe(self, want: Want, after: int | None) -> tuple[bool, int]:
        """Begin, or begin anew with other wishes.

        Returns:
            Whether `after` is still kept (True where it is None), and the seq of the log's last event. If it is not kept, the
            listener goes on from there.
        """
        await self._reader.ready.wait()
        self._begun = True
        if after is None:
            last = self._reader.last
            # What was queued under the old wish stays: it comes before, and nothing that was asked for is lost.
            self._want, self._cursor, self._live = want, max(last, self._cursor), True
            return True, last
        self._live = False
        self._queue.clear()
        span = await in_database_thread(selectors.span)
        kept = span.kept_after <= after <= span.last
        self._want, self._cursor = want, after if kept else span.last
        return kept, span.last

    async def take(self, *, idle_seconds: float = RENEW_SECONDS) -> list[Entry | SampleEntry]:
        """What is next to be sent, in order; waits until there is something, `wake` is set from outside or the time is up.

        Raises:
            TooSlow, Drained: The end.
            Refused: The right to listen has ended.
        """
        await self._renew_if_due()
        if self.drained.is_set():
            raise Drained
        if self.overflowed.is_set():
            raise TooSlow
        found = self._take_queue() if self._live or not self._begun else await self._catch_up()
        if not found and (self._live or not self._begun) and not self._stale_right:
            self.wake.clear()
            if not self._queue:
                await self._wait(idle_seconds)
        return found

    def seconds_to_renewal(self) -> float:
        """Time until the right is looked at again."""
        return max(0.0, self._renew_at - asyncio.get_running_loop().time())

    async def _wait(self, seconds: float) -> None:
        self.idle = False
        try:
            async with asyncio.timeout(min(seconds, self.seconds_to_renewal())):
                await self.wake.wait()
        except TimeoutError:
            self.idle = True

    def _take_queue(self) -> list[Entry | SampleEntry]:
        actor = self._caller.actor
        taken: list[Entry | SampleEntry] = []
        while self._queue and len(taken) < CHUNK:
            entry = self._queue.popleft()
            if sees(actor, entry.type, entry.object):
                taken.append(entry.for_actor(actor))
        return taken

    async def _catch_up(self) -> list[Entry | SampleEntry]:
        reached = self._reader.last
        if self._cursor >= reached:
            self._live = True
            return []
        entries = await in_database_thread(entries_after, self._cursor, CHUNK)
        # A short chunk was all there is: rows between may have been trimmed, so the last row alone does not say how far it went.
        self._cursor = entries[-1].seq if len(entries) == CHUNK else max(reached, entries[-1].seq if entries else 0)
        actor, takes = self._caller.actor, self._want.takes
        return [
            entry.for_actor(actor)
            for entry in entries
            if takes(entry.type, entry.object) and sees(actor, entry.type, entry.object)
        ]

    # -- the right to listen -------------------------------------------------------------------------------------------
    async def _renew_if_due(self) -> None:
        if not self._stale_right and self.seconds_to_renewal() > 0:
            return
        if self._signed_out:
            raise callers.Refused(callers.BAD_TICKET, "signed out")
        self._stale_right = False
        self._caller = await in_database_thread(callers.renewed, self._caller)
        self._refs = self._caller.refs
        if not may(self._caller.actor, "view"):
            raise callers.Refused(callers.NOT_ALLOWED, "this account may not see events any more")
        self._plan_renewal()

    def _plan_renewal(self) -> None:
        wait, expiry = RENEW_SECONDS, self._caller.expires_at
        if expiry is not None:
            wait = min(wait, max(0.0, (expiry - timezone.now()).total_seconds()) + 0.01)
        self._renew_at = asyncio.get_running_loop().time() + wait
