"""Reads of hosts and hypervisors that more than one caller needs. Credentials are never read here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import Count, Prefetch, Q
from django.db.models.functions import Lower

from accounts.policy import visible
from core.fields import TAG
from core.filters import bad, by_id_or_name, filtered, one_of
from core.paging import Page, paginate
from drivers import registry
from hosts.choices import DRIVERS, LinkState, VirtualizationTypeChoice
from hosts.models import Host, Hypervisor

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterable, Mapping

    from django.db.models import QuerySet

    from accounts.actor import Actor

HOST_FILTERS = ("state", "tag")
HYPERVISOR_FILTERS = ("host", "driver", "state", "virtualization_type")
HOST_ORDERINGS = {
    "name": "order_name",
    "state": "state",
    "cpu_count": "cpu_count",
    "memory_total_bytes": "memory_total_bytes",
    "memory_free_bytes": "memory_free_bytes",
    "created_at": "created_at",
    "updated_at": "updated_at",
}
HYPERVISOR_ORDERINGS = {
    "name": "order_name",
    "driver": "driver",
    "uri": "uri",
    "state": "state",
    "created_at": "created_at",
}


# -- hosts ---------------------------------------------------------------------------------------------------------------
def host_list(by: Actor, *, q: str = "", filters: Mapping[str, str] | None = None) -> QuerySet[Host]:
    """Hosts that `by` may see, filtered, not ordered. Raises BadInput."""
    return filtered(
        visible(by, Host.objects.all()),
        q=q,
        filters=filters or {},
        conditions=_HOST_CONDITIONS,
        keys=_HOST_KEYS,
        free_word=_host_word,
    )


def host_page(
    by: Actor,
    *,
    q: str = "",
    filters: Mapping[str, str] | None = None,
    ordering: str = "name",
    cursor: str | None = None,
    limit: int | None = None,
) -> Page[Host]:
    """One page of `host_list`, each with its hypervisors and counts: four queries. Raises BadInput."""
    rows = host_list(by, q=q, filters=filters)
    total = rows.count()
    rows = with_hypervisors(rows.annotate(order_name=Lower("name")))
    page = paginate(rows, orderings=HOST_ORDERINGS, ordering=ordering, cursor=cursor, limit=limit, total=total)
    count_guests(page.items)
    return page


def with_hypervisors(rows: QuerySet[Host]) -> QuerySet[Host]:
    """With their hypervisors, in a fixed order."""
    ordered = Hypervisor.objects.defer("credentials").order_by("driver", "uri")
    return rows.prefetch_related(Prefetch("hypervisors", queryset=ordered))


def host_whole(host_id: uuid.UUID, *, by: Actor) -> Host | None:
    """One with hypervisors and counts, None when it is not there for `by`."""
    host = with_hypervisors(visible(by, Host.objects.filter(pk=host_id))).first()
    if host is not None:
        count_guests([host])
    return host


def count_guests(hosts: Iterable[Host]) -> None:
    """Put `vm_count` and `running_vm_count` on each, by one grouped query for all of them."""
    by_id = {host.pk: host for host in hosts}
    for host in by_id.values():
        host.vm_count = host.running_vm_count = 0
    present = Q(vms__gone_at=None, vms__binned_at=None)
    rows = Hypervisor.objects.filter(host__in=by_id).values("host").order_by()
    rows = rows.annotate(
        vm_count=Count("vms", filter=present), running=Count("vms", filter=present & Q(vms__state="running"))
    )
    for row in rows if by_id else ():
        host = by_id[row["host"]]
        host.vm_count, host.running_vm_count = row["vm_count"], row["running"]


# -- hypervisors -----------------------------------------------------------------------------------------------------------
def hypervisor_page(
    by: Actor,
    *,
    q: str = "",
    filters: Mapping[str, str] | None = None,
    ordering: str = "name",
    cursor: str | None = None,
    limit: int | None = None,
) -> Page[Hypervisor]:
    """One page; `name` is its host's. Two queries. Raises BadInput."""
    rows = visible(by, Hypervisor.objects.select_related("host").defer("credentials"))
    rows = filtered(
        rows,
        q=q,
        filters=filters or {},
        conditions=_HYPERVISOR_CONDITIONS,
        keys=_HYPERVISOR_KEYS,
        free_word=_hypervisor_word,
    )
    return paginate(
        rows.annotate(order_name=Lower("host__name")),
        orderings=HYPERVISOR_ORDERINGS,
        ordering=ordering,
        cursor=cursor,
        limit=limit,
        total=rows.count(),
    )


# -- filters ---------------------------------------------------------------------------------------------------------------
def _tagged(values: list[str]) -> Q:
    found = Q()
    for value in values:
        if not TAG.fullmatch(value.lower()):
            raise bad("tag", f"{value[:50]!r} is no tag")
        found |= Q(tags__contains=f"|{value.lower()}|")
    return found


def _is(value: str) -> Q:
    match value.lower():
        case "maintenance":
            return Q(maintenance=True)
        case "demo":
            return Q(demo=True)
        case "stale":
            return ~Q(state=LinkState.ONLINE)
    return Q(pk__in=[])


def _host_word(word: str) -> Q:
    return (
        Q(name__icontains=word)
        | Q(hostname__icontains=word)
        | Q(tags__icontains=word.strip("|"))
        | Q(cpu_model__icontains=word)
        | Q(kernel__icontains=word)
    )


def _hypervisor_word(word: str) -> Q:
    return Q(host__name__icontains=word) | Q(uri__icontains=word) | Q(hypervisor_version__icontains=word)


_HOST_NAMED = by_id_or_name("host", "host", "host__name")
_LINK_STATES = one_of("state", "state", LinkState.values)
_HOST_CONDITIONS: dict[str, Callable[[list[str]], Q]] = {"state": _LINK_STATES, "tag": _tagged}
_HYPERVISOR_CONDITIONS: dict[str, Callable[[list[str]], Q]] = {
    "host": _HOST_NAMED,
    "driver": one_of("driver", "driver", (*DRIVERS, *registry.kinds())),
    "state": _LINK_STATES,
    "virtualization_type": one_of("virtualization_type", "virtualization_type", VirtualizationTypeChoice.values),
}
_HOST_KEYS: dict[str, Callable[[str], Q]] = {
    "state": lambda value: Q(state=value.lower()),
    "tag": lambda value: Q(tags__contains=f"|{value.lower()}|"),
    "name": lambda value: Q(name__icontains=value),
    "driver": lambda value: Q(pk__in=Hypervisor.objects.filter(driver=value.lower()).values("host")),
    "is": _is,
}
_HYPERVISOR_KEYS: dict[str, Callable[[str], Q]] = {
    "state": lambda value: Q(state=value.lower()),
    "driver": lambda value: Q(driver=value.lower()),
    "type": lambda value: Q(virtualization_type=value.lower()),
    "host": lambda value: _HOST_NAMED([value]),
}
