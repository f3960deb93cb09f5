"""REST: uploads that can be resumed. Thin: parse, ask the service, make JSON."""

import datetime as dt
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import Field, StringConstraints

from accounts.access import access
from accounts.actor import actor_of
from core.errors import BadInput
from core.paging import paginate
from core.rest import (
    OFFSET_STREAM,
    Input,
    Listing,
    Output,
    if_match,
    moment,
    nothing,
    page_answer,
    problems,
    single,
    streamed,
)
from transfers import services
from transfers.models import Upload

router = Router(tags=["uploads"])

SIZE_MAX = 2**62
ORDERINGS = {"created_at": "id", "filename": "filename", "size_bytes": "size_bytes", "expires_at": "expires_at"}


class UploadIn(Input):
    """A file to come."""

    filename: Annotated[str, StringConstraints(min_length=1, max_length=255)] = Field(examples=["debian-12.qcow2"])
    size_bytes: Annotated[int, Field(ge=1, le=SIZE_MAX)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{64}$")] | None = Field(
        None, description="What it must have; compared before it is used."
    )


class UploadOut(Output):
    """A file on its way, seen by its owner alone."""

    id: UUID
    filename: str
    size_bytes: int
    received_bytes: int = Field(description="Safe on the disk: where the next PATCH goes on.")
    sha256: str | None
    state: Literal["receiving", "complete"]
    expires_at: dt.datetime = Field(description="A day after the last byte, unless an operation needs it.")
    created_at: dt.datetime
    updated_at: dt.datetime
    version: int


class UploadPage(Output):
    """A page of uploads."""

    items: list[UploadOut]
    total: int
    next: str | None


class UploadListing(Listing):
    """The query of the list."""

    ordering: Annotated[str, Field(max_length=50, description=", ".join(ORDERINGS))] = "-created_at"


def upload_json(upload: Upload) -> dict[str, Any]:
    """The contract's upload. No query."""
    return {
        "id": str(upload.pk),
        "filename": upload.filename,
        "size_bytes": upload.size_bytes,
        "received_bytes": upload.received_bytes,
        "sha256": upload.sha256 or None,
        "state": upload.state,
        "expires_at": moment(upload.expires_at),
        "created_at": moment(upload.created_at),
        "updated_at": moment(upload.updated_at),
        "version": upload.version,
    }


def _one(request: HttpRequest, upload: Upload, *, status: int = 200, **headers: str) -> HttpResponse:
    headers["Upload-Offset"] = str(upload.received_bytes)
    return single(request, upload_json(upload), version=upload.version, status=status, **headers)


@router.get("/uploads", response=UploadPage, operation_id="list_uploads", summary="List your uploads")
@access("upload.manage")
def upload_list(request: HttpRequest, listing: Query[UploadListing]) -> HttpResponse:
    """Newest first unless told. `q` looks for a part of the name."""
    rows = Upload.objects.filter(user=actor_of(request).user)
    if "\0" in listing.q:
        raise BadInput("q: no NUL.", errors=[{"pointer": "/q", "detail": "no NUL"}])
    if listing.q:
        rows = rows.filter(filename__icontains=listing.q)
    page = paginate(
        rows,
        orderings=ORDERINGS,
        ordering=listing.ordering or "-created_at",
        cursor=listing.cursor,
        limit=listing.limit,
        total=rows.count(),
    )
    return page_answer(page, upload_json)


@router.post("/uploads", response={201: UploadOut}, operation_id="begin_upload", summary="Begin an upload")
@access("upload.manage")
@problems(507)
def upload_create(request: HttpRequest, payload: UploadIn) -> HttpResponse:
    """Then send it with PATCH, in pieces of any size; an image or a volume's content is made of it by its id."""
    upload = services.upload_create(
        filename=payload.filename, size_bytes=payload.size_bytes, sha256=payload.sha256 or "", by=actor_of(request)
    )
    return _one(request, upload, status=201, Location=f"/api/v1/uploads/{upload.pk}")


@router.get("/uploads/{upload_id}", response=UploadOut, operation_id="get_upload", summary="How far an upload is")
@access("upload.manage")
def upload_one(request: HttpRequest, upload_id: UUID) -> HttpResponse:
    """`received_bytes`, in the header Upload-Offset as well."""
    return _one(request, services.upload_get(upload_id, by=actor_of(request)))


_BODY = {"required": True, "content": {OFFSET_STREAM: {"schema": {"type": "string", "format": "binary"}}}}
_OFFSET = {
    "in": "header",
    "name": "Upload-Offset",
    "required": True,
    "description": "How many bytes are there already: 409 `wrong_offset` with the true number when it is another.",
    "schema": {"type": "integer", "minimum": 0, "maximum": SIZE_MAX},
}


@router.patch(
    "/uploads/{upload_id}",
    response=UploadOut,
    operation_id="append_upload",
    summary="Send more of an upload",
    openapi_extra={"requestBody": _BODY, "parameters": [_OFFSET]},
)
@access("upload.manage")
@problems(507)
@streamed(OFFSET_STREAM)
def upload_append(request: HttpRequest, upload_id: UUID) -> HttpResponse:
    """The bytes from `Upload-Offset` on, as many as one likes; what has arrived when the connection breaks is kept."""
    by = actor_of(request)
    upload = services.upload_get(upload_id, by=by)
    if_match(request, upload.version)
    offset = request.headers.get("Upload-Offset", "").strip()
    if not offset.isascii() or not offset.isdigit() or len(offset) > 19:
        raise BadInput(
            "Upload-Offset says how many bytes are there already.",
            errors=[{"pointer": "/Upload-Offset", "detail": "a number of bytes"}],
        )
    return _one(request, services.upload_append(upload=upload, offset=int(offset), read=request.read, by=by))


@router.delete("/uploads/{upload_id}", response={204: None}, operation_id="delete_upload", summary="Give an upload up")
@access("upload.manage")
def upload_delete(request: HttpRequest, upload_id: UUID) -> HttpResponse:
    """With all that has come of it. 409 `upload_in_use` while an operation needs it."""
    by = actor_of(request)
    upload = services.upload_get(upload_id, by=by)
    if_match(request, upload.version)
    services.upload_delete(upload=upload, by=by)
    return nothing()
