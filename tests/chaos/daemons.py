"""Daemons that somebody else started, ended and started again as they were: same command, user, port and data."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psycopg
import redis

from tests.waiting import wait_until


class Daemon:
    """A running process, by its id. `stop`, then `start`; gone at the latest when the test process dies."""

    def __init__(self, pid: int, stop_signal: signal.Signals, command: list[str] | None = None) -> None:
        self.pid = pid
        self._signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None
        self._command = command or Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
        self._directory = Path(f"/proc/{pid}/cwd").readlink()
        status = Path(f"/proc/{pid}/status").read_text()
        self._uid, self._gid = (
            next(line for line in status.splitlines() if line.startswith(key)).split()[1] for key in ("Uid:", "Gid:")
        )

    def stop(self) -> None:
        """End it in order, and wait until it is gone (a zombie, where its parent has yet to notice)."""
        os.kill(self.pid, self._signal)
        wait_until(lambda: not _runs(self.pid), 20, f"{self._command[0]} ends")

    def start(self) -> None:
        """Start it as it was."""
        words = ["setpriv", "--reuid", self._uid, "--regid", self._gid, "--clear-groups", "--pdeathsig", "KILL", "--"]
        self._process = subprocess.Popen(
            [*words, *self._command], cwd=self._directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.pid = self._process.pid

    def close(self) -> None:
        """End what `start` started."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self._signal)
            self._process.wait(20)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def postgres_of(url: str) -> Daemon:
    """The server behind a URL (of this machine)."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    return Daemon(int((Path(row[0]) / "postmaster.pid").read_text().split()[0]), signal.SIGINT)


def redis_of(url: str) -> Daemon:
    """The server behind a URL (of this machine)."""
    with redis.Redis.from_url(url) as client:
        server = client.info("server")
    # It writes its address over its command line.
    options = {"--bind": "127.0.0.1", "--port": str(server["tcp_port"]), "--save": "", "--appendonly": "no"}
    command = ["redis-server", *(word for option in options.items() for word in option)]
    return Daemon(int(server["process_id"]), signal.SIGTERM, command)
