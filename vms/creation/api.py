"""REST: making guests, in the router of `vms.api`. Thin, in a request thread, and never at a hypervisor."""

from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Query
from pydantic import Field, StringConstraints

from accounts.access import access
from accounts.actor import actor_of
from core.errors import BadInput
from core.rest import Input, Output, answer, problems
from operations.answers import Awaited, Started
from operations.api import OperationOut
from operations.models import Operation
from vms import services
from vms.api import router  # a path has all its methods in one router
from vms.creation.spec import DOCUMENT_MAX, NewVM, XmlSpec

__all__ = ["router"]  # whoever mounts it wants these too


class PlacementOut(Output):
    """Where a guest would be, and why there."""

    hypervisor: UUID
    host: UUID
    host_name: str
    driver: str
    score: float | None
    reasons: list[str]
    passed_over: list[dict[str, str]] = Field(description="Better places that lack something, and those that cannot.")


class DraftOut(Output):
    """A dry run: what would be made. Nothing was."""

    spec: dict[str, Any] = Field(description="With everything settled that was left open.")
    placement: PlacementOut
    definition: str | None = Field(description="What the hypervisor would be given; null where it was not asked for.")


class DocumentsIn(Input):
    """Documents for cloud-init."""

    user_data: Annotated[str, StringConstraints(max_length=DOCUMENT_MAX)] | None = None
    network_config: Annotated[str, StringConstraints(max_length=DOCUMENT_MAX)] | None = None


class SeedFindingOut(Output):
    """One thing that was found in a document."""

    path: str = Field(description="JSON pointer; begins with `/user_data` or `/network_config`.")
    line: int = Field(description="From 1; 0 for the whole.")
    detail: str


class DocumentsOut(Output):
    """Whether cloud-init would understand them."""

    ok: bool
    errors: list[SeedFindingOut]
    warnings: list[SeedFindingOut] = Field(description="Keys that are not known to the schema, or stand there twice.")


@router.post(
    "/vms",
    response={200: DraftOut | OperationOut, 202: OperationOut},
    operation_id="create_vm",
    summary="Make a guest",
)
@access("vm.create")
@problems(409, 503, 504)
def vm_create(
    request: HttpRequest,
    payload: NewVM,
    dry_run: Annotated[bool, Query(default=False, description="Only say what would be made: 200, and nothing is.")],
    definition: Annotated[
        bool, Query(default=True, description="With a dry run: also have the definition drawn, which takes a worker.")
    ],
) -> HttpResponse:
    """From a spec, or (scope `admin`) from a definition as it is: `{"xml": "…", "hypervisor": "…"}`.

    An operation, whose target is the new guest, and whose `result.vm` is its id. It ends well when the guest is as `wait_for` says.
    What a failed or cancelled one has made is undone, as long as the guest has not been started.
    """
    by = actor_of(request)
    if not dry_run:
        return Started(request, services.vm_create(spec=payload, by=by), by)
    if isinstance(payload, XmlSpec):
        raise BadInput(
            "A definition is what it is: there is nothing to try.",
            errors=[{"pointer": "/dry_run", "detail": "not with xml"}],
        )
    plan = services.vm_plan(spec=payload, by=by)
    settled = plan.model_dump(mode="json")
    placement = settled.pop("placement")
    if not definition:
        return answer({"placement": placement, "spec": settled, "definition": None})

    def build(ended: Operation) -> HttpResponse:
        return answer({"placement": placement, "spec": settled, "definition": services.drafted(ended)})

    return Awaited(services.vm_draft(plan=plan, by=by), build, wait_seconds=services.READING_WAIT_SECONDS)


@router.post(
    "/cloud-init/validate",
    response=DocumentsOut,
    operation_id="validate_cloud_init",
    summary="Look at documents for cloud-init",
)
@access("vm.create")
def cloud_init_validate(request: HttpRequest, payload: DocumentsIn) -> HttpResponse:
    """With cloud-init's own schema. Nothing is kept."""
    del request
    reports = services.cloud_init_reports(payload.user_data, payload.network_config)
    found = {
        kind: [
            {"path": f"/{name}{one.path}", "line": one.line, "detail": one.detail}
            for name, report in reports.items()
            for one in getattr(report, kind)
        ]
        for kind in ("errors", "warnings")
    }
    return answer({"ok": not found["errors"], **found})
