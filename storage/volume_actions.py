"""What a worker does to volumes: as in `storage.pool_actions`."""

from __future__ import annotations

import time
import uuid  # noqa: TC003 - pydantic reads the annotation
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from django.utils import timezone

from core.errors import Missing
from drivers.errors import AlreadyExists, Busy, DriverError, NotFound, Timeout, Unreachable
from drivers.storage import check_growth
from drivers.types import Feature, VolumeInfo, VolumeSpec
from hosts.wishes import BEGUN
from operations.actions import Action, Cancelled, Params, action
from storage import uses
from storage.inventory import pool_observe, volume_gone, volume_observe, volumes_observe
from storage.models import StoragePool, Volume
from storage.reach import check_usable, pool_of, slot_of, volume_or_none

if TYPE_CHECKING:
    import datetime as dt

    from drivers.base import Session
    from operations.actions import Context

BUSY_PAUSE_SECONDS: Final = 2.0


class VolumeAction(Action[Volume, Params]):
    """What all actions on one volume share."""

    verb = "volume.manage"
    feature: ClassVar[Feature] = Feature.STORAGE_CONTENT
    long: ClassVar[bool] = False
    """Whether it takes as long as its data is large."""

    def load(self, target_id: uuid.UUID) -> Volume:
        """With pool, hypervisor and host, by one query. Raises Missing for a volume that is gone."""
        volume = (
            Volume.objects.select_related("pool__hypervisor__host").filter(pk=target_id, pool__gone_at=None).first()
        )
        if volume is None:
            raise Missing("This volume is gone from its pool.")
        return volume

    def slot(self, target: Volume) -> tuple[str, int]:
        """One of its hypervisor's slots, or of those for what takes long."""
        return slot_of(target.pool.hypervisor, long=self.long)

    def check(self, target: Volume, params: Params, *, idle: bool) -> None:
        """Capability, reach, the pool's state, and (if idle) who uses it."""
        del params
        check_usable(target.pool, self.feature)
        if idle:
            self.check_uses(target)

    def check_uses(self, volume: Volume) -> None:
        """Raises InUse naming whoever uses it."""
        found = uses.uses_of([volume])[volume.pk] if volume.uses is None else volume.uses
        uses.refuse(volume.name, self.in_the_way(found))

    def in_the_way(self, found: list[uses.Use]) -> list[uses.Use]:
        """Which uses do not go with it: all, unless it says otherwise."""
        return found


def read_volume(session: Session, pool: StoragePool, name: str) -> Volume | None:
    """Write down what a volume and its pool's sizes are now; None, and its row deleted, when it is not there."""
    seen_at = timezone.now()
    _read_sizes(session, pool, seen_at)
    info = volume_or_none(session, pool.name, name)
    if info is None:
        volume_gone(pool, name, seen_at=seen_at)
        return None
    return volume_observe(pool, info, seen_at=seen_at)


def _read_sizes(session: Session, pool: StoragePool, seen_at: dt.datetime) -> None:
    info = session.pool(pool.name)
    if info.uuid.lower() == pool.uuid:
        pool_observe(pool.hypervisor, info, seen_at=seen_at)


def look_afresh(ctx: Context, session: Session, pool: StoragePool) -> None:
    """What is in the pool now. What a hypervisor made there by itself (the overlay of a snapshot) is known only after a refresh.

    Without it, what such an overlay stands on would look as if nobody used it.
    """
    try:
        session.pool_refresh(pool.name)
    except (Unreachable, Timeout):
        raise
    except DriverError as error:
        ctx.log(f"The pool {pool.name} could not be refreshed: {error.detail}")
    seen_at = timezone.now()
    volumes_observe(pool, session.volumes(pool.name), seen_at=seen_at, complete=True)


@dataclass(frozen=True, slots=True)
class NewVolume:
    """A volume to be: its row will have this id, whoever sees the volume first."""

    pk: uuid.UUID
    name: str
    pool: StoragePool | None = None

    @property
    def ref(self) -> str:
        """`volume/<id>`."""
        return f"volume/{self.pk}"


class CreateVolumeParams(Params):
    """Where, and what as `drivers.types.VolumeSpec` has it."""

    pool: uuid.UUID
    name: str
    capacity_bytes: int
    format: str = "raw"
    allocation_bytes: int = 0
    backing: str = ""

    def spec(self) -> VolumeSpec:
        """As drivers take it."""
        return VolumeSpec(
            name=self.name,
            capacity_bytes=self.capacity_bytes,
            format=self.format,
            allocation_bytes=self.allocation_bytes,
            backing=self.backing,
        )


class CloneVolumeParams(CreateVolumeParams):
    """The same, with the name of the volume of the same pool that is copied."""

    source: str


P = TypeVar("P", bound=CreateVolumeParams)


class MakeVolume(Action[NewVolume, P]):
    """What making a volume shares, empty or as a copy."""

    verb = "volume.manage"
    feature: ClassVar[Feature] = Feature.STORAGE_POOLS
    long: ClassVar[bool] = False

    def load(self, target_id: uuid.UUID) -> NewVolume:
        """There is nothing to load yet."""
        return NewVolume(target_id, "")

    def slot(self, target: NewVolume) -> tuple[str, int]:
        """As for volumes that are there."""
        return slot_of(target.pool.hypervisor, long=self.long) if target.pool else ("", 0)

    def check(self, target: NewVolume, params: P, *, idle: bool) -> None:
        """Capability, reach, the pool's state, and that no volume there has this name."""
        del idle
        pool = target.pool or pool_of(params.pool)
        check_usable(pool, self.feature)
        twin = Volume.objects.filter(pool=pool.pk, name=params.name).first()
        if twin is not None:
            raise AlreadyExists(f"There is a volume {twin.name} in {pool.name} already.", id=str(twin.pk))

    def run(self, ctx: Context, target: NewVolume, params: P) -> dict[str, Any]:
        """Look, make, read back."""
        del target
        pool = pool_of(params.pool)
        with ctx.session(pool.hypervisor.endpoint()) as session:
            seen = volume_or_none(session, pool.name, params.name)
            if seen is not None and not ctx.done(BEGUN):
                raise AlreadyExists(f"There is a volume {params.name} in {pool.name} already.")
            if seen is not None and not self.whole(ctx, session, pool, params):
                seen = None
            if seen is None:
                ctx.checkpoint(BEGUN)
                self.make(session, pool, params)
            volume = read_volume(session, pool, params.name)
        if volume is None:
            raise NotFound(f"{params.name} was made in {pool.name}, and deleted by somebody else at once.")
        return {"volume": str(volume.pk)}

    def whole(self, ctx: Context, session: Session, pool: StoragePool, params: P) -> bool:
        """Whether what an attempt before this one left is all of it."""
        del ctx, session, pool, params
        return True

    def make(self, session: Session, pool: StoragePool, params: P) -> None:
        """The one call."""
        raise session.unsupported(self.feature)


@action
class CreateVolume(MakeVolume[CreateVolumeParams]):
    """Make an empty volume, or an overlay."""

    kind = "volume.create"
    title = "Make volume"
    params = CreateVolumeParams
    timeout_seconds = 1800.0

    def make(self, session: Session, pool: StoragePool, params: CreateVolumeParams) -> None:
        """Create."""
        session.volume_create(pool.name, params.spec())


@action
class CloneVolume(MakeVolume[CloneVolumeParams]):
    """Make a volume as a full copy of another. The host goes on copying when its caller dies, and nobody can tell how far it came."""

    kind = "volume.clone"
    title = "Clone volume"
    feature = Feature.STORAGE_CONTENT
    params = CloneVolumeParams
    timeout_seconds = 6 * 3600.0
    long = True

    def whole(self, ctx: Context, session: Session, pool: StoragePool, params: CloneVolumeParams) -> bool:
        """What is there may be half a copy: it is thrown away, once the host has let go of it, unless somebody uses it already."""
        row = Volume.objects.select_related("pool").filter(pool=pool.pk, name=params.name).first()
        if row is not None and uses.uses_of([row])[row.pk]:
            return True
        ctx.log("An earlier attempt was cut off: what it copied is thrown away.")
        while True:
            try:
                session.volume_delete(pool.name, params.name)
            except NotFound:
                return False
            except Busy:
                ctx.progress(None, "Waiting for the copy of the earlier attempt to end")
                if ctx.cancelled():
                    raise Cancelled("Cancelled while it waited for the copy of an earlier attempt to end.") from None
                time.sleep(BUSY_PAUSE_SECONDS)
            else:
                return False

    def make(self, session: Session, pool: StoragePool, params: CloneVolumeParams) -> None:
        """Copy."""
        session.volume_clone(pool.name, params.spec(), source=params.source)


class ResizeParams(Params):
    """How large it is to be."""

    capacity_bytes: int


@action
class ResizeVolume(VolumeAction):
    """Grow it. Not while a guest runs with it, nor under an overlay."""

    kind = "volume.resize"
    title = "Resize volume"
    params = ResizeParams
    timeout_seconds = 600.0

    def check(self, target: Volume, params: Params, *, idle: bool) -> None:
        """Besides: never smaller."""
        assert isinstance(params, ResizeParams)  # noqa: S101 - narrows the type; the registry pairs them
        super().check(target, params, idle=idle)
        check_growth(info_of(target), params.capacity_bytes)

    def in_the_way(self, found: list[uses.Use]) -> list[uses.Use]:
        """A guest that is off finds a larger disk at its next start; what stands on it, or is a template, does not."""
        return [use for use in found if use.running or use.type in ("volume", "template")]

    def run(self, ctx: Context, target: Volume, params: Params) -> dict[str, Any] | None:
        """One that is as large as wished is left alone."""
        assert isinstance(params, ResizeParams)  # noqa: S101 - narrows the type; the registry pairs them
        with ctx.session(target.pool.hypervisor.endpoint()) as session:
            if session.volume(target.pool.name, target.name).capacity_bytes != params.capacity_bytes:
                self.check_uses(target)
                session.volume_resize(target.pool.name, target.name, capacity_bytes=params.capacity_bytes)
            read_volume(session, target.pool, target.name)
        return None


@action
class WipeVolume(VolumeAction):
    """Overwrite it with zeros: what was in it is lost. Not while anybody uses it."""

    kind = "volume.wipe"
    title = "Wipe volume"
    timeout_seconds = 6 * 3600.0
    long = True

    def run(self, ctx: Context, target: Volume, params: Params) -> dict[str, Any] | None:
        """After an interruption it is wiped again: nothing is in it that could be lost."""
        del params
        with ctx.session(target.pool.hypervisor.endpoint()) as session:
            look_afresh(ctx, session, target.pool)
            self.check_uses(target)
            session.volume_wipe(target.pool.name, target.name)
            read_volume(session, target.pool, target.name)
        return None


@action
class DeleteVolume(VolumeAction):
    """Delete it for good. Not while anybody uses it."""

    kind = "volume.delete"
    title = "Delete volume"
    feature = Feature.STORAGE_POOLS
    timeout_seconds = 300.0

    def load(self, target_id: uuid.UUID) -> Volume:
        """One that went meanwhile, with its row, is a volume of no pool: an earlier attempt may have come so far."""
        try:
            return super().load(target_id)
        except Missing:
            return Volume(pk=target_id)

    def run(self, ctx: Context, target: Volume, params: Params) -> dict[str, Any] | None:
        """One that is gone is what was wished."""
        del params
        if target.pool_id is None:
            ctx.log("It is gone.")
            return None
        with ctx.session(target.pool.hypervisor.endpoint()) as session:
            look_afresh(ctx, session, target.pool)
            self.check_uses(target)
            try:
                session.volume_delete(target.pool.name, target.name)
            except NotFound:
                ctx.log("It was gone already.")
            if read_volume(session, target.pool, target.name) is not None:
                raise Busy(f"{target.name} is still there after it was deleted.")
        return None


def info_of(volume: Volume) -> VolumeInfo:
    """A row as the rules of `drivers.storage` take it. Needs `pool` selected."""
    return VolumeInfo(
        name=volume.name,
        pool=volume.pool.name,
        path=volume.path,
        kind=volume.kind,
        format=volume.format,
        capacity_bytes=volume.capacity_bytes,
        allocation_bytes=volume.allocation_bytes,
        backing=volume.backing,
        backing_format=volume.backing_format,
    )
