"""A PostgreSQL and a Redis of our own: throw-away daemons on free loopback ports, gone when we are, even killed.

    python -m tests.services -- COMMAND…     runs COMMAND with VMM_DATABASE_URL and VMM_REDIS_URL set to both

As fixtures: `postgres_url`, `redis_url` (a plug-in: see tests/conftest.py; marker `services`).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis

from core.crypto_key import ensure_key
from tests.labs.fixtures import require
from tests.labs.local import LabError, run
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

DATABASE = "vmmanager"
START_SECONDS = 20.0  # both are up in under two on an idle core
STOP_SECONDS = 10.0


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server with an empty database; its URL. Runs as `postgres` where we are root, which it refuses to be."""
    bin_dir = _postgres_bin()
    account = pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    password = secrets.token_urlsafe(16)
    with _directory("vmm-postgres-") as directory:
        password_file = directory / "password"
        password_file.write_text(password)
        data = directory / "data"
        for path in (directory, password_file):
            os.chown(path, account.pw_uid, account.pw_gid)
        run(
            *_as(account), bin_dir / "initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256",
            "--pwfile", password_file, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions",
        )  # fmt: skip
        port = free_port()
        options = {
            "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "max_connections": 200,
            # It is thrown away: nothing has to survive a power cut.
            "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "64MB",
        }  # fmt: skip
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = [*_as(account, "QUIT"), str(bin_dir / "postgres"), "-D", str(data), *settings]
        with _daemon(command, directory / "log", signal.SIGINT) as alive:
            address = f"postgresql://postgres:{password}@127.0.0.1:{port}"

            def answers() -> bool:
                alive()
                with contextlib.suppress(psycopg.OperationalError):
                    psycopg.connect(f"{address}/postgres", connect_timeout=2).close()
                    return True
                return False

            wait_until(answers, START_SECONDS, "PostgreSQL answers")
            with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {DATABASE}")
            yield f"{address}/{DATABASE}"


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """An empty Redis that keeps nothing; its URL."""
    program = shutil.which("redis-server")
    if program is None:
        raise LabError("redis-server is not installed")
    with _directory("vmm-redis-") as directory:
        port = free_port()
        command = [
            *_as(None, "KILL"), program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no",
            "--dir", str(directory),
        ]  # fmt: skip
        with _daemon(command, directory / "log", signal.SIGTERM) as alive:
            url = f"redis://127.0.0.1:{port}/0"
            with redis.Redis.from_url(url) as client:

                def answers() -> bool:
                    alive()
                    with contextlib.suppress(redis.ConnectionError):
                        return bool(client.ping())
                    return False

                wait_until(answers, START_SECONDS, "Redis answers")
            yield url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of an empty PostgreSQL database of this session's own."""
    require(_postgres_bin, "no PostgreSQL")
    with postgres() as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of an empty Redis of this session's own."""
    require(lambda: run("redis-server", "--version"), "no Redis")
    with redis_server() as url:
        yield url


def main(arguments: list[str]) -> int:
    """Run a command in the production shape: both URLs, and a key file, which settings never make for PostgreSQL."""
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not command:
        print(__doc__, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with postgres() as database, redis_server() as broker, _directory("vmm-services-") as data:
        key = data / "key"
        ensure_key(key, may_create=True)
        services = {
            "VMM_DATABASE_URL": database,
            "VMM_REDIS_URL": broker,
            "VMM_DATA_DIR": str(data),
            "VMM_KEY_FILE": str(key),
        }
        with subprocess.Popen(command, env={**os.environ, **services}) as process:
            try:
                return process.wait()
            except KeyboardInterrupt:
                return process.wait()  # the terminal interrupted it as well
            finally:
                process.terminate()


def _postgres_bin() -> Path:
    """Where initdb and postgres are: Debian keeps them out of PATH, in a directory a version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parent.parent.name))
    path = found[-1] if found else shutil.which("initdb")
    if path is None:
        raise LabError("PostgreSQL is not installed")
    return Path(path).parent


def _as(account: pwd.struct_passwd | None, death_signal: str = "") -> list[str]:
    """Words before a command: run it as `account`, and send it a signal when we die."""
    words = ["setpriv"]
    if account and account.pw_uid != os.getuid():
        words += ["--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--init-groups"]
    if death_signal:
        words += ["--pdeathsig", death_signal]
    return [*words, "--"] if len(words) > 1 else []


@contextlib.contextmanager
def _directory(prefix: str) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _daemon(command: list[str], log: Path, stop: signal.Signals) -> Iterator[_Alive]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
        )
    try:
        yield _Alive(process, log)
    finally:
        process.send_signal(stop)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Alive:
    """Called, it raises with the daemon's last words if that has ended."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    def __call__(self) -> None:
        if self._process.poll() is not None:
            raise LabError(f"{self._process.args[-1]}: ended at once: {self._log.read_text()[-2000:]}")


def free_port() -> int:
    """One below the range that outgoing connections draw from, so that none takes it before the daemon does."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise LabError("no free port")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
