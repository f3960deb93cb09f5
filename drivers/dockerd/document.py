"""What an engine answered, read without trust: a value of another type than it should have is an error, never a surprise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from drivers.dockerd import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST = 2**63 - 1


class Document:
    """A JSON object. Each reader takes the path to a value; what is missing or null reads as empty.

    Raises DriverError when a value on the path has another type.
    """

    def __init__(self, value: object, *, what: str = "answer") -> None:
        if value is not None and not isinstance(value, dict):
            raise errors.unreadable(f"{what} is no object")
        self._value: dict[str, object] = value or {}
        self._what = what

    def _at(self, path: tuple[str, ...]) -> object:
        at: object = self._value
        for number, name in enumerate(path):
            if at is None:
                return None
            if not isinstance(at, dict):
                raise self._odd(path[:number])
            at = at.get(name)
        return at

    def _odd(self, path: tuple[str, ...]) -> Exception:
        return errors.unreadable(f"{self._what}.{'.'.join(path)} is of the wrong type")

    def text(self, *path: str) -> str:
        """A string; characters that no terminal and no database would take are replaced."""
        value = self._at(path)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self._odd(path)
        return value if value.isprintable() else "".join(sign if sign.isprintable() else "\ufffd" for sign in value)

    def number(self, *path: str) -> int:
        """A whole number."""
        found = self.number_or_none(*path)
        return 0 if found is None else found

    def number_or_none(self, *path: str) -> int | None:
        """A whole number, None where there is none."""
        value = self._at(path)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._odd(path)
        return max(-_MOST, min(_MOST, int(value)))

    def flag(self, *path: str) -> bool:
        """True or false."""
        value = self._at(path)
        if value is not None and not isinstance(value, bool):
            raise self._odd(path)
        return bool(value)

    def part(self, *path: str) -> Document:
        """An object."""
        value = self._at(path)
        if value is not None and not isinstance(value, dict):
            raise self._odd(path)
        return Document(value, what=".".join((self._what, *path)))

    def parts(self, *path: str) -> list[Document]:
        """A list of objects."""
        return rows(self._at(path), what=".".join((self._what, *path)))

    def texts(self, *path: str) -> list[str]:
        """A list of strings."""
        value = self._at(path)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._odd(path)
        return [Document({"each": each}, what=self._what).text("each") for each in value]

    def texts_by_name(self, *path: str) -> dict[str, str]:
        """Each string of an object by its name."""
        part = self.part(*path)
        return {Document({"name": name}).text("name"): part.text(name) for name in part._value}  # noqa: SLF001 - its own class

    def has(self, name: str) -> bool:
        """Whether it is there and not null."""
        return self._value.get(name) is not None

    def items(self, *path: str) -> Iterator[tuple[str, Document]]:
        """Each named object of an object."""
        part = self.part(*path)
        for name in part._value:  # noqa: SLF001 - its own class
            yield Document({"name": name}).text("name"), part.part(name)


def rows(value: object, *, what: str = "answer") -> list[Document]:
    """A list of objects."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise errors.unreadable(f"{what} is no list")
    return [Document(each, what=f"{what}[{number}]") for number, each in enumerate(value)]
