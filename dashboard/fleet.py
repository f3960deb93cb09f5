"""Pages about what the fleet can do: the capability matrix and the advisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _l
from django.views.decorators.http import require_safe
from pydantic import ValidationError

from accounts.access import access
from core.errors import BadInput
from core.units import GIB
from dashboard.api import DemandIn
from dashboard.architecture import architecture
from dashboard.matrix import Wanted, as_csv, matrix
from hosts.places import best_places

if TYPE_CHECKING:
    from django.http import HttpRequest, QueryDict

    from accounts.actor import Actor


@require_safe
@access("view")
def capabilities(request: HttpRequest) -> HttpResponse:
    """What can each of them do, and if not, why?"""
    by: Actor = request.actor  # type: ignore[attr-defined]
    return render(request, "dashboard/capabilities.html", {"matrix": matrix(by, Wanted.of(request.GET))})


@require_safe
@access("view")
def capabilities_part(request: HttpRequest) -> HttpResponse:
    """The table alone, when a filter or a hypervisor changed."""
    by: Actor = request.actor  # type: ignore[attr-defined]
    return render(request, "dashboard/_matrix.html", {"matrix": matrix(by, Wanted.of(request.GET))})


@require_safe
@access("view")
def capabilities_csv(request: HttpRequest) -> HttpResponse:
    """The same for a spreadsheet."""
    by: Actor = request.actor  # type: ignore[attr-defined]
    return HttpResponse(
        as_csv(by, Wanted.of(request.GET)),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="capabilities.csv"', "Cache-Control": "no-store"},
    )


@require_safe
@access("view")
def advise_page(request: HttpRequest) -> HttpResponse:
    """Which hypervisor is best for what is to run?"""
    return render(request, "dashboard/advise.html", {"choices": choices(), "form": request.GET, **_advised(request)})


@require_safe
@access("view")
def advise_part(request: HttpRequest) -> HttpResponse:
    """The answer alone, while the form is filled in."""
    return render(request, "dashboard/_advice.html", _advised(request))


def _advised(request: HttpRequest) -> dict[str, Any]:
    by: Actor = request.actor  # type: ignore[attr-defined]
    try:
        demand = asked(request.GET)
    except BadInput as error:
        return {"wrong": error.detail}
    advice = best_places(demand.demand(), by=by)
    known = {one.place.id for one in advice.candidates} | {one.place.id for one in advice.refused}
    return {"advice": advice, "none": not known, "body": demand.model_dump(exclude_none=True)}


@require_safe
@access("view")
def architecture_page(request: HttpRequest) -> HttpResponse:
    """How does the fleet virtualize, and what follows from that?"""
    return render(request, "dashboard/architecture.html", _architecture(request))


@require_safe
@access("view")
def architecture_body(request: HttpRequest) -> HttpResponse:
    """The living part of the same page."""
    return render(request, "dashboard/_architecture.html", _architecture(request))


def _architecture(request: HttpRequest) -> dict[str, Any]:
    by: Actor = request.actor  # type: ignore[attr-defined]
    found = architecture(by)
    return {
        "kinds": found.kinds,
        "kernels": found.kernels,
        "own_kernel": found.own_kernel,
        "circles": [circle for circle in found.circles if circle.move != "none"],
        "alone": [circle for circle in found.circles if circle.move == "none"],
    }


FORM_NUMBERS: Final = {"start_seconds": 1, "vcpus": 1, "memory_gib": GIB}
"""Field → what its number is multiplied by."""


def asked(query: QueryDict) -> DemandIn:
    """The form as the API's demand. Raises BadInput for a value that is none."""
    values: dict[str, Any] = {}
    for name in ("guest_os", "isolation", "density", "console", "snapshots"):
        if query.get(name):
            values[name] = True if query[name] == "any" else query[name]
    values |= {name: True for name in ("nested", "migration") if query.get(name)}
    for name, factor in FORM_NUMBERS.items():
        text = query.get(name, "").strip().replace(",", ".")[:40]
        if text:
            try:
                number = float(text) * factor
                values[name] = number if name == "start_seconds" else round(number)
            except (ValueError, OverflowError):
                raise BadInput(_("%(text)s is no number.") % {"text": text}) from None
    if "memory_gib" in values:
        values["memory_bytes"] = values.pop("memory_gib")
    try:
        return DemandIn.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = LABELS.get(str(first["loc"][0]), str(first["loc"][0]))
        raise BadInput(_("%(field)s: %(problem)s") % {"field": where, "problem": first["msg"]}) from None


LABELS: Final = {
    "guest_os": _l("System"),
    "isolation": _l("Kept apart by"),
    "density": _l("How many"),
    "start_seconds": _l("Runs within"),
    "console": _l("Console"),
    "snapshots": _l("Snapshots"),
    "vcpus": _l("vCPUs"),
    "memory_bytes": _l("Memory"),
}


def choices() -> dict[str, list[tuple[str, str]]]:
    """What the selects of the form offer, beside no wish."""
    return {
        "guest_os": [("linux", "Linux"), ("windows", "Windows"), ("bsd", "BSD"), ("other", _("Another"))],
        "isolation": [
            ("kernel", _("the host's kernel, as containers are")),
            ("machine", _("a machine and kernel of its own")),
        ],
        "density": [("normal", _("a few")), ("high", _("many small ones"))],
        "console": [
            ("any", _("any")),
            ("serial", _("serial")),
            ("shell", _("shell")),
            ("vnc", "VNC"),
            ("spice", "SPICE"),
        ],
        "snapshots": [("any", _("any")), ("disk", _("of disks")), ("memory", _("with memory"))],
    }
