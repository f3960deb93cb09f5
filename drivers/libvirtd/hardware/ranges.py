"""Lists of numbers as libvirt and people write them: `0-3,8`. Plain text in, plain text out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST: Final = 1 << 14
"""More CPUs than libvirt can count; a range is spelt out, and nobody shall make us spell out a billion."""
_LONGEST: Final = 4096


def parse(text: str) -> frozenset[int]:
    """The numbers of `0-3,8`, less those of `^2`. Raises ValueError for what is no such list."""
    if len(text) > _LONGEST:
        message = "too long"
        raise ValueError(message)
    found: set[int] = set()
    for part in text.replace(" ", "").split(","):
        first, _, last = part.removeprefix("^").partition("-")
        if not _number(first) or (last and not _number(last)) or part.endswith("-"):
            message = f"not a range: {part!r}"
            raise ValueError(message)
        span = range(int(first), int(last or first) + 1)
        if not span or span[-1] >= MOST:
            message = f"not a range: {part!r}"
            raise ValueError(message)
        if part.startswith("^"):
            found.difference_update(span)
        else:
            found.update(span)
    if not found:
        message = "nothing is left"
        raise ValueError(message)
    return frozenset(found)


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(MOST))


def text(numbers: Iterable[int]) -> str:
    """The shortest way to write them."""
    spans = []
    for _, group in itertools.groupby(enumerate(sorted(set(numbers))), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in group]
        spans.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
    return ",".join(spans)


def tidy(written: str | None) -> str:
    """As `text` would write it; what cannot be read stays as it is."""
    try:
        return text(parse(written)) if written else ""
    except ValueError:
        return written or ""
