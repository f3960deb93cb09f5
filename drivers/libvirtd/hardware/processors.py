"""Processors and memory, written into a definition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers.libvirtd.hardware import check, read, write
from drivers.libvirtd.hardware.read import KIB
from drivers.libvirtd.xml.devices import MemoryBalloon
from drivers.libvirtd.xml.domain import Cpu, CpuPin, NumaCell
from drivers.libvirtd.xml.element import remove

if TYPE_CHECKING:
    from drivers.libvirtd.xml.domain import Domain
    from drivers.types import CpuHardware, MemoryHardware

BALLOON_SECONDS: Final = 5


def change(domain: Domain, wished: CpuHardware) -> bool:
    """False where it is so already. Raises InvalidDefinition."""
    now = read.cpu(domain)
    most = wished.max_vcpus or max(now.max_vcpus, wished.vcpus)
    _refuse_crooked(wished, most)
    before = domain.to_xml()
    if (wished.vcpus, most) != (now.vcpus, now.max_vcpus):
        domain.vcpus = most
        domain.current_vcpus = wished.vcpus if wished.vcpus != most else None
        write.drop(domain.node, "vcpus")  # which of them were plugged in by hand, and in what order
    shape = domain.cpu
    if shape is None:
        shape = Cpu()
    _shape(shape, wished, now)
    if domain.cpu is None and (shape.node.attrib or len(shape.node)):
        domain.cpu = shape
    if wished.nodes != now.nodes:
        _memory_of_nodes(domain, wished)
    if dict(wished.pins) != dict(now.pins):
        _pins(domain, wished)
    if wished.emulator_pins != now.emulator_pins:
        domain.emulator_pins = wished.emulator_pins or None
    tuned = domain.node.find("cputune")
    if tuned is not None and not len(tuned):
        remove(tuned)
    if (wished.memory_nodes, wished.memory_mode) != (now.memory_nodes, now.memory_mode):
        domain.memory_nodes = wished.memory_nodes or None
        domain.memory_mode = wished.memory_mode or None
    return domain.to_xml() != before


def _refuse_crooked(wished: CpuHardware, most: int) -> None:
    shape = wished.sockets * wished.cores * wished.threads
    if shape and shape != most:
        raise check.refusal(
            "sockets",
            f"{wished.sockets} x {wished.cores} x {wished.threads} is {shape}, and the guest has at most {most} vCPUs.",
        )
    beyond = [vcpu for vcpu in wished.pins if vcpu >= most]
    if beyond:
        raise check.refusal("pins", f"there is no vCPU {beyond[0]}; they count from 0.")


def _shape(shape: Cpu, wished: CpuHardware, now: CpuHardware) -> None:
    topology = (wished.sockets, wished.cores, wished.threads)
    if topology != (now.sockets, now.cores, now.threads):
        write.drop(shape.node, "topology")
        if all(topology):
            shape.sockets, shape.cores, shape.threads = topology
    if (wished.mode, wished.model) != (now.mode, now.model):
        _mode(shape, wished)
    if wished.nodes != now.nodes:
        write.drop(shape.node, "numa")
        for number, node in enumerate(wished.nodes):
            shape.cells.add(NumaCell(id=number, cpus=node.cpus or None, memory=node.memory_bytes // KIB, unit="KiB"))


def _mode(shape: Cpu, wished: CpuHardware) -> None:
    """What was switched on and off belongs to the old model; but what the host cannot give stays off."""
    for feature in list(shape.features):
        if feature.policy not in ("disable", "forbid") or wished.mode in ("custom", ""):
            shape.features.remove(feature)
    for name in ("match", "check", "migratable"):
        shape.node.attrib.pop(name, None)
    write.drop(shape.node, "model")
    shape.mode = wished.mode or None
    if wished.mode == "custom":
        shape.match, shape.model, shape.fallback = "exact", wished.model, "forbid"


def _memory_of_nodes(domain: Domain, wished: CpuHardware) -> None:
    """The memory of the nodes is the guest's, whatever stands beside (libvirt counts so)."""
    if not wished.nodes:
        return
    total = sum(node.memory_bytes for node in wished.nodes)
    full = domain.current_memory_bytes in (None, domain.memory_bytes)
    domain.memory_bytes = total
    if full or (domain.current_memory_bytes or 0) > total:
        domain.current_memory_bytes = total


def _pins(domain: Domain, wished: CpuHardware) -> None:
    for pin in list(domain.pins):
        domain.pins.remove(pin)
    for vcpu, place in sorted(wished.pins.items()):
        domain.pins.add(CpuPin(vcpu=vcpu, cpuset=place))


def change_memory(domain: Domain, wished: MemoryHardware) -> bool:
    """False where it is so already. Raises InvalidDefinition."""
    now = read.memory(domain)
    most = wished.max_memory_bytes or max(now.max_memory_bytes, wished.memory_bytes)
    if (most, wished.memory_bytes, wished.balloon) == (now.max_memory_bytes, now.memory_bytes, now.balloon):
        return False
    if most != now.max_memory_bytes:
        if domain.cpu is not None and len(domain.cpu.cells):
            raise check.refusal(
                "max_memory_bytes", "the guest's memory is that of its NUMA nodes together; change it in them."
            )
        domain.memory_bytes = most
    domain.current_memory_bytes = wished.memory_bytes
    if wished.balloon != now.balloon:
        domain.balloon = (
            MemoryBalloon(model="virtio", stats_period_seconds=BALLOON_SECONDS)
            if wished.balloon
            else MemoryBalloon(model="none")
        )
    return True
