"""What virtual networks are made of, as data: their modes, what each takes, and the rule for every word that a user types there.

`check_network` stands at both doors: a request gets `BadInput` with a pointer for each wrong field, a driver checks again before it
acts and refuses with its own error (`findings.refusing`). Names are narrow on purpose: they become names of files and of interfaces.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from drivers.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from drivers.types import DhcpHost, NetworkSpec

NAME_MAX: Final = 50
BRIDGE_MAX: Final = 15
"""The kernel's limit for names of interfaces."""
PREFIX_MIN, PREFIX_MAX = 8, 30
PREFIX6_MAX: Final = 126
LEASES_MAX: Final = 65535
"""libvirt gives out no more of one range."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_BRIDGE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_DEVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


_NOBODYS: Final = tuple(map(ipaddress.IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")))
"""This host, loopback, link-local, multicast and reserved."""


class Named(Protocol):
    """An interface of a host, read just now or kept."""

    @property
    def name(self) -> str:
        """As the host calls it."""

    @property
    def kind(self) -> str:
        """As `HostInterface` has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """One way in which guests on a network reach others.

    Attributes:
        name: libvirt's word, `isolated` for none; what libvirt tells apart by other means than its mode has a word of its own.
        address: Whether the host has an address in it: "required", "optional", "" for never. What has one takes a domain and an MTU.
        bridge: Whose bridge it is: "made" with the network, the host's ("there"), "" for none.
        device: Whether guests share an interface of the host.
        tagged: Whether its ports can have VLAN tags.
    """

    name: str
    label: str
    hint: str
    address: str = ""
    bridge: str = ""
    device: bool = False
    tagged: bool = False


MODES: Final[Mapping[str, Mode]] = {
    one.name: one
    for one in (
        Mode(
            name="nat",
            label="NAT",
            hint="Guests reach the outside by the host's own address; nobody outside reaches them.",
            address="required",
            bridge="made",
        ),
        Mode(
            name="route",
            label="Routed",
            hint="Guests have addresses of their own outside; the router there must know the way by this host.",
            address="required",
            bridge="made",
        ),
        Mode(
            name="isolated",
            label="Isolated",
            hint="Guests reach each other and the host, and nobody else.",
            address="optional",
            bridge="made",
        ),
        Mode(
            name="bridge",
            label="Bridge of the host",
            hint="Guests are on a bridge that the host has already, as machines of its network.",
            bridge="there",
        ),
        Mode(
            name="openvswitch",
            label="Open vSwitch",
            hint="Guests are ports of an Open vSwitch bridge that the host has already, with VLAN tags where you want them.",
            bridge="there",
            tagged=True,
        ),
        Mode(
            name="macvtap",
            label="Interface of the host (macvtap)",
            hint="Guests share an interface of the host and are machines of its network. They do not reach the host itself.",
            device=True,
        ),
    )
}
"""libvirt's word → mode, the most usual first."""

MACVTAP: Final[Mapping[str, str]] = {
    "bridge": "Guests on the interface reach each other.",
    "vepa": "All goes out to the switch, which has to send back what is for a neighbour (802.1Qbg).",
    "private": "Guests on the interface never reach each other.",
    "passthrough": "One guest has the interface for itself.",
}
"""How guests share an interface → what that means."""
MTU_MIN, MTU_MIN_IPV6, MTU_MAX = 576, 1280, 65535
VLAN_MAX: Final = 4094
PORT_GROUPS_MAX: Final = 100


# -- the rules: each gives the value as it is to be written, or raises ValueError with a sentence --------------------------
def _name(text: str) -> str:
    if len(text) > NAME_MAX or not _NAME.fullmatch(text):
        raise ValueError(
            f"A name has 1 to {NAME_MAX} letters a to z, digits and _ . - in it, and starts with a letter, a digit or _."
        )
    return text


def _bridge(text: str) -> str:
    if len(text) > BRIDGE_MAX or not _BRIDGE.fullmatch(text):
        raise ValueError(
            f"A bridge has a name of 1 to {BRIDGE_MAX} letters a to z, digits and _ . -, and starts with a letter: virbr7."
        )
    return text


def _device(text: str) -> str:
    if len(text) > BRIDGE_MAX or not _DEVICE.fullmatch(text):
        raise ValueError(f"An interface has a name of 1 to {BRIDGE_MAX} letters, digits and _ . -, for example eth0.")
    return text


def _domain(text: str) -> str:
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in text.split(".")):
        raise ValueError("A domain is a name as DNS has it, for example lab.example.org.")
    return text.lower()


def _address(text: str) -> str:
    """With prefix, as `ipaddress` writes it."""
    try:
        place = ipaddress.IPv4Interface(text)
    except ValueError:
        raise ValueError("The host's IPv4 address in it with the prefix, for example 192.168.100.1/24.") from None
    subnet = place.network
    if not PREFIX_MIN <= subnet.prefixlen <= PREFIX_MAX:
        raise ValueError(f"A prefix from /{PREFIX_MIN} to /{PREFIX_MAX}, for example {place.ip}/24.")
    if place.ip in (subnet.network_address, subnet.broadcast_address):
        raise ValueError(f"{place.ip} is the first or the last of {subnet}: those are no host's. Take {subnet[1]}.")
    if any(subnet.overlaps(one) for one in _NOBODYS):
        raise ValueError(f"{subnet} has a meaning of its own on every host; take one of 10.0.0.0/8 or 192.168.0.0/16.")
    return place.with_prefixlen


def _address6(text: str) -> str:
    try:
        place = ipaddress.IPv6Interface(text)
    except ValueError:
        raise ValueError("The host's IPv6 address in it with the prefix, for example fd00:100::1/64.") from None
    if place.network.prefixlen > PREFIX6_MAX or place.ip == place.network.network_address:
        raise ValueError(f"An address within a subnet, for example {place.network.network_address + 1}/64.")
    one = place.ip
    if one.is_link_local or one.is_multicast or one.is_loopback or one.is_unspecified or one.ipv4_mapped:
        raise ValueError(
            f"{one} has a meaning of its own on every host; take one of fd00::/8, or of what is routed to it."
        )
    return place.with_prefixlen


def mac_address(text: str) -> str:
    """Lower case, with colons. Raises ValueError for what is none, or no single interface's."""
    plain = text.strip().lower().replace("-", ":")
    if not _MAC.fullmatch(plain) or plain == "00:00:00:00:00:00":
        raise ValueError("A MAC address, for example 52:54:00:12:34:56.")
    if int(plain[:2], 16) & 1:
        raise ValueError("This MAC address is a group's: the second digit of a single interface's is even.")
    return plain


def _host_name(text: str) -> str:
    if not all(_LABEL.fullmatch(label) for label in text.split(".")) or len(text) > NAME_MAX:
        raise ValueError("A name as DNS has it, for example web.")
    return text.lower()


def _one_address(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError("An IPv4 address, for example 192.168.100.10.") from None


# -- the door --------------------------------------------------------------------------------------------------------------
def check_network(spec: NetworkSpec) -> NetworkSpec:
    """The network as it is to be made: every word checked, and as it is written down. Raises BadInput."""
    found = Findings()
    mode = MODES.get(spec.mode)
    if mode is None:
        found.add("mode", f"One of {', '.join(MODES)}.")
        found.settle()
        raise AssertionError("unreachable")
    values: dict[str, Any] = {"name": found.checked("name", spec.name, _name)}
    values |= _check_addresses(found, spec, mode)
    values |= _check_parts(found, spec, mode)
    values |= _check_dhcp(found, spec, values.get("address", ""))
    _check_tags(found, spec, mode)
    found.settle()
    return dataclasses.replace(spec, **values)


def _check_addresses(found: Findings, spec: NetworkSpec, mode: Mode) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field, check in (("domain", _domain), ("address", _address), ("address6", _address6)):
        value = getattr(spec, field)
        if value and not mode.address:
            found.add(field, f"A network of the mode {mode.name} takes none: who is in it already has them.")
        elif value:
            values[field] = found.checked(field, value, check)
    if mode.address == "required" and not spec.address:
        found.add("address", "The host's address in it is missing, for example 192.168.100.1/24.")
    if spec.mtu is not None and not mode.address:
        found.add("mtu", f"A network of the mode {mode.name} takes none: it has that of the host's interface.")
    elif spec.mtu is not None:
        least = MTU_MIN_IPV6 if spec.address6 else MTU_MIN
        if not least <= spec.mtu <= MTU_MAX:
            found.add("mtu", f"From {least} to {MTU_MAX} bytes; usual are 1500 and 9000.")
    return values


def _check_parts(found: Findings, spec: NetworkSpec, mode: Mode) -> dict[str, Any]:
    """What it has of the host: its bridge, its interface."""
    values: dict[str, Any] = {}
    if spec.bridge and not mode.bridge:
        found.add("bridge", f"A network of the mode {mode.name} has no bridge.")
    elif spec.bridge:
        values["bridge"] = found.checked("bridge", spec.bridge, _bridge)
    elif mode.bridge == "there":
        found.add("bridge", "Say which bridge of the host it is.")
    if spec.device and not mode.device:
        found.add("device", f"A network of the mode {mode.name} has no interface of the host.")
    elif spec.device:
        values["device"] = found.checked("device", spec.device, _device)
    elif mode.device:
        found.add("device", "Say which interface of the host it is.")
    if mode.device and spec.macvtap not in MACVTAP:
        found.add("macvtap", f"One of {', '.join(MACVTAP)}.")
    return values


def _check_tags(found: Findings, spec: NetworkSpec, mode: Mode) -> None:
    for field in ("vlans", "port_groups"):
        if getattr(spec, field) and not mode.tagged:
            found.add(
                field,
                f"libvirt tags ports on Open vSwitch alone, not on a network of the mode {mode.name}. "
                "Elsewhere, make a VLAN interface on the host and take a bridge on it, or it itself.",
            )
    if not mode.tagged:
        return
    _check_vlans(found, "vlans", spec.vlans)
    names = [one.name for one in spec.port_groups]
    if len(names) > PORT_GROUPS_MAX:
        found.add("port_groups", f"At most {PORT_GROUPS_MAX}.")
    if len(set(names)) < len(names):
        found.add("port_groups", "Each has a name of its own.")
    if sum(one.default for one in spec.port_groups) > 1:
        found.add("port_groups", "One of them at most is what guests get that choose none.")
    for one in spec.port_groups:
        found.checked("port_groups", one.name, _name)
        _check_vlans(found, "port_groups", one.vlans)


def _check_vlans(found: Findings, field: str, vlans: tuple[int, ...]) -> None:
    if not all(1 <= tag <= VLAN_MAX for tag in vlans):
        found.add(field, f"VLAN tags are numbers from 1 to {VLAN_MAX}.")
    elif len(set(vlans)) < len(vlans):
        found.add(field, "Each VLAN tag once.")


def check_dhcp_host(host: DhcpHost, *, network: str, addresses: Iterable[str], others: Iterable[DhcpHost]) -> DhcpHost:
    """An address that is to be kept for a MAC, as it is to be written down.

    Args:
        host: As somebody typed it.
        network: For sentences.
        addresses: The host's own there, with prefix.
        others: What is kept already; the one of the same MAC is replaced.

    Raises:
        BadInput: A pointer for each wrong field.
    """
    found = Findings()
    mac = found.checked("mac", host.mac, mac_address)
    name = found.checked("name", host.name, _host_name) if host.name else ""
    address = found.checked("address", host.address, _one_address)
    if not any(one["pointer"] == "/address" for one in found.errors):
        _check_kept(found, ipaddress.IPv4Address(address), network, addresses)
    for other in others:
        if other.mac == mac:
            continue
        if other.address == address:
            found.add("address", f"It is kept for {other.name or other.mac} already.")
        if name and other.name == name:
            found.add("name", f"{other.mac} has this name already.")
    found.settle()
    return dataclasses.replace(host, mac=mac, name=name, address=address)


def _check_kept(found: Findings, address: ipaddress.IPv4Address, network: str, places: Iterable[str]) -> None:
    mine = [place for place in map(_interface, places) if place is not None and place.version == 4]
    if not mine:
        found.add("address", f"{network} has no IPv4 subnet.")
        return
    place = next((one for one in mine if address in one.network), None)
    if place is None:
        found.add("address", f"Within {', '.join(str(one.network) for one in mine)}.")
    elif address in (place.network.network_address, place.network.broadcast_address):
        found.add("address", f"Within {place.network}: from {place.network[1]} to {place.network[-2]}.")
    elif address == place.ip:
        found.add("address", f"{address} is the host's own.")


def absent(wanted: str, there: Iterable[Named], *, mode: str, host: str) -> str:
    """Why a network cannot be made of an interface that the host has not, and what it has."""
    bridges = mode == "bridge"
    names = [one.name for one in there if (one.kind == "bridge" if bridges else one.kind not in ("loopback", "bridge"))]
    has = f"It has {', '.join(names[:10])}." if names else f"It has no {'bridge' if bridges else 'interface'} to take."
    if mode == "openvswitch":
        has = "Open vSwitch makes its bridges with ovs-vsctl add-br; is it installed there?"
    return f"There is no {'interface' if mode == 'macvtap' else 'bridge'} {wanted} on {host}. {has}"


def _interface(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    try:
        return ipaddress.ip_interface(text)
    except ValueError:  # what a host says of a network need not be an address
        return None


def _check_dhcp(found: Findings, spec: NetworkSpec, address: str) -> dict[str, str]:
    """The range as it is to be written. `address`: the host's, which may be wrong itself."""
    if bool(spec.dhcp_start) is not bool(spec.dhcp_end):
        missing = "dhcp_end" if spec.dhcp_start else "dhcp_start"
        found.add(missing, "The first and the last address that are given out come together.")
        return {}
    if not spec.dhcp_start:
        return {}
    if not spec.address:
        found.add("address", "What gives addresses out needs one itself, for example 192.168.100.1/24.")
    before = len(found.errors)
    values = {field: found.checked(field, getattr(spec, field), _one_address) for field in ("dhcp_start", "dhcp_end")}
    if len(found.errors) == before and not any(one["pointer"] == "/address" for one in found.errors):
        _check_range(
            found,
            ipaddress.IPv4Interface(address),
            ipaddress.IPv4Address(values["dhcp_start"]),
            ipaddress.IPv4Address(values["dhcp_end"]),
        )
    return values


def _check_range(
    found: Findings, host: ipaddress.IPv4Interface, start: ipaddress.IPv4Address, end: ipaddress.IPv4Address
) -> None:
    subnet = host.network
    for field, one in (("dhcp_start", start), ("dhcp_end", end)):
        if one not in subnet or one in (subnet.network_address, subnet.broadcast_address):
            found.add(field, f"Within {subnet}: from {subnet[1]} to {subnet[-2]}.")
    if start > end:
        found.add("dhcp_end", "Not before the first.")
    elif start <= host.ip <= end:
        found.add("dhcp_start", f"{host.ip} is the host's own: leave it out of what is given out.")
    elif int(end) - int(start) >= LEASES_MAX:
        found.add("dhcp_end", f"At most {LEASES_MAX} addresses.")


def overlapping(address: str, others: Mapping[str, str]) -> str:
    """Whose subnet this one is, or is a part of, or has in it: a key of `others` (to their addresses with prefix); "" nobody's."""
    if not address:
        return ""
    subnet = ipaddress.ip_interface(address).network
    for other, whose in others.items():
        theirs = _interface(other)
        if theirs is not None and theirs.network.version == subnet.version and subnet.overlaps(theirs.network):
            return whose
    return ""
