"""Where a guest can be reached: asked of its agent, of the DHCP servers of libvirt's networks, of the host's neighbour table.

Each source answers for itself; one that cannot says why, and the others go on. Nothing here waits longer than `AGENT_SECONDS`.
"""

from __future__ import annotations

import contextlib
import ipaddress
from typing import TYPE_CHECKING, Final

import libvirt

from drivers.errors import DriverError, Unreachable, Unsupported, WrongState
from drivers.libvirtd.errors import driver_error, translate
from drivers.libvirtd.facet import Facet
from drivers.libvirtd.xml.domain import Domain
from drivers.types import AddressInfo, Feature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from drivers.types import GuestRef

AGENT_SECONDS: Final = 2
"""The longest that an agent is waited for; libvirt's own is for ever."""
AGENT_CHANNEL: Final = "org.qemu.guest_agent.0"
SILENT: Final = "The guest agent does not answer: is qemu-guest-agent running in the guest?"
_SOURCES: Final[dict[str, int]] = {
    "agent": libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
    "lease": libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
    "arp": libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
}
_UNTOLD: Final = {
    "agent": "libvirt does not ask agents of guests of this kind.",
    "lease": "libvirt does not look leases up for guests of this kind.",
    "arp": "libvirt does not look into the neighbour table for guests of this kind.",
}


class AddressFacet(Facet):
    """`addresses` over the session's connection."""

    def addresses(self, ref: GuestRef) -> Mapping[str, Sequence[AddressInfo] | str]:
        """Per source, what it tells. Waits for an agent that hangs, for `AGENT_SECONDS`."""
        self._require(Feature.ADDRESSES)
        with translate(guest=ref.name or ref.uuid):
            domain = self._domain(ref)
            if not domain.isActive():
                message = "The guest is off: it has no addresses now."
                raise WrongState(message, guest=ref.name or ref.uuid)
            live = Domain.parse(domain.XMLDesc(0))
            return {source: _asked(domain, live, source) for source in self._driver.address_sources}


def _asked(domain: libvirt.virDomain, live: Domain, source: str) -> Sequence[AddressInfo] | str:
    """What one source answers, or why it does not. Raises libvirtError for what is not the source's own fault."""
    ready = _READY.get(source)
    reason = ready(domain, live) if ready else ""
    if reason:
        return reason
    try:
        with _patience(domain) if source == "agent" else contextlib.nullcontext():
            found = domain.interfaceAddresses(_SOURCES[source], 0)
    except libvirt.libvirtError as error:
        translated = driver_error(error)
        if isinstance(translated, (Unreachable, WrongState)) or error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            raise
        return why_not(translated, source)
    except (SystemError, UnicodeDecodeError):
        return "What this source answered cannot be read."  # an interface's name is the guest's own choice
    return told(found, source, own=frozenset((nic.mac or "").lower() for nic in live.interfaces))


def why_not(error: DriverError, source: str) -> str:
    """The sentence of a source that failed."""
    if isinstance(error, Unsupported):
        return _UNTOLD[source]
    text = str(error.context.get("libvirt_message", ""))
    if source == "agent":
        return SILENT
    if "nlmsg len" in text:
        return "libvirt on this host cannot read the kernel's neighbour table (wrong nlmsg len); a newer libvirt can."
    return error.detail


def _agent_ready(domain: libvirt.virDomain, live: Domain) -> str:
    channel = next((one for one in live.channels if one.target_name == AGENT_CHANNEL), None)
    if channel is None:
        return f"The guest has no channel for an agent ({AGENT_CHANNEL}); add one to its definition."
    if channel.target_state == "disconnected":
        return SILENT
    if domain.state(0)[0] != libvirt.VIR_DOMAIN_RUNNING:
        return "The guest is paused: its agent cannot answer."
    # The next call would wait 30 s for the lock that a job holds (measured).
    if domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
        return "The guest is busy with another job; its agent is asked when that has ended."
    return ""


def _lease_ready(_domain: libvirt.virDomain, live: Domain) -> str:
    if any(nic.type == "network" for nic in live.interfaces):
        return ""
    return "No network of this guest is libvirt's own: who gives it addresses is not known here."


def _arp_ready(_domain: libvirt.virDomain, live: Domain) -> str:
    return "" if len(live.interfaces) else "The guest has no network interface."


_READY: Final[dict[str, Callable[[libvirt.virDomain, Domain], str]]] = {
    "agent": _agent_ready,
    "lease": _lease_ready,
    "arp": _arp_ready,
}


@contextlib.contextmanager
def _patience(domain: libvirt.virDomain) -> Iterator[None]:
    """Let the agent have `AGENT_SECONDS`. The setting is the guest's, for all clients: it goes back to libvirt's own after."""
    domain.agentSetResponseTimeout(AGENT_SECONDS, 0)
    try:
        yield
    finally:
        with contextlib.suppress(libvirt.libvirtError):
            domain.agentSetResponseTimeout(libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0)


def told(found: Mapping[str, object], source: str, *, own: frozenset[str]) -> Sequence[AddressInfo]:
    """The addresses in libvirt's answer, those of the guest's own cards before what it routes for others (its containers …)."""
    return sorted(_addresses(found, source), key=lambda each: each.mac not in own)


def _addresses(found: Mapping[str, object], source: str) -> Iterator[AddressInfo]:
    for interface in found.values():
        if not isinstance(interface, dict):
            continue
        mac = str(interface.get("hwaddr") or "").lower()
        for each in interface.get("addrs") or ():
            address = _usable(str(each.get("addr") or ""))
            if address:
                prefix = each.get("prefix")
                told = prefix if isinstance(prefix, int) and prefix > 0 else None
                yield AddressInfo(address=address, prefix=told, mac=mac, source=source)


def _usable(text: str) -> str:
    """The address as it is written, "" for one that nobody else can reach."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    return "" if address.is_loopback or address.is_link_local or address.is_unspecified else str(address)
