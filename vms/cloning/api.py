"""REST: templates. Thin: parse, ask the service, make JSON. Runs in a request thread and never touches a hypervisor."""

import datetime as dt
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import BaseModel, Field, Strict, StringConstraints

from accounts import policy
from accounts.access import access
from accounts.actor import Actor, actor_of
from core.paging import slice_of
from core.rest import Input, Listing, Output, answer, if_match, moment, page_answer, problems, single
from operations.answers import Started
from operations.api import OperationOut
from vms.cloning import templates
from vms.cloning.models import Template, TemplateVersion
from vms.cloning.parameters import Parameter, Parameters
from vms.cloning.selectors import FILTERS, ORDERINGS, template_get, template_page, version_page
from vms.cloning.uses import uses_json
from vms.creation.spec import DOCUMENT_MAX, Reference, Text

router = Router(tags=["templates"])

Several = Annotated[str, Field(max_length=8000)]
Id = Annotated[UUID, Strict(strict=False)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=templates.NAME_MAX)]
Project = Annotated[str, StringConstraints(max_length=100)]
OnConflict = Annotated[
    Literal["wait", "fail"], Query("wait", description="`fail`: 409 when anything is queued or running on it.")
]
_DONE = {202: OperationOut, 200: OperationOut}


class TemplateVolumeOut(Output):
    """One disk of a version."""

    target: str = Field(description="Of the guest that it was.", examples=["vda"])
    bus: str
    pool: UUID | None = Field(description="null: the pool was forgotten.")
    pool_name: str
    volume: str
    format: str
    size_bytes: int
    there: bool = Field(description="It was seen when its pool was last listed.")


class TemplateVersionOut(Output):
    """One state of a template; it never changes."""

    number: int
    host: UUID | None
    host_name: str
    driver: str = Field(description="Its guests run on hypervisors of this kind, on that host.")
    architecture: str
    facts: dict[str, Any] = Field(
        description="`vcpus, memory_bytes, os, firmware, graphics, interfaces`: as its source had."
    )
    volumes: list[TemplateVolumeOut]
    cloud_init: bool = Field(description="Its guests get a seed.")
    user_data: str | None = Field(description="null: not for this caller.")
    parameters: list[Parameter]
    notes: str
    mode: Literal["convert", "copy"]
    source: UUID = Field(description="The guest that it was made of.")
    source_name: str
    guest_count: int = Field(description="Guests that were made of it and are still there.")
    created_by: str | None
    created_at: dt.datetime


class TemplateOut(Output):
    """What guests are made from: a name with versions."""

    id: UUID
    name: str
    description: str
    project: str | None
    owner: str | None
    current: int = Field(description="The version that is meant where none is named.")
    closing: bool = Field(description="It is being deleted.")
    version: int
    versions: list[TemplateVersionOut] = Field(description="The newest first.")
    created_at: dt.datetime
    updated_at: dt.datetime


class TemplatePage(Output):
    """A page of templates."""

    items: list[TemplateOut]
    total: int
    next: str | None


class VersionPage(Output):
    """All versions of a template."""

    items: list[TemplateVersionOut]
    total: int
    next: str | None


class TemplateUseOut(Output):
    """Something that stands on a template, or was made from it."""

    type: Literal["vm", "volume", "image", "template"]
    id: UUID
    name: str
    how: str
    running: bool
    version: int
    breaks: bool = Field(description="It would not work any more without the template.")


class UsePage(Output):
    """All of them, what would break first."""

    items: list[TemplateUseOut]
    total: int
    next: str | None


class TemplateListing(Listing):
    """The query of the list. Filters take several values by commas."""

    host: Several = Field("", description="Ids or names: with a version there.")
    driver: Several = ""
    project: Several = ""
    ordering: Annotated[str, Field(max_length=50, description=", ".join(ORDERINGS))] = "name"


class Paging(BaseModel):
    """Of lists that have one order."""

    limit: Annotated[int, Field(ge=1, le=500, description="Rows of a page, 50 unless told.")] | None = None
    cursor: Annotated[str, Field(max_length=2000, description="`next` of the page before.")] | None = None


class VersionIn(Input):
    """A version to be, of a guest that is off."""

    vm: Id
    mode: Literal["convert", "copy"] = Field(
        "copy",
        description="`convert`: the guest itself becomes the template, and is no guest any more; its disks stay.",
    )
    pool: Reference | None = Field(None, description="Of a copy: id or name. Left out: where the disks lie now.")
    notes: Text = ""
    cloud_init: bool | None = Field(None, description="Whether its guests get a seed; null: if its source had one.")
    user_data: Annotated[str, StringConstraints(max_length=DOCUMENT_MAX)] = Field(
        "", description="A `#cloud-config` document; `${name}` stands for a parameter."
    )
    parameters: Parameters = []


class TemplateIn(VersionIn):
    """A template to be, with its first version."""

    name: Name = Field(examples=["web"])
    description: Text = ""
    project: Project | None = Field(None, description="null: the guest's.")


class TemplateChange(Input):
    """What can be changed. What is left out, or null, stays as it is."""

    name: Name | None = None
    description: Text | None = None
    project: Project | None = None
    current: int | None = Field(None, ge=1)


def version_json(version: TemplateVersion, *, by: Actor) -> dict[str, Any]:
    """No query where what `vms.cloning.selectors` puts on is there. What is in `user_data` is for who may make guests."""
    return {
        "number": version.number,
        "host": str(version.host_id) if version.host_id else None,
        "host_name": version.host.name if version.host is not None else version.host_name,
        "driver": version.driver,
        "architecture": version.architecture,
        "facts": version.facts,
        "volumes": [
            {
                "target": disk.target,
                "bus": disk.bus,
                "pool": str(disk.pool_id) if disk.pool_id else None,
                "pool_name": disk.pool_name,
                "volume": disk.volume,
                "format": disk.format,
                "size_bytes": disk.size_bytes,
                "there": disk.seen,
            }
            for disk in version.volumes.all()
        ],
        "cloud_init": version.cloud_init,
        "user_data": version.user_data if policy.may(by, "vm.create") else None,
        "parameters": [Parameter.model_validate(one).model_dump(mode="json") for one in version.parameters],
        "notes": version.notes,
        "mode": version.mode,
        "source": str(version.source),
        "source_name": version.source_name,
        "guest_count": version.guest_count,  # type: ignore[attr-defined]  # put on by the selectors
        "created_by": version.created_by or None,
        "created_at": moment(version.created_at),
    }


def template_json(template: Template, *, by: Actor) -> dict[str, Any]:
    """The contract's template, as `by` may see it."""
    return {
        "id": str(template.pk),
        "name": template.name,
        "description": template.description,
        "project": template.project or None,
        "owner": template.owner.username if template.owner else None,
        "current": template.current,
        "closing": template.closing,
        "version": template.version,
        "versions": [version_json(one, by=by) for one in template.versions.all()],
        "created_at": moment(template.created_at),
        "updated_at": moment(template.updated_at),
    }


@router.get("/templates", response=TemplatePage, operation_id="list_templates", summary="List templates")
@access("view")
def template_list(request: HttpRequest, listing: Query[TemplateListing]) -> HttpResponse:
    """By name unless told."""
    by = actor_of(request)
    page = template_page(
        by,
        **listing.asked(FILTERS),
    )
    return page_answer(page, lambda template: template_json(template, by=by))


@router.post("/templates", response=_DONE, operation_id="create_template", summary="Make a template of a guest")
@access("template.manage")
@problems(404, 409, 503)
def template_create(request: HttpRequest, payload: TemplateIn, on_conflict: OnConflict) -> HttpResponse:
    """An operation on the guest, which must be off; `result.template` is the template's id.

    With `convert` the guest is undefined and its disks become the template's: a frozen guest could still be started at its host, and
    would write under all that was made from it.
    """
    by = actor_of(request)
    return Started(request, templates.template_make(by=by, on_conflict=on_conflict, **_wish(payload)), by)


def _wish(payload: VersionIn) -> dict[str, Any]:
    return {name: getattr(payload, name) for name in type(payload).model_fields}


@router.get("/templates/{template_id}", response=TemplateOut, operation_id="get_template", summary="One template")
@access("view")
def template_one(request: HttpRequest, template_id: UUID) -> HttpResponse:
    """With all its versions."""
    by = actor_of(request)
    template = template_get(template_id, by=by)
    return single(request, template_json(template, by=by), version=template.version)


@router.patch(
    "/templates/{template_id}", response=TemplateOut, operation_id="change_template", summary="Change a template"
)
@access("template.manage")
@problems(409)
def template_change(request: HttpRequest, template_id: UUID, payload: TemplateChange) -> HttpResponse:
    """What people say of it, and which of its versions is meant. A version itself never changes."""
    by = actor_of(request)
    template = template_get(template_id, by=by)
    version = if_match(request, template.version)
    changes = payload.model_dump(exclude_none=True)
    if changes:
        templates.template_update(template=template, by=by, changes=changes, if_version=version)
        template = template_get(template_id, by=by)
    return single(request, template_json(template, by=by), version=template.version)


@router.delete("/templates/{template_id}", response=_DONE, operation_id="delete_template", summary="Delete a template")
@access("template.manage")
@problems(409, 503)
def template_delete(request: HttpRequest, template_id: UUID, on_conflict: OnConflict) -> HttpResponse:
    """An operation: all its disks go. 409 `in_use`, and who, while anything stands on one or is being made from it."""
    by = actor_of(request)
    template = template_get(template_id, by=by)
    if_match(request, template.version)
    return Started(request, templates.template_delete(template=template, by=by, on_conflict=on_conflict), by)


@router.get(
    "/templates/{template_id}/versions",
    response=VersionPage,
    operation_id="list_template_versions",
    summary="Its versions",
)
@access("view")
def version_list(request: HttpRequest, template_id: UUID, paging: Query[Paging]) -> HttpResponse:
    """The newest first."""
    by = actor_of(request)
    page = version_page(template_get(template_id, by=by), cursor=paging.cursor, limit=paging.limit)
    return page_answer(page, lambda one: version_json(one, by=by))


@router.post(
    "/templates/{template_id}/versions",
    response=_DONE,
    operation_id="create_template_version",
    summary="Another version",
)
@access("template.manage")
@problems(404, 409, 503)
def version_create(
    request: HttpRequest, template_id: UUID, payload: VersionIn, on_conflict: OnConflict
) -> HttpResponse:
    """An operation on a guest that is off. It is the current one once it is whole; older ones stay, for who names them."""
    by = actor_of(request)
    template = template_get(template_id, by=by)
    operation = templates.template_make(template=template, by=by, on_conflict=on_conflict, **_wish(payload))
    return Started(request, operation, by)


@router.get(
    "/templates/{template_id}/uses",
    response=UsePage,
    operation_id="list_template_uses",
    summary="What would break if it went",
)
@access("view")
def use_list(request: HttpRequest, template_id: UUID, paging: Query[Paging]) -> HttpResponse:
    """Overlays of its disks, who uses those, and so on upwards; then guests that were made from it and have disks of their own."""
    found = uses_json(template_get(template_id, by=actor_of(request)))
    items, following = slice_of(
        found,
        key=lambda use: [int(not use["breaks"]), use["name"], use["id"]],
        made_for="uses",
        cursor=paging.cursor,
        limit=paging.limit,
    )
    return answer({"items": items, "total": len(found), "next": following})
