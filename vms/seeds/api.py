"""REST: seeds for cloud-init. Thin, as `vms.api`: runs in a request thread and never touches a hypervisor."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Router
from pydantic import Field

from accounts.access import access
from accounts.actor import actor_of
from core.rest import Output, answer, problems, tags_in
from operations.answers import Started
from operations.api import OperationOut
from vms import services
from vms.seeds import services as seeds
from vms.seeds.services import ReseedIn

router = Router(tags=["vms"])


class SeedOut(Output):
    """What cloud-init in the guest finds at its next boot."""

    instance_id: str = Field(description="What is done once for each instance was done for this one.")
    hostname: str
    user_data: str
    network_config: str = Field(description='"": DHCP on the one interface that there is.')
    vendor_data: str
    pool: str
    volume: str


@router.get(
    "/vms/{uuid:vm_id}/cloud-init",
    response=SeedOut,
    operation_id="get_cloud_init",
    summary="What its seed holds",
)
@access("vm.edit")
@problems(409, 502, 503, 504)
def vm_cloud_init_read(request: HttpRequest, vm_id: UUID) -> HttpResponse:
    """Read now, by a worker. It may hold passwords: who may change it may read it. Its `ETag` is what a `POST` names in `If-Match`."""
    by = actor_of(request)
    found: dict[str, Any] = asdict(seeds.seed_shown(vm=services.vm_get(vm_id, by=by), by=by))
    made = answer({name: found[name] for name in SeedOut.model_fields})
    made["ETag"], made["Cache-Control"] = f'"{found["digest"]}"', "no-store"
    return made


@router.post(
    "/vms/{uuid:vm_id}/cloud-init",
    response={202: OperationOut, 200: OperationOut},
    operation_id="change_cloud_init",
    summary="Another seed for cloud-init",
)
@access("vm.edit")
@problems(409, 412, 503)
def vm_cloud_init(request: HttpRequest, vm_id: UUID, payload: ReseedIn) -> HttpResponse:
    """An operation. All that cloud-init shall find must be said: nothing of what stood there before is kept.

    The guest must be off, and have a seed that was made here. With `rerun` its next boot is a new instance to cloud-init: what it
    does once, it does again (host keys among it). Without, only what it does at each boot sees the change.
    With `If-Match` and the `ETag` of the `GET` the operation fails (`stale`) when somebody else was quicker.
    """
    by = actor_of(request)
    vm = services.vm_get(vm_id, by=by)
    known = tags_in(request, "If-Match")
    return Started(request, seeds.vm_reseed(vm=vm, asked=payload, by=by, known=known), by)
