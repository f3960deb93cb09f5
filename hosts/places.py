"""The facts that `hosts.advisor` ranks, read from the database: four queries for any fleet, and no hypervisor is asked."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from django.db.models import F, Q, Sum
from django.utils import timezone

from accounts.policy import visible
from drivers.types import GuestKind, GuestState
from hosts.advisor import Advice, Demand, Place, advise
from hosts.models import Host, Hypervisor
from metrics.models import Latest
from operations.choices import State
from operations.models import Operation

if TYPE_CHECKING:
    import uuid

    from accounts.actor import Actor

FRESH: Final = dt.timedelta(seconds=60)
"""A load that is older says nothing about now."""
STARTS_WITHIN: Final = dt.timedelta(days=30)
STARTS_MAX: Final = 2000
STARTS_EACH: Final = 50
_AWAKE: Final = tuple(set(GuestState) - {GuestState.SHUTOFF, GuestState.UNKNOWN})


def best_places(demand: Demand, *, by: Actor) -> Advice:
    """`hosts.advisor.advise` over every hypervisor that `by` may see, as it is now. Four queries."""
    return advise(demand, places(by))


def places(by: Actor) -> list[Place]:
    """Every hypervisor that `by` may see. Four queries."""
    rows = list(visible(by, Hypervisor.objects.select_related("host").defer("credentials")))
    promised = _promised()
    loads = {
        row.subject: row for row in Latest.objects.filter(at__gte=timezone.now() - FRESH, subject__in=_hosts(rows))
    }
    starts = _starts()
    return [
        _place(row, promised.get(row.host_id, (0, 0)), loads.get(row.host_id), starts.get(row.ref, ())) for row in rows
    ]


def _hosts(rows: list[Hypervisor]) -> list[uuid.UUID]:
    return sorted({row.host_id for row in rows})


def _place(row: Hypervisor, promised: tuple[int, int], load: Latest | None, starts: tuple[float, ...]) -> Place:
    host: Host = row.host
    return Place(
        id=str(row.pk),
        host_id=str(row.host_id),
        host_name=host.name,
        driver=row.driver,
        state=row.state,
        virtualization_type=row.virtualization_type,
        techniques=frozenset(row.techniques),
        capabilities={
            name: (bool(entry["supported"]), str(entry.get("reason", ""))) for name, entry in row.capabilities.items()
        },
        maintenance=host.maintenance,
        demo=host.demo,
        nested=host.nested_virtualization,
        cpu_count=host.cpu_count,
        cpu_architecture=host.cpu_architecture,
        memory_total_bytes=host.memory_total_bytes,
        memory_free_bytes=_free(host, load),
        cpu_ratio=load.cpu_ratio if load else None,
        vcpus_promised=promised[0],
        memory_promised_bytes=promised[1],
        start_seconds=starts,
    )


def _free(host: Host, load: Latest | None) -> int | None:
    """What the host says is free (nothing free at all: it does not tell), else what its load leaves."""
    if host.memory_free_bytes:
        return host.memory_free_bytes
    if load is not None and load.memory_bytes is not None and host.memory_total_bytes:
        return max(0, host.memory_total_bytes - load.memory_bytes)
    return None


def _promised() -> dict[uuid.UUID, tuple[int, int]]:
    """Host → vCPUs and bytes that its running guests were promised, through whichever of its hypervisors.

    A container that may use the whole host was promised nothing.
    """
    awake = Q(vms__gone_at=None, vms__state__in=_AWAKE)
    machine = Q(vms__kind=GuestKind.MACHINE)
    cpu = awake & (machine | Q(vms__vcpus__lt=F("host__cpu_count")))
    memory = awake & (machine | Q(vms__memory_bytes__lt=F("host__memory_total_bytes")))
    sums = Hypervisor.objects.values("host").order_by()
    sums = sums.annotate(vcpus=Sum("vms__vcpus", filter=cpu), memory=Sum("vms__memory_bytes", filter=memory))
    return {row["host"]: (row["vcpus"] or 0, row["memory"] or 0) for row in sums}


def _starts() -> dict[str, tuple[float, ...]]:
    """`hypervisor/<id>` → seconds that its last starts took, without their time in the queue. Retried ones tell nothing."""
    rows = Operation.objects.filter(
        kind="vm.start",
        state=State.SUCCEEDED,
        attempts__lte=1,
        started_at__gte=timezone.now() - STARTS_WITHIN,
        finished_at__isnull=False,
    )
    found: dict[str, list[float]] = defaultdict(list)
    for slot, started, finished in rows.order_by("-id").values_list("slot_key", "started_at", "finished_at")[
        :STARTS_MAX
    ]:
        if started is not None and finished is not None and len(found[slot]) < STARTS_EACH:
            found[slot].append(max(0.0, (finished - started).total_seconds()))
    return {slot: tuple(seconds) for slot, seconds in found.items()}
