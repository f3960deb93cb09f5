"""Who uses a volume: the one place where it is known, though this room knows neither guests nor images.

Rooms above register what they know in their `AppConfig.ready`. Overlays are known here. Each of them costs one query for any page.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from django.db.models import F, Q, TextField, Value
from django.db.models.functions import Cast, Concat
from django.db.models.lookups import In

from core.errors import Conflict
from storage.models import Volume

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Sequence

    from storage.models import StoragePool

SHOWN_MAX: Final = 3
SHARED: Final = frozenset(
    {
        *("netfs", "gluster", "rbd", "iscsi", "iscsi-direct", "scsi", "mpath", "sheepdog", "vstorage"),
        *("vmfs", "nfs", "nfs41", "vsan", "vvol"),
    }
)
"""Types of pools whose contents other hosts may see as well: what is in two of them of one source is the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One user of a volume.

    Attributes:
        type: `vm`, `volume` (an overlay), `image` (its copy there).
        how: For people, in a word: the disk's target.
        running: A guest that runs with it just now.
    """

    type: str
    id: str
    name: str
    how: str = ""
    running: bool = False


class Knower(Protocol):
    """What one room knows of the uses of volumes."""

    def uses(self, volumes: Sequence[Volume]) -> Iterable[tuple[uuid.UUID, Use]]:
        """For each use of one of these: the volume's id, and the use. One query; `pool` is there on each."""

    def used(self) -> Q:
        """The condition of volumes that have a use. Runs no query."""

    def running_in(self, pool: StoragePool) -> Iterable[Use]:
        """What runs just now with something of this pool. One query."""


class InUse(Conflict):
    """Something uses it."""

    code = "in_use"


_knowers: list[Knower] = []


def register(knower: Knower) -> None:
    """From now on this one is asked too."""
    if not any(type(one) is type(knower) for one in _knowers):
        _knowers.append(knower)


def uses_of(volumes: Sequence[Volume]) -> dict[uuid.UUID, list[Use]]:
    """Every use of each of these, by id; an empty list where nobody knows one. One query for each knower and one, whatever the number.

    A use of the same thing under another row counts: of a pool that other hosts see, or of a second pool of the same files.
    """
    found: dict[uuid.UUID, dict[Use, None]] = {volume.pk: {} for volume in volumes}
    rows = {volume.pk: volume for volume in volumes}
    shown_as = {pk: [pk] for pk in rows}
    for twin, of in _twins(volumes):
        rows[twin.pk] = twin
        shown_as.setdefault(twin.pk, []).append(of)
    everyone = list(rows.values())
    for knower in _knowers if volumes else ():
        for pk, use in knower.uses(everyone):
            for volume in shown_as[pk]:
                found[volume][use] = None
    return {pk: list(uses) for pk, uses in found.items()}


def _twins(volumes: Sequence[Volume]) -> list[tuple[Volume, uuid.UUID]]:
    """Other rows of the same things, each with the id of the one of these that it is. One query."""
    at: defaultdict[tuple[Any, ...], list[uuid.UUID]] = defaultdict(list)
    for volume in volumes:
        for place in _places(volume):
            at[place].append(volume.pk)
    shared = [volume for volume in volumes if volume.pool.type in SHARED]
    same_file = Q(path__in={volume.path for volume in volumes}, pool__host__in={one.pool.host_id for one in volumes})
    same_source = Q(
        pool__type__in=SHARED,
        pool__source__in={volume.pool.source for volume in shared},
        name__in={volume.name for volume in shared},
    )
    rows = Volume.objects.select_related("pool").filter(same_file | same_source, pool__gone_at=None)
    others = rows.exclude(pk__in=[volume.pk for volume in volumes]) if volumes else ()
    return [(row, pk) for row in others for place in _places(row) for pk in at.get(place, ())]


def _places(volume: Volume) -> list[tuple[Any, ...]]:
    """What two rows of one thing have in common: the path on one host; the source and the name wherever that is seen."""
    pool = volume.pool
    found: list[tuple[Any, ...]] = [(pool.host_id, volume.path)] if volume.path else []
    return [*found, (pool.type, pool.source, volume.name)] if pool.type in SHARED and pool.source else found


def used() -> Q:
    """The condition of volumes that somebody uses, also from another host that sees the same."""
    condition = Q()
    for knower in _knowers:
        condition |= knower.used()
    place = ("pool__type", "pool__source", "name")
    shared = Volume.objects.filter(condition, pool__gone_at=None, pool__type__in=SHARED).exclude(pool__source="")
    return condition | (Q(pool__type__in=SHARED) & is_in(place, shared.values_list(key(*place))))


def running_in(pool: StoragePool) -> list[Use]:
    """Guests that run just now with something of this pool, each once."""
    return list({use.id: use for knower in _knowers for use in knower.running_in(pool)}.values())


def refuse(what: str, uses: Sequence[Use], *, then: str = "Take it away from there first.") -> None:
    """Raises InUse naming who, and what to do, where there is anybody."""
    if not uses:
        return
    named = list(dict.fromkeys(f"{use.name} ({use.how})" if use.how else use.name for use in uses))
    who = ", ".join(named[:SHOWN_MAX]) + (f" and {len(named) - SHOWN_MAX} more" if len(named) > SHOWN_MAX else "")
    raise InUse(
        f"{what} is used by {who}. {then}",
        used_by=[{"type": use.type, "id": use.id, "name": use.name} for use in uses[:100]],
    )


def key(*fields: str) -> Concat:
    """Several fields as one value that can be looked for in a subquery: hashed once, where a correlated one is run for each row."""
    parts: list[Any] = []
    for name in fields:
        parts += [Value("\n"), Cast(F(name), TextField())]
    return Concat(Value(""), *parts, output_field=TextField())


def is_in(fields: Sequence[str], rows: Any) -> Q:
    """Whether these fields together are in the `key` of a subquery's rows."""
    return Q(In(key(*fields), rows))


class Overlays:
    """Volumes that are overlays of others on the same host, in whatever pool."""

    def uses(self, volumes: Sequence[Volume]) -> Iterable[tuple[uuid.UUID, Use]]:
        """By the path that they name as their backing."""
        bases = by_host_and_path(volumes)
        rows = Volume.objects.filter(
            pool__gone_at=None,
            pool__host__in={host for host, _ in bases},
            backing__in={path for _, path in bases},
        )
        for pk, name, backing, host in rows.order_by("name").values_list("pk", "name", "backing", "pool__host"):
            for base in bases[host, backing]:
                yield base, Use(type="volume", id=str(pk), name=name, how="overlay")

    def used(self) -> Q:
        """Its path is somebody's backing."""
        rows = Volume.objects.filter(pool__gone_at=None).exclude(backing="")
        return is_in(("pool__host", "path"), rows.values_list(key("pool__host", "backing")))

    def running_in(self, pool: StoragePool) -> Iterable[Use]:
        """Volumes do not run."""
        del pool
        return ()


def by_host_and_path(volumes: Iterable[Volume]) -> defaultdict[tuple[uuid.UUID, str], list[uuid.UUID]]:
    """Host and path → volumes: two pools can show the same file."""
    found: defaultdict[tuple[uuid.UUID, str], list[uuid.UUID]] = defaultdict(list)
    for volume in volumes:
        if volume.path:
            found[volume.pool.host_id, volume.path].append(volume.pk)
    return found


register(Overlays())
