"""The key file: made once, then it must exist. Standard library and `cryptography` only, since settings read it.

A lost key is an error with a way out, never a silent new key that makes every stored credential unreadable.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet

from core.errors import VmmError

if TYPE_CHECKING:
    from pathlib import Path


class KeyMissing(VmmError):
    """The key file is missing."""

    code = "key_missing"


def ensure_key(path: Path, *, may_create: bool) -> None:
    """Make the key file if it may be made.

    Raises:
        KeyMissing: It is gone although a database exists, or holds no key.
        OSError: It cannot be read or made.
    """
    if path.exists():
        _check(path)
        return
    if not may_create:
        raise KeyMissing(
            f"{path} is gone, but the database holds secrets encrypted with it. Put the file back from your backup, "
            "or point VMM_KEY_FILE to it."
        )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return  # another process of the same start was faster
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(Fernet.generate_key() + b"\n")
    except OSError:
        path.unlink()  # a full disk must not leave an empty key behind, which no later start would replace
        raise


def _check(path: Path) -> None:
    try:
        for key in path.read_bytes().split() or [b""]:
            Fernet(key)
    except ValueError:
        raise KeyMissing(f"{path} holds no key. Put the file back from your backup.") from None


def derive_secret(path: Path, label: str) -> str:
    """A secret for another purpose (Django's SECRET_KEY), derived from the key file so that there is one secret to keep."""
    key = path.read_bytes().split()[-1]
    return base64.urlsafe_b64encode(hmac.new(key, label.encode(), hashlib.sha256).digest()).decode()
