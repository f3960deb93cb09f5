"""Servers that misbehave on purpose, and a small certificate authority, for tests of pool and host doctor."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in PEM."""

    certificate: str
    key: str


class Authority:
    """A CA that signs what it is told to."""

    def __init__(self, name: str = "Test CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        built = (
            _builder(self._name, self._name, self._key.public_key(), NOW - DAY, NOW + 365 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = built.public_bytes(serialization.Encoding.PEM).decode()

    def sign(self, common_name: str, *names: str, until: dt.datetime = NOW + 30 * DAY, by_itself=False) -> Pair:
        """A certificate for `common_name`, with `names` (DNS names or addresses) as subjectAltName when there are any."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        issuer = subject if by_itself else self._name
        builder = _builder(subject, issuer, key.public_key(), NOW - 60 * DAY, until)
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general(name) for name in names]), critical=False
            )
        built = builder.sign(key if by_itself else self._key, hashes.SHA256())
        return Pair(
            built.public_bytes(serialization.Encoding.PEM).decode(),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode(),
        )


def _builder(subject, issuer, public_key, since, until) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@contextlib.contextmanager
def serving(listener: socket.socket, handle: Callable[[socket.socket], None]) -> Iterator[socket.socket]:
    """Let `handle` serve each connection of a bound socket on a thread; all of them are closed at the end."""
    listener.listen(50)
    listener.settimeout(0.05)
    over, streams, threads = threading.Event(), [], []

    def work(stream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            handle(stream)

    def accept() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                stream, _ = listener.accept()
                stream.settimeout(10)
                streams.append(stream)
                threads.append(threading.Thread(target=work, args=(stream,), daemon=True))
                threads[-1].start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield listener
    finally:
        over.set()
        acceptor.join(5)
        listener.close()
        for stream in streams:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
            stream.close()
        for thread in threads:
            thread.join(5)


def bound() -> socket.socket:
    """A TCP socket on a free port of the loopback."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener


def mute(_stream: socket.socket) -> None:
    """Take the connection and say nothing."""


def saying(data: bytes) -> Callable[[socket.socket], None]:
    """Say `data` and wait for the other side to go."""

    def handle(stream: socket.socket) -> None:
        stream.sendall(data)
        stream.recv(100)

    return handle


def tls(
    pair: Pair, directory: Path, *, client_ca: str = "", greeting: bytes = b"\x01"
) -> Callable[[socket.socket], None]:
    """Speak TLS as libvirtd does: shake hands, look at the client's certificate, say one byte."""
    files = directory / "server.pem", directory / "server.key"
    for file, text in zip(files, (pair.certificate, pair.key), strict=True):
        file.write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    if client_ca:
        context.load_verify_locations(cadata=client_ca)
        context.verify_mode = ssl.CERT_REQUIRED

    def handle(stream: socket.socket) -> None:
        with context.wrap_socket(stream, server_side=True) as wrapped:
            wrapped.sendall(greeting)
            wrapped.recv(100)

    return handle
