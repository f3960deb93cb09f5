"""REST: the kinds of hypervisor that can be added, with the forms that lead to them. Reads no row and reaches no hypervisor."""

from typing import Any, Literal

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import Field

from accounts.access import access
from core.errors import Missing
from core.rest import Input, Output, answer
from drivers import catalog
from drivers.uris import parse_uri
from hosts.api import SupportOut, TypeName

router = Router(tags=["drivers"])

ProofName = Literal["real", "partly", "simulator", "stand_in", "none"]


class FieldOut(Output):
    """One thing that a form asks for."""

    name: str = Field(
        description="`host`, `port`, `user`, `path`, `socket` (parts of the URI), or a name of `credentials`."
    )
    label: str
    hint: str
    placeholder: str
    required: bool
    multiline: bool
    secret: bool
    choices: list[Literal["check", "pin", "anybody"]] = Field(
        description="Of `verify`: check the certificate (true), believe one SHA-256 fingerprint, believe anybody (false)."
    )


class WayOut(Output):
    """One way to get there."""

    name: str
    label: str
    scheme: str = Field(examples=["qemu+ssh"])
    path: str
    port: int | None = Field(description="What is meant when none is given.")
    local: bool = Field(description="Only for hypervisors on the manager's own machine.")
    warning: str
    fields: list[FieldOut]


class DriverOut(Output):
    """One kind of hypervisor."""

    kind: str = Field(examples=["qemu"])
    label: str
    virtualization_types: list[TypeName] = Field(description="Who owns the hardware, the usual case first.")
    available: bool
    reason: str = Field(description="Why it is not available.")
    proof: ProofName = Field(
        description="What the driver has been proven on: the hypervisor itself (real), libvirt's driver with a stand-in behind it "
        "(partly), a simulator that others maintain, a stand-in of our own, or nothing."
    )
    ways: list[WayOut]
    features: dict[str, SupportOut] = Field(description="What it can do at best, and why not what it cannot.")


class DriverList(Output):
    """All of them; never paged."""

    items: list[DriverOut]


class UriOut(Output):
    """The URI that the answers of a form make, as `POST /hosts` takes it."""

    uri: str
    encrypted: bool
    local: bool


class Answers(Input):
    """What was typed into a way's fields. Never a secret."""

    way: str = Field(max_length=64, description="The name of one of its ways.")
    host: str = Field("", max_length=300)
    port: str = Field("", max_length=20)
    user: str = Field("", max_length=100)
    path: str = Field("", max_length=800)
    socket: str = Field("", max_length=300)


def kind_json(kind: catalog.Kind) -> dict[str, Any]:
    """The contract's driver."""
    return {
        "kind": kind.kind,
        "label": kind.label,
        "virtualization_types": [str(one) for one in kind.types],
        "available": kind.available.supported,
        "reason": kind.available.reason,
        "proof": str(kind.proof),
        "ways": [
            {
                **{
                    name: getattr(way, name) for name in ("name", "label", "scheme", "path", "port", "local", "warning")
                },
                "fields": [
                    {name: getattr(field, name) for name in FieldOut.model_fields if name != "choices"}
                    | {"choices": list(field.choices)}
                    for field in way.fields
                ],
            }
            for way in kind.ways
        ],
        "features": {
            str(feature): {"supported": support.supported, "reason": support.reason}
            for feature, support in kind.features.items()
        },
    }


@router.get("/drivers", response=DriverList, operation_id="list_drivers", summary="Kinds of hypervisor")
@access("view")
def driver_list(request: HttpRequest) -> HttpResponse:
    """What can be added, how to get there, what each form asks for, and what each kind can do at best."""
    del request
    return answer({"items": [kind_json(kind) for kind in catalog.kinds()]})


@router.get("/drivers/{kind}/uri", response=UriOut, operation_id="compose_uri", summary="A form's URI")
@access("view")
def driver_uri(request: HttpRequest, kind: str, answers: Query[Answers]) -> HttpResponse:
    """Checks the answers of one way's form, each at its place, and makes the URI of them. Connects to nothing."""
    del request
    found = catalog.find(kind)
    if found is None:
        raise Missing("There is no such kind of hypervisor.")
    values = answers.model_dump(exclude={"way"})
    parsed = parse_uri(found.uri(answers.way, values), data_dir=settings.DATA_DIR)
    return answer({"uri": parsed.text, "encrypted": parsed.encrypted, "local": parsed.local})
