"""The facet of a session that speaks of virtual networks, and of the addresses that they gave out."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import TYPE_CHECKING, Final

import libvirt

from drivers.errors import InvalidDefinition, Unsupported
from drivers.findings import refusing
from drivers.libvirtd.errors import gone_is_nothing, translate
from drivers.libvirtd.facet import Facet
from drivers.libvirtd.xml.network import Network, NetworkIp
from drivers.networks import check_network
from drivers.types import Feature, LeaseInfo, NetworkInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from drivers.types import NetworkSpec

_NO_LEASES: Final = "A simulated network gives no addresses out."


class NetworkFacet(Facet):
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

    @contextlib.contextmanager
    def _network(self, name: str) -> Iterator[libvirt.virNetwork]:
        self._require(Feature.NETWORKS)
        with translate(network=name):
            yield self._connection.networkLookupByName(name)


def _marked(connection: libvirt.virConnect, flag: int) -> set[str]:
    return {network.UUIDString() for network in connection.listAllNetworks(flag)}


def _network(uuid: str, network: libvirt.virNetwork, *, active: bool, autostart: bool, persistent: bool) -> NetworkInfo:
    try:
        document = Network.parse(network.XMLDesc(0))
    except InvalidDefinition:  # one that cannot be read is there all the same
        document = Network()
    ips = list(document.ips)
    return NetworkInfo(
        uuid=uuid.lower(),
        name=network.name(),
        active=active,
        mode=(document.forward_mode or "nat") if document.forward else "isolated",
        bridge=document.bridge or "",
        domain=document.domain or "",
        addresses=tuple(address for address in map(_address, ips) if address),
        dhcp=any(ip.dhcp for ip in ips),
        autostart=autostart,
        persistent=persistent,
    )


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
    if spec.mode != "isolated":
        document.forward_mode = spec.mode
    if spec.bridge:
        document.bridge = spec.bridge
    if spec.domain:
        document.domain = spec.domain
    if spec.address:
        place = ipaddress.IPv4Interface(spec.address)
        ip = NetworkIp(address=str(place.ip), prefix=place.network.prefixlen)
        if spec.dhcp_start:
            ip.dhcp_start, ip.dhcp_end = spec.dhcp_start, spec.dhcp_end
        document.ips.add(ip)
    return document
