"""The facet of a session that makes guests, and says where they can be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pyVmomi import vim

from drivers import specs
from drivers.errors import AlreadyExists, NoSpace, WrongState
from drivers.types import AddressInfo, Feature, GuestRef
from drivers.vsphere import design as drawing
from drivers.vsphere import places
from drivers.vsphere.collector import of_objects, retrieve
from drivers.vsphere.errors import Garbled, translate
from drivers.vsphere.guests import place_of
from drivers.vsphere.holdings import HoldingsFacet
from drivers.vsphere.values import items, number, text
from drivers.vsphere.wire import moid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drivers.types import GuestInfo, GuestSpec
    from drivers.vsphere.collector import Found

CREATE_SECONDS: Final = 300.0


class MakingFacet(HoldingsFacet):
    """New guests over the session's wire."""

    def guest(self, ref: GuestRef) -> GuestInfo:
        """The session's own."""
        raise NotImplementedError

    def guest_or_none(self, ref: GuestRef) -> GuestInfo | None:
        """The session's own."""
        raise NotImplementedError

    def design(self, spec: GuestSpec) -> str:
        """The `.vmx` that it would get. No call."""
        self._require(Feature.CREATE)
        return drawing.shown(spec, self._api_version)

    @property
    def _api_version(self) -> str:
        return text(getattr(self._wire.content.about, "apiVersion", None))

    def create(self, spec: GuestSpec) -> GuestInfo:
        """One task, on the machine with most free memory of those that reach all of its datastores and networks."""
        self._require(Feature.CREATE)
        drawing.check(spec)
        ref = GuestRef(uuid=spec.uuid.lower(), name=spec.name)
        there = self.guest_or_none(ref)
        if there is not None:
            return there
        with translate(guest=spec.name):
            if any(text(one.get("name")) == spec.name for one in self._retrieve_all(vim.VirtualMachine, ("name",))):
                message = f"A guest called {spec.name} exists already."
                raise AlreadyExists(message, guest=spec.name)
            self._make(spec)
        return self.guest(ref)

    def _make(self, spec: GuestSpec) -> None:
        groups = {text(each.get("name")): each for each in self._port_groups()} if spec.interfaces else {}
        stores = {text(each.get("name")): each for each in self._datastores()}
        wanted_stores = _named_stores(spec, stores)
        wanted_groups = {
            nic.network: _named_group(number, nic.network, groups) for number, nic in enumerate(spec.interfaces)
        }
        homes = [places.home(each) for each in self._retrieve_all(vim.HostSystem, places.HOST_PATHS)]
        place = places.best(
            homes, [each.moid for each in wanted_stores], [each.moid for each in wanted_groups.values()]
        )
        if place is None:
            message = "No machine here that is ready reaches all of its datastores and networks."
            raise NoSpace(message, guest=spec.name)
        home = wanted_stores[0] if wanted_stores else _roomiest(place, stores)
        config = drawing.config(
            spec,
            home=text(home.get("name")),
            backings=self._backings(wanted_groups),
            api_version=self._api_version,
        )
        datacenter = self._datacenter()
        folder = self._one(datacenter, vim.Datacenter, "vmFolder", vim.Folder)
        pool = self._one(place.parent, vim.ComputeResource, "resourcePool", vim.ResourcePool)
        task = folder.CreateVM_Task(config, pool, place.object)
        self._result_of(task, CREATE_SECONDS, what=spec.name)

    def _backings(self, groups: Mapping[str, Found]) -> dict[str, Any]:
        """Name of a network -> how a card is plugged into it. Raises Unsupported for one of a kind that we do not know."""
        spread = [each for each in groups.values() if isinstance(each.object, vim.dvs.DistributedVirtualPortgroup)]
        named = [each.get("config.distributedVirtualSwitch") for each in spread]
        objects = places.once(one for one in named if isinstance(one, vim.DistributedVirtualSwitch))
        switches: list[Found] = []
        if objects:
            switches = retrieve(self._wire, of_objects(objects, vim.DistributedVirtualSwitch, ("uuid",)))
        found = {name: places.backing(each, switches) for name, each in groups.items()}
        for name, way in found.items():
            if way is None:
                raise specs.lacking(
                    "interfaces", f"{name} is a network of a kind that guests are not put on from here."
                )
        return found

    def _one(self, owner: Any, kind: type, path: str, wanted: type) -> Any:
        """One object that another one names. Raises Garbled."""
        found = retrieve(self._wire, of_objects([owner], kind, (path,))) if owner is not None else []
        value = found[0].get(path) if found else None
        if not isinstance(value, wanted):
            message = f"The hypervisor does not say its {path}."
            raise Garbled(message)
        return value

    # -- addresses -----------------------------------------------------------------------------------------------------
    def addresses(self, ref: GuestRef) -> Mapping[str, Sequence[AddressInfo] | str]:
        """What VMware Tools inside say of its cards."""
        self._require(Feature.ADDRESSES)
        found = self._now(ref)
        if text(found.get("runtime.powerState")) != "poweredOn":
            message = "The guest is off: it has no addresses now."
            raise WrongState(message, guest=ref.name or ref.uuid)
        paths = ("guest.net", "guest.toolsRunningStatus")
        with translate(guest=ref.name or ref.uuid):
            told = retrieve(self._wire, of_objects([found.object], vim.VirtualMachine, paths))
        return {"agent": addresses_of(told[0]) if told else "The hypervisor says nothing of it."}


def addresses_of(found: Found) -> Sequence[AddressInfo] | str:
    """Addresses with their cards, or why there are none."""
    told: list[AddressInfo] = []
    for card in items(found.get("guest.net")):
        mac = text(getattr(card, "macAddress", None)).lower()
        with_prefix = {
            text(getattr(one, "ipAddress", None)): number(getattr(one, "prefixLength", None))
            for one in items(getattr(getattr(card, "ipConfig", None), "ipAddress", None))
        }
        every = dict.fromkeys([*with_prefix, *map(text, items(getattr(card, "ipAddress", None)))])
        told += [
            AddressInfo(address=address, prefix=with_prefix.get(address), mac=mac, source="agent")
            for address in every
            if address
        ]
    if told:
        return told
    if text(found.get("guest.toolsRunningStatus")) != "guestToolsRunning":
        return "VMware Tools do not run in this guest, and only they know its addresses."
    return "VMware Tools name no address yet."


def _named_stores(spec: GuestSpec, stores: Mapping[str, Found]) -> list[Found]:
    """The datastores that its disks lie in, the first disk's first. Raises InvalidDefinition."""
    found = {}
    for position, disk in enumerate(spec.disks):
        name = place_of(drawing.path_of(disk))[0]
        if name not in stores:
            raise specs.refusal(f"disks[{position}].pool", f"there is no datastore {name} here.")
        found[name] = stores[name]
    return list(found.values())


def _named_group(position: int, name: str, groups: Mapping[str, Found]) -> Found:
    if name not in groups:
        raise specs.refusal(f"interfaces[{position}].network", f"there is no port group {name} here.")
    return groups[name]


def _roomiest(place: places.Home, stores: Mapping[str, Found]) -> Found:
    """For a guest without disks. Raises NoSpace."""
    reached = {moid(each) for each in place.datastores}
    infos = [
        (info.available_bytes or 0, info.name)
        for info in map(places.pool_info, stores.values())
        if info.formats and info.available_bytes
    ]
    name = max((one for one in infos if stores[one[1]].moid in reached), default=(0, ""))[1]
    if not name:
        message = f"{place.name} reaches no datastore with room for the guest's own files."
        raise NoSpace(message)
    return stores[name]
