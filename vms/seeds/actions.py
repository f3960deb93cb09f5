"""What a worker does to a guest's seed: read what stands in it, and write another over it.

cloud-init reads the seed at each boot. What it does once for each instance (accounts, keys, packages) it does again where the seed
names another instance.
"""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, Any, ClassVar, Final

import yaml

import cloudinit
from core.errors import BadInput, Stale
from core.ids import uuid7
from core.memory import keep
from core.units import MIB
from drivers.errors import WrongState
from drivers.types import Feature
from operations.actions import Params, action
from storage.models import Volume
from storage.reach import check_usable
from storage.volume_actions import read_volume
from vms.actions import CRASHED, SHUTOFF, GuestAction, ReadGuest
from vms.creation.layout import SEED_ENDING
from vms.creation.maker import parts_of
from vms.readings import reading_key

if TYPE_CHECKING:
    from drivers.base import Session
    from operations.actions import Context
    from vms.models import VM
    from vms.readings import GuestReading

SEED_BYTES_MAX: Final = 8 * MIB
"""Of a seed that is read; one that was made here has a few hundred KiB."""
KEPT_SECONDS: Final = 60
BEGUN: Final = "begun "
"""How the step begins that is recorded before the seed is written over, with the instance: from then on it is not as it was."""
UNKNOWN: Final = "has no seed that was made here: it was made without cloud-init, or somewhere else."


class NoSeed(WrongState):
    """This guest has no seed for cloud-init."""

    code = "no_seed"


def seed_of(vm: VM) -> Volume:
    """The volume that is its seed, with pool and hypervisor. Two queries. Raises NoSeed."""
    for disk in vm.disks.filter(readonly=True, source__endswith=SEED_ENDING):
        rows = Volume.objects.select_related("pool__hypervisor__host").filter(
            pool__host=vm.hypervisor.host_id, pool__gone_at=None
        )
        found = rows.filter(pool__name=disk.pool, name=disk.source) if disk.pool else rows.filter(path=disk.source)
        if (volume := found.first()) is not None:
            return volume
    raise NoSeed(f"{vm.name} {UNKNOWN}", vm=str(vm.pk))


def read_seed(session: Session, volume: Volume) -> bytes:
    """All of it. Raises BadInput for one that is none, by its size."""
    if session.volume(volume.pool.name, volume.name).capacity_bytes > SEED_BYTES_MAX:
        raise BadInput(f"{volume.name} in {volume.pool.name} is too large for a seed.")
    pieces = bytearray()
    session.volume_download(volume.pool.name, volume.name, pieces.extend)
    return bytes(pieces)


def digest_of(content: bytes) -> str:
    """By which two seeds are told apart."""
    return hashlib.sha256(content).hexdigest()


def parts_in(content: bytes) -> dict[str, str]:
    """What stands in a seed: `user_data`, `network_config`, `vendor_data`, `instance_id`, `hostname`. Raises BadInput."""
    try:
        files = cloudinit.contents(content)
        meta = yaml.safe_load(files.get("meta-data", "")[:4096]) or {}
    except (cloudinit.Unreadable, yaml.YAMLError) as error:
        raise BadInput(f"The seed cannot be read: {error} Write another over it.") from None
    known = meta if isinstance(meta, dict) else {}
    return {
        "instance_id": str(known.get("instance-id", "")),
        "hostname": str(known.get("local-hostname", "")),
        **{name.replace("-", "_"): files.get(name, "") for name in ("user-data", "network-config", "vendor-data")},
    }


@action
class ReadSeed(ReadGuest):
    """What stands in its seed now. It may hold passwords: it goes through the cache, and into no row."""

    kind = "vm.read-cloud-init"
    title = "Read cloud-init"
    verb = "vm.edit"
    feature = Feature.STORAGE_CONTENT

    def run(self, ctx: Context, target: GuestReading, params: Params) -> dict[str, Any]:
        """By the hypervisor that its pool belongs to."""
        del params
        volume = seed_of(target.vm)
        with ctx.session(volume.pool.hypervisor.endpoint()) as session:
            content = read_seed(session, volume)
        found = {**parts_in(content), "digest": digest_of(content), "volume": volume.name, "pool": volume.pool.name}
        keep(reading_key(ctx.operation_id), json.dumps(found), seconds=KEPT_SECONDS)
        return {"size": len(content)}

    def read(self, session: Session, vm: VM) -> bytes:
        """Its bytes."""
        return read_seed(session, seed_of(vm))


class ReseedParams(Params):
    """What cloud-init shall find: all of it.

    Attributes:
        rerun: Whether it is another instance, for which cloud-init does everything again.
        bases: Digests of seeds that this was made from; none: whatever there is.
    """

    cloud_init: dict[str, Any]
    rerun: bool = True
    bases: list[str] = []

    secret: ClassVar[frozenset[str]] = frozenset({"cloud_init"})


@action
class ReseedVM(GuestAction):
    """Write another seed over the one that a guest was made with. Safe to be done twice."""

    kind = "vm.cloud-init"
    title = "Change cloud-init"
    verb = "vm.edit"
    params = ReseedParams
    feature = Feature.STORAGE_POOLS
    states = frozenset({SHUTOFF, CRASHED})

    def check(self, target: VM, params: Params, *, idle: bool) -> None:
        """Besides: there is a seed, and its pool can be written to."""
        super().check(target, params, idle=idle)
        check_usable(seed_of(target).pool)

    def run(self, ctx: Context, target: VM, params: Params) -> dict[str, Any]:
        """Look whether it is still the one that was edited, and write; larger if need be."""
        assert isinstance(params, ReseedParams)  # noqa: S101 - narrows the type; the registry pairs them
        with ctx.session(target.hypervisor.endpoint()) as session:
            state, _ = session.guest_state(target.guest_ref)
            self.check_state(target, state)
        volume = seed_of(target)
        with ctx.session(volume.pool.hypervisor.endpoint()) as session:
            instance = self._instance(ctx, session, target, volume, params)
            macs = [nic.mac for nic in target.interfaces.all()]
            parts = parts_of(params.cloud_init, name=target.name, macs=macs, instance_id=instance)
            content = cloudinit.iso(cloudinit.seed_of(parts).files())
            if session.volume(volume.pool.name, volume.name).capacity_bytes < len(content):
                session.volume_resize(volume.pool.name, volume.name, capacity_bytes=len(content))
            session.volume_upload(volume.pool.name, volume.name, io.BytesIO(content).read, length=len(content))
            read_volume(session, volume.pool, volume.name)
        return {"instance_id": instance}

    @staticmethod
    def _instance(ctx: Context, session: Session, vm: VM, volume: Volume, params: ReseedParams) -> str:
        """Which one it shall be; from then on the seed is being written. Raises Stale where it is not the one that was edited."""
        if begun := ctx.noted(BEGUN):
            return begun
        instance = f"i-{vm.pk}-{uuid7().hex[-8:]}"
        if params.bases or not params.rerun:
            content = read_seed(session, volume)
            if params.bases and digest_of(content) not in params.bases:
                raise Stale(f"The seed of {vm.name} changed since you read it. Nothing was done; read it again.")
            instance = instance if params.rerun else parts_in(content)["instance_id"] or instance
        ctx.checkpoint(f"{BEGUN}{instance}")
        return instance
