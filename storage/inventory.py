"""Facts in: the only writer of pools and volumes, whoever saw them (sweep, or an action reading back its work).

When an observation counts, and through whom a pool goes, stands in `hosts.resources`. A volume is compared by itself: its row has the
time of the reading that changed it, and `LostVolume` remembers for a while which were there. So a reading that comes late brings none
back that was deleted meanwhile and deletes none that was made, and what it says of others counts.

How full things are moves all the time: that is written and sent as a sample to pages that look, and never told as an event.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.utils import timezone

from core.errors import Missing
from core.rest import moment
from events import bell
from hosts.resources import Book, News, Observed, announce, bury, newer, number, observe, promised_ids, text
from operations.models import Operation
from storage import history
from storage.choices import PoolState
from storage.models import LostVolume, StoragePool, Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from drivers.types import PoolInfo, VolumeInfo
    from hosts.models import Hypervisor

BATCH: Final = 250
"""Volumes in one transaction, as guests in `vms.inventory`."""
REMEMBERED: Final = dt.timedelta(minutes=15)
"""Longer than any reading takes."""
BREATH_SECONDS: Final = 0.005
POOLS: Final = Book(
    model=StoragePool,
    word="storage_pool",
    quiet=frozenset({"allocation_bytes", "available_bytes"}),
    create="pool.create",
)
QUIET: Final = frozenset({"allocation_bytes"})
MAKING: Final = ("volume.create", "volume.clone")
_FACTS: Final = ("path", "kind", "format", "capacity_bytes", "allocation_bytes", "backing", "backing_format")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What an observation of volumes found."""

    seen: int = 0
    created: int = 0
    changed: int = 0
    deleted: int = 0


# -- pools -------------------------------------------------------------------------------------------------------------
def pools_observe(
    hypervisor: Hypervisor,
    pools: Sequence[PoolInfo],
    volumes_by_pool: Mapping[str, Sequence[VolumeInfo]] | None = None,
    *,
    seen_at: dt.datetime | None = None,
    complete: bool = False,
) -> Observed[StoragePool]:
    """Write down a listing of pools, and whole listings of the volumes of some of them.

    Args:
        hypervisor: Where it was read.
        pools: What was listed; of two with one identifier the last counts.
        volumes_by_pool: Name of a pool → all its volumes. Pools that are not in it keep theirs.
        seen_at: A time before the reading began; now when left out.
        complete: These are all its pools: what goes through this hypervisor and is not among them is gone.

    Raises:
        Missing: The hypervisor was removed meanwhile.
    """
    at = seen_at or timezone.now()
    found = observe(POOLS, hypervisor, [_pool_facts(info) for info in pools], seen_at=at, complete=complete)
    _settle(found)
    for row in found.rows.values():
        if volumes_by_pool is not None and row.name in volumes_by_pool:
            volumes_observe(row, volumes_by_pool[row.name], seen_at=at, complete=True)
    return found


def pool_observe(hypervisor: Hypervisor, info: PoolInfo, *, seen_at: dt.datetime | None = None) -> StoragePool:
    """Write down what was seen of one pool, unless something newer is known; the row as it now is. Raises Missing."""
    facts = _pool_facts(info)
    _settle(observe(POOLS, hypervisor, [facts], seen_at=seen_at, bulk=False))
    rows = StoragePool.objects.select_related("hypervisor", "host").defer("hypervisor__credentials")
    return rows.get(host=hypervisor.host_id, uuid=facts["uuid"])


def pool_gone(pool: StoragePool, *, seen_at: dt.datetime | None = None) -> bool:
    """The hypervisor does not know this pool (any more): a tombstone, and its volumes are forgotten. False when it was one."""
    with transaction.atomic():
        gone = bury(POOLS, pool, seen_at=seen_at)
        if gone:
            _forget_volumes([pool])
    return gone


def _settle(found: Observed[StoragePool]) -> None:
    """What follows of an observation: volumes of pools that are gone are forgotten, sizes are kept, and go to who looks."""
    if found.gone:
        _forget_volumes(found.gone)
    history.note(found.rows.values())
    _tell_sizes(found.quiet)


def _forget_volumes(pools: Iterable[StoragePool]) -> None:
    """They are where they were, and nobody can tell how: nothing is said of them."""
    ids = [pool.pk for pool in pools]
    Volume.objects.filter(pool__in=ids).delete()
    LostVolume.objects.filter(pool__in=ids).delete()
    StoragePool.objects.filter(pk__in=ids).update(volumes_observed_at=None)


def _tell_sizes(pools: Sequence[StoragePool]) -> None:
    if not pools:
        return
    at = moment(timezone.now())
    bell.broadcast_samples(
        [
            {
                "type": "metrics.sample",
                "object": pool.ref,
                "object_name": pool.name,
                "at": at,
                "data": {
                    "capacity_bytes": pool.capacity_bytes,
                    "allocation_bytes": pool.allocation_bytes,
                    "available_bytes": pool.available_bytes,
                },
            }
            for pool in pools
        ]
    )


def _pool_facts(info: PoolInfo) -> dict[str, Any]:
    """Clamp what a hypervisor may say to what a column takes. Raises ValueError and the like for what is no pool."""
    uuid, name, state = text(info.uuid, 64).lower(), text(info.name, 255), str(info.state)
    if not uuid or not name:
        raise ValueError("A pool without an identifier or a name.")
    return {
        "uuid": uuid,
        "name": name,
        "type": text(info.type, 30),
        "state": state if state in PoolState.values else PoolState.INACCESSIBLE.value,
        "capacity_bytes": number(info.capacity_bytes),
        "allocation_bytes": number(info.allocation_bytes),
        "available_bytes": number(info.available_bytes),
        "target": text(info.target, 4096),
        "source": text(info.source, 4096),
        "formats": [text(one, 30) for one in info.formats],
        "autostart": bool(info.autostart),
        "persistent": bool(info.persistent),
    }


# -- volumes -----------------------------------------------------------------------------------------------------------
def volumes_observe(
    pool: StoragePool, infos: Iterable[VolumeInfo], *, seen_at: dt.datetime | None = None, complete: bool = False
) -> Tally:
    """Write down volumes of a pool, in short transactions; one reading where nothing differs.

    The volumes of the first complete listing are there, not made: they are not told one by one.

    Args:
        pool: Whose.
        infos: What was read; of two with one name the last counts.
        seen_at: A time before the reading began; now when left out.
        complete: They are all there are: what is not among them was deleted.

    Raises:
        Missing: The pool is gone.
    """
    at = seen_at or timezone.now()
    seen = {facts["name"]: facts for facts in map(_volume_facts, infos)}
    known = _known(pool, None if complete else seen)
    differing = {name for name, facts in seen.items() if known.get(name) != _values(facts)}
    if complete:
        differing |= known.keys() - seen.keys()
    quiet = complete and _first_listing(pool)
    order = sorted(differing)
    created = changed = deleted = 0
    for start in range(0, len(order), BATCH):
        batch = {name: seen.get(name) for name in order[start : start + BATCH]}
        work = _write(pool, batch, at, quiet=quiet)
        created, changed, deleted = created + work.created, changed + work.changed, deleted + work.deleted
        if start + BATCH < len(order):
            time.sleep(BREATH_SECONDS)
    if quiet and not order:
        _write(pool, {}, at, quiet=True)
    return Tally(seen=len(seen), created=created, changed=changed, deleted=deleted)


def volume_observe(pool: StoragePool, info: VolumeInfo, *, seen_at: dt.datetime | None = None) -> Volume:
    """Write down what was seen of one volume, unless something newer is known; the row as it now is. Raises Missing."""
    facts = _volume_facts(info)
    _write(pool, {facts["name"]: facts}, seen_at or timezone.now(), quiet=False)
    found = Volume.objects.filter(pool=pool.pk, name=facts["name"]).first()
    if found is None:
        raise Missing("This volume was deleted meanwhile.")
    return found


def volume_gone(pool: StoragePool, name: str, *, seen_at: dt.datetime | None = None) -> bool:
    """The pool has no such volume (any more). False when there was no row of it."""
    return _write(pool, {text(name, 255): None}, seen_at or timezone.now(), quiet=False).deleted == 1


def _volume_facts(info: VolumeInfo) -> dict[str, Any]:
    name = text(info.name, 255)
    if not name:
        raise ValueError("A volume without a name.")
    return {
        "name": name,
        "path": text(info.path, 4096),
        "kind": text(info.kind, 20),
        "format": text(info.format, 30),
        "capacity_bytes": number(info.capacity_bytes) or 0,
        "allocation_bytes": number(info.allocation_bytes) or 0,
        "backing": text(info.backing, 4096),
        "backing_format": text(info.backing_format, 30),
    }


def _values(facts: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(facts[name] for name in _FACTS)


def _known(pool: StoragePool, names: Iterable[str] | None) -> dict[str, tuple[Any, ...]]:
    """Name → facts of what is written: plain values, since a pool may have thousands."""
    rows = Volume.objects.filter(pool=pool.pk)
    wanted = list(names) if names is not None else None
    if wanted is None:
        return {name: tuple(rest) for name, *rest in rows.values_list("name", *_FACTS)}
    found: dict[str, tuple[Any, ...]] = {}
    for start in range(0, len(wanted), BATCH):
        part = rows.filter(name__in=wanted[start : start + BATCH])
        found |= {name: tuple(rest) for name, *rest in part.values_list("name", *_FACTS)}
    return found


def _first_listing(pool: StoragePool) -> bool:
    return StoragePool.objects.filter(pk=pool.pk, volumes_observed_at=None).exists()


def _write(pool: StoragePool, batch: Mapping[str, Mapping[str, Any] | None], at: dt.datetime, *, quiet: bool) -> Tally:
    """One transaction under the pool's lock: what is None is gone, the rest is as it says. `quiet`: nothing is told."""
    news: list[News] = []
    fresh: list[Volume] = []
    lost: list[str] = []
    changed = 0
    with transaction.atomic():
        # Whoever writes volumes of this pool holds its row: what is compared here is what is written.
        owner = StoragePool.objects.select_for_update().filter(pk=pool.pk, gone_at=None).first()
        if owner is None:
            raise Missing(f"The pool {pool.name} is gone.")
        rows = {row.name: row for row in Volume.objects.filter(pool=pool.pk, name__in=list(batch))}
        gone = _lost(owner, batch.keys() - rows.keys())
        for name, facts in batch.items():
            row = rows.get(name)
            if row is None:
                if facts is not None and newer(gone.get(name), at):
                    fresh.append(Volume(pool_id=pool.pk, observed_at=at, **facts))
            elif not newer(row.observed_at, at):
                continue
            elif facts is None:
                row.version += 1
                news.append((row, "volume.deleted", _said(owner, row)))
                lost.append(name)
            elif changes := {key: value for key, value in facts.items() if getattr(row, key) != value}:
                changed += 1
                news += _update(owner, row, changes, at)
        news += _make(owner, fresh)
        _lose(owner, lost, at)
        if fresh or changed or lost or quiet:
            StoragePool.objects.filter(pk=pool.pk).update(volumes_observed_at=at)
        announce([] if quiet else news)
    return Tally(created=len(fresh), changed=changed, deleted=len(lost))


def _lost(owner: StoragePool, names: Iterable[str]) -> dict[str, dt.datetime]:
    """When those of these names that were there lately were missed."""
    return dict(LostVolume.objects.filter(pool=owner.pk, name__in=list(names)).values_list("name", "lost_at"))


def _lose(owner: StoragePool, names: Sequence[str], at: dt.datetime) -> None:
    """Delete their rows, and remember that for a while."""
    if not names:
        return
    Volume.objects.filter(pool=owner.pk, name__in=names).delete()
    LostVolume.objects.filter(pool=owner.pk, lost_at__lt=timezone.now() - REMEMBERED).delete()
    LostVolume.objects.bulk_create(
        [LostVolume(pool_id=owner.pk, name=name, lost_at=at) for name in names],
        update_conflicts=True,
        unique_fields=["pool", "name"],
        update_fields=["lost_at"],
    )


def _update(owner: StoragePool, row: Volume, changes: dict[str, Any], at: dt.datetime) -> list[News]:
    told = {name: value for name, value in changes.items() if name not in QUIET}
    if told:
        row.version += 1
    Volume.objects.filter(pk=row.pk).update(**changes, version=row.version, observed_at=at, updated_at=timezone.now())
    return [(row, "volume.changed", {**_said(owner, row), "changed": told})] if told else []


def _make(owner: StoragePool, fresh: Sequence[Volume]) -> list[News]:
    """Rows of new volumes, each with the id that an operation under way has promised for it."""
    if not fresh:
        return []
    names = [row.name for row in fresh]
    making = Operation.objects.filter(
        kind__in=MAKING, holds_lock=True, target_name__in=names, params__pool=str(owner.pk)
    )
    promised = promised_ids(Volume, making)
    for row in fresh:
        row.pk = promised.get(row.name, row.pk)
    Volume.objects.bulk_create(fresh)
    return [(row, "volume.created", _said(owner, row)) for row in fresh]


def _said(owner: StoragePool, row: Volume) -> dict[str, Any]:
    return {"version": row.version, "pool": str(owner.pk), "pool_name": owner.name}
