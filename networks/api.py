"""REST: virtual networks. Thin: parse, ask, make JSON. Runs in a request thread and never touches a hypervisor."""

import datetime as dt
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Path, Query, Router
from pydantic import Field, StringConstraints

from accounts.access import access
from accounts.actor import Actor, actor_of
from core.rest import AllowedNow, Input, Listing, Output, answer, if_match, moment, page_answer, problems, single
from drivers.networks import MACVTAP, MODES, PORT_GROUPS_MAX, VLAN_MAX
from drivers.types import DhcpHost, NetworkSpec, PortGroup
from hosts.services import host_find
from networks import services
from networks.models import Network
from networks.selectors import FILTERS, ORDERINGS, STATES, network_get, network_page
from operations.answers import Started, changed
from operations.api import OperationOut

router = Router(tags=["networks"])

Several = Annotated[str, Field(max_length=8000)]
Reference = Annotated[str, StringConstraints(min_length=1, max_length=300)]
Word = Annotated[str, StringConstraints(max_length=300)]
Mac = Annotated[str, Path(max_length=40)]
OnConflict = Annotated[
    Literal["wait", "fail"], Query("wait", description="`fail`: 409 when anything is queued or running on it.")
]
_DONE = {202: OperationOut, 200: OperationOut}
VLANS_MAX = VLAN_MAX
_LATEST = dt.datetime(9999, 12, 31, tzinfo=dt.UTC).timestamp()


class PortGroupOut(Output):
    """A kind of port that guests may choose."""

    name: str
    vlans: list[int]
    default: bool


class PortGroupIn(Input):
    """A kind of port that guests may choose."""

    name: Word = Field(examples=["red"])
    vlans: list[int] = Field(
        [], max_length=VLANS_MAX, description="One tag is the port's own; several make it a trunk."
    )
    default: bool = Field(default=False, description="For guests that choose none.")


class NetworkOut(Output):
    """A virtual network of a host, once, whatever drivers of one libvirtd list it."""

    id: UUID
    uuid: str = Field(description="The hypervisor's own identifier.")
    name: str
    host: UUID
    host_name: str
    hypervisor: UUID = Field(description="That calls go through.")
    state: Literal["active", "inactive"]
    stale: bool = Field(description="Its hypervisor is out of reach: the last known state stands.")
    mode: str = Field(examples=["nat"])
    bridge: str | None
    devices: list[str] = Field(description="Interfaces of the host that guests share, or that it is bound to.")
    macvtap: str | None = Field(description="How guests share an interface: bridge, vepa, private, passthrough.")
    vlans: list[int] = Field(description="Tags of its ports.")
    port_groups: list[PortGroupOut]
    mtu: int | None
    domain: str | None
    addresses: list[str] = Field(description="The host's own in it.", examples=[["192.168.122.1/24"]])
    dhcp: bool
    autostart: bool
    persistent: bool
    guest_count: int
    actions: dict[str, AllowedNow] = Field(description="For this caller, now.")
    created_at: dt.datetime
    updated_at: dt.datetime
    version: int


class GuestRefOut(Output):
    """A guest."""

    id: UUID
    name: str


class LeaseOut(Output):
    """An address that its DHCP server has given out."""

    mac: str
    address: str
    prefix: int
    hostname: str | None
    expires_at: dt.datetime | None = Field(description="null: never.")
    vm: GuestRefOut | None = Field(description="Whose it is, where a guest has this MAC.")


class PlugOut(Output):
    """An interface of a guest on it."""

    vm: GuestRefOut
    state: str
    mac: str
    target: str | None = Field(description="The device on the host while the guest runs.")


class KeptOut(Output):
    """An address that its DHCP server keeps for one MAC."""

    mac: str
    address: str
    name: str | None = Field(description="What the server calls it, by DNS too.")
    vm: GuestRefOut | None = Field(description="Whose it is, where a guest has this MAC.")


class KeptPage(Output):
    """All that a network keeps."""

    items: list[KeptOut]
    total: int


class KeepIn(Input):
    """An address to be kept."""

    address: Word = Field(examples=["192.168.100.20"])
    name: Word = Field("", examples=["web"])


class KeepNew(KeepIn):
    """An address to be kept, and for whom."""

    mac: Word = Field(examples=["52:54:00:12:34:56"])


class NetworkWhole(NetworkOut):
    """With what it has given out and keeps, and who is on it."""

    dhcp_hosts: list[KeptOut]
    leases: list[LeaseOut]
    guests: list[PlugOut]


class NetworkPage(Output):
    """A page of networks."""

    items: list[NetworkOut]
    total: int
    next: str | None


class NetworkIn(Input):
    """A network to be made. All but `bridge` take an address; what gives addresses out has a first and a last one."""

    host: Reference = Field(description="Id or name.")
    name: Word = Field(examples=["lab"])
    mode: Annotated[str, StringConstraints(max_length=30)] = Field("nat", description=", ".join(MODES))
    bridge: Word = Field(
        "", description="Modes `bridge`, `openvswitch`: one that the host has; else the name of the one that is made."
    )
    device: Word = Field("", description="Mode `macvtap`: the interface of the host.", examples=["eth0"])
    macvtap: Word = Field("bridge", description=f"Mode `macvtap`: how guests share it: {', '.join(MACVTAP)}.")
    domain: Word = Field("", examples=["lab.example.org"])
    address: Word = Field("", description="The host's own IPv4 address in it.", examples=["192.168.100.1/24"])
    address6: Word = Field("", description="The host's own IPv6 address in it.", examples=["fd00:100::1/64"])
    dhcp_start: Word = Field("", description="Left out: it gives no addresses out.", examples=["192.168.100.10"])
    dhcp_end: Word = Field("", examples=["192.168.100.254"])
    vlans: list[int] = Field([], max_length=VLANS_MAX, description="Mode `openvswitch`: tags of its ports.")
    port_groups: list[PortGroupIn] = Field([], max_length=PORT_GROUPS_MAX, description="Mode `openvswitch`.")
    mtu: int | None = Field(None, description="Bytes; where the network has addresses.", examples=[9000])
    autostart: bool = True

    def spec(self) -> NetworkSpec:
        """As drivers take it."""
        groups = [PortGroup(name=one.name, vlans=tuple(one.vlans), default=one.default) for one in self.port_groups]
        rest = self.model_dump(exclude={"host", "vlans", "port_groups"})
        return NetworkSpec(**rest, vlans=tuple(self.vlans), port_groups=tuple(groups))


class NetworkChange(Input):
    """What of a network can be changed."""

    autostart: bool


class NetworkListing(Listing):
    """The query of the list. Filters take several values by commas."""

    host: Several = Field("", description="Ids or names.")
    mode: Several = Field("", description="nat, route, open, isolated, bridge, …")
    state: Several = Field("", description=", ".join(STATES))
    ordering: Annotated[str, Field(max_length=50, description=", ".join(ORDERINGS))] = "name"


def network_json(network: Network, *, by: Actor) -> dict[str, Any]:
    """The contract's network. No query where what `networks.selectors` puts on is there."""
    return {
        "id": str(network.pk),
        "uuid": network.uuid,
        "name": network.name,
        "host": str(network.host_id),
        "host_name": network.hypervisor.host.name,
        "hypervisor": str(network.hypervisor_id),
        "state": "active" if network.active else "inactive",
        "stale": network.stale,
        "mode": network.mode,
        "bridge": network.bridge or None,
        "devices": network.devices,
        "macvtap": network.macvtap or None,
        "vlans": network.vlans,
        "port_groups": network.port_groups,
        "mtu": network.mtu,
        "domain": network.domain or None,
        "addresses": network.addresses,
        "dhcp": network.dhcp,
        "autostart": network.autostart,
        "persistent": network.persistent,
        "guest_count": len({plug.vm for plug in network.plugs}),
        "actions": services.network_actions(network, by=by),
        "created_at": moment(network.created_at),
        "updated_at": moment(network.updated_at),
        "version": network.version,
    }


def whole_json(network: Network, *, by: Actor) -> dict[str, Any]:
    """With leases and guests. No query."""
    by_mac = {plug.mac: {"id": str(plug.vm), "name": plug.name} for plug in network.plugs}
    return network_json(network, by=by) | {
        "dhcp_hosts": kept_json(network),
        "leases": [
            {
                "mac": lease["mac"],
                "address": lease["address"],
                "prefix": lease["prefix"],
                "hostname": lease["hostname"] or None,
                "expires_at": moment(expiry(lease["expires_at"])),
                "vm": by_mac.get(lease["mac"]),
            }
            for lease in network.leases
        ],
        "guests": [
            {
                "vm": {"id": str(plug.vm), "name": plug.name},
                "state": plug.state,
                "mac": plug.mac,
                "target": plug.target or None,
            }
            for plug in network.plugs
        ],
    }


def kept_json(network: Network) -> list[dict[str, Any]]:
    """The addresses that it keeps. No query."""
    by_mac = {plug.mac: {"id": str(plug.vm), "name": plug.name} for plug in network.plugs}
    return [one | {"name": one["name"] or None, "vm": by_mac.get(one["mac"])} for one in network.dhcp_hosts]


def expiry(seconds: int) -> dt.datetime | None:
    """When a lease ends; None for never, and for what no calendar knows."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC) if 0 < seconds < _LATEST else None


@router.get("/networks", response=NetworkPage, operation_id="list_networks", summary="List networks")
@access("view")
def network_list(request: HttpRequest, listing: Query[NetworkListing]) -> HttpResponse:
    """By name unless told."""
    by = actor_of(request)
    page = network_page(
        by,
        **listing.asked(FILTERS),
    )
    return page_answer(page, lambda network: network_json(network, by=by))


@router.post("/networks", response=_DONE, operation_id="create_network", summary="Make a network")
@access("network.manage")
@problems(404)
def network_create(request: HttpRequest, payload: NetworkIn) -> HttpResponse:
    """An operation: defined and started. Its `target` is the network's id, `result.network` says it again."""
    by = actor_of(request)
    host = host_find(payload.host, by=by)
    return Started(request, services.network_create(host=host, spec=payload.spec(), by=by), by)


@router.get("/networks/{network_id}", response=NetworkWhole, operation_id="get_network", summary="One network")
@access("view")
def network_one(request: HttpRequest, network_id: UUID) -> HttpResponse:
    """With the addresses that it has given out, as they were last read (each half minute), and the guests on it."""
    return _shown(request, network_id, actor_of(request))


@router.patch(
    "/networks/{network_id}",
    response={200: NetworkWhole, 202: OperationOut},
    operation_id="change_network",
    summary="Change a network",
)
@access("network.manage")
@problems(409, 503, 504)
def network_change(request: HttpRequest, network_id: UUID, payload: NetworkChange) -> HttpResponse:
    """Set by an operation, which this call waits for (5 s, or `Prefer: wait=N`): 200 the network as it is then; 202 the operation."""
    by = actor_of(request)
    network = network_get(network_id, by=by)
    if_match(request, network.version)
    operation = None
    if payload.autostart != network.autostart:
        operation = services.network_autostart(network=network, enabled=payload.autostart, by=by)
    return changed(request, operation, by, lambda: _shown(request, network_id, by))


def _shown(request: HttpRequest, network_id: UUID, by: Actor) -> HttpResponse:
    network = network_get(network_id, by=by)
    return single(request, whole_json(network, by=by), version=network.version)


@router.delete("/networks/{network_id}", response=_DONE, operation_id="delete_network", summary="Remove a network")
@access("network.manage")
@problems(409, 503)
def network_delete(request: HttpRequest, network_id: UUID, on_conflict: OnConflict) -> HttpResponse:
    """An operation: it is stopped, and its definition goes. 409 `in_use` while guests run on it."""
    by = actor_of(request)
    network = network_get(network_id, by=by)
    if_match(request, network.version)
    return Started(request, services.network_delete(network=network, by=by, on_conflict=on_conflict), by)


@router.post(
    "/networks/{network_id}/actions/{action}", response=_DONE, operation_id="act_on_network", summary="Start, stop"
)
@access("network.manage")
def network_act(
    request: HttpRequest,
    network_id: UUID,
    action: Annotated[str, Field(max_length=50, json_schema_extra={"enum": list(services.NETWORK_ACTIONS)})],
    on_conflict: OnConflict,
) -> HttpResponse:
    """An operation. An equal one that is already queued or running on the network is answered instead of a second."""
    by = actor_of(request)
    network = network_get(network_id, by=by)
    return Started(request, services.network_action(network=network, name=action, by=by, on_conflict=on_conflict), by)


# -- addresses that it keeps -----------------------------------------------------------------------------------------------
@router.get(
    "/networks/{network_id}/dhcp-hosts", response=KeptPage, operation_id="list_dhcp_hosts", summary="Addresses it keeps"
)
@access("view")
def kept_list(request: HttpRequest, network_id: UUID) -> HttpResponse:
    """By address. All of them: a subnet bounds their number."""
    items = kept_json(network_get(network_id, by=actor_of(request)))
    return answer({"items": items, "total": len(items)})


@router.post(
    "/networks/{network_id}/dhcp-hosts", response=_DONE, operation_id="create_dhcp_host", summary="Keep an address"
)
@access("network.manage")
@problems(409, 503)
def kept_create(request: HttpRequest, network_id: UUID, payload: KeepNew, on_conflict: OnConflict) -> HttpResponse:
    """An operation: kept at once and in the definition. 409 `already_exists` where it keeps one for this MAC."""
    by = actor_of(request)
    host = DhcpHost(mac=payload.mac, address=payload.address, name=payload.name)
    operation = services.address_keep(network=network_get(network_id, by=by), host=host, by=by, on_conflict=on_conflict)
    return Started(request, operation, by)


@router.put(
    "/networks/{network_id}/dhcp-hosts/{mac}",
    response=_DONE,
    operation_id="change_dhcp_host",
    summary="Keep another address",
)
@access("network.manage")
@problems(409, 503)
def kept_change(
    request: HttpRequest, network_id: UUID, mac: Mac, payload: KeepIn, on_conflict: OnConflict
) -> HttpResponse:
    """An operation. A guest that has another address has it until its lease ends or it asks anew."""
    by = actor_of(request)
    host = DhcpHost(mac=mac, address=payload.address, name=payload.name)
    operation = services.address_keep(
        network=network_get(network_id, by=by), host=host, by=by, change=True, on_conflict=on_conflict
    )
    return Started(request, operation, by)


@router.delete(
    "/networks/{network_id}/dhcp-hosts/{mac}",
    response=_DONE,
    operation_id="delete_dhcp_host",
    summary="Keep an address no more",
)
@access("network.manage")
@problems(409, 503)
def kept_delete(request: HttpRequest, network_id: UUID, mac: Mac, on_conflict: OnConflict) -> HttpResponse:
    """An operation: the address goes to whoever asks next, once its lease has ended."""
    by = actor_of(request)
    operation = services.address_release(
        network=network_get(network_id, by=by), mac=mac, by=by, on_conflict=on_conflict
    )
    return Started(request, operation, by)
