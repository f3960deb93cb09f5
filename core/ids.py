"""Identifiers: time-ordered UUIDs (RFC 9562, version 7), so that primary keys sort by age and index pages stay hot."""

from __future__ import annotations

import os
import time
import uuid

__all__ = ["uuid7"]


def uuid7() -> uuid.UUID:
    """A version 7 UUID: 48 bits of Unix milliseconds, 12 of their fraction, then 62 random ones (Python's own arrives with 3.14).

    The fraction (a quarter of a microsecond, RFC 9562's method 3) keeps rows of one burst in the order in which they were made.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    random = int.from_bytes(os.urandom(8), "big") >> 2
    return uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | (rest << 12) // 1_000_000 << 64 | 0x2 << 62 | random)
