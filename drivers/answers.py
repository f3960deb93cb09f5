"""What a session answers, looked at before anybody believes it: a driver may be broken, and a hypervisor may lie.

`Checked` stands where sessions are handed out for actions (`operations.context`), so that nonsense ends an action as the
hypervisor's fault and not as ours. The watcher looks at whole listings of guests itself (`watcher.sweep.check_infos`); of storage and
networks it asks `makes_sense`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from drivers.base import Session
from drivers.errors import DriverError
from drivers.types import (
    AddressInfo,
    DhcpHost,
    DiskInfo,
    FilterInfo,
    Finding,
    GraphicsInfo,
    GuestInfo,
    GuestKind,
    GuestState,
    HostInterface,
    LeaseInfo,
    NetworkInfo,
    NicInfo,
    PoolInfo,
    PortGroup,
    SnapshotInfo,
    StorageState,
    VolumeInfo,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_TEXTS: Final = ("uuid", "name", "state_reason", "domain_type", "title", "description", "os", "xml_digest")
_SNAPSHOT_TEXTS: Final = ("name", "description", "parent", "kind", "no_revert", "no_delete")
_NUMBERS: Final = ("vcpus", "memory_bytes", "max_memory_bytes")
_PARTS: Final = {"disks": DiskInfo, "interfaces": NicInfo, "graphics": GraphicsInfo, "consoles": str}
_BYTES_MAX: Final = (1 << 63) - 1
"""What a database can count."""
_POOL_TEXTS: Final = ("uuid", "name", "type", "target", "source")
_POOL_SIZES: Final = ("capacity_bytes", "allocation_bytes", "available_bytes")
_VOLUME_TEXTS: Final = ("name", "pool", "path", "kind", "format", "backing", "backing_format")
_VOLUME_SIZES: Final = ("capacity_bytes", "allocation_bytes", "physical_bytes")
_NETWORK_TEXTS: Final = ("uuid", "name", "mode", "bridge", "domain", "macvtap")
_LEASE_TEXTS: Final = ("mac", "address", "hostname")


class Nonsense(DriverError):
    """The hypervisor's answer makes no sense."""


def _is_guest(answer: object) -> bool:
    return (
        isinstance(answer, GuestInfo)
        and bool(answer.uuid)
        and isinstance(answer.state, GuestState)
        and isinstance(answer.kind, GuestKind)
        and all(isinstance(getattr(answer, name), str) for name in _TEXTS)
        and all(isinstance(getattr(answer, name), int) for name in _NUMBERS)
        and all(
            isinstance(getattr(answer, name), tuple | list)
            and all(isinstance(one, kind) for one in getattr(answer, name))
            for name, kind in _PARTS.items()
        )
    )


def _is_state(answer: object) -> bool:
    match answer:
        case (GuestState(), str()):
            return True
    return False


def _texts(answer: object, names: tuple[str, ...]) -> bool:
    return all(isinstance(getattr(answer, name), str) for name in names)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= _BYTES_MAX


def _several(kind: Callable[[object], bool], answer: object) -> bool:
    return isinstance(answer, tuple | list) and all(kind(one) for one in answer)


def _is_pool(answer: object) -> bool:
    return (
        isinstance(answer, PoolInfo)
        and bool(answer.uuid and answer.name)
        and isinstance(answer.state, StorageState)
        and _texts(answer, _POOL_TEXTS)
        and all(getattr(answer, name) is None or _is_size(getattr(answer, name)) for name in _POOL_SIZES)
        and _several(lambda one: isinstance(one, str), answer.formats)
    )


def _is_volume(answer: object) -> bool:
    return (
        isinstance(answer, VolumeInfo)
        and bool(answer.name)
        and _texts(answer, _VOLUME_TEXTS)
        and all(_is_size(getattr(answer, name)) for name in _VOLUME_SIZES)
    )


def _is_network(answer: object) -> bool:
    return (
        isinstance(answer, NetworkInfo)
        and bool(answer.uuid and answer.name)
        and _texts(answer, _NETWORK_TEXTS)
        and _several(lambda one: isinstance(one, str), answer.addresses)
        and _several(lambda one: isinstance(one, str), answer.devices)
        and _several(lambda one: isinstance(one, int), answer.vlans)
        and isinstance(answer.mtu, int | None)
        and _several(
            lambda one: isinstance(one, DhcpHost) and _texts(one, ("mac", "address", "name")), answer.dhcp_hosts
        )
        and _several(_is_port_group, answer.port_groups)
    )


def _is_port_group(answer: object) -> bool:
    return (
        isinstance(answer, PortGroup)
        and isinstance(answer.name, str)
        and _several(lambda one: isinstance(one, int), answer.vlans)
    )


def _is_interface(answer: object) -> bool:
    return (
        isinstance(answer, HostInterface)
        and bool(answer.name)
        and _texts(answer, ("name", "kind", "mac", "master"))
        and isinstance(answer.up, bool | None)
        and isinstance(answer.speed_mbps, int | None)
        and isinstance(answer.vlan, int | None)
    )


def _is_filter(answer: object) -> bool:
    return (
        isinstance(answer, FilterInfo)
        and bool(answer.uuid and answer.name)
        and _texts(answer, ("uuid", "name", "chain", "xml"))
        and isinstance(answer.rules, int)
        and _several(lambda one: isinstance(one, str), answer.uses)
    )


def _is_lease(answer: object) -> bool:
    return (
        isinstance(answer, LeaseInfo)
        and _texts(answer, _LEASE_TEXTS)
        and isinstance(answer.prefix, int)
        and isinstance(answer.expires_at, int)
    )


def _is_address(answer: object) -> bool:
    return (
        isinstance(answer, AddressInfo)
        and _texts(answer, ("address", "mac", "source"))
        and isinstance(answer.prefix, int | None)
    )


def _is_by_source(answer: object) -> bool:
    return isinstance(answer, Mapping) and all(
        isinstance(source, str) and (isinstance(told, str) or _several(_is_address, told))
        for source, told in answer.items()
    )


def _are_snapshots(answer: object) -> bool:
    return isinstance(answer, tuple | list) and all(map(_is_snapshot, answer))


def _is_snapshot(answer: object) -> bool:
    return (
        isinstance(answer, SnapshotInfo)
        and bool(answer.name)
        and isinstance(answer.state, GuestState)
        and isinstance(answer.created_at, int | float)
        and isinstance(answer.size_bytes, int | None)
        and all(isinstance(getattr(answer, name), str) for name in _SNAPSHOT_TEXTS)
        and isinstance(answer.disks, tuple | list)
        and all(isinstance(disk, str) for disk in answer.disks)
    )


def _are_snapshots_by_guest(answer: object) -> bool:
    return isinstance(answer, Mapping) and all(
        isinstance(uuid, str) and _are_snapshots(each) for uuid, each in answer.items()
    )


_SENSE: Final[dict[str, Callable[[object], bool]]] = {
    "guest": _is_guest,
    "guest_or_none": lambda answer: answer is None or _is_guest(answer),
    "guest_state": _is_state,
    "define": _is_guest,
    "definition": lambda answer: isinstance(answer, str),
    "design": lambda answer: isinstance(answer, str),
    "create": _is_guest,
    "clone": _is_guest,
    "addresses": _is_by_source,
    "check_definition": lambda answer: (
        isinstance(answer, list | tuple) and all(isinstance(one, Finding) for one in answer)
    ),
    "holds_change": lambda answer: isinstance(answer, bool),
    "screenshot": lambda answer: isinstance(answer, bytes),
    "pools": partial(_several, _is_pool),
    "pool": _is_pool,
    "pool_create": _is_pool,
    "volumes": partial(_several, _is_volume),
    "volume": _is_volume,
    "volume_create": _is_volume,
    "volume_clone": _is_volume,
    "networks": partial(_several, _is_network),
    "host_interfaces": partial(_several, _is_interface),
    "filters": partial(_several, _is_filter),
    "filter_define": _is_filter,
    "leases": partial(_several, _is_lease),
    "network_create": _is_network,
    "snapshots": _are_snapshots,
    "snapshots_of_all": _are_snapshots_by_guest,
}
"""Verb → whether its answer can be one. The verbs that are not here answer nothing that an action reads."""


def makes_sense(verb: str, answer: object) -> bool:
    """Whether this can be what the verb answers."""
    return verb not in _SENSE or _SENSE[verb](answer)


class Checked:
    """A session whose answers are what they should be, or `DriverError`."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._session, name)
        if name not in _SENSE:
            return found

        def verb(*args: Any, **kwargs: Any) -> Any:
            answer = found(*args, **kwargs)
            if not makes_sense(name, answer):
                raise Nonsense(f"The hypervisor's answer makes no sense ({name}: {type(answer).__name__}).", verb=name)
            return answer

        return verb

    def __repr__(self) -> str:
        return f"<checked {self._session!r}>"


Session.register(Checked)
