"""REST: definitions and their revisions. Thin, as `vms.api`: runs in a request thread and never touches a hypervisor."""

import datetime as dt
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from ninja import Path, Query, Router
from pydantic import BaseModel, Field

from accounts.access import access
from accounts.actor import actor_of
from core.errors import BadInput
from core.paging import paginate
from core.rest import Output, answer, moment, problems, single, tags_in, takes
from drivers.types import Finding
from operations.answers import Started
from operations.api import OperationOut
from vms import services
from vms.definitions import services as definitions
from vms.definitions.actions import RefusedDefinition
from vms.definitions.history import digest_of
from vms.models import Revision

router = Router(tags=["vms"])

XML = "application/xml"
Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="Of the revision: 1, 2, 3 …")]
OnConflict = Annotated[
    Literal["wait", "fail"], Query("wait", description="`fail`: 409 when anything is queued or running on the guest.")
]
Comment = Annotated[str, Query("", max_length=500, description="Why; kept with the revision.")]
_TEXT = {"content": {XML: {"schema": {"type": "string"}}}}


# -- shapes --------------------------------------------------------------------------------------------------------------
class FindingOut(Output):
    """What was found in a definition."""

    line: int | None = Field(description="Counted from 1; null where it is about the whole.")
    path: str | None = Field(examples=["/domain/devices/disk[2]/source"])
    detail: str
    fatal: bool = Field(description="Whether the definition would be refused.")


class DifferenceOut(Output):
    """What changed."""

    diff: str = Field(description="Unified; each hunk names the element that it is in.")
    diff_cut: bool = Field(description="Whether there is more than can be shown.")
    added: int = Field(description="Lines.")
    removed: int


class DryRunOut(DifferenceOut):
    """What saving a definition would do."""

    valid: bool
    problems: list[FindingOut]
    takes_effect: Literal["now", "next_start"]
    etag: str = Field(description="Of the definition that the guest has now.")


class RevisionOut(Output):
    """A definition that a guest had or has."""

    number: int
    at: dt.datetime
    source: Literal["first_sight", "ours", "outside"]
    actor: str | None = Field(description="null: somebody outside.")
    comment: str
    operation: UUID | None
    restored: int | None = Field(description="The number of the revision that it brought back.")
    etag: str
    added: int = Field(description="Lines, against the one before.")
    removed: int


class RevisionWhole(RevisionOut):
    """With its text, and what leads to it."""

    xml: str
    against: int | None = Field(description="The number of the revision that `diff` begins at.")
    diff: str
    diff_cut: bool


class RevisionPage(Output):
    """A page of revisions."""

    items: list[RevisionOut]
    total: int
    next: str | None


class RevisionListing(BaseModel):
    """The query of the list."""

    limit: Annotated[int, Field(ge=1, le=500, description="Rows of a page, 50 unless told.")] | None = None
    cursor: Annotated[str, Field(max_length=2000, description="`next` of the page before.")] | None = None


def revision_json(revision: Revision) -> dict[str, Any]:
    """A revision, as lists have it."""
    return {
        "number": revision.number,
        "at": moment(revision.at),
        "source": revision.source,
        "actor": revision.actor or None,
        "comment": revision.comment,
        "operation": str(revision.operation) if revision.operation else None,
        "restored": revision.restored,
        "etag": f'"{revision.digest}"',
        "added": revision.added,
        "removed": revision.removed,
    }


# -- the definition ----------------------------------------------------------------------------------------------------------
@router.get(
    "/vms/{vm_id}/xml",
    response=None,
    operation_id="get_vm_xml",
    summary="Its definition",
    openapi_extra={"responses": {200: {"description": "OK", **_TEXT}}},
)
@access("vm.xml")
@problems(502, 503, 504)
def vm_xml(request: HttpRequest, vm_id: UUID) -> HttpResponse:
    """As the hypervisor has it now, without console passwords. Its `ETag` is what a `PUT` of it names in `If-Match`."""
    by = actor_of(request)
    text = services.vm_definition(vm=services.vm_get(vm_id, by=by), by=by)
    headers = {"Cache-Control": "no-store", "ETag": f'"{digest_of(text)}"'}
    if digest_of(text) in (tags_in(request, "If-None-Match") or ()):
        return HttpResponseNotModified(headers=headers)
    return HttpResponse(text, content_type=f"{XML}; charset=utf-8", headers=headers)


@router.put(
    "/vms/{vm_id}/xml",
    response={200: OperationOut | DryRunOut, 202: OperationOut},
    operation_id="put_vm_xml",
    summary="Change its definition",
    openapi_extra={"requestBody": {"required": True, **_TEXT}},
)
@access("vm.xml")
@takes(XML, "text/xml")
@problems(409, 412, 502, 503, 504)
def vm_define(
    request: HttpRequest,
    vm_id: UUID,
    comment: Comment,
    on_conflict: OnConflict,
    dry_run: Annotated[bool, Query(False, description="Say what it would do, and do nothing.")],  # noqa: FBT003 - a query parameter
) -> HttpResponse:
    """It is validated first: 422 `invalid_definition` with a line for each fault. Name and uuid stay. Then an operation.

    `If-Match` takes the `ETag` of `GET`: 412 with the difference in `context` when the definition changed since. Whether it does or
    not, the worker looks once more before it defines. Console passwords that it does not mention stay. With `dry_run` 200, and
    nothing is changed.
    """
    by = actor_of(request)
    vm = services.vm_get(vm_id, by=by)
    xml, known = _text(request), tags_in(request, "If-Match")
    if dry_run:
        return answer(_dry(definitions.definition_check(vm=vm, xml=xml, by=by, known=known)))
    operation = definitions.definition_change(
        vm=vm, xml=xml, by=by, comment=comment, known=known, on_conflict=on_conflict
    )
    return Started(request, operation, by)


def _dry(checked: definitions.Checked) -> dict[str, Any]:
    return {
        "valid": checked.valid,
        "problems": [
            {"line": one.line or None, "path": one.path or None, "detail": one.detail, "fatal": one.fatal}
            for one in checked.findings
        ],
        "diff": checked.change.text,
        "diff_cut": checked.change.cut,
        "added": checked.change.added,
        "removed": checked.change.removed,
        "takes_effect": checked.takes_effect,
        "etag": f'"{checked.digest}"',
    }


def _text(request: HttpRequest) -> str:
    if not request.body.strip():
        raise RefusedDefinition.of([Finding(detail="There is nothing here: send the definition as the body.")])
    try:
        return request.body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = request.body.count(b"\n", 0, error.start) + 1
        detail = "not UTF-8"
        raise BadInput(f"Line {line}: {detail}.", errors=[{"pointer": "", "line": line, "detail": detail}]) from None


# -- revisions ---------------------------------------------------------------------------------------------------------------
@router.get(
    "/vms/{vm_id}/revisions",
    response=RevisionPage,
    operation_id="list_vm_revisions",
    summary="The definitions that it had",
)
@access("vm.xml")
def vm_revisions(request: HttpRequest, vm_id: UUID, listing: Query[RevisionListing]) -> HttpResponse:
    """The newest first. Kept from the first change that was made here on: who, when, why; `outside` is somebody else's change."""
    by = actor_of(request)
    page = paginate(
        definitions.revisions(services.vm_get(vm_id, by=by), by=by).defer("xml"),
        orderings={"number": "number"},
        ordering="-number",
        cursor=listing.cursor,
        limit=listing.limit,
    )
    return answer({"items": [revision_json(one) for one in page.items], "total": page.total, "next": page.next})


@router.get(
    "/vms/{vm_id}/revisions/{number}",
    response=RevisionWhole,
    operation_id="get_vm_revision",
    summary="One of them",
)
@access("vm.xml")
def vm_revision(
    request: HttpRequest,
    vm_id: UUID,
    number: Number,
    against: Annotated[
        int | None,
        Query(None, ge=1, le=2**31 - 1, description="The revision to compare with; the one before unless told."),
    ],
) -> HttpResponse:
    """With its text, and what leads to it from the one before, or from another."""
    by = actor_of(request)
    vm = services.vm_get(vm_id, by=by)
    revision = definitions.revision_get(vm, number, by=by)
    other, change = definitions.revision_against(vm, revision, against, by=by)
    body = {
        **revision_json(revision),
        "xml": revision.xml,
        "against": other.number if other else None,
        "diff": change.text,
        "diff_cut": change.cut,
    }
    return single(request, body, version=revision.number)


@router.post(
    "/vms/{vm_id}/revisions/{number}/restore",
    response={202: OperationOut, 200: OperationOut},
    operation_id="restore_vm_revision",
    summary="Bring one back",
)
@access("vm.xml")
@problems(409, 412, 503)
def vm_restore(
    request: HttpRequest, vm_id: UUID, number: Number, comment: Comment, on_conflict: OnConflict
) -> HttpResponse:
    """An operation, which makes a new revision. Passwords, which no revision has, stay as they are. `If-Match` as for `PUT`."""
    by = actor_of(request)
    vm = services.vm_get(vm_id, by=by)
    operation = definitions.revision_restore(
        vm=vm, number=number, by=by, comment=comment, known=tags_in(request, "If-Match"), on_conflict=on_conflict
    )
    return Started(request, operation, by)
