"""All other devices: screens, TPM, watchdog, serial ports, sound, and devices of the host that are handed to the guest."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, StringConstraints, model_validator

from core.errors import Conflict
from drivers.errors import AlreadyExists, Unsupported
from drivers.types import DisplayHardware, Feature, HostDeviceHardware, SimpleHardware
from vms.hardware.change import HardwareAction, HardwareParams, hardware_action
from vms.hardware.parts import Part

if TYPE_CHECKING:
    from drivers.base import Session
    from drivers.types import Device
    from vms.hardware.change import Work

SIMPLE: Final = ("tpm", "rng", "watchdog", "serial", "sound", "balloon", "input")
HOST: Final = ("pci", "usb")
DISPLAYS: Final = ("vnc", "spice")
KEY: Final = (
    r"^((tpm|rng|watchdog|sound|balloon|input|serial)(/\d{1,2})?|display/(vnc|spice)|pci/[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
    r"|usb/([0-9a-f]{4}:[0-9a-f]{4}|\d{3}:\d{3}))$"
)

Kind = Literal["tpm", "rng", "watchdog", "serial", "sound", "balloon", "input", "vnc", "spice", "pci", "usb"]
Model = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,40}$")]
Bite = Literal["reset", "poweroff", "pause", "none", "dump", "inject-nmi"]
Key = Annotated[str, StringConstraints(pattern=KEY, max_length=40)]
Address = Annotated[
    str,
    StringConstraints(
        pattern=r"^([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]|[0-9a-f]{4}:[0-9a-f]{4}|\d{3}:\d{3})$", max_length=20
    ),
]


class DeviceIn(Part):
    """A device to be added."""

    type: Kind = Field(
        description="`vnc` and `spice` are screens; `pci` and `usb` devices of the host (scope `admin`)."
    )
    model: Model | None = Field(None, description="Left out: the hypervisor's best. Of a screen: the card behind it.")
    action: Bite | None = Field(None, description="Of a watchdog: what happens when it bites.")
    address: Address | None = Field(None, description="Of a device of the host, as `GET /hosts/{id}/devices` says it.")

    @model_validator(mode="after")
    def _fits(self) -> DeviceIn:
        if (self.type in HOST) != (self.address is not None):
            raise ValueError("address goes with the types pci and usb")
        if self.type in HOST and (self.model or ("." in (self.address or "")) != (self.type == "pci")):
            raise ValueError("address is no address of this type of device")
        if self.action is not None and self.type != "watchdog":
            raise ValueError("action goes with a watchdog")
        return self


class DeviceChange(Part):
    """Of a device: what is not said stays as it is."""

    model: Model | None = Field(None, description="Of a screen: the card behind it.")
    action: Bite | None = Field(None, description="Of a watchdog.")

    @model_validator(mode="after")
    def _something(self) -> DeviceChange:
        if not self.said:
            raise ValueError("nothing is to be changed")
        return self


class DeviceAttachParams(HardwareParams):
    """What."""

    device: DeviceIn


@hardware_action
class AttachDevice(HardwareAction):
    """Give the guest one more device."""

    kind = "vm.device-attach"
    title = "Attach device"
    params = DeviceAttachParams

    def inspect(self, work: Work, params: DeviceAttachParams) -> None:
        """What its hypervisor has not, it says here; a device of the host is in one running guest at a time."""
        asked = params.device
        kinds = work.options.kinds
        key = "" if asked.type == "serial" else self._device(work, asked).key
        if work.found.defined is not None and key in work.found.defined.devices:
            raise AlreadyExists(f"{work.vm.name} has a {asked.type} already.", key=key)
        if asked.type in SIMPLE and asked.type not in kinds:
            has = ", ".join(sorted(kinds)) or "none"
            raise Unsupported(
                f"{work.vm.hypervisor.host.name} adds no {asked.type} to this guest. What it adds: {has}."
            )
        if asked.type in HOST:
            _check_host_device(work, asked)

    def change(self, work: Work, params: DeviceAttachParams) -> str:
        """Add it."""
        device = self._device(work, params.device)
        work.bring(device.key, lambda old: old or device)
        return device.key

    @staticmethod
    def _device(work: Work, asked: DeviceIn) -> Device:
        if asked.type in HOST:
            return HostDeviceHardware(kind=asked.type, address=asked.address or "")
        if asked.type in DISPLAYS:
            return DisplayHardware(type=asked.type, video=asked.model or next(iter(work.options.videos), ""))
        models = work.options.kinds.get(asked.type, ())
        number = _serial_number(work) if asked.type == "serial" else 0
        model = asked.model or next(iter(models), "")
        return SimpleHardware(kind=asked.type, model=model, action=asked.action or "", number=number)


def _serial_number(work: Work) -> int:
    """The next free one; the same again after an interruption."""
    taken = {key for one in work.both for key in one.devices}
    for number in range(100):
        if work.ctx.done(f"as serial {number}"):
            return number
    free = next(number for number in range(100) if f"serial/{number}" not in taken)
    work.ctx.checkpoint(f"as serial {free}")
    return free


def _check_host_device(work: Work, asked: DeviceIn) -> None:
    supported, reason = work.vm.hypervisor.support(Feature.HOST_DEVICES)
    if not supported:
        raise Unsupported(reason, feature=str(Feature.HOST_DEVICES))
    there = next((one for one in work.session.host_devices() if one.address == asked.address), None)
    if there is None:
        raise Conflict(f"{work.vm.hypervisor.host.name} has no device {asked.address} that could be handed over.")
    holder = next(
        (name for key, name in holders(work.session).get(there.address, []) if key != work.vm.uuid.lower()), None
    )
    if holder is not None:
        raise Conflict(f"{asked.address} is {holder}'s: take it away from there first.", in_use=holder)


def holders(session: Session) -> dict[str, list[tuple[str, str]]]:
    """Address of a device of the host → identifier and name of the guests that have it, now or at their next start."""
    found: dict[str, list[tuple[str, str]]] = {}
    for info in session.guests():
        hardware = session.hardware(info.ref)
        for one in (hardware.defined, hardware.live):
            for device in one.host_devices if one else ():
                entry = (info.uuid.lower(), info.name)
                if entry not in found.setdefault(device.address, []):
                    found[device.address].append(entry)
    return found


class DeviceDetachParams(HardwareParams):
    """Which."""

    key: Key


@hardware_action
class DetachDevice(HardwareAction):
    """Take a device away."""

    kind = "vm.device-detach"
    title = "Detach device"
    params = DeviceDetachParams

    def inspect(self, work: Work, params: DeviceDetachParams) -> None:
        """It must be there."""
        work.known(params.key)

    def change(self, work: Work, params: DeviceDetachParams) -> str:
        """Away."""
        work.bring(params.key, lambda _old: None)
        return params.key


class DeviceUpdateParams(HardwareParams):
    """Which, and what of it."""

    key: Key
    device: DeviceChange


@hardware_action
class UpdateDevice(HardwareAction):
    """Change a device."""

    kind = "vm.device-update"
    title = "Change device"
    params = DeviceUpdateParams

    def inspect(self, work: Work, params: DeviceUpdateParams) -> None:
        """It must be there."""
        work.known(params.key)

    def change(self, work: Work, params: DeviceUpdateParams) -> str:
        """Bring it to what is wished."""
        said = params.device.said

        def wished(old: Device | None) -> Device | None:
            if isinstance(old, DisplayHardware):
                return dataclasses.replace(old, video=said.get("model", old.video))
            return dataclasses.replace(old, **said) if isinstance(old, SimpleHardware) else old

        work.bring(params.key, wished)
        return params.key
