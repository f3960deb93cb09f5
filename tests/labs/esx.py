"""An ESXi host or a vCenter: govmomi's simulator, as fixtures (a plug-in: see tests/conftest.py).

Debian's package has the simulator as Go source and no command, so a small main of ours is built around it, once a machine
(offline, some 20 s), with additions of things that ESXi has and the simulator lacks: see `esx-sim/lab.go`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import select
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyVim.connect import Disconnect, SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim

from tests.drivers.servers import Authority
from tests.labs.fixtures import require
from tests.labs.local import LABS_DIR, LabError, locked, run

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).parent / "esx-sim"
GOPATH = Path("/usr/share/gocode")
GOVMOMI = GOPATH / "src/github.com/vmware/govmomi"
USERNAME, PASSWORD = "root", "secret"
READY_SECONDS = 30.0
BUILD_SECONDS = 280.0  # 32 s of CPU (measured): 20 s on two idle cores, minutes where others hold them

_PATCHES: dict[str, tuple[tuple[str, str], ...]] = {
    "simulator/performance_manager.go": (
        (") QueryPerf(ctx *Context, req *types.QueryPerf)", ") cannedPerf(ctx *Context, req *types.QueryPerf)"),
    ),
    "simulator/virtual_machine.go": (
        (
            ") ShutdownGuest(ctx *Context, c *types.ShutdownGuest)",
            ") hardShutdown(ctx *Context, c *types.ShutdownGuest)",
        ),
        (
            "\tevent := c.event()\n\tswitch c.state {",
            "\tc.labPowered(c.state)\n\tevent := c.event()\n\tswitch c.state {",
        ),
        ("\tvm.Config.Modified = time.Now()\n", "\tvm.Config.Modified = time.Now()\n\tvm.labChanged()\n"),
        ("State:           vm.Runtime.PowerState,", "State:           vm.labKept(req.Memory),"),
        (
            "\t\t\t\tName:       info.FileName,\n\t\t\t})\n\t\t\tif err != nil {\n\t\t\t\treturn err\n\t\t\t}\n",
            (
                "\t\t\t\tName:       info.FileName,\n\t\t\t\tSpec:       labDiskSpec(x),\n\t\t\t})\n\t\t\tif err != nil {\n"
                "\t\t\t\treturn err\n\t\t\t}\n\t\t\tlabAttached(x, &dc.Self, info.FileName)\n"
            ),
        ),
    ),
    "simulator/virtual_disk_manager.go": (("\t\t_ = f.Close()\n", "\t\tlabSized(f, req.Spec)\n\t\t_ = f.Close()\n"),),
    "simulator/host_datastore_browser.go": (
        (") addFile(file os.FileInfo, res", ") addFile(dir string, file os.FileInfo, res"),
        ("s.addFile(file, &res)", "s.addFile(dir, file, &res)"),
        ("finfo = &types.VmDiskFileInfo{FileInfo: info}", "finfo = labDisk(dir, info)"),
    ),
    "simulator/datastore.go": ((") RefreshDatastore(*types", ") hardRefresh(*types"),),
    "simulator/snapshot.go": (
        (
            '{Name: "snapshot.currentSnapshot", Val: v.Self},',
            '{Name: "snapshot.currentSnapshot", Val: v.Self},\n\t\t\t\t{Name: "runtime.powerState", Val: vm.labWas(v.Self)},',
        ),
        ("\t\tMap.Remove(req.This)\n", "\t\tvm.labCurrent(before)\n\t\tMap.Remove(req.This)\n"),
        (
            "\t\tMap.WithLock(vm, func() {\n\t\t\tif vm.Snapshot.CurrentSnapshot != nil",
            (
                "\t\tbefore := findParentSnapshotInTree(vm.Snapshot.RootSnapshotList, req.This)\n"
                "\t\tMap.WithLock(vm, func() {\n\t\t\tif vm.Snapshot.CurrentSnapshot != nil"
            ),
        ),
    ),
}


def build() -> Path:
    """The simulator's program, built if this version of it is not there yet. Raises LabError."""
    if not (GOVMOMI / "simulator").is_dir() or shutil.which("go") is None:
        raise LabError("packages are missing: golang-go golang-github-vmware-govmomi-dev")
    files = sorted(SOURCE.glob("*.go"))
    digest = hashlib.sha256(json.dumps(_PATCHES).encode() + b"".join(path.read_bytes() for path in files)).hexdigest()
    home = LABS_DIR / "esx-sim"
    program = home / f"esx-sim-{digest[:12]}"
    with locked(LABS_DIR / "esx-sim.lock"):
        if not program.exists():
            with tempfile.TemporaryDirectory(prefix="vmm-esx-build-") as name:
                _compile(Path(name), home, program)
    return program


def _compile(work: Path, home: Path, program: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (work / "main").mkdir()
    for name in ("main.go", "console.go"):
        shutil.copy(SOURCE / name, work / "main" / name)
    replaced = {str(GOVMOMI / "simulator/zz_lab.go"): str(SOURCE / "lab.go")}
    for path, changes in _PATCHES.items():
        text = (GOVMOMI / path).read_text()
        for old, new in changes:
            if old not in text:
                raise LabError(f"this govmomi has no {old!r} in {path}")
            text = text.replace(old, new, 1)
        patched = work / path.replace("/", "_")
        patched.write_text(text)
        replaced[str(GOVMOMI / path)] = str(patched)
    overlay = work / "overlay.json"
    overlay.write_text(json.dumps({"Replace": replaced}))
    environment = {
        "GO111MODULE": "off", "GOFLAGS": "-mod=mod", "GOPATH": str(GOPATH), "GOPROXY": "off",
        "GOCACHE": str(home / "cache"), "HOME": str(work),
    }  # fmt: skip
    made = work / "esx-sim"
    script = f"cd {work / 'main'} && exec go build -overlay {overlay} -o {made} ."
    run("sh", "-c", script, timeout=BUILD_SECONDS, env=environment)
    shutil.move(made, program)


@dataclass
class Simulator:
    """One running simulator. Its own client is pyVmomi as it comes: no code of the product, so that it can judge the product."""

    process: subprocess.Popen[bytes]
    address: str
    directory: Path
    is_esx: bool
    authority: str
    """The certificate, PEM, of who signed the simulator's."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def host(self) -> str:
        return self.address.rpartition(":")[0]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def uri(self) -> str:
        return f"esx://{self.address}" if self.is_esx else f"vpx://{self.address}/DC0"

    def certificate(self) -> bytes:
        """The server's certificate, DER."""
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((self.host, self.port), timeout=10))

    @property
    def pin(self) -> str:
        """The certificate's fingerprint, as credentials take it."""
        return "sha256:" + hashlib.sha256(self.certificate()).hexdigest()

    def make(self, name: str = "", *, tools: bool = True, address: str = "") -> str:
        """A new guest, off, and its instance UUID; `tools`: VMware Tools are there and obey, and tell this `address`."""
        name = name or f"guest-{os.getpid()}-{next(self._numbers)}"
        found = self._on_content(lambda content: self._create(content, name, tools=tools, address=address))
        return str(found)

    def _create(self, content: vim.ServiceInstanceContent, name: str, *, tools: bool, address: str) -> str:
        datacenter = content.rootFolder.childEntity[0]
        compute = datacenter.hostFolder.childEntity[0]
        device = vim.vm.device
        backing = device.VirtualDisk.FlatVer2BackingInfo(fileName="", diskMode="persistent", thinProvisioned=True)
        disk = device.VirtualDisk(key=-1, controllerKey=1000, unitNumber=0, capacityInKB=1024 * 1024, backing=backing)
        controller = device.VirtualLsiLogicController(key=1000, busNumber=0, sharedBus="noSharing")
        network = device.VirtualEthernetCard.NetworkBackingInfo(deviceName="VM Network")
        nic = device.VirtualVmxnet3(key=-2, backing=network, addressType="generated")
        add = device.VirtualDeviceSpec
        spec = vim.vm.ConfigSpec(
            name=name, memoryMB=64, numCPUs=2, guestId="otherGuest",
            files=vim.vm.FileInfo(vmPathName=f"[{datacenter.datastoreFolder.childEntity[0].name}]"),
            deviceChange=[
                add(operation="add", device=controller),
                add(operation="add", fileOperation="create", device=disk),
                add(operation="add", device=nic),
            ],
        )  # fmt: skip
        if tools:
            spec.extraConfig = [vim.option.OptionValue(key="SET.guest.toolsRunningStatus", value="guestToolsRunning")]
        if address:
            spec.extraConfig.append(vim.option.OptionValue(key="SET.guest.ipAddress", value=address))
        task = datacenter.vmFolder.CreateVM_Task(spec, compute.resourcePool, compute.host[0])
        WaitForTask(task)
        return task.info.result.config.instanceUuid

    def put(self, datastore: str, path: str, data: bytes) -> None:
        """A file in a datastore, as VMware's own client uploads one."""
        query = f"dcPath={'ha-datacenter' if self.is_esx else 'DC0'}&dsName={datastore}"

        def send(content: vim.ServiceInstanceContent) -> None:
            cookie = content.propertyCollector._stub.cookie.partition(";")[0]
            request = urllib.request.Request(
                f"https://{self.address}/folder/{path}?{query}", data=data, method="PUT", headers={"Cookie": cookie}
            )
            with urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=10):
                pass

        self._on_content(send)

    def config(self, uuid: str) -> vim.vm.ConfigInfo:
        """A guest's configuration, as any client reads it."""
        found: vim.vm.ConfigInfo = self._on_content(
            lambda content: content.searchIndex.FindByUuid(None, uuid, True, True).config
        )
        return found

    def reconfigure(self, uuid: str, **changes: object) -> None:
        """Change a guest's configuration from outside."""

        def change(content: vim.ServiceInstanceContent) -> None:
            machine = content.searchIndex.FindByUuid(None, uuid, True, True)
            WaitForTask(machine.ReconfigVM_Task(vim.vm.ConfigSpec(**changes)))

        self._on_content(change)

    def disable_autostart(self) -> None:
        """Turn starting guests with the host off, with the list as it is."""

        def change(content: vim.ServiceInstanceContent) -> None:
            manager = content.rootFolder.childEntity[0].hostFolder.childEntity[0].host[0].configManager.autoStartManager
            config = vim.host.AutoStartManager
            manager.ReconfigureAutostart(config.Config(defaults=config.SystemDefaults(enabled=False)))

        self._on_content(change)

    def mark_as_template(self, uuid: str) -> None:
        self._on_content(lambda content: content.searchIndex.FindByUuid(None, uuid, True, True).MarkAsTemplate())

    def expire_sessions(self) -> None:
        """End every session, as a restart of the management service does."""
        context = ssl._create_unverified_context()
        with urllib.request.urlopen(f"https://{self.address}/lab/expire", context=context, timeout=10):
            pass

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kill it, and remove what it left."""
        self.process.kill()
        self.process.wait(10)
        if self.process.stdout:
            self.process.stdout.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _on_content(self, work):
        service = SmartConnect(
            host=self.host, port=self.port, user=USERNAME, pwd=PASSWORD, disableSslCertValidation=True,
            httpConnectionTimeout=20,
        )  # fmt: skip
        try:
            return work(service.content)
        finally:
            Disconnect(service)


def start(*, is_esx: bool, guests: int = 0, datacenters: int = 1) -> Simulator:
    """A new simulator on a free port of loopback. Raises LabError."""
    program = build()
    directory = Path(tempfile.mkdtemp(prefix="vmm-esx-"))
    authority = Authority()
    pair = authority.sign("127.0.0.1", "127.0.0.1")
    (directory / "server.pem").write_text(pair.certificate + pair.key)
    command = [
        str(program), f"-guests={guests}", f"-datacenters={datacenters}", "-pem=server.pem", *(["-esx"] if is_esx else []),
    ]  # fmt: skip
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, cwd=directory,
            env={**os.environ, "TMPDIR": str(directory)},
        )  # fmt: skip
    found = Simulator(process, "", directory, is_esx, authority.pem)
    deadline = time.monotonic() + READY_SECONDS
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
    line = process.stdout.readline().decode() if ready else ""
    if not line.startswith("ready "):
        found.stop()
        raise LabError(f"the vSphere simulator did not come up: {line!r}")
    found.address = line.split()[1]
    return found


@pytest.fixture(scope="session")
def esx_host() -> Iterator[Simulator]:
    """One ESXi host for all tests of this process."""
    require(build, "no vSphere simulator")
    simulator = start(is_esx=True)
    yield simulator
    simulator.stop()


@pytest.fixture(scope="session")
def vcenter() -> Iterator[Simulator]:
    """One vCenter with two datacenters, DC0 and DC1, for all tests of this process."""
    require(build, "no vSphere simulator")
    simulator = start(is_esx=False, datacenters=2)
    yield simulator
    simulator.stop()


@pytest.fixture
def own_esx_host() -> Iterator[Simulator]:
    """An ESXi host for one test, which may break it."""
    require(build, "no vSphere simulator")
    simulator = start(is_esx=True)
    yield simulator
    simulator.stop()
