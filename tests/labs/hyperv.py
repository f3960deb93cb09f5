"""A stand-in for Hyper-V's WS-Management, as fixtures (a plug-in: see tests/conftest.py)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from drivers.types import Credentials, Endpoint, GuestRef
from tests.labs.fixtures import require
from tests.labs.local import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).with_name("hyperv-sim") / "hyperv_sim.py"
USER, PASSWORD = "Administrator", "secret"
READY_SECONDS = 30.0


class HyperVHost:
    """One stand-in, in a process of its own; it ends with ours. `control.py` there says what `tell` can tell it."""

    def __init__(self, directory: Path, *options: str) -> None:
        command = [sys.executable, str(SCRIPT), str(directory), *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lock = threading.Lock()
        watchdog = threading.Timer(READY_SECONDS, self.process.kill)
        watchdog.start()
        said = self.process.stdout.readline().split()
        watchdog.cancel()
        if said[:1] != ["ready"]:
            self.down()
            raise LabError(f"the stand-in for Hyper-V did not come up: {said}")
        self.port = int(said[1])
        self.certificate = (directory / "cert.pem").read_text()

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.certificate)).hexdigest()

    def endpoint(self, **credentials: Any) -> Endpoint:
        """As the right account, with the right authority; `credentials` overrule."""
        given = {"username": USER, "password": PASSWORD, "ca_certificate": self.certificate} | credentials
        return Endpoint(driver="hyperv", uri=f"hyperv://127.0.0.1:{self.port}", credentials=Credentials(**given))

    def tell(self, do: str, **how: Any) -> Any:
        with self._lock:
            self.process.stdin.write(json.dumps({"do": do, **how}) + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())

    def add(self, name: str, **options: Any) -> GuestRef:
        made = self.tell("add", name=name, **options)["guids"]
        return GuestRef(uuid=made[0].lower(), name=name)

    def address(self, ref: GuestRef, address: str) -> None:
        """As the integration services in the guest tell one."""
        row = {
            "InstanceID": f"Microsoft:GuestNetwork\\{ref.uuid.upper()}\\{ref.uuid.upper()}",
            "IPAddresses": [address, "fe80::5"],
            "Subnets": ["255.255.255.0", "64"],
        }
        self.tell("rows", name="Msvm_GuestNetworkAdapterConfiguration", rows=[row])

    def down(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture
def hyperv_hosts(tmp_path: Path) -> Iterator[Any]:
    """Makes stand-ins for Hyper-V: `hyperv_hosts("--auth", "both")`."""
    made: list[HyperVHost] = []

    def make(*options: str) -> HyperVHost:
        require(lambda: made.append(HyperVHost(tmp_path / f"hyperv-{len(made)}", *options)), "no stand-in for Hyper-V")
        return made[-1]

    yield make
    for host in made:
        host.down()


@pytest.fixture(scope="module")
def hyperv_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HyperVHost]:
    """A stand-in for a Hyper-V host, one a module. Who tells it to lie tells it the `truth` again."""
    made: list[HyperVHost] = []
    require(lambda: made.append(HyperVHost(tmp_path_factory.mktemp("hyperv"))), "no stand-in for Hyper-V")
    yield made[0]
    made[0].down()
