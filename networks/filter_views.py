"""Pages of network filters: those of all hosts, one with its definition, a new one. They only read; REST changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts.access import access
from accounts.actor import actor_of
from accounts.policy import may, visible
from core.errors import BadInput, VmmError
from core.paging import Page
from drivers.types import Feature
from hosts.models import Hypervisor
from hosts.wishes import able_hosts
from networks import filter_services as services
from networks.selectors import filter_get, filter_page

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest, HttpResponse

PAGE = 100


@require_safe
@access("view")
def filters(request: HttpRequest) -> HttpResponse:
    """`?q=&ordering=&cursor=`."""
    context = _listed(request)
    return render(request, "networks/filters/list.html", context, status=context.pop("status"))


@require_safe
@access("view")
def filters_table(request: HttpRequest) -> HttpResponse:
    """The table alone, when a filter changed."""
    context = _listed(request)
    return render(request, "networks/filters/_table.html", context, status=context.pop("status"))


def _listed(request: HttpRequest) -> dict[str, Any]:
    by = actor_of(request)
    q = request.GET.get("q", "").strip()
    ordering = request.GET.get("ordering") or "name"
    context: dict[str, Any] = {"q": q, "order": ordering, "status": 200, "may_manage": may(by, "network.manage")}
    try:
        page = filter_page(by, q=q, ordering=ordering, cursor=request.GET.get("cursor") or None, limit=PAGE)
    except BadInput as error:
        page = Page(items=[], total=0, next=None)
        context |= {"error": error.detail, "status": error.status}
    return context | {"page": page, "items": page.items, "query": request.GET.urlencode()}


@require_safe
@access("network.manage")
def filter_new(request: HttpRequest) -> HttpResponse:
    """The editor. `?host=<id>` chooses the host."""
    rows = visible(actor_of(request), Hypervisor.objects.select_related("host").defer("credentials"))
    able, _unable = able_hosts(list(rows.order_by("host__name", "pk")), Feature.NETWORKS_MANAGE)
    return render(
        request,
        "networks/filters/new.html",
        {"able": able, "chosen": request.GET.get("host", ""), "xml": services.NEW},
    )


@require_safe
@access("view")
def filter_detail(request: HttpRequest, filter_id: uuid.UUID) -> HttpResponse:
    """What it does, and who uses it."""
    by = actor_of(request)
    row = filter_get(filter_id, by=by)
    context = {
        "filter": row,
        "guests": sorted({(plug.name, str(plug.vm)) for plug in row.guests}),
        "allowed": services.filter_actions(row, by=by),
        "may_manage": may(by, "network.manage", row),
        "api_path": f"/network-filters/{row.pk}",
    }
    return render(request, "networks/filters/detail.html", context)


@require_POST
@access("network.manage")
def filter_remove(request: HttpRequest, filter_id: uuid.UUID) -> HttpResponse:
    """Remove one, its name typed."""
    by = actor_of(request)
    row = filter_get(filter_id, by=by)
    if request.POST.get("typed", "") != row.name:
        messages.error(request, _("The name was not typed as it is. Nothing was removed."))
        return redirect("network-filter", filter_id)
    try:
        operation = services.filter_delete(row=row, by=by)
    except VmmError as error:
        messages.error(request, error.detail)
        return redirect("network-filter", filter_id)
    return redirect("operation", operation.pk)
