"""The facets of a session that speak of the host's own network interfaces, and of the filters in front of guests' interfaces."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Final

import libvirt

from drivers.errors import AlreadyExists, InvalidDefinition, NotFound, Unsupported, WrongState
from drivers.findings import refusing
from drivers.libvirtd.errors import gone_is_nothing, translate
from drivers.libvirtd.facet import Facet
from drivers.libvirtd.xml.element import append
from drivers.libvirtd.xml.network import Filter, Interface, NetDevice, Port
from drivers.netfilters import check_filter, outline, users_of
from drivers.types import Feature, FilterInfo, HostInterface

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SIMULATED: Final = "A simulated host has no network interfaces of its own."
_NO_FILTERS: Final = "This hypervisor has no network filters."
_GUESTS = re.compile(r"(?:vnet|macvtap|macvlan)\d+|veth[0-9a-f]+|(?:vif|tap)\d+\.\d+(?:-emu)?")
"""What libvirt, Xen's tools and container engines make for guests: they show there, and come and go with them."""
_UNKNOWN_SPEED: Final = 2**32 - 1
"""What the kernel says where a card tells no speed (measured with virtio)."""
_KINDS: Final = frozenset({"bridge", "bond", "vlan"})


class InterfaceFacet(Facet):
    """The host's interfaces: node devices say speed and state of those that are hardware, the interface driver what it is made of."""

    def host_interfaces(self) -> Sequence[HostInterface]:
        """All but those of guests: two bulk calls, and one for each, three for those that are made of others."""
        self._require(Feature.NETWORKS)
        if not self._driver.is_real:
            raise Unsupported(_SIMULATED, feature=str(Feature.NETWORKS))
        with translate():
            devices = {device.interface or "": device for device in self._devices()}
            made: dict[str, Port] = {}
            masters: dict[str, str] = {}
            for one in self._made():
                made[one.name or ""] = one
                for port in (*one.bridge_ports, *one.bond_ports):
                    made.setdefault(port.name or "", port)
                    masters[port.name or ""] = one.name or ""
        return [
            _interface(name, devices.get(name), made.get(name), masters.get(name, ""))
            for name in sorted(devices.keys() | made.keys())
            if name and not _GUESTS.fullmatch(name)
        ]

    def _devices(self) -> Iterator[NetDevice]:
        for device in self._connection.listAllDevices(libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_NET):
            with gone_is_nothing(), contextlib.suppress(InvalidDefinition):
                one = NetDevice.parse(device.XMLDesc(0))
                if one.interface:
                    yield one

    def _made(self) -> Iterator[Interface]:
        """What the interface driver knows; nothing where the host's libvirt was built without one."""
        try:
            listed = self._connection.listAllInterfaces(0)
        except libvirt.libvirtError as error:
            if error.get_error_code() in {libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_NO_CONNECT}:
                return
            raise
        for interface in listed:
            with contextlib.suppress(InvalidDefinition):
                try:
                    found = Interface.parse(interface.XMLDesc(0))
                    if found.type in _KINDS:  # of these the document says neither (measured)
                        found.mac = interface.MACString()
                        found.link = "up" if interface.isActive() else "down"
                    yield found
                except libvirt.libvirtError as error:
                    if error.get_error_code() != libvirt.VIR_ERR_NO_INTERFACE:
                        raise


def _interface(name: str, device: NetDevice | None, made: Port | None, master: str) -> HostInterface:
    """What both accounts say. A node device that is missing is new, on a host without udev."""
    if made is not None and made.type in _KINDS:
        kind = made.type or ""
    elif name == "lo":
        kind = "loopback"
    else:
        kind = "virtual" if device is None or "/devices/virtual/" in (device.path or "") else "ethernet"
    link = device if device is not None else made
    mac = (link.mac or "").lower() if link is not None else ""
    speed = link.speed if link is not None else None
    return HostInterface(
        name=name,
        kind=kind,
        mac="" if mac == "00:00:00:00:00:00" else mac,
        up={"up": True, "down": False}.get(link.link or "") if link is not None else None,
        speed_mbps=speed if speed and speed < _UNKNOWN_SPEED else None,
        master=master,
        vlan=made.vlan if made is not None else None,
    )


class FilterFacet(Facet):
    """Network filters."""

    def filters(self) -> Sequence[FilterInfo]:
        """All of them: one bulk call, and one for each."""
        self._require(Feature.NETWORKS)
        if not self._driver.is_real:
            raise Unsupported(_NO_FILTERS, feature=str(Feature.NETWORKS))
        found = []
        with translate():
            for one in self._connection.listAllNWFilters(0):
                with gone_is_nothing():
                    found.append(_filter(one))
        return found

    def filter_define(self, xml: str, *, name: str = "") -> FilterInfo:
        """Make one, or change the one of this name. libvirt compares it with its schema, and brings it to guests that run."""
        there = {one.name: one for one in self.filters()}
        with refusing():
            new = outline(xml)
            check_filter({one.name: one.uses for one in there.values()}, new.name, new.uses, changes=name)
        document = Filter.parse(xml)
        if name and name not in there:
            raise NotFound(f"There is no network filter {name}.", filter=name)
        if not name and new.name in there:
            raise AlreadyExists(f"There is a network filter {new.name} already.", filter=new.name)
        if name:
            _identify(document, there[name].uuid)
        with translate(filter=new.name):
            flags = libvirt.VIR_NWFILTER_DEFINE_VALIDATE
            return _filter(self._connection.nwfilterDefineXMLFlags(document.to_xml(), flags))

    def filter_delete(self, name: str) -> None:
        """Remove it. libvirt itself would also remove one that others take in (measured), and these would fail from then on."""
        users = users_of({one.name: one.uses for one in self.filters()}, name)
        if users:
            raise WrongState(
                f"{name} is taken in by {', '.join(users[:5])}: change or remove these first.", filter=name
            )
        with translate(filter=name):
            self._connection.nwfilterLookupByName(name).undefine()


def _identify(document: Filter, uuid: str) -> None:
    """It is the one that is there: libvirt takes one of another identifier for a second of the same name."""
    if document.uuid is None:
        append(document.node, "uuid")
    document.uuid = uuid


def _filter(one: libvirt.virNWFilter) -> FilterInfo:
    xml = one.XMLDesc(0)
    try:
        document = Filter.parse(xml)
    except InvalidDefinition:  # one that cannot be read is there all the same
        document = Filter()
    return FilterInfo(
        uuid=one.UUIDString().lower(),
        name=one.name(),
        chain=document.chain or "root",
        rules=len(document.rules),
        uses=tuple(ref.filter for ref in document.refs if ref.filter),
        xml=xml,
    )
