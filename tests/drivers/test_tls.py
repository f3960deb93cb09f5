"""TLS to a hypervisor: verified, pinned, or neither; a stranger learns nothing."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

import pytest

from drivers.errors import TlsFailed
from drivers.tls import client_context, fingerprint, translate
from drivers.types import Credentials
from tests.drivers import servers
from tests.drivers.servers import Authority, Pair

SECRET = b"password=geheim-4711"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.sign("hv", "127.0.0.1")


def sha256(pair: Pair) -> str:
    return fingerprint(ssl.PEM_cert_to_DER_cert(pair.certificate))


class Listener:
    """A small TLS server that keeps what it was told once hands were shaken."""

    def __init__(self, pair: Pair, directory, *, client_ca: str = "") -> None:
        self.heard = b""
        self.over = threading.Event()
        self.client: dict[str, object] = {}
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (directory / "c.pem").write_text(pair.certificate + pair.key)
        self._context.load_cert_chain(directory / "c.pem")
        if client_ca:
            self._context.load_verify_locations(cadata=client_ca)
            self._context.verify_mode = ssl.CERT_REQUIRED

    def __call__(self, stream: socket.socket) -> None:
        try:
            with contextlib.suppress(ssl.SSLError), self._context.wrap_socket(stream, server_side=True) as wrapped:
                self.client = wrapped.getpeercert() or {}
                self.heard += wrapped.recv(1000)
                wrapped.sendall(b"ok")
        finally:
            self.over.set()


def talk(listener: socket.socket, credentials: Credentials | None, *, name: str = "127.0.0.1") -> bytes:
    """Shake hands, say the secret, and hear the answer."""
    with (
        socket.create_connection(listener.getsockname(), timeout=5) as stream,
        client_context(credentials).wrap_socket(stream, server_hostname=name) as wrapped,
    ):
        wrapped.sendall(SECRET)
        return wrapped.recv(10)


def refused(pair: Pair, directory, credentials: Credentials | None, *, name: str = "127.0.0.1") -> str:
    """The handshake fails and the server has heard nothing; the sentence that a person reads."""
    server = Listener(pair, directory)
    with servers.serving(servers.bound(), server) as listener:
        with pytest.raises(ssl.SSLError) as caught:
            talk(listener, credentials, name=name)
        assert server.over.wait(5)
    assert server.heard == b""
    return translate(caught.value, host="hv").detail


def test_the_right_pin_when_connecting_then_spoken_to_whatever_the_name(pair, tmp_path) -> None:
    for pin in (sha256(pair), sha256(pair).upper(), ":".join(sha256(pair)[i : i + 2] for i in range(0, 64, 2))):
        server = Listener(pair, tmp_path)
        with servers.serving(servers.bound(), server) as listener:
            assert talk(listener, Credentials(verify=pin), name="quite-another.example") == b"ok"
        assert server.heard == SECRET


def test_a_wrong_pin_when_connecting_then_nothing_is_said(pair, authority, tmp_path) -> None:
    other = sha256(authority.sign("other", "127.0.0.1"))
    said = refused(pair, tmp_path, Credentials(verify=other, ca_certificate=authority.pem))
    assert sha256(pair) in said
    assert said.startswith("The certificate of hv is not trusted")


def test_a_certificate_of_our_authority_when_connecting_then_spoken_to(pair, authority, tmp_path) -> None:
    server = Listener(pair, tmp_path)
    with servers.serving(servers.bound(), server) as listener:
        assert talk(listener, Credentials(ca_certificate=authority.pem)) == b"ok"


def test_a_certificate_of_a_stranger_when_connecting_then_nothing_is_said(pair, tmp_path) -> None:
    assert "not trusted" in refused(pair, tmp_path, None)
    assert "not trusted" in refused(pair, tmp_path, Credentials(ca_certificate=Authority("Other").pem))


def test_another_name_when_connecting_then_nothing_is_said(authority, tmp_path) -> None:
    pair = authority.sign("hv", "hv.example")
    said = refused(pair, tmp_path, Credentials(ca_certificate=authority.pem), name="127.0.0.1")
    assert "127.0.0.1" in said


def test_no_check_when_asked_for_then_anybody_is_spoken_to(pair, tmp_path) -> None:
    server = Listener(pair, tmp_path)
    with servers.serving(servers.bound(), server) as listener:
        assert talk(listener, Credentials(verify=False)) == b"ok"


def test_a_client_certificate_when_the_server_wants_one_then_shown(pair, authority, tmp_path) -> None:
    ours = authority.sign("vmmanager")
    server = Listener(pair, tmp_path, client_ca=authority.pem)
    credentials = Credentials(certificate=ours.certificate, private_key=ours.key, ca_certificate=authority.pem)
    with servers.serving(servers.bound(), server) as listener:
        assert talk(listener, credentials) == b"ok"
    assert server.client["subject"] == ((("commonName", "vmmanager"),),)


def test_credentials_that_cannot_be_read_when_used_then_a_sentence_without_them(authority) -> None:
    one, other = authority.sign("a"), authority.sign("b")
    for credentials in (
        Credentials(certificate="nonsense", private_key="geheim"),
        Credentials(certificate=one.certificate, private_key=other.key),
        Credentials(ca_certificate="no certificate at all"),
        Credentials(ca_certificate="kein Zertifikat, für niemanden"),
    ):
        with pytest.raises(TlsFailed) as caught:
            client_context(credentials)
        assert "cannot be read" in caught.value.detail
        assert "geheim" not in caught.value.detail
