"""Snapshots of a guest."""

from __future__ import annotations

from dataclasses import dataclass

from drivers.types.words import GuestState


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotInfo:
    """A state of a guest that was kept, and that it can go back to.

    Attributes:
        name: Unique among its guest's; what the verbs take.
        parent: Name of the snapshot that it grew from; "" where it is a root.
        created_at: Seconds since 1970; 0 where the hypervisor does not tell.
        state: How the guest stood. Without its memory it comes back shut off.
        memory: Whether the guest's memory is in it: going back goes on from that moment, instead of booting.
        kind: `internal`: the hypervisor keeps it, and its disks go on under their own names. `external`: what was written
            since then is in overlay files, of which the disks are now made.
        current: The one that the guest's present state grew from.
        disks: Targets of the disks that are in it; empty where the hypervisor does not tell.
        size_bytes: What it takes on the host; None where the hypervisor does not tell.
        no_revert: Why the hypervisor cannot go back to it, as a sentence; "" where it can.
        no_delete: Why it cannot delete it, as a sentence; "" where it can.
    """

    name: str
    description: str = ""
    parent: str = ""
    created_at: float = 0.0
    state: GuestState = GuestState.SHUTOFF
    memory: bool = False
    kind: str = "internal"
    current: bool = False
    disks: tuple[str, ...] = ()
    size_bytes: int | None = None
    no_revert: str = ""
    no_delete: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSpec:
    """A snapshot to be taken.

    Attributes:
        name: As `drivers.snapshots.why_no_name` allows it.
        memory: With the memory of a guest that runs; one that is off has none to keep.
    """

    name: str
    description: str = ""
    memory: bool = False
