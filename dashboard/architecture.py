"""The fleet by how it virtualizes, and what follows from that: who shares a kernel, who is on its own, who could move where.

Two queries for any fleet; all else is counting. Nothing here promises what vmmanager cannot do: a move while a guest runs is
told only where both sides have `migration.live`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from django.db.models import Count, Q
from django.utils.translation import gettext as _

from accounts.policy import visible
from dashboard.matrix import everything
from drivers.types import Feature, Technique, VirtualizationType
from hosts.choices import TechniqueChoice, VirtualizationTypeChoice
from vms.choices import State
from vms.models import PRESENT, VM

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable

    from accounts.actor import Actor
    from hosts.models import Host, Hypervisor

Move = Literal["live", "cold", "none"]
_ORDER: Final = {str(technique): position for position, technique in enumerate(Technique)}


@dataclass(slots=True, kw_only=True)
class Placed:
    """One hypervisor with the number of its guests."""

    hypervisor: Hypervisor
    guests: int = 0
    running: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Hypervisors of one type that run guests by the same techniques."""

    label: str
    members: list[Placed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One virtualization type."""

    value: str
    label: str
    meaning: str
    ways: list[Way]

    @property
    def guests(self) -> int:
        """All of them."""
        return sum(one.guests for way in self.ways for one in way.members)

    @property
    def running(self) -> int:
        """Those that run."""
        return sum(one.running for way in self.ways for one in way.members)


@dataclass(slots=True, kw_only=True)
class Kernel:
    """One host's kernel and the containers on it, through whichever engines: a single point of failure."""

    host: Host
    drivers: list[str] = field(default_factory=list)
    guests: int = 0
    running: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    """Hypervisors that could take each other's guests: one driver, one type, the same techniques and processor architecture."""

    driver: str
    type: str
    label: str
    architecture: str
    members: list[Placed]
    move: Move
    reason: str = ""
    """Why not while it runs."""
    no_nested: list[str] = field(default_factory=list)
    """Hosts where a guest that runs a hypervisor would not find what it needs; only where others have it."""

    @property
    def guests(self) -> int:
        """All of them."""
        return sum(one.guests for one in self.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The page."""

    kinds: list[Kind]
    kernels: list[Kernel]
    own_kernel: int
    circles: list[Circle]


def meaning_of(value: str) -> str:
    """What a virtualization type means for its guests."""
    match value:
        case VirtualizationType.BARE_METAL:
            return _("The hypervisor owns the hardware. Each guest has a kernel of its own.")
        case VirtualizationType.HYBRID:
            return _("The hypervisor is a part of the host's kernel. Each guest has a kernel of its own.")
        case VirtualizationType.HOSTED:
            return _("The hypervisor is a program on the host's system. Each guest has a kernel of its own.")
        case VirtualizationType.OS_LEVEL:
            return _("No second kernel: all guests of a host share the host's. Light, and they fall together.")
    return _("Never reached yet.")


def architecture(by: Actor) -> Architecture:
    """As it is known now. Two queries."""
    placed = [Placed(hypervisor=row) for row in everything(by)]
    by_id = {one.hypervisor.pk: one for one in placed}
    kernels: dict[uuid.UUID, Kernel] = {}
    own_kernel = 0
    present = visible(by, VM.objects.filter(PRESENT)).order_by()
    counted = present.values_list("hypervisor", "virtualization_type").annotate(
        guests=Count("pk"), running=Count("pk", filter=Q(state=State.RUNNING))
    )
    for pk, type_, guests, running in counted:
        one = by_id.get(pk)
        if one is None:
            continue
        one.guests += guests
        one.running += running
        if (type_ or one.hypervisor.virtualization_type) == VirtualizationType.OS_LEVEL:
            kernel = kernels.setdefault(one.hypervisor.host_id, Kernel(host=one.hypervisor.host))
            kernel.guests += guests
            kernel.running += running
            kernel.drivers = sorted({*kernel.drivers, one.hypervisor.driver})
        else:
            own_kernel += guests
    return Architecture(
        kinds=_kinds(placed),
        kernels=sorted(kernels.values(), key=lambda kernel: (-kernel.guests, kernel.host.name.lower())),
        own_kernel=own_kernel,
        circles=circles(placed),
    )


def _kinds(placed: list[Placed]) -> list[Kind]:
    by_type: dict[str, dict[str, list[Placed]]] = defaultdict(lambda: defaultdict(list))
    for one in placed:
        by_type[one.hypervisor.virtualization_type][_techniques(one.hypervisor.techniques)].append(one)
    labels = dict(VirtualizationTypeChoice.choices)
    return [
        Kind(
            value=value,
            label=str(labels.get(value, _("Not known yet"))),
            meaning=meaning_of(value),
            ways=[Way(label=label, members=members) for label, members in sorted(by_type[value].items())],
        )
        for value in (*VirtualizationTypeChoice.values, "")
        if value in by_type
    ]


def _techniques(values: Iterable[str]) -> str:
    labels = dict(TechniqueChoice.choices)
    return ", ".join(str(labels.get(value, value)) for value in sorted(values, key=lambda one: _ORDER.get(one, 99)))


def circles(placed: Iterable[Placed]) -> list[Circle]:
    """Who could take whose guests, the largest first. What was never reached is in none."""
    alike: dict[tuple[str, str, str, str], list[Placed]] = defaultdict(list)
    for one in placed:
        row = one.hypervisor
        if row.virtualization_type:
            key = (row.driver, row.virtualization_type, _techniques(row.techniques), row.host.cpu_architecture)
            alike[key].append(one)
    found = [_circle(key, members) for key, members in alike.items()]
    return sorted(found, key=lambda circle: (circle.move == "none", -circle.guests, circle.driver))


def _circle(key: tuple[str, str, str, str], members: list[Placed]) -> Circle:
    driver, type_, label, processor = key
    rows = [one.hypervisor for one in members]
    several = len({row.host_id for row in rows}) > 1
    refusing = [row for row in rows if not row.support(Feature.MIGRATION_LIVE)[0]]
    able = {row.host_id for row in rows} - {row.host_id for row in refusing}
    move: Move = "none" if not several else "live" if len(able) > 1 else "cold"
    nests = {row.host.nested_virtualization for row in rows}
    return Circle(
        driver=driver,
        type=type_,
        label=label,
        architecture=processor,
        members=members,
        move=move,
        reason=refusing[0].support(Feature.MIGRATION_LIVE)[1] if move == "cold" else "",
        no_nested=[row.host.name for row in rows if not row.host.nested_virtualization]
        if several and True in nests
        else [],
    )
