"""How one connection stands, and every time that governs it: the values the pool works with. No thread, no lock."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import threading

    from drivers.errors import DriverError
    from drivers.leases import Held
    from drivers.types import Endpoint

Channel = Literal["control", "stats", "console"]
CHANNELS: tuple[Channel, ...] = ("control", "stats", "console")


class LinkState(StrEnum):
    """How the control connection to an endpoint stands."""

    DOWN = "down"
    CONNECTING = "connecting"
    UP = "up"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatus:
    """One moment of a link.

    Attributes:
        error: Why it is down or lost; while connecting: why the last try failed.
        since: `time.monotonic()` of the last change of `state`.
        retry_in_seconds: Until the next try, where one is planned.
    """

    state: LinkState
    error: DriverError | None
    since: float
    retry_in_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Every time the pool knows. The defaults are the house's; tests shorten them.

    Attributes:
        open_seconds: An open that takes longer is abandoned (and used if it succeeds late).
        slot_seconds: How long a verb waits for one of the `calls` slots, where the caller named no time.
        stable_seconds: A link that was up for less counts as a failure when lost: no storm against a host that flaps.
        refused_last_seconds: Ceiling of the back-off after refused credentials: some hypervisors lock the account.
        hung_seconds: Earliest time for another open beside one that hangs; doubles with each that hangs, at most
            `most_hung` of them: a peer that lost power leaves an open hanging for good, and comes back all the same.
        pulse_seconds: How often `alive` is asked; `pulse_bound_seconds`: what it may take.
    """

    open_seconds: float = 10.0
    slot_seconds: float = 30.0
    backoff_first_seconds: float = 1.0
    backoff_last_seconds: float = 15.0
    refused_last_seconds: float = 120.0
    stable_seconds: float = 10.0
    hung_seconds: float = 30.0
    most_hung: int = 8
    pulse_seconds: float = 5.0
    pulse_bound_seconds: float = 8.0
    close_seconds: float = 2.5
    calls: int = 4
    parallel_opens: int = 64

    def calls_on(self, channel: Channel) -> int:
        """How many calls may be under way on one connection.

        Readings take turns on theirs: libvirt's client without the fix of CVE-2024-4418 leaves a watch on the stack of a caller
        whom another thread's call has woken, and died when a frozen host came back to several that waited (measured).
        """
        return 1 if channel == "stats" else self.calls


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolCounters:
    """What the pool has to do just now, for health pages. The `hung` ones are threads that wait for a dead host."""

    up: int
    connecting: int
    hung_opens: int
    hung_closes: int
    hung_checks: int


@dataclass(slots=True, eq=False)
class Attempt:
    """One open under way."""

    started: float


@dataclass(slots=True, eq=False)
class Link:
    """One connection to be: an endpoint's control, stats or console channel. Guarded by the pool's lock."""

    endpoint: Endpoint
    channel: Channel
    changed: threading.Condition
    since: float
    state: LinkState = LinkState.DOWN
    error: DriverError | None = None
    held: Held | None = None
    attempt: Attempt | None = None
    hung: list[Attempt] = field(default_factory=list)
    failures: int = 0
    retry_at: float = 0.0
    wanted: bool = False
    forgotten: bool = False


@dataclass(slots=True, eq=False)
class Check:
    """One round of `alive` questions; `asked`: the one that waits for its answer, and since when."""

    links: list[tuple[Link, Held]]
    asked: tuple[Link, Held, float] | None = None
