"""Reads of pools and volumes that more than one caller needs. A page costs the same few queries whatever stands on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Count, F, FloatField, Prefetch, Q, Sum, Value
from django.db.models.functions import Cast, Coalesce, Greatest, Lower

from accounts.policy import visible
from core.filters import by_id_or_name, filtered, one_of
from core.paging import Page, paginate
from hosts.choices import LinkState
from hosts.models import Hypervisor
from storage import history, uses
from storage.choices import FULL_RATIO, HIGH_RATIO, RUNNING, PoolState
from storage.models import StoragePool, Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from django.db.models import QuerySet

    from accounts.actor import Actor

POOL_FILTERS: Final = ("host", "type", "state")
VOLUME_FILTERS: Final = ("host", "pool", "type", "format")
_NOT_KNOWN = Value(-1)
_POOL_ORDERS: Final[dict[str, Any]] = {
    "name": Lower("name"),
    "host": Lower("host__name"),
    "capacity_bytes": Coalesce("capacity_bytes", _NOT_KNOWN),
    "available_bytes": Coalesce("available_bytes", _NOT_KNOWN),
}
_VOLUME_ORDERS: Final[dict[str, Any]] = {
    "name": Lower("name"),
    "pool": Lower("pool__name"),
    "host": Lower("pool__host__name"),
}
POOL_ORDERINGS: Final = {name: f"order_{name}" for name in _POOL_ORDERS} | {
    name: name for name in ("type", "state", "created_at", "updated_at")
}
VOLUME_ORDERINGS: Final = {name: f"order_{name}" for name in _VOLUME_ORDERS} | {
    name: name for name in ("format", "capacity_bytes", "allocation_bytes", "created_at", "updated_at")
}


# -- pools -------------------------------------------------------------------------------------------------------------
def pool_list(by: Actor, *, q: str = "", filters: Mapping[str, str] | None = None) -> QuerySet[StoragePool]:
    """Pools that `by` may see, filtered, not ordered. Raises BadInput."""
    return filtered(
        visible(by, StoragePool.objects.filter(gone_at=None)),
        q=q,
        filters=filters or {},
        conditions=_POOL_CONDITIONS,
        keys=_POOL_KEYS,
        free_word=_pool_word,
    )


def pool_page(
    by: Actor,
    *,
    q: str = "",
    filters: Mapping[str, str] | None = None,
    ordering: str = "name",
    cursor: str | None = None,
    limit: int | None = None,
) -> Page[StoragePool]:
    """One page, each with host, hypervisor and number of volumes: four queries. Raises BadInput.

    Whether guests run with something of them is not looked for: `users` is empty.
    """
    rows = pool_list(by, q=q, filters=filters)
    total = rows.count()
    page = paginate(
        with_hypervisors(_ordered(rows, _POOL_ORDERS, ordering)),
        orderings=POOL_ORDERINGS,
        ordering=ordering,
        cursor=cursor,
        limit=limit,
        total=total,
    )
    count_volumes(page.items)
    for pool in page.items:
        pool.users = []
    return page


def with_hypervisors(rows: QuerySet[StoragePool]) -> QuerySet[StoragePool]:
    """With hypervisor and host, read once and not joined to each row: capabilities are JSON. Never with credentials."""
    hypervisors = Hypervisor.objects.select_related("host").defer("credentials")
    return rows.prefetch_related(Prefetch("hypervisor", queryset=hypervisors))


def count_volumes(pools: Sequence[StoragePool]) -> None:
    """Put `volume_count`, `promised_bytes` and `unwritten_bytes` on each, by one query."""
    by_id = {pool.pk: pool for pool in pools}
    for pool in pools:
        pool.volume_count = pool.promised_bytes = pool.unwritten_bytes = 0
    # As floats: two volumes of an absurd size must not overflow the database's integers.
    whole, written = (Cast(F(name), FloatField()) for name in ("capacity_bytes", "allocation_bytes"))
    unwritten = Greatest(whole - written, 0.0)
    rows = Volume.objects.filter(pool__in=by_id).order_by().values("pool")
    for row in rows.annotate(number=Count("pk"), promised=Sum(whole), unwritten=Sum(unwritten)):
        pool = by_id[row["pool"]]
        pool.volume_count = row["number"]
        pool.promised_bytes, pool.unwritten_bytes = int(row["promised"]), int(row["unwritten"])


def filling(by: Actor, *, limit: int, ratio: float = HIGH_RATIO) -> list[StoragePool]:
    """Pools that are so full or fuller, or will be full soon at their pace, the fullest first. Two queries."""
    high = Q(available_bytes__lte=F("capacity_bytes") * (1 - ratio))
    rows = pool_list(by).filter(high | _soon(), capacity_bytes__gt=0)
    share = Cast(F("available_bytes"), FloatField()) / F("capacity_bytes")
    return list(with_hypervisors(rows).order_by(share, "pk")[:limit])


# -- volumes -----------------------------------------------------------------------------------------------------------
def volume_list(by: Actor, *, q: str = "", filters: Mapping[str, str] | None = None) -> QuerySet[Volume]:
    """Volumes that `by` may see, filtered, not ordered. Raises BadInput."""
    return filtered(
        visible(by, Volume.objects.filter(pool__gone_at=None)),
        q=q,
        filters=filters or {},
        conditions=_VOLUME_CONDITIONS,
        keys=_VOLUME_KEYS,
        free_word=_volume_word,
    )


def volume_page(
    by: Actor,
    *,
    q: str = "",
    filters: Mapping[str, str] | None = None,
    ordering: str = "name",
    cursor: str | None = None,
    limit: int | None = None,
) -> Page[Volume]:
    """One page, each with pool, host, hypervisor and uses: four queries, and one for each room that knows uses. Raises BadInput."""
    rows = volume_list(by, q=q, filters=filters)
    total = rows.count()
    page = paginate(
        with_pools(_ordered(rows, _VOLUME_ORDERS, ordering)),
        orderings=VOLUME_ORDERINGS,
        ordering=ordering,
        cursor=cursor,
        limit=limit,
        total=total,
    )
    look_for_uses(page.items)
    return page


def with_pools(rows: QuerySet[Volume]) -> QuerySet[Volume]:
    """With pool, hypervisor and host, each read once."""
    return rows.prefetch_related(Prefetch("pool", queryset=with_hypervisors(StoragePool.objects.all())))


def look_for_uses(volumes: Sequence[Volume]) -> None:
    """Put `uses` on each."""
    found = uses.uses_of(volumes)
    for volume in volumes:
        volume.uses = found[volume.pk]


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphans:
    """Volumes that nobody uses: how many, and how much they hold."""

    count: int
    allocation_bytes: int


def orphans_of(by: Actor, pool: StoragePool) -> Orphans:
    """Of one pool, by one query: no guest, no image and no overlay uses them."""
    rows = volume_list(by, q="is:orphan").filter(pool=pool.pk)
    found = rows.aggregate(count=Count("pk"), held=Sum("allocation_bytes"))
    return Orphans(count=found["count"], allocation_bytes=found["held"] or 0)


# -- filters -----------------------------------------------------------------------------------------------------------
def _ordered(rows: QuerySet[Any], orders: Mapping[str, Any], ordering: str) -> QuerySet[Any]:
    name = ordering.removeprefix("-")
    return rows.annotate(**{f"order_{name}": orders[name]}) if name in orders else rows


def _words(field: str) -> Callable[[list[str]], Q]:
    return lambda values: Q(**{f"{field}__in": [value.lower() for value in values]})


def _soon() -> Q:
    """Full within the days of `VMM_POOL_WARN_DAYS` (`StoragePool.forecast` in the database)."""
    before = history.soon()
    return Q(pk__in=[]) if before is None else Q(full_at__lte=before, state__in=RUNNING)


def _pool_is(value: str) -> Q:
    match value.lower():
        case "filling":
            return _soon()
        case "full":
            return Q(capacity_bytes__gt=0, available_bytes__lte=F("capacity_bytes") * (1 - FULL_RATIO))
        case "autostart":
            return Q(autostart=True)
        case "running":
            return Q(state__in=RUNNING)
        case "stale":
            return ~Q(hypervisor__state=LinkState.ONLINE)
    return Q(pk__in=[])


def _volume_is(value: str) -> Q:
    match value.lower():
        case "orphan":
            return ~uses.used()
        case "used":
            return uses.used()
        case "overlay":
            return ~Q(backing="")
    return Q(pk__in=[])


def _pool_word(word: str) -> Q:
    condition = Q(name__icontains=word) | Q(host__name__icontains=word)
    return condition | Q(target__icontains=word) | Q(source__icontains=word)


def _volume_word(word: str) -> Q:
    return Q(name__icontains=word) | Q(path__icontains=word) | Q(pool__name__icontains=word)


_POOL_HOST = by_id_or_name("host", "host", "host__name")
_VOLUME_HOST = by_id_or_name("host", "pool__host", "pool__host__name")
_VOLUME_POOL = by_id_or_name("storage-pool", "pool", "pool__name")
_POOL_CONDITIONS: dict[str, Callable[[list[str]], Q]] = {
    "host": _POOL_HOST,
    "type": _words("type"),
    "state": one_of("state", "state", PoolState.values),
}
_VOLUME_CONDITIONS: dict[str, Callable[[list[str]], Q]] = {
    "host": _VOLUME_HOST,
    "pool": _VOLUME_POOL,
    "type": _words("pool__type"),
    "format": _words("format"),
}
_POOL_KEYS: dict[str, Callable[[str], Q]] = {
    "name": lambda value: Q(name__icontains=value),
    "host": lambda value: _POOL_HOST([value]),
    "type": lambda value: Q(type=value.lower()),
    "state": lambda value: Q(state=value.lower()),
    "is": _pool_is,
}
_VOLUME_KEYS: dict[str, Callable[[str], Q]] = {
    "name": lambda value: Q(name__icontains=value),
    "host": lambda value: _VOLUME_HOST([value]),
    "pool": lambda value: _VOLUME_POOL([value]),
    "type": lambda value: Q(pool__type=value.lower()),
    "format": lambda value: Q(format=value.lower()),
    "is": _volume_is,
}
POOL_KEYS: Final = tuple(_POOL_KEYS)
VOLUME_KEYS: Final = tuple(_VOLUME_KEYS)
