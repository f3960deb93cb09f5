"""What callers may ask of virtual networks: permission, validation, submit. REST, pages and rooms above come through here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from accounts import policy
from core.errors import BadInput, Missing
from core.ids import uuid7
from drivers.errors import AlreadyExists
from drivers.networks import MODES, absent, check_dhcp_host, check_network, overlapping
from drivers.types import DhcpHost, Feature, NetworkSpec
from hosts.wishes import Allowed, answered, serving
from networks.actions import (
    AutostartNetwork,
    AutostartParams,
    CreateNetwork,
    CreateNetworkParams,
    DeleteNetwork,
    KeepAddress,
    KeepParams,
    NewNetwork,
    ReleaseAddress,
    ReleaseParams,
    StartNetwork,
    StopNetwork,
)
from networks.models import Network
from operations import actions, engine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from accounts.actor import Actor
    from hosts.models import Host
    from operations.actions import Params
    from operations.models import Operation

OnConflict = Literal["wait", "fail"]
NETWORK_ACTIONS: Final = ("start", "stop")
"""The actions of `POST /networks/{id}/actions/ACTION`."""
_ACTIONS: Final[Mapping[str, Any]] = {
    "start": StartNetwork,
    "stop": StopNetwork,
    "autostart": AutostartNetwork,
    "delete": DeleteNetwork,
    "keep_address": KeepAddress,
}

_LEAST: Final[Mapping[str, Params]] = {
    AutostartNetwork.kind: AutostartParams(enabled=True),
    KeepAddress.kind: KeepParams(mac="", address=""),
}
"""What the actions that need parameters are asked with whether they may be done."""


def network_create(*, host: Host, spec: NetworkSpec, by: Actor) -> Operation:
    """Queue the making of a network on a host, through the first of its hypervisors that can be reached; the result names its id.

    Raises:
        BadInput: A pointer for each wrong field, also where another network there has its subnet or bridge.
        Unsupported: no hypervisor there has networks. AlreadyExists, Unreachable.
    """
    policy.require(by, "network.manage")
    spec = check_network(spec)
    hypervisor = serving(host, Feature.NETWORKS_MANAGE, "virtual networks")
    _check_room(host, spec)
    _check_there(host, spec)
    params = CreateNetworkParams(
        hypervisor=hypervisor.pk, **{name: getattr(spec, name) for name in NetworkSpec.__dataclass_fields__}
    )
    return engine.submit(CreateNetwork, target=NewNetwork(uuid7(), spec.name, hypervisor), by=by, params=params)


def _check_room(host: Host, spec: NetworkSpec) -> None:
    """Those that are stopped count too: they could not be started any more. One query. Raises BadInput."""
    others = list(Network.objects.filter(host=host.pk, gone_at=None).exclude(name=spec.name).order_by("name"))
    taken = {address: one.name for one in others for address in one.addresses}
    for field in ("address", "address6"):
        whose = overlapping(getattr(spec, field), taken)
        if whose:
            detail = f"the network {whose} on {host.name} is in this subnet already; take another one"
            raise BadInput(f"{field}: {detail}.", errors=[{"pointer": f"/{field}", "detail": detail}])
    made = spec.bridge and MODES[spec.mode].bridge == "made"
    twin = next((one.name for one in others if made and one.bridge == spec.bridge), None)
    if twin:
        detail = f"the network {twin} on {host.name} has this bridge; take another name, or none"
        raise BadInput(f"bridge: {detail}.", errors=[{"pointer": "/bridge", "detail": detail}])


def _check_there(host: Host, spec: NetworkSpec) -> None:
    """What it is to be made of is there, as far as is known; the driver looks again. One query. Raises BadInput."""
    field = "device" if spec.device else "bridge" if MODES[spec.mode].bridge == "there" else ""
    if not field:
        return
    there = list(host.interfaces.order_by("name"))
    if there and getattr(spec, field) not in {one.name for one in there}:
        detail = absent(getattr(spec, field), there, mode=spec.mode, host=host.name)
        raise BadInput(f"{field}: {detail}", errors=[{"pointer": f"/{field}", "detail": detail}])


def address_keep(
    *, network: Network, host: DhcpHost, by: Actor, change: bool = False, on_conflict: OnConflict = "wait"
) -> Operation:
    """Queue that its DHCP server keeps an address.

    Args:
        network: Whose server.
        host: For whom, which, by what name.
        by: Who asks.
        change: There is one for this MAC already, and this takes its place.
        on_conflict: See `engine.submit`.

    Raises:
        BadInput: A pointer for each wrong field. AlreadyExists, Missing (`change`), WrongState where it gives none out.
    """
    policy.require(by, KeepAddress.verb, network)
    others = [DhcpHost(**one) for one in network.dhcp_hosts]
    if network.dhcp:
        host = check_dhcp_host(host, network=network.name, addresses=network.addresses, others=others)
    there = any(one.mac == host.mac for one in others)
    if there and not change:
        raise AlreadyExists(f"{network.name} keeps an address for {host.mac} already: change that one.", mac=host.mac)
    if change and not there:
        raise Missing(f"{network.name} keeps no address for {host.mac}.")
    params = KeepParams(mac=host.mac, address=host.address, name=host.name)
    return engine.submit(KeepAddress, target=network, by=by, params=params, on_conflict=on_conflict)


def address_release(*, network: Network, mac: str, by: Actor, on_conflict: OnConflict = "wait") -> Operation:
    """Queue that its DHCP server keeps none for this MAC any more. Raises Missing where it keeps none."""
    policy.require(by, ReleaseAddress.verb, network)
    known = mac.strip().lower().replace("-", ":")
    if not any(one["mac"] == known for one in network.dhcp_hosts):
        raise Missing(f"{network.name} keeps no address for {mac[:40]}.")
    params = ReleaseParams(mac=known)
    return engine.submit(ReleaseAddress, target=network, by=by, params=params, on_conflict=on_conflict)


def network_action(*, network: Network, name: str, by: Actor, on_conflict: OnConflict = "wait") -> Operation:
    """Queue start or stop. Raises Missing for another word; PermissionRefused, Unsupported, Unreachable, WrongState, InUse."""
    if name not in NETWORK_ACTIONS:
        raise Missing(f"There is no action {name[:50]!r}. Known: {', '.join(NETWORK_ACTIONS)}.")
    return engine.submit(_ACTIONS[name], target=network, by=by, on_conflict=on_conflict)


def network_autostart(*, network: Network, enabled: bool, by: Actor) -> Operation:
    """Queue whether it starts with the host."""
    return engine.submit(AutostartNetwork, target=network, by=by, params=AutostartParams(enabled=enabled))


def network_delete(*, network: Network, by: Actor, on_conflict: OnConflict = "wait") -> Operation:
    """Queue its removal. Raises InUse while guests run on it."""
    return engine.submit(DeleteNetwork, target=network, by=by, on_conflict=on_conflict)


def network_actions(network: Network, *, by: Actor) -> Allowed:
    """`{"start": {"allowed": false, "reason": "…"}, …}` for this caller, now. Needs `plugs`; no query."""
    return {name: _asked(cls.kind, network, by) for name, cls in _ACTIONS.items()}


def _asked(kind: str, network: Network, by: Actor) -> dict[str, Any]:
    action = actions.get(kind)
    least = _LEAST.get(kind) or action.params()

    def ask() -> None:
        policy.require(by, action.verb, network)
        action.check(network, least, idle=True)

    return answered(ask)
