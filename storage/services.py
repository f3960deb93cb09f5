"""What callers may ask of storage: permission, validation, submit. REST, pages and rooms above come through here."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from accounts import policy
from core.errors import BadInput, Missing
from core.filters import uuid_of
from core.ids import uuid7
from drivers.errors import Unsupported
from drivers.storage import POOL_TYPES, check_backing, check_growth, check_pool, check_volume
from drivers.types import Feature, PoolSpec, VolumeSpec
from hosts.wishes import Allowed, answered, serving
from operations import actions, engine
from storage import uses
from storage.content import DownloadVolume, UploadContentParams, UploadVolume
from storage.models import StoragePool, Volume
from storage.pool_actions import AutostartParams, AutostartPool, CreatePool, CreatePoolParams, DeletePool, NewPool
from storage.reach import check_usable
from storage.selectors import count_volumes, look_for_uses, with_hypervisors, with_pools
from storage.volume_actions import (
    CloneVolume,
    CloneVolumeParams,
    CreateVolume,
    CreateVolumeParams,
    DeleteVolume,
    NewVolume,
    ResizeParams,
    ResizeVolume,
    WipeVolume,
    info_of,
)

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping

    from accounts.actor import Actor
    from hosts.models import Host
    from operations.actions import Action, Params
    from operations.models import Operation

OnConflict = Literal["wait", "fail"]
POOL_ACTIONS: Final = ("start", "stop", "refresh")
"""The actions of `POST /storage-pools/{id}/actions/ACTION`."""
VOLUME_ACTIONS: Final = ("wipe", "clone")


# -- one of them -------------------------------------------------------------------------------------------------------
def pool_get(pool_id: uuid.UUID, *, by: Actor) -> StoragePool:
    """One pool that the caller may see, with host, hypervisor, number of volumes and who runs with it. Raises Missing."""
    rows = policy.visible(by, StoragePool.objects.filter(gone_at=None, pk=pool_id))
    pool = with_hypervisors(rows).first()
    if pool is None:
        raise Missing("There is no such pool, or you may not see it.")
    count_volumes([pool])
    pool.users = uses.running_in(pool)
    return pool


def volume_get(volume_id: uuid.UUID, *, by: Actor) -> Volume:
    """One volume that the caller may see, with pool, host, hypervisor and uses. Raises Missing."""
    rows = policy.visible(by, Volume.objects.filter(pool__gone_at=None, pk=volume_id))
    volume = with_pools(rows).first()
    if volume is None:
        raise Missing("There is no such volume, or you may not see it.")
    look_for_uses([volume])
    return volume


def pool_find(text: str, *, by: Actor, host: str = "", pointer: str = "/pool") -> StoragePool:
    """A pool by its id (`storage-pool/<id>` too) or its name, on `host` (id or name) where that is given.

    Raises:
        BadInput: There is none, or several hosts have one of this name.
    """
    rows = with_hypervisors(policy.visible(by, StoragePool.objects.filter(gone_at=None)))
    known = uuid_of(text.removeprefix("storage-pool/"))
    rows = rows.filter(pk=known) if known else rows.filter(name=text)
    if host:
        place = uuid_of(host.removeprefix("host/"))
        rows = rows.filter(host=place) if place else rows.filter(host__name__iexact=host)
    found = list(rows.order_by("pk")[:2])
    if len(found) != 1:
        detail = (
            "there is no such pool" if not found else "several hosts have a pool of this name: give its id, or the host"
        )
        raise BadInput(f"pool: {detail}.", errors=[{"pointer": pointer, "detail": detail}])
    return found[0]


def volume_find(text: str, *, pool: StoragePool, pointer: str) -> Volume:
    """A volume of `pool` by its id (`volume/<id>` too) or its name. Raises BadInput."""
    known = uuid_of(text.removeprefix("volume/"))
    rows = Volume.objects.filter(pool=pool.pk)
    volume = (rows.filter(pk=known) if known else rows.filter(name=text)).first()
    if volume is None:
        detail = f"there is no such volume in {pool.name}"
        raise BadInput(f"{pointer.removeprefix('/')}: {detail}.", errors=[{"pointer": pointer, "detail": detail}])
    volume.pool = pool
    return volume


# -- pools -------------------------------------------------------------------------------------------------------------
def pool_create(*, host: Host, spec: PoolSpec, by: Actor) -> Operation:
    """Queue the making of a pool on a host, through the first of its hypervisors that can be reached; the result names its id.

    Raises:
        BadInput: A pointer for each wrong field. Unsupported: no hypervisor there has pools. AlreadyExists, Unreachable.
    """
    policy.require(by, "pool.manage")
    spec = check_pool(spec)
    hypervisor = serving(host, Feature.STORAGE_MANAGE, "storage pools")
    params = CreatePoolParams(
        hypervisor=hypervisor.pk, **{name: getattr(spec, name) for name in PoolSpec.__dataclass_fields__}
    )
    return engine.submit(CreatePool, target=NewPool(uuid7(), spec.name, hypervisor), by=by, params=params)


def pool_action(*, pool: StoragePool, name: str, by: Actor, on_conflict: OnConflict = "wait") -> Operation:
    """Queue start, stop or refresh. Raises Missing for another word; PermissionRefused, Unsupported, Unreachable, WrongState, InUse."""
    if name not in POOL_ACTIONS:
        raise Missing(f"There is no action {name[:50]!r}. Known: {', '.join(POOL_ACTIONS)}.")
    return engine.submit(type(actions.get(f"pool.{name}")), target=pool, by=by, on_conflict=on_conflict)


def pool_autostart(*, pool: StoragePool, enabled: bool, by: Actor) -> Operation:
    """Queue whether it starts with the host."""
    return engine.submit(AutostartPool, target=pool, by=by, params=AutostartParams(enabled=enabled))


def pool_delete(*, pool: StoragePool, by: Actor, on_conflict: OnConflict = "wait") -> Operation:
    """Queue the removal of its definition; volumes stay where they are. Raises InUse while guests run with them."""
    return engine.submit(DeletePool, target=pool, by=by, on_conflict=on_conflict)


# -- volumes -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class NewVolumeWish:
    """A volume to be made. `capacity_bytes` None: what its backing or its original has. `format` "": the pool's best, or theirs."""

    name: str
    capacity_bytes: int | None = None
    format: str = ""
    allocation_bytes: int = 0
    backing: str = ""
    clone_of: str = ""


def volume_create(*, pool: StoragePool, wish: NewVolumeWish, by: Actor) -> Operation:
    """Queue the making of a volume: empty, an overlay of `backing`, or a full copy of `clone_of` (ids or names in the same pool).

    Raises:
        BadInput: A pointer for each wrong field. AlreadyExists, Unsupported, Unreachable, WrongState.
    """
    policy.require(by, "volume.manage", pool)
    if wish.backing and wish.clone_of:
        detail = "either backing or clone_of"
        raise BadInput(f"{detail}.", errors=[{"pointer": "/clone_of", "detail": detail}])
    if wish.clone_of:
        return _clone(volume_find(wish.clone_of, pool=pool, pointer="/clone_of"), wish, by)
    base = volume_find(wish.backing, pool=pool, pointer="/backing") if wish.backing else None
    spec = _spec(pool, wish, base, format_="qcow2" if base else next(iter(pool.formats), "raw"))
    if base is not None:
        check_backing(spec, info_of(base))
    target = NewVolume(uuid7(), spec.name, pool)
    return engine.submit(CreateVolume, target=target, by=by, params=CreateVolumeParams(pool=pool.pk, **_values(spec)))


def volume_clone(*, volume: Volume, name: str, by: Actor, format_: str = "") -> Operation:
    """Queue a full copy beside it."""
    policy.require(by, "volume.manage", volume.pool)
    return _clone(volume, NewVolumeWish(name=name, format=format_), by)


def _clone(source: Volume, wish: NewVolumeWish, by: Actor) -> Operation:
    pool = source.pool
    spec = _spec(pool, wish, source, format_=source.format if source.format in pool.formats else "raw")
    check_growth(info_of(source), spec.capacity_bytes)
    target = NewVolume(uuid7(), spec.name, pool)
    params = CloneVolumeParams(pool=pool.pk, source=source.name, **_values(spec))
    return engine.submit(CloneVolume, target=target, by=by, params=params)


def _spec(pool: StoragePool, wish: NewVolumeWish, base: Volume | None, *, format_: str) -> VolumeSpec:
    """Checked, with what was left open. Raises BadInput."""
    capacity = wish.capacity_bytes
    if capacity is None:
        if base is None:
            raise BadInput("capacity_bytes: required.", errors=[{"pointer": "/capacity_bytes", "detail": "required"}])
        capacity = base.capacity_bytes
    spec = VolumeSpec(
        name=wish.name,
        capacity_bytes=capacity,
        format=wish.format or format_,
        allocation_bytes=wish.allocation_bytes,
        backing=base.name if base is not None and wish.backing else "",
    )
    return check_volume(spec, type_=pool.type, formats=tuple(pool.formats))


def _values(spec: VolumeSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in VolumeSpec.__dataclass_fields__}


def volume_resize(*, volume: Volume, capacity_bytes: int, by: Actor) -> Operation:
    """Queue its growth. Raises BadInput for less than it has, InUse while a guest runs with it or an overlay stands on it."""
    return engine.submit(ResizeVolume, target=volume, by=by, params=ResizeParams(capacity_bytes=capacity_bytes))


def volume_wipe(*, volume: Volume, by: Actor, on_conflict: OnConflict = "wait") -> Operation:
    """Queue its overwriting with zeros. Raises InUse."""
    return engine.submit(WipeVolume, target=volume, by=by, on_conflict=on_conflict)


def volume_delete(*, volume: Volume, by: Actor, on_conflict: OnConflict = "wait") -> Operation:
    """Queue its deletion, for good. Raises InUse naming who uses it."""
    return engine.submit(DeleteVolume, target=volume, by=by, on_conflict=on_conflict)


# -- what may be done --------------------------------------------------------------------------------------------------
def pool_actions(pool: StoragePool, *, by: Actor) -> Allowed:
    """`{"start": {"allowed": false, "reason": "…"}, …}` for this caller, now. No query where `users` is known."""
    found = {
        name: _asked(type(actions.get(f"pool.{name}")), pool, by) for name in (*POOL_ACTIONS, "autostart", "delete")
    }
    found["create-volume"] = answered(lambda: _may_create(pool, by))
    return found


def volume_actions(volume: Volume, *, by: Actor) -> Allowed:
    """The same for a volume. No query where `uses` is known."""
    found = {name: _asked(cls, volume, by) for name, cls in _VOLUME_ACTIONS.items()}
    found["clone"] = answered(lambda: _may_create(volume.pool, by, Feature.STORAGE_CONTENT))
    return found


_VOLUME_ACTIONS: Final[Mapping[str, type[Action[Any, Any]]]] = {
    "resize": ResizeVolume,
    "wipe": WipeVolume,
    "delete": DeleteVolume,
    "upload": UploadVolume,
    "download": DownloadVolume,
}


def _may_create(pool: StoragePool, by: Actor, feature: Feature = Feature.STORAGE_POOLS) -> None:
    policy.require(by, "volume.manage", pool)
    check_usable(pool, feature)
    if not pool.formats:
        raise Unsupported(
            f"No volumes are made in {pool.name}: they appear in a pool of the type {pool.type} by themselves."
        )


def _asked(cls: type[Action[Any, Any]], target: StoragePool | Volume, by: Actor) -> dict[str, Any]:
    action = actions.get(cls.kind)

    def ask() -> None:
        policy.require(by, action.verb, target)
        action.check(target, _least(cls, target), idle=True)

    return answered(ask)


def _least(cls: type[Action[Any, Any]], target: StoragePool | Volume) -> Params:
    """Parameters that say nothing special, for asking whether an action is possible at all."""
    if isinstance(target, StoragePool):
        return AutostartParams(enabled=True) if cls is AutostartPool else cls.params()
    if cls is UploadVolume:
        return UploadContentParams(upload=target.pk)
    return ResizeParams(capacity_bytes=target.capacity_bytes) if cls is ResizeVolume else cls.params()


@functools.cache
def pool_types() -> list[dict[str, Any]]:
    """What `GET /storage-pool-types` answers: the forms that pools are made with, the most usual type first."""
    return [
        {
            "name": one.name,
            "label": one.label,
            "hint": one.hint,
            "target": one.target,
            "formats": list(one.formats),
            "build": one.build,
            "fields": [
                {
                    "name": field.name,
                    "label": field.label,
                    "hint": field.hint,
                    "placeholder": field.placeholder,
                    "required": field.required,
                    "choices": list(field.choices),
                }
                for field in one.fields
            ],
        }
        for one in POOL_TYPES.values()
    ]
