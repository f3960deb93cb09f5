"""Network filters, as data: what can be one, and who takes in whom.

Both doors check: a request gets `BadInput`, a driver refuses with its own error before it acts (`findings.refusing`). libvirt compares
with its schema afterwards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from drivers.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Filters = Mapping[str, Iterable[str]]

NAME_MAX: Final = 50
XML_MAX: Final = 64 * 1024
_OTHER_ENCODING = re.compile(r"\s*<\?xml[^>]*encoding\s*=\s*[\"'](?!utf-?8|us-ascii|ascii)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What of a filter is compared before a host sees it."""

    name: str
    chain: str
    rules: int
    uses: tuple[str, ...]


def outline(xml: str) -> Outline:
    """What is written there. Raises BadInput (`/xml`) for what is no XML, too large, no filter, or has a document type."""
    found = Findings()
    root = None
    if len(xml) > XML_MAX or "\0" in xml:
        found.add("xml", f"At most {XML_MAX // 1024} KiB of text.")
    elif "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        found.add("xml", "A definition may not have a document type or entities.")
    elif _OTHER_ENCODING.match(xml):
        found.add("xml", "It says that it is not UTF-8: send UTF-8.")
    else:
        try:
            root = ET.fromstring(xml)  # noqa: S314 - no document type, no entities
        except (ET.ParseError, ValueError) as error:
            found.add("xml", f"This is not well-formed XML: {error}.")
    if root is not None and root.tag != "filter":
        found.add("xml", f"This is a <{root.tag[:80]}>, not a <filter>.")
    found.settle()
    assert root is not None  # noqa: S101 - settled
    return Outline(
        name=root.get("name", ""),
        chain=root.get("chain", "root"),
        rules=len(root.findall("rule")),
        uses=tuple(one for one in (ref.get("filter", "") for ref in root.findall("filterref")) if one),
    )


def _name(text: str) -> str:
    if len(text) > NAME_MAX or not _NAME.fullmatch(text):
        raise ValueError(
            f"A filter has a name of 1 to {NAME_MAX} letters a to z, digits and _ . -, and it starts with a letter, a digit or _."
        )
    return text


def check_filter(found: Filters, name: str, uses: Iterable[str], *, changes: str = "") -> None:
    """Whether a filter can be made, or put in the place of the one that it `changes`. Raises BadInput.

    Args:
        found: Those that are there: name → names of what it takes in.
        name: What it is called.
        uses: What it takes in.
        changes: The one that it takes the place of; "" for none.
    """
    wrong = Findings()
    wrong.checked("xml", name, _name)
    if changes and name != changes:
        wrong.add("xml", f"The name of this filter is {changes}: it cannot be changed.")
    for one in uses:
        if one not in found and one != name:
            wrong.add("xml", f"It takes in {one[:NAME_MAX]}, and there is no such filter.")
        elif one == name or name in _taken_in(found, one):
            wrong.add("xml", f"It takes in {one}, which takes in this one: a circle.")
    wrong.settle()


def _taken_in(found: Filters, name: str) -> set[str]:
    """All that a filter takes in, and what these do."""
    seen: set[str] = set()
    todo = [name]
    while todo:
        for one in found.get(todo.pop(), ()):
            if one not in seen:
                seen.add(one)
                todo.append(one)
    return seen


def users_of(found: Filters, name: str) -> list[str]:
    """Filters that take this one in."""
    return sorted(one for one, uses in found.items() if name in uses)
