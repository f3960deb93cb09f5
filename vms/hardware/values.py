"""Hardware as JSON, what identifies it, and what differs between what a guest has now and what it has at its next start."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

from drivers.types import Device, DiskHardware, Hardware, HardwareOptions

if TYPE_CHECKING:
    from drivers.types import GuestHardware

_HARDWARE: Final = TypeAdapter(Hardware)
_OPTIONS: Final = TypeAdapter(HardwareOptions)
_DEVICE: Final[TypeAdapter[Device]] = TypeAdapter(Device)


def to_json(hardware: Hardware | None) -> dict[str, Any] | None:
    """For a column."""
    return None if hardware is None else _HARDWARE.dump_python(hardware, mode="json")


def of_json(data: dict[str, Any] | None) -> Hardware | None:
    """Out of a column."""
    return None if data is None else _HARDWARE.validate_python(data)


def options_json(options: HardwareOptions) -> dict[str, Any]:
    """For a column."""
    found: dict[str, Any] = _OPTIONS.dump_python(options, mode="json")
    return found


def options_of(data: dict[str, Any]) -> HardwareOptions:
    """Out of a column."""
    return _OPTIONS.validate_python(data)


def device_json(device: Device) -> dict[str, Any]:
    """One device."""
    found: dict[str, Any] = _DEVICE.dump_python(device, mode="json")
    return found


def digest_of(found: GuestHardware) -> str:
    """What identifies what can be changed of a guest: what it has at its next start, or of a transient one what it runs with."""
    text = json.dumps(to_json(found.defined or found.live), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A device that is another one at the next start. `now` None: it is not there yet; `then` None: it goes."""

    key: str
    now: Device | None
    then: Device | None

    @property
    def changed(self) -> dict[str, tuple[Any, Any]]:
        """Field → what it is, and what it will be, of a device that stays."""
        if self.now is None or self.then is None or type(self.now) is not type(self.then):
            return {}
        pairs = {one.name: (getattr(self.now, one.name), getattr(self.then, one.name)) for one in fields(self.now)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def differences(found: GuestHardware) -> list[Difference]:
    """What is pending, in the order in which pages show devices; nothing where there is only one of both."""
    if found.defined is None or found.live is None:
        return []
    now, then = found.live.devices, found.defined.devices
    keys = [*then, *(key for key in now if key not in then)]
    found_ones = [Difference(key=key, now=now.get(key), then=then.get(key)) for key in keys]
    return [one for one in found_ones if not _alike(one.now, one.then)]


def _alike(now: Device | None, then: Device | None) -> bool:
    """Whether nothing waits, though a hypervisor may tell both otherwise.

    An empty drive has a format on one side only.
    """
    if isinstance(now, DiskHardware) and isinstance(then, DiskHardware) and not now.path and not then.path:
        return replace(now, format=then.format) == then
    return now == then


def obedient(live: Hardware, told_bytes: int | None) -> Hardware:
    """What a guest runs with, as if it had given back the memory that it was told to.

    It does when its balloon's driver gets to it, or never: what it was told counts now, and waits for no start.
    """
    memory = live.memory
    if not told_bytes or not memory.balloon or memory.memory_bytes <= told_bytes:
        return live
    return replace(live, memory=replace(memory, memory_bytes=told_bytes))
