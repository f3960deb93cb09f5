"""Which guests use a volume (`storage.uses`), and which are on a network (`networks.guests`): by name or path, on the same host."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from django.db.models import Q

from networks.guests import Plug
from storage.models import Volume
from storage.uses import Use, by_host_and_path, is_in, key
from vms.choices import ACTIVE
from vms.models import VMDisk, VMNic

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Sequence

    from django.db.models import QuerySet

    from networks.models import Network, NetworkFilter
    from storage.models import StoragePool

_HOST = "vm__hypervisor__host"


class GuestDisks:
    """Disks of guests, whether they run or not."""

    def uses(self, volumes: Sequence[Volume]) -> Iterable[tuple[uuid.UUID, Use]]:
        """One query, through the hosts' guests."""
        paths = by_host_and_path(volumes)
        names: defaultdict[tuple[uuid.UUID, str, str], list[uuid.UUID]] = defaultdict(list)
        for volume in volumes:
            names[volume.pool.host_id, volume.pool.name, volume.name].append(volume.pk)
        by_path = Q(pool="", source__in={path for _, path in paths})
        by_name = Q(pool__in={pool for _, pool, _ in names}, source__in={name for *_, name in names})
        disks = _disks().filter(by_path | by_name, **{f"{_HOST}__in": {volume.pool.host_id for volume in volumes}})
        for vm, name, state, target, source, pool, host in disks.order_by("vm__name", "id").values_list(
            "vm", "vm__name", "vm__state", "target", "source", "pool", _HOST
        ):
            found = names[host, pool, source] if pool else paths[host, source]
            for pk in found:
                yield pk, Use(type="vm", id=str(vm), name=name, how=target, running=state in ACTIVE)

    def used(self) -> Q:
        """Some guest's disk."""
        by_path = _disks().filter(pool="").exclude(source="")
        by_name = _disks().exclude(pool="")
        return is_in(("pool__host", "path"), by_path.values_list(key(_HOST, "source"))) | is_in(
            ("pool__host", "pool__name", "name"), by_name.values_list(key(_HOST, "pool", "source"))
        )

    def running_in(self, pool: StoragePool) -> Iterable[Use]:
        """Guests that run with a disk in it."""
        within = Q(pool="", source__in=Volume.objects.filter(pool=pool.pk).values("path")) | Q(pool=pool.name)
        disks = _disks().filter(within, vm__state__in=ACTIVE, **{_HOST: pool.host_id})
        for vm, name, target in disks.order_by("vm__name", "id").values_list("vm", "vm__name", "target"):
            yield Use(type="vm", id=str(vm), name=name, how=target, running=True)


def _disks() -> QuerySet[VMDisk]:
    return VMDisk.objects.filter(vm__gone_at=None)


def plugs(networks: Sequence[Network]) -> Iterable[tuple[uuid.UUID, Plug]]:
    """Interfaces on each, by the network's name or by its bridge. One query."""
    at: defaultdict[tuple[uuid.UUID, str], list[uuid.UUID]] = defaultdict(list)
    for network in networks:
        for name in {network.name, network.bridge} - {""}:
            at[network.host_id, name].append(network.pk)
    nics = VMNic.objects.filter(
        vm__gone_at=None, vm__hypervisor__host__in={host for host, _ in at}, network__in={name for _, name in at}
    )
    for vm, name, state, mac, target, network_name, host in nics.order_by("vm__name", "id").values_list(
        "vm", "vm__name", "vm__state", "mac", "target", "network", _HOST
    ):
        for pk in at[host, network_name]:
            plug = Plug(vm=vm, name=name, state=state, mac=mac.lower(), target=target, running=state in ACTIVE)
            yield pk, plug


def named_filters(filters: Sequence[NetworkFilter]) -> Iterable[tuple[uuid.UUID, Plug]]:
    """Interfaces that name each. One query."""
    at = {(one.host_id, one.name): one.pk for one in filters}
    nics = VMNic.objects.filter(
        vm__gone_at=None, vm__hypervisor__host__in={host for host, _ in at}, filter__in={name for _, name in at}
    )
    for vm, name, state, mac, filter_name, host in nics.order_by("vm__name", "id").values_list(
        "vm", "vm__name", "vm__state", "mac", "filter", _HOST
    ):
        pk = at.get((host, filter_name))
        if pk is not None:
            yield pk, Plug(vm=vm, name=name, state=state, mac=mac.lower(), running=state in ACTIVE)
