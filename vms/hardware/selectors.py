"""What is known of a guest's hardware, and what of it waits for the next start. Reads the database alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from accounts import policy
from core.errors import VmmError
from drivers.types import GuestHardware
from operations import actions
from vms.choices import ACTIVE
from vms.hardware.values import differences, obedient, of_json, options_of
from vms.models import VMHardware

if TYPE_CHECKING:
    import datetime as dt

    from accounts.actor import Actor
    from drivers.types import Device, Hardware, HardwareOptions
    from vms.hardware.values import Difference
    from vms.models import VM

CHANGE = "vm.memory"
"""An action that all changes of hardware are like, where it is asked whether they are possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A guest's hardware as it was last read.

    Attributes:
        found: What it has at its next start, and what it runs with.
        pending: What differs between both.
    """

    found: GuestHardware
    options: HardwareOptions
    digest: str
    read_at: dt.datetime
    pending: tuple[Difference, ...]

    @property
    def shown(self) -> Hardware | None:
        """What can be changed: what it has at its next start, of a transient guest what it runs with."""
        return self.found.defined or self.found.live

    @property
    def devices(self) -> dict[str, Device]:
        """By key: what it has at its next start, and what goes then."""
        found = dict(self.shown.devices) if self.shown else {}
        return found | {one.key: one.now for one in self.pending if one.then is None and one.now is not None}

    def difference(self, key: str) -> Difference | None:
        """What is pending of one device."""
        return next((one for one in self.pending if one.key == key), None)


def known(vm: VM) -> Known | None:
    """One query; None where nobody has looked yet."""
    row = VMHardware.objects.filter(vm=vm.pk).first()
    if row is None:
        return None
    found = GuestHardware(defined=of_json(row.defined), live=of_json(row.live) if _runs_still(vm, row) else None)
    told = GuestHardware(defined=found.defined, live=obedient(found.live, row.told_bytes) if found.live else None)
    return Known(
        found=found,
        options=options_of(row.options),
        digest=row.digest,
        read_at=row.read_at,
        pending=tuple(differences(told)),
    )


def pending_count(vm: VM) -> int:
    """How many devices wait for its next start. No query for one that is off, else one."""
    if vm.state not in ACTIVE:
        return 0
    found = known(vm)
    return len(found.pending) if found else 0


def _runs_still(vm: VM, row: VMHardware) -> bool:
    """Whether what it ran with when it was read is of the run that it is in."""
    return vm.state in ACTIVE and row.started_at == vm.started_at


def why_fixed(vm: VM, *, by: Actor) -> str:
    """Why this caller cannot change its hardware now, as a sentence; "" where he can. No query."""
    action = actions.get(CHANGE)
    try:
        policy.require(by, action.verb, vm)
        action.check(vm, action.params.model_construct(), idle=True)
    except VmmError as error:
        return error.detail
    return ""
