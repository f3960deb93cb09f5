"""REST: operations. Runs in a request thread; waiting blocks that thread and nothing else."""

import datetime as dt
import uuid
from typing import Annotated, Any, Literal

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import Field

from accounts.access import access
from accounts.actor import actor_of
from accounts.policy import require
from core.paging import paginate
from core.rest import Listing, Output, ProblemBody, answer, if_match, moment, page_answer, problems, single
from operations import engine
from operations.answers import WAIT_MAX, operation_json
from operations.choices import State
from operations.selectors import FILTERS, NEWEST_FIRST, operation_get, operation_page

router = Router(tags=["operations"])

StateName = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Several = Annotated[str, Field(max_length=8000)]


# -- shapes --------------------------------------------------------------------------------------------------------------
class TargetOut(Output):
    """What an operation works on."""

    type: str = Field(examples=["vm"])
    id: str | None
    name: str


class OperationOut(Output):
    """Something that changes a hypervisor: asked for, under way, or ended."""

    id: uuid.UUID
    kind: str = Field(examples=["vm.start"])
    state: StateName
    target: TargetOut
    params: dict[str, Any] = Field(description='Secrets as `"<hidden>"`.')
    progress: float | None = Field(description="0 to 1, null when it cannot be told.")
    message: str
    error: ProblemBody | None
    result: dict[str, Any] | None = Field(description="In lists null where it can be large.")
    requested_by: str
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    attempts: int
    parent: uuid.UUID | None
    cancellable: bool
    request_id: str
    version: int


class OperationPage(Output):
    """A page of operations."""

    items: list[OperationOut]
    total: int
    next: str | None


class LogLine(Output):
    """One line of what an operation did."""

    id: int
    at: dt.datetime
    text: str


class LogPage(Output):
    """A page of an operation's log."""

    items: list[LogLine]
    total: int
    next: str | None


class OperationListing(Listing):
    """The query of the list. Filters take several values by commas."""

    state: Several = Field("", description=", ".join(State.values))
    kind: Several = Field("", description="`vm.start`; `vm.*` takes all that begin so.")
    target: Several = Field("", description="`vm/<id>`")
    parent: Several = Field("", description="The id of a bulk operation.")
    requested_by: Several = Field("", description="User names.")


class LogListing(Output):
    """The query of a log."""

    limit: Annotated[int, Field(ge=1, le=500)] | None = None
    cursor: Annotated[str, Field(max_length=2000)] | None = None
    ordering: Literal["at", "-at"] = "at"


# -- calls ---------------------------------------------------------------------------------------------------------------
@router.get("/operations", response=OperationPage, operation_id="list_operations", summary="List operations")
@access("view")
def operation_list(request: HttpRequest, listing: Query[OperationListing]) -> HttpResponse:
    """Newest first unless told."""
    by = actor_of(request)
    page = operation_page(
        by,
        **listing.asked(FILTERS, ordering=NEWEST_FIRST),
    )
    return page_answer(page, lambda operation: operation_json(operation, by=by))


@router.get("/operations/{operation_id}", response=OperationOut, operation_id="get_operation", summary="One operation")
@access("view")
def operation_one(
    request: HttpRequest,
    operation_id: uuid.UUID,
    wait: Annotated[int, Query(0, ge=0, le=WAIT_MAX, description="Seconds to wait for its end.")],
) -> HttpResponse:
    """As it is; with `wait` as it is at its end, or after that many seconds."""
    by = actor_of(request)
    operation = operation_get(operation_id, by=by)
    if wait and not operation.ended:
        operation = engine.wait_ended(operation, timeout_seconds=wait)
    return single(request, operation_json(operation, by=by), version=operation.version)


@router.get("/operations/{operation_id}/log", response=LogPage, operation_id="get_operation_log", summary="Its log")
@access("view")
def operation_log(request: HttpRequest, operation_id: uuid.UUID, listing: Query[LogListing]) -> HttpResponse:
    """What it did, oldest first."""
    operation = operation_get(operation_id, by=actor_of(request))
    page = paginate(
        operation.lines.all(),
        orderings={"at": "id"},
        ordering=listing.ordering,
        cursor=listing.cursor,
        limit=listing.limit,
    )
    return page_answer(page, lambda line: {"id": line.pk, "at": moment(line.at), "text": line.text})


@router.post(
    "/operations/{operation_id}/cancel",
    response={200: OperationOut, 202: OperationOut},
    operation_id="cancel_operation",
    summary="Cancel it",
)
@access("operation.cancel")
@problems(409, 412)
def operation_cancel(request: HttpRequest, operation_id: uuid.UUID) -> HttpResponse:
    """200: cancelled. 202: it runs, and ends as soon as it notices. 409 `not_cancellable`: it has ended or cannot be called back."""
    by = actor_of(request)
    operation = operation_get(operation_id, by=by)
    require(by, "operation.cancel", operation)
    if_match(request, operation.version)
    operation = engine.cancel(operation, by=by)
    return answer(operation_json(operation, by=by), status=200 if operation.ended else 202)
