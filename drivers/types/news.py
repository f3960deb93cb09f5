"""News of what a hypervisor has beside guests. That of guests is `GuestEvent`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from drivers.types.guests import GuestEvent


class Holding(StrEnum):
    """What a hypervisor has beside guests."""

    POOL = "pool"
    NETWORK = "network"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingEvent:
    """News of one storage pool or network. It says *read again*, as `GuestEvent` does.

    Attributes:
        reason: The hypervisor's own word (`started`, `undefined`, `refreshed`), for the log.
    """

    kind: Holding
    name: str
    reason: str


News = GuestEvent | HoldingEvent
"""What a session's sink is given."""
