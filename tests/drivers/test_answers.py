"""Answers that make no sense end as the driver's error; those that do pass through untouched."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from drivers.answers import Checked
from drivers.base import Session
from drivers.errors import DriverError
from drivers.types import AddressInfo, DiskInfo, GuestInfo, GuestState

GUEST = GuestInfo(uuid="a", name="web", state=GuestState.RUNNING, disks=(DiskInfo(target="vda"),), consoles=("vnc",))
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
    ("suspend", None),
    ("alive", True),
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
BAD = [
    *(
        (verb, nonsense)
        for verb in ("guest", "guest_state", "definition", "screenshot", "design", "create", "addresses")
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
