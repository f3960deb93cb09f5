"""The product as its users run it: `manage.py serve`, or single roles, as processes of their own on free ports.

    with Server() as server:                      # ready: it answers
        server.api("GET", "/vms").json()          # as administrator, scope admin
        server.kill()                             # kill -9
        server.start()                            # again, on the same data directory and port

Data directory and processes are gone when the block is left, even if this process is killed (parent-death signal). Knows no
pytest. Whoever wants real local guests passes `VMM_LOCAL_HOST="auto"`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx

from tests.labs.local import ROOT, run
from tests.services import free_port
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each call drowns what failed
PASSWORD = "correct-horse-battery"
READY_SECONDS = 60.0
STOP_SECONDS = 15.0
SETTINGS_FOR_TESTS: dict[str, str] = {"VMM_LOCAL_HOST": "none", "VMM_ADMIN_PASSWORD": PASSWORD}


class Ended(AssertionError):
    """The process ended although it should run; with its last words."""


class Role:
    """One `manage.py ROLE` process.

    Args:
        role: `serve`, `web`, `worker`, `watcher`, `beat`.
        env: All `VMM_…` variables of the process.
        log: Where its output goes; appended to by each start.
    """

    def __init__(self, role: str, *, env: Mapping[str, str], log: Path) -> None:
        self.role = role
        self.env = dict(env)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it; returns at once."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-u", ROOT / "manage.py", self.role],
                cwd=ROOT, env=environment(self.env), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process as started last."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """All it ever said, of every start."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def check_alive(self) -> None:
        """Raises Ended, with its last words."""
        if not self.alive:
            raise Ended(f"{self.role} ended with {self.process.returncode}: {self.log[-4000:]}")

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal; after SIGKILL it is gone when this returns."""
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait(10)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(seconds)

    def stop(self) -> int:
        """SIGTERM, and its exit code; killed when it takes too long (then -9)."""
        if not self.alive:
            return self.process.returncode if self._process else 0
        self.kill(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.returncode

    # -- what the kernel says of it ------------------------------------------------------------------------------------
    def threads(self) -> int:
        """How many threads it has now."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def cpu_seconds(self) -> float:
        """CPU time it has used, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self) -> int:
        """Its resident set."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Server(Role):
    """A role that answers HTTP (`serve` or `web`), ready when the with-block is entered, and a client of it.

    Args:
        role: `serve`, or `web` with VMM_DATABASE_URL and VMM_REDIS_URL in `env`.
        directory: Where its data lies; a new one, removed at the end, when left out.
        env: More `VMM_…` variables, winning over `SETTINGS_FOR_TESTS`.
    """

    def __init__(self, role: str = "serve", *, directory: Path | None = None, **env: str) -> None:
        self._own = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="vmm-server-"))
        self.port = free_port()
        self.data_dir = self.directory / "var"
        settings = {
            **SETTINGS_FOR_TESTS,
            "VMM_DATA_DIR": str(self.data_dir),
            "VMM_BIND": f"127.0.0.1:{self.port}",
            **env,
        }
        super().__init__(role, env=settings, log=self.directory / f"{role}.log")
        self._beside: list[Role] = []
        self._secrets: dict[str, str] = {}
        self._client = httpx.Client(base_url=self.url, timeout=70.0)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException as error:
            self.__exit__(type(error))
            raise

    def __exit__(self, failed: object = None, *_: object) -> None:
        self._client.close()
        if failed is not None:
            for role in (self, *self._beside):  # pytest shows it beside the failure
                print(f"--- {role.role}, the end of its log:\n{role.log[-8000:]}")
        for role in reversed(self._beside):
            with contextlib.suppress(OSError):
                role.stop()
        if self._process is not None:
            self.stop()
        if self._own:
            shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, wait: bool = True) -> Self:
        """Start it and wait until it answers (`wait=False`: do not)."""
        super().start()
        if wait:
            self.wait_ready()
        return self

    def restart(self) -> Self:
        """In order: SIGTERM, start again, on the same data directory and port."""
        self.stop()
        return self.start()

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Until `/readyz` is 200. Raises Ended when it does not run any more."""

        def ready() -> bool:
            self.check_alive()
            with contextlib.suppress(httpx.TransportError):
                status = self._client.get("/readyz").status_code
                return status == 200 or (status == 404 and self._client.get("/login").status_code == 200)
            return False

        wait_until(ready, seconds, f"{self.role} is ready")

    def beside(self, role: str) -> Role:
        """Start another role on the same data, as a process of its own; ended with this one."""
        other = Role(role, env=self.env, log=self.directory / f"{role}-{len(self._beside)}.log").start()
        self._beside.append(other)
        return other

    def manage(self, *words: str) -> str:
        """What `manage.py words…` prints on standard output. Raises LabError."""
        return run(sys.executable, ROOT / "manage.py", *words, env=environment(self.env), timeout=60)

    def token(self, scope: str = "admin", user: str = "admin") -> str:
        """A bearer token; one a scope and user is made and kept."""
        key = f"{user}/{scope}"
        if key not in self._secrets:
            name = f"{scope} for tests"
            self._secrets[key] = self.manage("create_token", "--user", user, "--name", name, "--scope", scope).strip()
        return self._secrets[key]

    def api(self, method: str, path: str, *, json: Any = None, scope: str = "admin", **headers: str) -> httpx.Response:
        """`api("POST", "/vms/1/actions/start", Prefer="wait=30")`: `/api/v1` and a token are added; `_` in header names is `-`."""
        sent = {"Authorization": f"Bearer {self.token(scope)}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return self._client.request(method, f"/api/v1{path}", json=json, headers=sent)

    def get(self, path: str, **headers: str) -> Any:
        """The body of `GET /api/v1…`, which must answer 200."""
        response = self.api("GET", path, **headers)
        assert response.status_code == 200, f"GET {path}: {response.status_code} {response.text[:2000]}"
        return response.json()

    def all(self, path: str) -> list[dict[str, Any]]:
        """Every item of a list, page by page."""
        items: list[dict[str, Any]] = []
        cursor: str | None = ""
        mark = "&" if "?" in path else "?"
        while cursor is not None:
            page = self.get(f"{path}{mark}limit=500" + (f"&cursor={cursor}" if cursor else ""))
            items += page["items"]
            cursor = page["next"]
        return items

    def page(self, path: str, client: httpx.Client | None = None) -> httpx.Response:
        """A page of the dashboard, as `client` (see `browser`) or as nobody."""
        return (client or self._client).get(f"{self.url}{path}")

    @contextlib.contextmanager
    def browser(self, user: str = "admin", password: str = PASSWORD) -> Iterator[httpx.Client]:
        """A client that has signed in through the form."""
        with httpx.Client(base_url=self.url, timeout=70.0) as client:
            client.get("/login")
            form = {"username": user, "password": password, "csrfmiddlewaretoken": client.cookies["vmm_csrf"]}
            answer = client.post("/login", data=form, headers={"Origin": self.url, "Referer": f"{self.url}/login"})
            assert answer.status_code == 302, f"sign-in: {answer.status_code}"
            yield client


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what the tests themselves were given, and with `env`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VMM_", "DJANGO_", "PYTEST"))}
    return {**kept, **env}


def p95(seconds: Sequence[float]) -> float:
    """The 95th percentile."""
    return sorted(seconds)[max(0, -(-len(seconds) * 95 // 100) - 1)]


class Clock:
    """How long something took: `with Clock() as clock: …; clock.seconds`."""

    def __enter__(self) -> Self:
        self._since = time.monotonic()
        self.seconds = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._since
