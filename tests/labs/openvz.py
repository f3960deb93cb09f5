"""An OpenVZ node, as a fixture (a plug-in: see tests/conftest.py): libvirt's real openvz driver over stand-ins for vzctl and vzlist.

One a test process, in a directory and namespaces of its own (`openvz-sim`). The containers behind the stand-ins are real.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drivers.types import Endpoint, GuestRef
from tests.labs.fixtures import require
from tests.labs.local import LabError, run

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).parent / "openvz-sim" / "openvz-sim"
PROGRAMS = ("gcc", "busybox", "libvirtd", "unshare", "nsenter")
XML = """<domain type='openvz'><name>{name}</name><uuid>{uuid}</uuid><vcpu>1</vcpu><memory unit='MiB'>64</memory>
<os><type>exe</type><init>/sbin/init</init></os><devices><filesystem type='mount'><source dir='{files}'/><target dir='/'/></filesystem>
{devices}</devices></domain>"""


@dataclass
class OpenVzNode:
    """A running node. Its containers are numbered, as OpenVZ wants it."""

    directory: Path
    uri: str
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(101))

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(driver="openvz", uri=self.uri)

    def exec(self, *command: str) -> str:
        """Run a command on the node, as its administrator."""
        return run(SCRIPT, "exec", self.directory, *command)

    def make(self, devices: str = "") -> GuestRef:
        """A container, off."""
        name = str(next(self.numbers))
        files = self.directory / "private" / name
        subprocess.run(["cp", "-a", self.directory / "template/busybox", files], check=True)
        return self.define(name, files, devices)

    def define(self, name: str, files: Path, devices: str = "") -> GuestRef:
        """Tell libvirt of a container."""
        ref = GuestRef(uuid=str(uuid.uuid4()), name=name)
        xml = self.directory / "domain.xml"
        xml.write_text(XML.format(name=name, uuid=ref.uuid, files=files, devices=devices))
        run("virsh", "-c", self.uri, "define", xml)
        return ref

    def plug(self, interface: str) -> None:
        """Give the node a network interface of that name: the containers' own networks are not made by the stand-ins."""
        self._inside("ip", "link", "add", interface, "type", "veth", "peer", "name", "peer0")
        self._inside("ip", "link", "set", interface, "up")
        self._inside("ip", "link", "set", "peer0", "up")

    def traffic(self, interface: str) -> None:
        """Send something out of it."""
        self._inside("ip", "address", "add", "192.0.2.1/24", "dev", interface)
        self._inside("sh", "-c", "busybox ping -c 1 -W 1 192.0.2.2 || true")

    def kill(self) -> None:
        """End the node's libvirtd as by a crash."""
        os.kill(self.pid, signal.SIGKILL)

    @property
    def pid(self) -> int:
        return int((self.directory / "pid").read_text())

    def _inside(self, *command: str) -> None:
        run("nsenter", "-t", str(self.pid), "-n", *command)

    def clear(self) -> None:
        """Stop and destroy every container."""
        run("python3", "-I", "-S", SCRIPT.parent / "vztools.py", self.directory, "vzctl", "--clear")


@contextlib.contextmanager
def node() -> Iterator[OpenVzNode]:
    """A node of its own."""
    directory = Path(tempfile.mkdtemp(prefix="vmm-openvz-"))

    def have() -> None:
        missing = [program for program in PROGRAMS if not shutil.which(program)]
        if missing or not Path("/sys/fs/cgroup/freezer").is_dir():
            raise LabError(f"missing: {', '.join(missing) or 'cgroups of version 1'}")
        run(SCRIPT, "up", directory, timeout=60)

    try:
        require(have, "no OpenVZ node")
        yield OpenVzNode(directory, f"openvz+unix:///system?socket={directory}/sock/libvirt-sock")
    finally:
        run(SCRIPT, "down", directory, timeout=60)


@pytest.fixture(scope="session")
def openvz_lab() -> Iterator[OpenVzNode]:
    """The node of this test process, up for the whole session."""
    with node() as made:
        yield made


@pytest.fixture
def openvz_lab_of_its_own() -> Iterator[OpenVzNode]:
    """A node that the test may break."""
    with node() as made:
        yield made


@pytest.fixture
def openvz_node(openvz_lab: OpenVzNode) -> Iterator[OpenVzNode]:
    """The node, empty after the test."""
    yield openvz_lab
    openvz_lab.clear()
