"""Reads of the event log that more than one caller needs. Who may see what is not known here (`live.sight`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import Q

from core.errors import BadInput
from core.search import Term, parse
from events import log
from events.models import Event, Trimmed

if TYPE_CHECKING:
    from django.db.models import QuerySet

ORDERINGS = {"seq": "seq", "at": "at"}
KEYS = ("type", "object", "actor")
"""What `q` knows besides free words."""


@dataclass(frozen=True, slots=True)
class Span:
    """What of the log is kept: a reader that saw `kept_after` or a later event can go on without a gap, up to `last`."""

    kept_after: int
    last: int


def span() -> Span:
    """The log's extent now."""
    return Span(kept_after=Trimmed.up_to(), last=log.last_seq())


def event_list(*, types: str = "", objects: str = "", after: int | None = None, q: str = "") -> QuerySet[Event]:
    """Events by the filters of the contract, not ordered.

    Args:
        types: Several by commas; `audit.*` takes all that begin so.
        objects: `vm/<id>`, several by commas.
        after: Only those above this seq.
        q: The language of every filter (`core.search`), with the keys `type`, `object` and `actor`.

    Raises:
        BadInput: A value that no event could have.
    """
    rows = Event.objects.all()
    names = _split(types, "type")
    if names:
        rows = rows.filter(_of_types(names))
    refs = _split(objects, "object")
    if refs:
        rows = rows.filter(object__in=refs)
    if after is not None:
        rows = rows.filter(seq__gt=after)
    for term in parse(q, keys=KEYS):
        rows = rows.filter(~_term(term) if term.negative else _term(term))
    return rows


def default_ordering(after: int | None) -> str:
    """Newest first; with `after` oldest first, as one who follows wants it."""
    return "-seq" if after is None else "seq"


def _split(text: str, name: str) -> list[str]:
    if "\0" in text:
        raise BadInput("No event has that.", errors=[{"pointer": f"/{name}", "detail": "a NUL character"}])
    parts = [part.strip() for part in text.split(",")]
    parts = [part for part in parts if part]
    if len(parts) > 100:
        raise BadInput("Too many values.", errors=[{"pointer": f"/{name}", "detail": "at most 100"}])
    return parts


def _of_types(names: list[str]) -> Q:
    wanted = Q(type__in=[name for name in names if not name.endswith(".*")])
    for name in names:
        if name.endswith(".*"):
            wanted |= Q(type__startswith=name[:-1])
    return wanted


def _term(term: Term) -> Q:
    values = list(term.values)
    if term.key == "type":
        return _of_types(values)
    if term.key == "object":
        return Q(object__in=values) | Q(object_name__in=values)
    if term.key == "actor":
        return Q(actor__in=values)
    word = values[0]
    return Q(object_name__icontains=word) | Q(type__icontains=word) | Q(actor__icontains=word) | Q(object__iexact=word)
