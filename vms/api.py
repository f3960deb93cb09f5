"""REST: guests. Thin: parse, ask the service, make JSON. Runs in a request thread and never touches a hypervisor."""

import datetime as dt
from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from ninja import Body, Query, Router
from pydantic import BaseModel, Field, StringConstraints, field_validator, model_validator

from accounts.access import access
from accounts.actor import Actor, actor_of
from accounts.models import User
from core.errors import BadInput
from core.rest import Input, Listing, Output, answer, if_match, moment, problems, single
from metrics.api import SeriesOut, SeriesQuery, series_answer
from operations import engine
from operations.answers import Started, preferred_wait
from operations.api import OperationOut
from operations.problems import Recorded
from vms import services
from vms.autostart import services as autostart
from vms.choices import Kind, State
from vms.facts import DELAY_MAX_SECONDS, ORDER_MAX
from vms.models import VM
from vms.offers import Offers
from vms.selectors import FILTERS, ORDERINGS, Devices, devices, vm_page, vms_by_id, vms_found

router = Router(tags=["vms"])

StateName = Literal["running", "paused", "shutting_down", "shutoff", "crashed", "pmsuspended", "unknown"]
Several = Annotated[str, Field(max_length=8000)]
OnConflict = Annotated[
    Literal["wait", "fail"], Query("wait", description="`fail`: 409 when anything is queued or running on the guest.")
]
AUTOSTART_WAIT_SECONDS = 5


# -- shapes --------------------------------------------------------------------------------------------------------------
class DiskOut(Output):
    """A disk."""

    target: str
    bus: str | None
    source: str | None
    pool: str | None
    format: str | None
    size_bytes: int | None
    readonly: bool


class InterfaceOut(Output):
    """A network interface."""

    mac: str
    model: str | None
    network: str | None
    link: str
    target: str | None


class AddressOut(Output):
    """An address of a guest, and who says so."""

    address: str
    prefix: int | None
    mac: str
    source: str = Field(
        description="`agent` (the guest itself), `lease` (DHCP of the hypervisor), `arp` (seen on the wire)."
    )


class AllowedOut(Output):
    """Whether the caller may do it now, and if not, why."""

    allowed: bool
    reason: str
    code: str | None = None


class VMOut(Output):
    """A guest: virtual machine or container."""

    id: UUID
    uuid: str = Field(description="The hypervisor's own identifier.")
    name: str
    kind: Literal["machine", "container"]
    host: UUID
    host_name: str
    hypervisor: UUID
    driver: str
    virtualization_type: Literal["bare_metal", "hosted", "hybrid", "os_level"] | None
    techniques: list[str]
    state: StateName
    state_reason: str | None
    stale: bool = Field(description="Its host is out of reach: the last known state stands.")
    vcpus: int
    memory_bytes: int
    max_memory_bytes: int
    persistent: bool
    autostart: bool = Field(description="It starts with its host.")
    autostart_order: int | None = Field(
        description="Its place among those that are started one after the other; null: its hypervisor starts it, or nobody."
    )
    autostart_delay_seconds: int = Field(description="After it, before the next one.")
    autostart_wait: bool = Field(description="The next one waits until it has an address, 5 minutes at most.")
    has_managed_save: bool
    title: str
    description: str
    tags: list[str]
    project: str | None
    owner: str | None
    lease: UUID | None
    protected: bool = Field(description="It cannot be deleted.")
    binned_at: dt.datetime | None = Field(
        description="Since when it is in the bin, where nothing but `restore` can be done."
    )
    binned_by: str | None
    bin_until: dt.datetime | None = Field(description="Then it goes for good.")
    bin_storage: Literal["keep", "delete"] | None = Field(description="What its disks do then.")
    addresses: list[AddressOut]
    address_reasons: dict[str, str] = Field(description="Of a running guest: source → why it names no address.")
    disks: list[DiskOut]
    interfaces: list[InterfaceOut]
    graphics: list[dict[str, Any]]
    consoles: list[str]
    boot: dict[str, Any]
    os: str | None
    actions: dict[str, AllowedOut] = Field(description="For this caller, now.")
    started_at: dt.datetime | None
    created_at: dt.datetime
    updated_at: dt.datetime
    version: int


class VMPage(Output):
    """A page of guests."""

    items: list[VMOut]
    total: int
    next: str | None


class VMListing(Listing):
    """The query of the list. Filters take several values by commas."""

    host: Several = Field("", description="Ids or names.")
    hypervisor: Several = Field("", description="Ids or URIs.")
    driver: Several = ""
    virtualization_type: Several = Field("", description="bare_metal, hosted, hybrid, os_level")
    kind: Several = Field("", description=", ".join(Kind.values))
    state: Several = Field("", description=", ".join(State.values))
    tag: Several = ""
    project: Several = ""
    owner: Several = Field("", description="User names or ids.")
    binned: bool = Field(default=False, description="Those in the bin, and not the others.")
    ordering: Annotated[str, Field(max_length=50, description=f"{', '.join(ORDERINGS)}; `-` turns it round.")] = "name"


class VMChange(Input):
    """What of a guest can be changed."""

    title: Annotated[str, StringConstraints(max_length=255)] | None = None
    description: Annotated[str, StringConstraints(max_length=100_000)] | None = None
    tags: Annotated[list[Annotated[str, StringConstraints(max_length=100)]], Field(max_length=100)] | None = None
    autostart: bool | None = Field(None, description="false takes its place in the order away too.")
    autostart_order: Annotated[int, Field(ge=0, le=ORDER_MAX)] | None = Field(
        None, description="null: it starts with its host without a place in the order."
    )
    autostart_delay_seconds: Annotated[int, Field(ge=0, le=DELAY_MAX_SECONDS)] | None = None
    autostart_wait: bool | None = None
    protected: bool | None = Field(None, description="true: it cannot be deleted.")
    project: Annotated[str, StringConstraints(max_length=100)] | None = Field(None, description="null: none.")
    owner: Annotated[str, StringConstraints(max_length=150)] | None = Field(
        None, description="A user's name or id; null: nobody."
    )


class BulkIn(Input):
    """The same for many guests: those in `ids`, or those that `filter` finds."""

    action: Annotated[str, StringConstraints(max_length=50)] = Field(
        examples=["start"], json_schema_extra={"enum": list(services.BULK_ACTIONS)}
    )
    ids: (
        Annotated[
            list[Annotated[str, StringConstraints(max_length=40)]], Field(min_length=1, max_length=services.BULK_MAX)
        ]
        | None
    ) = None
    filter: Annotated[str, StringConstraints(max_length=2000, pattern=r"\S")] | None = Field(
        None, description="The language of `q`.", examples=["tag:ci state:running"]
    )
    params: dict[str, Any] | None = Field(None, description="Those of the action.")
    dry_run: bool = Field(default=False, description="Only say what would happen.")

    @field_validator("action")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in services.BULK_ACTIONS:
            raise ValueError(f"one of {', '.join(services.BULK_ACTIONS)}")
        return name

    @model_validator(mode="after")
    def _one_of_both(self) -> "BulkIn":
        if (self.ids is None) == (self.filter is None):
            raise ValueError("either ids or filter")
        return self


class DeleteQuery(BaseModel):
    """How a guest is deleted."""

    force: bool = Field(default=False, description="Force a running guest off first.")
    storage: Literal["keep", "delete"] | None = Field(
        None,
        description="Whether its disks go as well; `keep` unless told. Of a guest in the bin: as was told when it went there.",
    )
    bin: bool = Field(default=True, description="Keep it for a while; false: at once and for good.")
    on_conflict: Literal["wait", "fail"] = Field(
        "wait", description="`fail`: 409 when anything is under way on the guest."
    )


class PreviewItem(Output):
    """What would happen to one guest."""

    vm: UUID
    name: str
    allowed: bool
    reason: str
    code: str | None = None


class Preview(Output):
    """What a bulk call would do."""

    action: str
    total: int
    allowed: int
    refused: int
    items: list[PreviewItem]


def vms_json(vms: Sequence[VM], *, by: Actor) -> list[dict[str, Any]]:
    """The contract's VMs, as `by` may see them. Two queries, for their devices."""
    found = devices([vm.pk for vm in vms])
    offers = Offers(lambda vm: services.vm_actions(vm, by=by))
    return [_json(vm, found[vm.pk], offers) for vm in vms]


def vm_json(vm: VM, *, by: Actor) -> dict[str, Any]:
    """One of them."""
    return vms_json([vm], by=by)[0]


def _json(vm: VM, has: Devices, offers: Offers) -> dict[str, Any]:
    hypervisor = vm.hypervisor
    return {
        "id": str(vm.pk),
        "uuid": vm.uuid,
        "name": vm.name,
        "kind": vm.kind,
        "host": str(hypervisor.host_id),
        "host_name": hypervisor.host.name,
        "hypervisor": str(vm.hypervisor_id),
        "driver": hypervisor.driver,
        "virtualization_type": vm.virtualization_type or None,
        "techniques": vm.techniques,
        "state": vm.state,
        "state_reason": vm.state_reason or None,
        "stale": vm.stale,
        "vcpus": vm.vcpus,
        "memory_bytes": vm.memory_bytes,
        "max_memory_bytes": vm.max_memory_bytes,
        "persistent": vm.persistent,
        "autostart": vm.starts_with_host,
        "autostart_order": vm.autostart_order,
        "autostart_delay_seconds": vm.autostart_delay_seconds,
        "autostart_wait": vm.autostart_wait,
        "has_managed_save": vm.has_managed_save,
        "title": vm.title,
        "description": vm.description,
        "tags": vm.tags,
        "project": vm.project or None,
        "owner": vm.owner.username if vm.owner else None,
        "lease": None,
        "protected": vm.protected,
        "binned_at": moment(vm.binned_at),
        "binned_by": vm.binned_by or None,
        "bin_until": moment(vm.bin_until),
        "bin_storage": vm.bin_storage or None,
        "addresses": vm.addresses,
        "address_reasons": vm.address_reasons,
        "disks": has.disks,
        "interfaces": has.interfaces,
        "graphics": vm.graphics,
        "consoles": vm.consoles,
        "boot": vm.boot,
        "os": vm.os or None,
        "actions": offers.of(vm),
        "started_at": moment(vm.started_at),
        "created_at": moment(vm.created_at),
        "updated_at": moment(vm.updated_at),
        "version": vm.version,
    }


# -- one and many --------------------------------------------------------------------------------------------------------
@router.get("/vms", response=VMPage, operation_id="list_vms", summary="List guests")
@access("view")
def vm_list(request: HttpRequest, listing: Query[VMListing]) -> HttpResponse:
    """By name unless told."""
    by = actor_of(request)
    page = vm_page(
        by,
        **listing.asked(FILTERS),
        binned=listing.binned,
    )
    return answer({"items": vms_json(page.items, by=by), "total": page.total, "next": page.next})


@router.post(
    "/vms/bulk",
    response={200: Preview, 202: OperationOut},
    operation_id="bulk_vms",
    summary="The same for many guests",
)
@access("vm.operate")
@problems(404)
def vm_bulk(request: HttpRequest, payload: BulkIn) -> HttpResponse:
    """One parent operation with a child and a result for each guest. With `dry_run` 200, and nothing is queued.

    With `Prefer: wait=N` 200 and the operation, if it has ended by then.
    """
    by = actor_of(request)
    services.action_params(services.action_class(payload.action, services.BULK_ACTIONS), payload.params)
    binned = payload.action == "restore"
    ids, wanted = payload.ids, payload.filter or ""
    vms = vms_found(by, wanted, binned=binned) if ids is None else vms_by_id(by, ids, binned=binned)
    if len(vms) > services.BULK_MAX:
        detail = f"at most {services.BULK_MAX:,} guests"
        raise BadInput(f"filter finds {len(vms):,}: {detail}.", errors=[{"pointer": "/filter", "detail": detail}])
    if payload.dry_run:
        items = services.vm_bulk_preview(vms=vms, name=payload.action, by=by, params=payload.params)
        allowed = sum(item["allowed"] for item in items)
        return answer(
            {
                "action": payload.action,
                "total": len(items),
                "allowed": allowed,
                "refused": len(items) - allowed,
                "items": items,
            }
        )
    return Started(request, services.vm_bulk(vms=vms, name=payload.action, by=by, params=payload.params), by)


@router.get("/vms/{vm_id}", response=VMOut, operation_id="get_vm", summary="One guest")
@access("view")
def vm_one(request: HttpRequest, vm_id: UUID) -> HttpResponse:
    """As it was last seen."""
    by = actor_of(request)
    vm = services.vm_get(vm_id, by=by)
    return single(request, vm_json(vm, by=by), version=vm.version)


@router.patch(
    "/vms/{vm_id}", response={200: VMOut, 202: OperationOut}, operation_id="change_vm", summary="Change a guest"
)
@access("vm.edit")
@problems(409, 503, 504)
def vm_change(request: HttpRequest, vm_id: UUID, payload: VMChange) -> HttpResponse:
    """What is left out stays as it is.

    `autostart` is the hypervisor's to keep, and so is its place in the order (`autostart_order`, with which we start it ourselves when
    its host came up, and its hypervisor does not): they are set by an operation, which this call waits for (5 s, or `Prefer: wait=N`).
    200 is the guest as it is then; 202 the operation, when it has not ended by then.
    """
    by = actor_of(request)
    vm = services.vm_get(vm_id, by=by)
    version = if_match(request, vm.version)
    changes = payload.model_dump(exclude_unset=True)
    wanted = {name: changes.pop(name) for name in _AUTOSTART if name in changes}
    changes |= {name: changes[name] or empty for name, empty in _EMPTY.items() if name in changes}
    if "owner" in changes:
        changes["owner"] = _user(changes["owner"])
    operation = None
    with transaction.atomic():
        if wanted:
            operation = autostart.vm_autostart(vm=vm, by=by, wanted=wanted)
        if changes:
            services.vm_update(vm=vm, by=by, changes=changes, if_version=version)
    if operation is not None:
        wait = preferred_wait(request)
        operation = engine.wait_ended(operation, timeout_seconds=AUTOSTART_WAIT_SECONDS if wait is None else wait)
        if not operation.ended:
            return Started(request, operation, by)
        if operation.error:
            raise Recorded(operation.error)
    vm = services.vm_get(vm_id, by=by)
    return single(request, vm_json(vm, by=by), version=vm.version)


_AUTOSTART = ("autostart", "autostart_order", "autostart_delay_seconds", "autostart_wait")
_EMPTY: dict[str, Any] = {"title": "", "description": "", "project": "", "tags": [], "protected": False}
"""What null stands for."""


def _user(name: str | None) -> User | None:
    if not name:
        return None
    try:
        found = User.objects.filter(pk=UUID(name.removeprefix("user/"))).first()
    except ValueError:
        found = User.objects.filter(username=name).first()
    if found is None:
        raise BadInput("owner: there is no such user.", errors=[{"pointer": "/owner", "detail": "no such user"}])
    return found


@router.delete(
    "/vms/{vm_id}", response={202: OperationOut, 200: OperationOut}, operation_id="delete_vm", summary="Delete a guest"
)
@access("vm.delete")
@problems(409, 503)
def vm_delete(
    request: HttpRequest,
    vm_id: UUID,
    query: Query[DeleteQuery],
) -> HttpResponse:
    """An operation. The guest goes to the bin: off, and out of the lists, until `restore` has it back or its time is up.

    With `bin=false`, also of a guest in the bin, it goes at once and for good. The result holds the definition then (for scope
    `admin`), so that it can be defined again, and with `storage=delete` the volumes that went and those that were kept, each with
    its reason: what another guest, an overlay or an image uses, and what lies in no storage pool.
    """
    by = actor_of(request)
    vm = services.vm_get(vm_id, by=by)
    if_match(request, vm.version)
    operation = services.vm_delete(
        vm=vm,
        by=by,
        force=query.force,
        storage=query.storage,
        to_bin=query.bin,
        on_conflict=query.on_conflict,
    )
    return Started(request, operation, by)


@router.post(
    "/vms/{vm_id}/actions/{action}",
    response={202: OperationOut, 200: OperationOut},
    operation_id="act_on_vm",
    summary="Start, shut down, …",
    openapi_extra={
        "requestBody": {
            "required": False,
            "content": {
                "application/json": {
                    "examples": {
                        "shutdown": {"value": {"timeout_seconds": 60, "force_after": True}},
                        "autostart": {"value": {"enabled": True}},
                        "restore": {"value": {"name": "web-02"}},
                        "clone": {"value": {"name": "web-02", "count": 2, "pool": "default", "start": True}},
                    },
                }
            },
        }
    },
)
@access("vm.operate")
def vm_act(
    request: HttpRequest,
    vm_id: UUID,
    action: Annotated[str, Field(max_length=50, json_schema_extra={"enum": list(services.ACTIONS)})],
    on_conflict: OnConflict,
    payload: Annotated[dict[str, Any] | None, Body(None)],
) -> HttpResponse:
    """An operation. An equal one that is already queued or running on the guest is answered instead of a second.

    `clone` (of a guest that is off: `name`, `count` up to 20, `mode` `full`, `pool`, `start`, `title`, `description`, `cloud_init`) makes
    guests with copies of its disks; `result.vms` names them. `mode` `linked` is for guests of a template.
    """
    by = actor_of(request)
    vm = services.vm_get(vm_id, by=by)
    operation = services.vm_action(vm=vm, name=action, by=by, params=payload, on_conflict=on_conflict)
    return Started(request, operation, by)


# -- what only the hypervisor knows ----------------------------------------------------------------------------------------
@router.get(
    "/vms/{vm_id}/screenshot",
    response=None,
    operation_id="get_vm_screenshot",
    summary="Its screen",
    openapi_extra={
        "responses": {
            200: {"description": "OK", "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
        }
    },
)
@access("vm.console")
@problems(409, 502, 503, 504)
def vm_screenshot(request: HttpRequest, vm_id: UUID) -> HttpResponse:
    """PNG. Needs what a console needs: it shows the same."""
    by = actor_of(request)
    picture = services.vm_screenshot(vm=services.vm_get(vm_id, by=by), by=by)
    return HttpResponse(picture, content_type="image/png", headers={"Cache-Control": "no-store"})


@router.get("/vms/{vm_id}/metrics", response=SeriesOut, operation_id="get_vm_metrics", summary="What was measured")
@access("view")
def vm_metrics(request: HttpRequest, vm_id: UUID, query: Query[SeriesQuery]) -> HttpResponse:
    """The last hour unless told. `cpu_ratio` 1: all its vCPUs busy."""
    vm = services.vm_get(vm_id, by=actor_of(request))
    return series_answer(request, vm.ref, vm.pk, query)
