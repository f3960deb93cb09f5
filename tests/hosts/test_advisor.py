"""The advisor as a pure function: what is refused and why, what raises and lowers a score, and what always holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.units import GIB
from drivers.types import Feature, Technique, VirtualizationType
from hosts.advisor import CODES, CONSOLES, SNAPSHOTS, Demand, Place, advise, refuse, score

TECHNIQUES = {
    "bare_metal": {"hardware_assisted", "full_virtualization"},
    "hybrid": {"hardware_assisted", "kernel_based", "full_virtualization"},
    "hosted": {"full_virtualization", "emulation"},
    "os_level": {"shared_kernel"},
}


def place(type_: str = "hybrid", *, lacks: dict[str, str] | None = None, **facts: Any) -> Place:
    """An idle, online hypervisor that can do everything but what it `lacks`."""
    reasons = lacks or {}
    values: dict[str, Any] = {
        "id": f"id-{type_}",
        "host_id": "host-1",
        "host_name": "kvm-01",
        "driver": "qemu",
        "state": "online",
        "virtualization_type": type_,
        "techniques": frozenset(TECHNIQUES.get(type_, ())),
        "capabilities": {str(one): (one not in reasons, reasons.get(one, "")) for one in Feature},
        "nested": True,
        "cpu_count": 8,
        "memory_total_bytes": 64 * GIB,
        "memory_free_bytes": 32 * GIB,
        "cpu_ratio": 0.25,
    }
    return Place(**values | facts)


def code(demand: Demand, one: Place) -> str:
    refusal = refuse(demand, one)
    return refusal.code if refusal else ""


@pytest.mark.parametrize(
    "demand", [*({"guest_os": os} for os in ("windows", "bsd", "other")), {"isolation": "machine"}]
)
def test_refused_when_it_needs_its_own_kernel_then_shared_kernel_on_os_level_alone(demand: dict[str, Any]) -> None:
    asked = Demand(**demand)
    assert code(asked, place("os_level")) == "shared_kernel"
    assert code(asked, place("os_level", state="offline")) == "shared_kernel", "it would not do in reach either"
    assert [code(asked, place(type_)) for type_ in ("bare_metal", "hybrid", "hosted")] == ["", "", ""]


@pytest.mark.parametrize("demand", [{}, {"guest_os": "linux"}, {"isolation": "kernel"}])
def test_os_level_when_no_kernel_of_its_own_is_needed_then_a_candidate(demand: dict[str, Any]) -> None:
    assert code(Demand(**demand), place("os_level")) == ""


REFUSED = [
    ({}, {"state": "offline"}, "out_of_reach", "kvm-01 is out of reach."),
    ({}, {"state": "connecting"}, "out_of_reach", "kvm-01 is still being connected to."),
    ({}, {"capabilities": {}}, "not_probed", "Nobody has asked it yet what it can do."),
    ({}, {"maintenance": True}, "maintenance", "kvm-01 is in maintenance: nothing is started or placed there."),
    ({"nested": True}, {"nested": False}, "no_nested", "Nested virtualization is off on kvm-01."),
    ({"nested": True}, {"nested": None}, "no_nested", "It is not known whether its guests can run hypervisors."),
    ({"memory_bytes": 48 * GIB}, {}, "no_memory", "32 GiB of memory are free on kvm-01; 48 GiB are asked for."),
    (
        {"memory_bytes": 65 * GIB},
        {"memory_free_bytes": None},
        "no_memory",
        "kvm-01 has 64 GiB of memory in all; 65 GiB are asked for.",
    ),
    (
        {"start_seconds": 2},
        {"start_seconds": (3.0, 4.0, 20.0)},
        "slow_start",
        "The last 3 starts took 4 s here, in the middle, without the guest's own boot.",
    ),
    (
        {"start_seconds": 2},
        {},
        "slow_start",
        "Not measured here yet; its kind usually starts in 3 s, without the guest's own boot.",
    ),
    (
        {"guest_os": "windows"},
        {"techniques": frozenset({"paravirtualization"})},
        "no_full_virtualization",
        "It runs only guests that were made for it; this system has to run as it is.",
    ),
]


@pytest.mark.parametrize(("demand", "facts", "expected", "reason"), REFUSED)
def test_refused_when_facts_stand_against_it_then_code_and_reason(
    demand: dict[str, Any], facts: dict[str, Any], expected: str, reason: str
) -> None:
    refusal = refuse(Demand(**demand), place(**facts))
    assert refusal is not None
    assert (refusal.code, refusal.reason) == (expected, reason)


@pytest.mark.parametrize(
    ("demand", "lacking", "expected"),
    [
        ({"migration": True}, [Feature.MIGRATION_LIVE], "no_migration"),
        ({"console": "vnc"}, [Feature.CONSOLE_VNC], "no_console"),
        ({"console": True}, list(CONSOLES.values()), "no_console"),
        ({"snapshots": "memory"}, [Feature.SNAPSHOTS_MEMORY], "no_snapshots"),
        ({"snapshots": True}, list(SNAPSHOTS.values()), "no_snapshots"),
    ],
)
def test_refused_when_a_capability_lacks_then_with_the_drivers_own_reason(
    demand: dict[str, Any], lacking: list[Feature], expected: str
) -> None:
    refusal = refuse(Demand(**demand), place(lacks=dict.fromkeys(lacking, "It has none.")))
    assert refusal is not None
    assert (refusal.code, refusal.reason) == (expected, "It has none.")
    if True in demand.values() and len(lacking) > 1:
        assert code(Demand(**demand), place(lacks=dict.fromkeys(lacking[1:], "It has none."))) == "", "one is enough"


def test_score_when_the_machine_is_busier_then_lower() -> None:
    idle = score(Demand(), place())
    for busier in (
        place(cpu_ratio=0.9),
        place(memory_free_bytes=4 * GIB),
        place(vcpus_promised=16),
        place(memory_promised_bytes=64 * GIB),
    ):
        assert score(Demand(), busier) < idle


def test_score_when_many_small_guests_are_wanted_then_containers_first_and_a_machine_of_its_own_bare_metal() -> None:
    fleet = [place(type_, id=type_) for type_ in VirtualizationType]
    dense = advise(Demand(density="high"), fleet)
    assert [one.place.id for one in dense.candidates] == ["os_level", "bare_metal", "hybrid", "hosted"]
    alone = advise(Demand(isolation="machine"), fleet)
    assert [one.place.id for one in alone.candidates] == ["bare_metal", "hybrid", "hosted"]


def test_score_when_it_only_emulates_or_is_a_demo_then_last() -> None:
    slow = place("hosted", id="slow", techniques=frozenset({"emulation", "full_virtualization"}))
    demo = place(id="demo", demo=True)
    advice = advise(Demand(), [demo, slow, place("os_level", id="good")])
    assert [one.place.id for one in advice.candidates] == ["good", "slow", "demo"]
    assert advice.candidates[-1].reasons[0] == "A demo: nothing real runs here."


def test_reasons_when_asked_for_much_then_one_sentence_each() -> None:
    asked = Demand(density="high", start_seconds=5, nested=True, migration=True, console=True, snapshots=True)
    other = place(id="other", host_id="host-2", host_name="kvm-02")
    (first, _second) = advise(asked, [place(start_seconds=(0.5,), vcpus_promised=1), other]).candidates
    assert first.reasons == (
        "Hybrid: a kernel of its own, by the hypervisor inside the host's kernel.",
        "Fewer fit than containers would: each guest brings a kernel and its memory.",
        "32 GiB of 64 GiB of memory are free.",
        "8 CPUs, 25 % busy; 1 vCPU is promised.",
        "The last start took 0.5 s here, without the guest's own boot.",
        "Its guests can run hypervisors.",
        "Consoles: serial, shell, vnc, spice.",
        "Snapshots: disk, memory.",
        "It can move guests while they run, to 1 other of its kind.",
    )


# -- what always holds ---------------------------------------------------------------------------------------------------
sizes = st.integers(0, 128).map(lambda number: number * GIB)
PLACES = st.builds(
    Place,
    id=st.uuids().map(str),
    host_id=st.sampled_from(["a", "b", "c"]),
    host_name=st.sampled_from(["kvm-01", "KVM-02", "xen"]),
    driver=st.sampled_from(["qemu", "lxc", "docker"]),
    state=st.sampled_from(["online", "online", "online", "offline", "connecting", "error"]),
    virtualization_type=st.sampled_from([*map(str, VirtualizationType), ""]),
    techniques=st.frozensets(st.sampled_from(list(map(str, Technique)))),
    capabilities=st.just({})
    | st.dictionaries(st.sampled_from(list(map(str, Feature))), st.tuples(st.booleans(), st.sampled_from(["", "No."]))),
    maintenance=st.booleans(),
    demo=st.booleans(),
    nested=st.none() | st.booleans(),
    cpu_count=st.integers(0, 64),
    memory_total_bytes=sizes,
    memory_free_bytes=st.none() | sizes,
    cpu_ratio=st.none() | st.floats(0, 1.5),
    vcpus_promised=st.integers(0, 500),
    memory_promised_bytes=sizes,
    start_seconds=st.lists(st.floats(0, 100), max_size=4).map(tuple),
)
FLEETS = st.lists(PLACES, max_size=12, unique_by=lambda one: one.id)
WISHES: dict[str, st.SearchStrategy[Any]] = {
    "guest_os": st.sampled_from(["linux", "windows", "bsd", "other"]),
    "isolation": st.sampled_from(["kernel", "machine"]),
    "density": st.sampled_from(["high", "normal"]),
    "start_seconds": st.floats(0.01, 100),
    "nested": st.booleans(),
    "migration": st.booleans(),
    "console": st.booleans() | st.sampled_from(list(CONSOLES)),
    "snapshots": st.booleans() | st.sampled_from(list(SNAPSHOTS)),
    "vcpus": st.integers(1, 64),
    "memory_bytes": st.integers(1, 64).map(lambda number: number * GIB),
}
DEMANDS = st.fixed_dictionaries({}, optional=WISHES)


def found(demand: dict[str, Any], fleet: list[Place]) -> set[str]:
    return {one.place.id for one in advise(Demand(**demand), fleet).candidates}


@given(demand=DEMANDS, fleet=FLEETS)
def test_always_every_place_is_in_one_of_both_with_its_reasons(demand: dict[str, Any], fleet: list[Place]) -> None:
    advice = advise(Demand(**demand), fleet)
    told = [one.place.id for one in (*advice.candidates, *advice.refused)]
    assert sorted(told) == sorted(one.id for one in fleet)
    assert all(0.0 <= one.score <= 1.0 and all(one.reasons) for one in advice.candidates)
    assert all(one.code in CODES and one.reason for one in advice.refused)
    scores = [one.score for one in advice.candidates]
    assert scores == sorted(scores, reverse=True)


@given(demand=DEMANDS, fleet=FLEETS, name=st.sampled_from(list(WISHES)), data=st.data())
def test_always_one_demand_more_finds_no_place_more(
    demand: dict[str, Any], fleet: list[Place], name: str, data: st.DataObject
) -> None:
    less = {key: value for key, value in demand.items() if key != name}
    assert found(less | {name: data.draw(WISHES[name])}, fleet) <= found(less, fleet)


@given(demand=DEMANDS, fleet=FLEETS, data=st.data())
def test_always_the_order_of_the_facts_changes_nothing(
    demand: dict[str, Any], fleet: list[Place], data: st.DataObject
) -> None:
    assert advise(Demand(**demand), data.draw(st.permutations(fleet))) == advise(Demand(**demand), fleet)


@given(demand=DEMANDS, one=PLACES, more=st.floats(0, 1), used=sizes, vcpus=st.integers(0, 99), memory=sizes)
def test_always_more_load_never_raises_the_score(
    demand: dict[str, Any], one: Place, more: float, used: int, vcpus: int, memory: int
) -> None:
    loaded = replace(
        one,
        cpu_ratio=None if one.cpu_ratio is None else one.cpu_ratio + more,
        memory_free_bytes=None if one.memory_free_bytes is None else max(0, one.memory_free_bytes - used),
        vcpus_promised=one.vcpus_promised + vcpus,
        memory_promised_bytes=one.memory_promised_bytes + memory,
    )
    assert score(Demand(**demand), loaded) <= score(Demand(**demand), one)


def test_to_be_made_here_when_the_driver_makes_none_then_its_reason() -> None:
    lacking = place(lacks={"create": "Guests are made in vSphere's own client."})
    refusal = refuse(Demand(create=True), lacking)
    assert refusal is not None
    assert (refusal.code, refusal.reason) == ("no_create", "Guests are made in vSphere's own client.")
    assert [code(Demand(create=True), place()), code(Demand(), lacking)] == ["", ""]
