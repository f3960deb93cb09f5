"""This process's name in the rows it holds, and whether the process behind such a name still lives."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path


def _start_time(pid: int) -> str:
    """Clock ticks since boot at which `pid` started (field 22 of /proc/PID/stat); "" when there is no such process."""
    try:
        # The second field is the command in parentheses and may hold blanks: count from behind the last parenthesis.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]  # a zombie is dead, whoever has yet to notice
    except (OSError, IndexError):
        return ""


@functools.cache
def _machine() -> str:
    """Where a process id means what it means here: this boot of this kernel, and this namespace of ids.

    The host name is for people: machines made from one image share it, and so do containers on their host's network.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
    namespace = "".join(filter(str.isdigit, str(Path("/proc/self/ns/pid").readlink())))
    return f"{socket.gethostname()[:50]}/{boot}/{namespace}"


@functools.cache
def _identity(pid: int) -> str:
    return f"{_machine()}:{pid}:{_start_time(pid)}"


def identity() -> str:
    """`hostname/boot/namespace:pid:start`: unique over machines, reboots and reused process ids."""
    return _identity(os.getpid())


def is_dead_here(name: str) -> bool:
    """Whether `name` was a process of this machine that is gone. Of other machines and boots only leases can tell: False."""
    machine, pid, start = name.rsplit(":", 2)
    return machine == _machine() and _start_time(int(pid)) != start
