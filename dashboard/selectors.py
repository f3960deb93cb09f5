"""What the overview shows: fleet, attention, capacity. A fixed number of queries, whatever the fleet's size."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db.models import Count, F, Q, Sum
from django.utils import timezone

from accounts.policy import visible
from core.units import format_bytes
from hosts.choices import LinkState, TechniqueChoice, VirtualizationTypeChoice
from hosts.models import Host, Hypervisor
from metrics.models import Latest
from operations.choices import State as OperationState
from operations.selectors import operation_list
from storage.choices import FULL_RATIO
from storage.selectors import filling
from storage.words import full_in
from vms.choices import ACTIVE, Kind, State
from vms.grammar import needs_a_look
from vms.models import PRESENT, VM

if TYPE_CHECKING:
    import uuid

    from accounts.actor import Actor
    from storage.models import StoragePool

SQUARES_MAX = 300
"""Guests of one hypervisor that are drawn as squares; more become a bar."""
ATTENTION_MAX = 8
FAILED_WITHIN = dt.timedelta(hours=24)
FRESH = dt.timedelta(seconds=60)
CAPACITY_MAX = 12
MEMORY_HIGH = 0.9
_MACHINE = Q(kind=Kind.MACHINE)
_LIMITED_CPU = _MACHINE | Q(vcpus__lt=F("hypervisor__host__cpu_count"))
_LIMITED_MEMORY = _MACHINE | Q(memory_bytes__lt=F("hypervisor__host__memory_total_bytes"))
"""A container that may use the whole host was promised nothing: counted, a host with two of them would look twice sold."""


@dataclass(slots=True, kw_only=True)
class FleetHypervisor:
    """One hypervisor of the map."""

    hypervisor: Hypervisor
    counts: dict[str, int] = field(default_factory=dict)
    squares: list[dict[str, Any]] = field(default_factory=list)

    @property
    def total(self) -> int:
        """All its guests."""
        return sum(self.counts.values())

    @property
    def running(self) -> int:
        """Those that run."""
        return self.counts.get(State.RUNNING, 0)

    @property
    def bar(self) -> list[dict[str, Any]]:
        """Shares by state, in percent with their offsets, for a map that would be too large."""
        parts, at = [], 0.0
        for state in State.values:
            share = 100 * self.counts.get(state, 0) / self.total if self.total else 0
            if share:
                parts.append({"state": state, "x": f"{at:.2f}%", "width": f"{share:.2f}%"})
                at += share
        return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetType:
    """A column of the map: the hypervisors of one virtualization type."""

    value: str
    label: str
    hypervisors: list[FleetHypervisor]

    @property
    def guests(self) -> int:
        """All their guests."""
        return sum(one.total for one in self.hypervisors)

    @property
    def shares_kernel(self) -> bool:
        """Whether guests of one host stand and fall with its kernel."""
        return self.value == VirtualizationTypeChoice.OS_LEVEL

    @property
    def kernels(self) -> int:
        """How many kernels carry its guests, where they share the hosts'."""
        return len({one.hypervisor.host_id for one in self.hypervisors if one.total})

    @property
    def techniques(self) -> list[str]:
        """How guests run there, each once."""
        used = {technique for one in self.hypervisors for technique in one.hypervisor.techniques}
        return [value for value in TechniqueChoice.values if value in used]


def fleet(by: Actor) -> list[FleetType]:
    """The fleet map by virtualization type, as four columns. Three queries."""
    rows = visible(by, Hypervisor.objects.select_related("host").defer("credentials", "capabilities"))
    ones = {row.pk: FleetHypervisor(hypervisor=row) for row in rows.order_by("host__name", "driver")}
    present = visible(by, VM.objects.filter(PRESENT))
    for pk, state, number in present.order_by().values_list("hypervisor", "state").annotate(number=Count("*")):
        if pk in ones:
            ones[pk].counts[state] = number
    small = [pk for pk, one in ones.items() if 0 < one.total <= SQUARES_MAX]
    for square in present.filter(hypervisor__in=small).order_by("name").values("pk", "name", "state", "hypervisor"):
        ones[square["hypervisor"]].squares.append(dict(square))
    columns: dict[str, list[FleetHypervisor]] = defaultdict(list)
    for one in ones.values():
        columns[one.hypervisor.virtualization_type].append(one)
    labels = dict(VirtualizationTypeChoice.choices)
    order = [value for value in VirtualizationTypeChoice.values if value in columns]
    if "" in columns:  # never reached yet, so nobody knows
        order.append("")
    return [FleetType(value=value, label=str(labels.get(value, "")), hypervisors=columns[value]) for value in order]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """One line of what needs a look. `what` is a key of the template, which has the words."""

    what: str
    css: str
    name: str
    href: str
    at: dt.datetime | None = None
    text: str = ""


def attention(by: Actor) -> list[Attention]:
    """What needs a person, worst first. Nine queries."""
    found: list[Attention] = []
    for row in visible(by, Hypervisor.objects.select_related("host").defer("credentials", "capabilities")).filter(
        state__in=(LinkState.OFFLINE, LinkState.ERROR)
    )[:ATTENTION_MAX]:
        detail = (row.error or {}).get("detail", "")
        found.append(
            Attention(
                what="host",
                css=row.state,
                name=f"{row.host.name} ({row.driver})",
                href=f"/hosts/{row.host_id}/doctor?hypervisor={row.pk}",
                at=row.state_since,
                text=detail,
            )
        )
    guests = visible(by, VM.objects.filter(PRESENT)).filter(needs_a_look())
    found += [
        Attention(
            what="crashed" if guest.state == State.CRASHED else "paused",
            css=guest.state,
            name=guest.name,
            href=f"/vms/{guest.pk}",
            at=guest.state_since,
            text=guest.state_reason.replace("_", " "),
        )
        for guest in guests.order_by("-state_since")[:ATTENTION_MAX]
    ]
    failed = operation_list(by).filter(
        state=OperationState.FAILED, parent=None, finished_at__gte=timezone.now() - FAILED_WITHIN
    )
    found += [
        Attention(
            what="failed",
            css="failed",
            name=operation.target_name or operation.kind,
            href=f"/operations/{operation.pk}",
            at=operation.finished_at,
            text=operation.message,
        )
        for operation in failed.order_by("-finished_at")[:4]
    ]
    for load in capacity(by):
        if (
            load.memory_used
            and load.host.memory_total_bytes
            and load.memory_used / load.host.memory_total_bytes > MEMORY_HIGH
        ):
            found.append(Attention(what="memory", css="warn", name=load.host.name, href=f"/hosts/{load.host.pk}"))
    found += [_storage_line(pool) for pool in filling(by, limit=ATTENTION_MAX, ratio=FULL_RATIO)]
    return found


def _storage_line(pool: StoragePool) -> Attention:
    """A pool that is as good as full, or will be soon."""
    name, href = f"{pool.name} ({pool.hypervisor.host.name})", f"/storage/{pool.pk}"
    if (pool.used_ratio or 0.0) >= FULL_RATIO or pool.forecast is None:
        return Attention(what="storage", css="warn", name=name, href=href, text=format_bytes(pool.available_bytes))
    return Attention(what="filling", css="warn", name=name, href=href, text=full_in(pool.forecast))


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a host has, what was promised to its running guests, and what is in use. Bytes and CPUs; None is not known."""

    host: Host
    vcpus_promised: int
    memory_promised: int
    cpus_used: float | None
    memory_used: int | None

    @property
    def over_cpu(self) -> bool:
        """More vCPUs promised than there are."""
        return self.host.cpu_count > 0 and self.vcpus_promised > self.host.cpu_count

    @property
    def over_memory(self) -> bool:
        """More memory promised than there is."""
        return self.host.memory_total_bytes > 0 and self.memory_promised > self.host.memory_total_bytes


def capacity(by: Actor, *, limit: int = CAPACITY_MAX, host: uuid.UUID | None = None) -> list[Capacity]:
    """Promises against hardware, the most promised host first. Three queries."""
    hosts = visible(by, Host.objects.exclude(demo=True) if host is None else Host.objects.filter(pk=host))
    known = {row.pk: row for row in hosts.filter(cpu_count__gt=0)}
    promised = {
        pk: (vcpus, memory)
        for pk, vcpus, memory in VM.objects.filter(PRESENT, state__in=ACTIVE, hypervisor__host__in=list(known)[:1000])
        .order_by()
        .values_list("hypervisor__host")
        .annotate(cpus=Sum("vcpus", filter=_LIMITED_CPU), memory=Sum("memory_bytes", filter=_LIMITED_MEMORY))
    }
    samples = {
        row.subject: row
        for row in Latest.objects.filter(subject__in=list(known)[:1000], at__gte=timezone.now() - FRESH)
    }
    found = []
    for pk, row in known.items():
        sample = samples.get(pk)
        vcpus, memory = (number or 0 for number in promised.get(pk, (0, 0)))
        found.append(
            Capacity(
                host=row,
                vcpus_promised=vcpus,
                memory_promised=memory,
                cpus_used=None if sample is None or sample.cpu_ratio is None else sample.cpu_ratio * row.cpu_count,
                memory_used=sample.memory_bytes if sample else None,
            )
        )
    found.sort(key=lambda one: one.vcpus_promised / one.host.cpu_count, reverse=True)
    return found[:limit]


def totals(by: Actor) -> dict[str, int]:
    """Numbers under the heading. Two queries."""
    guests = visible(by, VM.objects.filter(PRESENT)).aggregate(
        guests=Count("pk"), running=Count("pk", filter=Q(state=State.RUNNING))
    )
    machines = visible(by, Host.objects.all()).aggregate(
        hosts=Count("pk", distinct=True), hypervisors=Count("hypervisors")
    )
    return {**guests, **machines}
