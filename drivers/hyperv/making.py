"""The facet of a session that makes guests, renames them, and says where they can be reached."""

from __future__ import annotations

import ipaddress
import uuid as uuids
from typing import TYPE_CHECKING, Final

from drivers import specs
from drivers.errors import AlreadyExists, DriverError, InvalidDefinition, WrongState
from drivers.hyperv import design as drawing
from drivers.hyperv import guests
from drivers.hyperv.embedded import Thing, instance, path_of, shown
from drivers.hyperv.holdings import HoldingsFacet, folder_of
from drivers.hyperv.states import OFF, PAUSED, RUNNING
from drivers.hyperv.wire import Reference, quoted, select
from drivers.types import AddressInfo, GuestRef

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drivers.hyperv.wire import Row
    from drivers.types import GuestInfo, GuestSpec

_RESOURCE: Final = "Msvm_ResourceAllocationSettingData"
_PORT: Final = "Msvm_SyntheticEthernetPortSettingData"
_SWITCH: Final = "Msvm_VirtualEthernetSwitch"
_BUSES: Final = {"ide": "Microsoft:Hyper-V:Emulated IDE Controller", "scsi": drawing.SCSI}


class MakingFacet(HoldingsFacet):
    """New guests over the session's wire."""

    def guest(self, ref: GuestRef) -> GuestInfo:
        """The session's own."""
        raise NotImplementedError

    def _system(self, ref: GuestRef) -> tuple[str, int | None]:
        raise NotImplementedError

    def _managed(self, method: str, action: str, **arguments: str | list[str] | Reference) -> None:
        raise NotImplementedError

    # -- making --------------------------------------------------------------------------------------------------------
    def design(self, spec: GuestSpec) -> str:
        """Its settings objects. One query, for the folder of disks."""
        drawing.check(spec)
        return shown(drawing.things(spec, self._files_of(spec)))

    def create(self, spec: GuestSpec) -> GuestInfo:
        """Define, then processors, memory, drives and cards; what an interrupted attempt left out is added."""
        drawing.check(spec)
        files, switches = self._files_of(spec), self._switches_of(spec)
        name = self._made_before(spec.uuid)
        if name is None:
            self._check_name(spec.name)
            self._managed("DefineSystem", "create", SystemSettings=instance(drawing.system(spec)))
            name = self._made_before(spec.uuid)
        if name is None:
            message = "Hyper-V made a guest, and does not list it."
            raise DriverError(message, guest=spec.name)
        self._size(name, spec)
        self._add_disks(name, spec, files)
        self._add_cards(name, spec, switches)
        return self.guest(GuestRef(uuid=name.lower(), name=spec.name))

    def _made_before(self, uuid: str) -> str | None:
        """The GUID of the guest that was made for this identity."""
        for row in self._wire.query(select(*guests.SETTINGS)):
            if guests.ours_in(row).get("uuid") == uuid.lower():
                return row.text("VirtualSystemIdentifier").upper()
        return None

    def _check_name(self, name: str) -> None:
        if any(row.text("ElementName") == name for row in self._wire.query(select(*guests.SYSTEM))):
            message = f"A guest called {name} exists already."
            raise AlreadyExists(message, guest=name)

    def _size(self, name: str, spec: GuestSpec) -> None:
        changed = []
        for sort, draw in (("processors", drawing.processor), ("memory", drawing.memory)):
            row = next(iter(self._parts(sort, name)), None)
            if row is not None:
                changed.append(instance(draw(spec, row.text("InstanceID"))))
        self._managed("ModifyResourceSettings", "create", ResourceSettings=changed)

    def _add_disks(self, name: str, spec: GuestSpec, files: Sequence[str]) -> None:
        slots = drawing.slots(spec)
        if any(slot.bus == "scsi" for slot in slots) and not self._controllers(name, "scsi"):
            self._add(name, drawing.scsi())
        for slot, file in zip(slots, files, strict=True):
            controller = self._controllers(name, slot.bus)[slot.controller]
            drive = self._drive(name, controller, slot.unit)
            if drive is None:
                self._add(name, drawing.drive(slot, self._path(_RESOURCE, controller)))
                drive = self._drive(name, controller, slot.unit)
            if drive is None:
                message = "Hyper-V made a drive, and does not list it."
                raise DriverError(message, guest=spec.name)
            if not any(guests.key_in(row.text("Parent")) == drive.upper() for row in self._parts("media", name)):
                self._add(name, drawing.medium(slot, self._path(_RESOURCE, drive), file))

    def _add_cards(self, name: str, spec: GuestSpec, switches: Sequence[str]) -> None:
        for number, (nic, switch) in enumerate(zip(spec.interfaces, switches, strict=True)):
            before = self._cards(name)
            card = next((one for one, mac in before.items() if nic.mac and mac == nic.mac.lower()), None)
            if card is None and len(before) <= number:
                self._add(name, drawing.card(nic.mac, f"{{{uuids.uuid4()}}}"))
                card = next((one for one in self._cards(name) if one not in before), None)
            if card is None:
                message = "Hyper-V made a network card, and does not list it."
                raise DriverError(message, guest=spec.name)
            if not any(guests.key_in(row.text("Parent")) == card.upper() for row in self._parts("cables", name)):
                to = path_of(self._info.hostname, _SWITCH, CreationClassName=_SWITCH, Name=switch)
                self._add(name, drawing.cable(self._path(_PORT, card), to))

    def _add(self, name: str, thing: Thing) -> None:
        configuration = Reference("Msvm_VirtualSystemSettingData", {"InstanceID": f"Microsoft:{name}"})
        self._managed(
            "AddResourceSettings", "create", AffectedConfiguration=configuration, ResourceSettings=[instance(thing)]
        )

    def _parts(self, sort: str, name: str) -> list[Row]:
        """A guest's objects of one class."""
        return self._wire.query(select(*guests.CLASSES[sort], f"InstanceID LIKE {quoted(f'Microsoft:{name}%')}"))

    def _controllers(self, name: str, bus: str) -> list[str]:
        """Identifiers: of IDE by their numbers, of SCSI as they come."""
        rows = [row for row in self._parts("devices", name) if row.text("ResourceSubType") == _BUSES[bus]]
        return [
            row.text("InstanceID")
            for row in sorted(rows, key=lambda row: (row.text("Address"), row.text("InstanceID")))
        ]

    def _drive(self, name: str, controller: str, unit: int) -> str | None:
        for row in self._parts("devices", name):
            on = guests.key_in(row.text("Parent")) == controller.upper()
            if on and row.text("AddressOnParent") == str(unit):
                return row.text("InstanceID")
        return None

    def _cards(self, name: str) -> dict[str, str]:
        """Identifier -> MAC address."""
        return {row.text("InstanceID"): guests.mac_of(row.text("Address")) for row in self._parts("synthetic", name)}

    def _path(self, class_name: str, identity: str) -> str:
        return path_of(self._info.hostname, class_name, InstanceID=identity)

    def _files_of(self, spec: GuestSpec) -> list[str]:
        folder = folder_of(self._wire)
        return [disk.path or f"{folder}\\{disk.volume.lower()}" for disk in spec.disks]

    def _switches_of(self, spec: GuestSpec) -> list[str]:
        """GUIDs of its switches. Raises InvalidDefinition."""
        rows = self._wire.query(select(*guests.SWITCHES)) if spec.interfaces else []
        known = {row.text("ElementName"): row.text("Name") for row in rows}
        for number, nic in enumerate(spec.interfaces):
            if nic.network not in known:
                raise specs.refusal(f"interfaces[{number}].network", f"there is no switch {nic.network} here.")
        return [known[nic.network] for nic in spec.interfaces]

    # -- names ---------------------------------------------------------------------------------------------------------
    def rename(self, ref: GuestRef, name: str) -> None:
        """Hyper-V lets several guests have one name, and renames running ones; here it is the same everywhere."""
        if not name.strip() or not name.isprintable() or len(name) > drawing.NAME_MAX:
            message = f"A name has 1 to {drawing.NAME_MAX} characters that can be printed."
            raise InvalidDefinition(message, guest=ref.uuid)
        key, enabled = self._system(ref)
        if enabled != OFF:
            message = "A guest that runs, or whose memory is saved, cannot be renamed; shut it down first."
            raise WrongState(message, guest=ref.uuid)
        row = guests.system_row(self._wire, key)
        if row is not None and row.text("ElementName") == name:
            return
        self._check_name(name)
        wished = Thing(
            "Msvm_VirtualSystemSettingData",
            {"InstanceID": ("string", f"Microsoft:{key}"), "ElementName": ("string", name)},
        )
        self._managed("ModifySystemSettings", "rename", SystemSettings=instance(wished))

    # -- addresses -----------------------------------------------------------------------------------------------------
    def addresses(self, ref: GuestRef) -> Mapping[str, Sequence[AddressInfo] | str]:
        """What the integration services in the guest tell: two queries."""
        name, enabled = self._system(ref)
        if enabled != RUNNING and enabled not in PAUSED:
            message = "The guest is off: it has no addresses now."
            raise WrongState(message, guest=ref.uuid)
        like = f"InstanceID LIKE {quoted(f'Microsoft:GuestNetwork{chr(92)}{name}%')}"
        rows = self._wire.query(
            select("InstanceID, IPAddresses, Subnets", "Msvm_GuestNetworkAdapterConfiguration", like)
        )
        cards = {
            row.text("InstanceID").rpartition("\\")[2].upper(): guests.mac_of(row.text("Address"))
            for row in self._parts("synthetic", name)
        }
        found = [
            AddressInfo(address=address, prefix=_prefix(subnet), mac=cards.get(_last(row), ""), source="agent")
            for row in rows
            for address, subnet in _pairs(row)
        ]
        return {"agent": found or "The integration services in the guest name no address."}


def _last(row: Row) -> str:
    return row.text("InstanceID").rpartition("\\")[2].upper()


def _pairs(row: Row) -> list[tuple[str, str]]:
    addresses, subnets = row.texts("IPAddresses"), row.texts("Subnets")
    return [(address, subnets[number] if number < len(subnets) else "") for number, address in enumerate(addresses)]


def _prefix(subnet: str) -> int | None:
    """Of `255.255.255.0` or `/64`."""
    try:
        return ipaddress.ip_network(f"0.0.0.0/{subnet}").prefixlen if "." in subnet else int(subnet.removeprefix("/"))
    except ValueError:
        return None
