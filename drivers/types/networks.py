"""Virtual networks, what their DHCP servers gave out and keep for whom, the host's own interfaces, filters."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DhcpHost:
    """An address that a network's DHCP server keeps for one MAC.

    Attributes:
        mac: Lower case.
        name: What the server calls it, by DNS too; "" for none.
    """

    mac: str
    address: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortGroup:
    """A kind of port that guests may choose on a network.

    Attributes:
        vlans: Tags: one is the port's own, several make a trunk, none leaves frames as they are.
        default: Guests that choose none get this one.
    """

    name: str
    vlans: tuple[int, ...] = ()
    default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInfo:
    """A virtual network.

    Attributes:
        mode: `nat route open isolated bridge openvswitch macvtap hostdev`.
        bridge: The bridge on the host; "" where none.
        devices: Interfaces of the host that guests share (macvtap), or that it is bound to.
        macvtap: Of a `macvtap` network: `bridge vepa private passthrough`.
        addresses: The host's own addresses in it, with prefix (`192.168.122.1/24`).
        dhcp: Whether it gives out addresses.
        dhcp_hosts: Those that it keeps for one MAC.
        vlans: Tags of its ports, where it sets any.
        mtu: Bytes; None where it says nothing.
    """

    uuid: str
    name: str
    active: bool
    mode: str
    bridge: str = ""
    devices: tuple[str, ...] = ()
    macvtap: str = ""
    domain: str = ""
    addresses: tuple[str, ...] = ()
    dhcp: bool = False
    dhcp_hosts: tuple[DhcpHost, ...] = ()
    vlans: tuple[int, ...] = ()
    port_groups: tuple[PortGroup, ...] = ()
    mtu: int | None = None
    autostart: bool = False
    persistent: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A virtual network to be made. What a mode takes is `drivers.networks.MODES`.

    Attributes:
        mode: `nat route isolated bridge openvswitch macvtap`.
        bridge: The bridge on the host: one that is there, or one that is made; "" for a name that the host finds.
        device: The interface of the host that guests share.
        macvtap: How they share it: `bridge vepa private passthrough`.
        address: The host's own in it, with prefix (`192.168.100.1/24`); "" for none.
        address6: The same of IPv6 (`fd00:100::1/64`): guests take addresses of a /64 by themselves.
        dhcp_start: The first address that is given out; "" gives none out.
        dhcp_end: The last one.
        vlans: Tags of its ports: one is theirs, several make them trunks.
        mtu: Bytes; None for what the host takes.
    """

    name: str
    mode: str = "nat"
    bridge: str = ""
    device: str = ""
    macvtap: str = "bridge"
    domain: str = ""
    address: str = ""
    address6: str = ""
    dhcp_start: str = ""
    dhcp_end: str = ""
    vlans: tuple[int, ...] = ()
    port_groups: tuple[PortGroup, ...] = ()
    mtu: int | None = None
    autostart: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseInfo:
    """A DHCP answer that a virtual network gave. `expires_at`: seconds since 1970, 0 for never."""

    mac: str
    address: str
    prefix: int = 0
    hostname: str = ""
    expires_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostInterface:
    """A network interface of the host itself.

    Attributes:
        kind: `ethernet bridge bond vlan virtual loopback`; `virtual`: made by software, and nothing more is known.
        mac: Lower case; "" where it has none.
        up: Whether it has a link; None where the host does not say.
        speed_mbps: None where the host does not say.
        master: The bridge or bond that it is a port of; "" for none.
        vlan: Its tag, of a `vlan`.
    """

    name: str
    kind: str
    mac: str = ""
    up: bool | None = None
    speed_mbps: int | None = None
    master: str = ""
    vlan: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterInfo:
    """A network filter: rules for what the interfaces of guests that name it may send and get.

    Attributes:
        chain: Where its rules stand: `root mac arp ipv4 ipv6 …`.
        rules: How many of its own.
        uses: Names of filters that it takes in.
        xml: All of it, as the hypervisor has it.
    """

    uuid: str
    name: str
    chain: str = "root"
    rules: int = 0
    uses: tuple[str, ...] = ()
    xml: str = ""
