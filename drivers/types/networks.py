"""Virtual networks, and what their DHCP servers gave out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInfo:
    """A virtual network.

    Attributes:
        mode: `nat route open isolated bridge vepa private passthrough hostdev`.
        bridge: The bridge on the host; "" where none.
        addresses: The host's own addresses in it, with prefix (`192.168.122.1/24`).
        dhcp: Whether it gives out addresses.
    """

    uuid: str
    name: str
    active: bool
    mode: str
    bridge: str = ""
    domain: str = ""
    addresses: tuple[str, ...] = ()
    dhcp: bool = False
    autostart: bool = False
    persistent: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A virtual network to be made. What a mode takes is `drivers.networks.MODES`.

    Attributes:
        mode: `nat route isolated bridge`.
        bridge: The bridge on the host: for `bridge` one that is there, else one that is made; "" for a name that the host finds.
        address: The host's own in it, with prefix (`192.168.100.1/24`); "" for none.
        dhcp_start: The first address that is given out; "" gives none out.
        dhcp_end: The last one.
    """

    name: str
    mode: str = "nat"
    bridge: str = ""
    domain: str = ""
    address: str = ""
    dhcp_start: str = ""
    dhcp_end: str = ""
    autostart: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseInfo:
    """A DHCP answer that a virtual network gave. `expires_at`: seconds since 1970, 0 for never."""

    mac: str
    address: str
    prefix: int = 0
    hostname: str = ""
    expires_at: int = 0
