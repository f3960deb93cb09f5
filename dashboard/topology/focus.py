"""What is looked at: one host, network, pool or guest with its neighbours, or a bridge that only guests name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Q

from accounts.policy import visible
from core.errors import BadInput, Missing
from core.filters import uuid_of
from hosts.models import Host, Hypervisor
from networks.models import Network
from storage.models import StoragePool, Volume
from storage.uses import SHARED
from vms.models import PRESENT, VM, VMDisk, VMNic

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable

    from accounts.actor import Actor

KINDS: Final = ("host", "hypervisor", "network", "storage-pool", "vm", "bridge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Focus:
    """What is looked at.

    Attributes:
        ref: As it was asked for.
        refs: The nodes that are meant: of shared storage the pools of all its hosts.
        hosts: Where it is.
        guests: Which guests are its neighbours; None: all of the hosts'.
        row: Its row, or None for a bridge.
    """

    ref: str
    type: str
    name: str
    hosts: frozenset[uuid.UUID]
    refs: frozenset[str]
    guests: Q | None = None
    row: Any = field(default=None, compare=False)

    @property
    def href(self) -> str:
        """Its own page; empty where it has none."""
        pages = {"host": "hosts", "vm": "vms", "network": "networks", "storage-pool": "storage"}
        return f"/{pages[self.type]}/{self.row.pk}" if self.type in pages else ""


def focus_on(text: str, *, by: Actor) -> Focus | None:
    """What `host/<id>` and the like mean, None for an empty text. Two queries at most. Raises BadInput, Missing."""
    if not text:
        return None
    kind, _slash, rest = text.partition("/")
    head, _slash, name = rest.partition("/")
    pk = uuid_of(head)
    if kind not in KINDS or pk is None or bool(name) != (kind == "bridge") or "\0" in text:
        detail = f"one of {', '.join(f'{one}/<id>' for one in KINDS[:-1])}"
        raise BadInput(f"focus: {detail}.", errors=[{"pointer": "/focus", "detail": detail}])
    if kind == "bridge":
        return _bridge(pk, name[:255], by)
    models: dict[str, Any] = {
        "host": Host,
        "hypervisor": Hypervisor,
        "network": Network,
        "storage-pool": StoragePool,
        "vm": VM,
    }
    rows = visible(by, models[kind].objects.filter(pk=pk))
    match kind:
        case "network" | "storage-pool":
            rows = rows.filter(gone_at=None)
        case "vm":
            rows = rows.filter(PRESENT).select_related("hypervisor").defer("hypervisor__credentials")
        case "hypervisor":
            rows = rows.select_related("host").defer("credentials")
    row = rows.first()
    if row is None:
        raise Missing("It is not there, or you may not see it.")
    return _FOUND[kind](row)


def _host(row: Host) -> Focus:
    return Focus(ref=row.ref, type="host", name=row.name, hosts=frozenset([row.pk]), refs=frozenset([row.ref]), row=row)


def _hypervisor(row: Hypervisor) -> Focus:
    ref = f"hypervisor/{row.pk}"
    return Focus(
        ref=ref,
        type="hypervisor",
        name=f"{row.host.name} ({row.driver})",
        hosts=frozenset([row.host_id]),
        refs=frozenset([ref]),
        guests=Q(hypervisor=row.pk),
        row=row,
    )


def _vm(row: VM) -> Focus:
    hosts = frozenset([row.hypervisor.host_id])
    return Focus(
        ref=row.ref, type="vm", name=row.name, hosts=hosts, refs=frozenset([row.ref]), guests=Q(pk=row.pk), row=row
    )


def _network(row: Network) -> Focus:
    nics = VMNic.objects.filter(network__in={row.name, row.bridge} - {""}, vm__hypervisor__host=row.host_id)
    return Focus(
        ref=row.ref,
        type="network",
        name=row.name,
        hosts=frozenset([row.host_id]),
        refs=frozenset([row.ref]),
        guests=Q(pk__in=nics.values("vm")),
        row=row,
    )


def _bridge(host: uuid.UUID, name: str, by: Actor) -> Focus:
    if not visible(by, Host.objects.filter(pk=host)).exists():
        raise Missing("It is not there, or you may not see it.")
    nics = VMNic.objects.filter(network=name, vm__hypervisor__host=host)
    ref = f"bridge/{host}/{name}"
    return Focus(
        ref=ref,
        type="bridge",
        name=name,
        hosts=frozenset([host]),
        refs=frozenset([ref]),
        guests=Q(pk__in=nics.values("vm")),
    )


def _pool(row: StoragePool) -> Focus:
    pools = [row]
    if row.type in SHARED and row.source:
        pools += StoragePool.objects.filter(gone_at=None, type=row.type, source=row.source).exclude(pk=row.pk)
    inside = Q()
    for pool in pools:
        one = Q(pool=pool.name) | Q(source__in=Volume.objects.filter(pool=pool.pk).exclude(path="").values("path"))
        if pool.target:
            one |= Q(source__startswith=pool.target.rstrip("/") + "/")
        inside |= Q(vm__hypervisor__host=pool.host_id) & one
    return Focus(
        ref=row.ref,
        type="storage-pool",
        name=row.name,
        hosts=frozenset(pool.host_id for pool in pools),
        refs=frozenset(pool.ref for pool in pools),
        guests=Q(pk__in=VMDisk.objects.filter(inside).values("vm")),
        row=row,
    )


_FOUND: Final[dict[str, Callable[[Any], Focus]]] = {
    "host": _host,
    "hypervisor": _hypervisor,
    "network": _network,
    "storage-pool": _pool,
    "vm": _vm,
}
