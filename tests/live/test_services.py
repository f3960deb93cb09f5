"""The event log and its sockets once more, on PostgreSQL and Redis, with what only several processes can show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.crypto_key import ensure_key

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.services
@pytest.mark.timeout(600)
def test_the_log_and_its_sockets_on_postgresql_and_redis(postgres_url: str, redis_url: str, tmp_path: Path) -> None:
    ensure_key(tmp_path / "key", may_create=True)
    environment = {
        **os.environ,
        "VMM_DATABASE_URL": postgres_url,
        "VMM_REDIS_URL": redis_url,
        "VMM_DATA_DIR": str(tmp_path),
        "VMM_KEY_FILE": str(tmp_path / "key"),
    }
    paths = ["tests/events", "tests/live/test_socket.py", "tests/live/test_server.py", "tests/live/production.py"]
    command = [sys.executable, "-m", "pytest", *paths, "-q", "-m", "not services", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=590, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
