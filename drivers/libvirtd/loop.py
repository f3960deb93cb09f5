"""The process's one libvirt event thread. All callbacks of all connections run in it, one after another.

A callback that blocks holds up every host and the keepalive answers, so it may only copy and put on a queue.
"""

from __future__ import annotations

import logging
import threading
import time

import libvirt

log = logging.getLogger(__name__)

_lock = threading.Lock()
_thread: threading.Thread | None = None


def ensure_running() -> None:
    """Register libvirt's event loop and start its thread, once a process and before the first open.

    A connection opened before the registration can never have keepalive (`setKeepAlive` then fails with
    INTERNAL_ERROR, measured), so the drivers call this at the head of every open.
    """
    global _thread  # noqa: PLW0603 - one loop a process is libvirt's own rule
    with _lock:
        if _thread is not None and _thread.is_alive():
            return
        libvirt.registerErrorHandler(_silent, None)
        libvirt.virEventRegisterDefaultImpl()
        _thread = threading.Thread(target=_run, name="libvirt-events", daemon=True)
        _thread.start()


def is_loop_thread() -> bool:
    """Whether the caller is the event thread (a blocking libvirt call there would never return on a frozen host)."""
    return threading.current_thread() is _thread


def _silent(_context: None, _error: libvirt.RawError) -> None:
    """Libvirt prints each error on stderr unless somebody takes it; ours are raised as exceptions anyway."""


def _run() -> None:
    failures = 0
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
            failures = 0
        except libvirt.libvirtError:
            # Without this thread no host has keepalive any more: it never ends, and it never spins.
            failures += 1
            log.exception("libvirt's event loop stumbled", extra={"failures": failures})
            time.sleep(min(1.0, 0.01 * failures))
