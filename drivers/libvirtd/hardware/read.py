"""A definition, running or not, as `Hardware`. Pure functions over a document.

What libvirt fills in when a guest starts (addresses, ports, the model behind `host-model`) is no difference between what runs
and what is defined: it is not read at all, or put even by `settled`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, TypeVar

from drivers.libvirtd.hardware import ranges
from drivers.types import (
    BootHardware,
    CpuHardware,
    Device,
    DiskHardware,
    DisplayHardware,
    Hardware,
    HostDeviceHardware,
    IoLimits,
    MemoryHardware,
    NicHardware,
    NumaNode,
    SimpleHardware,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml import etree

    from drivers.libvirtd.xml.devices import Disk, Graphics, HostDev, Input, Interface
    from drivers.libvirtd.xml.domain import Domain

_Same = TypeVar("_Same", DiskHardware, NicHardware, DisplayHardware, SimpleHardware)
KIB: Final = 1024
_IMPLIED_BUSES: Final = frozenset({"ps2", "xen", None})
"""Of keyboards and mice that come with the machine, and cannot be taken away."""
_FILLED_IN: Final[dict[type, tuple[str, ...]]] = {
    DiskHardware: ("format", "io"),
    NicHardware: ("model",),
    DisplayHardware: ("listen", "video"),
    SimpleHardware: ("model", "action"),
}
"""What libvirt may write down at a start where the definition leaves it open."""


def hardware(domain: Domain, *, everywhere: frozenset[int] = frozenset()) -> Hardware:
    """All of it.

    Args:
        domain: A whole `<domain>`.
        everywhere: The host's CPUs: a pin to all of them is none, and libvirt has no other way to take one away from what runs.
    """
    found = [device for _, device in devices(domain)]
    return Hardware(
        cpu=cpu(domain, everywhere),
        memory=memory(domain),
        boot=boot(domain),
        disks=tuple(one for one in found if isinstance(one, DiskHardware)),
        interfaces=tuple(one for one in found if isinstance(one, NicHardware)),
        displays=tuple(one for one in found if isinstance(one, DisplayHardware)),
        others=tuple(one for one in found if isinstance(one, SimpleHardware)),
        host_devices=tuple(one for one in found if isinstance(one, HostDeviceHardware)),
    )


def devices(domain: Domain) -> Iterator[tuple[etree._Element, Device]]:
    """Every device that can be told from the others by its key, with its element; the first of a key wins."""
    known: set[str] = set()
    for node, device in _all_devices(domain):
        if device.key not in known:
            known.add(device.key)
            yield node, device


def find(domain: Domain, key: str) -> tuple[etree._Element, Device] | None:
    """The device of this key."""
    return next(((node, device) for node, device in devices(domain) if device.key == key), None)


def _all_devices(domain: Domain) -> Iterator[tuple[etree._Element, Device]]:
    for element in domain.disks:
        yield element.node, disk(element)
    for nic in domain.interfaces:
        yield nic.node, interface(nic)
    video = next((card.model or "" for card in domain.videos), "")
    for screen in domain.graphics:
        yield screen.node, display(screen, video)
    yield from _others(domain)
    for handed in domain.host_devices:
        device = host_device(handed)
        if device is not None:
            yield handed.node, device


def _others(domain: Domain) -> Iterator[tuple[etree._Element, SimpleHardware]]:
    for number, tpm in enumerate(domain.tpms):
        yield tpm.node, SimpleHardware(kind="tpm", model=tpm.model or "", number=number)
    for number, rng in enumerate(domain.rngs):
        yield rng.node, SimpleHardware(kind="rng", model=rng.model or "", number=number)
    for number, dog in enumerate(domain.watchdogs):
        yield (
            dog.node,
            SimpleHardware(kind="watchdog", model=dog.model or "", action=dog.action or "reset", number=number),
        )
    for number, port in enumerate(domain.serials):
        place = port.target_port if port.target_port is not None else number
        yield port.node, SimpleHardware(kind="serial", model=port.target_type or "", number=place)
    balloon = domain.balloon
    if balloon is not None and balloon.model != "none":
        yield balloon.node, SimpleHardware(kind="balloon", model=balloon.model or "")
    for number, sound in enumerate(domain.sounds):
        yield sound.node, SimpleHardware(kind="sound", model=sound.model or "", number=number)
    own = (one for one in domain.inputs if one.bus not in _IMPLIED_BUSES)
    for number, item in enumerate(own):
        yield item.node, SimpleHardware(kind="input", model=input_model(item), number=number)


def input_model(item: Input) -> str:
    """`tablet` is on the USB bus, `virtio-tablet` on its own."""
    return item.type or "" if item.bus == "usb" else f"{item.bus}-{item.type}"


# -- processors and memory ------------------------------------------------------------------------------------------------
def cpu(domain: Domain, everywhere: frozenset[int] = frozenset()) -> CpuHardware:
    """Processors: how many, in what shape, and where they run."""
    most = domain.vcpus or 1
    shape = domain.cpu
    pins = {pin.vcpu: ranges.tidy(pin.cpuset) for pin in domain.pins if pin.vcpu is not None}
    mode = (shape.mode or ("custom" if shape.model else "")) if shape is not None else ""
    return CpuHardware(
        vcpus=domain.current_vcpus or most,
        max_vcpus=most,
        sockets=(shape.sockets or 0) * (shape.dies or 1) * (shape.clusters or 1) if shape is not None else 0,
        cores=shape.cores or 0 if shape is not None else 0,
        threads=shape.threads or 0 if shape is not None else 0,
        mode=mode,
        model=shape.model or "" if shape is not None and mode == "custom" else "",
        pins={vcpu: place for vcpu, place in sorted(pins.items()) if not _is_all(place, everywhere)},
        emulator_pins=_unless_all(ranges.tidy(domain.emulator_pins), everywhere),
        nodes=tuple(
            NumaNode(cpus=ranges.tidy(cell.cpus), memory_bytes=_cell_bytes(cell.memory, cell.unit))
            for cell in (shape.cells if shape is not None else ())
        ),
        memory_nodes=ranges.tidy(domain.memory_nodes),
        memory_mode=(domain.memory_mode or "strict") if domain.memory_nodes else "",
    )


def _is_all(place: str, everywhere: frozenset[int]) -> bool:
    try:
        return bool(everywhere) and ranges.parse(place) >= everywhere
    except ValueError:
        return False


def _unless_all(place: str, everywhere: frozenset[int]) -> str:
    return "" if _is_all(place, everywhere) else place


_CELL_UNITS: Final = {None: 1 << 10, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "b": 1, "bytes": 1}


def _cell_bytes(amount: int | None, unit: str | None) -> int:
    return (amount or 0) * _CELL_UNITS.get(unit, KIB)


def memory(domain: Domain) -> MemoryHardware:
    """`<currentMemory>` is what it has, `<memory>` what it may grow to."""
    most = domain.memory_bytes or 0
    balloon = domain.balloon
    return MemoryHardware(
        memory_bytes=domain.current_memory_bytes or most,
        max_memory_bytes=most,
        balloon=balloon is None or balloon.model != "none",
    )


def boot(domain: Domain) -> BootHardware:
    """By numbers on the devices where there are any, else by kinds."""
    numbered: list[tuple[int, str]] = []
    for _, device in devices(domain):
        if isinstance(device, (DiskHardware, NicHardware, HostDeviceHardware)) and device.boot_order:
            numbered.append((device.boot_order, device.key))
    os = domain.os
    kinds = tuple(boot.dev for boot in os.boots if boot.dev) if os is not None else ()
    return BootHardware(
        order=tuple(key for _, key in sorted(numbered)) or kinds, menu=os is not None and os.menu == "yes"
    )


# -- devices ---------------------------------------------------------------------------------------------------------------
def disk(element: Disk) -> DiskHardware:
    """A disk or a drive."""
    device = element.device or "disk"
    return DiskHardware(
        target=element.target or "",
        device=device,
        bus=element.bus or "",
        path=disk_path(element),
        format=element.format or "",
        readonly=element.readonly or device == "cdrom",
        shareable=element.shareable,
        cache=_unless_default(element.cache),
        io=element.io or "",
        discard=element.discard or "",
        serial=element.serial or "",
        boot_order=element.boot_order or 0,
        limits=IoLimits(
            total_bytes_per_second=element.total_bytes or 0,
            read_bytes_per_second=element.read_bytes or 0,
            write_bytes_per_second=element.write_bytes or 0,
            total_requests_per_second=element.total_requests or 0,
            read_requests_per_second=element.read_requests or 0,
            write_requests_per_second=element.write_requests or 0,
        ),
    )


def _unless_default(word: str | None) -> str:
    return "" if word in (None, "default") else word


def disk_path(element: Disk) -> str:
    """Its path on the host; of what has none there, words that no path begins with."""
    if element.type == "volume":
        return f"{element.pool or ''}/{element.volume or ''}" if element.volume else ""
    if element.type == "network":
        return f"{element.protocol}:{element.source_name or ''}" if element.protocol else ""
    return element.file or element.dev or element.directory or ""


def interface(nic: Interface) -> NicHardware:
    """A network interface. The bridge of a virtual network stands in a running definition, and is the network's own business."""
    direct = nic.type == "direct"
    return NicHardware(
        mac=(nic.mac or "").lower(),
        model=nic.model or "",
        network=(nic.network or "") if nic.type == "network" else "",
        bridge=(nic.bridge or "") if nic.type == "bridge" else "",
        direct=(nic.source_dev or "") if direct else "",
        direct_mode=(nic.source_mode or "vepa") if direct else "",
        link=nic.link or "up",
        inbound_bytes_per_second=(nic.inbound_average or 0) * KIB,
        outbound_bytes_per_second=(nic.outbound_average or 0) * KIB,
        filter=nic.filter or "",
        vlan=nic.vlan or 0,
        boot_order=nic.boot_order or 0,
    )


def display(screen: Graphics, video: str) -> DisplayHardware:
    """A screen; ports and the socket's path are made anew at each start."""
    kind = screen.listen_type or ("socket" if screen.socket else "address")
    listen = (screen.listen_address or screen.listen or "") if kind == "address" else kind
    return DisplayHardware(type=screen.type or "", listen=listen, video=video)


def host_device(handed: HostDev) -> HostDeviceHardware | None:
    """A device of the host; None for what is neither PCI nor USB."""
    if handed.mode not in (None, "subsystem"):
        return None
    if handed.type == "pci":
        parts = [handed.domain or "0x0", handed.bus, handed.slot, handed.function or "0x0"]
        try:
            domain, bus, slot, function = (int(part or "", 0) for part in parts)
        except ValueError:
            return None
        address = f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"
    elif handed.type == "usb":
        try:
            if handed.vendor and handed.product:
                address = f"{int(handed.vendor, 0):04x}:{int(handed.product, 0):04x}"
            else:
                address = f"{int(handed.bus or '', 0):03d}:{int(handed.device or '', 0):03d}"
        except ValueError:
            return None
    else:
        return None
    return HostDeviceHardware(kind=handed.type, address=address, boot_order=handed.boot_order or 0)


# -- what runs beside what is defined ---------------------------------------------------------------------------------------
def settled(live: Hardware, defined: Hardware) -> Hardware:
    """`live` without what libvirt filled in at the start; what is left different is pending.

    A processor that is defined as the host's (`host-model`) runs as the model that this was on the day of its start: from
    libvirt nobody hears which of the two a guest was started with, so that one change, to `host-model`, is not seen as pending.
    """
    processor = live.cpu
    if processor.mode == "custom" and defined.cpu.mode in ("host-model", ""):
        processor = dataclasses.replace(processor, mode=defined.cpu.mode, model=defined.cpu.model)
    known = defined.devices

    def even(device: _Same) -> _Same:
        wanted = known.get(device.key)
        if wanted is None:
            return device
        open_ones = [name for name in _FILLED_IN[type(device)] if getattr(device, name) and not getattr(wanted, name)]
        emptied: dict[str, Any] = dict.fromkeys(open_ones, "")
        return dataclasses.replace(device, **emptied) if open_ones else device

    return dataclasses.replace(
        live,
        cpu=processor,
        disks=tuple(even(one) for one in live.disks),
        interfaces=tuple(even(one) for one in live.interfaces),
        displays=tuple(even(one) for one in live.displays),
        others=tuple(even(one) for one in live.others),
    )
