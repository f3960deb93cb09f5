"""The throw-away PostgreSQL and Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis

from tests.labs.local import ROOT
from tests.services import postgres, redis_server
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.services


def test_postgres_url_given_is_an_empty_utf8_database(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_redis_url_given_is_an_empty_redis(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


def test_servers_left_are_gone() -> None:
    with postgres() as database, redis_server() as broker:
        pass
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(database, connect_timeout=2)
    with redis.Redis.from_url(broker) as client, pytest.raises(redis.ConnectionError):
        client.ping()


@pytest.fixture
def open_directory() -> Iterator[str]:
    """A directory for temporary files that the account `postgres` may enter, which it may not pytest's own."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield directory


def test_runner_killed_takes_its_servers_with_it(open_directory: str) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.services",
        "--",
        "sh",
        "-c",
        "echo $VMM_REDIS_URL $VMM_DATABASE_URL; exec sleep 60",
    ]
    options = {"cwd": ROOT, "env": {**os.environ, "TMPDIR": open_directory}, "start_new_session": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options) as runner:
        assert runner.stdout is not None
        broker, database = runner.stdout.readline().split()
        os.kill(runner.pid, signal.SIGKILL)

        def gone() -> bool:
            try:
                psycopg.connect(database, connect_timeout=2).close()
            except psycopg.OperationalError:
                with redis.Redis.from_url(broker) as client:
                    try:
                        client.ping()
                    except redis.ConnectionError:
                        return True
            return False

        wait_until(gone, 10, "both servers ended")
        os.killpg(runner.pid, signal.SIGKILL)


def test_runner_hands_on_the_command_s_exit_status() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.services", "--", "sh", "-c", "exit 7"], cwd=ROOT, check=False)
    assert done.returncode == 7
