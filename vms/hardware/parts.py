"""What every guest has one of: processors, memory, and the order in which it boots."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from core.errors import BadInput
from drivers.types import BootHardware, CpuHardware, MemoryHardware, NumaNode
from vms.creation.spec import MEMORY_BYTES_MAX, MEMORY_BYTES_MIN, VCPUS_MAX, Word
from vms.hardware.change import HardwareAction, HardwareParams, hardware_action

if TYPE_CHECKING:
    from drivers.types import Device
    from vms.hardware.change import Work

CPU_NUMBER_MAX: Final = 4095
BOOT_WORDS: Final = ("hd", "cdrom", "network", "fd")
_RANGES: Final = re.compile(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*")
_KEY: Final = re.compile(r"(disk|nic|pci|usb)/[A-Za-z0-9:._-]{1,60}")


def numbers_of(text: str) -> set[int]:
    """`0-3,8` as numbers. Raises ValueError."""
    if not _RANGES.fullmatch(text):
        raise ValueError("ranges of numbers, as 0-3,8")
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        start, end = int(first), int(last or first)
        if start > end or end > CPU_NUMBER_MAX:
            raise ValueError(f"ranges of numbers up to {CPU_NUMBER_MAX}, the lower one first")
        found.update(range(start, end + 1))
    return found


def _ranges(text: str) -> str:
    if text:
        numbers_of(text)
    return text


Ranges = Annotated[str, StringConstraints(max_length=200), AfterValidator(_ranges)]
Vcpus = Annotated[int, Field(ge=1, le=VCPUS_MAX)]
Topology = Annotated[int, Field(ge=0, le=VCPUS_MAX)]
Bytes = Annotated[int, Field(ge=MEMORY_BYTES_MIN, le=MEMORY_BYTES_MAX)]


class Part(BaseModel):
    """Of a change: what is not said stays as it is."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @property
    def said(self) -> dict[str, Any]:
        """Field → value of those that are said."""
        return {name: getattr(self, name) for name in self.model_fields_set if getattr(self, name) is not None}


class NumaNodeIn(Part):
    """A NUMA node that the guest sees."""

    cpus: Ranges = Field(description="Of its vCPUs.", examples=["0-1"])
    memory_bytes: Bytes


class CpuChange(Part):
    """Processors."""

    vcpus: Vcpus | None = None
    max_vcpus: Vcpus | None = Field(None, description="As many may be plugged in while it runs.")
    sockets: Topology | None = Field(
        None, description="With `cores` and `threads`: their product is `max_vcpus`; 0: not said."
    )
    cores: Topology | None = None
    threads: Topology | None = None
    mode: Word | None = Field(None, description="`host-passthrough`, `host-model`, `maximum`, `custom`.")
    model: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._+-]{0,64}$")] | None = Field(
        None, description="With `custom`: its name."
    )
    pins: dict[Annotated[str, StringConstraints(pattern=r"^\d{1,4}$")], Ranges] | None = Field(
        None, description="Number of a vCPU → CPUs of the host that it may run on; {} for all.", max_length=VCPUS_MAX
    )
    emulator_pins: Ranges | None = None
    nodes: Annotated[list[NumaNodeIn], Field(max_length=64)] | None = Field(
        None, description="NUMA nodes that it sees."
    )
    memory_nodes: Ranges | None = Field(None, description="NUMA nodes of the host that its memory comes from.")
    memory_mode: Literal["", "strict", "preferred", "interleave"] | None = None

    @model_validator(mode="after")
    def _whole(self) -> CpuChange:
        if not self.said:
            raise ValueError("nothing is to be changed")
        if self.vcpus and self.max_vcpus and self.vcpus > self.max_vcpus:
            raise ValueError("vcpus is more than max_vcpus")
        topology = [self.sockets, self.cores, self.threads]
        if any(one is not None for one in topology):
            if None in topology:
                raise ValueError("sockets, cores and threads are said together")
            if any(topology) and not all(topology):
                raise ValueError("sockets, cores and threads are all 0, or none is")
        return self

    def of(self, cpu: CpuHardware) -> CpuHardware:
        """The processors that come of these. Raises BadInput where they do not fit together."""
        said = dict(self.said)
        if "pins" in said:
            said["pins"] = {int(number): where for number, where in said["pins"].items() if where}
        if "nodes" in said:
            said["nodes"] = tuple(NumaNode(cpus=one.cpus, memory_bytes=one.memory_bytes) for one in said["nodes"])
        if "mode" in said and said["mode"] != "custom" and "model" not in said:
            said["model"] = ""
        new = _with_room(dataclasses.replace(cpu, **said), said)
        return _with_fitting_pins(_with_fitting_topology(new, said), said)


def _most(cpu: CpuHardware) -> int:
    return max(cpu.max_vcpus, cpu.vcpus)


def _with_room(cpu: CpuHardware, said: dict[str, Any]) -> CpuHardware:
    """Room grows with the vCPUs; where the room is what was said, they are no more than that."""
    if "max_vcpus" in said and cpu.vcpus > cpu.max_vcpus:
        return dataclasses.replace(cpu, vcpus=cpu.max_vcpus)
    return dataclasses.replace(cpu, max_vcpus=_most(cpu)) if cpu.max_vcpus else cpu


def _with_fitting_topology(cpu: CpuHardware, said: dict[str, Any]) -> CpuHardware:
    """One that no longer fits is left to the hypervisor; one that was said must fit."""
    if not cpu.sockets or cpu.sockets * cpu.cores * cpu.threads == _most(cpu):
        return cpu
    if "sockets" in said:
        detail = f"{cpu.sockets} x {cpu.cores} x {cpu.threads} is not {_most(cpu)}, the most vCPUs that it may have"
        raise _wrong("/cpu/sockets", detail)
    return dataclasses.replace(cpu, sockets=0, cores=0, threads=0)


def _with_fitting_pins(cpu: CpuHardware, said: dict[str, Any]) -> CpuHardware:
    """Likewise."""
    if all(number < _most(cpu) for number in cpu.pins):
        return cpu
    if "pins" in said:
        raise _wrong("/cpu/pins", f"it has the vCPUs 0 to {_most(cpu) - 1}")
    return dataclasses.replace(cpu, pins={number: at for number, at in cpu.pins.items() if number < _most(cpu)})


class MemoryChange(Part):
    """Memory."""

    memory_bytes: Bytes | None = None
    max_memory_bytes: Bytes | None = Field(
        None, description="What it may grow to while it runs. Grows with `memory_bytes`; never shrinks by itself."
    )
    balloon: bool | None = Field(None, description="Whether its memory can be changed while it runs.")

    @model_validator(mode="after")
    def _whole(self) -> MemoryChange:
        if not self.said:
            raise ValueError("nothing is to be changed")
        if self.memory_bytes and self.max_memory_bytes and self.memory_bytes > self.max_memory_bytes:
            raise ValueError("memory_bytes is more than max_memory_bytes")
        return self

    def of(self, memory: MemoryHardware) -> MemoryHardware:
        """The memory that comes of it."""
        new = dataclasses.replace(memory, **self.said)
        if "max_memory_bytes" in self.said and new.memory_bytes > new.max_memory_bytes:
            return dataclasses.replace(new, memory_bytes=new.max_memory_bytes)
        return dataclasses.replace(new, max_memory_bytes=max(new.max_memory_bytes, new.memory_bytes))


def _boot_entry(text: str) -> str:
    if text not in BOOT_WORDS and not _KEY.fullmatch(text):
        raise ValueError(f"the key of a device, as disk/vda, or one of {', '.join(BOOT_WORDS)}")
    return text


class BootChange(Part):
    """What it boots from."""

    order: (
        Annotated[
            list[Annotated[str, StringConstraints(max_length=70), AfterValidator(_boot_entry)]], Field(max_length=32)
        ]
        | None
    ) = Field(
        None,
        description="The first one first: keys of its devices (`disk/vda`, `nic/52:54:…`), or `hd cdrom network fd`.",
    )
    menu: bool | None = Field(None, description="Whether a menu is offered at its start.")

    @model_validator(mode="after")
    def _whole(self) -> BootChange:
        if not self.said:
            raise ValueError("nothing is to be changed")
        if self.order is not None:
            if len(set(self.order)) != len(self.order):
                raise ValueError("order: one of them stands there twice")
            if len({one in BOOT_WORDS for one in self.order}) > 1:
                raise ValueError("order: either keys of devices, or words")
        return self

    def of(self, boot: BootHardware) -> BootHardware:
        """The order that comes of it."""
        order = boot.order if self.order is None else tuple(self.order)
        return dataclasses.replace(boot, order=order, menu=boot.menu if self.menu is None else self.menu)


def _wrong(where: str, detail: str) -> BadInput:
    return BadInput(f"{where.strip('/').replace('/', '.')}: {detail}.", errors=[{"pointer": where, "detail": detail}])


# -- what a worker does ------------------------------------------------------------------------------------------------
class CpuParams(HardwareParams):
    """What of them."""

    cpu: CpuChange


@hardware_action
class ChangeCpu(HardwareAction):
    """Processors: how many, what kind, and where they run."""

    kind = "vm.cpu"
    title = "Change processors"
    params = CpuParams

    def change(self, work: Work, params: CpuParams) -> str:
        """Bring them to what is wished."""

        def wished(old: Device | None) -> Device:
            assert isinstance(old, CpuHardware)  # noqa: S101 - every guest has some
            return params.cpu.of(old)

        work.bring("cpu", wished)
        return "cpu"


class MemoryParams(HardwareParams):
    """What of it."""

    memory: MemoryChange


@hardware_action
class ChangeMemory(HardwareAction):
    """Memory: what it has, and what it may grow to."""

    kind = "vm.memory"
    title = "Change memory"
    params = MemoryParams

    def change(self, work: Work, params: MemoryParams) -> str:
        """Bring it to what is wished."""

        def wished(old: Device | None) -> Device:
            assert isinstance(old, MemoryHardware)  # noqa: S101 - every guest has some
            return params.memory.of(old)

        work.bring("memory", wished)
        return "memory"


class BootParams(HardwareParams):
    """Which order."""

    boot: BootChange


@hardware_action
class ChangeBoot(HardwareAction):
    """What it boots from: at its next start, whatever it does now."""

    kind = "vm.boot-order"
    title = "Change boot order"
    params = BootParams

    def change(self, work: Work, params: BootParams) -> str:
        """Bring it to what is wished; what it names must be there."""
        there = {key for one in work.both for key in one.devices}
        for number, key in enumerate(params.boot.order or ()):
            if key not in BOOT_WORDS and key not in there:
                raise _wrong(f"/boot/order/{number}", f"{work.vm.name} has no {key}")

        def wished(old: Device | None) -> Device:
            return params.boot.of(old if isinstance(old, BootHardware) else BootHardware())

        work.bring("boot", wished)
        return "boot"
