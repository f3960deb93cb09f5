"""News of a hypervisor that tells none: two listings are compared, and what differs becomes the same events that others send.

Passive: no thread, no timer, no lock. One thread asks when the next look is due and lets it happen. Looks come fast for a while after
something changed, or after somebody says that something is about to; in quiet times ever slower. However slow the hypervisor is, no
more than a tenth of the time goes into looking.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from drivers.types import GuestEvent, GuestEventKind, GuestState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from drivers.types import GuestInfo

FASTEST_SECONDS = 1.0
SLOWEST_SECONDS = 10.0
LIVELY_SECONDS = 15.0
"""For how long after a change or a nudge looks come fast: what was done once is often followed by more."""
GROWTH = 1.5
REST = 9.0
"""The pause after a look is at least this many times what it took: so a tenth of the time at most is spent looking."""
FADING = 0.8
"""How a slow look is forgotten, look by look: the next may be as slow again."""

_ON = (GuestState.RUNNING, GuestState.SHUTTING_DOWN, GuestState.PMSUSPENDED)
_OFF = (GuestState.SHUTOFF, GuestState.CRASHED)


def no_news(label: str, *, slowest_seconds: float = SLOWEST_SECONDS) -> str:
    """Why there are no events, and what there is instead, as a capability's reason.

    Args:
        label: What the hypervisor is called: `OpenVZ`.
        slowest_seconds: How late news can be, as `Poller.slowest_seconds` says.
    """
    return f"{label} tells no news; changes made outside show within {FASTEST_SECONDS:.0f} to {slowest_seconds:.0f} s."


class Poller:
    """When to look at one hypervisor, and what was found. To be used by one thread.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: Mapping[str, GuestInfo] = {}
        self._doubtful: set[str] = set()
        self._took = 0.0
        self._pause = FASTEST_SECONDS
        self._looked_at = clock()
        self._lively_until = self._looked_at + LIVELY_SECONDS

    def due_seconds(self) -> float:
        """In how many seconds the next look is due; 0 when it is now."""
        return max(0.0, self._looked_at + max(self._pause, REST * self._took) - self._clock())

    @property
    def slowest_seconds(self) -> float:
        """How late news can be at worst: in whole tens, so that it does not change with every look."""
        return max(SLOWEST_SECONDS, 10.0 * math.ceil((1.0 + REST) * self._took / 10.0))

    def nudge(self, guests: Iterable[str] = ()) -> None:
        """Something is about to change there: look fast for a while.

        Args:
            guests: Identifiers of those that somebody works on. Each is news at the next look, whatever it looks like then: what was
                done to it may have been undone again before anybody looked, and who acted has written down what he did.
        """
        self._doubtful.update(guests)
        self._pause = FASTEST_SECONDS
        self._lively_until = self._clock() + LIVELY_SECONDS

    def learn(self, listing: Callable[[], Sequence[GuestInfo]]) -> Sequence[GuestInfo]:
        """Take a full listing that somebody else acts upon; hands it on. Later looks are compared with it.

        Raises:
            DriverError: From the listing; what was known stays. TypeError, AttributeError: it is no listing.
        """
        infos, known = self._read(listing)
        self._known = known
        self.nudge()
        return infos

    def look(self, listing: Callable[[], Sequence[GuestInfo]]) -> list[GuestEvent]:
        """Take a full listing and answer what is new since the last one.

        Raises:
            DriverError: From the listing; what was known stays. TypeError, AttributeError: it is no listing.
        """
        _, known = self._read(listing)
        news = list(compare(self._known, known, at=self._looked_at))
        unseen = self._doubtful.intersection(known) - {event.uuid for event in news}
        news += [_event(known[uuid], GuestEventKind.CHANGED, "changed", self._looked_at) for uuid in unseen]
        self._doubtful.clear()
        self._known = known
        if news:
            self.nudge()
        elif self._looked_at >= self._lively_until:
            self._pause = min(SLOWEST_SECONDS, self._pause * GROWTH)
        return news

    def _read(self, listing: Callable[[], Sequence[GuestInfo]]) -> tuple[Sequence[GuestInfo], dict[str, GuestInfo]]:
        began = self._clock()
        try:
            infos = listing()
        finally:
            self._looked_at = self._clock()
            self._took = max(self._looked_at - began, FADING * self._took)
        return infos, {info.uuid: info for info in infos}


def compare(before: Mapping[str, GuestInfo], now: Mapping[str, GuestInfo], *, at: float) -> Iterator[GuestEvent]:
    """What happened between two listings (identifier to guest): one event a guest, two for one that came running.

    Each says *read again*; what happened in between and was undone again is not seen.
    """
    for uuid, info in now.items():
        old = before.get(uuid)
        if old is None:
            yield _event(info, GuestEventKind.DEFINED, "defined", at)
            if info.state not in (*_OFF, GuestState.UNKNOWN):
                yield _event(info, GuestEventKind.CHANGED, _word(GuestState.SHUTOFF, info.state), at)
        elif old != info:
            yield _event(info, GuestEventKind.CHANGED, _word(old.state, info.state), at)
    for uuid, info in before.items():
        if uuid not in now:
            yield _event(info, GuestEventKind.UNDEFINED, "undefined", at)


def _word(before: GuestState, now: GuestState) -> str:
    if before is now:
        return "changed"
    if now in _OFF:
        return "stopped"
    if now is GuestState.PAUSED:
        return "paused"
    if now in _ON and before in _OFF:
        return "started"
    if now is GuestState.RUNNING and before is GuestState.PAUSED:
        return "resumed"
    return "changed"


def _event(info: GuestInfo, kind: GuestEventKind, reason: str, at: float) -> GuestEvent:
    return GuestEvent(uuid=info.uuid, name=info.name, kind=kind, reason=reason, at=at)
