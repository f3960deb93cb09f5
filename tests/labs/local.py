"""Guests on this machine's own libvirtd, by `virsh` alone: no code of the product, so that it can judge the product.

Everything blocks with a deadline. Nothing here knows pytest; `fixtures.py` does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
LABS_DIR = Path(os.environ.get("VMM_LABS_DIR", "/tmp/vmmanager-labs"))
QEMU_URI = "qemu:///system"
LXC_URI = "lxc:///system"
TINY_READY = "TINY-GUEST READY"
LXC_READY = "LXC-GUEST READY"
PREFIX = "vmmtest-"
BOOT_SECONDS = 60.0  # 5 s on an idle core; other tests may hold both


class LabError(Exception):
    """Something outside the product failed: a tool, a daemon, a guest."""


def run(*command: str | Path, timeout: float = 60.0, env: dict[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed.

    Raises:
        LabError: it failed or took longer than `timeout` seconds; with its error output.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL,
            env=None if env is None else {**os.environ, **env},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(words)}: no end within {timeout:g} s") from error
    except FileNotFoundError as error:
        raise LabError(f"{words[0]} is not installed") from error
    if done.returncode:
        raise LabError(f"{' '.join(words)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def virsh(uri: str, *args: str | Path, timeout: float = 60.0) -> str:
    """What `virsh -c uri args…` prints, without its trailing newlines."""
    return run("virsh", "-q", "-c", uri, *args, timeout=timeout).strip("\n")


def answers(uri: str) -> bool:
    """Whether a daemon answers on `uri` within 5 s."""
    try:
        virsh(uri, "uri", timeout=5)
    except LabError:
        return False
    return True


def ensure_libvirtd(uri: str = QEMU_URI) -> None:
    """Have a daemon answer on `uri`, starting this machine's own where it does not run.

    Raises:
        LabError: it cannot be had here.
    """
    if answers(uri):
        return
    run(ROOT / "scripts" / "local-libvirtd", timeout=100)
    virsh(uri, "uri", timeout=5)


@contextlib.contextmanager
def network(uri: str = QEMU_URI) -> Iterator[str]:
    """A virtual network that is defined, not started and gives out addresses once it is; its name."""
    name = f"{PREFIX}net-{uuid.uuid4().hex[:8]}"
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(
            f"<network><name>{name}</name><forward mode='nat'/><ip address='192.0.2.1' netmask='255.255.255.0'>"
            "<dhcp><range start='192.0.2.2' end='192.0.2.9'/></dhcp></ip></network>"
        )
        file.flush()
        virsh(uri, "net-define", file.name)
    try:
        yield name
    finally:
        virsh(uri, "net-undefine", name)


@contextlib.contextmanager
def pool_home() -> Iterator[Path]:
    """A directory for the targets of storage pools, which QEMU's own account may enter. Gone afterwards with all that is in it."""
    LABS_DIR.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="pools-", dir=LABS_DIR))
    home.chmod(0o755)
    try:
        yield home
    finally:
        shutil.rmtree(home)


def libvirtd_mounts() -> tuple[str, ...]:
    """What goes before a command that is to see, and change, the mounts that this machine's libvirtd sees: it may have its own."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("/run/libvirt/libvirt-sock")
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, _uid, _gid = struct.unpack("3i", credentials)
    return "nsenter", "-t", str(pid), "-m"


@contextlib.contextmanager
def small_disk(place: Path, *, size_bytes: int) -> Iterator[None]:
    """A file system of this size at `place`, for libvirtd's eyes: soon full."""
    run(*libvirtd_mounts(), "mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "vmmtest", place)
    try:
        yield
    finally:
        run(*libvirtd_mounts(), "umount", place)


@dataclass(slots=True)
class FrozenDisk:
    """A directory whose file system can be told to stop answering, as a dead file server's does.

    Whoever uses this machine's libvirtd waits with it: it thaws by itself after `MOST_SECONDS`, and dies with us.
    """

    MOST_SECONDS: ClassVar[float] = 60.0

    process: subprocess.Popen[bytes]

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        alarm = threading.Timer(self.MOST_SECONDS, self.thaw)
        alarm.daemon = True
        alarm.start()

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def frozen_disk(source: Path, place: Path) -> Iterator[FrozenDisk]:
    """`source`, mounted at `place` for libvirtd's eyes by a process that can be stopped."""
    words = ["setpriv", "--pdeathsig", "KILL", *libvirtd_mounts(), "bindfs", "-f", str(source), str(place)]
    try:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise LabError("nsenter is not installed") from error
    disk = FrozenDisk(process)
    try:
        mounts = Path(f"/proc/{process.pid}/mounts")
        wait_until(lambda: process.poll() is not None or str(place) in mounts.read_text(), 20, "bindfs mounts")
        if process.poll() is not None:
            raise LabError("bindfs does not run here")
        yield disk
    finally:
        disk.thaw()
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path` against other test processes; the kernel lets go when we die."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True, slots=True)
class TinyKernel:
    """A built tiny guest: the directory and what lies in it."""

    directory: Path

    @property
    def vmlinuz(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd.img"

    @property
    def disk(self) -> Path:
        """A bootable qcow2; there only after `build_tiny_kernel(disk=True)`. Copy it, or put an overlay on it."""
        return self.directory / "disk.qcow2"


def build_tiny_kernel(*, disk: bool = False) -> TinyKernel:
    """The tiny guest's parts, built once a machine (about 5 s, 28 MB fetched) and kept in `LABS_DIR`."""
    directory = LABS_DIR / "guest"
    run(HERE / "tiny-guest", "build", directory, *(["--disk"] if disk else []), timeout=300)
    return TinyKernel(directory)


@dataclass(slots=True)
class Guest:
    """A defined guest and the directory of its files; `remove` takes both away, whatever state it is in."""

    uri: str
    name: str
    uuid: str
    directory: Path
    ready: str = ""
    serial_log: Path | None = None
    _consoles: list[Console] = field(default_factory=list)

    def virsh(self, *args: str, timeout: float = 60.0) -> str:
        """`virsh VERB <this guest> args…` on its own daemon."""
        verb, *rest = args
        return virsh(self.uri, verb, self.uuid, *rest, timeout=timeout)

    def start(self) -> None:
        self.virsh("start")

    def shutdown(self) -> None:
        """Ask the guest to end; returns before it has."""
        self.virsh("shutdown")

    def destroy(self) -> None:
        self.virsh("destroy")

    @property
    def state(self) -> str:
        """virsh's words: running, paused, shut off, in shutdown, crashed, pmsuspended; "" when it is gone."""
        try:
            return self.virsh("domstate").strip()
        except LabError:
            return ""

    @property
    def running(self) -> bool:
        return self.state == "running"

    def wait_state(self, state: str, seconds: float = 30.0) -> None:
        wait_until(lambda: self.state == state, seconds, f"{self.name} {state}")

    def serial_output(self) -> str:
        """All the serial console said since the guest was defined, whoever else reads it."""
        if self.serial_log is None or not self.serial_log.exists():
            return ""
        return self.serial_log.read_text(errors="replace")

    def wait_ready(self, seconds: float = BOOT_SECONDS) -> None:
        """Wait for the shell: by the serial log, or where there is none (LXC) by the console, which must be free."""
        if self.serial_log is not None:
            wait_until(lambda: self.ready in self.serial_output(), seconds, f"{self.name} booted")
            return
        with self.console() as console:
            console.ask("echo ready-$((6*7))", "ready-42", seconds)

    def console(self) -> Console:
        """Open its first console; close it, or leave that to `remove`."""
        console = Console(self.uri, self.uuid)
        self._consoles.append(console)
        return console

    def remove(self) -> None:
        """End and undefine it and delete its files; a guest the test already removed is fine."""
        for console in self._consoles:
            console.close()
        with contextlib.suppress(LabError):
            self.virsh("destroy")
        with contextlib.suppress(LabError):
            self.virsh("undefine", *(["--managed-save", "--snapshots-metadata"] if self.uri.startswith("qemu") else []))
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.uuid in virsh(self.uri, "list", "--all", "--uuid").split():
            raise LabError(f"{self.name} could not be removed")


class Console:
    """`virsh console` on a terminal of our own: type into a guest and read what it says."""

    def __init__(self, uri: str, guest: str, *, force: bool = False) -> None:
        self.output = ""
        self._master, slave = pty.openpty()
        command = ["virsh", "-q", "-c", uri, "console", guest, *(["--force"] if force else [])]
        self._process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)

    def send(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, text: str, seconds: float = 20.0) -> str:
        """Read until `text` has come; what came is then used up, and handed back.

        Raises:
            AssertionError: it did not come within `seconds`, or the console ended.
        """
        deadline = time.monotonic() + seconds
        while text not in self.output:
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"console: no {text!r} within {seconds:g} s; it said {self.output[-2000:]!r}")
        before, found, self.output = self.output.partition(text)
        return before + found

    def ask(self, line: str, answer: str, seconds: float = 20.0) -> str:
        """Type a line until `answer` comes: what is typed before a shell listens is lost, so it is typed again.

        `answer` must not be part of the line, or its echo is taken for it.
        """
        deadline = time.monotonic() + seconds
        patience = 0.2  # virsh itself drops what is typed before it has the console
        while True:
            self.send(f"{line}\n")
            try:
                return self.expect(answer, min(patience, max(0.0, deadline - time.monotonic())))
            except AssertionError:
                if time.monotonic() >= deadline or self._process.poll() is not None:
                    raise
            patience = min(2 * patience, 2.0)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(10)
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, seconds))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: virsh has ended
            return False
        self.output += data.decode(errors="replace")
        return bool(data)


def unique_name(label: str = "") -> str:
    return PREFIX + (f"{label}-" if label else "") + uuid.uuid4().hex[:8]


def guest_directory(name: str) -> Path:
    """A directory for one guest's files that an unprivileged QEMU may enter."""
    parent = LABS_DIR / "guests"
    parent.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
    directory.chmod(0o755)
    return directory


def define(uri: str, guest: Guest, xml: str) -> Guest:
    """Define the guest from its XML; its files go again when that fails."""
    path = guest.directory / "domain.xml"
    path.write_text(xml)
    try:
        virsh(uri, "define", path)
    except LabError:
        shutil.rmtree(guest.directory, ignore_errors=True)
        raise
    return guest


@contextlib.contextmanager
def dhcp_network(uri: str = QEMU_URI) -> Iterator[str]:
    """A network of libvirt's own that leads nowhere and gives out addresses; its name. Gone when the block ends."""
    name = unique_name("net")
    part = uuid.uuid4().int
    subnet = f"10.{200 + part % 50}.{part // 50 % 250}"
    xml = (
        f"<network><name>{name}</name><bridge stp='off' delay='0'/><ip address='{subnet}.1' netmask='255.255.255.0'>"
        f"<dhcp><range start='{subnet}.10' end='{subnet}.99'/></dhcp></ip></network>"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(xml)
        file.flush()
        virsh(uri, "net-create", file.name)
    try:
        yield name
    finally:
        virsh(uri, "net-destroy", name)


def overlay(directory: Path) -> Path:
    """A disk of one guest's own, over the tiny guest's bootable one."""
    path = directory / "overlay.qcow2"
    base = build_tiny_kernel(disk=True).disk
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, path)
    path.chmod(0o666)  # QEMU is another account
    return path


def boot_sector(directory: Path) -> Path:
    """A raw disk whose boot sector prints '!' and halts."""
    path = directory / "sector.raw"
    run(HERE / "tiny-guest", "bootsector", path)
    return path


def container_root(directory: Path) -> Path:
    """A busybox container's root file system."""
    path = directory / "root"
    run(HERE / "lxc-guest", "build", path)
    return path


def make_qemu_guest(*options: str, name: str = "", uri: str = QEMU_URI) -> Guest:
    """Define a tiny Linux guest (under emulation, shut off). `options` are those of `tiny-guest xml`."""
    kernel = build_tiny_kernel()
    guest = _new(uri, name or unique_name(), TINY_READY)
    guest.serial_log = guest.directory / "serial.log"
    xml = run(
        HERE / "tiny-guest", "xml", guest.name, kernel.directory, "--uuid", guest.uuid,
        "--serial-log", guest.serial_log, *options,
    )  # fmt: skip
    return define(uri, guest, xml)


def make_bootsector_guest(*options: str, name: str = "", uri: str = QEMU_URI, image: str = "raw") -> Guest:
    """Define the smallest QEMU guest: 16 MiB, a boot sector that halts. It obeys nothing. `image`: the format of its disk."""
    guest = _new(uri, name or unique_name("sector"), "!")
    guest.serial_log = guest.directory / "serial.log"
    disk = boot_sector(guest.directory)
    disk = guest.directory / "sector.raw"
    run(HERE / "tiny-guest", "bootsector", disk)
    if image != "raw":
        raw, disk = disk, disk.with_suffix(f".{image}")
        run("qemu-img", "convert", "-q", "-O", image, raw, disk)
        disk.chmod(0o666)
    xml = run(
        HERE / "tiny-guest", "xml", guest.name, guest.directory, "--uuid", guest.uuid, "--mem", "16", "--no-agent",
        "--boot", "disk", "--disk", f"{disk}:{image}", "--serial-log", guest.serial_log, *options,
    )  # fmt: skip
    return define(uri, guest, xml)


def make_lxc_guest(*options: str, name: str = "", uri: str = LXC_URI) -> Guest:
    """Define a busybox container (shut off). `options` are those of `lxc-guest xml`."""
    guest = _new(uri, name or unique_name("lxc"), LXC_READY)
    root = container_root(guest.directory)
    return define(uri, guest, run(HERE / "lxc-guest", "xml", guest.name, root, "--uuid", guest.uuid, *options))


def _new(uri: str, name: str, ready: str) -> Guest:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise ValueError(f"not a guest name: {name!r}")
    return Guest(uri=uri, name=name, uuid=str(uuid.uuid4()), directory=guest_directory(name), ready=ready)
