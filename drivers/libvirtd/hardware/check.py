"""Whether a wished device says something that can be. Nothing of what is let through here can be more than the value that it is for.

Every refusal names the field; `Unsupported` for what this guest's hypervisor does not offer, `InvalidDefinition` for what nobody does.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from typing import TYPE_CHECKING, Any, Final

from drivers.errors import InvalidDefinition, Unsupported
from drivers.libvirtd.hardware import ranges
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
    from collections.abc import Callable, Collection, Iterable

    from drivers.types import Device, HardwareOptions, NumaNode

_WORD: Final = re.compile(r"[A-Za-z0-9_.+-]{1,64}")
_TARGET: Final = re.compile(r"(?:vd|sd|hd|xvd|fd|ubd)[a-z]{1,3}")
_SERIAL: Final = re.compile(r"[A-Za-z0-9_.+ -]{1,36}")
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")
_MAC: Final = re.compile(r"[0-9a-f][02468ace](?::[0-9a-f]{2}){5}")
_PCI: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
_USB: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}|\d{3}:\d{3}")
_ELSEWHERE: Final = re.compile(r"[A-Za-z0-9_.+-]{1,64}[:/][^\x00-\x1f\x7f]{1,255}")
_PATH_MOST: Final = 4095
_NAME_MOST: Final = 255
_LIMIT_MOST: Final = 10**15
"""libvirt's own highest for a disk's limit, in bytes or requests a second."""
_AVERAGE_MOST: Final = (1 << 32) * 1024 - 1
"""What a 32-bit number of KiB a second can say."""
_MEMORY_MOST: Final = 1 << 50
_VCPUS_MOST: Final = 4096
_DIRECT_MODES: Final = ("bridge", "vepa", "private", "passthrough")
_CACHES: Final = ("none", "writeback", "writethrough", "directsync", "unsafe")
_DEVICES: Final = ("disk", "cdrom", "floppy", "lun")
_ACTIONS: Final = ("reset", "shutdown", "poweroff", "pause", "none", "dump", "inject-nmi")
_KINDS: Final = ("tpm", "rng", "watchdog", "serial", "balloon", "sound", "input")
_MEMORY_MODES: Final = ("strict", "preferred", "interleave", "restrictive")
BOOT_WORDS: Final = ("hd", "cdrom", "network", "fd")


def refusal(field: str, why: str) -> InvalidDefinition:
    """The error for a value that cannot be."""
    return InvalidDefinition(f"{field}: {why}", field=field)


def lacking(field: str, why: str) -> Unsupported:
    """The error for a value that is not offered here."""
    return Unsupported(f"{field}: {why}", feature="hardware", field=field)


def tidied(device: Device) -> Device:
    """As it would be read back. Raises InvalidDefinition for what cannot be."""
    tidy: dict[type, Callable[[Any], Device]] = {
        CpuHardware: _cpu,
        MemoryHardware: _memory,
        DiskHardware: _disk,
        NicHardware: _nic,
        DisplayHardware: _display,
        SimpleHardware: _simple,
        HostDeviceHardware: _host_device,
        BootHardware: _boot,
    }
    return tidy[type(device)](device)


# -- processors and memory --------------------------------------------------------------------------------------------------
def _cpu(cpu: CpuHardware) -> CpuHardware:
    _between("vcpus", cpu.vcpus, 1, _VCPUS_MOST)
    _between("max_vcpus", cpu.max_vcpus, 0, _VCPUS_MOST)
    most = cpu.max_vcpus or cpu.vcpus
    if most < cpu.vcpus:
        raise refusal("max_vcpus", f"{cpu.max_vcpus} is less than the {cpu.vcpus} that are plugged in.")
    shape = (cpu.sockets, cpu.cores, cpu.threads)
    for name, value in zip(("sockets", "cores", "threads"), shape, strict=True):
        _between(name, value, 0, _VCPUS_MOST)
    if any(shape) and not all(shape):
        raise refusal("sockets", "sockets, cores and threads are given together, or none of them.")
    _word("mode", cpu.mode)
    _word("model", cpu.model)
    if cpu.model and cpu.mode != "custom":
        raise refusal("model", "it goes with the mode custom.")
    if cpu.mode == "custom" and not cpu.model:
        raise refusal("model", "the mode custom needs the name of a model.")
    if any(not 0 <= vcpu < _VCPUS_MOST for vcpu in cpu.pins):
        raise refusal("pins", "there is no vCPU of that number.")
    return dataclasses.replace(
        cpu,
        pins={vcpu: _ranges("pins", place) for vcpu, place in sorted(cpu.pins.items()) if place},
        emulator_pins=_ranges("emulator_pins", cpu.emulator_pins),
        nodes=_nodes(cpu),
        memory_nodes=_ranges("memory_nodes", cpu.memory_nodes),
        memory_mode=_memory_mode(cpu),
    )


def _memory_mode(cpu: CpuHardware) -> str:
    if cpu.memory_mode and cpu.memory_mode not in _MEMORY_MODES:
        raise refusal("memory_mode", f"one of {', '.join(_MEMORY_MODES)}.")
    return (cpu.memory_mode or "strict") if cpu.memory_nodes else ""


def _nodes(cpu: CpuHardware) -> tuple[NumaNode, ...]:
    taken: set[int] = set()
    found = []
    for number, node in enumerate(cpu.nodes):
        _between(f"nodes[{number}].memory_bytes", node.memory_bytes, 1 << 20, _MEMORY_MOST)
        cpus = _ranges(f"nodes[{number}].cpus", node.cpus)
        members = ranges.parse(cpus) if cpus else frozenset()
        if members & taken:
            raise refusal(f"nodes[{number}].cpus", "a vCPU is in one node only.")
        if members and max(members) >= (cpu.max_vcpus or cpu.vcpus):
            raise refusal(f"nodes[{number}].cpus", f"there is no vCPU {max(members)}; they count from 0.")
        taken |= members
        found.append(dataclasses.replace(node, cpus=cpus, memory_bytes=node.memory_bytes // 1024 * 1024))
    return tuple(found)


def _memory(memory: MemoryHardware) -> MemoryHardware:
    _between("memory_bytes", memory.memory_bytes, 1 << 20, _MEMORY_MOST)
    _between("max_memory_bytes", memory.max_memory_bytes, 0, _MEMORY_MOST)
    if memory.max_memory_bytes and memory.max_memory_bytes < memory.memory_bytes:
        raise refusal("max_memory_bytes", "less than what it has.")
    return dataclasses.replace(
        memory,
        memory_bytes=memory.memory_bytes // 1024 * 1024,
        max_memory_bytes=memory.max_memory_bytes // 1024 * 1024,
    )


# -- disks and interfaces -----------------------------------------------------------------------------------------------------
def _disk(disk: DiskHardware) -> DiskHardware:
    if disk.target and not _TARGET.fullmatch(disk.target):
        raise refusal("target", "two or three letters of its bus and one to three of its own, such as vda or sdb.")
    _one_of("device", disk.device, _DEVICES)
    path_on_host("path", disk.path)
    if not disk.path and disk.device not in ("cdrom", "floppy"):
        raise refusal("path", "only a CD-ROM or floppy drive can be empty.")
    for name in ("bus", "format", "io", "discard"):
        _word(name, getattr(disk, name))
    _one_of("cache", disk.cache, ("", *_CACHES))
    if disk.serial and not _SERIAL.fullmatch(disk.serial):
        raise refusal("serial", "up to 36 letters, digits, spaces and _ . + -")
    _between("boot_order", disk.boot_order, 0, 10_000)
    if disk.io == "native" and disk.cache not in ("none", "directsync"):
        raise refusal("io", "native goes with the cache none or directsync.")
    limits = dataclasses.asdict(disk.limits)
    for name, value in limits.items():
        _between(f"limits.{name}", value, 0, _LIMIT_MOST)
    for what in ("bytes", "requests"):
        if limits[f"total_{what}_per_second"] and (
            limits[f"read_{what}_per_second"] or limits[f"write_{what}_per_second"]
        ):
            raise refusal(
                f"limits.total_{what}_per_second",
                "a limit of all traffic and one of reading or writing exclude each other.",
            )
    return dataclasses.replace(disk, readonly=disk.readonly or disk.device == "cdrom")


def path_on_host(field: str, path: str) -> None:
    """Raises InvalidDefinition for what is no absolute path, but for the words that stand for storage without paths."""
    if not path:
        return
    if path.startswith("/"):
        if len(path.encode(errors="replace")) > _PATH_MOST or not path.isprintable() or ".." in path.split("/"):
            raise refusal(field, "an absolute path on the host, without .. and control characters.")
    elif not _ELSEWHERE.fullmatch(path) or ".." in path.split("/"):
        raise refusal(field, "a path on the host begins with a slash.")


def _nic(nic: NicHardware) -> NicHardware:
    mac = nic.mac.lower()
    if mac and not _MAC.fullmatch(mac):
        raise refusal("mac", "six pairs of hexadecimal digits that name one interface, such as 52:54:00:12:34:56.")
    for name in ("network", "filter"):
        _name(name, getattr(nic, name))
    for name in ("bridge", "direct"):
        if getattr(nic, name) and not _INTERFACE.fullmatch(getattr(nic, name)):
            raise refusal(name, "the name of an interface of the host has 1 to 15 letters, digits and - _ . : @")
    if sum(map(bool, (nic.network, nic.bridge, nic.direct))) > 1:
        raise refusal("network", "it is on a network, on a bridge, or on an interface of the host: one of the three.")
    _one_of("direct_mode", nic.direct_mode, ("", *_DIRECT_MODES))
    _word("model", nic.model)
    _one_of("link", nic.link, ("up", "down"))
    for name in ("inbound_bytes_per_second", "outbound_bytes_per_second"):
        value = getattr(nic, name)
        _between(name, value, 0, _AVERAGE_MOST)
        if 0 < value < 1024:
            raise refusal(name, "1024 bytes a second at least.")
    _between("vlan", nic.vlan, 0, 4094)
    _between("boot_order", nic.boot_order, 0, 10_000)
    return dataclasses.replace(
        nic,
        mac=mac,
        direct_mode=(nic.direct_mode or "bridge") if nic.direct else "",
        inbound_bytes_per_second=nic.inbound_bytes_per_second // 1024 * 1024,
        outbound_bytes_per_second=nic.outbound_bytes_per_second // 1024 * 1024,
    )


# -- the rest ------------------------------------------------------------------------------------------------------------------
def _display(display: DisplayHardware) -> DisplayHardware:
    _word("type", display.type)
    _word("video", display.video)
    if not display.type:
        raise refusal("type", "vnc or spice.")
    if display.listen in ("", "socket", "none"):
        return display
    try:
        ipaddress.ip_address(display.listen)
    except ValueError:
        raise refusal("listen", "an IP address of the host, socket, or none.") from None
    return display


def _simple(device: SimpleHardware) -> SimpleHardware:
    _one_of("kind", device.kind, _KINDS)
    _word("model", device.model)
    _between("number", device.number, 0, 63)
    if device.kind == "watchdog":
        _one_of("action", device.action, ("", *_ACTIONS))
        return dataclasses.replace(device, action=device.action or "reset")
    if device.action:
        raise refusal("action", "only a watchdog has one.")
    return device


def _host_device(device: HostDeviceHardware) -> HostDeviceHardware:
    _one_of("kind", device.kind, ("pci", "usb"))
    address = device.address.lower()
    if not (_PCI if device.kind == "pci" else _USB).fullmatch(address):
        example = "0000:01:00.0" if device.kind == "pci" else "046d:c52b, or 001:004 for bus and device"
        raise refusal("address", f"such as {example}.")
    _between("boot_order", device.boot_order, 0, 10_000)
    return dataclasses.replace(device, address=address)


def _boot(boot: BootHardware) -> BootHardware:
    if len(set(boot.order)) != len(boot.order):
        raise refusal("order", "each device once.")
    words = [one for one in boot.order if one in BOOT_WORDS]
    if words and len(words) != len(boot.order):
        raise refusal("order", f"devices by their keys, or {', '.join(BOOT_WORDS)}: not both.")
    return boot


# -- what is offered -----------------------------------------------------------------------------------------------------------
def refuse_not_offered(device: Device, options: HardwareOptions, now: Device | None = None) -> None:
    """Raises Unsupported for words of `device` that are not offered; what it has already (`now`) is not asked again."""
    if isinstance(device, DiskHardware):
        drive = device.device in ("cdrom", "floppy")
        _offered(
            device, now, "bus", options.cdrom_buses if device.device == "cdrom" else options.disk_buses, any_=drive
        )
        _offered(device, now, "cache", options.disk_caches)
    elif isinstance(device, NicHardware):
        _offered(device, now, "model", options.nic_models)
    elif isinstance(device, DisplayHardware):
        _offered(device, now, "type", options.displays)
        _offered(device, now, "video", options.videos)
    elif isinstance(device, CpuHardware):
        _offered(device, now, "mode", options.cpu_modes)
        _offered(device, now, "model", options.cpu_models)
        most = max(device.vcpus, device.max_vcpus)
        if options.max_vcpus and most > options.max_vcpus:
            raise lacking("max_vcpus", f"at most {options.max_vcpus} in one guest here.")
    elif isinstance(device, SimpleHardware):
        if device.kind not in options.kinds and now is None:
            there = ", ".join(sorted(options.kinds)) or "none"
            why = " (swtpm is not installed on the host)" if device.kind == "tpm" and options.kinds else ""
            raise lacking("kind", f"this guest can be given no {device.kind} here{why}; it can have {there}.")
        _offered(device, now, "model", options.kinds.get(device.kind, ()), any_=device.kind == "serial")


def _offered(device: Device, now: Device | None, field: str, words: Collection[str], *, any_: bool = False) -> None:
    wished = getattr(device, field)
    if not wished or wished in words or (now is not None and getattr(now, field) == wished) or (any_ and not words):
        return
    raise lacking(field, f"{wished} is not there for this guest; there is {', '.join(words) or 'none'}.")


# -- kinds of values -----------------------------------------------------------------------------------------------------------
def _between(field: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise refusal(field, f"between {least} and {most}.")


def _one_of(field: str, value: str, words: Iterable[str]) -> None:
    if value not in words:
        raise refusal(field, f"one of {', '.join(word for word in words if word)}.")


def _word(field: str, value: str) -> None:
    if value and not _WORD.fullmatch(value):
        raise refusal(field, "a word of letters, digits and _ . + -")


def _name(field: str, value: str) -> None:
    if value and (not value.isprintable() or "/" in value or len(value.encode(errors="replace")) > _NAME_MOST):
        raise refusal(field, f"a name has 1 to {_NAME_MOST} bytes, no slash and nothing that cannot be printed.")


def _ranges(field: str, value: str) -> str:
    if not value:
        return ""
    try:
        return ranges.text(ranges.parse(value))
    except ValueError:
        raise refusal(field, "CPUs as ranges, such as 0-3,8.") from None
