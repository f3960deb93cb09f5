"""A device put into a definition, changed in it, taken out of it. In place: what is not ours to say survives."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from typing import TYPE_CHECKING, Final

from drivers.errors import AlreadyExists, InvalidDefinition, NotFound
from drivers.libvirtd.design.common import letters, prefix_of
from drivers.libvirtd.hardware import check, processors, read, write
from drivers.libvirtd.hardware.compare import covers, differing
from drivers.libvirtd.xml.devices import (
    Controller,
    Disk,
    Graphics,
    HostDev,
    Input,
    Interface,
    MemoryBalloon,
    Rng,
    Serial,
    Sound,
    Tpm,
    Video,
    Watchdog,
)
from drivers.libvirtd.xml.domain import Os
from drivers.libvirtd.xml.element import Element, append, remove
from drivers.types import (
    BootHardware,
    CpuHardware,
    DiskHardware,
    DisplayHardware,
    HostDeviceHardware,
    MemoryHardware,
    NicHardware,
    SimpleHardware,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lxml import etree

    from drivers.libvirtd.hardware.traits import Traits
    from drivers.libvirtd.xml.domain import Domain
    from drivers.types import Device, HardwareOptions

ONE_OF_EACH: Final = (CpuHardware, MemoryHardware, BootHardware)
"""What every guest has, and none has twice."""
_NOT_ALIKE: Final = (
    "The guest has another device of this kind under that name ({key}) already: change that one, or take it away first."
)


# -- who it is ----------------------------------------------------------------------------------------------------------------
def named(
    device: Device, domains: Iterable[Domain], options: HardwareOptions, *, buses: tuple[str, ...] = ()
) -> Device:
    """With a bus, a target and a MAC address where it was left to us, the same for all of the guest's definitions.

    Args:
        device: A tidied one.
        domains: What runs and what is defined.
        options: Whose first words are the best.
        buses: What it must be on where it can choose: those that take a disk while the guest runs.
    """
    around = list(domains)
    if isinstance(device, DiskHardware):
        if not device.target and device.path:
            here = [read.disk(disk) for domain in around for disk in domain.disks]
            alike = (one for one in here if (one.path, one.device) == (device.path, device.device))
            same = next((one for one in alike if device.bus in ("", one.bus)), None)
            if same is not None:  # put in by an earlier call of the same
                return dataclasses.replace(device, bus=device.bus or same.bus, target=same.target)
        bus = device.bus or _bus(device, around, options, buses)
        return dataclasses.replace(device, bus=bus, target=device.target or _free_target(bus, around))
    if isinstance(device, NicHardware):
        model = device.model or next(iter(options.nic_models), "")
        return dataclasses.replace(device, model=model, mac=device.mac or _free_mac(around))
    return device


def _bus(device: DiskHardware, around: list[Domain], options: HardwareOptions, buses: tuple[str, ...]) -> str:
    offered = options.cdrom_buses if device.device == "cdrom" else options.disk_buses
    if device.device == "floppy":
        return "fdc"
    there = [disk.bus for domain in around for disk in domain.disks if (disk.device or "disk") == device.device]
    wanted = [bus for bus in (*there, *offered) if bus in offered and (not buses or bus in buses)]
    if not wanted:
        raise check.lacking("bus", f"there is no bus here that takes a {device.device} while the guest runs.")
    return wanted[0] or ""


def _free_target(bus: str, around: list[Domain]) -> str:
    taken = {disk.target for domain in around for disk in domain.disks}
    names = (f"{prefix_of(bus)}{letters(number)}" for number in itertools.count())
    return next(name for name in names if name not in taken)


def _free_mac(around: list[Domain]) -> str:
    """Made of the guest's uuid, so that the same call makes the same one again."""
    taken = {(nic.mac or "").lower() for domain in around for nic in domain.interfaces}
    for number in itertools.count():
        made = hashlib.sha256(f"{around[0].uuid if around else ''}/plugged/{number}".encode()).hexdigest()
        mac = f"52:54:00:{made[0:2]}:{made[2:4]}:{made[4:6]}"
        if mac not in taken:
            return mac
    raise AssertionError


# -- put, change, take ---------------------------------------------------------------------------------------------------------
def attach(domain: Domain, device: Device, traits: Traits, options: HardwareOptions) -> bool:
    """Put a named device in; False where it is there and says the same. Raises AlreadyExists, InvalidDefinition, Unsupported."""
    there = read.find(domain, device.key)
    if isinstance(device, ONE_OF_EACH) or there is not None:
        now = there[1] if there else read.hardware(domain).devices[device.key]
        if covers(now, device):
            return False
        raise AlreadyExists(_NOT_ALIKE.format(key=device.key), key=device.key)
    _refuse_second(domain, device)
    check.refuse_not_offered(device, options)
    if isinstance(device, DiskHardware) and device.bus == "scsi":
        scsi_controller(domain)
    if isinstance(device, DisplayHardware):
        _card(domain, device.video or (next(iter(options.videos), "") if not len(domain.videos) else ""))
    made = element(device, traits, options)
    if isinstance(made, MemoryBalloon):
        domain.balloon = made
    else:
        _put(domain, made)
    _number_boot(domain, device, traits)
    return True


def _refuse_second(domain: Domain, device: Device) -> None:
    if isinstance(device, HostDeviceHardware) and device.kind == "pci":
        return
    if isinstance(device, SimpleHardware) and device.kind not in ("serial", "balloon"):
        count = sum(isinstance(one, SimpleHardware) and one.kind == device.kind for _, one in read.devices(domain))
        if device.number != count:
            raise check.refusal("number", f"the next {device.kind} of this guest has the number {count}.")


def change(domain: Domain, device: Device, traits: Traits, options: HardwareOptions) -> bool:
    """Give the device of this key these properties; False where it has them. Raises NotFound, InvalidDefinition, Unsupported."""
    if isinstance(device, ONE_OF_EACH):
        return _change_whole(domain, device, traits, options)
    found = read.find(domain, device.key)
    if found is None:
        raise NotFound(f"The guest has no {device.key}.", key=device.key)
    node, now = found
    if not differing(device, now):
        return False
    check.refuse_not_offered(device, options, now)
    if isinstance(device, DiskHardware) and isinstance(now, DiskHardware):
        _change_disk(domain, node, device, now)
    elif isinstance(device, NicHardware) and isinstance(now, NicHardware):
        write.nic(Interface(node), device, now)
    elif isinstance(device, DisplayHardware) and isinstance(now, DisplayHardware):
        _change_screen(domain, node, device, now)
    elif isinstance(device, HostDeviceHardware):
        HostDev(node).boot_order = device.boot_order or None
    elif isinstance(device, SimpleHardware):
        _change_small(node, device, options)
    _number_boot(domain, device, traits)
    return True


def _change_whole(
    domain: Domain, device: CpuHardware | MemoryHardware | BootHardware, traits: Traits, options: HardwareOptions
) -> bool:
    if isinstance(device, CpuHardware):
        check.refuse_not_offered(device, options, read.cpu(domain))
        return processors.change(domain, device)
    if isinstance(device, MemoryHardware):
        return processors.change_memory(domain, device)
    return _boot(domain, device, traits)


def _change_disk(domain: Domain, node: etree._Element, device: DiskHardware, now: DiskHardware) -> None:
    if device.device != now.device:
        raise check.refusal(
            "device", f"a {now.device} cannot become a {device.device}; take it away and add the other."
        )
    if device.bus == "scsi" and now.bus != "scsi":
        scsi_controller(domain)
    write.disk(Disk(node), device, now)


def _change_screen(domain: Domain, node: etree._Element, device: DisplayHardware, now: DisplayHardware) -> None:
    if device.listen != now.listen:
        write.listen(Graphics(node), device.listen)
    if device.video != now.video:
        _card(domain, device.video)


def _change_small(node: etree._Element, device: SimpleHardware, options: HardwareOptions) -> None:
    model = device.model or next(iter(options.kinds.get(device.kind, ())), "")
    if device.kind == "input":
        _input(Input(node), model)
    elif device.kind == "serial":
        port = Serial(node)
        if model != port.target_type:
            write.drop(node, "target/model")
            port.target_type = model or None
    else:
        node.set("model", model)
        if device.kind == "watchdog":
            node.set("action", device.action)
    write.drop(node, "address")


def detach(domain: Domain, key: str) -> bool:
    """Take the device of this key out; False where it is not there. Raises InvalidDefinition for what no guest can be without."""
    if key in ("cpu", "memory", "boot"):
        message = f"The {key} of a guest can be changed, not taken away."
        raise InvalidDefinition(message, key=key)
    found = read.find(domain, key)
    if found is None:
        return False
    node, device = found
    if isinstance(device, SimpleHardware) and device.kind == "balloon":
        domain.balloon = MemoryBalloon(model="none")  # libvirt puts one where none is mentioned
        return True
    remove(node)
    if isinstance(device, SimpleHardware) and device.kind == "serial":
        _drop_console(domain, device.number)
    elif isinstance(device, DisplayHardware):
        _drop_around_screen(domain, device)
    return True


def _drop_console(domain: Domain, number: int) -> None:
    """Else libvirt would make a serial port again of the console that is on it."""
    for console in list(domain.consoles):
        if console.target_type in ("serial", None) and (console.target_port or 0) == number:
            domain.consoles.remove(console)


def _drop_around_screen(domain: Domain, device: DisplayHardware) -> None:
    if device.type == "spice":
        for path in (
            "devices/channel[@type='spicevmc']",
            "devices/redirdev[@type='spicevmc']",
            "devices/audio[@type='spice']",
        ):
            for one in domain.node.findall(path):
                remove(one)
    if not len(domain.graphics):
        for card in list(domain.videos):
            domain.videos.remove(card)


# -- elements --------------------------------------------------------------------------------------------------------------------
def element(device: Device, traits: Traits, options: HardwareOptions) -> Element:
    """A new element for a named device."""
    if isinstance(device, DiskHardware):
        block = device.path.startswith("/dev/") and device.format in ("", "raw")
        served_by = (traits.block_driver if block else "") or traits.disk_driver
        disk = Disk(device=device.device, driver_name=served_by or None)
        disk.target = device.target
        write.disk(disk, device)
        return disk
    if isinstance(device, NicHardware):
        if not (device.network or device.bridge or device.direct):
            raise check.refusal("network", "it is on a network, on a bridge, or on an interface of the host: name one.")
        nic = Interface(mac=device.mac)
        write.nic(nic, device)
        return nic
    if isinstance(device, DisplayHardware):
        screen = Graphics(type=device.type)
        write.listen(screen, device.listen or ("socket" if device.type == "vnc" and traits.screens_on_sockets else ""))
        return screen
    if isinstance(device, HostDeviceHardware):
        handed = HostDev()
        write.host_device(handed, device)
        return handed
    if isinstance(device, SimpleHardware):
        return _small(device, device.model or next(iter(options.kinds.get(device.kind, ())), ""))
    message = f"The {device.key} of a guest can be changed, not added."
    raise InvalidDefinition(message, key=device.key)


def _small(device: SimpleHardware, model: str) -> Element:
    number, action = device.number, device.action or "reset"
    made: dict[str, Callable[[], Element]] = {
        "tpm": lambda: Tpm(model=model or None, backend_type="emulator", backend_version="2.0"),
        "rng": lambda: Rng(model=model or "virtio", backend_model="random", backend="/dev/urandom"),
        "watchdog": lambda: Watchdog(model=model, action=action),
        "serial": lambda: Serial(type="pty", target_type=model or None, target_port=number),
        "balloon": lambda: MemoryBalloon(model=model or "virtio", stats_period_seconds=processors.BALLOON_SECONDS),
        "sound": lambda: Sound(model=model),
        "input": lambda: _input(Input(), model or "tablet"),
    }
    return made[device.kind]()


def _input(item: Input, model: str) -> Input:
    bus, dash, kind = model.partition("-")
    item.type, item.bus = (kind, bus) if dash else (model, "usb")
    return item


def scsi_controller(domain: Domain) -> Controller | None:
    """A controller for disks on the SCSI bus, where the guest has none; libvirt's own choice would be one of 1998."""
    if any(one.type == "scsi" for one in domain.controllers):
        return None
    return domain.controllers.add(Controller(type="scsi", model="virtio-scsi"))


def _card(domain: Domain, model: str) -> None:
    card = next(iter(domain.videos), None)
    if not model:
        return
    if card is None:
        domain.videos.add(Video(model=model))
    elif card.model != model:
        # Heads, memory and acceleration are the old card's.
        write.drop(card.node, "model")
        write.drop(card.node, "address")
        card.model = model


_PLACES: Final = {
    Disk: "disks",
    Interface: "interfaces",
    Graphics: "graphics",
    HostDev: "host_devices",
    Tpm: "tpms",
    Rng: "rngs",
    Watchdog: "watchdogs",
    Serial: "serials",
    Sound: "sounds",
    Input: "inputs",
}


def _put(domain: Domain, made: Element) -> None:
    getattr(domain, _PLACES[type(made)]).add(made)


# -- booting -----------------------------------------------------------------------------------------------------------------------
def _number_boot(domain: Domain, device: Device, traits: Traits) -> None:
    """By numbers on devices or by an order of kinds, never by both, and by no number twice: so libvirt takes it.

    Where the first number comes in, what was booted from by its kind is numbered around it, or the guest would not boot from it any more.
    """
    order = getattr(device, "boot_order", 0)
    if not order:
        return
    _refuse_numbers(traits)
    those = [(node, one) for node, one in read.devices(domain) if hasattr(one, "boot_order")]
    others = [one for _, one in those if one.key != device.key and getattr(one, "boot_order", 0) == order]
    if others:
        raise check.refusal("boot_order", f"{others[0].key} is at place {order} already; change that one first.")
    places = (place for place in itertools.count(1) if place != order)
    for kind in list(domain.os.boots) if domain.os is not None else []:
        node, first = next(((node, one) for node, one in those if _boots_as(one) == kind.dev), (None, None))
        if node is not None and first is not None and first.key != device.key:
            append(node, "boot").set("order", str(next(places)))
        remove(kind.node)


def _boots_as(device: Device) -> str:
    """Libvirt's word for the kind that it is of, when it boots by kinds."""
    if isinstance(device, DiskHardware):
        return {"cdrom": "cdrom", "floppy": "fd"}.get(device.device, "hd")
    return "network" if isinstance(device, NicHardware) else ""


def _refuse_numbers(traits: Traits) -> None:
    if not traits.boots:
        raise check.lacking("boot_order", "a container boots from nothing; it has an init.")
    if not traits.numbers_boot:
        raise check.lacking(
            "boot_order", "this hypervisor boots from kinds of devices (hd, cdrom, network), not from numbered ones."
        )


def _boot(domain: Domain, wished: BootHardware, traits: Traits) -> bool:
    now = read.boot(domain)
    if now == wished:
        return False
    if not traits.boots:
        raise check.lacking("order", "a container boots from nothing; it has an init.")
    os = domain.os
    if os is None:
        os = domain.os = Os()
    if wished.menu != now.menu:
        if wished.menu:
            os.menu = "yes"
        else:
            write.drop(os.node, "bootmenu")
    if wished.order != now.order:
        _reorder(domain, os, wished.order, traits)
    return True


def _reorder(domain: Domain, os: Os, order: tuple[str, ...], traits: Traits) -> None:
    known = {device.key: node for node, device in read.devices(domain) if hasattr(device, "boot_order")}
    by_kind = all(one in check.BOOT_WORDS for one in order)
    if not by_kind:
        _refuse_numbers(traits)
        missing = [key for key in order if key not in known]
        if missing:
            raise check.refusal("order", f"the guest has no {missing[0]} to boot from.")
    for node in known.values():
        write.drop(node, "boot")
    for kind in list(os.boots):
        os.boots.remove(kind)
    if by_kind:
        for word in order:
            append(os.node, "boot").set("dev", word)
    else:
        for place, key in enumerate(order, start=1):
            append(known[key], "boot").set("order", str(place))
