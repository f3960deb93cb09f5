"""An `Endpoint` becomes libvirt's URI, private files and an answer to its questions; secrets live on disk for one open.

libvirt takes TLS material and SSH keys only as files: they lie in a directory of mode 0700 while `open` runs.
"""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import libvirt

from drivers.errors import AuthFailed
from drivers.ssh import client_options, private_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.types import Credentials, Endpoint

_LOCAL = ("", "unix")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What to hand to libvirt. Its repr may show the URI: that names files, never secrets."""

    uri: str
    auth: libvirt.Auth | None


def transport_of(uri: str) -> str:
    """`""`, `unix`, `tls`, `ssh` or `tcp`. A URI with a host and no transport means TLS, as in libvirt."""
    parts = urlsplit(uri)
    transport = parts.scheme.partition("+")[2]
    return transport or ("tls" if parts.hostname else "")


def is_local(uri: str) -> bool:
    """Whether the connection is a unix socket of this machine: only then may descriptors be passed over it."""
    parts = urlsplit(uri)
    return not parts.hostname and parts.scheme.partition("+")[2] in _LOCAL


def host_of(uri: str) -> str | None:
    """The remote host's name; None on a local connection."""
    return urlsplit(uri).hostname


@contextlib.contextmanager
def prepared(endpoint: Endpoint) -> Iterator[Target]:
    """Libvirt's URI for this endpoint, with its files in place for as long as the block runs.

    Raises:
        AuthFailed: The credentials are of a kind that libvirt cannot use.
    """
    credentials = endpoint.credentials
    transport = transport_of(endpoint.uri)
    with tempfile.TemporaryDirectory(prefix="vmm-libvirt-") as name:
        directory = Path(name)  # mkdtemp makes it 0700
        query: dict[str, str] = {}
        user = None
        if transport == "tls":
            query = _tls(credentials, directory)
        elif transport == "ssh":
            query = _ssh(endpoint, directory)
            user = credentials.username if credentials else None
        yield Target(uri=_with(endpoint.uri, query, user), auth=_auth(credentials))


def _with(uri: str, query: dict[str, str], user: str | None) -> str:
    parts = urlsplit(uri)
    netloc = parts.netloc
    if user and "@" not in netloc:
        netloc = f"{quote(user, safe='')}@{netloc}"
    merged = dict(parse_qsl(parts.query)) | query
    text = f"{parts.scheme}://{netloc}{parts.path}"
    return f"{text}?{urlencode(merged, quote_via=quote, safe='/')}" if merged else text


def _tls(credentials: Credentials | None, directory: Path) -> dict[str, str]:
    query: dict[str, str] = {}
    if credentials is None:
        return query
    if isinstance(credentials.verify, str):
        message = "libvirt cannot pin a certificate by its fingerprint; give the CA's certificate instead."
        raise AuthFailed(message)
    if not credentials.verify:
        query["no_verify"] = "1"
    if credentials.ca_certificate or credentials.certificate:
        private_file(directory / "cacert.pem", credentials.ca_certificate)
        if credentials.certificate:
            private_file(directory / "clientcert.pem", credentials.certificate)
            private_file(directory / "clientkey.pem", credentials.private_key)
        query["pkipath"] = str(directory)
    return query


def _ssh(endpoint: Endpoint, directory: Path) -> dict[str, str]:
    """OpenSSH's client, told by a script of ours what the URI cannot say: which key, and which host keys to believe.

    libvirt's `known_hosts` parameter is honoured by its libssh transports only, and those do not read the user's own SSH
    configuration; the script holds nothing but fixed options and paths of the private directory.
    """
    credentials = endpoint.credentials
    query = {"no_tty": "1"}
    options = client_options(endpoint.uri, credentials, directory)
    if credentials is None:
        return query
    if credentials.verify is False:
        query["no_verify"] = "1"
    script = directory / "ssh"
    private_file(script, f'#!/bin/sh\nexec ssh {shlex.join(options)} "$@"\n', mode=0o700)
    query["command"] = str(script)
    return query


def _auth(credentials: Credentials | None) -> libvirt.Auth | None:
    if credentials is None or not (credentials.username or credentials.password):
        return None
    answers = {
        libvirt.VIR_CRED_AUTHNAME: credentials.username,
        libvirt.VIR_CRED_USERNAME: credentials.username,
        libvirt.VIR_CRED_PASSPHRASE: credentials.password,
        libvirt.VIR_CRED_NOECHOPROMPT: credentials.password,
    }

    def answer(questions: list[list[object]], _opaque: None) -> int:
        for question in questions:
            kind = question[0]
            if not isinstance(kind, int) or not answers.get(kind):
                return -1
            question[4] = answers[kind]
        return 0

    return [list(answers), answer, None]
