"""TLS to a hypervisor, from its credentials: verified by default, or against one pinned certificate.

For the client libraries that take an `ssl.SSLContext` (vSphere's, XenServer's, Docker's, WS-Management's). libvirt does its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.errors import TlsFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.types import Credentials


def client_context(credentials: Credentials | None) -> ssl.SSLContext:
    """A client's context as the credentials want it: whom to believe, and our own certificate if there is one.

    `verify` True checks chain and name, against `ca_certificate` if given and else against the system's authorities; a
    SHA-256 fingerprint believes exactly the certificate that has it; False believes anybody.

    Raises:
        TlsFailed: A certificate or key in the credentials cannot be read, or they do not belong together.
    """
    context = ssl.create_default_context()
    verify: bool | str = True if credentials is None else credentials.verify
    try:
        if verify is not True:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif credentials is not None and credentials.ca_certificate:
            context = ssl.create_default_context(cadata=credentials.ca_certificate)
        if isinstance(verify, str):
            context.sslsocket_class = _pinned(verify)
        if credentials is not None and credentials.certificate:
            with _files(credentials) as (certificate, key):
                context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError, TypeError) as error:
        # An SSLError is an OSError; for text with anything beyond ASCII in it `cadata` is a TypeError.
        message = (
            "A certificate or key in the credentials cannot be read, or they do not belong together (PEM is expected)."
        )
        raise TlsFailed(message) from error
    return context


def translate(error: ssl.SSLError, *, host: str = "") -> TlsFailed:
    """The handshake's failure in words for a person."""
    where = f" of {host}" if host else ""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message or str(error)
        return TlsFailed(f"The certificate{where} is not trusted: {why}.", host=host)
    return TlsFailed(f"The TLS handshake{f' with {host}' if host else ''} failed: {error.reason or error}.", host=host)


def fingerprint(der: bytes) -> str:
    """SHA-256 of a certificate, in hex without colons."""
    return hashlib.sha256(der).hexdigest()


def _pinned(wanted: str) -> type[ssl.SSLSocket]:
    """A socket that ends its own handshake when the certificate is another one: nothing is sent to a stranger."""
    expected = wanted.lower().removeprefix("sha256:").replace(":", "")

    class PinnedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - ssl's own signature
            super().do_handshake(block)
            der = self.getpeercert(binary_form=True)
            got = fingerprint(der) if der else "none"
            if got != expected:
                error = ssl.SSLCertVerificationError(f"it has the SHA-256 {got}, another one than expected")
                error.verify_message = f"it has the SHA-256 {got}, another one than expected"
                raise error

    return PinnedSocket


@contextlib.contextmanager
def _files(credentials: Credentials) -> Iterator[tuple[str, str]]:
    """OpenSSL takes certificates only as files: they lie in a directory of mode 0700 for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="vmm-tls-") as name:
        paths = Path(name, "certificate.pem"), Path(name, "key.pem")
        for path, text in zip(paths, (credentials.certificate, credentials.private_key), strict=True):
            path.touch(mode=0o600)
            path.write_text(text)
        yield str(paths[0]), str(paths[1])


def _no_password() -> str:
    return ""  # never ask a terminal
