"""Reads of operations that more than one caller needs."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING

from django.db.models import Case, F, JSONField, Q, Value, When
from django.db.models.functions import Coalesce

from accounts.policy import visible
from core import search
from core.errors import BadInput, Missing
from core.paging import Page, paginate
from operations.actions import READING
from operations.choices import State
from operations.models import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.db.models import QuerySet

    from accounts.actor import Actor

FILTERS = ("state", "kind", "target", "parent", "requested_by")
FILTER_VALUES_MAX = 100
NEWEST_FIRST = "-created_at"
# An id begins with the time it was made at (uuid7), so that the primary key is the index of the default order.
ORDERINGS = {
    "created_at": "id",
    "kind": "kind",
    "state": "state",
    "requested_by": "requested_by",
    "finished_at": "order_finished",
}
_REF = re.compile(r"[a-z]{1,20}/[0-9A-Za-z-]{0,64}")


def operation_list(by: Actor, *, q: str = "", filters: Mapping[str, str] | None = None) -> QuerySet[Operation]:
    """Operations that `by` may see, without mere readings; not ordered. Raises BadInput."""
    rows = visible(by, Operation.objects.exclude(target__startswith=READING))
    for name, text in (filters or {}).items():
        values = _values(name, text)
        if values:
            rows = rows.filter(_CONDITIONS[name](values))
    for term in search.parse(q, keys=_KEYS):
        condition = Q()
        for value in term.values:
            condition |= _KEYS[term.key](value) if term.key else _free_word(value)
        rows = rows.exclude(condition) if term.negative else rows.filter(condition)
    return rows


def operation_page(
    by: Actor,
    *,
    q: str = "",
    filters: Mapping[str, str] | None = None,
    ordering: str = NEWEST_FIRST,
    cursor: str | None = None,
    limit: int | None = None,
) -> Page[Operation]:
    """One page of `operation_list`, newest first unless told. Two queries.

    `result` is left out of what can be huge (a bulk's 10,000 items) or is not for every reader (a deleted definition):
    see `operation_get`. Raises BadInput.
    """
    rows = operation_list(by, q=q, filters=filters)
    total = rows.count()
    small = Case(
        When(Q(kind__endswith=".bulk") | Q(kind__in=("vm.delete", "vm.purge")), then=Value(None, JSONField())),
        default=F("result"),
        output_field=JSONField(null=True),
    )
    rows = rows.defer("result", "checkpoints").annotate(small_result=small)
    if ordering.removeprefix("-") == "finished_at":
        rows = rows.annotate(order_finished=Coalesce("finished_at", "created_at"))
    return paginate(rows, orderings=ORDERINGS, ordering=ordering, cursor=cursor, limit=limit, total=total)


def operation_get(operation_id: uuid.UUID, *, by: Actor) -> Operation:
    """One that the caller may see. Raises Missing."""
    found = visible(by, Operation.objects.all()).filter(pk=operation_id).first()
    if found is None:
        raise Missing("There is no such operation, or you may not see it.")
    return found


# -- filters -----------------------------------------------------------------------------------------------------------
def _bad(name: str, detail: str) -> BadInput:
    return BadInput(f"{name}: {detail}.", errors=[{"pointer": f"/{name}", "detail": detail}])


def _values(name: str, text: str) -> list[str]:
    values = [value for value in (part.strip() for part in text.split(",")) if value]
    if "\0" in text or len(values) > FILTER_VALUES_MAX:
        raise _bad(name, "no NUL, and at most 100 values")
    return values


def _states(values: list[str]) -> Q:
    for value in values:
        if value not in State.values:
            raise _bad("state", f"one of {', '.join(State.values)}")
    return Q(state__in=values)


def _kinds(values: list[str]) -> Q:
    """`vm.start`; `vm.*` takes all that begin so."""
    condition = Q(kind__in=[value for value in values if not value.endswith("*")])
    for value in values:
        if value.endswith("*"):
            condition |= Q(kind__startswith=value[:-1])
    return condition


def _targets(values: list[str]) -> Q:
    for value in values:
        if not _REF.fullmatch(value):
            raise _bad("target", "vm/<id>, host/<id>, …")
    return Q(target__in=[value.lower() for value in values])


def _parents(values: list[str]) -> Q:
    ids = []
    for value in values:
        try:
            ids.append(uuid.UUID(value.removeprefix("operation/")))
        except ValueError:
            raise _bad("parent", "the id of an operation") from None
    return Q(parent__in=ids)


_CONDITIONS: dict[str, Callable[[list[str]], Q]] = {
    "state": _states,
    "kind": _kinds,
    "target": _targets,
    "parent": _parents,
    "requested_by": lambda values: Q(requested_by__in=values),
}
_KEYS: dict[str, Callable[[str], Q]] = {
    "state": lambda value: Q(state=value.lower()),
    "kind": lambda value: _kinds([value.lower()]),
    "target": lambda value: Q(target=value.lower()) | Q(target_name__iexact=value),
    "by": lambda value: Q(requested_by__iexact=value),
    "requested_by": lambda value: Q(requested_by__iexact=value),
}
KEYS: tuple[str, ...] = tuple(_KEYS)


def _free_word(word: str) -> Q:
    condition = Q(kind__icontains=word) | Q(target_name__icontains=word)
    return condition | Q(requested_by__icontains=word) | Q(message__icontains=word) | Q(target__iexact=word)
