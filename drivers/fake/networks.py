"""Virtual networks of an in-memory world, and the addresses that they have given out. Guarded by the world's lock."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from drivers.errors import AlreadyExists, NotFound, WrongState
from drivers.findings import refusing
from drivers.netfilters import check_filter, outline, users_of
from drivers.networks import MODES, absent, check_dhcp_host, check_network, overlapping
from drivers.types import FilterInfo, Holding, HoldingEvent, HostInterface, LeaseInfo, NetworkInfo

if TYPE_CHECKING:
    import threading
    import uuid as uuids
    from collections.abc import Callable

    from drivers.types import DhcpHost, NetworkSpec


class FakeNetworks:
    """A world's networks.

    Args:
        lock: The world's.
        uuid_of: Name → the uuid that a network of this name has.
        tell: Takes news of them. Called without the lock.
    """

    def __init__(
        self,
        lock: threading.Condition,
        uuid_of: Callable[[str], uuids.UUID],
        *,
        tell: Callable[[HoldingEvent], None],
    ) -> None:
        self._lock = lock
        self._uuid_of = uuid_of
        self._tell = tell
        self._networks: dict[str, NetworkInfo] = {}
        self._leases: dict[str, list[LeaseInfo]] = {}
        self._interfaces: dict[str, HostInterface] = {}
        self._filters: dict[str, FilterInfo] = {}

    # -- the scene -----------------------------------------------------------------------------------------------------
    def add(
        self,
        name: str = "default",
        *,
        mode: str = "nat",
        bridge: str = "virbr0",
        addresses: tuple[str, ...] = ("192.168.122.1/24",),
        dhcp: bool = True,
        active: bool = True,
        persistent: bool = True,
    ) -> NetworkInfo:
        """A network that somebody made on the host."""
        info = NetworkInfo(
            uuid=str(self._uuid_of(name)),
            name=name,
            active=active,
            mode=mode,
            bridge=bridge,
            addresses=addresses,
            dhcp=dhcp,
            autostart=persistent,
            persistent=persistent,
        )
        with self._lock:
            self._networks[name] = info
        self._say(name, "defined")
        return info

    def set_active(self, name: str, *, active: bool) -> None:
        """Somebody starts or stops it; a stopped one forgets its leases."""
        with self._lock:
            self._networks[name] = dataclasses.replace(self._find(name), active=active)
            if not active:
                self._leases.pop(name, None)
        self._say(name, "started" if active else "stopped")

    def remove(self, name: str) -> None:
        """Somebody removes it."""
        with self._lock:
            del self._networks[self._find(name).name]
            self._leases.pop(name, None)
        self._say(name, "undefined")

    def lease(self, name: str, *, mac: str, address: str, hostname: str = "", expires_at: int = 0) -> LeaseInfo:
        """Its DHCP server gives an address out."""
        info = LeaseInfo(mac=mac, address=address, prefix=24, hostname=hostname, expires_at=expires_at)
        with self._lock:
            self._leases.setdefault(self._find(name).name, []).append(info)
        return info

    def add_interface(self, name: str, kind: str = "ethernet", **values: Any) -> HostInterface:
        """An interface that the host has."""
        info = HostInterface(name=name, kind=kind, **({"up": True, "speed_mbps": 1000} | values))
        with self._lock:
            self._interfaces[name] = info
        return info

    def add_filter(self, name: str, *, uses: tuple[str, ...] = ()) -> FilterInfo:
        """A filter that somebody made."""
        refs = "".join(f"<filterref filter='{one}'/>" for one in uses)
        return self._put(f"<filter name='{name}' chain='root'>{refs}</filter>")

    # -- verbs ---------------------------------------------------------------------------------------------------------
    def networks(self) -> list[NetworkInfo]:
        """All of them."""
        with self._lock:
            return list(self._networks.values())

    def leases(self, network: str) -> list[LeaseInfo]:
        """What one has given out."""
        with self._lock:
            return list(self._leases.get(self._find(network).name, ()))

    def network_create(self, spec: NetworkSpec) -> NetworkInfo:
        """Made and active; what another active one has is taken."""
        with refusing():
            spec = check_network(spec)
        with self._lock:
            if spec.name in self._networks:
                raise AlreadyExists(f"There is a network called {spec.name} already.")
            self._refuse_taken(spec.name, spec.address)
            self._refuse_absent(spec)
            bridge = spec.bridge or (f"virbr{len(self._networks)}" if MODES[spec.mode].bridge else "")
            info = NetworkInfo(
                uuid=str(self._uuid_of(spec.name)),
                name=spec.name,
                active=True,
                mode=spec.mode,
                bridge=bridge,
                devices=(spec.device,) if spec.device else (),
                macvtap=spec.macvtap if spec.device else "",
                domain=spec.domain,
                addresses=tuple(filter(None, (spec.address, spec.address6))),
                dhcp=bool(spec.dhcp_start),
                vlans=spec.vlans,
                port_groups=spec.port_groups,
                mtu=spec.mtu,
                autostart=spec.autostart,
            )
            self._networks[spec.name] = info
        self._say(spec.name, "started")
        return info

    def network_start(self, name: str) -> None:
        """Active afterwards."""
        with self._lock:
            for address in self._find(name).addresses:
                self._refuse_taken(name, address)
        self.set_active(name, active=True)

    def network_stop(self, name: str) -> None:
        """A transient one is gone then."""
        with self._lock:
            persistent = self._find(name).persistent
        if persistent:
            self.set_active(name, active=False)
        else:
            self.remove(name)

    def network_set_autostart(self, name: str, *, enabled: bool) -> None:
        """With the host, or not."""
        with self._lock:
            self._networks[name] = dataclasses.replace(self._find(name), autostart=enabled)

    def network_delete(self, name: str) -> None:
        """With what it has given out."""
        self.remove(name)

    def network_keep(self, name: str, host: DhcpHost) -> None:
        """In the definition, which is what it runs by."""
        with self._lock:
            network = self._find(name)
            if not network.dhcp:
                raise WrongState(f"{name} gives no addresses out.")
            with refusing():
                host = check_dhcp_host(host, network=name, addresses=network.addresses, others=network.dhcp_hosts)
            others = [one for one in network.dhcp_hosts if one.mac != host.mac]
            self._networks[name] = dataclasses.replace(network, dhcp_hosts=(*others, host))

    def network_release(self, name: str, mac: str) -> None:
        """Kept for nobody."""
        with self._lock:
            network = self._find(name)
            kept = tuple(one for one in network.dhcp_hosts if one.mac != mac.lower())
            self._networks[name] = dataclasses.replace(network, dhcp_hosts=kept)

    def host_interfaces(self) -> list[HostInterface]:
        """What `add_interface` put there."""
        with self._lock:
            return list(self._interfaces.values())

    def filters(self) -> list[FilterInfo]:
        """All of them."""
        with self._lock:
            return list(self._filters.values())

    def filter_define(self, xml: str, *, name: str = "") -> FilterInfo:
        """Made, or changed."""
        with self._lock:
            if name and name not in self._filters:
                raise NotFound(f"There is no network filter {name}.")
            there = {one.name: one.uses for one in self._filters.values()}
            with refusing():
                new = outline(xml)
                check_filter(there, new.name, new.uses, changes=name)
            if not name and new.name in self._filters:
                raise AlreadyExists(f"There is a network filter {new.name} already.")
            return self._put(xml)

    def filter_delete(self, name: str) -> None:
        """Gone, unless another one takes it in."""
        with self._lock:
            users = users_of({one.name: one.uses for one in self._filters.values()}, name)
            if users:
                raise WrongState(f"{name} is taken in by {', '.join(users)}.")
            if self._filters.pop(name, None) is None:
                raise NotFound(f"There is no network filter {name}.")

    def _put(self, xml: str) -> FilterInfo:
        new = outline(xml)
        info = FilterInfo(
            uuid=str(self._uuid_of(f"filter/{new.name}")),
            name=new.name,
            chain=new.chain,
            rules=new.rules,
            uses=new.uses,
            xml=xml,
        )
        with self._lock:
            self._filters[new.name] = info
        return info

    def _refuse_absent(self, spec: NetworkSpec) -> None:
        """A world whose interfaces no test has told has any."""
        wanted = spec.device or (spec.bridge if MODES[spec.mode].bridge == "there" else "")
        if wanted and self._interfaces and wanted not in self._interfaces:
            raise NotFound(absent(wanted, self._interfaces.values(), mode=spec.mode, host="this host"))

    def _say(self, name: str, reason: str) -> None:
        self._tell(HoldingEvent(kind=Holding.NETWORK, name=name, reason=reason))

    def _refuse_taken(self, name: str, address: str) -> None:
        others = {
            theirs: one.name
            for one in self._networks.values()
            if one.active and one.name != name
            for theirs in one.addresses
        }
        whose = overlapping(address, others)
        if whose:
            raise AlreadyExists(f"The network {whose} is in the subnet of {address} already.")

    def _find(self, name: str) -> NetworkInfo:
        network = self._networks.get(name)
        if network is None:
            raise NotFound(f"There is no network {name}.", network=name)
        return network
