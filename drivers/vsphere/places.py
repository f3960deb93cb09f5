"""Where a guest can be made: the machines of a session's part of the inventory, with the datastores and networks that each reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyVmomi import vim

from drivers.types import NetworkInfo, PoolInfo, StorageState
from drivers.vsphere.values import flag, items, number, text
from drivers.vsphere.wire import moid

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from drivers.vsphere.collector import Found

HOST_PATHS = (
    "datastore",
    "name",
    "network",
    "parent",
    "runtime.connectionState",
    "runtime.inMaintenanceMode",
    "summary.hardware.memorySize",
    "summary.quickStats.overallMemoryUsage",
)
STORE_PATHS = (
    "browser",
    "name",
    "summary.accessible",
    "summary.capacity",
    "summary.freeSpace",
    "summary.type",
    "summary.url",
)
NETWORK_PATHS = ("name", "summary.accessible", "tag")
PORT_GROUP_PATHS = (*NETWORK_PATHS, "key", "config.distributedVirtualSwitch")
_UPLINKS = "SYSTEM/DVS.UPLINKPG"
"""vCenter's own mark of port groups that are a distributed switch's way out: no guest can be on them."""
_NO_PLAIN_FILES = ("vsan", "vvol")
"""Kinds of datastores on which a disk lies in a namespace of its guest, and not by itself."""
FORMAT = "vmdk"


@dataclass(frozen=True, slots=True)
class Home:
    """A machine that guests can be made on."""

    object: Any
    parent: Any
    name: str
    free_bytes: int
    datastores: tuple[Any, ...]
    networks: tuple[Any, ...]
    ready: bool


def home(found: Found) -> Home:
    """What was read of a machine."""
    used = (number(found.get("summary.quickStats.overallMemoryUsage")) or 0) * 2**20
    return Home(
        object=found.object,
        parent=found.get("parent"),
        name=text(found.get("name")),
        free_bytes=(number(found.get("summary.hardware.memorySize")) or 0) - used,
        datastores=tuple(one for one in items(found.get("datastore")) if isinstance(one, vim.Datastore)),
        networks=tuple(one for one in items(found.get("network")) if isinstance(one, vim.Network)),
        ready=text(found.get("runtime.connectionState")) in ("", "connected")
        and flag(found.get("runtime.inMaintenanceMode")) is not True,
    )


def best(homes: Iterable[Home], datastores: Collection[str], networks: Collection[str]) -> Home | None:
    """The ready one with most free memory of those that reach all of these, by managed object ids."""
    able = [
        one
        for one in homes
        if one.ready
        and set(datastores) <= {moid(each) for each in one.datastores}
        and set(networks) <= {moid(each) for each in one.networks}
    ]
    return max(able, key=lambda one: one.free_bytes, default=None)


def once(objects: Iterable[Any]) -> list[Any]:
    """Each managed object once."""
    return list({moid(one): one for one in objects}.values())


def pool_info(found: Found) -> PoolInfo:
    """A datastore as a pool. It starts with its machines, and is never stopped from here."""
    kind = text(found.get("summary.type")).lower()
    accessible = flag(found.get("summary.accessible")) is not False
    capacity, free = number(found.get("summary.capacity")), number(found.get("summary.freeSpace"))
    if not accessible or capacity is None or free is None:
        capacity = free = None
    free = None if capacity is None or free is None else min(free, capacity)
    return PoolInfo(
        uuid=found.moid.lower(),
        name=text(found.get("name")),
        type=kind or "datastore",
        state=StorageState.RUNNING if accessible else StorageState.INACCESSIBLE,
        capacity_bytes=capacity,
        allocation_bytes=None if capacity is None or free is None else capacity - free,
        available_bytes=free,
        source=text(found.get("summary.url")).removeprefix("ds://").rstrip("/"),
        autostart=True,
        formats=() if kind in _NO_PLAIN_FILES else (FORMAT,),
    )


def is_uplink(found: Found) -> bool:
    """Whether no guest can be on it."""
    return any(text(getattr(tag, "key", None)) == _UPLINKS for tag in items(found.get("tag")))


def network_info(found: Found) -> NetworkInfo:
    """A port group as a network: guests on it are machines of whatever network its switch leads to."""
    return NetworkInfo(
        uuid=found.moid.lower(),
        name=text(found.get("name")),
        active=flag(found.get("summary.accessible")) is not False,
        mode="bridge",
        autostart=True,
    )


def backing(found: Found, switches: Sequence[Found]) -> Any:
    """How a card is plugged into this network; None where there is no way that we know."""
    card = vim.vm.device.VirtualEthernetCard
    if isinstance(found.object, vim.dvs.DistributedVirtualPortgroup):
        switch = found.get("config.distributedVirtualSwitch")
        uuid = next((text(each.get("uuid")) for each in switches if switch and each.moid == moid(switch)), "")
        if not uuid:
            return None
        port = vim.dvs.PortConnection(portgroupKey=text(found.get("key")), switchUuid=uuid)
        return card.DistributedVirtualPortBackingInfo(port=port)
    if isinstance(found.object, vim.OpaqueNetwork):
        return None
    return card.NetworkBackingInfo(deviceName=text(found.get("name")), network=found.object)
