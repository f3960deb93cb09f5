"""REST: network filters. Thin, as `networks.api`."""

import datetime as dt
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import Field, StringConstraints

from accounts.access import access
from accounts.actor import Actor, actor_of
from core.rest import AllowedNow, Input, Listing, Output, if_match, moment, page_answer, problems, single
from drivers.netfilters import XML_MAX
from hosts.services import host_find
from networks import filter_services as services
from networks.api import GuestRefOut, OnConflict, Reference, Several
from networks.models import NetworkFilter
from networks.selectors import FILTER_FILTERS, FILTER_ORDERINGS, filter_get, filter_page
from operations.answers import Started
from operations.api import OperationOut

router = Router(tags=["networks"])

Xml = Annotated[str, StringConstraints(min_length=1, max_length=XML_MAX)]
_DONE = {202: OperationOut, 200: OperationOut}


class FilterOut(Output):
    """A network filter of a host."""

    id: UUID
    uuid: str = Field(description="The hypervisor's own identifier.")
    name: str
    host: UUID
    host_name: str
    hypervisor: UUID = Field(description="That calls go through.")
    stale: bool = Field(description="Its hypervisor is out of reach: the last known state stands.")
    chain: str = Field(examples=["root"])
    rule_count: int = Field(description="Its own; those that it takes in are not counted.")
    uses: list[str] = Field(description="Filters that it takes in.")
    used_by_count: int = Field(description="Guests with an interface that names it, and filters that take it in.")
    actions: dict[str, AllowedNow] = Field(description="For this caller, now.")
    created_at: dt.datetime
    updated_at: dt.datetime
    version: int


class FilterWhole(FilterOut):
    """With its definition, and who uses it."""

    xml: str
    guests: list[GuestRefOut]
    filters: list[str] = Field(description="That take it in.")


class FilterPage(Output):
    """A page of filters."""

    items: list[FilterOut]
    total: int
    next: str | None


class FilterChange(Input):
    """The definition."""

    xml: Xml = Field(examples=["<filter name='no-mail' chain='ipv4'>…</filter>"])


class FilterIn(FilterChange):
    """A filter to be made."""

    host: Reference = Field(description="Id or name.")


class FilterListing(Listing):
    """The query of the list."""

    host: Several = Field("", description="Ids or names.")
    ordering: Annotated[str, Field(max_length=50, description=", ".join(FILTER_ORDERINGS))] = "name"


def filter_json(row: NetworkFilter, *, by: Actor) -> dict[str, Any]:
    """No query where what `networks.selectors` puts on is there."""
    return {
        "id": str(row.pk),
        "uuid": row.uuid,
        "name": row.name,
        "host": str(row.host_id),
        "host_name": row.hypervisor.host.name,
        "hypervisor": str(row.hypervisor_id),
        "stale": row.stale,
        "chain": row.chain,
        "rule_count": row.rules,
        "uses": row.uses,
        "used_by_count": row.used_by_count,
        "actions": services.filter_actions(row, by=by),
        "created_at": moment(row.created_at),
        "updated_at": moment(row.updated_at),
        "version": row.version,
    }


def _whole(request: HttpRequest, row: NetworkFilter, by: Actor) -> HttpResponse:
    whole = filter_json(row, by=by) | {
        "xml": row.xml,
        "guests": [{"id": str(vm), "name": name} for vm, name in {plug.vm: plug.name for plug in row.guests}.items()],
        "filters": row.users,
    }
    return single(request, whole, version=row.version)


@router.get(
    "/network-filters", response=FilterPage, operation_id="list_network_filters", summary="List network filters"
)
@access("view")
def list_(request: HttpRequest, listing: Query[FilterListing]) -> HttpResponse:
    """By name unless told."""
    by = actor_of(request)
    page = filter_page(
        by,
        **listing.asked(FILTER_FILTERS),
    )
    return page_answer(page, lambda row: filter_json(row, by=by))


@router.post("/network-filters", response=_DONE, operation_id="create_network_filter", summary="Make a network filter")
@access("network.manage")
@problems(404)
def create(request: HttpRequest, payload: FilterIn) -> HttpResponse:
    """An operation; `result.network_filter` is its id. libvirt compares it with its schema."""
    by = actor_of(request)
    operation = services.filter_create(host=host_find(payload.host, by=by), xml=payload.xml, by=by)
    return Started(request, operation, by)


@router.get(
    "/network-filters/{filter_id}",
    response=FilterWhole,
    operation_id="get_network_filter",
    summary="One network filter",
)
@access("view")
def one(request: HttpRequest, filter_id: UUID) -> HttpResponse:
    """With its definition, and who uses it."""
    by = actor_of(request)
    return _whole(request, filter_get(filter_id, by=by), by)


@router.put(
    "/network-filters/{filter_id}",
    response=_DONE,
    operation_id="change_network_filter",
    summary="Change a network filter",
)
@access("network.manage")
@problems(409, 503)
def change(request: HttpRequest, filter_id: UUID, payload: FilterChange, on_conflict: OnConflict) -> HttpResponse:
    """An operation: this definition takes its place, and guests that run with it have it at once. Its name stays."""
    by = actor_of(request)
    row = filter_get(filter_id, by=by)
    if_match(request, row.version)
    operation = services.filter_change(row=row, xml=payload.xml, by=by, on_conflict=on_conflict)
    return Started(request, operation, by)


@router.delete(
    "/network-filters/{filter_id}",
    response=_DONE,
    operation_id="delete_network_filter",
    summary="Remove a network filter",
)
@access("network.manage")
@problems(409, 503)
def delete(request: HttpRequest, filter_id: UUID, on_conflict: OnConflict) -> HttpResponse:
    """An operation. 409 `in_use` while a guest or another filter names it."""
    by = actor_of(request)
    row = filter_get(filter_id, by=by)
    if_match(request, row.version)
    return Started(request, services.filter_delete(row=row, by=by, on_conflict=on_conflict), by)
