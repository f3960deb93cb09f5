"""The language of every filter field and of `q`: `key:value` terms and free words. Knows the form, no key and no table.

A text is a list of terms parted by blanks; all of them must fit. `-` before a term is *not*, a comma within a value is *or*,
quotes hold blanks and commas together. A key that the reader does not know makes its term a free word, colon and all, so
that a MAC or an IPv6 address needs no quotes.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Collection

LENGTH_MAX = 2000
TERMS_MAX = 50
VALUES_MAX = 200
"""Of all terms together: each becomes a condition, and SQLite takes a tree of conditions 1,000 deep."""

_TERM = re.compile(r'-?(?:[\w.]+:)?(?:"[^"]*"|[^\s"]+)+')
_KEYED = re.compile(r"([\w.]+):(.*)", re.DOTALL)
_VALUE = re.compile(r'(?:"[^"]*"|[^,"])+')


@dataclass(frozen=True, slots=True)
class Term:
    """One condition. `key` is "" for a free word, which has one value."""

    key: str
    values: tuple[str, ...]
    negative: bool = False


def parse(text: str, *, keys: Collection[str]) -> list[Term]:
    """The terms of `text`, in its order; one with a known key and no value yet is left out.

    Raises:
        BadInput: Longer than 2,000 characters, more than 50 terms, or a NUL.
    """
    if len(text) > LENGTH_MAX:
        raise _bad(f"A search has at most {LENGTH_MAX} characters.")
    if "\0" in text:
        raise _bad("A search has no NUL character.")
    terms: list[Term] = []
    for piece in _TERM.findall(text):
        term = _term(piece, keys)
        if term is not None:
            terms.append(term)
    if len(terms) > TERMS_MAX:
        raise _bad(f"A search has at most {TERMS_MAX} terms.")
    if sum(len(term.values) for term in terms) > VALUES_MAX:
        raise _bad(f"A search has at most {VALUES_MAX} values.")
    return terms


def _bad(detail: str) -> BadInput:
    return BadInput(detail, errors=[{"pointer": "/q", "detail": detail}])


def _term(piece: str, keys: Collection[str]) -> Term | None:
    negative = piece.startswith("-") and len(piece) > 1
    body = piece[1:] if negative else piece
    keyed = _KEYED.fullmatch(body)
    if keyed and keyed[1].lower() in keys:
        values = tuple(value for value in (part.replace('"', "").strip() for part in _VALUE.findall(keyed[2])) if value)
        return Term(keyed[1].lower(), values, negative) if values else None
    word = body.replace('"', "").strip()
    return Term("", (word,), negative) if word else None


def unknown_keys(text: str, *, keys: Collection[str]) -> dict[str, str | None]:
    """Keys in `text` that nobody knows, each with the known one that was probably meant (or None). For "Did you mean …?".

    What cannot be a mistyped key (the first byte of a MAC address, an IPv6 group) is not among them. Never raises.
    """
    found: dict[str, str | None] = {}
    for piece in _TERM.findall(text[:LENGTH_MAX])[:TERMS_MAX]:
        keyed = _KEYED.fullmatch(piece.removeprefix("-"))
        if keyed is None or not keyed[1][0].isalpha() or keyed[2].count(":") or keyed[1].lower() in keys:
            continue
        near = difflib.get_close_matches(keyed[1].lower(), sorted(keys), n=1, cutoff=0.6)
        begins = [key for key in sorted(keys) if key.startswith(keyed[1].lower())]
        found[keyed[1]] = (begins or near or [None])[0]
    return found


_NUMBER = re.compile(r"(>=|<=|>|<|=)?\s*(\d{1,15}(?:\.\d{1,6})?)\s*([a-zA-Z%]{0,4})")


@dataclass(frozen=True, slots=True)
class Comparison:
    """`>=16GiB` taken apart. `operator` is "" where only a number was given; `unit` is lower case."""

    operator: str
    number: float
    unit: str


def comparison(value: str) -> Comparison | None:
    """A comparison with a number, None for anything else."""
    match = _NUMBER.fullmatch(value)
    return Comparison(match[1] or "", float(match[2]), match[3].lower()) if match else None
