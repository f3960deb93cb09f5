"""A stand-in for XenServer's XAPI, as fixtures (a plug-in: see tests/conftest.py)."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import select
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import XenAPI

from tests.labs.fixtures import require
from tests.labs.local import LabError, run

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).parent / "xapi-sim"
USERNAME, PASSWORD = "root", "secret"
READY_SECONDS = 30.0


@dataclass
class StandIn:
    """One running stand-in. Its own client is the XenAPI binding as it comes: no code of the product, so that it can judge it."""

    process: subprocess.Popen[bytes]
    port: int
    directory: Path
    host: str = "127.0.0.1"
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def uri(self) -> str:
        return f"xapi://{self.host}:{self.port}"

    @property
    def ca(self) -> str:
        """The server's certificate, PEM: it is its own authority."""
        return (self.directory / "certificate.pem").read_text()

    @property
    def pin(self) -> str:
        return "sha256:" + hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.ca)).hexdigest()

    @functools.cached_property
    def _client(self) -> XenAPI.Session:
        session = XenAPI.Session(f"https://{self.host}:{self.port}/", ignore_ssl=True)
        session.login_with_password(USERNAME, PASSWORD, "1.0", "lab")
        return session

    @property
    def api(self) -> Any:
        return self._client.xenapi

    def make(self, name: str = "", **fields: Any) -> str:
        """A new guest, off, and its UUID."""
        name = name or f"guest-{os.getpid()}-{next(self._numbers)}"
        return self.api.VM.get_uuid(self.api.VM.lab_make({"name_label": name, **fields}))

    def tell_address(self, uuid: str, address: str) -> None:
        """As XenServer's tools in the guest do."""
        metrics = self.api.VM_guest_metrics.lab_put(
            {"networks": {"0/ip": address, "0/ipv4/0": address}, "os_version": {}}
        )
        self.api.VM.set_guest_metrics(self.ref(uuid), metrics)

    def ref(self, uuid: str) -> str:
        return self.api.VM.get_by_uuid(uuid)

    def order(self, **mischief: Any) -> dict[str, int]:
        """Make it misbehave: see `xapi-sim`."""
        request = urllib.request.Request(
            f"https://{self.host}:{self.port}/lab", json.dumps(mischief).encode(), {"Content-Type": "application/json"}
        )
        context = ssl._create_unverified_context()
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:
            return json.load(answer)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kill it, and remove what it left."""
        if "_client" in self.__dict__:
            self._client("close")()
        self.process.kill()
        self.process.wait(10)
        if self.process.stdout:
            self.process.stdout.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def start(*, hosts: int = 1) -> StandIn:
    """A new stand-in on a free port of loopback. Raises LabError."""
    if shutil.which("openssl") is None:
        raise LabError("openssl is missing")
    directory = Path(tempfile.mkdtemp(prefix="vmm-xapi-"))
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
        "-subj", "/CN=xcp1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", str(key),
        "-out", str(certificate), timeout=60,
    )  # fmt: skip
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(certificate), str(key), "--hosts", str(hosts)],
            stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, cwd=directory,
        )  # fmt: skip
    found = StandIn(process, 0, directory)
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], READY_SECONDS)
    line = process.stdout.readline().decode() if ready else ""
    if not line.startswith("ready "):
        found.stop()
        raise LabError(f"the stand-in for XAPI did not come up: {line!r}")
    found.port = int(line.split()[1])
    return found


@pytest.fixture(scope="session")
def xapi_host() -> Iterator[StandIn]:
    """One XenServer host for all tests of this process."""
    made: list[StandIn] = []
    require(lambda: made.append(start()), "no stand-in for XAPI")
    yield made[0]
    made[0].stop()


@pytest.fixture
def own_xapi_host() -> Iterator[StandIn]:
    """A host for one test, which may break it."""
    made: list[StandIn] = []
    require(lambda: made.append(start()), "no stand-in for XAPI")
    yield made[0]
    made[0].stop()


@pytest.fixture(scope="session")
def xapi_pool() -> Iterator[StandIn]:
    """A pool of two hosts, which answer at the same address."""
    made: list[StandIn] = []
    require(lambda: made.append(start(hosts=2)), "no stand-in for XAPI")
    yield made[0]
    made[0].stop()
