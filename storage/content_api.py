"""REST: what is in a volume. Thin: parse, ask the service, answer. The bytes of a download come from a worker's file."""

from typing import Annotated
from uuid import UUID

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from ninja import Router
from pydantic import Strict

from accounts.access import access
from accounts.actor import actor_of
from core.rest import Input, problems
from operations.answers import Started
from operations.api import OperationOut
from storage import content, services
from transfers import downloads

router = Router(tags=["storage"])

_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_RANGE = {
    "in": "header",
    "name": "Range",
    "required": False,
    "description": "`bytes=N-`: go on there. Of what was read out before as long as it is kept (15 minutes); If-Range with its ETag.",
    "schema": {"type": "string"},
}


class ContentIn(Input):
    """What is to be in it."""

    upload: Annotated[UUID, Strict(strict=False)]


@router.post(
    "/volumes/{volume_id}/content",
    response={202: OperationOut, 200: OperationOut},
    operation_id="upload_volume",
    summary="Write an upload into a volume",
)
@access("volume.manage")
@problems(503)
def volume_upload(request: HttpRequest, volume_id: UUID, payload: ContentIn) -> HttpResponse:
    """An operation. 409 `in_use` while a guest runs with it, or an overlay or image stands on it. The upload goes when it was used."""
    by = actor_of(request)
    volume = services.volume_get(volume_id, by=by)
    return Started(request, content.volume_upload(volume=volume, upload_id=payload.upload, by=by), by)


@router.get(
    "/volumes/{volume_id}/content",
    operation_id="download_volume",
    summary="Download a volume",
    openapi_extra={
        "parameters": [_RANGE],
        "responses": {
            200: {"description": "The whole.", "content": _BYTES},
            206: {"description": "From there on.", "content": _BYTES},
        },
    },
)
@access("volume.manage")
@problems(409, 416, 504, 507)
def volume_download(request: HttpRequest, volume_id: UUID) -> HttpResponse | StreamingHttpResponse:
    """Streamed while a worker reads it out; several who ask at once follow the same. 409 `in_use` while a guest runs with it."""
    by = actor_of(request)
    volume = services.volume_get(volume_id, by=by)
    if request.META["REQUEST_METHOD"] == "HEAD":
        return HttpResponse(content_type="application/octet-stream", headers={"Accept-Ranges": "bytes"})
    operation = content.volume_download(volume=volume, by=by, resume="Range" in request.headers)
    return downloads.answer(request, operation, filename=volume.name)
