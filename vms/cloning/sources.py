"""What a guest's disks are to whoever copies it: which are its own, in which volumes, and which are media. Reads the database alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from drivers.errors import WrongState
from vms.creation.layout import SEED_ENDING
from vms.deletion.leftovers import places
from vms.models import VMDisk

if TYPE_CHECKING:
    from storage.models import Volume
    from vms.models import VM

DRIVES: Final = frozenset({"cdrom", "floppy"})


class NotCopyable(WrongState):
    """A disk of this guest cannot be copied."""

    code = "not_copyable"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDisk:
    """A disk or drive of a guest that is copied.

    Attributes:
        how: `own`: written by it, in `volume`; `shared`: only read; `seed`: its cloud-init files; `drive`: whatever lies in it is not its.
    """

    target: str
    how: Literal["own", "shared", "seed", "drive"]
    bus: str = ""
    format: str = ""
    path: str = ""
    volume: Volume | None = None


def disks_of(vm: VM) -> list[SourceDisk]:
    """All of them, in their order. Two queries. Raises NotCopyable for a disk of its own that lies in no storage pool."""
    rows = list(VMDisk.objects.filter(vm=vm.pk))
    lies = places(vm, [row for row in rows if row.source])
    found = []
    for row in rows:
        volume = lies.get(row.pk)
        form = (volume.format if volume is not None else "") or row.format
        path = volume.path if volume is not None else row.source
        how: Literal["own", "shared", "seed", "drive"]
        if row.source.endswith(SEED_ENDING) and (row.device in DRIVES or row.readonly):  # libvirt's is a disk
            how = "seed"
        elif row.device in DRIVES:
            how = "drive"
        elif row.device != "disk":
            raise _refused(vm, row, f"it is a {row.device}, a device of the host itself")
        elif row.readonly:
            how = "shared"
        elif volume is None:
            raise _refused(
                vm, row, "it lies in no storage pool that is known here. Make its directory or device a pool first"
            )
        else:
            how = "own"
        found.append(SourceDisk(target=row.target, how=how, bus=row.bus, format=form, path=path, volume=volume))
    return found


def check_still(vm: VM) -> None:
    """Raises WrongState for a guest with memory on disk: its disks alone are not what it is."""
    if vm.has_managed_save:
        raise WrongState(
            f"{vm.name} has saved memory, and its disks are not whole without it: start it and shut it down, or discard what is saved.",
            state=vm.state,
        )


def _refused(vm: VM, row: VMDisk, why: str) -> NotCopyable:
    return NotCopyable(f"{vm.name} cannot be copied: of its disk {row.target}, {why}.", disk=row.target)
