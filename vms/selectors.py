"""Reads of guests that more than one caller needs: the list with its filters, one page of it, and what can be filtered by.

A page costs the same few queries whatever stands on it. Hypervisors and hosts are read once a page, not joined to each row:
their capabilities are JSON, and a row's copy would be parsed for each guest anew. Credentials are never read.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db.models import Case, Count, F, FloatField, OuterRef, Prefetch, Q, Subquery, Value, When
from django.db.models.functions import Coalesce, Lower

from accounts.policy import visible
from core.errors import BadInput, Missing
from core.fields import TAG
from core.paging import Page, paginate
from drivers import registry
from drivers.types import VirtualizationType
from hosts.choices import DRIVERS
from hosts.models import Hypervisor
from metrics.models import Latest
from vms import grammar
from vms.choices import Kind, State
from vms.models import BINNED, PRESENT, VM, VMDisk, VMNic

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from django.db.models import QuerySet

    from accounts.actor import Actor

FILTERS = ("host", "hypervisor", "driver", "virtualization_type", "kind", "state", "tag", "project", "owner")
FILTER_VALUES_MAX = 100
FACET_VALUES_MAX = 200
FOUND_FEW = 500
NOT_IN_A_ROW = frozenset(
    [
        "words",
        "techniques",
        "boot",
        "graphics",
        "description",
        "xml_digest",
        "os",
        "domain_type",
        "uuid",
        "owner",
        "state_since",
        "gone_at",
        "state_reason",
        "created_at",
        "updated_at",
        "project",
        "vcpus",
        "max_memory_bytes",
        "virtualization_type",
        "autostart_order",
        "autostart_delay_seconds",
        "autostart_wait",
    ]
)
"""Columns that a row of the list neither shows nor decides by: to read them takes a third of its query."""
_IDS_AT_ONCE = 500
_NEVER_STARTED = Value(dt.datetime(1970, 1, 1, tzinfo=dt.UTC))


def _cpu_now() -> Any:
    """The load of running guests measured just now, -1 where there is none: what is not known sorts below what is idle."""
    sample = Latest.objects.filter(subject=OuterRef("pk"), at__gte=grammar.fresh_since()).values("cpu_ratio")[:1]
    return Case(
        When(state=State.RUNNING, then=Coalesce(Subquery(sample), Value(-1.0))),
        default=Value(-1.0),
        output_field=FloatField(),
    )


_ORDER_KEYS: dict[str, Any] = {
    "name": lambda: Lower("name"),
    "host": lambda: Lower("hypervisor__host__name"),
    "driver": lambda: F("hypervisor__driver"),
    "owner": lambda: Coalesce("owner__username", Value("")),
    "started_at": lambda: Coalesce("started_at", _NEVER_STARTED),
    "binned_at": lambda: Coalesce("binned_at", _NEVER_STARTED),
    "cpu": _cpu_now,
}
_PLAIN_ORDERINGS = (
    "state",
    "kind",
    "virtualization_type",
    "vcpus",
    "memory_bytes",
    "max_memory_bytes",
    "project",
    "created_at",
    "updated_at",
)
ORDERINGS: dict[str, str] = {name: f"order_{name}" for name in _ORDER_KEYS} | {name: name for name in _PLAIN_ORDERINGS}


def vm_list(by: Actor, *, q: str = "", filters: Mapping[str, str] | None = None, binned: bool = False) -> QuerySet[VM]:
    """Guests that `by` may see, filtered, not ordered and with nothing joined.

    Args:
        by: The caller.
        q: The search language of `vms.grammar`.
        filters: Of `FILTERS`; several values by commas, an empty text filters nothing.
        binned: Those in the bin, and not the others.

    Raises:
        BadInput: A value that no guest could have, or a search that is too long.
    """
    rows = visible(by, VM.objects.filter(BINNED if binned else PRESENT))
    for name, text in (filters or {}).items():
        values = _values(name, text)
        if values:
            rows = rows.filter(_CONDITIONS[name](values))
    return rows.filter(grammar.compile_query(q, by=by)) if q else rows


@dataclass(frozen=True, slots=True)
class Devices:
    """A guest's disks and interfaces in the contract's shape."""

    disks: list[dict[str, Any]] = field(default_factory=list)
    interfaces: list[dict[str, Any]] = field(default_factory=list)


def devices(ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Devices]:
    """The devices of these guests, two queries. Plain values: as model rows they cost half the time of a page."""
    found = {pk: Devices() for pk in ids}
    disks = VMDisk.objects.filter(vm__in=ids).order_by("id")
    for owner, target, bus, source, pool, format_, size_bytes, readonly in disks.values_list(
        "vm", "target", "bus", "source", "pool", "format", "size_bytes", "readonly"
    ):
        found[owner].disks.append(
            {
                "target": target,
                "bus": bus or None,
                "source": source or None,
                "pool": pool or None,
                "format": format_ or None,
                "size_bytes": size_bytes,
                "readonly": readonly,
            }
        )
    nics = VMNic.objects.filter(vm__in=ids).order_by("id")
    for owner, mac, model, network, link, target in nics.values_list("vm", "mac", "model", "network", "link", "target"):
        found[owner].interfaces.append(
            {
                "mac": mac,
                "model": model or None,
                "network": network or None,
                "link": link,
                "target": target or None,
            }
        )
    return found


def vm_page(
    by: Actor,
    *,
    q: str = "",
    filters: Mapping[str, str] | None = None,
    ordering: str = "name",
    cursor: str | None = None,
    limit: int | None = None,
    grouped: bool = False,
    whole: bool = True,
    binned: bool = False,
) -> Page[VM]:
    """One page of `vm_list`. Raises BadInput.

    Args:
        by: The caller.
        q: As for `vm_list`, like `filters`.
        filters: As for `vm_list`.
        ordering: A name of `ORDERINGS`, with `-` before it for descending.
        cursor: From the page before.
        limit: 1 to 500, 50 when None.
        grouped: Guests of one host stand together, hosts by name.
        whole: With the owner, for the JSON; else with hypervisor and host alone, and without `NOT_IN_A_ROW`.
        binned: As for `vm_list`.
    """
    rows = vm_list(by, q=q, filters=filters, binned=binned)
    # A search that finds few is one look at the table as it lies, and counted by it. In the list's order, guest by guest, the same look
    # takes twice as long.
    found = list(rows.values_list("pk", flat=True)[: FOUND_FEW + 1]) if q else []
    if q and len(found) <= FOUND_FEW:
        rows, total = VM.objects.filter(pk__in=found), len(found)
    else:
        total = rows.count()
    name = ordering.removeprefix("-")
    if name in _ORDER_KEYS:
        rows = rows.annotate(**{ORDERINGS[name]: _ORDER_KEYS[name]()})
    if grouped:
        rows = rows.annotate(order_group=_ORDER_KEYS["host"]())  # unique: no two hosts share a name in any case
    rows = _with_hypervisors(rows)
    rows = rows.prefetch_related("owner") if whole else rows.defer(*(NOT_IN_A_ROW - {name}))
    return paginate(
        rows,
        orderings=ORDERINGS,
        ordering=ordering,
        cursor=cursor,
        limit=limit,
        total=total,
        group="order_group" if grouped else "",
    )


def vms_present(by: Actor, ids: Iterable[uuid.UUID]) -> list[VM]:
    """Those of `ids` that are there and may be seen, with hypervisor and host; the others are left out. Two queries."""
    return list(_with_hypervisors(vm_list(by).filter(pk__in=list(ids))))


def vm_count(by: Actor, *, q: str = "", binned: bool = False) -> int:
    """How many guests a search finds, for saved views. Raises BadInput."""
    return vm_list(by, q=q, binned=binned).count()


def latest_samples(vms: Iterable[VM]) -> dict[Any, Latest]:
    """The newest sample of each guest that has a fresh one, by the guest's id. One query."""
    return Latest.objects.filter(at__gte=grammar.fresh_since()).in_bulk([vm.pk for vm in vms])


# -- filters ---------------------------------------------------------------------------------------------------------------
def _values(name: str, text: str) -> list[str]:
    values = [value for value in (part.strip() for part in text.split(",")) if value]
    if "\0" in text or len(values) > FILTER_VALUES_MAX:
        raise _bad(name, "no NUL, and at most 100 values")
    return values


def _bad(name: str, detail: str) -> BadInput:
    return BadInput(f"{name}: {detail}.", errors=[{"pointer": f"/{name}", "detail": detail}])


def _one_of(name: str, field: str, known: Iterable[str]) -> Any:
    words = tuple(known)

    def condition(values: list[str]) -> Q:
        for value in values:
            if value not in words:
                raise _bad(name, f"one of {', '.join(words)}")
        return Q(**{f"{field}__in": values})

    return condition


def _by_id_or_name(kind: str, id_field: str, name_field: str) -> Any:
    def condition(values: list[str]) -> Q:
        found = Q()
        for value in values:
            known = grammar.uuid_of(value.removeprefix(f"{kind}/"))
            found |= Q(**{id_field: known}) if known else Q(**{f"{name_field}__iexact": value})
        return found

    return condition


def _tagged(values: list[str]) -> Q:
    found = Q()
    for value in values:
        tag = value.lower()
        if not TAG.fullmatch(tag):
            raise _bad("tag", f"{value[:50]!r} is no tag")
        found |= Q(tags__contains=f"|{tag}|")
    return found


_CONDITIONS: dict[str, Any] = {
    "host": _by_id_or_name("host", "hypervisor__host", "hypervisor__host__name"),
    "hypervisor": _by_id_or_name("hypervisor", "hypervisor", "hypervisor__uri"),
    "driver": _one_of("driver", "hypervisor__driver", (*DRIVERS, *registry.kinds())),
    "virtualization_type": _one_of("virtualization_type", "virtualization_type", VirtualizationType),
    "kind": _one_of("kind", "kind", Kind.values),
    "state": _one_of("state", "state", State.values),
    "tag": _tagged,
    "project": lambda values: Q(project__in=values),
    "owner": _by_id_or_name("user", "owner", "owner__username"),
}


# -- what can be filtered by -----------------------------------------------------------------------------------------------
_FACETS = {
    "state": "state",
    "driver": "hypervisor__driver",
    "type": "virtualization_type",
    "host": "hypervisor__host__name",
    "kind": "kind",
    "project": "project",
    "owner": "owner__username",
}
_HINTS = {
    "cpu": [">80", ">50", "<5"],
    "mem": [">=16", ">=4", "<1"],
    "is": list(grammar.IS),
    "ip": ["10.0.3.", "fd00:"],
    "mac": ["52:54:00:"],
}


def vm_facets(by: Actor) -> list[dict[str, Any]]:
    """Each key of the search language with its values and how many guests have them, most first; for completion.

    Eight grouped counts over all guests (10,000: 30 ms), asked for once when the search field is first entered.
    """
    rows = vm_list(by)
    facets: list[dict[str, Any]] = []
    for key in grammar.KEYS:
        if key in _FACETS:
            counts = Counter(
                {str(value): count for value, count in rows.values_list(_FACETS[key]).annotate(Count("pk")) if value}
            )
        elif key == "tag":
            counts = _tag_counts(rows)
        else:
            facets.append({"key": key, "values": [{"value": value} for value in _HINTS.get(key, [])]})
            continue
        values = [{"value": value, "count": count} for value, count in counts.most_common(FACET_VALUES_MAX)]
        facets.append({"key": key, "values": values})
    return facets


def _tag_counts(rows: QuerySet[VM]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for tags, count in rows.values_list("tags").annotate(Count("pk")):
        for tag in tags:
            counts[tag] += count
    return counts


# -- many for one call -------------------------------------------------------------------------------------------------------
def vms_found(by: Actor, q: str, *, binned: bool = False) -> list[VM]:
    """All guests that a search finds, by name, with hypervisor and host. Raises BadInput."""
    return list(_with_hypervisors(vm_list(by, q=q, binned=binned)).order_by(Lower("name"), "pk"))


def vms_by_id(by: Actor, ids: Sequence[str], *, binned: bool = False) -> list[VM]:
    """Exactly these guests, each once, in this order, with hypervisor and host.

    Raises:
        BadInput: What is no id. Missing: one that is not there, or that the caller may not see.
    """
    wanted: dict[uuid.UUID, None] = {}
    for position, text in enumerate(ids):
        known = grammar.uuid_of(text.removeprefix("vm/"))
        if known is None:
            raise BadInput(f"{text[:50]!r} is no id.", errors=[{"pointer": f"/ids/{position}", "detail": "no id"}])
        wanted[known] = None
    order = list(wanted)
    rows = _with_hypervisors(vm_list(by, binned=binned))
    found: dict[uuid.UUID, VM] = {}
    for start in range(0, len(order), _IDS_AT_ONCE):
        found |= {vm.pk: vm for vm in rows.filter(pk__in=order[start : start + _IDS_AT_ONCE])}
    gone = [str(pk) for pk in order if pk not in found]
    if gone:
        raise Missing(f"{len(gone)} of these guests are not there, or you may not see them.", ids=gone[:20])
    return [found[pk] for pk in order]


def _with_hypervisors(rows: QuerySet[VM]) -> QuerySet[VM]:
    hypervisors = Hypervisor.objects.select_related("host").defer("credentials")
    return rows.prefetch_related(Prefetch("hypervisor", queryset=hypervisors))
