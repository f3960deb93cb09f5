"""The difference of two definitions as a unified diff, whose hunks are named by the element that they are in. Text only: no XML parser.

What is compared may be anything that somebody typed, so nothing here may fail on it, nor take long.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LINES_MAX: Final = 10_000
"""Longer documents are not compared: 10,000 lines take 0.1 s at worst (measured), and no definition has as many."""
CHARACTERS_MAX: Final = 400_000
_DEPTH: Final = 8
_OPENING = re.compile(r"<([A-Za-z_][\w.:-]{0,60})")
_SKIPPED: Final = (("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>"), ("<!", ">"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What changed.

    Attributes:
        text: The unified diff; "" where nothing changed, or where it is too much to be compared.
        added: Lines that came. removed: lines that went.
        cut: Whether `text` is not all of it.
    """

    text: str
    added: int
    removed: int
    cut: bool = False


def difference(before: str, after: str, *, context: int = 3, characters: int = CHARACTERS_MAX) -> Difference:
    """From `before` to `after`. At most so many `characters`, cut at a line's end."""
    old, new = before.splitlines(), after.splitlines()
    if old == new:
        return Difference(text="", added=0, removed=0)
    if max(len(old), len(new)) > LINES_MAX:
        return Difference(text="", added=len(new), removed=len(old), cut=True)
    matcher = difflib.SequenceMatcher(None, old, new)
    changes = [code for code in matcher.get_opcodes() if code[0] != "equal"]
    lines = list(_unified(old, new, matcher, context))
    kept, room = [], characters
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    return Difference(
        text="\n".join(kept),
        added=sum(high - low for _tag, _low, _high, low, high in changes),
        removed=sum(high - low for _tag, low, high, _low, _high in changes),
        cut=len(kept) < len(lines),
    )


def _unified(
    old: Sequence[str], new: Sequence[str], matcher: difflib.SequenceMatcher[str], context: int
) -> Iterator[str]:
    places, former = paths(new), paths(old)
    for group in matcher.get_grouped_opcodes(context):
        first = next(code for code in group if code[0] != "equal")
        # Named by what is there now; what went altogether by where it was.
        place = former[first[1]] if first[0] == "delete" else places[first[3]]
        yield f"@@ -{_span(group[0][1], group[-1][2])} +{_span(group[0][3], group[-1][4])} @@ {place}".rstrip()
        for tag, low, high, new_low, new_high in group:
            if tag == "equal":
                yield from (f" {line}" for line in old[low:high])
                continue
            yield from (f"-{line}" for line in old[low:high])
            yield from (f"+{line}" for line in new[new_low:new_high])


def _span(start: int, stop: int) -> str:
    """As `diff -u` counts: from 1, and an empty one stands behind the line before it."""
    length = stop - start
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"


def paths(lines: Sequence[str]) -> list[str]:
    """For each line the element that it opens, or stands in: `domain/devices/disk`. As well as can be told of what is no XML."""
    text = "\n".join(lines)
    found = []
    stack: list[str] = []
    start = position = 0
    for line in lines:
        end = start + len(line)
        place = stack[:_DEPTH]
        opened = False
        while (at := text.find("<", max(position, start), end)) >= 0:
            above = stack[:_DEPTH]
            position, name = _step(text, at, stack)
            if name and not opened:
                place, opened = [*above, name], True
        found.append("/".join(place[:_DEPTH]))
        start = end + 1
    return found


def _step(text: str, at: int, stack: list[str]) -> tuple[int, str]:
    """Past one piece of markup at `at`: where to go on, and the element that was opened, "" for none. Keeps the stack."""
    for opening, closing in _SKIPPED:
        if text.startswith(opening, at):
            end = text.find(closing, at + len(opening))
            return (end + len(closing) if end >= 0 else len(text)), ""
    end = text.find(">", at)
    if end < 0:
        return len(text), ""
    if text.startswith("</", at):
        if stack:
            stack.pop()
        return end + 1, ""
    match = _OPENING.match(text, at)
    if match is None:
        return at + 1, ""
    if text[end - 1] != "/":
        stack.append(match[1])
    return end + 1, match[1]
