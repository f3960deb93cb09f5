"""Real Xen with a Debian dom0 in an emulated machine, as fixtures (a plug-in: see tests/conftest.py)."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.labs.fixtures import require
from tests.labs.local import HERE, LABS_DIR, LabError, run, unique_name, virsh

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SCRIPT = HERE / "xen-host"
PORTS = ("TCP", "TLS", "SSH", "VNC")


class XenHost:
    """One emulated machine of this process, with its own ports of 127.0.0.1. Diskless: nothing it does is kept.

    Attributes:
        vnc_port: A guest's screen on this port of dom0 is on the same port here.
    """

    def __init__(self) -> None:
        self._built = LABS_DIR / "xen"
        self._directory = Path(tempfile.mkdtemp(prefix="vmm-xen-"))
        with _free_ports(len(PORTS)) as found:
            self._ports = dict(zip(PORTS, found, strict=True))
        self.vnc_port = self._ports["VNC"]

    def up(self) -> None:
        """Build what is not built yet (20 to 60 s, once a machine), then boot or, after the first time, resume (1 s)."""
        run(SCRIPT, "build", self._built, timeout=600)
        ports = {f"XEN_{name}_PORT": str(port) for name, port in self._ports.items()}
        run(SCRIPT, "up", self._built, self._directory, timeout=400, env=ports)

    def down(self) -> None:
        """End it, and leave nothing behind."""
        try:
            run(SCRIPT, "down", self._directory)
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)

    def uri(self, transport: str = "tcp") -> str:
        """As users write it: `tcp` (no questions asked), `tls` or `ssh`."""
        account = "root@" if transport == "ssh" else ""
        return f"xen+{transport}://{account}127.0.0.1:{self._ports[transport.upper()]}/system"

    def port(self, transport: str) -> int:
        return self._ports[transport.upper()]

    def key(self, name: str) -> str:
        """What stands in a file of its keys: cacert.pem, clientcert.pem, clientkey.pem, id_ed25519, ssh_host_key.pub."""
        return (self._built / "pki" / name).read_text()

    def xml(self, kind: str = "pv", *options: str, name: str = "") -> str:
        """A guest's definition; `kind` is pv or pvh, `options` are those of `xen-host xml`."""
        return run(SCRIPT, "xml", kind, name or unique_name("xen"), "--uuid", str(uuid.uuid4()), *options)

    def virsh(self, *words: str, timeout: float = 120.0) -> str:
        """What another client, `virsh`, is told."""
        return virsh(self.uri(), *words, timeout=timeout)

    def forget(self, guests: Iterable[str]) -> None:
        """End and undefine guests, whatever state they are in; those that are gone are fine."""
        words = [f"destroy {guest}; undefine {guest} --managed-save;" for guest in guests]
        if words and set(guests) & set(self.virsh(" ".join([*words, "list --all --uuid"])).split()):
            raise LabError(f"guests were left behind: {guests}")

    @contextlib.contextmanager
    def local_socket(self, path: Path) -> Iterator[str]:
        """Its libvirtd behind a socket of this machine, as if we were in dom0: the URI."""
        with contextlib.ExitStack() as ends, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()

            def accept() -> None:
                with contextlib.suppress(OSError):  # the listener is shut
                    while True:
                        near = ends.enter_context(listener.accept()[0])
                        far = ends.enter_context(socket.create_connection(("127.0.0.1", self.port("tcp"))))
                        for pair in ((near, far), (far, near)):
                            threading.Thread(target=_pump, args=pair, daemon=True).start()

            accepting = threading.Thread(target=accept, daemon=True)
            accepting.start()
            yield f"xen+unix:///system?socket={path}"
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(5)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def _free_ports(count: int) -> Iterator[list[int]]:
    """Ports of 127.0.0.1 that nobody has; all held until the block ends, so that no two are the same."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        yield [each.getsockname()[1] for each in sockets]


@pytest.fixture(scope="session")
def xen_host() -> Iterator[XenHost]:
    """A Xen host of this test process, up for the whole session."""
    host = XenHost()
    try:
        require(host.up, "no Xen host")
        yield host
    finally:
        host.down()


@pytest.fixture
def xen_guests(xen_host: XenHost) -> Iterator[list[str]]:
    """UUIDs of guests; those that are put here are gone after the test."""
    made: list[str] = []
    yield made
    xen_host.forget(made)
