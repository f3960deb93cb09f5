"""What becomes of a guest's disks when it goes for good: which volumes are its alone, and how they are deleted.

Deleted is what lies in a storage pool and has no other use that anybody here knows of (`storage.uses`): no other guest, no overlay,
no image. Everything else is kept, and named with the reason. Nothing is ever deleted by its path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from drivers.errors import DriverError, NotFound, Timeout, Unreachable
from operations.choices import OPEN
from operations.models import Operation
from storage.inventory import pools_observe, volume_gone
from storage.models import Volume
from storage.reach import volume_or_none
from storage.uses import uses_of
from vms.models import VMDisk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from drivers.base import Session
    from operations.actions import Context
    from storage.uses import Use
    from vms.models import VM


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """One disk of a guest that goes.

    Attributes:
        volume: Where it lies; None when in no pool.
        kept: Why it stays, as a sentence; "" when it goes.
        stands_on: Disks of the same guest that are overlays of it: it goes after them.
    """

    disk: VMDisk
    volume: Volume | None = None
    kept: str = ""
    stands_on: frozenset[str] = frozenset()

    @property
    def size_bytes(self) -> int | None:
        """What it takes in its pool, where known."""
        return self.volume.allocation_bytes if self.volume else None

    @property
    def words(self) -> dict[str, Any]:
        """For a result."""
        place = {"pool": self.volume.pool.name, "volume": self.volume.name} if self.volume else {}
        return {"target": self.disk.target, "source": self.disk.source, **place} | (
            {"reason": self.kept} if self.kept else {"size_bytes": self.size_bytes}
        )


def fates(vm: VM) -> list[Fate]:
    """Each disk of a guest with what becomes of it: by what is known now. A fixed number of queries."""
    disks = list(VMDisk.objects.filter(vm=vm.pk).exclude(source=""))
    lies = places(vm, disks)
    volumes = list({volume.pk: volume for volume in lies.values()}.values())
    uses = uses_of(volumes)
    at_work = set(
        Operation.objects.filter(Q(state__in=OPEN) | Q(holds_lock=True))
        .filter(lock_key__in=[volume.ref for volume in volumes])
        .values_list("lock_key", flat=True)
    )
    own = {str(volume.pk) for volume in volumes}
    found = []
    for disk in disks:
        volume = lies.get(disk.pk)
        others = [one for one in uses[volume.pk] if not (one.type == "vm" and one.id == str(vm.pk))] if volume else []
        overlays = frozenset(one.id for one in others if one.type == "volume" and one.id in own)
        others = [one for one in others if one.id not in overlays]
        found.append(
            Fate(disk=disk, volume=volume, kept=_why_kept(vm, disk, volume, others, at_work), stands_on=overlays)
        )
    return _with_bases_of_kept(found)


def delete(ctx: Context, session: Session, vm: VM) -> dict[str, list[dict[str, Any]]]:
    """Delete what is its alone, after a fresh look at what lies where: `{"volumes": deleted, "kept": […]}`. The guest must be gone.

    A volume that is gone is what was wished; one that the host does not want to delete is kept with its reason.

    Raises:
        Unreachable, Timeout: Called again, it goes on.
    """
    _look_afresh(ctx, session, vm)
    todo = fates(vm)
    deleted, kept = [], [one.words for one in todo if one.kept]
    waiting = [one for one in todo if not one.kept]
    gone: set[str] = set()
    while waiting:
        ready = [one for one in waiting if one.stands_on <= gone]
        if not ready:
            kept += [{**one.words, "reason": "An overlay of it could not be deleted."} for one in waiting]
            break
        waiting = [one for one in waiting if one not in ready]
        for one in ready:
            volume = one.volume
            assert volume is not None  # noqa: S101 - what has none is kept
            why_not = "" if str(volume.pk) in gone else _delete_volume(session, volume)
            if why_not:
                kept.append({**one.words, "reason": why_not})
                continue
            gone.add(str(volume.pk))
            deleted.append(one.words)
            ctx.log(f"Deleted {volume.name} in {volume.pool.name}.")
            if volume.backing and volume.backing not in {other.volume.path for other in todo if other.volume}:
                kept.append(
                    {"target": one.disk.target, "source": volume.backing, "reason": f"{volume.name} was made on it."}
                )
    for left in kept:
        ctx.log(f"Kept {left['source']}: {left['reason']}")
    return {"volumes": deleted, "kept": kept}


def all_kept(vm: VM, reason: str) -> dict[str, list[dict[str, Any]]]:
    """The same where nothing is deleted."""
    disks = VMDisk.objects.filter(vm=vm.pk).exclude(source="")
    return {"volumes": [], "kept": [Fate(disk=disk, kept=reason).words for disk in disks]}


def _delete_volume(session: Session, volume: Volume) -> str:
    """Why it could not be deleted; "" when it is gone."""
    try:
        session.volume_delete(volume.pool.name, volume.name)
    except NotFound:
        pass
    except (Unreachable, Timeout):
        raise
    except DriverError as error:
        return error.detail
    seen_at = timezone.now()
    if volume_or_none(session, volume.pool.name, volume.name) is not None:
        return "It is still there after it was deleted."
    volume_gone(volume.pool, volume.name, seen_at=seen_at)
    return ""


def _look_afresh(ctx: Context, session: Session, vm: VM) -> None:
    """Every running pool's volumes as they are now: an overlay that somebody made a moment ago is a use."""
    seen_at = timezone.now()
    near = {volume.pool.name for volume in places(vm, list(VMDisk.objects.filter(vm=vm.pk))).values()}
    pools = session.pools()
    volumes = {}
    for pool in pools:
        try:
            if pool.name in near:
                session.pool_refresh(pool.name)
            volumes[pool.name] = session.volumes(pool.name)
        except (Unreachable, Timeout):
            raise
        except DriverError as error:
            ctx.log(f"The pool {pool.name} could not be looked at: {error.detail}")
    pools_observe(vm.hypervisor, pools, volumes, seen_at=seen_at)


def places(vm: VM, disks: Sequence[VMDisk]) -> dict[int, Volume]:
    """Disk → the volume that it is, on the guest's host. One query."""
    paths = {disk.source for disk in disks if not disk.pool and disk.source}
    names = {(disk.pool, disk.source) for disk in disks if disk.pool}
    wanted = Q(path__in=paths) | Q(
        pool__name__in={pool for pool, _name in names}, name__in={name for _pool, name in names}
    )
    rows = Volume.objects.select_related("pool__hypervisor__host").filter(
        wanted, pool__gone_at=None, pool__host=vm.hypervisor.host_id
    )
    by_path: dict[str, Volume] = {}
    by_name: dict[tuple[str, str], Volume] = {}
    for row in rows.order_by("pool__created_at"):
        by_path.setdefault(row.path, row)
        by_name[row.pool.name, row.name] = row
    found = {
        disk.pk: by_name.get((disk.pool, disk.source)) if disk.pool else by_path.get(disk.source) for disk in disks
    }
    return {pk: volume for pk, volume in found.items() if volume is not None}


def _why_kept(vm: VM, disk: VMDisk, volume: Volume | None, others: Iterable[Use], at_work: set[str]) -> str:
    if volume is None:
        return _("It lies in no storage pool.")
    made_for_it = f"-{vm.pk.hex[-8:]}" in volume.name
    if (disk.device != "disk" or disk.readonly) and not made_for_it:
        return _("It is a medium, not a disk of the guest's own.")
    names = list(dict.fromkeys(f"{use.name} ({use.how})" if use.how else use.name for use in others))
    if names:
        return _("It is used by %(names)s.") % {"names": ", ".join(names[:3]) + (" …" if len(names) > 3 else "")}
    if volume.ref in at_work:
        return _("Another operation works on it.")
    return ""


def _with_bases_of_kept(found: list[Fate]) -> list[Fate]:
    """What one of its own disks stands on stays with that."""
    while True:
        staying = {str(one.volume.pk) for one in found if one.kept and one.volume}
        wrong = [one for one in found if not one.kept and one.stands_on & staying]
        if not wrong:
            return found
        why = _("An overlay of it stays.")
        found = [
            Fate(disk=one.disk, volume=one.volume, kept=why, stands_on=one.stands_on) if one in wrong else one
            for one in found
        ]
