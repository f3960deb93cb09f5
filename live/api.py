"""REST: the event log as a list and as a stream, tickets for its socket, and the audit trail. Runs in a request thread."""

import uuid
from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from ninja import Query, Router, Schema, Status
from pydantic import Field, StringConstraints

from accounts.access import access
from accounts.actor import Actor
from accounts.api import Moment
from core.paging import paginate
from events import selectors
from live import sse, tickets
from live.sight import AUDIT, event_json, visible_events, whole
from live.wants import SEQ_MAX

router = Router(tags=["events"])

SOCKET_URL = "/ws/events"


class ObjectRef(Schema):
    """What an event is about."""

    type: str
    id: str
    name: str


class EventOut(Schema):
    """What happened, whoever caused it."""

    seq: int = Field(description="Grows in commit order: once one is seen, none with a lower one appears.")
    type: str
    at: Moment
    object: ObjectRef | None
    actor: str | None
    operation: uuid.UUID | None
    data: dict[str, Any]


class EventPage(Schema):
    """A page of events."""

    items: list[EventOut]
    total: int
    next: str | None


class Listing(Schema):
    """The query of both lists."""

    after: int | None = Field(None, ge=0, le=SEQ_MAX, description="Only events above this seq, oldest first.")
    type: Annotated[str, StringConstraints(max_length=2000)] = Field(
        "", description="Several by commas; `audit.*` takes all of a kind."
    )
    object: Annotated[str, StringConstraints(max_length=4000)] = Field("", description="`vm/<id>`, several by commas.")
    limit: int | None = None
    cursor: str | None = None
    ordering: str = Field("", description="`seq` or `at`, with `-` before it for newest first.")
    q: Annotated[str, StringConstraints(max_length=500)] = ""


class TicketOut(Schema):
    """A ticket for the socket: send `protocols` as its subprotocols."""

    url: str
    ticket: str
    protocols: list[str]
    expires_at: Moment


def _actor(request: HttpRequest) -> Actor:
    return request.actor  # type: ignore[attr-defined, no-any-return]


def _page(listing: Listing, actor: Actor, *, only: str = "") -> dict[str, Any]:
    rows = selectors.event_list(types=listing.type, objects=listing.object, after=listing.after, q=listing.q)
    rows = visible_events(actor, rows.filter(type__startswith=only) if only else rows)
    page = paginate(
        rows,
        orderings=selectors.ORDERINGS,
        ordering=listing.ordering or selectors.default_ordering(listing.after),
        cursor=listing.cursor,
        limit=listing.limit,
    )
    items = [event_json(event, whole=whole(actor, event.type)) for event in page.items]
    return {"items": items, "total": page.total, "next": page.next}


@router.get("/events", response=EventPage, operation_id="list_events", summary="List events, or follow them")
@access("view")
def events(request: HttpRequest, listing: Query[Listing]) -> Any:
    """Newest first; with `after` oldest first.

    With `Accept: text/event-stream` a live stream (`id` is the seq, `event` the type, `data` the event) that honours
    `Last-Event-ID`; an `event: reset` says that what follows that id is no longer kept.
    """
    if sse.wanted(request):
        answer: HttpResponseBase = sse.stream(
            request, _actor(request), types=listing.type, objects=listing.object, after=listing.after
        )
        return answer
    return _page(listing, _actor(request))


@router.post(
    "/events/ticket",
    response={201: TicketOut},
    operation_id="create_event_ticket",
    summary="A ticket for the event socket",
)
@access("view")
def ticket(request: HttpRequest, response: HttpResponse) -> Any:
    """For programs: one use, 30 seconds, bound to the caller. The browser opens the socket with its session."""
    secret, row = tickets.issue(_actor(request), "events")
    response["Cache-Control"] = "no-store"
    protocols = [f"ticket.{secret}", "events"]
    return Status(201, {"url": SOCKET_URL, "ticket": secret, "protocols": protocols, "expires_at": row.expires_at})


@router.get("/audit", response=EventPage, operation_id="list_audit", summary="Who changed what")
@access("audit.view")
def audit(request: HttpRequest, listing: Query[Listing]) -> Any:
    """The events of type `audit.…`: every change that is not an operation (operations are their own record)."""
    return _page(listing, _actor(request), only=AUDIT)
