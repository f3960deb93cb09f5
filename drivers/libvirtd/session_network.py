"""The facet of a session that speaks of virtual networks, and of the addresses that they gave out."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import TYPE_CHECKING, Final

import libvirt

from drivers.errors import InvalidDefinition, NotFound, Unsupported, WrongState
from drivers.findings import refusing
from drivers.libvirtd.errors import gone_is_nothing, translate
from drivers.libvirtd.session_wires import InterfaceFacet
from drivers.libvirtd.xml.network import ForwardInterface, Network, NetworkHost, NetworkIp, NetworkPortGroup, VlanTag
from drivers.networks import MACVTAP, MODES, absent, check_dhcp_host, check_network
from drivers.types import DhcpHost, Feature, LeaseInfo, NetworkInfo, PortGroup

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from drivers.types import NetworkSpec

_NO_LEASES: Final = "A simulated network gives no addresses out."


class NetworkFacet(InterfaceFacet):
    """Virtual networks over the session's connection."""

    def networks(self) -> Sequence[NetworkInfo]:
        """All networks: four bulk calls, and one a network for its definition."""
        self._require(Feature.NETWORKS)
        with translate():
            connection = self._connection
            active = _marked(connection, libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE)
            autostart = _marked(connection, libvirt.VIR_CONNECT_LIST_NETWORKS_AUTOSTART)
            persistent = _marked(connection, libvirt.VIR_CONNECT_LIST_NETWORKS_PERSISTENT)
            found = []
            for network in connection.listAllNetworks(0):
                uuid = network.UUIDString()
                with gone_is_nothing():
                    found.append(
                        _network(
                            uuid,
                            network,
                            active=uuid in active,
                            autostart=uuid in autostart,
                            persistent=uuid in persistent,
                        )
                    )
            return found

    def leases(self, network: str) -> Sequence[LeaseInfo]:
        """What its DHCP server has given out and not taken back. One that is not active has none."""
        self._require(Feature.NETWORKS)
        if not self._driver.is_real:
            raise Unsupported(_NO_LEASES, feature=str(Feature.NETWORKS))
        with translate(network=network):
            place = self._connection.networkLookupByName(network)
            return [
                LeaseInfo(
                    mac=lease.get("mac") or "",
                    address=lease.get("ipaddr") or "",
                    prefix=lease.get("prefix") or 0,
                    hostname=lease.get("hostname") or "",
                    expires_at=lease.get("expirytime") or 0,
                )
                for lease in (place.DHCPLeases() if place.isActive() else ())
            ]

    def network_create(self, spec: NetworkSpec) -> NetworkInfo:
        """Define, start, autostart; undone when a later step fails."""
        self._require(Feature.NETWORKS)
        with refusing():
            spec = check_network(spec)
        self._check_there(spec)
        with translate(network=spec.name):
            network = self._connection.networkDefineXML(_document(spec).to_xml())
            try:
                network.create()
                if spec.autostart:
                    network.setAutostart(1)
                return _network(
                    network.UUIDString(), network, active=True, autostart=bool(network.autostart()), persistent=True
                )
            except BaseException:
                with contextlib.suppress(libvirt.libvirtError):
                    if network.isActive():
                        network.destroy()
                    network.undefine()
                raise

    def network_start(self, name: str) -> None:
        """Start it."""
        with self._network(name) as network:
            if not network.isActive():
                network.create()

    def network_stop(self, name: str) -> None:
        """Stop it: its bridge goes, and guests on it are cut off."""
        with self._network(name) as network:
            if network.isActive():
                network.destroy()

    def network_set_autostart(self, name: str, *, enabled: bool) -> None:
        """Start with the host, or not."""
        with self._network(name) as network:
            network.setAutostart(int(enabled))

    def network_delete(self, name: str) -> None:
        """Stop and undefine it. A transient one is gone once it is stopped."""
        with self._network(name) as network:
            persistent = network.isPersistent()
            if network.isActive():
                network.destroy()
            if persistent:
                network.undefine()

    def network_keep(self, name: str, host: DhcpHost) -> None:
        """Keep an address: in the definition, and at once where it is active. Each of the two by what it has now."""
        with self._network(name) as network:
            document = Network.parse(network.XMLDesc(0))
            if not any(ip.dhcp for ip in document.ips):
                raise WrongState(f"{name} gives no addresses out.", network=name)
            with refusing():
                host = check_dhcp_host(host, network=name, addresses=_addresses(document), others=_dhcp_hosts(document))
            wished = NetworkHost(mac=host.mac, ip=host.address)
            if host.name:
                wished.name = host.name
            for flag, there in self._sides(network):
                known = next((one for one in there if one.mac == host.mac), None)
                if known != host:
                    command = (
                        libvirt.VIR_NETWORK_UPDATE_COMMAND_MODIFY
                        if known
                        else libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST
                    )
                    network.update(command, libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST, -1, wished.to_xml(), flag)

    def network_release(self, name: str, mac: str) -> None:
        """Keep none for this MAC any more."""
        with self._network(name) as network:
            for flag, there in self._sides(network):
                if any(one.mac == mac.lower() for one in there):
                    network.update(
                        libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE,
                        libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST,
                        -1,
                        NetworkHost(mac=mac.lower()).to_xml(),
                        flag,
                    )

    def _sides(self, network: libvirt.virNetwork) -> Iterator[tuple[int, list[DhcpHost]]]:
        """For what runs and what is written down, where it is: libvirt's flag, and whom it keeps addresses for."""
        active = bool(network.isActive())
        if active or not self._driver.is_real:  # the test driver has one definition for both (measured)
            flag = libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE if active else libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG
            yield flag, _dhcp_hosts(Network.parse(network.XMLDesc(0)))
        if network.isPersistent() and self._driver.is_real:
            inactive = Network.parse(network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE))
            yield libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG, _dhcp_hosts(inactive)

    def _check_there(self, spec: NetworkSpec) -> None:
        """A bridge or an interface that is said to be there is: libvirt would find out with the first guest. Raises NotFound."""
        wanted = spec.device or (spec.bridge if MODES[spec.mode].bridge == "there" else "")
        if not wanted or not self._driver.is_real:
            return
        try:
            known = {one.name: one for one in self.host_interfaces()}
        except Unsupported:  # a libvirt without node devices: the first guest finds out
            return
        if wanted not in known:
            raise NotFound(absent(wanted, known.values(), mode=spec.mode, host="this host"), interface=wanted)

    @contextlib.contextmanager
    def _network(self, name: str) -> Iterator[libvirt.virNetwork]:
        self._require(Feature.NETWORKS)
        with translate(network=name):
            yield self._connection.networkLookupByName(name)


def _marked(connection: libvirt.virConnect, flag: int) -> set[str]:
    return {network.UUIDString() for network in connection.listAllNetworks(flag)}


def _dhcp_hosts(document: Network) -> list[DhcpHost]:
    """Those of IPv4: what is kept of IPv6 goes by another identifier than the MAC."""
    return [
        DhcpHost(mac=host.mac.lower(), address=host.ip, name=host.name or "")
        for ip in document.ips
        for host in ip.hosts
        if host.mac and host.ip
    ]


def _network(uuid: str, network: libvirt.virNetwork, *, active: bool, autostart: bool, persistent: bool) -> NetworkInfo:
    try:
        document = Network.parse(network.XMLDesc(0))
    except InvalidDefinition:  # one that cannot be read is there all the same
        document = Network()
    mode, macvtap = _mode(document)
    devices = [one.dev for one in document.forward_interfaces if one.dev] or [document.forward_dev or ""]
    return NetworkInfo(
        uuid=uuid.lower(),
        name=network.name(),
        active=active,
        mode=mode,
        bridge=document.bridge or "",
        devices=tuple(filter(None, devices)),
        macvtap=macvtap,
        domain=document.domain or "",
        addresses=_addresses(document),
        dhcp=any(ip.dhcp for ip in document.ips),
        dhcp_hosts=tuple(_dhcp_hosts(document)),
        vlans=_tags(document.vlans),
        port_groups=tuple(
            PortGroup(name=one.name or "", vlans=_tags(one.vlans), default=one.default == "yes")
            for one in document.port_groups
        ),
        mtu=document.mtu,
        autostart=autostart,
        persistent=persistent,
    )


def _mode(document: Network) -> tuple[str, str]:
    """Our word, and how guests share the interface of a macvtap network: libvirt has one word for three kinds of bridges."""
    word = (document.forward_mode or "nat") if document.forward else "isolated"
    if word == "bridge" and document.virtual_port == "openvswitch":
        return "openvswitch", ""
    if word in MACVTAP and not (word == "bridge" and document.bridge):
        return "macvtap", word
    return word, ""


def _tags(vlans: Iterable[VlanTag]) -> tuple[int, ...]:
    return tuple(tag.id for tag in vlans if tag.id is not None)


def _addresses(document: Network) -> tuple[str, ...]:
    return tuple(address for address in map(_address, document.ips) if address)


def _address(ip: NetworkIp) -> str:
    """With prefix, however libvirt writes it down: `netmask`, `prefix`, or nothing where the class of the address says it."""
    if not ip.address:
        return ""
    try:
        address = ipaddress.ip_address(ip.address)
        if ip.prefix is not None:
            return f"{address}/{ip.prefix}"
        if ip.netmask:
            return str(ipaddress.ip_interface(f"{address}/{ip.netmask}"))
    except ValueError:
        return ip.address
    return str(address)


def _document(spec: NetworkSpec) -> Network:
    document = Network(name=spec.name)
    _forward(document, spec)
    if spec.bridge:
        document.bridge = spec.bridge
    if spec.mtu:
        document.mtu = spec.mtu
    if spec.domain:
        document.domain = spec.domain
    _tag(document, spec.vlans)
    for one in spec.port_groups:
        group = NetworkPortGroup(name=one.name)
        if one.default:
            group.default = "yes"
        _tag(group, one.vlans)
        document.port_groups.add(group)
    for ip in _ips(spec):
        document.ips.add(ip)
    return document


def _forward(document: Network, spec: NetworkSpec) -> None:
    """Its mode, in libvirt's words."""
    match spec.mode:
        case "isolated":
            pass
        case "openvswitch":
            document.forward_mode, document.virtual_port = "bridge", "openvswitch"
        case "macvtap":
            document.forward_mode = spec.macvtap
            document.forward_interfaces.add(ForwardInterface(dev=spec.device))
        case mode:
            document.forward_mode = mode
    if spec.mode == "nat" and spec.address6:
        document.nat_ipv6 = "yes"


def _tag(place: Network | NetworkPortGroup, vlans: tuple[int, ...]) -> None:
    if len(vlans) > 1:
        place.trunk = "yes"
    for tag in vlans:
        place.vlans.add(VlanTag(id=tag))


def _ips(spec: NetworkSpec) -> Iterator[NetworkIp]:
    if spec.address:
        place = ipaddress.IPv4Interface(spec.address)
        ip = NetworkIp(address=str(place.ip), prefix=place.network.prefixlen)
        if spec.dhcp_start:
            ip.dhcp_start, ip.dhcp_end = spec.dhcp_start, spec.dhcp_end
        yield ip
    if spec.address6:
        place6 = ipaddress.IPv6Interface(spec.address6)
        yield NetworkIp(family="ipv6", address=str(place6.ip), prefix=place6.network.prefixlen)
