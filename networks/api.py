"""REST: virtual networks. Thin: parse, ask, make JSON. Runs in a request thread and never touches a hypervisor."""

import datetime as dt
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import Field

from accounts.access import access
from accounts.actor import actor_of
from core.rest import Listing, Output, moment, page_answer, single
from networks.models import Network
from networks.selectors import FILTERS, ORDERINGS, STATES, network_get, network_page

router = Router(tags=["networks"])

Several = Annotated[str, Field(max_length=8000)]
_LATEST = dt.datetime(9999, 12, 31, tzinfo=dt.UTC).timestamp()


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
    domain: str | None
    addresses: list[str] = Field(description="The host's own in it.", examples=[["192.168.122.1/24"]])
    dhcp: bool
    autostart: bool
    persistent: bool
    guest_count: int
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


class NetworkWhole(NetworkOut):
    """With what it has given out, and who is on it."""

    leases: list[LeaseOut]
    guests: list[PlugOut]


class NetworkPage(Output):
    """A page of networks."""

    items: list[NetworkOut]
    total: int
    next: str | None


class NetworkListing(Listing):
    """The query of the list. Filters take several values by commas."""

    host: Several = Field("", description="Ids or names.")
    mode: Several = Field("", description="nat, route, open, isolated, bridge, …")
    state: Several = Field("", description=", ".join(STATES))
    ordering: Annotated[str, Field(max_length=50, description=", ".join(ORDERINGS))] = "name"


def network_json(network: Network) -> dict[str, Any]:
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
        "domain": network.domain or None,
        "addresses": network.addresses,
        "dhcp": network.dhcp,
        "autostart": network.autostart,
        "persistent": network.persistent,
        "guest_count": len({plug.vm for plug in network.plugs}),
        "created_at": moment(network.created_at),
        "updated_at": moment(network.updated_at),
        "version": network.version,
    }


def whole_json(network: Network) -> dict[str, Any]:
    """With leases and guests. No query."""
    by_mac = {plug.mac: {"id": str(plug.vm), "name": plug.name} for plug in network.plugs}
    return network_json(network) | {
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


def expiry(seconds: int) -> dt.datetime | None:
    """When a lease ends; None for never, and for what no calendar knows."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC) if 0 < seconds < _LATEST else None


@router.get("/networks", response=NetworkPage, operation_id="list_networks", summary="List networks")
@access("view")
def network_list(request: HttpRequest, listing: Query[NetworkListing]) -> HttpResponse:
    """By name unless told."""
    page = network_page(
        actor_of(request),
        q=listing.q,
        filters={name: getattr(listing, name) for name in FILTERS},
        ordering=listing.ordering or "name",
        cursor=listing.cursor,
        limit=listing.limit,
    )
    return page_answer(page, network_json)


@router.get("/networks/{network_id}", response=NetworkWhole, operation_id="get_network", summary="One network")
@access("view")
def network_one(request: HttpRequest, network_id: UUID) -> HttpResponse:
    """With the addresses that it has given out, as they were last read (each half minute), and the guests on it."""
    network = network_get(network_id, by=actor_of(request))
    return single(request, whole_json(network), version=network.version)
