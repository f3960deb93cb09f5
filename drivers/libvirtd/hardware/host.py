"""What a host has that guests could be given: its devices and its NUMA nodes. Pure functions over libvirt's documents."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from drivers.libvirtd.hardware import ranges
from drivers.libvirtd.xml.element import Attr, Children, Element, Size, Text
from drivers.types import HostDevice, HostNode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from drivers.libvirtd.xml.capabilities import Capabilities

_CLASSES: Final = {
    0x01: "storage",
    0x02: "network",
    0x03: "display",
    0x04: "multimedia",
    0x05: "memory",
    0x07: "serial",
    0x0C03: "usb",
    0x0C: "bus",
    0x0D: "wireless",
    0x10: "encryption",
    0x12: "accelerator",
}
_BRIDGE: Final = 0x06
_ROOT_HUBS: Final = 0x1D6B
"""Vendor of what Linux itself puts on each USB bus."""


class NodeDevice(Element):
    """`<device>` of libvirt's node device driver. Numbers are as it prints them."""

    tag = "device"
    driver = Text("driver/name", str)
    kind = Attr("capability@type", str)
    class_ = Text("capability/class", str)
    domain = Text("capability/domain", int)
    bus = Text("capability/bus", int)
    slot = Text("capability/slot", int)
    function = Text("capability/function", int)
    device = Text("capability/device", int)
    vendor = Text("capability/vendor", str)
    vendor_id = Attr("capability/vendor@id", str)
    product = Text("capability/product", str)
    product_id = Attr("capability/product@id", str)
    iommu_group = Attr("capability/iommuGroup@number", int)


class HostCpuNumber(Element):
    """A CPU of a NUMA node."""

    tag = "cpu"
    id = Attr("@id", int)


class HostCell(Element):
    """A NUMA node in the host's capabilities."""

    tag = "cell"
    id = Attr("@id", int)
    memory_bytes = Size("memory")
    cpus = Children("cpus/cpu", HostCpuNumber)


def devices(documents: Iterable[str]) -> list[HostDevice]:
    """Those that could be handed to a guest: no bridges, no USB hubs of Linux's own. In the order of their addresses."""
    read = [NodeDevice.parse(text) for text in documents]
    found = [*_pci(one for one in read if one.kind == "pci"), *_usb([one for one in read if one.kind == "usb_device"])]
    return sorted(found, key=lambda one: (one.kind, one.address))


def _pci(read: Iterable[NodeDevice]) -> Iterable[HostDevice]:
    for one in read:
        number = _number(one.class_)
        if number >> 16 == _BRIDGE or None in (one.bus, one.slot, one.function):
            continue
        yield HostDevice(
            kind="pci",
            address=f"{one.domain or 0:04x}:{one.bus:02x}:{one.slot:02x}.{one.function:x}",
            vendor=one.vendor or one.vendor_id or "",
            product=one.product or one.product_id or "",
            class_=_CLASSES.get(number >> 8) or _CLASSES.get(number >> 16, "other"),
            driver=one.driver or "",
            iommu_group=one.iommu_group,
        )


def _usb(read: Sequence[NodeDevice]) -> Iterable[HostDevice]:
    named = {id(one): f"{_number(one.vendor_id):04x}:{_number(one.product_id):04x}" for one in read}
    alike = Counter(named.values())
    for one in read:
        if _number(one.vendor_id) == _ROOT_HUBS:
            continue
        name = named[id(one)]
        yield HostDevice(
            kind="usb",
            address=name if alike[name] == 1 else f"{one.bus or 0:03d}:{one.device or 0:03d}",
            vendor=one.vendor or one.vendor_id or "",
            product=one.product or one.product_id or "",
            class_="usb",
            driver=one.driver or "",
        )


def _number(text: str | None) -> int:
    try:
        return int(text or "0", 0)
    except ValueError:
        return 0


def nodes(capabilities: Capabilities, *, cpus: int, memory_bytes: int, free: Sequence[int]) -> list[HostNode]:
    """NUMA nodes; a host that tells of none is one. `free`: bytes by node, in their order, as far as they are known."""
    cells = [HostCell(node) for node in capabilities.node.iterfind("host/topology/cells/cell")]
    if len(cells) < 2:  # libxl's one node names no CPUs (measured)
        return [
            HostNode(
                id=0, cpus=ranges.text(range(cpus)), memory_bytes=memory_bytes, free_bytes=free[0] if free else None
            )
        ]
    known = dict(zip((cell.id or 0 for cell in cells), free, strict=False))
    return [
        HostNode(
            id=cell.id or 0,
            cpus=ranges.text(cpu.id for cpu in cell.cpus if cpu.id is not None),
            memory_bytes=cell.memory_bytes or 0,
            free_bytes=known.get(cell.id or 0),
        )
        for cell in cells
    ]
