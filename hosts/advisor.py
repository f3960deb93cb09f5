"""Which hypervisor is best for a guest: a pure function over plain facts. No database, no clock, no hypervisor.

Two steps. First what cannot be: each demand adds refusals and never takes one away, so more demands never find more places.
Then a score from 0 to 1 for those that are left: how well the kind of virtualization fits, and how much of the machine is free.
The same facts and demands give the same answer, in the same order. `hosts.places` reads the facts.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from core.units import format_bytes
from drivers.types import Feature, Technique, VirtualizationType
from hosts.choices import LinkState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

CONSOLES: Final = {
    "serial": Feature.CONSOLE_SERIAL,
    "shell": Feature.CONSOLE_SHELL,
    "vnc": Feature.CONSOLE_VNC,
    "spice": Feature.CONSOLE_SPICE,
}
SNAPSHOTS: Final = {"disk": Feature.SNAPSHOTS_DISK, "memory": Feature.SNAPSHOTS_MEMORY}
OWN_KERNEL_SYSTEMS: Final = frozenset({"windows", "bsd", "other"})
"""Guests that a Linux kernel cannot run as containers."""
_UNMODIFIED = frozenset({Technique.FULL_VIRTUALIZATION, Technique.HARDWARE_ASSISTED, Technique.EMULATION})
_FAST = frozenset(Technique) - {Technique.EMULATION, Technique.FULL_VIRTUALIZATION}

USUAL_START_SECONDS: Final[dict[str, float]] = {
    VirtualizationType.OS_LEVEL: 1.0,
    VirtualizationType.HYBRID: 3.0,
    VirtualizationType.BARE_METAL: 5.0,
    VirtualizationType.HOSTED: 10.0,
}
"""Until the guest runs, where nothing was measured. Its own boot comes on top, as it does in what is measured."""

# Shares of the score. The kind matters most: a free machine of the wrong kind is still the wrong kind.
_FIT, _MEMORY, _CPU, _PROMISES = 0.35, 0.25, 0.25, 0.15
_NOT_KNOWN = 0.5
_DEMO, _NO_CREATE = 0.1, 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What is to run. All of it optional: an empty demand asks which hypervisor has most room.

    Attributes:
        guest_os: All but Linux need a kernel of their own.
        isolation: `kernel`: the host's kernel may keep guests apart (a container will do); `machine`: a (virtual) machine of
            its own, with a kernel of its own.
        density: `high`: many small guests.
        start_seconds: It must run within this time; its own boot comes on top.
        nested: It runs a hypervisor itself.
        migration: It must move while it runs.
        console: Any console, or this one of `CONSOLES`.
        snapshots: Any snapshot, or this one of `SNAPSHOTS`.
        create: It is to be made here, by us, and now.
    """

    guest_os: Literal["linux", "windows", "bsd", "other"] | None = None
    isolation: Literal["kernel", "machine"] | None = None
    density: Literal["high", "normal"] | None = None
    start_seconds: float | None = None
    nested: bool = False
    migration: bool = False
    console: bool | Literal["serial", "shell", "vnc", "spice"] = False
    snapshots: bool | Literal["disk", "memory"] = False
    vcpus: int | None = None
    memory_bytes: int | None = None
    create: bool = False

    @property
    def own_kernel(self) -> bool:
        """Whether a container will not do."""
        return self.guest_os in OWN_KERNEL_SYSTEMS or self.isolation == "machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One hypervisor as far as it matters here. None and 0 are "not known".

    Attributes:
        capabilities: Feature → (supported, reason); empty where it was never reached.
        memory_free_bytes: Free on the machine now.
        cpu_ratio: 1: all CPUs of the machine busy.
        vcpus_promised: To the guests that run on the machine, of all its hypervisors; `memory_promised_bytes` likewise.
        start_seconds: How long starts took here, those that succeeded lately.
    """

    id: str
    host_id: str
    host_name: str
    driver: str
    state: str
    virtualization_type: str = ""
    techniques: frozenset[str] = frozenset()
    capabilities: Mapping[str, tuple[bool, str]] = field(default_factory=dict)
    maintenance: bool = False
    demo: bool = False
    nested: bool | None = None
    cpu_count: int = 0
    cpu_architecture: str = ""
    memory_total_bytes: int = 0
    memory_free_bytes: int | None = None
    cpu_ratio: float | None = None
    vcpus_promised: int = 0
    memory_promised_bytes: int = 0
    start_seconds: tuple[float, ...] = ()

    def has(self, feature: str) -> bool:
        """Whether it can."""
        return self.capabilities.get(feature, (False, ""))[0]

    def why_not(self, feature: str) -> str:
        """The reason that its driver gave."""
        return self.capabilities.get(feature, (False, ""))[1] or _("This hypervisor does not have it.")

    @property
    def shares_kernel(self) -> bool:
        """Whether its guests run on the host's kernel."""
        return self.virtualization_type == VirtualizationType.OS_LEVEL

    @property
    def only_emulates(self) -> bool:
        """Whether every instruction of a guest is translated."""
        return Technique.EMULATION in self.techniques and not self.techniques & _FAST

    @property
    def expected_start_seconds(self) -> float:
        """The middle of what was measured, else what is usual for its kind."""
        if self.start_seconds:
            return statistics.median(self.start_seconds)
        return USUAL_START_SECONDS.get(self.virtualization_type, max(USUAL_START_SECONDS.values()))

    @property
    def order(self) -> tuple[str, str, str]:
        """Among equals."""
        return self.host_name.lower(), self.driver, self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A hypervisor that would do. `score`: 0 to 1."""

    place: Place
    score: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A hypervisor that will not do. `code` is a stable word of `CODES`."""

    place: Place
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Every place is in one of both: candidates best first, refusals by host."""

    candidates: tuple[Candidate, ...]
    refused: tuple[Refusal, ...]


def advise(demand: Demand, places: Iterable[Place]) -> Advice:
    """Rank `places` for `demand`."""
    candidates: list[Candidate] = []
    refused: list[Refusal] = []
    everything = sorted(places, key=lambda place: place.order)
    for place in everything:
        refusal = refuse(demand, place)
        if refusal is not None:
            refused.append(refusal)
        else:
            reasons = tuple(_reasons(demand, place, everything))
            candidates.append(Candidate(place=place, score=score(demand, place), reasons=reasons))
    candidates.sort(key=lambda one: -one.score)  # stable: equals stay in the order of their hosts
    return Advice(candidates=tuple(candidates), refused=tuple(refused))


# -- what cannot be ----------------------------------------------------------------------------------------------------
def refuse(demand: Demand, place: Place) -> Refusal | None:
    """The first thing that stands against it: what will never be before what may pass."""
    for code, why in _REFUSALS.items():
        reason = why(demand, place)
        if reason:
            return Refusal(place=place, code=code, reason=reason)
    return None


def _shared_kernel(demand: Demand, place: Place) -> str:
    if not (place.shares_kernel and demand.own_kernel):
        return ""
    if demand.guest_os in OWN_KERNEL_SYSTEMS:
        return _("Its guests share the host's Linux kernel; this system needs a kernel of its own.")
    return _("Its guests share the host's kernel; a machine of its own was asked for.")


def _out_of_reach(_demand: Demand, place: Place) -> str:
    if place.state == LinkState.CONNECTING:
        return _("%(host)s is still being connected to.") % {"host": place.host_name}
    if place.state != LinkState.ONLINE:
        return _("%(host)s is out of reach.") % {"host": place.host_name}
    return ""


def _not_probed(_demand: Demand, place: Place) -> str:
    return "" if place.capabilities else _("Nobody has asked it yet what it can do.")


def _no_create(demand: Demand, place: Place) -> str:
    return place.why_not(Feature.CREATE) if demand.create and not place.has(Feature.CREATE) else ""


def _no_full_virtualization(demand: Demand, place: Place) -> str:
    if demand.guest_os in OWN_KERNEL_SYSTEMS and place.techniques and not place.techniques & _UNMODIFIED:
        return _("It runs only guests that were made for it; this system has to run as it is.")
    return ""


def _no_nested(demand: Demand, place: Place) -> str:
    if not demand.nested:
        return ""
    if place.shares_kernel:
        return _("A container cannot run a hypervisor of its own here.")
    if place.nested is None:
        return _("It is not known whether its guests can run hypervisors.")
    return "" if place.nested else _("Nested virtualization is off on %(host)s.") % {"host": place.host_name}


def _no_migration(demand: Demand, place: Place) -> str:
    return place.why_not(Feature.MIGRATION_LIVE) if demand.migration and not place.has(Feature.MIGRATION_LIVE) else ""


def _one_of(place: Place, known: Mapping[str, Feature], *, wish: bool | str) -> str:
    wanted = [known[wish]] if isinstance(wish, str) else list(known.values()) if wish else []
    return "" if not wanted or any(place.has(feature) for feature in wanted) else place.why_not(wanted[0])


def _slow_start(demand: Demand, place: Place) -> str:
    if demand.start_seconds is None or place.expected_start_seconds <= demand.start_seconds:
        return ""
    return _start_words(place)


def _no_memory(demand: Demand, place: Place) -> str:
    wanted = demand.memory_bytes or 0
    if wanted and 0 < place.memory_total_bytes < wanted:
        return _("%(host)s has %(total)s of memory in all; %(wanted)s are asked for.") % {
            "host": place.host_name,
            "total": format_bytes(place.memory_total_bytes),
            "wanted": format_bytes(wanted),
        }
    if wanted and place.memory_free_bytes is not None and place.memory_free_bytes < wanted:
        return _("%(free)s of memory are free on %(host)s; %(wanted)s are asked for.") % {
            "host": place.host_name,
            "free": format_bytes(place.memory_free_bytes),
            "wanted": format_bytes(wanted),
        }
    return ""


def _maintenance(_demand: Demand, place: Place) -> str:
    if not place.maintenance:
        return ""
    return _("%(host)s is in maintenance: nothing is started or placed there.") % {"host": place.host_name}


_REFUSALS: Final[dict[str, Callable[[Demand, Place], str]]] = {
    "shared_kernel": _shared_kernel,
    "out_of_reach": _out_of_reach,
    "not_probed": _not_probed,
    "no_create": _no_create,
    "no_full_virtualization": _no_full_virtualization,
    "no_nested": _no_nested,
    "no_migration": _no_migration,
    "no_console": lambda demand, place: _one_of(place, CONSOLES, wish=demand.console),
    "no_snapshots": lambda demand, place: _one_of(place, SNAPSHOTS, wish=demand.snapshots),
    "slow_start": _slow_start,
    "maintenance": _maintenance,
    "no_memory": _no_memory,
}
CODES: Final = tuple(_REFUSALS)
"""Why a hypervisor is refused, in the order in which it is looked for. One is added, never taken away."""


# -- how good it is ----------------------------------------------------------------------------------------------------
_ROOMS: Final[dict[str, float]] = {
    VirtualizationType.BARE_METAL: 0.95,
    VirtualizationType.HYBRID: 0.9,
    VirtualizationType.OS_LEVEL: 0.9,
    VirtualizationType.HOSTED: 0.6,
}
"""How well a kind of virtualization serves a guest that demands nothing special."""
_DENSITY: Final[dict[str, float]] = {
    VirtualizationType.OS_LEVEL: 1.0,
    VirtualizationType.BARE_METAL: 0.5,
    VirtualizationType.HYBRID: 0.5,
    VirtualizationType.HOSTED: 0.2,
}


def score(demand: Demand, place: Place) -> float:
    """0 to 1, three decimals. More load never raises it."""
    parts = (
        (_FIT, _fit(demand, place)),
        (_MEMORY, _room(demand, place)),
        (_CPU, _idle(place)),
        (_PROMISES, _unpromised(demand, place)),
    )
    return round(_discount(place) * sum(weight * value for weight, value in parts), 3)


def _fit(demand: Demand, place: Place) -> float:
    fits = [_ROOMS.get(place.virtualization_type, _NOT_KNOWN) * (0.3 if place.only_emulates else 1.0)]
    if demand.density == "high":
        fits += [_DENSITY.get(place.virtualization_type, _NOT_KNOWN)] * 2
    if demand.start_seconds is not None:
        fits.append(1.0 - min(1.0, place.expected_start_seconds / (2 * demand.start_seconds)))
    return sum(fits) / len(fits)


def _room(demand: Demand, place: Place) -> float:
    if not place.memory_total_bytes or place.memory_free_bytes is None:
        return _NOT_KNOWN
    return _within((place.memory_free_bytes - (demand.memory_bytes or 0)) / place.memory_total_bytes)


def _idle(place: Place) -> float:
    return _NOT_KNOWN if place.cpu_ratio is None else _within(1.0 - place.cpu_ratio)


def _unpromised(demand: Demand, place: Place) -> float:
    """1 where nothing is promised, one half where all of it is, and so on."""
    ratios = []
    if place.cpu_count:
        ratios.append((place.vcpus_promised + (demand.vcpus or 0)) / place.cpu_count)
    if place.memory_total_bytes:
        ratios.append((place.memory_promised_bytes + (demand.memory_bytes or 0)) / place.memory_total_bytes)
    return 1.0 / (1.0 + max(ratios)) if ratios else _NOT_KNOWN


def _discount(place: Place) -> float:
    return (_DEMO if place.demo else 1.0) * (1.0 if _makes_guests(place) else _NO_CREATE)


def _makes_guests(place: Place) -> bool:
    return place.has(Feature.CREATE) or place.has(Feature.DEFINE)


def _within(ratio: float) -> float:
    return min(1.0, max(0.0, ratio))


# -- why, in sentences -------------------------------------------------------------------------------------------------
def _reasons(demand: Demand, place: Place, everything: list[Place]) -> Iterable[str]:
    if place.demo:
        yield _("A demo: nothing real runs here.")
    yield _kind_words(place)
    if demand.density == "high":
        yield _density_words(place)
    yield _memory_words(place)
    yield _cpu_words(place)
    if demand.start_seconds is not None:
        yield _start_words(place)
    if demand.nested:
        yield _("Its guests can run hypervisors.")
    if demand.console:
        yield _("Consoles: %(kinds)s.") % {
            "kinds": ", ".join(k for k, feature in CONSOLES.items() if place.has(feature))
        }
    if demand.snapshots:
        kinds = ", ".join(kind for kind, feature in SNAPSHOTS.items() if place.has(feature))
        yield _("Snapshots: %(kinds)s.") % {"kinds": kinds}
    if demand.migration:
        yield _migration_words(place, everything)
    if not _makes_guests(place):
        yield _("Guests cannot be made here through vmmanager: %(reason)s") % {"reason": place.why_not(Feature.CREATE)}


def _kind_words(place: Place) -> str:
    if place.only_emulates:
        return _("It emulates the processor: any system runs, many times slower.")
    match place.virtualization_type:
        case VirtualizationType.BARE_METAL:
            return _("Bare metal: a kernel of its own, with nothing between hypervisor and hardware.")
        case VirtualizationType.HYBRID:
            return _("Hybrid: a kernel of its own, by the hypervisor inside the host's kernel.")
        case VirtualizationType.HOSTED:
            return _("Hosted: a kernel of its own, as a program on the host's system.")
        case VirtualizationType.OS_LEVEL:
            return _("OS level: light, but it shares the host's kernel with its neighbours.")
    return _("Its kind of virtualization is not known.")


def _density_words(place: Place) -> str:
    if place.shares_kernel:
        return _("Many fit: no guest needs a kernel or memory of its own for it.")
    return _("Fewer fit than containers would: each guest brings a kernel and its memory.")


def _memory_words(place: Place) -> str:
    if not place.memory_total_bytes or place.memory_free_bytes is None:
        return _("How much memory is free is not known.")
    return _("%(free)s of %(total)s of memory are free.") % {
        "free": format_bytes(place.memory_free_bytes),
        "total": format_bytes(place.memory_total_bytes),
    }


def _cpu_words(place: Place) -> str:
    promised = ngettext("%(n)s vCPU is promised", "%(n)s vCPUs are promised", place.vcpus_promised) % {
        "n": place.vcpus_promised
    }
    cpus = ngettext("%(n)s CPU", "%(n)s CPUs", place.cpu_count) % {"n": place.cpu_count or "?"}
    values = {"cpus": cpus, "promised": promised}
    if place.cpu_ratio is None:
        return _("%(cpus)s, how busy is not known; %(promised)s.") % values
    return _("%(cpus)s, %(percent)s %% busy; %(promised)s.") % {
        **values,
        "percent": round(_within(place.cpu_ratio) * 100),
    }


def _start_words(place: Place) -> str:
    seconds = f"{place.expected_start_seconds:.1f}".removesuffix(".0")
    if place.start_seconds:
        return ngettext(
            "The last start took %(seconds)s s here, without the guest's own boot.",
            "The last %(n)s starts took %(seconds)s s here, in the middle, without the guest's own boot.",
            len(place.start_seconds),
        ) % {"n": len(place.start_seconds), "seconds": seconds}
    return _("Not measured here yet; its kind usually starts in %(seconds)s s, without the guest's own boot.") % {
        "seconds": seconds
    }


def _migration_words(place: Place, everything: list[Place]) -> str:
    others = [
        other
        for other in everything
        if other.host_id != place.host_id and other.driver == place.driver and other.has(Feature.MIGRATION_LIVE)
    ]
    if not others:
        return _("It can move guests while they run, but no other hypervisor of its kind is there to take them.")
    return ngettext(
        "It can move guests while they run, to %(n)s other of its kind.",
        "It can move guests while they run, to %(n)s others of its kind.",
        len(others),
    ) % {"n": len(others)}
