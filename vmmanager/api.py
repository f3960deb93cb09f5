"""The REST API: its routers, its errors, its document. What each operation goes through is `vmmanager.dispatch`'s."""

import logging
from collections.abc import Callable
from typing import Any, cast

from django.core.exceptions import RequestDataTooBig
from django.db import IntegrityError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from ninja.operation import Operation
from pydantic import Field

from accounts.access import access
from accounts.answers import problem_response
from accounts.api import router as accounts_router
from consoles.api import router as consoles_router
from core.errors import BadInput, Conflict, Missing, TooLarge, VmmError
from core.problems import log_error, pointer
from core.rest import BODY_MAX, InternalError, Output, answer
from core.version import version
from dashboard.api import router as dashboard_router
from dashboard.topology.api import router as topology_router
from drivers import registry
from hosts.api import router as hosts_router
from hosts.catalog import router as drivers_router
from images.api import router as images_router
from live.api import router as live_router
from networks.api import router as networks_router
from networks.filter_api import router as filters_router
from operations.api import router as operations_router
from storage.api import router as storage_router
from storage.content_api import router as content_router
from transfers.api import router as transfers_router
from vmmanager import openapi
from vmmanager.dispatch import BadJson, JsonParser, auth, guarded
from vms.autostart.api import router as autostart_router
from vms.cloning.api import router as templates_router
from vms.creation.api import router as vms_router
from vms.definitions.api import router as definitions_router
from vms.hardware.api import router as hardware_router
from vms.schedules.api import router as schedules_router
from vms.seeds.api import router as seeds_router
from vms.services import ACTIONS
from vms.snapshots.api import router as snapshots_router

log = logging.getLogger(__name__)


class DatabaseAway(VmmError):
    """The database does not answer."""

    code = "database_unavailable"
    status = 503
    retryable = True


class Api(NinjaAPI):
    """NinjaAPI with a finished document and operation ids that stay."""

    def get_openapi_schema(self, *, path_prefix: str | None = None, path_params: dict[str, Any] | None = None) -> Any:
        """The OpenAPI 3.1 document, with every error declared."""
        schema = super().get_openapi_schema(path_prefix=path_prefix, path_params=path_params)
        return openapi.finished(schema, self)

    def get_openapi_operation_id(self, operation: Operation) -> str:
        """The function's name, where the operation names none itself: it does not change when code moves."""
        return operation.view_func.__name__


api = Api(
    title="vmmanager",
    version=version(),
    description="One REST API over every kind of hypervisor. Conventions, objects and codes: see the reference.",
    docs_url=None,
    openapi_url="/openapi.json",
    urls_namespace="api",
    auth=auth,
    parser=JsonParser(),
)
api.add_decorator(guarded, mode="view")


# -- errors ----------------------------------------------------------------------------------------------------------------
def _refused(request: HttpRequest, error: Exception) -> HttpResponse:
    """Any error as a problem document; what is not ours to explain is a bare 500 whose request id finds it in the log."""
    known = error if isinstance(error, VmmError) else _translated(error)
    request_id = getattr(request, "request_id", "")
    log_error(error if known is None else known, request_id=request_id, where=f"{request.method} {request.path}")
    response = problem_response(request, known if known is not None else InternalError())
    # Django would log each 5xx once more as an error, and a host that is away is none of ours.
    response._has_been_logged = True  # type: ignore[attr-defined]  # noqa: SLF001 - Django's own word for it
    return response


def _translated(error: Exception) -> VmmError | None:
    for kinds, translate in _TRANSLATIONS:
        if isinstance(error, kinds):
            return translate(error)
    return None


def _from_ninja(error: HttpError) -> VmmError:
    return error.__cause__ if isinstance(error.__cause__, VmmError) else BadJson(str(error))


def _lost_race(error: IntegrityError) -> VmmError:
    log.warning("a change lost a race", exc_info=error)
    return Conflict("Another change came in between; try again.")


def _away(error: Exception) -> VmmError:
    log.error("database", exc_info=error)
    return DatabaseAway("The database does not answer; try again in a moment.")


_SAID = {"extra_forbidden": "unknown field", "missing": "required"}


def _invalid(error: ValidationError) -> VmmError:
    """Wrong values, each with a pointer. A path that cannot name anything is a path to nothing."""
    errors = []
    for item in error.errors:
        source, *path = item["loc"]
        if source == "path":
            return Missing()
        if source == "body":
            path = path[1:]  # the parameter's own name
        elif source == "query":
            path = path[-1:]
        detail = _SAID.get(item["type"], str(item["msg"]).removeprefix("Value error, "))
        errors.append({"pointer": pointer(path) if path else "", "detail": detail[:300]})
    first = errors[0]
    return BadInput(f"{first['pointer'].removeprefix('/') or 'The request'}: {first['detail']}.", errors=errors[:100])


_TRANSLATIONS: tuple[tuple[Any, Callable[[Any], VmmError]], ...] = (
    (ValidationError, _invalid),
    (HttpError, _from_ninja),
    (RequestDataTooBig, lambda _: TooLarge(f"A request body has at most {BODY_MAX} bytes.")),
    (Http404, lambda _: Missing()),
    (UnreadablePostError, lambda _: BadJson("The request body did not arrive whole.")),
    (IntegrityError, _lost_race),
    ((OperationalError, InterfaceError), _away),
)

for _kind in (VmmError, ValidationError, HttpError, Http404, RequestDataTooBig, Exception):
    api.add_exception_handler(_kind, cast("Any", _refused))


# -- the entrance --------------------------------------------------------------------------------------------------------
class Entrance(Output):
    """What this is, and what it can do."""

    version: str
    features: list[str] = Field(examples=[["vms", "vms.bulk", "actions.start", "drivers.qemu"]])


FEATURES = (
    "advise",
    "audit",
    "cloud_init",
    "consoles",
    "events",
    "events.stream",
    "hosts",
    "hosts.demo",
    "hosts.maintenance",
    "hosts.probe",
    "hypervisors",
    "idempotency_keys",
    "images",
    "metrics",
    "networks",
    "operations",
    "operations.wait",
    "storage.pools",
    "storage.volumes",
    "storage.volumes.content",
    "tokens",
    "uploads",
    "users",
    "vms",
    "vms.autostart_order",
    "vms.bulk",
    "vms.define",
    "vms.revisions",
    "vms.cloud_init",
    "vms.create",
    "vms.create.dry_run",
    "vms.screenshot",
    "vms.snapshots",
    "vms.snapshots.schedules",
    "vms.xml",
)
"""Words that a client may test for. One is added with what it names, and never taken away."""


@api.get("", response=Entrance, operation_id="get_entrance", summary="Version and features", tags=["entrance"])
@access("view")
def entrance(request: HttpRequest) -> HttpResponse:
    """Test for a feature, not for a version."""
    del request
    features = [*FEATURES, *(f"actions.{name}" for name in ACTIONS), *(f"drivers.{kind}" for kind in registry.kinds())]
    return answer({"version": version(), "features": sorted(features)})


for _router in (
    hosts_router,
    drivers_router,
    vms_router,
    definitions_router,
    hardware_router,
    snapshots_router,
    seeds_router,
    templates_router,
    schedules_router,
    autostart_router,
    consoles_router,
    operations_router,
    live_router,
    accounts_router,
    dashboard_router,
    topology_router,
    storage_router,
    content_router,
    networks_router,
    filters_router,
    transfers_router,
    images_router,
):
    api.add_router("", _router)
