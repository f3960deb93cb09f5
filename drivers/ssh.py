"""OpenSSH's client for drivers that reach a hypervisor by it: which key, and which host keys to believe.

Nobody is ever asked anything (no terminal, no agent, no password): with credentials of ours the client uses those alone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from drivers.errors import AuthFailed

if TYPE_CHECKING:
    from pathlib import Path

    from drivers.types import Credentials


def client_options(uri: str, credentials: Credentials | None, directory: Path) -> list[str]:
    """Arguments for `ssh`. Key and known hosts become files in `directory`, which must be private and outlive the sign-in.

    Without credentials the account's own SSH configuration counts.

    Raises:
        AuthFailed: The credentials are of a kind that cannot be used.
    """
    if credentials is None:
        return []
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
    if credentials.password and not credentials.private_key:
        message = "SSH hosts are reached with a private key, not with a password."
        raise AuthFailed(message)
    if credentials.username.startswith("-") or not credentials.username.isprintable():
        message = "An account's name has no control characters in it, and does not begin with a hyphen."
        raise AuthFailed(message)
    if credentials.private_key:
        private_file(directory / "key", credentials.private_key)
        options += ["-i", str(directory / "key"), "-o", "IdentitiesOnly=yes"]
    if credentials.host_key:
        known = "".join(known_host_lines(uri, credentials.host_key))
        private_file(directory / "known_hosts", known)
        options += ["-o", f"UserKnownHostsFile={directory / 'known_hosts'}", "-o", "GlobalKnownHostsFile=/dev/null"]
    trust = "no" if credentials.verify is False else "yes"
    return [*options, "-o", f"StrictHostKeyChecking={trust}"]


def known_host_lines(uri: str, host_key: str) -> list[str]:
    """The host key as known_hosts lines: whole lines stay, a bare `ssh-ed25519 AAAA…` gets this URI's host in front."""
    parts = urlsplit(uri)
    host = parts.hostname or ""
    pattern = f"[{host}]:{parts.port}" if parts.port and parts.port != 22 else host
    lines = []
    for line in host_key.splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        bare = text.split()[0].startswith(("ssh-", "ecdsa-", "sk-"))
        lines.append(f"{pattern} {text}\n" if bare else f"{text}\n")
    return lines


def private_file(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Make a file that only we can read, ending in a line's end. Raises FileExistsError where one is."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text if not text or text.endswith("\n") else text + "\n")
