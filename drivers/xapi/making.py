"""The facet of a session that makes guests, and says where they can be reached."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from drivers import specs
from drivers.errors import AlreadyExists, WrongState
from drivers.types import AddressInfo, GuestRef
from drivers.xapi import design as drawing
from drivers.xapi import records
from drivers.xapi.holdings import HoldingsFacet, network_names
from drivers.xapi.records import mapping, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from drivers.types import GuestInfo, GuestSpec
    from drivers.xapi.records import Record, Table

CREATE_SECONDS: Final = 120.0
_ADDRESS: Final = re.compile(r"([0-9]{1,3})/(?:ip|ipv4/[0-9]+|ipv6/[0-9]+)")


class MakingFacet(HoldingsFacet):
    """New guests over the session's login."""

    def guest(self, ref: GuestRef) -> GuestInfo:
        """The session's own."""
        raise NotImplementedError

    def _find(self, ref: GuestRef) -> tuple[str, Record]:
        raise NotImplementedError

    def _rows(self, name: str, vm: Record, field: str) -> Table:
        raise NotImplementedError

    def _named(self, name: str, refs: Any) -> Table:
        raise NotImplementedError

    def design(self, spec: GuestSpec) -> str:
        """The records that XAPI would be sent. Reads its template."""
        drawing.check(spec)
        return drawing.shown(spec, self._template())

    def create(self, spec: GuestSpec) -> GuestInfo:
        """The guest, then its drives and cards; what an interrupted attempt left out is added."""
        drawing.check(spec)
        disks = self._disks_of(spec)
        networks = self._networks_of(spec)
        machines = {ref: vm for ref, vm in self._table("VM").items() if records.is_guest(vm)}
        opaque = next((ref for ref, vm in machines.items() if _made_for(vm) == spec.uuid.lower()), "")
        if not opaque:
            if any(text(vm, "name_label") == spec.name for vm in machines.values()):
                message = f"A guest called {spec.name} exists already."
                raise AlreadyExists(message, guest=spec.name)
            made = self._wire.call("VM.create", drawing.machine(spec, self._template()), seconds=CREATE_SECONDS)
            opaque = records.reference(made)
        self._furnish(opaque, spec, disks, networks)
        vm = records.record(self._wire.call("VM.get_record", opaque))
        return self.guest(GuestRef(uuid=records.uuid_of(vm), name=spec.name))

    def _furnish(self, opaque: str, spec: GuestSpec, disks: Sequence[str], networks: Sequence[str]) -> None:
        vm = records.record(self._wire.call("VM.get_record", opaque))
        drives = {text(row, "userdevice") for row in self._rows("VBD", vm, "VBDs").values()}
        cards = {text(row, "device") for row in self._rows("VIF", vm, "VIFs").values()}
        for disk, ref, place in zip(spec.disks, disks, drawing.places(spec), strict=True):
            if str(place) not in drives:
                row = drawing.drive(
                    owner=opaque, disk=ref, place=place, cdrom=disk.device == "cdrom", readonly=disk.readonly
                )
                self._wire.call("VBD.create", row, seconds=CREATE_SECONDS)
        for place, (nic, network) in enumerate(zip(spec.interfaces, networks, strict=True)):
            if str(place) not in cards:
                row = drawing.card(owner=opaque, network=network, place=place, mac=nic.mac)
                self._wire.call("VIF.create", row, seconds=CREATE_SECONDS)

    def _disks_of(self, spec: GuestSpec) -> list[str]:
        """References of its disks. Raises NotFound."""
        return [
            records.reference(self._wire.call("VDI.get_by_uuid", disk.path))
            if disk.path
            else self._volume(disk.pool, disk.volume)[0]
            for disk in spec.disks
        ]

    def _networks_of(self, spec: GuestSpec) -> list[str]:
        """References of its networks. Raises InvalidDefinition."""
        known = {name: ref for ref, name in network_names(self._table("network")).items()} if spec.interfaces else {}
        for number, nic in enumerate(spec.interfaces):
            if nic.network not in known:
                raise specs.refusal(f"interfaces[{number}].network", f"there is no network {nic.network} here.")
        return [known[nic.network] for nic in spec.interfaces]

    def _template(self) -> Record:
        """XenServer's own for systems that it knows nothing of; empty where somebody removed it."""
        answer = self._wire.call("VM.get_by_name_label", drawing.TEMPLATE)
        rows = self._named("VM", answer if isinstance(answer, list) else ())
        return next((row for row in rows.values() if records.flag(row, "is_a_template")), {})

    # -- addresses -----------------------------------------------------------------------------------------------------
    def addresses(self, ref: GuestRef) -> Mapping[str, Sequence[AddressInfo] | str]:
        """What XenServer's tools in the guest tell: two calls, and one a card."""
        _, vm = self._find(ref)
        if text(vm, "power_state") not in ("Running", "Paused"):
            message = "The guest is off: it has no addresses now."
            raise WrongState(message, guest=ref.name)
        metrics = self._named("VM_guest_metrics", (text(vm, "guest_metrics"),))
        told = next(iter(metrics.values()), None)
        if told is None:
            return {"agent": "XenServer's tools do not run in this guest, and only they know its addresses."}
        cards = {text(row, "device"): text(row, "MAC").lower() for row in self._rows("VIF", vm, "VIFs").values()}
        return {"agent": addresses_of(told, cards) or "XenServer's tools name no address yet."}


def addresses_of(metrics: Mapping[str, Any], cards: Mapping[str, str]) -> list[AddressInfo]:
    """`0/ip`, `0/ipv4/0`, `0/ipv6/1`: each address once. `cards`: number of a card -> its MAC address."""
    found: dict[str, AddressInfo] = {}
    for key, value in sorted(mapping(metrics, "networks").items()):
        match = _ADDRESS.fullmatch(key)
        if match and isinstance(value, str) and value:
            found.setdefault(value, AddressInfo(address=value, mac=cards.get(match[1], ""), source="agent"))
    return list(found.values())


def _made_for(vm: Record) -> str:
    value = mapping(vm, "other_config").get(drawing.UUID_KEY)
    return value if isinstance(value, str) else ""
