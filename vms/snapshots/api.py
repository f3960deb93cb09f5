"""REST: snapshots of a guest. Thin: parse, ask the service, make JSON. Runs in a request thread and never touches a hypervisor."""

import datetime as dt
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import BaseModel, Field, field_validator

from accounts.access import access
from accounts.actor import Actor, actor_of
from core.rest import Input, Listing, Output, answer, if_match, moment, problems
from drivers.snapshots import DESCRIPTION_MAX, LENGTH_MAX, why_no_description, why_no_name
from operations.answers import Started
from operations.api import OperationOut
from vms.models import VM, Snapshot
from vms.services import vm_get
from vms.snapshots import selectors, services

router = Router(tags=["vms"])

Name = Annotated[str, Field(max_length=255, description="As the list says it, percent-encoded.")]


class SnapshotAllowed(Output):
    """Whether something may be done with it, and why not."""

    allowed: bool
    reason: str
    code: str | None = None


class SnapshotActions(Output):
    """For this caller, now."""

    revert: SnapshotAllowed
    delete: SnapshotAllowed


class SnapshotOut(Output):
    """A state of a guest that it can go back to."""

    name: str
    description: str
    parent: str | None = Field(description="The snapshot that it grew from.")
    created_at: dt.datetime | None = Field(description="By the hypervisor's clock.")
    state: Literal["running", "paused", "shutting_down", "shutoff", "crashed", "pmsuspended", "unknown"] = Field(
        description="How the guest comes back."
    )
    memory: bool = Field(description="Going back goes on from that moment; without it the guest is off afterwards.")
    kind: Literal["internal", "external"] = Field(
        description="`external`: what was written since then is in overlay files."
    )
    current: bool = Field(description="The guest's present state grew from it.")
    disks: list[str] = Field(description="Those that are in it; empty where the hypervisor does not tell.")
    size_bytes: int | None = Field(description="null where the hypervisor does not tell.")
    actions: SnapshotActions


class SnapshotPage(Output):
    """A page of snapshots."""

    items: list[SnapshotOut]
    total: int
    next: str | None


class SnapshotListing(Listing):
    """The query of the list."""

    ordering: Annotated[str, Field(max_length=50, description="created_at, name; `-` turns it round.")] = "created_at"


class SnapshotIn(Input):
    """One to be taken."""

    name: Annotated[str, Field(min_length=1, max_length=LENGTH_MAX, examples=["before the upgrade"])]
    description: Annotated[str, Field(max_length=DESCRIPTION_MAX)] = ""
    memory: bool | None = Field(
        None,
        description="With the memory of a guest that runs; null: where its hypervisor can. One that is off has none.",
    )

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return _unless(why_no_name(name), name)

    @field_validator("description")
    @classmethod
    def _description(cls, text: str) -> str:
        return _unless(why_no_description(text), text)


def _unless(why: str, value: str) -> str:
    if why:
        raise ValueError(why)
    return value


class SnapshotQuery(BaseModel):
    """How a call is queued."""

    on_conflict: Literal["wait", "fail"] = Field(
        "wait", description="`fail`: 409 when anything is queued or running on the guest."
    )


class SnapshotDeletion(SnapshotQuery):
    """How a snapshot is deleted."""

    children: bool = Field(default=False, description="With all that grew from it.")


def snapshot_json(row: Snapshot, vm: VM, by: Actor) -> dict[str, Any]:
    """The contract's snapshot, as `by` may see it. No query."""
    return {
        "name": row.name,
        "description": row.description,
        "parent": row.parent or None,
        "created_at": moment(row.created_at),
        "state": row.state,
        "memory": row.memory,
        "kind": row.kind,
        "current": row.current,
        "disks": row.disks,
        "size_bytes": row.size_bytes,
        "actions": selectors.snapshot_actions(row, vm, by=by),
    }


@router.get(
    "/vms/{vm_id}/snapshots", response=SnapshotPage, operation_id="list_snapshots", summary="Its snapshots, read now"
)
@access("view")
@problems(502, 503, 504)
def snapshot_list(request: HttpRequest, vm_id: UUID, listing: Query[SnapshotListing]) -> HttpResponse:
    """A worker looks which there are, and this call waits for it.

    While the guest's host is out of reach (`stale`) they are those that were last seen. 422 `unsupported` where its hypervisor
    keeps none.
    """
    by = actor_of(request)
    vm = vm_get(vm_id, by=by)
    services.snapshots_supported(vm)
    services.snapshots_read(vm=vm, by=by)
    page = services.snapshot_page(
        vm,
        by,
        q=listing.q,
        ordering=listing.ordering or "created_at",
        cursor=listing.cursor,
        limit=listing.limit,
    )
    items = [snapshot_json(row, vm, by) for row in page.items]
    return answer({"items": items, "total": page.total, "next": page.next})


@router.post(
    "/vms/{vm_id}/snapshots",
    response={202: OperationOut, 200: OperationOut},
    operation_id="create_snapshot",
    summary="Take a snapshot",
)
@access("vm.snapshot")
@problems(409, 503)
def snapshot_create(
    request: HttpRequest, vm_id: UUID, query: Query[SnapshotQuery], payload: SnapshotIn
) -> HttpResponse:
    """An operation; its `result.snapshot` is the name. A guest that runs may stand still while its memory is written."""
    by = actor_of(request)
    operation = services.snapshot_take(
        vm=vm_get(vm_id, by=by),
        by=by,
        name=payload.name,
        description=payload.description,
        memory=payload.memory,
        on_conflict=query.on_conflict,
    )
    return Started(request, operation, by)


@router.post(
    "/vms/{vm_id}/snapshots/{path:name}/revert",
    response={202: OperationOut, 200: OperationOut},
    operation_id="revert_snapshot",
    summary="Go back to a snapshot",
)
@access("vm.snapshot")
@problems(409, 503)
def snapshot_revert(request: HttpRequest, vm_id: UUID, name: Name, query: Query[SnapshotQuery]) -> HttpResponse:
    """An operation. What the guest did since then is lost: its disks, its definition, the memory that it has now, a managed save."""
    by = actor_of(request)
    vm = vm_get(vm_id, by=by)
    operation = services.snapshot_revert(vm=vm, by=by, name=name, on_conflict=query.on_conflict)
    return Started(request, operation, by)


@router.delete(
    "/vms/{vm_id}/snapshots/{path:name}",
    response={202: OperationOut, 200: OperationOut},
    operation_id="delete_snapshot",
    summary="Delete a snapshot",
)
@access("vm.snapshot")
@problems(409, 503)
def snapshot_delete(request: HttpRequest, vm_id: UUID, name: Name, query: Query[SnapshotDeletion]) -> HttpResponse:
    """An operation. The guest stays as it is; what grew from the snapshot takes its parent, or goes too with `children`."""
    by = actor_of(request)
    vm = vm_get(vm_id, by=by)
    if_match(request, vm.version)
    operation = services.snapshot_delete(
        vm=vm, by=by, name=name, children=query.children, on_conflict=query.on_conflict
    )
    return Started(request, operation, by)
