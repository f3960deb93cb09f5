"""Hardware of a guest that runs, changed by libvirt's device calls.

Each function is done when it returns, or raises and has changed nothing; where it cannot promise that, the sentence says what became of it.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Final

import libvirt

from drivers.errors import AlreadyExists, InvalidDefinition, NotFound, Timeout, Unsupported
from drivers.libvirtd.errors import driver_error
from drivers.libvirtd.hardware import check, edit, ports, ranges, read, write
from drivers.libvirtd.hardware.compare import covers, differing, says
from drivers.libvirtd.xml.devices import Controller, Disk, Interface
from drivers.libvirtd.xml.domain import Domain
from drivers.libvirtd.xml.element import to_str
from drivers.types import (
    BootHardware,
    CpuHardware,
    DiskHardware,
    HostDeviceHardware,
    MemoryHardware,
    NicHardware,
    SimpleHardware,
)

if TYPE_CHECKING:
    from drivers.libvirtd.hardware.traits import Traits
    from drivers.types import Device, HardwareOptions

LIVE: Final = libvirt.VIR_DOMAIN_AFFECT_LIVE
DETACH_SECONDS: Final = 5.0
"""Waited after libvirt's own wait (5 s, measured), which it ends without a word."""
_POLL_SECONDS: Final = 0.1
_NEXT_START: Final = (
    "it takes effect at the guest's next start: change it there only, then shut the guest down and start it."
)
_NODESET: Final = "numa_nodeset"
"""libvirt's VIR_DOMAIN_NUMA_NODESET."""
_CPU_LIVE: Final = {"vcpus", "pins", "emulator_pins", "memory_nodes", "memory_mode"}
_NIC_LIVE: Final = {
    "network",
    "bridge",
    "direct",
    "direct_mode",
    "link",
    "inbound_bytes_per_second",
    "outbound_bytes_per_second",
    "filter",
    "vlan",
}


def document(domain: libvirt.virDomain) -> Domain:
    """What runs, read now."""
    return Domain.parse(domain.XMLDesc(0))


# -- put in ------------------------------------------------------------------------------------------------------------------
def attach(domain: libvirt.virDomain, device: Device, traits: Traits, options: HardwareOptions) -> None:
    """Plug a named device in. Raises AlreadyExists, Unsupported, InvalidDefinition."""
    here = document(domain)
    there = read.hardware(here).devices.get(device.key)
    if there is not None:
        if covers(there, _without_order(device)):
            return
        raise AlreadyExists(f"The running guest has another {device.key} already.", key=device.key)
    why = why_not_plugged(device, traits, here)
    if why:
        raise Unsupported(why, feature="hardware", key=device.key)
    check.refuse_not_offered(device, options)
    added = ""
    if isinstance(device, DiskHardware) and device.bus == "scsi" and edit.scsi_controller(here) is not None:
        domain.attachDeviceFlags(Controller(type="scsi", model="virtio-scsi").to_xml(), LIVE)
        added = " The SCSI controller that it needs was added, and stays."
    made = edit.element(_without_order(device), traits, options)
    try:
        domain.attachDeviceFlags(made.to_xml(), LIVE)
    except libvirt.libvirtError as error:
        if not added:
            raise
        why_not = driver_error(error)
        raise type(why_not)(why_not.detail + added, **why_not.context) from error


def _without_order(device: Device) -> Device:
    """A place in the order of booting is looked at when a guest starts, and some drivers refuse it later."""
    if isinstance(device, (DiskHardware, NicHardware, HostDeviceHardware)):
        return dataclasses.replace(device, boot_order=0)
    return device


def why_not_plugged(device: Device, traits: Traits, here: Domain) -> str:
    """Why a running guest cannot be given this device, as a sentence; "" where it can."""
    port = False
    if isinstance(device, DiskHardware):
        if device.device not in ("disk", "lun"):
            return f"A {device.device} drive can be added to a guest that is off only; add it for the next start."
        if device.bus not in traits.plugs:
            plugs = ", ".join(traits.plugs) or "no bus"
            return f"A disk on the {device.bus} bus cannot be plugged into a guest that runs; {plugs} can, or add it for the next start."
        port = device.bus == "virtio" or (
            device.bus == "scsi" and not any(one.type == "scsi" for one in here.controllers)
        )
    elif isinstance(device, NicHardware):
        port = True
    elif isinstance(device, HostDeviceHardware):
        port = device.kind == "pci"
    elif isinstance(device, SimpleHardware):
        if device.kind not in traits.small:
            return f"A {device.kind} cannot be plugged into a guest that runs; add it for the next start."
        port = device.kind in ("rng", "watchdog")
    else:
        return f"The {device.key} of a guest cannot be added while it runs; add it for the next start."
    if port and ports.free(here) == 0:
        scsi = isinstance(device, DiskHardware) and any(one.type == "scsi" for one in here.controllers)
        return ports.NO_PORT.format(instead=", or take the bus scsi" if scsi else "")
    return ""


# -- take out ----------------------------------------------------------------------------------------------------------------
def detach(domain: libvirt.virDomain, key: str, traits: Traits) -> None:
    """Unplug. Waits for the guest to let go: 10 s. Raises Timeout, Unsupported."""
    found = read.find(document(domain), key)
    if found is None:
        return
    node, device = found
    why = why_not_unplugged(device, traits)
    if why:
        raise Unsupported(why, feature="hardware", key=key)
    try:
        domain.detachDeviceFlags(to_str(node), LIVE)
    except libvirt.libvirtError as error:
        if not isinstance(driver_error(error), NotFound):
            raise
    deadline = time.monotonic() + DETACH_SECONDS
    while read.find(document(domain), key) is not None:
        if time.monotonic() > deadline:
            message = (
                f"The guest does not let go of {key}: its system is not up, or uses the device. It goes when the guest lets go of it; "
                "take it away for the next start otherwise, and shut the guest down."
            )
            raise Timeout(message, key=key)
        time.sleep(_POLL_SECONDS)


def why_not_unplugged(device: Device, traits: Traits) -> str:
    """Why a running guest cannot be without this device, as a sentence; "" where it can."""
    if isinstance(device, DiskHardware):
        possible = device.bus in traits.plugs and device.device in ("disk", "lun")
    elif isinstance(device, SimpleHardware):
        possible = device.kind in traits.small
    else:
        possible = isinstance(device, (NicHardware, HostDeviceHardware))
    if possible:
        return ""
    return f"{device.key} cannot be taken from a guest that runs; take it away for the next start."


# -- change --------------------------------------------------------------------------------------------------------------------
def change(
    domain: libvirt.virDomain,
    device: Device,
    traits: Traits,
    *,
    everywhere: frozenset[int],
    defined: Device | None = None,
) -> None:
    """Change what runs. Raises NotFound, Unsupported (naming the field), InvalidDefinition, Timeout.

    `defined` is what the guest will have at its next start: where `device` says the same and it cannot be while it runs, it is pending
    already, and not asked for anew.
    """
    here = document(domain)
    now = read.hardware(here, everywhere=everywhere).devices.get(device.key)
    if now is None:
        raise NotFound(f"The running guest has no {device.key}.", key=device.key)
    fields = differing(device, now)
    pending = set() if defined is None else fields - differing(device, defined)
    if isinstance(device, CpuHardware) and isinstance(now, CpuHardware):
        _refuse_but(fields, pending | (_CPU_LIVE if traits.pins else {"vcpus"}), device)
        _change_cpu(domain, device, now, everywhere)
    elif isinstance(device, MemoryHardware) and isinstance(now, MemoryHardware):
        _refuse_but(fields, pending | {"memory_bytes"}, device)
        _change_memory(domain, device, now)
    elif isinstance(device, DiskHardware) and isinstance(now, DiskHardware):
        possible = {"limits"} if traits.retunes else set()
        if device.device in ("cdrom", "floppy"):
            possible |= {"path", "format"}
        _refuse_but(fields, pending | possible, device)
        _change_disk(domain, here, device, now, possible)
    elif isinstance(device, NicHardware) and isinstance(now, NicHardware):
        _refuse_but(fields, pending | (_NIC_LIVE if traits.changes_interfaces else set()), device)
        _change_nic(domain, here, device, now)
    elif fields:
        _refuse_but(fields, pending, device)


def _refuse_but(fields: set[str], possible: set[str], device: Device) -> None:
    """What is not said (empty) is left as it runs; but yes and no are always said, and so is an order."""
    impossible = sorted(
        name for name in fields - possible if says(getattr(device, name)) or isinstance(device, BootHardware)
    )
    if impossible:
        raise Unsupported(f"{impossible[0]}: {_NEXT_START}", feature="hardware", key=device.key, field=impossible[0])


def _change_cpu(domain: libvirt.virDomain, wished: CpuHardware, now: CpuHardware, everywhere: frozenset[int]) -> None:
    if wished.vcpus > now.max_vcpus:
        raise check.lacking("vcpus", f"at most {now.max_vcpus} while it runs; {_NEXT_START}")
    if wished.memory_nodes != now.memory_nodes and not wished.memory_nodes:
        raise check.lacking("memory_nodes", f"memory that was bound cannot be let free while it runs; {_NEXT_START}")
    if wished.memory_nodes and wished.memory_mode != (now.memory_mode or "strict"):
        raise check.lacking("memory_mode", _NEXT_START)
    pinned = dict(wished.pins)
    moved = {
        vcpu: _map(pinned.get(vcpu, ""), everywhere)
        for vcpu in sorted({*pinned, *now.pins})
        if pinned.get(vcpu, "") != now.pins.get(vcpu, "") and vcpu < now.max_vcpus
    }
    emulator = _map(wished.emulator_pins, everywhere)
    if wished.vcpus != now.vcpus:
        domain.setVcpusFlags(wished.vcpus, LIVE)
    for vcpu, place in moved.items():
        domain.pinVcpuFlags(vcpu, place, LIVE)
    if wished.emulator_pins != now.emulator_pins:
        domain.pinEmulator(emulator, LIVE)
    if wished.memory_nodes != now.memory_nodes:
        domain.setNumaParameters({_NODESET: wished.memory_nodes}, LIVE)


def _map(place: str, everywhere: frozenset[int]) -> tuple[bool, ...]:
    """For libvirt: a place for each CPU of the host. No pin is a pin to all of them. Raises InvalidDefinition."""
    wanted = ranges.parse(place) if place else everywhere
    if not wanted <= everywhere:
        raise check.refusal("pins", f"the host has the CPUs {ranges.text(everywhere)}.")
    return tuple(cpu in wanted for cpu in range(max(everywhere) + 1))


def _change_memory(domain: libvirt.virDomain, wished: MemoryHardware, now: MemoryHardware) -> None:
    if wished.memory_bytes == now.memory_bytes:
        return
    if wished.memory_bytes > now.max_memory_bytes:
        raise check.lacking("memory_bytes", f"at most {now.max_memory_bytes} bytes while it runs; {_NEXT_START}")
    if not now.balloon:
        raise check.lacking("memory_bytes", f"the guest has no balloon; {_NEXT_START}")
    domain.setMemoryFlags(wished.memory_bytes // read.KIB, LIVE)


def _change_disk(
    domain: libvirt.virDomain, here: Domain, wished: DiskHardware, now: DiskHardware, possible: set[str]
) -> None:
    if wished.limits != now.limits and "limits" in possible:
        domain.setBlockIoTune(wished.target, write.tuning(wished.limits), LIVE)
    if wished.path != now.path and "path" in possible:
        found = read.find(here, wished.key)
        if found is None:
            raise NotFound(f"The running guest has no {wished.key}.", key=wished.key)
        element = Disk(found[0])
        write.source(element, wished.path)
        if wished.format:
            element.format = wished.format
        domain.updateDeviceFlags(element.to_xml(), LIVE)


def _change_nic(domain: libvirt.virDomain, here: Domain, wished: NicHardware, now: NicHardware) -> None:
    found = read.find(here, wished.key)
    wished = dataclasses.replace(wished, model=now.model, boot_order=now.boot_order)
    if found is None or wished == now:
        return
    element = Interface(found[0])
    write.nic(element, wished, now)
    domain.updateDeviceFlags(element.to_xml(), LIVE)


def resize(domain: libvirt.virDomain, target: str, capacity_bytes: int) -> None:
    """Grow a disk. Raises NotFound, InvalidDefinition for less than it has."""
    found = read.find(document(domain), f"disk/{target}")
    if found is None:
        raise NotFound(f"The running guest has no disk/{target}.", key=f"disk/{target}")
    device = found[1]
    if isinstance(device, DiskHardware) and device.readonly:
        raise InvalidDefinition(f"disk/{target} is read-only; it cannot grow.", key=device.key)
    has = domain.blockInfo(target, 0)[0]
    if capacity_bytes < has:
        raise check.refusal("capacity_bytes", f"the disk has {has} bytes, and cannot shrink.")
    if capacity_bytes > has:
        domain.blockResize(target, capacity_bytes, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
