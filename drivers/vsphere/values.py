"""What a server sends is looked at before it is believed: each helper answers the type it promises, or nothing."""

from __future__ import annotations

import uuid
from typing import Any

_TEXT_MAX = 16_384
_NUMBER_MAX = 2**63 - 1


def text(value: object) -> str:
    """A string without NULs, "" where there is none."""
    return str(value)[:_TEXT_MAX].replace("\0", "") if isinstance(value, str) else ""


def number(value: object) -> int | None:
    """A whole number from 0 that a database takes; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _NUMBER_MAX:
        return None
    return int(value)


def flag(value: object) -> bool | None:
    """A truth value, None where there is none."""
    return value if isinstance(value, bool) else None


def items(value: object) -> list[Any]:
    """The items of a list, none where there is no list."""
    return list(value) if isinstance(value, list) else []


def identifier(value: object) -> str:
    """A UUID in its usual form, lower case; "" where it is none, or nobody's (all zeros)."""
    if not isinstance(value, str) or len(value) > 64:
        return ""
    try:
        found = uuid.UUID(value.replace(" ", "").strip())
    except ValueError:
        return ""
    return str(found) if found.int else ""
