"""A whole driver in one file: guests are written on paper, and starting one means to say so.

It needs no line in vmmanager: the entry point in `pyproject.toml` names the class, and the class brings the form of its URIs.
"""

from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING, ClassVar

from drivers.base import Driver, Session
from drivers.errors import NotFound, WrongState
from drivers.forms import Way
from drivers.types import (
    Feature,
    GuestInfo,
    GuestKind,
    GuestState,
    HostInfo,
    HostStats,
    Proof,
    Support,
    Technique,
    VirtualizationType,
)
from drivers.uris import UriForm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from drivers.types import Endpoint, GuestRef

FEATURES = frozenset({Feature.START, Feature.FORCE_OFF})
LETTER = "5a3e7c1e-0000-4000-8000-000000000001"


class PaperDriver(Driver):
    """Hypervisors made of paper (`paper:///desk`)."""

    kind = "paper"
    label = "Paper"
    schemes = ("paper",)
    transports = ("",)
    features = FEATURES
    reasons: ClassVar[Mapping[Feature, str]] = {
        **{feature: "Paper cannot do that." for feature in Feature if feature not in FEATURES},
        Feature.EVENTS: "Paper tells nothing by itself: it is looked at every few seconds.",
    }
    virtualization_types = (VirtualizationType.HOSTED,)
    ways = (Way(name="desk", label="On the desk", scheme="paper", path="/desk", local=True),)
    proof = Proof.REAL
    uri_forms: ClassVar[Mapping[str, UriForm]] = {
        "paper": UriForm(driver="paper", transports=("",), paths=("/desk", "/drawer"), example="paper:///desk"),
        "qemu": UriForm(
            driver="paper", transports=("",), paths=("/system",), example="qemu:///system"
        ),  # refused: taken
    }

    _sheets: ClassVar[dict[str, GuestState]] = {}
    lock: ClassVar[threading.Lock] = threading.Lock()

    def open(self, endpoint: Endpoint) -> PaperSession:
        """Paper is always there."""
        return PaperSession(endpoint, self._sheets, self.lock)


class PaperSession(Session):
    """One look at the desk."""

    def __init__(self, endpoint: Endpoint, sheets: dict[str, GuestState], lock: threading.Lock) -> None:
        self.endpoint = endpoint
        self._sheets = sheets
        self._lock = lock
        self._open = True

    def host_info(self) -> HostInfo:
        """The desk."""
        return HostInfo(
            hostname="desk",
            host_uuid="5a3e7c1e-0000-4000-8000-0000000000ff",
            cpu_count=1,
            cpu_model="Pencil",
            cpu_architecture="paper",
            memory_total_bytes=1 << 30,
            memory_free_bytes=1 << 29,
            kernel="",
            nested_virtualization=None,
            hypervisor_version="Paper 1.0",
            library_version="",
            virtualization_type=VirtualizationType.HOSTED,
            techniques=(Technique.EMULATION,),
        )

    def capabilities(self) -> Mapping[Feature, Support]:
        """What the driver says: paper is the same everywhere."""
        return {
            feature: Support(supported=feature in FEATURES, reason=PaperDriver.reasons.get(feature, ""))
            for feature in Feature
        }

    def guests(self) -> Sequence[GuestInfo]:
        """The one letter."""
        with self._lock:
            return [_letter(self._sheets.get(LETTER, GuestState.SHUTOFF))]

    def guest(self, ref: GuestRef) -> GuestInfo:
        """One sheet."""
        found = next((info for info in self.guests() if info.uuid == ref.uuid), None)
        if found is None:
            raise NotFound("There is no such sheet.")
        return found

    def guest_or_none(self, ref: GuestRef) -> GuestInfo | None:
        """One sheet, or none."""
        return next((info for info in self.guests() if info.uuid == ref.uuid), None)

    def guest_state(self, ref: GuestRef) -> tuple[GuestState, str]:
        """What is written on it."""
        return self.guest(ref).state, ""

    def start(self, ref: GuestRef) -> None:
        """Write that it runs."""
        self._write(ref, GuestState.SHUTOFF, GuestState.RUNNING)

    def force_off(self, ref: GuestRef) -> None:
        """Write that it does not."""
        self._write(ref, GuestState.RUNNING, GuestState.SHUTOFF)

    def _write(self, ref: GuestRef, before: GuestState, after: GuestState) -> None:
        if self.guest(ref).state != before:
            raise WrongState(f"The letter is not {before}.")
        with self._lock:
            self._sheets[ref.uuid] = after

    def host_stats(self) -> HostStats:
        """A desk is never busy."""
        return HostStats(at=time.monotonic(), cpu_count=1, memory_total_bytes=1 << 30, memory_free_bytes=1 << 29)

    def alive(self) -> bool:
        """Until it is closed."""
        return self._open

    def on_close(self, callback: Callable[[str], None]) -> None:
        """Paper does not go away."""

    def close(self) -> None:
        """Look elsewhere."""
        self._open = False


def _letter(state: GuestState) -> GuestInfo:
    return GuestInfo(
        uuid=LETTER,
        name="letter",
        kind=GuestKind.MACHINE,
        state=state,
        vcpus=1,
        memory_bytes=1 << 20,
        max_memory_bytes=1 << 20,
        virtualization_type=VirtualizationType.HOSTED,
        techniques=(Technique.EMULATION,),
        xml_digest=hashlib.sha256(b"letter").hexdigest(),
    )
