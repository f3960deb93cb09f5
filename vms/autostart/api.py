"""REST: the order in which a host's guests start. Thin: parse, ask the service, make JSON. Never touches a hypervisor."""

from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Router
from pydantic import Field, Strict

from accounts.access import access
from accounts.actor import actor_of
from core.rest import Input, Output, answer, problems
from hosts.services import host_get
from operations.answers import Started
from operations.api import OperationOut
from vms.autostart import services
from vms.autostart.actions import in_order
from vms.facts import ORDER_MAX
from vms.models import VM

router = Router(tags=["hosts"])

Id = Annotated[UUID, Strict(strict=False)]


class StartOut(Output):
    """A guest that is started with its host."""

    vm: UUID
    name: str
    order: int
    delay_seconds: int = Field(description="Then, before the next one.")
    wait: bool = Field(description="The next one waits until it has an address.")


class StartsOut(Output):
    """Those of a host, in their order."""

    items: list[StartOut]


class StartsIn(Input):
    """Another order."""

    vms: Annotated[list[Id], Field(max_length=ORDER_MAX, description="Each guest of the host that has a place, once.")]


def _json(vm: VM) -> dict[str, Any]:
    return {
        "vm": str(vm.pk),
        "name": vm.name,
        "order": vm.autostart_order,
        "delay_seconds": vm.autostart_delay_seconds,
        "wait": vm.autostart_wait,
    }


@router.get(
    "/hosts/{host_id}/autostart",
    response=StartsOut,
    operation_id="get_host_autostart",
    summary="In which order guests start",
)
@access("view")
def host_autostart(request: HttpRequest, host_id: UUID) -> HttpResponse:
    """When the host came up. A guest gets its place by `PATCH /vms/{id}` with `autostart_order`."""
    host = host_get(host_id, by=actor_of(request))
    return answer({"items": [_json(vm) for vm in in_order(host)]})


@router.put(
    "/hosts/{host_id}/autostart",
    response={202: OperationOut, 200: OperationOut},
    operation_id="set_host_autostart",
    summary="Start guests in another order",
)
@access("vm.edit")
@problems(404)
def host_autostart_set(request: HttpRequest, host_id: UUID, payload: StartsIn) -> HttpResponse:
    """One parent operation with a child for each guest that gets another place."""
    by = actor_of(request)
    host = host_get(host_id, by=by)
    return Started(request, services.host_order(host=host, vms=payload.vms, by=by), by)
