"""Another seed for a guest that has one: at its next boot cloud-init takes it for a new instance, and runs anew."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, ClassVar, Final

import cloudinit
from core.ids import uuid7
from drivers.errors import WrongState
from drivers.types import Feature
from operations.actions import Params, action
from storage.models import Volume
from storage.reach import check_usable
from storage.volume_actions import read_volume
from vms.actions import CRASHED, SHUTOFF, GuestAction
from vms.creation.layout import SEED_ENDING
from vms.creation.maker import parts_of

if TYPE_CHECKING:
    from operations.actions import Context
    from vms.models import VM


class NoSeed(WrongState):
    """This guest has no seed for cloud-init."""

    code = "no_seed"


class ReseedParams(Params):
    """What cloud-init shall find: all of it, since what stood there before is not known here."""

    cloud_init: dict[str, Any]

    secret: ClassVar[frozenset[str]] = frozenset({"cloud_init"})


@action
class ReseedVM(GuestAction):
    """Write another seed over the one that a guest was made with. Safe to be done twice."""

    kind = "vm.cloud-init"
    title = "Change cloud-init"
    verb = "vm.edit"
    params = ReseedParams
    feature = Feature.STORAGE_CONTENT
    states = frozenset({SHUTOFF, CRASHED})

    def check(self, target: VM, params: Params, *, idle: bool) -> None:
        """Besides: there is a seed, and its pool can be written to."""
        super().check(target, params, idle=idle)
        check_usable(seed_of(target).pool)

    def run(self, ctx: Context, target: VM, params: Params) -> dict[str, Any]:
        """Write, larger if need be."""
        assert isinstance(params, ReseedParams)  # noqa: S101 - narrows the type; the registry pairs them
        with ctx.session(target.hypervisor.endpoint()) as session:
            state, _ = session.guest_state(target.guest_ref)
            self.check_state(target, state)
        volume = seed_of(target)
        instance = f"i-{target.pk}-{uuid7().hex[-8:]}"
        macs = [nic.mac for nic in target.interfaces.all()]
        parts = parts_of(params.cloud_init, name=target.name, macs=macs, instance_id=instance)
        content = cloudinit.iso(cloudinit.seed_of(parts).files())
        with ctx.session(volume.pool.hypervisor.endpoint()) as session:
            if session.volume(volume.pool.name, volume.name).capacity_bytes < len(content):
                session.volume_resize(volume.pool.name, volume.name, capacity_bytes=len(content))
            session.volume_upload(volume.pool.name, volume.name, io.BytesIO(content).read, length=len(content))
            read_volume(session, volume.pool, volume.name)
        return {"instance_id": instance}


UNKNOWN: Final = "has no seed that was made here: it was made without cloud-init, or somewhere else."


def seed_of(vm: VM) -> Volume:
    """The volume that is its seed, with pool and hypervisor. Two queries. Raises NoSeed."""
    for disk in vm.disks.filter(device="cdrom", source__endswith=SEED_ENDING):
        rows = Volume.objects.select_related("pool__hypervisor__host").filter(
            pool__host=vm.hypervisor.host_id, pool__gone_at=None
        )
        found = rows.filter(pool__name=disk.pool, name=disk.source) if disk.pool else rows.filter(path=disk.source)
        if (volume := found.first()) is not None:
            return volume
    raise NoSeed(f"{vm.name} {UNKNOWN}", vm=str(vm.pk))
