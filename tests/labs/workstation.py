"""VMware Workstation on this machine, as a fixture (a plug-in: see tests/conftest.py): libvirt's real driver over a stand-in vmrun.

One a test, in a directory of its own (`vmware-ws-sim`). What the stand-in starts really runs, in QEMU without KVM.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drivers.types import Endpoint
from tests.labs.fixtures import require
from tests.labs.local import LabError, run

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).parent / "vmware-ws-sim" / "vmware-ws-sim"
PROGRAMS = ("qemu-system-x86_64", "qemu-img")
XML = """<domain type='vmware'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64'>hvm</type></os><devices><disk type='file' device='disk'><source file='{disk}'/>
<target dev='hda' bus='ide'/></disk></devices></domain>"""


@dataclass
class Workstation:
    """The product's tools, first in the PATH."""

    directory: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)

    endpoint = Endpoint(driver="vmware", uri="vmwarews:///session")
    player = Endpoint(driver="vmware", uri="vmwareplayer:///session")

    def vm(self) -> Path:
        """A machine made by hand: its .vmx. libvirt knows it once it runs."""
        return Path(run(SCRIPT, "vm", self.directory, f"hand-{next(self.numbers)}").strip())

    def vmrun(self, *words: str | Path) -> str:
        """As its owner does."""
        return run(self.directory / "bin/vmrun", "-T", "ws", *words)

    def xml(self) -> tuple[str, str, str]:
        """A definition whose disk is there, its identifier and its name."""
        name, identifier = f"made-{next(self.numbers)}", str(uuid.uuid4())
        disk = self.directory / "vms" / name / f"{name}.vmdk"
        disk.parent.mkdir()
        run("qemu-img", "create", "-q", "-f", "vmdk", disk, "1M")
        return XML.format(name=name, uuid=identifier, disk=disk), identifier, name


@pytest.fixture
def workstation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Workstation]:
    """VMware Workstation, with no machines yet."""
    directory = Path(tempfile.mkdtemp(prefix="vmm-vmware-"))

    def have() -> None:
        missing = [program for program in PROGRAMS if not shutil.which(program)]
        if missing:
            raise LabError(f"missing: {', '.join(missing)}")
        run(SCRIPT, "up", directory)

    try:
        require(have, "no VMware Workstation")
        monkeypatch.setenv("PATH", str(directory / "bin"), prepend=":")
        yield Workstation(directory)
    finally:
        run(SCRIPT, "down", directory)
