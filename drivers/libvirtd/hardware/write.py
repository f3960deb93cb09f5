"""A device's properties into its element. What a device of ours does not speak of stays as it is in the element.

The same functions fill a new element and change one that is there: `now` is what the element says, and only what differs is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers.libvirtd.hardware import check
from drivers.libvirtd.hardware.read import KIB
from drivers.libvirtd.xml.element import append, remove
from drivers.types import DiskHardware, IoLimits, NicHardware

if TYPE_CHECKING:
    from lxml import etree

    from drivers.libvirtd.xml.devices import Disk, Graphics, HostDev, Interface
    from drivers.types import HostDeviceHardware

_LIMITS: Final = (
    ("total_bytes_per_second", "total_bytes", "total_bytes_sec"),
    ("read_bytes_per_second", "read_bytes", "read_bytes_sec"),
    ("write_bytes_per_second", "write_bytes", "write_bytes_sec"),
    ("total_requests_per_second", "total_requests", "total_iops_sec"),
    ("read_requests_per_second", "read_requests", "read_iops_sec"),
    ("write_requests_per_second", "write_requests", "write_iops_sec"),
)
"""Ours, the element's field, libvirt's own word (in a definition and in `setBlockIoTune`)."""
NEW_DISK: Final = DiskHardware()
NEW_NIC: Final = NicHardware()


# -- disks -------------------------------------------------------------------------------------------------------------------
def disk(element: Disk, wished: DiskHardware, now: DiskHardware = NEW_DISK) -> None:
    """A disk's properties; its target is who it is and stays. Raises InvalidDefinition."""
    if wished.path != now.path or now is NEW_DISK:
        source(element, wished.path)
    for name in ("cache", "io", "discard", "serial"):
        if getattr(wished, name) != getattr(now, name):
            setattr(element, name, getattr(wished, name) or None)
    if wished.format and wished.format != now.format:
        element.format = wished.format
    if wished.bus and wished.bus != now.bus:
        element.bus = wished.bus
        drop(element.node, "address")  # a place on the old bus
    if wished.readonly != now.readonly:
        element.readonly = wished.readonly
    if wished.shareable != now.shareable:
        element.shareable = wished.shareable
    if wished.boot_order != now.boot_order:
        element.boot_order = wished.boot_order or None
    if wished.limits != now.limits:
        _limits(element, wished.limits)


def source(element: Disk, path: str) -> None:
    """Where the contents are; what was said of the old ones goes. Raises InvalidDefinition for what has no path, and is new here."""
    for tag in ("source", "backingStore", "mirror"):
        drop(element.node, tag)
    if path.startswith("/dev/"):
        element.type, element.dev = "block", path
    elif path.startswith("/") or not path:
        element.type, element.file = "file", path or None
    else:
        pool, slash, volume = path.partition("/")
        if not slash or ":" in pool or not pool or not volume:
            raise check.refusal(
                "path", "a path on the host begins with a slash; other storage is named as pool/volume."
            )
        element.type, element.pool, element.volume = "volume", pool, volume


def _limits(element: Disk, limits: IoLimits) -> None:
    for ours, field, theirs in _LIMITS:
        value = getattr(limits, ours)
        setattr(element, field, value or None)
        burst = element.node.find(f"iotune/{theirs}_max")
        if burst is not None and (not value or int(burst.text or 0) < value):
            # A burst below what is allowed all the time is refused by libvirt.
            drop(element.node, f"iotune/{theirs}_max_length")
            remove(burst)
    tuned = element.node.find("iotune")
    if tuned is not None and not len(tuned):
        remove(tuned)


def tuning(limits: IoLimits) -> dict[str, int]:
    """The parameters of `setBlockIoTune`: all of them, for what is left out would stay."""
    return {theirs: getattr(limits, ours) for ours, _, theirs in _LIMITS}


# -- interfaces ----------------------------------------------------------------------------------------------------------------
def nic(element: Interface, wished: NicHardware, now: NicHardware = NEW_NIC) -> None:
    """An interface's properties; its MAC address is who it is and stays."""
    place = (wished.network, wished.bridge, wished.direct, wished.direct_mode)
    if place != (now.network, now.bridge, now.direct, now.direct_mode) and any(place):
        _place(element, wished)
    if wished.model != now.model:
        element.model = wished.model or None
    if wished.link != now.link:
        element.link = None if wished.link == "up" else wished.link
    for way in ("inbound", "outbound"):
        name = f"{way}_bytes_per_second"
        if getattr(wished, name) != getattr(now, name):
            _bandwidth(element, way, getattr(wished, name) // KIB)
    if wished.filter != now.filter:
        drop(element.node, "filterref")
        element.filter = wished.filter or None
    if wished.vlan != now.vlan:
        drop(element.node, "vlan")
        element.vlan = wished.vlan or None
    if wished.boot_order != now.boot_order:
        element.boot_order = wished.boot_order or None


def _place(element: Interface, wished: NicHardware) -> None:
    for tag in ("source", "virtualport"):
        drop(element.node, tag)
    if wished.bridge:
        element.type, element.bridge = "bridge", wished.bridge
    elif wished.direct:
        element.type, element.source_dev, element.source_mode = "direct", wished.direct, wished.direct_mode
    else:
        element.type, element.network = "network", wished.network


def _bandwidth(element: Interface, way: str, average: int) -> None:
    node = element.node.find(f"bandwidth/{way}")
    if not average:
        drop(element.node, f"bandwidth/{way}")
        around = element.node.find("bandwidth")
        if around is not None and not len(around):
            remove(around)
        return
    if node is not None and int(node.get("peak", average)) < average:
        del node.attrib["peak"]
    setattr(element, f"{way}_average", average)


# -- the rest -------------------------------------------------------------------------------------------------------------------
def listen(element: Graphics, place: str) -> None:
    """Where a screen listens; its port is given at each start. Ports and addresses of before go."""
    for name in ("port", "autoport", "listen", "socket", "websocket", "tlsPort"):
        element.node.attrib.pop(name, None)
    for one in element.node.findall("listen"):
        remove(one)
    if place in ("socket", "none"):
        append(element.node, "listen").set("type", place)
        return
    element.port, element.autoport = -1, "yes"
    at = append(element.node, "listen")
    at.set("type", "address")
    at.set("address", place or "127.0.0.1")


def host_device(element: HostDev, wished: HostDeviceHardware) -> None:
    """Who it is, and who fetches it from the host's driver: libvirt."""
    element.mode, element.type = "subsystem", wished.kind
    if wished.kind == "pci":
        element.managed = "yes"
        domain, bus, rest = wished.address.split(":")
        slot, function = rest.split(".")
        element.domain, element.bus = f"0x{domain}", f"0x{bus}"
        element.slot, element.function = f"0x{slot}", f"0x{function}"
    else:
        first, second = wished.address.split(":")
        if len(first) == len("0000"):
            element.vendor, element.product = f"0x{first}", f"0x{second}"
        else:
            element.bus, element.device = str(int(first)), str(int(second))
    element.boot_order = wished.boot_order or None


def drop(node: etree._Element, path: str) -> None:
    """Take the first element at `path` out, where there is one."""
    found = node.find(path)
    if found is not None:
        remove(found)
