"""`EnabledState` of a virtual machine, and what may be done in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.types import GuestState

if TYPE_CHECKING:
    from collections.abc import Mapping

RUNNING, OFF = 2, 3
SAVED = frozenset({6, 32769, 32779, 32784, 32791})
"""Off with its memory on disk. 6 (enabled but offline) and 32769 (suspended) both occur, by Hyper-V's version."""
PAUSED = frozenset({9, 32768, 32785})

STATES: Mapping[int, tuple[GuestState, str]] = {
    RUNNING: (GuestState.RUNNING, ""),
    OFF: (GuestState.SHUTOFF, ""),
    4: (GuestState.SHUTTING_DOWN, ""),
    6: (GuestState.SHUTOFF, "saved"),
    9: (GuestState.PAUSED, ""),
    10: (GuestState.RUNNING, "starting"),
    32768: (GuestState.PAUSED, ""),
    32769: (GuestState.SHUTOFF, "saved"),
    32770: (GuestState.RUNNING, "starting"),
    32771: (GuestState.RUNNING, "snapshot"),
    32773: (GuestState.RUNNING, "saving"),
    32774: (GuestState.SHUTTING_DOWN, "stopping"),
    32776: (GuestState.RUNNING, "pausing"),
    32777: (GuestState.PAUSED, "resuming"),
    32779: (GuestState.SHUTOFF, "saved"),
    32780: (GuestState.RUNNING, "saving"),
    # Critical: its worker process, or the storage of its disks, does not answer.
    32781: (GuestState.RUNNING, "critical"),
    32782: (GuestState.SHUTOFF, "critical"),
    32783: (GuestState.SHUTTING_DOWN, "critical"),
    32784: (GuestState.SHUTOFF, "saved"),
    32785: (GuestState.PAUSED, "critical"),
    32786: (GuestState.RUNNING, "critical"),
    32787: (GuestState.RUNNING, "critical"),
    32788: (GuestState.RUNNING, "critical"),
    32789: (GuestState.RUNNING, "critical"),
    32790: (GuestState.PAUSED, "critical"),
    32791: (GuestState.SHUTOFF, "saved"),
    32792: (GuestState.RUNNING, "critical"),
}


def state_of(enabled: int | None) -> tuple[GuestState, str]:
    """What Hyper-V's number means to the house."""
    return STATES.get(-1 if enabled is None else enabled, (GuestState.UNKNOWN, ""))
