"""What callers may ask of virtual networks: permission, validation, submit. REST, pages and rooms above come through here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from accounts import policy
from core.errors import BadInput, Missing
from core.ids import uuid7
from drivers.networks import MODES, check_network, overlapping
from drivers.types import Feature, NetworkSpec
from hosts.wishes import Allowed, answered, serving
from networks.actions import (
    AutostartNetwork,
    AutostartParams,
    CreateNetwork,
    CreateNetworkParams,
    DeleteNetwork,
    NewNetwork,
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
}


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
    params = CreateNetworkParams(
        hypervisor=hypervisor.pk, **{name: getattr(spec, name) for name in NetworkSpec.__dataclass_fields__}
    )
    return engine.submit(CreateNetwork, target=NewNetwork(uuid7(), spec.name, hypervisor), by=by, params=params)


def _check_room(host: Host, spec: NetworkSpec) -> None:
    """Those that are stopped count too: they could not be started any more. One query. Raises BadInput."""
    others = list(Network.objects.filter(host=host.pk, gone_at=None).exclude(name=spec.name).order_by("name"))
    whose = overlapping(spec.address, {address: one.name for one in others for address in one.addresses})
    if whose:
        detail = f"the network {whose} on {host.name} is in this subnet already; take another one"
        raise BadInput(f"address: {detail}.", errors=[{"pointer": "/address", "detail": detail}])
    made = spec.bridge and MODES[spec.mode].address
    twin = next((one.name for one in others if made and one.bridge == spec.bridge), None)
    if twin:
        detail = f"the network {twin} on {host.name} has this bridge; take another name, or none"
        raise BadInput(f"bridge: {detail}.", errors=[{"pointer": "/bridge", "detail": detail}])


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
    least: Params = AutostartParams(enabled=True) if kind == AutostartNetwork.kind else action.params()

    def ask() -> None:
        policy.require(by, action.verb, network)
        action.check(network, least, idle=True)

    return answered(ask)
