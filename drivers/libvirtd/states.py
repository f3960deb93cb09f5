"""Libvirt's (state, reason) pairs and lifecycle events, in the words of the contract. Tables only."""

from __future__ import annotations

import libvirt

from drivers.types import GuestEventKind, GuestState

STATES: dict[int, GuestState] = {
    libvirt.VIR_DOMAIN_NOSTATE: GuestState.UNKNOWN,  # Xen between two states, or a driver that cannot tell
    libvirt.VIR_DOMAIN_RUNNING: GuestState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: GuestState.RUNNING,  # it runs and waits for something (an idle Xen guest)
    libvirt.VIR_DOMAIN_PAUSED: GuestState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: GuestState.SHUTTING_DOWN,
    libvirt.VIR_DOMAIN_SHUTOFF: GuestState.SHUTOFF,
    libvirt.VIR_DOMAIN_CRASHED: GuestState.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: GuestState.PMSUSPENDED,
}

# (state, reason) -> the word kept in `state_reason`, and the sentence a person reads.
REASONS: dict[tuple[int, int], tuple[str, str]] = {
    (libvirt.VIR_DOMAIN_NOSTATE, libvirt.VIR_DOMAIN_NOSTATE_UNKNOWN): ("", "The hypervisor does not tell."),
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_UNKNOWN): ("", "It runs."),
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED): ("booted", "It was started."),
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED): ("migrated", "It came from another host."),
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_RESTORED): ("restored", "It goes on from saved memory."),
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_FROM_SNAPSHOT): (
        "from_snapshot",
        "It goes on from a snapshot.",
    ),
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_UNPAUSED): ("unpaused", "It was resumed."),
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATION_CANCELED): (
        "migration_canceled",
        "It runs on: its migration was cancelled.",
    ),
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_SAVE_CANCELED): (
        "save_canceled",
        "It runs on: saving it was cancelled.",
    ),
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_WAKEUP): ("wakeup", "It woke up."),
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_CRASHED): (
        "crashed",
        "Its kernel crashed, and it was left running.",
    ),
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY): (
        "postcopy",
        "It runs here while the rest of its memory arrives.",
    ),
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED): (
        "postcopy_failed",
        "It runs without part of its memory: the post-copy migration broke off.",
    ),
    (libvirt.VIR_DOMAIN_BLOCKED, libvirt.VIR_DOMAIN_BLOCKED_UNKNOWN): ("blocked", "It waits for a resource."),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_UNKNOWN): ("", "It is paused."),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER): ("user", "Somebody paused it."),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION): ("migration", "It is on its way between hosts."),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SAVE): ("save", "Its memory is being saved."),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_DUMP): ("dump", "Its memory is being dumped."),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR): (
        "ioerror",
        "A disk failed; it is paused so that nothing is lost.",
    ),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_WATCHDOG): ("watchdog", "Its watchdog paused it."),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_FROM_SNAPSHOT): (
        "from_snapshot",
        "It was taken back to a snapshot of a paused guest.",
    ),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SHUTTING_DOWN): (
        "shutting_down",
        "It has shut down; the hypervisor is about to end it.",
    ),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT): ("snapshot", "A snapshot is being taken."),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_CRASHED): ("crashed", "Its kernel crashed."),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP): ("starting_up", "It is being started."),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY): (
        "postcopy",
        "It went to another host; its memory follows.",
    ),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED): (
        "postcopy_failed",
        "Its post-copy migration broke off.",
    ),
    (libvirt.VIR_DOMAIN_SHUTDOWN, libvirt.VIR_DOMAIN_SHUTDOWN_UNKNOWN): ("", "It is shutting down."),
    (libvirt.VIR_DOMAIN_SHUTDOWN, libvirt.VIR_DOMAIN_SHUTDOWN_USER): ("user", "Somebody asked it to shut down."),
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN): ("", "It is off."),
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN): ("shutdown", "It shut down by itself."),
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED): ("destroyed", "It was forced off."),
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED): ("crashed", "It crashed."),
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED): ("migrated", "It went to another host."),
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SAVED): ("saved", "Its memory was saved."),
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_FAILED): (
        "failed",
        "It could not be started, or its process died.",
    ),
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT): (
        "from_snapshot",
        "It was taken back to a snapshot of a stopped guest.",
    ),
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_DAEMON): (
        "daemon",
        "The hypervisor's service ended it.",
    ),
    (libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_CRASHED_UNKNOWN): ("", "It crashed."),
    (libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_CRASHED_PANICKED): ("panicked", "Its kernel panicked."),
    (libvirt.VIR_DOMAIN_PMSUSPENDED, libvirt.VIR_DOMAIN_PMSUSPENDED_UNKNOWN): ("", "It sleeps."),
}

# A paused guest that is already ending counts as shutting down: nothing can be resumed there.
_OVERRULED: dict[tuple[int, int], GuestState] = {
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SHUTTING_DOWN): GuestState.SHUTTING_DOWN,
}

# Lifecycle event -> its word, and the words of its details.
LIFECYCLE: dict[int, tuple[str, dict[int, str]]] = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: (
        "defined",
        {
            libvirt.VIR_DOMAIN_EVENT_DEFINED_ADDED: "added",
            libvirt.VIR_DOMAIN_EVENT_DEFINED_UPDATED: "updated",
            libvirt.VIR_DOMAIN_EVENT_DEFINED_RENAMED: "renamed",
            libvirt.VIR_DOMAIN_EVENT_DEFINED_FROM_SNAPSHOT: "from_snapshot",
        },
    ),
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: (
        "undefined",
        {
            libvirt.VIR_DOMAIN_EVENT_UNDEFINED_REMOVED: "removed",
            libvirt.VIR_DOMAIN_EVENT_UNDEFINED_RENAMED: "renamed",
        },
    ),
    libvirt.VIR_DOMAIN_EVENT_STARTED: (
        "started",
        {
            libvirt.VIR_DOMAIN_EVENT_STARTED_BOOTED: "booted",
            libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED: "migrated",
            libvirt.VIR_DOMAIN_EVENT_STARTED_RESTORED: "restored",
            libvirt.VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT: "from_snapshot",
            libvirt.VIR_DOMAIN_EVENT_STARTED_WAKEUP: "wakeup",
        },
    ),
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: (
        "suspended",
        {
            libvirt.VIR_DOMAIN_EVENT_SUSPENDED_PAUSED: "paused",
            libvirt.VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED: "migrated",
            libvirt.VIR_DOMAIN_EVENT_SUSPENDED_IOERROR: "ioerror",
            libvirt.VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG: "watchdog",
            libvirt.VIR_DOMAIN_EVENT_SUSPENDED_RESTORED: "restored",
            libvirt.VIR_DOMAIN_EVENT_SUSPENDED_FROM_SNAPSHOT: "from_snapshot",
            libvirt.VIR_DOMAIN_EVENT_SUSPENDED_API_ERROR: "api_error",
            libvirt.VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY: "postcopy",
            libvirt.VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED: "postcopy_failed",
        },
    ),
    libvirt.VIR_DOMAIN_EVENT_RESUMED: (
        "resumed",
        {
            libvirt.VIR_DOMAIN_EVENT_RESUMED_UNPAUSED: "unpaused",
            libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED: "migrated",
            libvirt.VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT: "from_snapshot",
            libvirt.VIR_DOMAIN_EVENT_RESUMED_POSTCOPY: "postcopy",
            libvirt.VIR_DOMAIN_EVENT_RESUMED_POSTCOPY_FAILED: "postcopy_failed",
        },
    ),
    libvirt.VIR_DOMAIN_EVENT_STOPPED: (
        "stopped",
        {
            libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: "shutdown",
            libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: "destroyed",
            libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: "crashed",
            libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED: "migrated",
            libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: "saved",
            libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: "failed",
            libvirt.VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT: "from_snapshot",
        },
    ),
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: (
        "shutting_down",
        {
            libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_FINISHED: "finished",
            libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST: "guest",
            libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST: "host",
        },
    ),
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: (
        "pmsuspended",
        {
            libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED_MEMORY: "memory",
            libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED_DISK: "disk",
        },
    ),
    libvirt.VIR_DOMAIN_EVENT_CRASHED: (
        "crashed",
        {
            libvirt.VIR_DOMAIN_EVENT_CRASHED_PANICKED: "panicked",
            libvirt.VIR_DOMAIN_EVENT_CRASHED_CRASHLOADED: "crashloaded",
        },
    ),
}

# libvirt has no event for snapshots. It tells of going back, and of taking one of a running guest that this stood still and went
# on (measured); of one that is off, and of deleting, nothing.
SNAPSHOT_SIGNS: frozenset[tuple[int, int]] = frozenset(
    {
        (libvirt.VIR_DOMAIN_EVENT_DEFINED, libvirt.VIR_DOMAIN_EVENT_DEFINED_FROM_SNAPSHOT),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT),
        (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_UNPAUSED),
    }
)

_EVENT_KINDS = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: GuestEventKind.DEFINED,
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: GuestEventKind.UNDEFINED,
}


def guest_state(state: int, reason: int) -> tuple[GuestState, str]:
    """The contract's state and the reason's word; a state of a newer libvirt is `unknown`, a reason of one is ""."""
    pair = (state, reason)
    observed = _OVERRULED.get(pair) or STATES.get(state, GuestState.UNKNOWN)
    return observed, REASONS.get(pair, ("", ""))[0]


def reason_sentence(state: int, reason: int) -> str:
    """The reason for a person."""
    return REASONS.get((state, reason), ("", "The hypervisor does not tell why."))[1]


def lifecycle(event: int, detail: int) -> tuple[GuestEventKind, str]:
    """Kind of news, and libvirt's own words (`started/booted`)."""
    word, details = LIFECYCLE.get(event, (f"event-{event}", {}))
    return _EVENT_KINDS.get(event, GuestEventKind.CHANGED), f"{word}/{details.get(detail, detail)}"
