"""What a listener asked for: types and objects, checked once when they arrive and then only compared."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

SAMPLE = "metrics.sample"
TYPES_MAX = 100
OBJECTS_MAX = 1000
SEQ_MAX = 2**63 - 1

_TYPE = re.compile(r"[a-z][a-z0-9_-]{0,39}(\.[a-z0-9_-]{1,40}){0,3}(\.\*)?")
_OBJECT = re.compile(r"[a-z][a-z0-9_-]{0,29}/[\x21-\x7e]{1,80}")


class BadWant(ValueError):
    """What was asked cannot be understood; the text says why and repeats nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """Types (exact, or `audit.*`) and objects (`vm/<id>`); an empty set means all. Samples come only where a type names them."""

    types: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    objects: frozenset[str] = frozenset()

    @classmethod
    def of(cls, types: Any, objects: Any) -> Want:
        """Check and keep. Raises BadWant."""
        names = _strings(types, "types", TYPES_MAX, _TYPE)
        return cls(
            types=frozenset(name for name in names if not name.endswith(".*")),
            prefixes=tuple(sorted(name[:-1] for name in names if name.endswith(".*"))),
            objects=frozenset(_strings(objects, "objects", OBJECTS_MAX, _OBJECT)),
        )

    def takes(self, type: str, object: str) -> bool:  # noqa: A002 - the event's own words
        """Whether an event of this type and object was asked for."""
        if self.objects and object not in self.objects:
            return False
        return not (self.types or self.prefixes) or type in self.types or type.startswith(self.prefixes or "\0")

    @property
    def samples(self) -> bool:
        """Whether samples were asked for by name."""
        return SAMPLE in self.types or SAMPLE.startswith(self.prefixes or "\0")


def _strings(value: Any, name: str, most: int, form: re.Pattern[str]) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadWant(f"{name} is a list of strings")
    if len(value) > most:
        raise BadWant(f"{name} has at most {most} entries")
    if not all(isinstance(one, str) and form.fullmatch(one) for one in value):
        raise BadWant(f"{name} has an entry that is none")
    return value


def check_after(value: Any) -> int | None:
    """`after` as a seq; None when it is absent. Raises BadWant."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= SEQ_MAX:
        raise BadWant("after is the seq of an event")
    return value
