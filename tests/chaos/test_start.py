"""Starts that cannot be: one sentence that says why, exit 1, nothing destroyed."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.labs.fixtures import require
from tests.labs.local import ROOT, run
from tests.server import Server, environment, free_port
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(90)]

MOUNT = "mount -t tmpfs -o size={size} none {at}"


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory that somebody has worked with; stopped."""
    with Server(directory=tmp_path_factory.mktemp("used")) as server:
        server.token()
        server.stop()
        yield server.data_dir


def serve(data_dir: Path, *, inside: str = "", **env: str) -> tuple[int, str]:
    """Start `serve` where it cannot; exit code and what it said. `inside`: shell commands in a mount namespace before."""
    settings = {"VMM_DATA_DIR": str(data_dir), "VMM_BIND": f"127.0.0.1:{free_port()}", "VMM_LOCAL_HOST": "none", **env}
    command = [sys.executable, str(ROOT / "manage.py"), "serve"]
    if inside:
        command = ["unshare", "-m", "sh", "-ec", f'{inside}\nexec "$@"', "sh", *command]
    done = subprocess.run(
        command, env=environment(settings), capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    return done.returncode, done.stderr + done.stdout


def digest(directory: Path) -> str:
    """Of all that must not be changed by a start that fails."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "serve.lock")
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


def check_sentence(answer: tuple[int, str], *words: str) -> None:
    code, text = answer
    assert code == 1, text
    assert "Traceback" not in text
    assert len(text.strip().splitlines()) == 1, text
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("VMM_BIND", "0.0.0.0:8000", ("can be reached from other machines", "VMM_TLS_CERT")),
        ("VMM_BIND", "[::]:8000", ("can be reached from other machines",)),
        ("VMM_BIND", "nonsense", ("VMM_BIND is ADDRESS:PORT",)),
        ("VMM_BIND", "127.0.0.1:70000", ("VMM_BIND is ADDRESS:PORT",)),
        ("VMM_BIND", "192.0.2.1:8000", ("VMM_BIND",)),
        ("VMM_PUBLIC_URL", "http://plain.example", ("VMM_PUBLIC_URL",)),
        ("VMM_SAMPLE_SECONDS", "often", ("VMM_SAMPLE_SECONDS", "number")),
        ("VMM_LOCAL_HOST", "maybe", ("VMM_LOCAL_HOST", "auto")),
        ("VMM_LOG_LEVEL", "LOUD", ("VMM_LOG_LEVEL", "DEBUG")),
        ("VMM_TLS_CERT", "/no/such/file", ("VMM_TLS_CERT and VMM_TLS_KEY go together",)),
        ("VMM_DATABASE_URL", "postgresql://x", ("VMM_REDIS_URL",)),
        ("VMM_KEY_FILE", "/proc/no/key", ("/proc/no", "VMM_KEY_FILE")),
    ],
)
def test_value_that_cannot_be_then_one_sentence(used: Path, variable: str, value: str, words: tuple[str, ...]) -> None:
    before = digest(used)
    check_sentence(serve(used, **{variable: value}), *words)
    assert digest(used) == before


def test_key_file_gone_then_refused_and_nothing_is_touched(used: Path) -> None:
    before, key = digest(used), (used / "key").read_bytes()
    (used / "key").unlink()
    try:
        check_sentence(serve(used), "key is gone", "backup")
        assert not (used / "key").exists(), "a new key would make every stored secret unreadable"
        (used / "key").write_text("not a key")
        check_sentence(serve(used), "holds no key")
    finally:
        (used / "key").write_bytes(key)
    assert digest(used) == before


def test_port_in_use_then_refused_before_anything_is_begun(used: Path) -> None:
    before = digest(used)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        check_sentence(serve(used, VMM_BIND=address), address, "in use", "VMM_BIND")
    assert digest(used) == before


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null", "/dev/null/inside"])
def test_data_directory_that_cannot_be_then_refused(place: str) -> None:
    check_sentence(serve(Path(place)), place, "VMM_DATA_DIR")


def mounts() -> None:
    require(lambda: run("unshare", "-m", "true"), "no mount namespaces")


def test_read_only_data_directory_then_refused(used: Path, tmp_path: Path) -> None:
    mounts()
    inside = f"{MOUNT.format(size='8M', at=tmp_path)}; mount -o remount,ro {tmp_path}"
    check_sentence(serve(tmp_path, inside=inside), str(tmp_path), "Read-only")
    copied = f"{MOUNT.format(size='64M', at=tmp_path)}; cp -r {used}/. {tmp_path}; mount -o remount,ro {tmp_path}"
    check_sentence(serve(tmp_path, inside=copied), str(tmp_path), "Read-only")


@pytest.mark.parametrize("size", ["16k", "256k", "1M"])
def test_full_disk_at_the_first_start_then_refused(tmp_path: Path, size: str) -> None:
    mounts()
    check_sentence(serve(tmp_path, inside=MOUNT.format(size=size, at=tmp_path)), str(tmp_path))


def test_second_serve_on_the_same_data_then_refused_and_the_first_is_unharmed() -> None:
    with Server() as server:
        demo = server.api("POST", "/hosts/demo").json()
        answer = serve(server.data_dir)
        check_sentence(answer, str(server.data_dir), f"Process {server.pid} ", "VMM_DATA_DIR")
        wait_until(lambda: server.get(f"/hosts/{demo['id']}")["state"] == "online", 10, "the first goes on")
        server.kill()
        server.start()  # the kernel has let go of the lock
        assert server.get(f"/hosts/{demo['id']}")["name"] == demo["name"]


def test_roles_without_services_then_one_sentence(used: Path) -> None:
    for role in ("web", "worker", "watcher", "beat"):
        done = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), role],
            env=environment({"VMM_DATA_DIR": str(used)}), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert "VMM_DATABASE_URL" in done.stderr
        assert os.linesep not in done.stderr.strip()
