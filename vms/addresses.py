"""What sources say of a guest's addresses, as it is kept and shown: agent before lease before ARP, each with its answer or why not."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypedDict

from django.utils.translation import gettext_lazy as _

from drivers.types import AddressInfo

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

Told = Mapping[str, Sequence[AddressInfo] | str]
"""As `drivers.base.Session.addresses` answers."""

SOURCES: Final[dict[str, StrOrPromise]] = {"agent": _("guest agent"), "lease": _("DHCP"), "arp": _("seen on the wire")}
"""In the order of trust: the guest knows best, and a lease may be an old one."""
ADDRESSES_MAX: Final = 64
REASON_MAX: Final = 300


class Address(TypedDict):
    """One address of a guest, as the contract says it."""

    address: str
    prefix: int | None
    mac: str
    source: str


def flattened(told: Told) -> list[Address]:
    """Every address once, from whom it is trusted most; those that others can reach first, IPv4 before IPv6."""
    found: dict[str, Address] = {}
    for source in (*SOURCES, *sorted(told.keys() - SOURCES.keys())):
        answer = told.get(source, "")
        for one in () if isinstance(answer, str) else answer:
            parsed = _parsed(one.address)
            if parsed is None or parsed.is_loopback or parsed.is_unspecified:
                continue
            found.setdefault(
                str(parsed),
                Address(address=str(parsed), prefix=one.prefix, mac=one.mac.lower()[:20], source=source[:20]),
            )
    return sorted(found.values(), key=lambda one: _order(one["address"]))[:ADDRESSES_MAX]


def reasons(told: Told) -> dict[str, str]:
    """Source → why it names none, for each that does not."""
    return {
        source[:20]: (answer if isinstance(answer, str) else "It names none.")[:REASON_MAX]
        for source, answer in told.items()
        if isinstance(answer, str) or not answer
    }


def why_none(told: Told) -> str:
    """The same in one sentence (`agent: not connected; lease: none given out`)."""
    told_why = reasons(told)
    return "; ".join(f"{source}: {told_why[source].rstrip('.')}" for source in SOURCES if source in told_why) + "."


def reachable(address: str) -> bool:
    """Whether others could talk to it. What a guest says of itself is not where our own machine is, nor its neighbours' services."""
    found = _parsed(address)
    return found is not None and not (
        found.is_loopback or found.is_link_local or found.is_unspecified or found.is_multicast or found.is_reserved
    )


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _order(address: str) -> tuple[Any, ...]:
    parsed = ipaddress.ip_address(address)
    return not reachable(address), parsed.version, int(parsed)
