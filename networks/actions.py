"""What a worker does to virtual networks. Facts come back through `networks.inventory`.

Each looks before it acts, so that it may be run again after an interruption. The one that makes a network records before the call
that it was not there (`BEGUN`): what is found after an interruption is then its own work, and not somebody else's of the same name.
"""

from __future__ import annotations

import uuid  # noqa: TC003 - pydantic reads the annotation
from typing import TYPE_CHECKING, Any, ClassVar

from django.utils import timezone

from core.errors import Missing
from drivers.errors import AlreadyExists, NotFound, WrongState
from drivers.types import DhcpHost, Feature, NetworkInfo, NetworkSpec, PortGroup
from hosts.wishes import BEGUN, ToBe, check_able, hypervisor_of
from networks import guests
from networks.inventory import network_gone, network_observe
from networks.models import Network
from networks.selectors import look_for_guests
from operations.actions import Action, Params, action

if TYPE_CHECKING:
    from drivers.base import Session
    from hosts.models import Hypervisor
    from operations.actions import Context


class NetworkAction(Action[Network, Params]):
    """What all actions on one network share."""

    verb = "network.manage"
    wanted: ClassVar[bool | None] = None
    """Whether it has to be active afterwards, and must not be before; None: it makes no difference."""
    kept: ClassVar[bool] = False
    """Whether it needs a definition: a transient network has none."""
    disturbs: ClassVar[bool] = False
    """Whether guests that run on it stand in the way."""

    def load(self, target_id: uuid.UUID) -> Network:
        """With hypervisor, host and guests, by two queries. Raises Missing for one that is gone."""
        return network_of(target_id)

    def slot(self, target: Network) -> tuple[str, int]:
        """One of its hypervisor's slots."""
        return target.hypervisor.ref, target.hypervisor.slots

    def check(self, target: Network, params: Params, *, idle: bool) -> None:
        """Capability, reach, definition, and (if idle) state and who runs on it."""
        del params
        check_able(target.hypervisor, Feature.NETWORKS_MANAGE)
        if self.kept and not target.persistent:
            raise WrongState(f"{target.name} is transient: it has no definition, and is gone once it is stopped.")
        if idle:
            if self.wanted is not None and target.active is self.wanted:
                raise WrongState(f"{target.name} is {'active' if target.active else 'stopped'} already.")
            self.check_guests(target)

    def check_guests(self, network: Network) -> None:
        """Raises InUse naming guests that run on it."""
        if self.disturbs:
            guests.refuse(network, network.plugs)

    def look(self, session: Session, network: Network) -> NetworkInfo | None:
        """What it is now; None, and a tombstone, when it is not there, or another network has its name."""
        seen_at = timezone.now()
        info = network_or_none(session, network.name)
        if info is None or info.uuid.lower() != network.uuid:
            network_gone(network, seen_at=seen_at)
            return None
        return info

    def run(self, ctx: Context, target: Network, params: Params) -> dict[str, Any] | None:
        """Look, act, read back."""
        with ctx.session(target.hypervisor.endpoint()) as session:
            info = self.look(session, target)
            if info is None:
                raise NotFound(f"There is no network {target.name} on {target.hypervisor.host.name} any more.")
            if not self.is_so(info, params):
                look_for_guests([target])  # some may have begun to run since this was asked for
                self.check_guests(target)
                self.act(session, target, params)
            read_network(session, target.hypervisor, target.name)
        return None

    def is_so(self, info: NetworkInfo, params: Params) -> bool:
        """Whether what is wished is so already."""
        del params
        return info.active is self.wanted

    def act(self, session: Session, network: Network, params: Params) -> None:
        """The verb itself."""
        raise session.unsupported(Feature.NETWORKS_MANAGE)


def network_of(pk: uuid.UUID, *, gone: bool = False) -> Network:
    """With hypervisor, host and the guests on it. Raises Missing for one that is gone, unless `gone` ones are wanted too."""
    found = Network.objects.select_related("hypervisor__host").filter(pk=pk).first()
    if found is None or (found.gone_at is not None and not gone):
        raise Missing("This network is gone from its host.")
    look_for_guests([found])
    return found


def network_or_none(session: Session, name: str) -> NetworkInfo | None:
    """A network as it is now."""
    return next((one for one in session.networks() if one.name == name), None)


def read_network(session: Session, hypervisor: Hypervisor, name: str) -> Network:
    """Write down what it is now, so that the answer is true without waiting for a sweep. Raises NotFound."""
    seen_at = timezone.now()  # before the reading: an observation counts from then
    info = network_or_none(session, name)
    if info is None:
        raise NotFound(f"There is no network {name} on {hypervisor.host.name} any more.")
    return network_observe(hypervisor, info, seen_at=seen_at)


@action
class StartNetwork(NetworkAction):
    """Make its bridge, so that guests can be on it."""

    kind = "network.start"
    title = "Start network"
    wanted = True

    def act(self, session: Session, network: Network, params: Params) -> None:
        """Start."""
        session.network_start(network.name)


@action
class StopNetwork(NetworkAction):
    """Take its bridge away. Not while guests run on it: they would be cut off."""

    kind = "network.stop"
    title = "Stop network"
    wanted = False
    kept = True
    disturbs = True

    def act(self, session: Session, network: Network, params: Params) -> None:
        """Stop."""
        session.network_stop(network.name)


class AutostartParams(Params):
    """On or off."""

    enabled: bool


@action
class AutostartNetwork(NetworkAction):
    """Start with the host, or not."""

    kind = "network.autostart"
    title = "Autostart of network"
    params = AutostartParams
    kept = True

    def is_so(self, info: NetworkInfo, params: Params) -> bool:
        """As wished."""
        assert isinstance(params, AutostartParams)  # noqa: S101 - narrows the type; the registry pairs them
        return info.autostart is params.enabled

    def act(self, session: Session, network: Network, params: Params) -> None:
        """Set it."""
        assert isinstance(params, AutostartParams)  # noqa: S101 - narrows the type; the registry pairs them
        session.network_set_autostart(network.name, enabled=params.enabled)


@action
class DeleteNetwork(NetworkAction):
    """Stop it and take its definition away. Not while guests run on it."""

    kind = "network.delete"
    title = "Remove network"
    disturbs = True

    def load(self, target_id: uuid.UUID) -> Network:
        """One that is gone too: an earlier attempt may have come so far."""
        return network_of(target_id, gone=True)

    def run(self, ctx: Context, target: Network, params: Params) -> dict[str, Any] | None:
        """A network that is gone is what was wished."""
        del params
        if target.gone_at is not None:
            return None
        with ctx.session(target.hypervisor.endpoint()) as session:
            if self.look(session, target) is None:
                ctx.log("It was gone already.")
                return None
            look_for_guests([target])
            self.check_guests(target)
            try:
                session.network_delete(target.name)
            except NotFound:
                ctx.log("It was gone already.")
            self.look(session, target)
        return None


class KeptAddress(NetworkAction):
    """What is done to addresses that a network keeps: each side of it (what runs, what is written down) is compared by the driver."""

    def check(self, target: Network, params: Params, *, idle: bool) -> None:
        """That it gives addresses out at all."""
        super().check(target, params, idle=idle)
        if idle and not target.dhcp:
            raise WrongState(f"{target.name} gives no addresses out.")

    def is_so(self, info: NetworkInfo, params: Params) -> bool:
        """What runs may be so, and what is written down not."""
        del info, params
        return False


class KeepParams(Params):
    """An address, and whose it is."""

    mac: str
    address: str
    name: str = ""


@action
class KeepAddress(KeptAddress):
    """Keep an address for a MAC, in place of what was kept for it."""

    kind = "network.keep_address"
    title = "Keep address"
    params = KeepParams

    def act(self, session: Session, network: Network, params: Params) -> None:
        """At once, and in the definition."""
        assert isinstance(params, KeepParams)  # noqa: S101 - narrows the type; the registry pairs them
        session.network_keep(network.name, DhcpHost(**params.model_dump()))


class ReleaseParams(Params):
    """Whose."""

    mac: str


@action
class ReleaseAddress(KeptAddress):
    """Keep no address for this MAC any more. Who has it keeps it until its lease ends."""

    kind = "network.release_address"
    title = "Release address"
    params = ReleaseParams

    def act(self, session: Session, network: Network, params: Params) -> None:
        """At once, and in the definition."""
        assert isinstance(params, ReleaseParams)  # noqa: S101 - narrows the type; the registry pairs them
        session.network_release(network.name, params.mac)


class NewNetwork(ToBe):
    """A network to be."""

    kind = Network.kind


class CreateNetworkParams(Params):
    """Where, and what as `drivers.types.NetworkSpec` has it."""

    hypervisor: uuid.UUID
    name: str
    mode: str
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

    def spec(self) -> NetworkSpec:
        """As drivers take it."""
        return NetworkSpec(**{name: getattr(self, name) for name in NetworkSpec.__dataclass_fields__})


@action
class CreateNetwork(Action[NewNetwork, CreateNetworkParams]):
    """Define a network and start it."""

    kind = "network.create"
    title = "Make network"
    verb = "network.manage"
    params = CreateNetworkParams

    def load(self, target_id: uuid.UUID) -> NewNetwork:
        """There is nothing to load yet."""
        return NewNetwork(target_id, "")

    def slot(self, target: NewNetwork) -> tuple[str, int]:
        """One of the hypervisor's slots."""
        return (target.hypervisor.ref, target.hypervisor.slots) if target.hypervisor else ("", 0)

    def check(self, target: NewNetwork, params: CreateNetworkParams, *, idle: bool) -> None:
        """Capability, reach, and that no network there has this name."""
        del idle
        hypervisor = target.hypervisor or hypervisor_of(params.hypervisor)
        check_able(hypervisor, Feature.NETWORKS_MANAGE)
        twin = Network.objects.filter(host=hypervisor.host_id, name=params.name, gone_at=None).first()
        if twin is not None:
            raise AlreadyExists(f"There is a network {twin.name} on {hypervisor.host.name} already.", id=str(twin.pk))

    def run(self, ctx: Context, target: NewNetwork, params: CreateNetworkParams) -> dict[str, Any]:
        """What an attempt before this one left half made is made anew: no guest can be on it yet."""
        del target
        hypervisor = hypervisor_of(params.hypervisor)
        with ctx.session(hypervisor.endpoint()) as session:
            seen = network_or_none(session, params.name)
            if seen is not None and not ctx.done(BEGUN):
                raise AlreadyExists(f"There is a network {params.name} on {hypervisor.host.name} already.")
            if seen is not None and not seen.active:
                ctx.log("An earlier attempt was cut off between its steps: its definition is made anew.")
                session.network_delete(params.name)
                seen = None
            if seen is None:
                ctx.checkpoint(BEGUN)
                session.network_create(params.spec())
            elif seen.autostart is not params.autostart:
                session.network_set_autostart(params.name, enabled=params.autostart)
            network = read_network(session, hypervisor, params.name)
        return {"network": str(network.pk)}
