"""REST: images. Thin: parse, ask the service, make JSON. Runs in a request thread and never touches a hypervisor."""

import datetime as dt
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import Field, Strict, StringConstraints

from accounts.access import access
from accounts.actor import actor_of
from core.rest import Input, Listing, Output, ProblemBody, if_match, moment, page_answer, problems, single
from images import services
from images.choices import ImageKind, ImageState
from images.fetch import URL_MAX
from images.models import Image
from images.selectors import FILTERS, ORDERINGS, image_page
from operations.answers import Started
from operations.api import OperationOut

router = Router(tags=["images"])

KindName = Literal["disk", "iso"]
StateName = Literal["importing", "ready", "failed"]
Several = Annotated[str, Field(max_length=8000)]
Id = Annotated[UUID, Strict(strict=False)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Reference = Annotated[str, StringConstraints(min_length=1, max_length=300)]
Words = Annotated[str, StringConstraints(max_length=255)]
OsId = Annotated[str, StringConstraints(max_length=200)]
Architecture = Annotated[str, StringConstraints(max_length=30, pattern=r"^[a-z0-9_]*$")]
Tags = Annotated[list[Annotated[str, StringConstraints(max_length=100)]], Field(max_length=100)]
_DONE = {202: OperationOut, 200: OperationOut}


class ImageCopyOut(Output):
    """Where an image lies."""

    pool: UUID
    pool_name: str
    host: UUID
    host_name: str
    volume: str = Field(description="Its name in the pool.")
    ready: bool = Field(description="Complete, and there when the pool was last listed.")


class ImageUseOut(Output):
    """What stands on an image."""

    type: Literal["vm", "volume", "template"]
    id: UUID
    name: str
    running: bool


class ImageOut(Output):
    """What guests are made from, or installed from."""

    id: UUID
    name: str
    title: str
    kind: KindName
    state: StateName
    error: ProblemBody | None = Field(description="Why its import failed.")
    os_id: str = Field(description="libosinfo's identifier, or empty.")
    architecture: str = Field(examples=["x86_64"])
    format: str = Field(description="As it lies in pools: qcow2; raw for an ISO.")
    virtual_size_bytes: int = Field(description="How large a disk made of it is at least.")
    size_bytes: int = Field(description="Of the file.")
    sha256: str = Field(
        description="Of the file as it lies in pools: another than of what was sent, where that was converted."
    )
    source: str = Field(description="Where it came from, for people.")
    cloud_init: bool | None = Field(description="Whether it is made for cloud-init; null: nobody knows.")
    tags: list[str]
    copies: list[ImageCopyOut]
    used_by: list[ImageUseOut]
    operation: UUID | None = Field(description="Its import.")
    created_at: dt.datetime
    updated_at: dt.datetime
    version: int


class ImagePage(Output):
    """A page of images."""

    items: list[ImageOut]
    total: int
    next: str | None


class ImageListing(Listing):
    """The query of the list. Filters take several values by commas."""

    kind: Several = Field("", description=", ".join(ImageKind.values))
    state: Several = Field("", description=", ".join(ImageState.values))
    host: Several = Field("", description="Ids or names: with a copy there.")
    pool: Several = Field("", description="Ids or names: with a copy there.")
    os_id: Several = ""
    tag: Several = ""
    ordering: Annotated[str, Field(max_length=50, description=", ".join(ORDERINGS))] = "name"


class ImageIn(Input):
    """An image to be: of an upload, of a URL (scope `admin`), or of a volume's content. What it is is seen from its content."""

    name: Name = Field(examples=["debian-12"])
    upload: Id | None = Field(None, description="Of a complete upload of yours. It goes once the image is there.")
    url: Annotated[str, StringConstraints(min_length=1, max_length=URL_MAX)] | None = Field(
        None, description="http or https, without a user in it.", examples=["https://cloud.example.org/debian-12.qcow2"]
    )
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{64}$")] | None = Field(
        None, description="What the URL must give; required over http."
    )
    volume: Id | None = Field(None, description="A volume's id. Its content is copied.")
    pool: Reference | None = Field(
        None, description="Id or name. Left out: the volume's own, or the one of files with the most room."
    )
    title: Words = ""
    kind: KindName | None = Field(None, description="Refused if it is the other. Left out: whatever it is.")
    os_id: OsId = ""
    architecture: Architecture = ""
    cloud_init: bool | None = None
    tags: Tags = []


class ImageChange(Input):
    """What people say of an image. What is left out, or null, stays as it is."""

    name: Name | None = None
    title: Words | None = None
    os_id: OsId | None = None
    architecture: Architecture | None = None
    cloud_init: bool | None = None
    tags: Tags | None = None


class ImageCopyIn(Input):
    """Where a copy is wanted."""

    pool: Reference = Field(description="Id or name.")


def image_json(image: Image) -> dict[str, Any]:
    """The contract's image. No query where what `images.selectors` puts on is there."""
    return {
        "id": str(image.pk),
        "name": image.name,
        "title": image.title,
        "kind": image.kind,
        "state": image.shown_state,
        "error": image.shown_error,
        "os_id": image.os_id,
        "architecture": image.architecture,
        "format": image.format,
        "virtual_size_bytes": image.virtual_size_bytes,
        "size_bytes": image.size_bytes,
        "sha256": image.sha256,
        "source": image.source,
        "cloud_init": image.cloud_init,
        "tags": image.tags,
        "copies": [
            {
                "pool": str(copy.pool_id),
                "pool_name": copy.pool.name,
                "host": str(copy.pool.host_id),
                "host_name": copy.pool.hypervisor.host.name,
                "volume": copy.volume,
                "ready": copy.ready and copy.seen,
            }
            for copy in image.copies.all()
        ],
        "used_by": [
            {"type": use.type, "id": use.id, "name": use.name, "running": use.running} for use in image.used_by or ()
        ],
        "operation": str(image.operation_id) if image.operation_id else None,
        "created_at": moment(image.created_at),
        "updated_at": moment(image.updated_at),
        "version": image.version,
    }


@router.get("/images", response=ImagePage, operation_id="list_images", summary="List images")
@access("view")
def image_list(request: HttpRequest, listing: Query[ImageListing]) -> HttpResponse:
    """By name unless told."""
    page = image_page(
        actor_of(request),
        **listing.asked(FILTERS),
    )
    return page_answer(page, image_json)


@router.post("/images", response=_DONE, operation_id="create_image", summary="Import an image")
@access("image.manage")
@problems(404)
def image_create(request: HttpRequest, payload: ImageIn) -> HttpResponse:
    """An operation: fetched where it is a URL, looked at, converted where need be, put into the pool. `result.image` is its id."""
    by = actor_of(request)
    values = payload.model_dump()
    new = services.NewImage(**{name: value for name, value in values.items() if value is not None})
    return Started(request, services.image_create(new=new, by=by), by)


@router.get("/images/{image_id}", response=ImageOut, operation_id="get_image", summary="One image")
@access("view")
def image_one(request: HttpRequest, image_id: UUID) -> HttpResponse:
    """With where it lies and what stands on it."""
    image = services.image_get(image_id, by=actor_of(request))
    return single(request, image_json(image), version=image.version)


@router.patch("/images/{image_id}", response=ImageOut, operation_id="change_image", summary="Change an image")
@access("image.manage")
def image_change(request: HttpRequest, image_id: UUID, payload: ImageChange) -> HttpResponse:
    """What people say of it; its content never changes."""
    by = actor_of(request)
    image = services.image_get(image_id, by=by)
    version = if_match(request, image.version)
    changes = payload.model_dump(exclude_none=True)
    if changes:
        services.image_update(image=image, by=by, changes=changes, if_version=version)
        image = services.image_get(image_id, by=by)
    return single(request, image_json(image), version=image.version)


@router.delete("/images/{image_id}", response=_DONE, operation_id="delete_image", summary="Delete an image")
@access("image.manage")
@problems(503)
def image_delete(
    request: HttpRequest,
    image_id: UUID,
    on_conflict: Annotated[
        Literal["wait", "fail"], Query("wait", description="`fail`: 409 when anything is queued or running on it.")
    ],
) -> HttpResponse:
    """An operation: all its copies go. 409 `in_use`, and who, while a disk or an overlay stands on one."""
    by = actor_of(request)
    image = services.image_get(image_id, by=by)
    if_match(request, image.version)
    return Started(request, services.image_delete(image=image, by=by, on_conflict=on_conflict), by)


@router.post("/images/{image_id}/copies", response=_DONE, operation_id="copy_image", summary="Copy an image to a pool")
@access("image.manage")
@problems(503)
def image_copy(request: HttpRequest, image_id: UUID, payload: ImageCopyIn) -> HttpResponse:
    """An operation. A guest that is made from it somewhere else brings this about by itself; this makes it ready before."""
    by = actor_of(request)
    image = services.image_get(image_id, by=by)
    return Started(request, services.image_copy(image=image, pool=payload.pool, by=by), by)
