"""What virtual networks are made of, as data: their modes, what each takes, and the rule for every word that a user types there.

`check_network` stands at both doors: a request gets `BadInput` with a pointer for each wrong field, a driver checks again before it
acts and refuses with its own error (`findings.refusing`). Names are narrow on purpose: they become names of files and of interfaces.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from drivers.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drivers.types import NetworkSpec

NAME_MAX: Final = 50
BRIDGE_MAX: Final = 15
"""The kernel's limit for names of interfaces."""
PREFIX_MIN, PREFIX_MAX = 8, 30
LEASES_MAX: Final = 65535
"""libvirt gives out no more of one range."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_BRIDGE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


_NOBODYS: Final = tuple(map(ipaddress.IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")))
"""This host, loopback, link-local, multicast and reserved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """One way in which guests on a network reach others.

    Attributes:
        name: libvirt's word, `isolated` for none.
        address: Whether the host has an address in it: "required", "optional", "" for never.
    """

    name: str
    label: str
    hint: str
    address: str


MODES: Final[Mapping[str, Mode]] = {
    one.name: one
    for one in (
        Mode(
            name="nat",
            label="NAT",
            hint="Guests reach the outside by the host's own address; nobody outside reaches them.",
            address="required",
        ),
        Mode(
            name="route",
            label="Routed",
            hint="Guests have addresses of their own outside; the router there must know the way by this host.",
            address="required",
        ),
        Mode(
            name="isolated",
            label="Isolated",
            hint="Guests reach each other and the host, and nobody else.",
            address="optional",
        ),
        Mode(
            name="bridge",
            label="Bridge of the host",
            hint="Guests are on a bridge that the host has already, as machines of its network.",
            address="",
        ),
    )
}
"""libvirt's word → mode, the most usual first."""


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
    for field, check in (("bridge", _bridge), ("domain", _domain), ("address", _address)):
        value = getattr(spec, field)
        if value and not mode.address and field != "bridge":
            found.add(field, f"A network of the mode {mode.name} takes none: who is on that bridge already has them.")
        elif value:
            values[field] = found.checked(field, value, check)
    if not mode.address and not spec.bridge:
        found.add("bridge", "Say which bridge of the host it is.")
    if mode.address == "required" and not spec.address:
        found.add("address", "The host's address in it is missing, for example 192.168.100.1/24.")
    values |= _check_dhcp(found, spec, values.get("address", ""))
    found.settle()
    return dataclasses.replace(spec, **values)


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
    subnet = ipaddress.IPv4Interface(address).network
    for other, whose in others.items():
        try:
            theirs = ipaddress.ip_interface(other).network
        except ValueError:  # what a host says of a network need not be an address
            continue
        if theirs.version == subnet.version and subnet.overlaps(theirs):
            return whose
    return ""
