"""REST: hosts and hypervisors. Thin: parse, ask the service, make JSON. Runs in a request thread and never touches a hypervisor."""

import datetime as dt
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import Field, Strict, StringConstraints, model_validator

from accounts.access import access
from accounts.actor import Actor, actor_of
from core.errors import Missing
from core.rest import (
    Input,
    Listing,
    Output,
    ProblemBody,
    answer,
    if_match,
    moment,
    nothing,
    page_answer,
    problems,
    single,
)
from drivers.errors import Timeout
from drivers.uris import is_encrypted
from hosts import services
from hosts.choices import DRIVERS, LinkState
from hosts.models import Host, HostInterface, Hypervisor
from hosts.selectors import (
    HOST_FILTERS,
    HOST_ORDERINGS,
    HYPERVISOR_FILTERS,
    HYPERVISOR_ORDERINGS,
    host_page,
    host_whole,
    hypervisor_page,
)
from metrics.api import SeriesOut, SeriesQuery, series_answer
from operations.answers import Awaited
from operations.models import Operation
from operations.problems import Recorded

router = Router(tags=["hosts"])

StateName = Literal["connecting", "online", "offline", "error"]
TypeName = Literal["bare_metal", "hosted", "hybrid", "os_level"]
Several = Annotated[str, Field(max_length=8000)]
PROBE_WAIT_SECONDS = 55.0


# -- shapes --------------------------------------------------------------------------------------------------------------
class SupportOut(Output):
    """Whether it can, and if not, why."""

    supported: bool
    reason: str = ""


class HypervisorOut(Output):
    """One driver at one endpoint of a host."""

    id: UUID
    host: UUID
    driver: str = Field(examples=["qemu"])
    uri: str = Field(examples=["qemu:///system"])
    encrypted: bool = Field(description="False where what crosses the network can be read and changed on its way.")
    state: StateName
    error: ProblemBody | None
    hypervisor_version: str
    library_version: str
    virtualization_type: TypeName | None
    techniques: list[str]
    capabilities: dict[str, SupportOut]
    slots: int = Field(description="Operations that may run on it at once.")
    last_seen_at: dt.datetime | None
    created_at: dt.datetime
    updated_at: dt.datetime
    version: int


class HypervisorPage(Output):
    """A page of hypervisors."""

    items: list[HypervisorOut]
    total: int
    next: str | None


class HostOut(Output):
    """A physical or nested machine."""

    id: UUID
    name: str
    state: StateName
    error: ProblemBody | None
    cpu_count: int
    memory_total_bytes: int
    memory_free_bytes: int
    cpu_model: str
    cpu_architecture: str = Field(examples=["x86_64"])
    kernel: str
    nested_virtualization: bool | None
    maintenance: bool
    demo: bool = Field(description="A driver for tests: nothing real runs there.")
    tags: list[str]
    hypervisors: list[HypervisorOut]
    vm_count: int
    running_vm_count: int
    last_seen_at: dt.datetime | None
    created_at: dt.datetime
    updated_at: dt.datetime
    version: int


class HostPage(Output):
    """A page of hosts."""

    items: list[HostOut]
    total: int
    next: str | None


class HostListing(Listing):
    """The query of the list. Filters take several values by commas."""

    state: Several = Field("", description=", ".join(LinkState.values))
    tag: Several = ""
    ordering: Annotated[str, Field(max_length=50, description=", ".join(HOST_ORDERINGS))] = "name"


class HypervisorListing(Listing):
    """The query of the list. Filters take several values by commas."""

    host: Several = Field("", description="Ids or names.")
    driver: Several = Field("", description=", ".join(DRIVERS))
    state: Several = Field("", description=", ".join(LinkState.values))
    virtualization_type: Several = Field("", description=", ".join(get_args(TypeName)))
    ordering: Annotated[str, Field(max_length=50, description=", ".join(HYPERVISOR_ORDERINGS))] = "name"


Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Uri = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Pem = Annotated[str, StringConstraints(max_length=100_000)]
Tags = Annotated[list[Annotated[str, StringConstraints(max_length=100)]], Field(max_length=100)]


class CredentialsIn(Input):
    """As whom to sign in. Write-only: encrypted at rest, never shown."""

    username: Annotated[str, StringConstraints(max_length=255)] = ""
    password: Annotated[str, StringConstraints(max_length=1000)] = Field(
        "", json_schema_extra={"format": "password", "writeOnly": True}
    )
    private_key: Pem = Field("", json_schema_extra={"writeOnly": True})
    host_key: Pem = ""
    certificate: Pem = ""
    ca_certificate: Pem = ""
    verify: bool | Annotated[str, StringConstraints(pattern=r"^(?:[0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$")] = Field(
        default=True, description="Whether to check the other side's certificate, or its SHA-256 fingerprint."
    )


class EndpointIn(Input):
    """One endpoint."""

    uri: Uri = Field(examples=["qemu+tls://kvm-ams-01.example/system"])
    credentials: CredentialsIn | None = None

    def new(self) -> services.NewHypervisor:
        """As the services take it."""
        return services.NewHypervisor(
            uri=self.uri, credentials=self.credentials.model_dump() if self.credentials else None
        )


class HostIn(Input):
    """A machine with one endpoint (`uri`), or with several (`hypervisors`)."""

    name: Name = Field(examples=["kvm-ams-01"])
    uri: Uri | None = Field(None, examples=["qemu+tls://kvm-ams-01.example/system"])
    credentials: CredentialsIn | None = None
    hypervisors: Annotated[list[EndpointIn], Field(min_length=1, max_length=services.HYPERVISORS_MAX)] | None = None
    tags: Tags = []

    @model_validator(mode="after")
    def _one_of_both(self) -> "HostIn":
        if (self.uri is None) == (self.hypervisors is None):
            raise ValueError("either uri or hypervisors")
        if self.hypervisors is not None and self.credentials is not None:
            raise ValueError("credentials stand beside each uri")
        return self

    def endpoints(self) -> list[services.NewHypervisor]:
        """What to connect to."""
        if self.hypervisors is not None:
            return [endpoint.new() for endpoint in self.hypervisors]
        return [EndpointIn(uri=self.uri or "", credentials=self.credentials).new()]


class HostChange(Input):
    """What of a host can be changed."""

    name: Name | None = None
    tags: Tags | None = None
    maintenance: bool | None = None


class MaintenanceIn(Input):
    """On or off."""

    enabled: bool


class HypervisorChange(Input):
    """What of a hypervisor can be changed; it is connected to anew at once."""

    uri: Uri | None = Field(
        None, description="Of the same kind. Where it leads elsewhere the credentials are given anew."
    )
    credentials: CredentialsIn | None = Field(None, description="All of them: what is left out is empty.")
    slots: Annotated[int, Field(ge=1, le=64)] | None = None


class ProbeIn(Input):
    """An endpoint that is saved nowhere (`uri`), or a saved hypervisor with the credentials that it has (`hypervisor`)."""

    uri: Uri | None = Field(None, examples=["qemu+tls://kvm-ams-01.example/system"])
    credentials: CredentialsIn | None = None
    hypervisor: Annotated[UUID, Strict(strict=False)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "ProbeIn":
        if (self.uri is None) == (self.hypervisor is None):
            raise ValueError("either uri or hypervisor")
        if self.hypervisor is not None and self.credentials is not None:
            raise ValueError("a saved hypervisor has its own credentials")
        return self


class ProbeError(Output):
    """Why a step failed."""

    code: str = Field(examples=["auth_failed"])


class TrustOut(Output):
    """What the host showed, and one could believe: as `credentials` take it, once it was compared with what the host itself says."""

    credential: Literal["verify", "host_key"]
    value: str
    compare: str = Field(description="The command that shows it on the host.")


class ProbeStep(Output):
    """One step of the host doctor."""

    step: Literal["name", "reach", "port", "tls", "authentication", "driver", "rights", "capabilities"]
    state: Literal["ok", "failed", "not_tried"]
    evidence: str
    error: ProbeError | None
    hint: str = Field(description="What mends it, with the command to paste.")
    trust: TrustOut | None
    seconds: float


class ProbeOut(Output):
    """What the host doctor found."""

    ok: bool
    steps: list[ProbeStep]


def hypervisor_json(hypervisor: Hypervisor) -> dict[str, Any]:
    """The contract's hypervisor. No query; credentials are in none of it."""
    return {
        "id": str(hypervisor.pk),
        "host": str(hypervisor.host_id),
        "driver": hypervisor.driver,
        "uri": hypervisor.uri,
        "encrypted": is_encrypted(hypervisor.uri),
        "state": hypervisor.state,
        "error": hypervisor.error,
        "hypervisor_version": hypervisor.hypervisor_version,
        "library_version": hypervisor.library_version,
        "virtualization_type": hypervisor.virtualization_type or None,
        "techniques": hypervisor.techniques,
        "capabilities": hypervisor.capabilities,
        "slots": hypervisor.slots,
        "last_seen_at": moment(hypervisor.last_seen_at),
        "created_at": moment(hypervisor.created_at),
        "updated_at": moment(hypervisor.updated_at),
        "version": hypervisor.version,
    }


class InterfaceOut(Output):
    """A network interface of a host itself."""

    name: str
    kind: str = Field(description="ethernet, bridge, bond, vlan, virtual, loopback")
    mac: str | None
    up: bool | None = Field(description="Whether it has a link; null: the host does not say.")
    speed_mbps: int | None
    master: str | None = Field(description="The bridge or bond that it is a port of.")
    vlan: int | None


class InterfacePage(Output):
    """All of a host."""

    items: list[InterfaceOut]
    total: int


def interface_json(one: HostInterface) -> dict[str, Any]:
    """As REST says it."""
    return {
        "name": one.name,
        "kind": one.kind,
        "mac": one.mac or None,
        "up": one.up,
        "speed_mbps": one.speed_mbps,
        "master": one.master or None,
        "vlan": one.vlan,
    }


def host_json(host: Host) -> dict[str, Any]:
    """The contract's host. No query where hypervisors and counts are there (`hosts.selectors`)."""
    return {
        "id": str(host.pk),
        "name": host.name,
        "state": host.state,
        "error": host.error,
        "cpu_count": host.cpu_count,
        "memory_total_bytes": host.memory_total_bytes,
        "memory_free_bytes": host.memory_free_bytes,
        "cpu_model": host.cpu_model,
        "cpu_architecture": host.cpu_architecture,
        "kernel": host.kernel,
        "nested_virtualization": host.nested_virtualization,
        "maintenance": host.maintenance,
        "demo": host.demo,
        "tags": host.tags,
        "hypervisors": [hypervisor_json(hypervisor) for hypervisor in host.hypervisors.all()],
        "vm_count": host.vm_count,
        "running_vm_count": host.running_vm_count,
        "last_seen_at": moment(host.last_seen_at),
        "created_at": moment(host.created_at),
        "updated_at": moment(host.updated_at),
        "version": host.version,
    }


def _whole(host_id: UUID, by: Actor) -> Host:
    host = host_whole(host_id, by=by)
    if host is None:
        raise Missing("There is no such host, or you may not see it.")
    return host


def _host(request: HttpRequest, host_id: UUID, **more: Any) -> HttpResponse:
    host = _whole(host_id, actor_of(request))
    return single(request, host_json(host), version=host.version, **more)


# -- hosts ---------------------------------------------------------------------------------------------------------------
@router.get("/hosts", response=HostPage, operation_id="list_hosts", summary="List hosts")
@access("view")
def host_list(request: HttpRequest, listing: Query[HostListing]) -> HttpResponse:
    """By name unless told."""
    page = host_page(
        actor_of(request),
        **listing.asked(HOST_FILTERS),
    )
    return page_answer(page, host_json)


@router.post("/hosts", response={201: HostOut}, operation_id="add_host", summary="Add a host")
@access("host.manage")
def host_add(request: HttpRequest, payload: HostIn) -> HttpResponse:
    """`connecting` until the watcher has reached it. A machine or endpoint that is there already is 409 with the first one's `id`."""
    host = services.host_add(
        name=payload.name, hypervisors=payload.endpoints(), tags=payload.tags, by=actor_of(request)
    )
    return _host(request, host.pk, status=201, Location=f"/api/v1/hosts/{host.pk}")


@router.post("/hosts/demo", response={201: HostOut}, operation_id="add_demo_host", summary="Add the demo host")
@access("host.manage")
def host_demo(request: HttpRequest) -> HttpResponse:
    """A host on libvirt's test driver, for a look around where no hypervisor is. Its guests live in memory."""
    host = services.host_add_demo(by=actor_of(request))
    return _host(request, host.pk, status=201, Location=f"/api/v1/hosts/{host.pk}")


@router.post("/hosts/probe", response={200: ProbeOut}, operation_id="probe_host", summary="Ask the host doctor")
@access("host.probe")
@problems(504)
def host_probe(request: HttpRequest, payload: ProbeIn) -> HttpResponse:
    """Tries an endpoint, or a saved hypervisor, step by step and saves nothing. Waits for the answer, some seconds at most."""
    by = actor_of(request)
    if payload.hypervisor is not None:
        operation = services.hypervisor_probe(hypervisor=services.hypervisor_get(payload.hypervisor, by=by), by=by)
    else:
        new = EndpointIn(uri=payload.uri or "", credentials=payload.credentials).new()
        operation = services.host_probe(new=new, by=by)
    return Awaited(operation, _probed, wait_seconds=PROBE_WAIT_SECONDS)


def _probed(operation: Operation) -> HttpResponse:
    if not operation.ended:
        raise Timeout("The probe did not end in time. Look at the operation.", operation=str(operation.pk))
    if operation.error or operation.result is None:
        raise Recorded(operation.error or {})
    return answer({"ok": operation.result["ok"], "steps": operation.result["steps"]})


@router.get("/hosts/{host_id}", response=HostOut, operation_id="get_host", summary="One host")
@access("view")
def host_one(request: HttpRequest, host_id: UUID) -> HttpResponse:
    """With its hypervisors and what each can do."""
    return _host(request, host_id)


@router.patch("/hosts/{host_id}", response=HostOut, operation_id="change_host", summary="Change a host")
@access("host.manage")
def host_change(request: HttpRequest, host_id: UUID, payload: HostChange) -> HttpResponse:
    """What is left out, or null, stays as it is."""
    by = actor_of(request)
    host = services.host_get(host_id, by=by)
    version = if_match(request, host.version)
    changes = payload.model_dump(exclude_none=True)
    if changes:
        services.host_update(host=host, by=by, changes=changes, if_version=version)
    return _host(request, host_id)


@router.delete("/hosts/{host_id}", response={204: None}, operation_id="remove_host", summary="Forget a host")
@access("host.manage")
def host_remove(request: HttpRequest, host_id: UUID) -> HttpResponse:
    """Its guests are not touched: only what is known of them here goes."""
    by = actor_of(request)
    host = services.host_get(host_id, by=by)
    services.host_delete(host=host, by=by, if_version=if_match(request, host.version))
    return nothing()


@router.post("/hosts/{host_id}/refresh", response=HostOut, operation_id="refresh_host", summary="Look again")
@access("host.manage")
def host_refresh(request: HttpRequest, host_id: UUID) -> HttpResponse:
    """A full listing now, and a new attempt where a hypervisor is out of reach. Follow the events to see what comes of it."""
    by = actor_of(request)
    services.host_refresh(host=services.host_get(host_id, by=by), by=by)
    return _host(request, host_id)


@router.post("/hosts/{host_id}/maintenance", response=HostOut, operation_id="set_maintenance", summary="Maintenance")
@access("host.manage")
def host_maintenance(request: HttpRequest, host_id: UUID, payload: MaintenanceIn) -> HttpResponse:
    """Whether guests may be started or placed there."""
    by = actor_of(request)
    host = services.host_get(host_id, by=by)
    services.host_update(
        host=host, by=by, changes={"maintenance": payload.enabled}, if_version=if_match(request, host.version)
    )
    return _host(request, host_id)


@router.get(
    "/hosts/{host_id}/interfaces",
    response=InterfacePage,
    operation_id="list_host_interfaces",
    summary="Network interfaces of a host",
)
@access("view")
def host_interfaces(request: HttpRequest, host_id: UUID) -> HttpResponse:
    """By name, as they were last read (each half minute), without those of guests. None where the host does not tell."""
    host = services.host_get(host_id, by=actor_of(request))
    items = [interface_json(one) for one in host.interfaces.order_by("name")]
    return answer({"items": items, "total": len(items)})


@router.get(
    "/hosts/{host_id}/metrics", response=SeriesOut, operation_id="get_host_metrics", summary="What was measured"
)
@access("view")
def host_metrics(request: HttpRequest, host_id: UUID, query: Query[SeriesQuery]) -> HttpResponse:
    """The last hour unless told. `cpu_ratio` 1: all its CPUs busy."""
    host = services.host_get(host_id, by=actor_of(request))
    return series_answer(request, host.ref, host.pk, query)


# -- hypervisors ---------------------------------------------------------------------------------------------------------
@router.post(
    "/hosts/{host_id}/hypervisors",
    response={201: HypervisorOut},
    operation_id="add_hypervisor",
    summary="Add a hypervisor",
    tags=["hypervisors"],
)
@access("host.manage")
def hypervisor_add(request: HttpRequest, host_id: UUID, payload: EndpointIn) -> HttpResponse:
    """One more endpoint of the same machine."""
    by = actor_of(request)
    hypervisor = services.hypervisor_add(host=services.host_get(host_id, by=by), new=payload.new(), by=by)
    return single(
        request,
        hypervisor_json(hypervisor),
        version=hypervisor.version,
        status=201,
        Location=f"/api/v1/hypervisors/{hypervisor.pk}",
    )


@router.get(
    "/hypervisors",
    response=HypervisorPage,
    operation_id="list_hypervisors",
    summary="List hypervisors",
    tags=["hypervisors"],
)
@access("view")
def hypervisor_list(request: HttpRequest, listing: Query[HypervisorListing]) -> HttpResponse:
    """By their host's name unless told."""
    page = hypervisor_page(
        actor_of(request),
        **listing.asked(HYPERVISOR_FILTERS),
    )
    return page_answer(page, hypervisor_json)


@router.get(
    "/hypervisors/{hypervisor_id}",
    response=HypervisorOut,
    operation_id="get_hypervisor",
    summary="One hypervisor",
    tags=["hypervisors"],
)
@access("view")
def hypervisor_one(request: HttpRequest, hypervisor_id: UUID) -> HttpResponse:
    """What it is and can do."""
    hypervisor = services.hypervisor_get(hypervisor_id, by=actor_of(request))
    return single(request, hypervisor_json(hypervisor), version=hypervisor.version)


@router.patch(
    "/hypervisors/{hypervisor_id}",
    response=HypervisorOut,
    operation_id="change_hypervisor",
    summary="Change a hypervisor",
    tags=["hypervisors"],
)
@access("host.manage")
def hypervisor_change(request: HttpRequest, hypervisor_id: UUID, payload: HypervisorChange) -> HttpResponse:
    """Another address, new credentials, or how much it may do at once."""
    by = actor_of(request)
    hypervisor = services.hypervisor_get(hypervisor_id, by=by)
    version = if_match(request, hypervisor.version)
    if payload.model_dump(exclude_none=True):
        hypervisor = services.hypervisor_update(
            hypervisor=hypervisor,
            by=by,
            uri=payload.uri,
            credentials=payload.credentials.model_dump() if payload.credentials else None,
            slots=payload.slots,
            if_version=version,
        )
    return single(request, hypervisor_json(hypervisor), version=hypervisor.version)


@router.delete(
    "/hypervisors/{hypervisor_id}",
    response={204: None},
    operation_id="remove_hypervisor",
    summary="Forget a hypervisor",
    tags=["hypervisors"],
)
@access("host.manage")
def hypervisor_remove(request: HttpRequest, hypervisor_id: UUID) -> HttpResponse:
    """Its guests are not touched: only what is known of them here goes."""
    by = actor_of(request)
    hypervisor = services.hypervisor_get(hypervisor_id, by=by)
    services.hypervisor_delete(hypervisor=hypervisor, by=by, if_version=if_match(request, hypervisor.version))
    return nothing()
