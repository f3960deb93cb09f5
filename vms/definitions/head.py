"""What a definition that a caller brings says of itself, before anybody gives it to a hypervisor: name and identifier, no more.

Only the beginning of the tree is looked at, by a parser that refuses document types: there are no entities to be expanded, and nothing
is fetched. Whether the definition is one is for the hypervisor to say.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final
from xml.parsers import expat

from core.errors import BadInput

NAME_MAX: Final = 200
DEPTH_MAX: Final = 100
"""A definition has some ten levels. What reads it further on may not bear many more (libxml2 stops at 256)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """`uuid`: "" where it says none; `at`: the byte where its `<name>` begins."""

    name: str
    uuid: str
    at: int


class _Reader:
    """Collects texts of the root's children `name` and `uuid`."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.at = -1
        self._depth = 0
        self._inside = ""
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._doctype

    def read(self, content: bytes) -> None:
        self._parser.Parse(content, True)  # noqa: FBT003 - expat's own

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise _refused(f"it is nested deeper than {DEPTH_MAX} levels")
        if self._depth == 2 and name in ("name", "uuid") and name not in self.texts:
            self._inside = name
            self.texts[name] = ""
            if name == "name":
                self.at = self._parser.CurrentByteIndex

    def _end(self, _name: str) -> None:
        self._depth -= 1
        if self._depth == 1:
            self._inside = ""

    def _text(self, text: str) -> None:
        if self._inside and self._depth == 2:
            self.texts[self._inside] += text

    def _doctype(self, *_: object) -> None:
        raise _refused("a definition has no document type, and no entities")


def head(xml: str) -> Head:
    """What `xml` says of itself. Raises BadInput."""
    reader = _Reader()
    try:
        # Declared or not, what we hand over is UTF-8.
        reader.read(_undeclared(xml).encode())
    except expat.ExpatError as error:
        raise _refused(f"no XML: line {error.lineno}: {expat.ErrorString(error.code)}") from None
    except UnicodeEncodeError:
        raise _refused("no XML: characters that may not be in it") from None
    name = reader.texts.get("name", "").strip()
    if not name or len(name) > NAME_MAX or "/" in name or not name.isprintable():
        raise _refused("its <name> is missing, or no name")
    text = reader.texts.get("uuid", "").strip()
    try:
        return Head(name=name, uuid=str(uuid.UUID(text)) if text else "", at=reader.at)
    except ValueError:
        raise _refused("its <uuid> is none") from None


def with_uuid(xml: str, found: Head, identifier: str) -> str:
    """The same with a `<uuid>` before its name: all else stays as it was written."""
    content = _undeclared(xml).encode()
    return b"".join((content[: found.at], f"<uuid>{identifier}</uuid>".encode(), content[found.at :])).decode()


def _undeclared(xml: str) -> str:
    """Without the declaration, whose encoding was that of a file."""
    text = xml.lstrip("\ufeff \t\r\n")
    return text.partition("?>")[2] if text.startswith("<?xml") else text


def _refused(detail: str) -> BadInput:
    return BadInput(f"xml: {detail}.", errors=[{"pointer": "/xml", "detail": detail}])
