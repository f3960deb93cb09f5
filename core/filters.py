"""What lists share: named filters with values by commas, and terms of the search language, made into one condition. Knows no table."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from django.db.models import Q

from core import search
from core.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from django.db.models import QuerySet

FILTER_VALUES_MAX = 100


def bad(name: str, detail: str) -> BadInput:
    """The error for a filter that cannot be used."""
    return BadInput(f"{name}: {detail}.", errors=[{"pointer": f"/{name}", "detail": detail}])


def filtered(
    rows: QuerySet[Any],
    *,
    q: str,
    filters: Mapping[str, str],
    conditions: Mapping[str, Callable[[list[str]], Q]],
    keys: Mapping[str, Callable[[str], Q]],
    free_word: Callable[[str], Q],
) -> QuerySet[Any]:
    """`rows` narrowed. Raises BadInput.

    Args:
        rows: Of what.
        q: The search: its values mean `keys`, its free words `free_word`.
        filters: Name → values by commas; an empty text filters nothing.
        conditions: What each filter's values mean together.
        keys: What a value of each key means.
        free_word: What a word without a key means.
    """
    for name, text in filters.items():
        values = [value for value in (part.strip() for part in text.split(",")) if value]
        if "\0" in text or len(values) > FILTER_VALUES_MAX:
            raise bad(name, "no NUL, and at most 100 values")
        if values:
            rows = rows.filter(conditions[name](values))
    for term in search.parse(q, keys=keys):
        condition = Q()
        for value in term.values:
            condition |= keys[term.key](value) if term.key else free_word(value)
        rows = rows.filter(~condition if term.negative else condition)
    return rows


def one_of(name: str, field: str, known: Iterable[str]) -> Callable[[list[str]], Q]:
    """A filter whose values are known words."""
    words = tuple(known)

    def condition(values: list[str]) -> Q:
        for value in values:
            if value not in words:
                raise bad(name, f"one of {', '.join(words)}")
        return Q(**{f"{field}__in": values})

    return condition


def by_id_or_name(kind: str, id_field: str, name_field: str) -> Callable[[list[str]], Q]:
    """A filter whose values are ids (`host/<id>` too) or names in any case."""

    def condition(values: list[str]) -> Q:
        found = Q()
        for value in values:
            known = uuid_of(value.removeprefix(f"{kind}/"))
            found |= Q(**{id_field: known}) if known else Q(**{f"{name_field}__iexact": value})
        return found

    return condition


def uuid_of(text: str) -> uuid.UUID | None:
    """A UUID in one of its two written forms, None for any other text."""
    try:
        return uuid.UUID(text) if len(text) in (32, 36) else None
    except ValueError:
        return None
