"""Hosts with what is on them, and who is joined to what. A fixed number of queries, whatever the fleet's size.

All is within a host: guests run on its hypervisors, are on its networks, have their disks in its pools. Only storage that several
hosts see (`storage.uses.SHARED`) joins hosts. A host is *open* when its guests were read, else it has their number by state.

A guest's interface names a network, or a bridge that no network of the host explains: that is shown as well, as a `Place` without
a row. Likewise disks that are in no pool.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Count, Q
from django.db.models.functions import Lower

from accounts.policy import visible
from hosts.choices import VirtualizationTypeChoice
from hosts.models import Host, Hypervisor
from networks.models import Network
from storage.models import StoragePool, Volume
from storage.uses import SHARED
from vms.choices import ACTIVE, State
from vms.models import VM, VMDisk, VMNic
from vms.selectors import vm_list

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection, Iterable, Mapping

    from django.db.models import QuerySet

    from accounts.actor import Actor

HOSTS_MAX: Final = 500
_NO_DISK: Final = frozenset({"cdrom", "floppy"})


@dataclass(slots=True, kw_only=True)
class Place:
    """A network or a pool as a node: a row's, or only a name that guests use (`bridge`, `path`).

    Attributes:
        ref: `network/<id>`, `storage-pool/<id>`; `bridge/<host>/<name>` and `path/<host>` have no page.
        guests: Of those that were read.
    """

    ref: str
    type: str
    name: str
    row: Any = None
    guests: int = 0
    twins: list[StoragePool] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Fit for an attribute that lists several by blanks."""
        return self.ref.replace(" ", "_")


@dataclass(slots=True, kw_only=True)
class Join:
    """One line of the picture: where to, and by what (MAC addresses, targets of disks)."""

    place: Place
    labels: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Guest:
    """A guest, with what it is joined to by the place's reference."""

    pk: uuid.UUID
    name: str
    state: str
    version: int
    kind: str
    hypervisor: uuid.UUID
    networks: dict[str, Join] = field(default_factory=dict)
    pools: dict[str, Join] = field(default_factory=dict)

    @property
    def ref(self) -> str:
        """`vm/<id>`."""
        return f"vm/{self.pk}"

    @property
    def active(self) -> bool:
        """Whether it runs, in whatever way."""
        return self.state in ACTIVE


@dataclass(slots=True, kw_only=True)
class Box:
    """A hypervisor with its guests: how many there are by state, and those that were read."""

    hypervisor: Hypervisor
    counts: dict[str, int] = field(default_factory=dict)
    guests: list[Guest] = field(default_factory=list)

    @property
    def total(self) -> int:
        """All its guests."""
        return sum(self.counts.values())

    @property
    def shares_kernel(self) -> bool:
        """Whether they stand and fall with the host's kernel."""
        return self.hypervisor.virtualization_type == VirtualizationTypeChoice.OS_LEVEL


@dataclass(slots=True, kw_only=True)
class Lane:
    """A host with all that is on it."""

    host: Host
    boxes: list[Box] = field(default_factory=list)
    networks: list[Place] = field(default_factory=list)
    pools: list[Place] = field(default_factory=list)
    open: bool = False

    @property
    def total(self) -> int:
        """All its guests, of those that are asked for."""
        return sum(box.total for box in self.boxes)

    @property
    def running(self) -> int:
        """Those that run."""
        return sum(box.counts.get(State.RUNNING, 0) for box in self.boxes)

    @property
    def shown(self) -> int:
        """Those that were read."""
        return sum(len(box.guests) for box in self.boxes)

    @property
    def hidden(self) -> int:
        """Those that were not."""
        return self.total - self.shown

    @property
    def own(self) -> list[Box]:
        """Hypervisors whose guests have kernels of their own, or nobody knows yet."""
        return [box for box in self.boxes if not box.shares_kernel]

    @property
    def sharing(self) -> list[Box]:
        """Those whose guests share this host's kernel: one group, through whichever engines."""
        return [box for box in self.boxes if box.shares_kernel]

    @property
    def sharing_total(self) -> int:
        """Guests that share the kernel."""
        return sum(box.total for box in self.sharing)

    @property
    def bar(self) -> list[dict[str, str]]:
        """Shares by state, in percent with their offsets."""
        counts: Counter[str] = Counter()
        for box in self.boxes:
            counts.update(box.counts)
        return bar(counts)

    @property
    def fullest(self) -> StoragePool | None:
        """Of its pools."""
        known = [place.row for place in self.pools if place.row is not None and place.row.used_ratio is not None]
        return max(known, key=lambda pool: pool.used_ratio, default=None)


def bar(counts: Mapping[str, int]) -> list[dict[str, str]]:
    """Shares by state, in percent with their offsets: a bar that is right at first paint."""
    parts, at, total = [], 0.0, sum(counts.values())
    for state in State.values:
        share = 100 * counts.get(state, 0) / total if total else 0
        if share:
            parts.append({"state": state, "x": f"{at:.2f}%", "width": f"{share:.2f}%"})
            at += share
    return parts


def counts_of(by: Actor, *, guests: Q | None = None, q: str = "") -> dict[str, dict[str, int]]:
    """How many guests each host has by state, of those that count; hosts without any are left out. One query. Raises BadInput."""
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    wanted = vm_list(by, q=q).filter(guests or Q()).order_by()
    for host, state, number in wanted.values_list("hypervisor__host", "state").annotate(
        number=Count("pk", distinct=True)
    ):
        found[str(host)][state] = number
    return found


def read(
    by: Actor,
    *,
    hosts: Collection[uuid.UUID] | None = None,
    guests: Q | None = None,
    q: str = "",
    open_up_to: int,
    guests_max: int,
    found_only: bool = False,
) -> list[Lane]:
    """The lanes of these hosts, by name. Nine queries. Raises BadInput for a search that is none.

    Args:
        by: Who looks.
        hosts: Ids; None: all.
        guests: Which guests count.
        q: Likewise, in the language of the list of guests.
        open_up_to: Hosts are open when they have together no more guests than that; none is when there are more.
        guests_max: So many of them are read at most, by name; the others are counted.
        found_only: Leave hosts out that none of the guests is on.
    """
    rows = visible(by, Host.objects.all() if hosts is None else Host.objects.filter(pk__in=list(hosts)))
    lanes = {host.pk: Lane(host=host) for host in rows.order_by(Lower("name"), "pk")[:HOSTS_MAX]}
    boxes = {}
    for row in (
        visible(by, Hypervisor.objects.defer("credentials", "capabilities"))
        .filter(host__in=list(lanes))
        .order_by("driver", "uri")
    ):
        row.host = lanes[row.host_id].host
        boxes[row.pk] = Box(hypervisor=row)
        lanes[row.host_id].boxes.append(boxes[row.pk])
    wanted = vm_list(by, q=q)
    if guests is not None:
        wanted = wanted.filter(guests)
    if hosts is not None:
        wanted = wanted.filter(hypervisor__in=list(boxes))
    for pk, state, number in (
        wanted.order_by().values_list("hypervisor", "state").annotate(number=Count("pk", distinct=True))
    ):
        if pk in boxes:
            boxes[pk].counts[state] = number
    found = [lane for lane in lanes.values() if lane.total or not found_only]
    total = sum(lane.total for lane in found)
    _places(by, {lane.host.pk: lane for lane in found}, {pk: box.hypervisor for pk, box in boxes.items()})
    if total <= open_up_to:
        for lane in found:
            lane.open = True
        _guests(wanted, {lane.host.pk: lane for lane in found}, boxes, guests_max)
    return found


def _places(by: Actor, lanes: dict[uuid.UUID, Lane], hypervisors: dict[uuid.UUID, Hypervisor]) -> None:
    """Networks and pools of each. Two queries."""
    networks = visible(by, Network.objects.filter(gone_at=None, host__in=list(lanes)).defer("leases"))
    for row in networks.order_by(Lower("name"), "pk"):
        row.hypervisor = hypervisors.get(row.hypervisor_id) or row.hypervisor
        lanes[row.host_id].networks.append(Place(ref=row.ref, type="network", name=row.name, row=row))
    pools = visible(by, StoragePool.objects.filter(gone_at=None, host__in=list(lanes)).defer("formats"))
    by_source: defaultdict[tuple[str, str], list[StoragePool]] = defaultdict(list)
    for pool in pools.order_by(Lower("name"), "pk"):
        pool.hypervisor = hypervisors.get(pool.hypervisor_id) or pool.hypervisor
        place = Place(ref=pool.ref, type="storage-pool", name=pool.name, row=pool)
        lanes[pool.host_id].pools.append(place)
        if pool.type in SHARED and pool.source:
            by_source[pool.type, pool.source].append(pool)
            place.twins = by_source[pool.type, pool.source]


def _guests(wanted: QuerySet[VM], lanes: dict[uuid.UUID, Lane], boxes: dict[uuid.UUID, Box], most: int) -> None:
    """The guests, and what each is joined to. Four queries."""
    read: dict[uuid.UUID, Guest] = {}
    columns = ("pk", "name", "state", "version", "kind", "hypervisor")
    rows = wanted.filter(hypervisor__in=list(boxes)).order_by(Lower("name"), "pk").distinct()
    for row in rows.annotate(by_name=Lower("name")).values(*columns)[:most]:
        guest = Guest(**row)
        read[guest.pk] = guest
        boxes[guest.hypervisor].guests.append(guest)
    if not read:
        return
    host_of = {guest.pk: boxes[guest.hypervisor].hypervisor.host_id for guest in read.values()}
    _plug(read, host_of, lanes)
    _store(read, host_of, lanes)


def _plug(read: dict[uuid.UUID, Guest], host_of: dict[uuid.UUID, uuid.UUID], lanes: dict[uuid.UUID, Lane]) -> None:
    """Interfaces to networks: by the network's name, or its bridge's."""
    at: dict[tuple[uuid.UUID, str], Place] = {}
    for host, lane in lanes.items():
        for place in reversed(lane.networks):
            at |= {(host, name): place for name in (place.row.bridge, place.name) if name}
    for vm, mac, name in VMNic.objects.filter(vm__in=list(read)).order_by("id").values_list("vm", "mac", "network"):
        host = host_of[vm]
        if not name:
            continue
        place = at.get((host, name)) or _named(at, lanes[host].networks, host, name, "bridge")
        _join(read[vm].networks, place, mac.lower())


def _store(read: dict[uuid.UUID, Guest], host_of: dict[uuid.UUID, uuid.UUID], lanes: dict[uuid.UUID, Lane]) -> None:
    """Disks to pools: by the pool's name, else by the directory that its volumes are in, else by a volume's path."""
    named = {(host, place.name): place for host, lane in lanes.items() for place in lane.pools}
    by_ref = {place.ref: place for lane in lanes.values() for place in lane.pools}
    roots = {
        host: sorted(
            ((place.row.target.rstrip("/") + "/", place) for place in lane.pools if place.row.target),
            key=lambda one: -len(one[0]),
        )
        for host, lane in lanes.items()
    }
    left: list[tuple[uuid.UUID, str, str]] = []
    disks = VMDisk.objects.filter(vm__in=list(read)).exclude(source="", pool="").order_by("id")
    for vm, target, source, pool, device in disks.values_list("vm", "target", "source", "pool", "device"):
        host = host_of[vm]
        place = named.get((host, pool)) if pool else None
        place = place or next((one for root, one in roots[host] if source.startswith(root)), None)
        if place is not None:
            _join(read[vm].pools, place, target)
        elif source and device not in _NO_DISK:
            left.append((vm, target, source))
    paths = Volume.objects.filter(
        pool__gone_at=None, pool__host__in=list(lanes), path__in={source for *_, source in left}
    )
    at = {(host, path): f"storage-pool/{pool}" for host, path, pool in paths.values_list("pool__host", "path", "pool")}
    outside: dict[tuple[uuid.UUID, str], Place] = {}
    for vm, target, source in left:
        host = host_of[vm]
        place = by_ref.get(at.get((host, source), ""))
        _join(read[vm].pools, place or _named(outside, lanes[host].pools, host, "", "path"), target)


def _named(
    at: dict[tuple[uuid.UUID, str], Place], places: list[Place], host: uuid.UUID, name: str, type_: str
) -> Place:
    """A place that no row explains."""
    place = at[host, name] = at.get((host, name)) or Place(
        ref=f"{type_}/{host}/{name}" if name else f"{type_}/{host}", type=type_, name=name
    )
    if place not in places:
        places.append(place)
    return place


def _join(joined: dict[str, Join], place: Place, label: str) -> None:
    if place.ref not in joined:
        joined[place.ref] = Join(place=place)
        place.guests += 1
    joined[place.ref].labels.append(label)


def only_joined(lane: Lane, keep: Iterable[str] = ()) -> None:
    """Leave networks and pools out that none of the guests that were read is joined to, and are not among `keep`."""
    stay = {*keep, *(ref for box in lane.boxes for guest in box.guests for ref in (*guest.networks, *guest.pools))}
    lane.networks = [place for place in lane.networks if place.ref in stay]
    lane.pools = [place for place in lane.pools if place.ref in stay]
    lane.boxes = [box for box in lane.boxes if box.total]
