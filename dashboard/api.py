"""REST over several nouns: the advisor. Thin: parse, ask `hosts.places`, make JSON."""

from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Router
from pydantic import Field

from accounts.access import access
from accounts.actor import actor_of
from core.rest import Input, Output, answer
from hosts.advisor import CODES, Advice, Demand, Place
from hosts.places import best_places

router = Router(tags=["advice"])

VCPUS_MAX = 4096
BYTES_MAX = 2**63 - 1
START_SECONDS_MAX = 86400


class DemandIn(Input):
    """What is to run. An empty one asks which hypervisor has most room."""

    guest_os: Literal["linux", "windows", "bsd", "other"] | None = Field(
        None, description="All but `linux` need a kernel of their own."
    )
    isolation: Literal["kernel", "machine"] | None = Field(
        None,
        description="What must keep it apart from its neighbours. `kernel`: the host's kernel is enough, a container will do. "
        "`machine`: a machine of its own, with a kernel of its own.",
    )
    density: Literal["high", "normal"] | None = Field(None, description="`high`: many small guests.")
    start_seconds: Annotated[float, Field(gt=0, le=START_SECONDS_MAX, allow_inf_nan=False)] | None = Field(
        None, description="It must run within this time. The boot of its own system comes on top.", examples=[5]
    )
    nested: bool | None = Field(None, description="It runs a hypervisor itself.")
    migration: bool | None = Field(None, description="It must move while it runs.")
    console: bool | Literal["serial", "shell", "vnc", "spice"] | None = Field(
        None, description="Any console, or this one."
    )
    snapshots: bool | Literal["disk", "memory"] | None = Field(None, description="Any snapshots, or these.")
    vcpus: Annotated[int, Field(ge=1, le=VCPUS_MAX)] | None = None
    memory_bytes: Annotated[int, Field(ge=1, le=BYTES_MAX)] | None = Field(None, examples=[2147483648])

    def demand(self) -> Demand:
        """As the advisor takes it."""
        return Demand(**self.model_dump(exclude_none=True))


class AdvisedPlace(Output):
    """A hypervisor, with what it is called by."""

    hypervisor: UUID
    host: UUID
    host_name: str
    driver: str = Field(examples=["qemu"])
    virtualization_type: Literal["bare_metal", "hosted", "hybrid", "os_level"] | None


class CandidateOut(AdvisedPlace):
    """One that would do."""

    score: float = Field(ge=0, le=1)
    reasons: list[str]


class RefusalOut(AdvisedPlace):
    """One that will not do."""

    code: str = Field(description="A stable word.", examples=["shared_kernel"], json_schema_extra={"enum": list(CODES)})
    reason: str


class AdviceOut(Output):
    """Every hypervisor that the caller may see is in one of both, best first."""

    candidates: list[CandidateOut]
    refused: list[RefusalOut]


def advice_json(advice: Advice) -> dict[str, Any]:
    """The contract's answer."""
    return {
        "candidates": [
            {**_place_json(one.place), "score": one.score, "reasons": list(one.reasons)} for one in advice.candidates
        ],
        "refused": [{**_place_json(one.place), "code": one.code, "reason": one.reason} for one in advice.refused],
    }


def _place_json(place: Place) -> dict[str, Any]:
    return {
        "hypervisor": place.id,
        "host": place.host_id,
        "host_name": place.host_name,
        "driver": place.driver,
        "virtualization_type": place.virtualization_type or None,
    }


@router.post("/advise", response=AdviceOut, operation_id="advise", summary="Which hypervisor is best?")
@access("view")
def advise(request: HttpRequest, payload: DemandIn) -> HttpResponse:
    """Ranks every hypervisor for what is to run, by what was probed of it and its load now. Nothing is reserved or changed."""
    return answer(advice_json(best_places(payload.demand(), by=actor_of(request))))
