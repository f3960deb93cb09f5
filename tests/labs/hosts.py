"""One to four separate libvirtd hosts on this machine (`tests/labs/qemu-hosts`), and ways to break them."""

from __future__ import annotations

import contextlib
import fcntl
from typing import IO, TYPE_CHECKING

from tests.labs.local import HERE, LABS_DIR, LabError, answers, run
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

SLOTS = 8  # labs that may stand side by side: one a test process


class LabHosts:
    """A lab of its own directory and loopback addresses. Hosts are numbered from 1."""

    def __init__(self, directory: Path, loopback: str, lock: IO[str]) -> None:
        self.directory = directory
        self.count = 0
        self._loopback = loopback
        self._lock = lock

    def up(self, count: int = 2) -> None:
        """Bring up `count` hosts (about 3 s). A lab left by a killed test run is taken down first."""
        if self.count == 0:
            self._call("down")
        self._call("up", str(count), timeout=180)
        self.count = count

    def down(self) -> None:
        """End all of it, and give its addresses back."""
        try:
            self._call("down", timeout=120)
        finally:
            self.count = 0
            self._lock.close()

    def uri(self, host: int, transport: str = "tls", driver: str = "qemu") -> str:
        """The host's URI as virsh takes it: `transport` is tls, unix or ssh, `driver` qemu or lxc."""
        return self._call("uri", str(host), transport, driver).strip()

    @property
    def pki(self) -> Path:
        """cacert.pem, clientcert.pem and clientkey.pem of a client all hosts accept; ssh, a private key likewise."""
        return self.directory / "pki"

    def address(self, host: int) -> str:
        """The loopback address where the host's ports are (TLS 16514, SSH 22, VNC 5900…)."""
        return f"{self._loopback}.{host}"

    @property
    def shared(self) -> Path:
        """Storage all hosts see as /srv/shared."""
        return self.directory / "shared"

    def local_storage(self, host: int) -> Path:
        """Storage only this host sees, as /srv/local."""
        return self.directory / f"hv{host}" / "srv" / "local"

    def execute(self, host: int, *command: str) -> str:
        """Run a command inside the host: its mounts, network, processes."""
        return self._call("exec", str(host), *command)

    def kill(self, host: int) -> None:
        """kill -9 libvirtd; guests stay."""
        self._call("kill", str(host))

    def stop(self, host: int) -> None:
        """End libvirtd in order; guests stay."""
        self._call("stop", str(host))

    def start(self, host: int) -> None:
        """Start libvirtd again; returns when it answers."""
        self._call("start", str(host))
        wait_until(lambda: answers(self.uri(host, "unix")), 20, f"libvirtd of host {host} answers")

    def freeze(self, host: int) -> None:
        """SIGSTOP libvirtd: connections stand, nothing is answered."""
        self._call("freeze", str(host))

    def thaw(self, host: int) -> None:
        self._call("thaw", str(host))

    def cut(self, host: int) -> None:
        """Take the host's network away: a dead wire, no reset."""
        self._call("cut", str(host))

    def mend(self, host: int) -> None:
        self._call("mend", str(host))

    def crash(self, host: int) -> None:
        """The whole host dies, guests included."""
        self._call("crash", str(host))

    def boot(self, host: int) -> None:
        """Start a crashed host; its definitions and disks are kept."""
        self._call("boot", str(host), timeout=60)

    def restore(self) -> None:
        """Whatever was done to the hosts: up, thawed, with a network and an answering libvirtd."""
        for host in range(1, self.count + 1):
            for mend in (self.mend, self.thaw):
                with contextlib.suppress(LabError):  # a dead host has nothing to thaw
                    mend(host)
            self.boot(host)
            self.start(host)

    def _call(self, *words: str, timeout: float = 60.0) -> str:
        names = {"QEMU_HOSTS_DIR": str(self.directory), "QEMU_HOSTS_LO": self._loopback}
        return run(HERE / "qemu-hosts", *words, timeout=timeout, env=names)


def lab() -> LabHosts:
    """The first lab no other process holds, not yet up; it is ours until `down`.

    Raises:
        LabError: all are taken.
    """
    LABS_DIR.mkdir(parents=True, exist_ok=True)
    for slot in range(SLOTS):
        lock = (LABS_DIR / f"hosts{slot}.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return LabHosts(LABS_DIR / f"hosts{slot}", f"127.{77 + slot}.0", lock)
    raise LabError(f"all {SLOTS} labs are taken")
