"""Reads of networks that more than one caller needs. A page costs the same few queries whatever stands on it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Prefetch, Q
from django.db.models.functions import Lower

from accounts.policy import visible
from core.errors import Missing
from core.filters import by_id_or_name, filtered, one_of
from core.paging import Page, paginate
from hosts.choices import LinkState
from hosts.models import Hypervisor
from networks.guests import named_by, plugs_of
from networks.models import Network, NetworkFilter

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Mapping, Sequence

    from django.db.models import QuerySet

    from accounts.actor import Actor
    from hosts.resources import R

FILTERS: Final = ("host", "mode", "state")
STATES: Final = ("active", "inactive")
_ORDERS: Final[dict[str, Any]] = {"name": Lower("name"), "host": Lower("host__name")}
ORDERINGS: Final = {name: f"order_{name}" for name in _ORDERS} | {
    "state": "active",
    "mode": "mode",
    "created_at": "created_at",
    "updated_at": "updated_at",
}


def network_list(by: Actor, *, q: str = "", filters: Mapping[str, str] | None = None) -> QuerySet[Network]:
    """Networks that `by` may see, filtered, not ordered. Raises BadInput."""
    return filtered(
        visible(by, Network.objects.filter(gone_at=None)),
        q=q,
        filters=filters or {},
        conditions=_CONDITIONS,
        keys=_KEYS,
        free_word=_word,
    )


def network_page(
    by: Actor,
    *,
    q: str = "",
    filters: Mapping[str, str] | None = None,
    ordering: str = "name",
    cursor: str | None = None,
    limit: int | None = None,
) -> Page[Network]:
    """One page, each with host, hypervisor and the guests on it: four queries. Raises BadInput."""
    rows = network_list(by, q=q, filters=filters)
    total = rows.count()
    name = ordering.removeprefix("-")
    if name in _ORDERS:
        rows = rows.annotate(**{f"order_{name}": _ORDERS[name]})
    page = paginate(
        _with_hypervisors(rows), orderings=ORDERINGS, ordering=ordering, cursor=cursor, limit=limit, total=total
    )
    look_for_guests(page.items)
    return page


def network_get(network_id: uuid.UUID, *, by: Actor) -> Network:
    """One that the caller may see, with host, hypervisor and the guests on it. Raises Missing."""
    rows = visible(by, Network.objects.filter(gone_at=None, pk=network_id))
    network = _with_hypervisors(rows).first()
    if network is None:
        raise Missing("There is no such network, or you may not see it.")
    look_for_guests([network])
    return network


def look_for_guests(networks: Sequence[Network]) -> None:
    """Put `plugs` on each."""
    found = plugs_of(networks)
    for network in networks:
        network.plugs = found[network.pk]


def _with_hypervisors(rows: QuerySet[R]) -> QuerySet[R]:
    hypervisors = Hypervisor.objects.select_related("host").defer("credentials")
    return rows.prefetch_related(Prefetch("hypervisor", queryset=hypervisors))


# -- filters -----------------------------------------------------------------------------------------------------------
def _state(values: list[str]) -> Q:
    one_of("state", "active", STATES)(values)
    return Q(active__in=[value == "active" for value in values])


def _is(value: str) -> Q:
    match value.lower():
        case "active":
            return Q(active=True)
        case "autostart":
            return Q(autostart=True)
        case "dhcp":
            return Q(dhcp=True)
        case "stale":
            return ~Q(hypervisor__state=LinkState.ONLINE)
    return Q(pk__in=[])


def _word(word: str) -> Q:
    condition = Q(name__icontains=word) | Q(host__name__icontains=word) | Q(bridge__icontains=word)
    return condition | Q(domain__icontains=word)


_HOST = by_id_or_name("host", "host", "host__name")
_CONDITIONS: dict[str, Callable[[list[str]], Q]] = {
    "host": _HOST,
    "mode": lambda values: Q(mode__in=[value.lower() for value in values]),
    "state": _state,
}
_KEYS: dict[str, Callable[[str], Q]] = {
    "name": lambda value: Q(name__icontains=value),
    "host": lambda value: _HOST([value]),
    "mode": lambda value: Q(mode=value.lower()),
    "is": _is,
}
KEYS: Final = tuple(_KEYS)


# -- filters in front of guests --------------------------------------------------------------------------------------------
FILTER_FILTERS: Final = ("host",)
FILTER_ORDERINGS: Final = {name: f"order_{name}" for name in _ORDERS} | {
    "chain": "chain",
    "rule_count": "rules",
    "created_at": "created_at",
    "updated_at": "updated_at",
}


def filter_page(
    by: Actor,
    *,
    q: str = "",
    filters: Mapping[str, str] | None = None,
    ordering: str = "name",
    cursor: str | None = None,
    limit: int | None = None,
) -> Page[NetworkFilter]:
    """One page, without definitions, each with host, hypervisor and who uses it: five queries. Raises BadInput."""
    rows = filtered(
        visible(by, NetworkFilter.objects.filter(gone_at=None)),
        q=q,
        filters=filters or {},
        conditions={"host": _HOST},
        keys={"name": _KEYS["name"], "host": _KEYS["host"]},
        free_word=lambda word: Q(name__icontains=word) | Q(host__name__icontains=word),
    )
    total = rows.count()
    name = ordering.removeprefix("-")
    if name in _ORDERS:
        rows = rows.annotate(**{f"order_{name}": _ORDERS[name]})
    rows = _with_hypervisors(rows.defer("xml"))
    page = paginate(rows, orderings=FILTER_ORDERINGS, ordering=ordering, cursor=cursor, limit=limit, total=total)
    look_for_users(page.items)
    return page


def filter_get(filter_id: uuid.UUID, *, by: Actor) -> NetworkFilter:
    """One that the caller may see, with host, hypervisor and who uses it. Raises Missing."""
    row = _with_hypervisors(visible(by, NetworkFilter.objects.filter(gone_at=None, pk=filter_id))).first()
    if row is None:
        raise Missing("There is no such network filter, or you may not see it.")
    look_for_users([row])
    return row


def look_for_users(rows: Sequence[NetworkFilter]) -> None:
    """Put `guests` and `users` on each: two queries."""
    found = named_by(rows)
    users: defaultdict[tuple[uuid.UUID, str], list[str]] = defaultdict(list)
    there = NetworkFilter.objects.filter(host__in={row.host_id for row in rows}, gone_at=None).order_by("name")
    for host, name, uses in there.values_list("host", "name", "uses"):
        for one in uses:
            users[host, one].append(name)
    for row in rows:
        row.guests, row.users = found[row.pk], users[row.host_id, row.name]
