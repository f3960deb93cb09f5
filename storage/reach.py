"""What every action on storage asks first: can its hypervisor do it, can it be reached, is the thing still there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from core.errors import Missing
from drivers.errors import NotFound, WrongState
from drivers.types import Feature
from hosts.wishes import check_able
from storage.choices import PoolState
from storage.models import StoragePool

if TYPE_CHECKING:
    import uuid

    from drivers.base import Session
    from drivers.types import PoolInfo, VolumeInfo
    from hosts.models import Hypervisor

COPIES: Final = 2
"""Copies and wipes at once on one hypervisor: they take long, and take no slot from guests that are to start."""
STATE_WORDS: Final[dict[str, str]] = {
    PoolState.RUNNING: "running",
    PoolState.INACTIVE: "stopped",
    PoolState.BUILDING: "being built",
    PoolState.DEGRADED: "degraded",
    PoolState.INACCESSIBLE: "out of reach",
}


def check_reach(hypervisor: Hypervisor, feature: Feature = Feature.STORAGE_POOLS) -> None:
    """Raises Unsupported with the hypervisor's reason, Unreachable while it is offline."""
    check_able(hypervisor, feature)


def check_usable(pool: StoragePool, feature: Feature = Feature.STORAGE_POOLS) -> None:
    """The same for a pool, and WrongState while what is in it cannot be reached."""
    check_reach(pool.hypervisor, feature)
    if not pool.running:
        raise WrongState(f"The pool {pool.name} is {STATE_WORDS[pool.state]}: start it first.", state=pool.state)


def slot_of(hypervisor: Hypervisor, *, long: bool = False) -> tuple[str, int]:
    """The slots that an operation takes one of: the hypervisor's, or those for what takes as long as its data is large."""
    return (f"{hypervisor.ref}/copies", COPIES) if long else (hypervisor.ref, hypervisor.slots)


def pool_of(pk: uuid.UUID, *, gone: bool = False) -> StoragePool:
    """With hypervisor and host, by one query. Raises Missing for a pool that is gone, unless `gone` ones are wanted too."""
    found = StoragePool.objects.select_related("hypervisor__host").filter(pk=pk).first()
    if found is None or (found.gone_at is not None and not gone):
        raise Missing("This pool is gone from its host.")
    return found


def pool_or_none(session: Session, name: str) -> PoolInfo | None:
    """A pool as it is now."""
    try:
        return session.pool(name)
    except NotFound:
        return None


def volume_or_none(session: Session, pool: str, name: str) -> VolumeInfo | None:
    """A volume as it is now."""
    try:
        return session.volume(pool, name)
    except NotFound:
        return None
