"""Pages of templates: all of them, and one. They only read; REST changes (static/js/templates.js)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.http import Http404
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.access import access
from accounts.actor import actor_of
from accounts.policy import may, visible
from core.errors import BadInput, VmmError
from core.paging import Page
from operations import engine
from operations.models import Operation
from operations.views import title_of
from vms.cloning.parameters import Parameter
from vms.cloning.selectors import template_get, template_page
from vms.cloning.templates import definition_of, template_may_be_deleted
from vms.cloning.uses import uses_json

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest, HttpResponse

    from accounts.actor import Actor
    from vms.cloning.models import Template, TemplateVersion

PAGE: Final = 100
OPERATIONS_RECENT: Final = 6
USES_SHOWN: Final = 200
PARTS: Final = ("body", "operations")


@require_safe
@access("view")
def template_list(request: HttpRequest) -> HttpResponse:
    """`?q=&ordering=&cursor=`."""
    context = _listed(request)
    return render(request, "guest_templates/list.html", context, status=context.pop("status"))


@require_safe
@access("view")
def template_table(request: HttpRequest) -> HttpResponse:
    """The table alone, when a template changed."""
    context = _listed(request)
    return render(request, "guest_templates/_table.html", context, status=context.pop("status"))


def _listed(request: HttpRequest) -> dict[str, Any]:
    by = actor_of(request)
    q = request.GET.get("q", "").strip()
    ordering = request.GET.get("ordering") or "name"
    context: dict[str, Any] = {"q": q, "order": ordering, "status": 200, "may_create": may(by, "vm.create")}
    try:
        page = template_page(by, q=q, ordering=ordering, cursor=request.GET.get("cursor") or None, limit=PAGE)
    except BadInput as error:
        page = Page(items=[], total=0, next=None)
        context |= {"error": error.detail, "status": error.status}
    return context | {
        "page": page,
        "items": [_row(template) for template in page.items],
        "query": request.GET.urlencode(),
    }


def _row(template: Template) -> dict[str, Any]:
    """What a row needs beside the template itself. No query."""
    versions = list(template.versions.all())
    current = next((one for one in versions if one.number == template.current), None)
    return {
        "template": template,
        "versions": len(versions),
        "current": None if current is None else _version(current),
        "guests": sum(one.guest_count for one in versions),  # type: ignore[attr-defined]  # put on by the selectors
    }


def _version(version: TemplateVersion) -> dict[str, Any]:
    disks = list(version.volumes.all())
    return {
        "version": version,
        "disks": disks,
        "host": version.host.name if version.host is not None else version.host_name,
        "whole": all(disk.seen for disk in disks),
        "size_bytes": sum(disk.size_bytes for disk in disks),
        "parameters": [Parameter.model_validate(one) for one in version.parameters],
    }


# -- one -----------------------------------------------------------------------------------------------------------------
@require_safe
@access("view")
def template_detail(request: HttpRequest, template_id: uuid.UUID) -> HttpResponse:
    """Versions, parameters, what stands on it, what was done to it."""
    by = actor_of(request)
    template = template_get(template_id, by=by)
    return render(request, "guest_templates/detail.html", _one(template, by) | _operations(template, by))


@require_safe
@access("view")
def template_part(request: HttpRequest, template_id: uuid.UUID, part: str) -> HttpResponse:
    """A living part of the same page. One that was deleted meanwhile says so there."""
    if part not in PARTS:
        raise Http404
    by = actor_of(request)
    try:
        template = template_get(template_id, by=by)
    except VmmError:
        return render(request, "guest_templates/_gone.html", {"part": part})
    if part == "operations":
        return render(request, "vms/_operations.html", _operations(template, by))
    return render(request, "guest_templates/_body.html", _one(template, by))


def _one(template: Template, by: Actor) -> dict[str, Any]:
    row = _row(template)
    uses = uses_json(template)
    current = row["current"]
    shows_definition = current is not None and may(by, "vm.xml")
    return row | {
        "all_versions": [_version(one) for one in template.versions.all()],
        "breaking": [use for use in uses if use["breaks"]][:USES_SHOWN],
        "others": [use for use in uses if not use["breaks"]][:USES_SHOWN],
        "definition": definition_of(current["version"]) if shows_definition else "",
        "may_manage": may(by, "template.manage", template),
        "may_create": may(by, "vm.create"),
        "delete": template_may_be_deleted(template, by=by),
    }


def _operations(template: Template, by: Actor) -> dict[str, Any]:
    rows = visible(by, Operation.objects.defer("result", "checkpoints").filter(target=template.ref))
    newest = rows.order_by("-id")[:OPERATIONS_RECENT]
    return {
        "operations": [{"op": one, "title": title_of(one), "cancellable": engine.cancellable(one)} for one in newest]
    }
