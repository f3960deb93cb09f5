"""Keyset paging for every list, HTML and API: a row that stays is never skipped or repeated while others come and go.

The cursor holds the ordering it was made for and the sort values of the last row; it is opaque, not secret (it repeats
values that its reader just saw), and a cursor for another ordering is a clear error.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import math
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django.core.exceptions import ValidationError
from django.db.models import F, Model, Q
from django.utils.dateparse import parse_datetime

from core.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from django.db.models import QuerySet

LIMIT_DEFAULT = 50
LIMIT_MAX = 500

M = TypeVar("M", bound=Model)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Page(Generic[M]):
    """One page: its rows, how many there are in all, the cursor of the next page or None."""

    items: list[M]
    total: int
    next: str | None


def _encode(ordering: str, values: list[Any]) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, dt.datetime):
            return {"t": value.isoformat()}
        if isinstance(value, uuid.UUID):
            return {"u": str(value)}
        return value

    raw = json.dumps([ordering, [plain(value) for value in values]], separators=(",", ":"))
    return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")


def _decode(cursor: str, ordering: str, count: int) -> list[Any]:
    bad = BadInput(
        "This cursor is not one of ours, or was made for another ordering.",
        errors=[{"pointer": "/cursor", "detail": "unusable cursor"}],
    )
    if len(cursor) > 2000:
        raise bad
    try:
        made_for, values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if made_for != ordering or len(values) != count:
            raise bad
        return [_revive(value) for value in values]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, binascii.Error):
        raise bad from None


def _revive(value: Any) -> Any:
    if isinstance(value, dict):
        if "t" in value:
            parsed = parse_datetime(value["t"])
            if parsed is None:
                raise ValueError(value)
            return parsed
        return uuid.UUID(value["u"])
    if isinstance(value, str) and "\0" in value:
        raise ValueError(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(value)
    if not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        raise TypeError(value)
    return value


def check_limit(limit: int | None) -> int:
    """The page size: 50 unless told, 1 to 500."""
    if limit is None:
        return LIMIT_DEFAULT
    if not 1 <= limit <= LIMIT_MAX:
        raise BadInput("limit is 1 to 500.", errors=[{"pointer": "/limit", "detail": "1 to 500"}])
    return limit


def paginate(
    queryset: QuerySet[M],
    *,
    orderings: Mapping[str, str],
    ordering: str,
    cursor: str | None = None,
    limit: int | None = None,
    total: int | None = None,
    group: str = "",
) -> Page[M]:
    """One page of `queryset`.

    Args:
        queryset: Filtered, not ordered. Annotations named in `orderings` must be on it.
        orderings: Public name → model field (never nullable: annotate with Coalesce where it is).
        ordering: A public name, with `-` before it for descending.
        cursor: From the page before.
        limit: 1 to 500, 50 when None.
        total: When the caller already knows the count.
        group: A field (or annotation) that comes before the ordering, always ascending: rows of one group stand together.

    Raises:
        BadInput: Unknown ordering, foreign cursor, limit out of range.
    """
    limit = check_limit(limit)
    descending = ordering.startswith("-")
    field = orderings.get(ordering.removeprefix("-"))
    if field is None:
        known = ", ".join(sorted(orderings))
        raise BadInput(
            f"Cannot order by {ordering[:50]!r}; known: {known}.",
            errors=[{"pointer": "/ordering", "detail": f"one of {known}"}],
        )
    count = queryset.count() if total is None else total
    made_for = f"{group} {ordering}" if group else ordering
    keys = [(field, descending)] if field in ("id", "pk", "seq") else [(field, descending), ("pk", descending)]
    if group:
        keys.insert(0, (group, False))
    rows = queryset.order_by(*[F(name).desc() if down else F(name).asc() for name, down in keys])
    if cursor:
        values = _decode(cursor, made_for, len(keys))
        try:
            rows = _after(rows, keys, values)
        except (ValueError, TypeError, OverflowError, ValidationError):
            raise BadInput(
                "This cursor is not one of ours.", errors=[{"pointer": "/cursor", "detail": "unusable cursor"}]
            ) from None
    items = list(rows[: limit + 1])
    more = len(items) > limit
    items = items[:limit]
    following = _encode(made_for, [getattr(items[-1], name) for name, _down in keys]) if more else None
    return Page(items=items, total=count, next=following)


def slice_of(
    values: Sequence[V],
    *,
    key: Callable[[V], list[Any]],
    made_for: str,
    cursor: str | None = None,
    limit: int | None = None,
) -> tuple[list[V], str | None]:
    """One page of what is no query's rows, in the order of `key` (texts and numbers, unique together), and the next page's cursor."""
    limit = check_limit(limit)
    ordered = sorted(values, key=key)
    if cursor and ordered:
        after = _decode(cursor, made_for, len(key(ordered[0])))
        try:
            ordered = [one for one in ordered if key(one) > after]
        except TypeError:
            raise BadInput(
                "This cursor is not one of ours.", errors=[{"pointer": "/cursor", "detail": "unusable cursor"}]
            ) from None
    items = ordered[:limit]
    return items, _encode(made_for, key(items[-1])) if len(ordered) > limit else None


def _after(rows: QuerySet[M], keys: list[tuple[str, bool]], values: list[Any]) -> QuerySet[M]:
    """What comes behind the row with these sort values."""
    beyond = Q()
    same: dict[str, Any] = {}
    for (name, down), value in zip(keys, values, strict=True):
        beyond |= Q(**same, **{f"{name}__{'lt' if down else 'gt'}": value})
        same[name] = value
    if len(keys) == 1:
        return rows.filter(beyond)
    # The bound that the OR implies is said once more: by it the index is entered at the cursor, not at its begin.
    name, down = keys[0]
    return rows.filter(**{f"{name}__{'lte' if down else 'gte'}": values[0]}).filter(beyond)
