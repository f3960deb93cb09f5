"""What differs between the kinds of hypervisor when hardware is written down or plugged in. Data; `options` makes the words of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.libvirtd.xml.capabilities import DomainCapabilities
    from drivers.libvirtd.xml.domain import Domain
    from drivers.types import HardwareOptions


class Offer(Protocol):
    """What a kind of hypervisor offers one of its guests."""

    def __call__(self, domain: Domain, offered: Callable[[], DomainCapabilities]) -> HardwareOptions:
        """`domain`: the guest's definition. `offered`: asks the host about its machine. `live` is filled in by who knows what runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """How one kind of hypervisor takes its guests' hardware.

    Attributes:
        offer: Its options.
        disk_driver: Who serves a disk, in libvirt's word; "" where none is said. `block_driver`: likewise, a raw block device.
        plugs: Buses that a disk can be plugged into while the guest runs, the best first.
        numbers_boot: Whether devices are booted from in the order of numbers on them; else by kinds, where at all.
        boots: Whether it boots from devices.
        changes_interfaces: Whether an interface that is plugged in can be changed.
        retunes: Whether a disk's limits can be changed while the guest runs.
        resizes: Likewise, its size.
        pins: Likewise, where its vCPUs run.
        small: Kinds of small devices that can be plugged in.
        screens_on_sockets: Whether a screen can be on a socket that libvirt hands out.
    """

    offer: Offer
    disk_driver: str = ""
    block_driver: str = ""
    plugs: tuple[str, ...] = ()
    numbers_boot: bool = True
    boots: bool = True
    changes_interfaces: bool = False
    retunes: bool = False
    resizes: bool = False
    pins: bool = True
    small: tuple[str, ...] = ()
    screens_on_sockets: bool = False
