"""Answers that make no sense end as the driver's error; those that do pass through untouched."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from drivers.answers import Checked
from drivers.base import Session
from drivers.errors import DriverError
from drivers.types import (
    AddressInfo,
    DiskInfo,
    GuestInfo,
    GuestState,
    LeaseInfo,
    NetworkInfo,
    PoolInfo,
    SnapshotInfo,
    StorageState,
    VolumeInfo,
)

GUEST = GuestInfo(uuid="a", name="web", state=GuestState.RUNNING, disks=(DiskInfo(target="vda"),), consoles=("vnc",))
POOL = PoolInfo(uuid="p", name="store", type="dir", state=StorageState.RUNNING, capacity_bytes=1, formats=("raw",))
VOLUME = VolumeInfo(name="web", pool="store", path="/p/web", capacity_bytes=1)
NETWORK = NetworkInfo(uuid="n", name="default", active=True, mode="nat", addresses=("192.0.2.1/24",))
LEASE = LeaseInfo(mac="52:54:00:00:00:01", address="192.0.2.7")

SNAPSHOT = SnapshotInfo(name="first", size_bytes=1, disks=("vda",))
GOOD = [
    ("guest", GUEST),
    ("define", GUEST),
    ("guest_or_none", GUEST),
    ("guest_or_none", None),
    ("guest_state", (GuestState.PAUSED, "user")),
    ("definition", "<domain/>"),
    ("screenshot", b"\x89PNG"),
    ("design", "<domain/>"),
    ("create", GUEST),
    ("addresses", {"agent": (AddressInfo(address="192.0.2.1"),), "arp": "Nobody answers."}),
    ("snapshots", [SNAPSHOT]),
    ("snapshots", ()),
    ("snapshots_of_all", {"a": [SNAPSHOT]}),
    ("suspend", None),
    ("alive", True),
    *((verb, POOL) for verb in ("pool", "pool_create")),
    *((verb, VOLUME) for verb in ("volume", "volume_create", "volume_clone")),
    *((verb, []) for verb in ("pools", "volumes", "networks", "leases")),
    ("pools", [POOL, dataclasses.replace(POOL, capacity_bytes=None)]),
    ("volumes", (VOLUME,)),
    ("networks", [NETWORK]),
    ("network_create", NETWORK),
    ("leases", [LEASE]),
]
WRONG: list[dict[str, Any]] = [
    {"uuid": ""},
    {"name": None},
    {"state": "running"},
    {"kind": 1},
    {"vcpus": "two"},
    {"memory_bytes": None},
    {"disks": None},
    {"interfaces": ("eth0",)},
    {"consoles": (None,)},
]
WRONG_POOLS: list[dict[str, Any]] = [
    {"uuid": ""},
    {"name": ""},
    {"state": "running"},
    {"target": None},
    {"capacity_bytes": -1},
    {"available_bytes": 1 << 63},
    {"formats": None},
    {"formats": (None,)},
]
WRONG_VOLUMES: list[dict[str, Any]] = [
    {"name": ""},
    {"path": None},
    {"capacity_bytes": None},
    {"allocation_bytes": 1 << 64},
    {"backing": 1},
]
WRONG_NETWORKS: list[dict[str, Any]] = [{"uuid": ""}, {"name": None}, {"mode": None}, {"addresses": "192.0.2.1"}]
WRONG_SNAPSHOTS: list[dict[str, Any]] = [
    {"name": ""},
    {"parent": None},
    {"state": "running"},
    {"created_at": "today"},
    {"size_bytes": "big"},
    {"disks": (None,)},
]
BAD = [
    *(
        (verb, nonsense)
        for verb in (
            "guest",
            "guest_state",
            "definition",
            "screenshot",
            "design",
            "create",
            "addresses",
            "snapshots",
            "snapshots_of_all",
        )
        for nonsense in (None, 42, object())
    ),
    ("guest_or_none", "yes, of course"),
    ("guest_or_none", (None, None)),
    ("guest_state", (None, None)),
    ("addresses", {"agent": None}),
    ("addresses", {"agent": ("192.0.2.1",)}),
    ("addresses", {"lease": (AddressInfo(address=None),)}),  # type: ignore[arg-type]  # the lie
    ("guest_state", (GuestState.RUNNING,)),
    ("guest_state", ("running", "user")),
    *(("guest", dataclasses.replace(GUEST, **wrong)) for wrong in WRONG),
    *(
        (verb, nonsense)
        for verb in (
            "pool",
            "pools",
            "pool_create",
            "volume",
            "volumes",
            "volume_create",
            "volume_clone",
            "networks",
            "leases",
        )
        for nonsense in (None, 42, [None])
    ),
    *(("pool", dataclasses.replace(POOL, **wrong)) for wrong in WRONG_POOLS),
    *(("volume", dataclasses.replace(VOLUME, **wrong)) for wrong in WRONG_VOLUMES),
    *(("networks", [NETWORK, dataclasses.replace(NETWORK, **wrong)]) for wrong in WRONG_NETWORKS),
    ("leases", [dataclasses.replace(LEASE, expires_at=None)]),
    *(("snapshots", [dataclasses.replace(SNAPSHOT, **wrong)]) for wrong in WRONG_SNAPSHOTS),
    ("snapshots", ["first"]),
    ("snapshots_of_all", {"a": ["first"]}),
    ("snapshots_of_all", {1: []}),
]


def answering(verb: str, answer: Any) -> Any:
    return Checked(SimpleNamespace(**{verb: lambda *_: answer}))  # type: ignore[arg-type]  # any object that has the verb


@pytest.mark.parametrize(("verb", "answer"), GOOD)
def test_answer_when_it_makes_sense_then_passed_on(verb: str, answer: Any) -> None:
    assert getattr(answering(verb, answer), verb)() is answer
    assert isinstance(answering(verb, answer), Session)


@pytest.mark.parametrize(("verb", "answer"), BAD)
def test_answer_when_it_makes_no_sense_then_a_driver_error_without_what_it_said(verb: str, answer: Any) -> None:
    with pytest.raises(DriverError, match="makes no sense") as caught:
        getattr(answering(verb, answer), verb)()
    assert (caught.value.code, caught.value.status) == ("hypervisor_error", 502)
    assert "0x" not in caught.value.detail
