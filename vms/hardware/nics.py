"""Network interfaces: attached, taken away, changed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, StringConstraints, model_validator

from drivers.errors import AlreadyExists
from drivers.types import NicHardware
from vms.creation.spec import Reference, Word  # noqa: TC001 - pydantic reads the annotations
from vms.hardware.change import HardwareAction, HardwareParams, hardware_action
from vms.hardware.parts import Part

if TYPE_CHECKING:
    from drivers.types import Device
    from vms.hardware.change import Work

RATE_MAX: Final = 2**40
HostInterface = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,14}$")]
MacAddress = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$")]
Rate = Annotated[int, Field(ge=0, le=RATE_MAX)]
PLACES: Final = ("network", "bridge", "direct")


class NicChange(Part):
    """Of an interface: what is not said stays as it is. Of network, bridge and direct one is said at most."""

    network: Reference | None = Field(None, description="Name or id of a network of the host.")
    bridge: HostInterface | None = Field(None, description="Bridge of the host. Needs the scope `admin`.")
    direct: HostInterface | None = Field(
        None, description="Interface of the host that it shares (macvtap). Needs the scope `admin`."
    )
    direct_mode: Literal["", "bridge", "vepa", "private", "passthrough"] | None = None
    model: Word | None = None
    link: Literal["up", "down"] | None = None
    inbound_bytes_per_second: Rate | None = Field(None, description="Seen from the guest; 0: not held to any.")
    outbound_bytes_per_second: Rate | None = None
    filter: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{0,64}$")] | None = Field(
        None, description='Name of a network filter; "" for none.'
    )
    vlan: Annotated[int, Field(ge=0, le=4094)] | None = Field(None, description="Tag; 0: none.")
    boot_order: Annotated[int, Field(ge=0, le=64)] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> NicChange:
        if sum(getattr(self, name) is not None for name in PLACES) > 1:
            raise ValueError("one of network, bridge and direct")
        if self.direct_mode and (self.network or self.bridge):
            raise ValueError("direct_mode goes with direct")
        return self

    def of(self, nic: NicHardware) -> NicHardware:
        """The interface that comes of it."""
        said = self.said
        if any(name in said for name in PLACES):
            nic = dataclasses.replace(nic, network="", bridge="", direct="", direct_mode="")
            if "direct" in said:
                said.setdefault("direct_mode", "bridge")
        return dataclasses.replace(nic, **said)


class NicAttachParams(HardwareParams):
    """Its address, settled when it was asked for, and what it is."""

    mac: MacAddress
    nic: NicChange


@hardware_action
class AttachNic(HardwareAction):
    """Give the guest one more network interface."""

    kind = "vm.nic-attach"
    title = "Attach network interface"
    params = NicAttachParams

    def inspect(self, work: Work, params: NicAttachParams) -> None:
        """Its address must be free."""
        if any(_key(work, params.mac) in one.devices for one in work.both):
            raise AlreadyExists(f"{work.vm.name} has an interface {params.mac} already.", mac=params.mac)

    def change(self, work: Work, params: NicAttachParams) -> str:
        """On its network."""
        models = work.options.nic_models
        nic = params.nic.of(NicHardware(mac=params.mac, model=next(iter(models), "")))
        work.bring(nic.key, lambda old: old or nic)
        return nic.key


class NicDetachParams(HardwareParams):
    """Which."""

    mac: MacAddress


def _key(work: Work, mac: str) -> str:
    """As the hypervisor writes it. The address itself where it has none such."""
    keys = (key for one in work.both for key in one.devices)
    return next((key for key in keys if key.lower() == f"nic/{mac}"), f"nic/{mac}")


@hardware_action
class DetachNic(HardwareAction):
    """Take an interface away."""

    kind = "vm.nic-detach"
    title = "Detach network interface"
    params = NicDetachParams

    def inspect(self, work: Work, params: NicDetachParams) -> None:
        """It must be there."""
        work.known(_key(work, params.mac))

    def change(self, work: Work, params: NicDetachParams) -> str:
        """Away."""
        key = _key(work, params.mac)
        work.bring(key, lambda _old: None)
        return key


class NicUpdateParams(HardwareParams):
    """Which, and what of it."""

    mac: MacAddress
    nic: NicChange

    @model_validator(mode="after")
    def _something(self) -> NicUpdateParams:
        if not self.nic.said:
            raise ValueError("nothing is to be changed")
        return self


@hardware_action
class UpdateNic(HardwareAction):
    """Change an interface: pull its cable, put it on another network, hold it to a rate."""

    kind = "vm.nic-update"
    title = "Change network interface"
    params = NicUpdateParams

    def inspect(self, work: Work, params: NicUpdateParams) -> None:
        """It must be there."""
        work.known(_key(work, params.mac))

    def change(self, work: Work, params: NicUpdateParams) -> str:
        """Bring it to what is wished."""
        key = _key(work, params.mac)

        def wished(old: Device | None) -> Device | None:
            return params.nic.of(old) if isinstance(old, NicHardware) else old

        work.bring(key, wished)
        return key
