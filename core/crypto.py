"""Secrets at rest: one key file, authenticated encryption, and model fields that never show what they hold.

The key file itself is `core.crypto_key`'s.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models

from core.crypto_key import KeyMissing
from core.errors import VmmError

if TYPE_CHECKING:
    from pathlib import Path

    # Django's fields take type arguments in the stubs only.
    _BinaryField = models.BinaryField[Any, Any]
else:
    _BinaryField = models.BinaryField


@lru_cache(maxsize=4)
def _cipher(path: Path) -> MultiFernet:
    try:
        keys = path.read_bytes().split()
    except FileNotFoundError:
        raise KeyMissing(f"{path} does not exist. Start once with `manage.py serve`, or set VMM_KEY_FILE.") from None
    # The first key encrypts, all decrypt: a new key is put on top of the file, the old one stays below until re-encrypted.
    return MultiFernet([Fernet(key) for key in keys])


def encrypt(plain: bytes) -> bytes:
    """Authenticated ciphertext (Fernet: AES-128-CBC and HMAC-SHA256) under the first key of the key file."""
    return _cipher(settings.KEY_FILE).encrypt(plain)


def decrypt(token: bytes) -> bytes:
    """The plain text. Raises VmmError when it was made with another key or was changed."""
    try:
        return _cipher(settings.KEY_FILE).decrypt(token)
    except InvalidToken:
        raise VmmError("A stored secret cannot be read with this key file.") from None


class EncryptedJSONField(_BinaryField):
    """JSON that is encrypted in the database. Not queryable, never serialised by default."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["editable"] = False
        super().__init__(*args, **kwargs)

    def get_prep_value(self, value: Any) -> bytes | None:
        """JSON → ciphertext."""
        return None if value is None else encrypt(json.dumps(value, separators=(",", ":")).encode())

    def from_db_value(self, value: Any, _expression: object, _connection: object) -> Any:
        """Ciphertext → JSON."""
        return None if value is None else json.loads(decrypt(bytes(value)))

    def to_python(self, value: Any) -> Any:
        """Already JSON: BinaryField would try base64."""
        return value

    def value_to_string(self, obj: models.Model) -> str:
        """Serializers see nothing."""
        return "<hidden>"
