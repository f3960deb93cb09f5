"""Real Docker and Podman engines, as fixtures (a plug-in: see tests/conftest.py).

One of each a test process, in namespaces of their own (`container-engine`), with the ways there: its socket, TLS that wants
a client's certificate, and an SSH host that has the socket where an engine's usually is.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import select
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import pytest

from drivers import registry
from drivers.types import Credentials, Endpoint, GuestRef
from tests.drivers.servers import Authority, bound, serving
from tests.labs.fixtures import require
from tests.labs.local import LabError, run
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.base import Session

SCRIPT = Path(__file__).parent / "container-engine"
IMAGE = "lab/busybox:1"
PROGRAMS = {"docker": ("dockerd", "runc", "busybox", "curl"), "podman": ("podman", "runc", "busybox", "curl")}
PATHS = {"docker": "docker.sock", "podman": "podman/podman.sock"}
SERVE = "trap 'exit 0' TERM; while :; do sleep 1 & wait; done"
"""Obeys its stop signal at once, which the first process of a container does only if it says so."""
READY_SECONDS = 90.0


@dataclass
class Engine:
    """A running engine, and a client of it that owes nothing to the driver."""

    kind: str
    directory: Path
    client: docker.DockerClient
    process: subprocess.Popen[bytes]
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def socket(self) -> Path:
        return self.directory / "engine.sock"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(driver=self.kind, uri=f"{self.kind}+unix://{self.socket}")

    def make(self, command: str = SERVE, **options: object) -> docker.models.containers.Container:
        """A container of the lab's image that runs a line of shell, not started."""
        name = options.pop("name", f"box-{next(self.numbers)}")
        options.setdefault("network_mode", "bridge" if self.kind == "docker" else "none")
        return self.client.containers.create(IMAGE, ["/bin/sh", "-c", command], name=name, **options)

    def clear(self) -> None:
        """Remove every container."""
        for row in self.client.api.containers(all=True):
            with contextlib.suppress(docker.errors.NotFound):
                self.client.api.remove_container(row["Id"], force=True)

    def kill(self) -> None:
        """End it as a power cut does; its containers go with it."""
        self.process.kill()
        self.process.wait()

    @contextlib.contextmanager
    def over_tls(self, *, client_ca: str | None = None) -> Iterator[TlsFront]:
        """Serve it on a port of the loopback as `dockerd --tlsverify` does. `client_ca`: whose clients to let in."""
        authority = Authority()
        pair = authority.sign("127.0.0.1", "127.0.0.1")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        files = [Path(self.directory, name) for name in ("front.pem", "front.key")]
        for file, text in zip(files, (pair.certificate, pair.key), strict=True):
            file.write_text(text)
        context.load_cert_chain(*files)
        context.load_verify_locations(cadata=client_ca or authority.pem)
        context.verify_mode = ssl.CERT_REQUIRED

        def handle(stream: socket.socket) -> None:
            stream.settimeout(None)
            with context.wrap_socket(stream, server_side=True) as inside, socket.socket(socket.AF_UNIX) as engine:
                engine.connect(str(self.socket))
                _relay(inside, engine)

        with serving(bound(), handle) as listener:
            yield TlsFront(self.kind, listener.getsockname()[1], authority, pair.certificate)

    @contextlib.contextmanager
    def over_ssh(self, *, socket_at: str = "") -> Iterator[Endpoint]:
        """An SSH host with the engine's socket below /run, at its usual place or at `socket_at`."""
        directory = Path(tempfile.mkdtemp(prefix="vmm-sshd-"))
        port = _free_port()
        for name in ("host", "client"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name)
        options = ["-o", "PermitRootLogin=prohibit-password", "-o", "StrictModes=no", "-o", "PidFile=none"]
        options += ["-o", f"AuthorizedKeysFile={directory / 'client.pub'}", "-o", "ListenAddress=127.0.0.1"]
        prepare = (
            'mount --make-rprivate / && mount -t tmpfs none /run && mkdir -p /run/sshd "$(dirname "/run/$1")" '
            '&& ln -s "$0" "/run/$1" && shift && exec /usr/sbin/sshd "$@"'
        )
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "bash", "-c", prepare, str(self.socket)]
        command += [socket_at or PATHS[self.kind], "-D", "-f", "/dev/null", "-h", str(directory / "host")]
        server = subprocess.Popen([*command, "-p", str(port), *options], stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: _listens(port), 20, "sshd")
            yield Endpoint(
                driver=self.kind,
                uri=f"{self.kind}+ssh://root@127.0.0.1:{port}",
                credentials=Credentials(
                    private_key=(directory / "client").read_text(),
                    host_key=" ".join((directory / "host.pub").read_text().split()[:2]),
                ),
            )
        finally:
            server.kill()
            server.wait()
            shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True)
class TlsFront:
    """A TLS port before an engine."""

    kind: str
    port: int
    authority: Authority
    certificate: str

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.certificate)

    def endpoint(self, *, authority: Authority | None = None, **credentials: object) -> Endpoint:
        """As a client that `authority` (the front's own) has signed; credentials replace what it would say otherwise."""
        pair = (authority or self.authority).sign("client")
        told = {"certificate": pair.certificate, "private_key": pair.key, "ca_certificate": self.authority.pem}
        return Endpoint(
            driver=self.kind,
            uri=f"{self.kind}+tcp://127.0.0.1:{self.port}",
            credentials=Credentials(**(told | credentials)),
        )


def fingerprint_of(certificate: str) -> str:
    """SHA-256 of a certificate in PEM, as browsers and `openssl x509 -fingerprint` show it."""
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest().upper()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


def ref_of(container: docker.models.containers.Container) -> GuestRef:
    """How the driver calls it."""
    return GuestRef(uuid=container.id, name=container.name)


@contextlib.contextmanager
def opened(endpoint: Endpoint) -> Iterator[Session]:
    """A session of the driver's for the length of the block."""
    session = registry.get(endpoint.driver).open(endpoint)
    try:
        yield session
    finally:
        session.close()


@contextlib.contextmanager
def running(kind: str) -> Iterator[Engine]:
    """Start an engine. Raises LabError."""
    missing = [name for name in PROGRAMS[kind] if shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") is None]
    if missing:
        raise LabError(f"programs are missing: {', '.join(missing)}")
    directory = Path(tempfile.mkdtemp(prefix=f"vmm-{kind}-"))
    command = ["setpriv", "--pdeathsig", "KILL", str(SCRIPT), kind, str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait_ready(process, time.monotonic() + READY_SECONDS)
        client = docker.DockerClient(base_url=f"unix://{directory}/engine.sock", version="1.41", timeout=30)
        engine = Engine(kind=kind, directory=directory, client=client, process=process)
        yield engine
        if process.poll() is None:
            engine.clear()
        client.close()
    finally:
        process.kill()  # takes all that runs in its namespaces along
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        _remove_cgroups(directory.name)
        shutil.rmtree(directory, ignore_errors=True)


def _wait_ready(process: subprocess.Popen[bytes], deadline: float) -> None:
    said = b""
    while b"ready\n" not in said:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        piece = process.stdout.read1(4096) if ready and process.stdout else b""
        said += piece
        if not piece:
            raise LabError(f"the engine did not come up: {said.decode(errors='replace')[-500:]}")


def _remove_cgroups(name: str) -> None:
    for path in sorted(Path("/sys/fs/cgroup").glob(f"**/{name}"), reverse=True):
        with contextlib.suppress(OSError):
            path.rmdir()


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Bytes in both directions until either side ends."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    back = threading.Thread(target=pump, args=(other, one), daemon=True)
    back.start()
    pump(one, other)
    back.join(5)


def _free_port() -> int:
    with bound() as listener:
        return int(listener.getsockname()[1])


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as stream:
        return stream.recv(4) == b"SSH-"
    return False


def _engine(kind: str) -> Iterator[Engine]:
    stack = contextlib.ExitStack()
    found: list[Engine] = []
    require(lambda: found.append(stack.enter_context(running(kind))), f"no {kind}")
    with stack:
        yield found[0]


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """A Docker Engine, up for the whole session."""
    yield from _engine("docker")


@pytest.fixture(scope="session")
def podman_engine() -> Iterator[Engine]:
    """Podman's service, up for the whole session."""
    yield from _engine("podman")


@pytest.fixture(params=["docker", "podman"])
def container_engine(request: pytest.FixtureRequest) -> Engine:
    """Each of both."""
    found: Engine = request.getfixturevalue(f"{request.param}_engine")
    return found
