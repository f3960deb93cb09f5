"""Pages of networks: those of all hosts, and one with what it has given out. They only read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.http import Http404
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from accounts.access import access
from accounts.actor import actor_of
from accounts.policy import visible
from core.errors import BadInput, Missing
from core.paging import Page
from hosts.models import Host
from networks.api import expiry
from networks.models import Network
from networks.selectors import network_get, network_page

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest, HttpResponse

    from accounts.actor import Actor

PAGE: Final = 100
PARTS: Final = ("head", "body")


@require_safe
@access("view")
def networks(request: HttpRequest) -> HttpResponse:
    """`?q=&ordering=&cursor=`."""
    context = _listed(request)
    return render(request, "networks/list.html", context, status=context.pop("status"))


@require_safe
@access("view")
def networks_table(request: HttpRequest) -> HttpResponse:
    """The table alone, when a network changed."""
    context = _listed(request)
    return render(request, "networks/_table.html", context, status=context.pop("status"))


def _listed(request: HttpRequest) -> dict[str, Any]:
    by = actor_of(request)
    q = request.GET.get("q", "").strip()
    ordering = request.GET.get("ordering") or "name"
    context: dict[str, Any] = {"q": q, "order": ordering, "status": 200}
    try:
        page = network_page(by, q=q, ordering=ordering, cursor=request.GET.get("cursor") or None, limit=PAGE)
    except BadInput as error:
        page = Page(items=[], total=0, next=None)
        context |= {"error": error.detail, "status": error.status}
    items = [{"network": row, "guests": len({plug.vm for plug in row.plugs})} for row in page.items]
    context |= {"page": page, "items": items, "query": request.GET.urlencode()}
    if not page.items and not q:
        context["hosts"] = visible(by, Host.objects.all()).count()
    return context


@require_safe
@access("view")
def network_detail(request: HttpRequest, network_id: uuid.UUID) -> HttpResponse:
    """Facts, what it has given out, and who is on it."""
    return render(request, "networks/detail.html", _one(network_get(network_id, by=actor_of(request))))


@require_safe
@access("view")
def network_part(request: HttpRequest, network_id: uuid.UUID, part: str) -> HttpResponse:
    """A living part of the same page. A network that went meanwhile says so there."""
    if part not in PARTS:
        raise Http404
    by = actor_of(request)
    try:
        context = _one(network_get(network_id, by=by))
    except Missing:
        return _gone(request, network_id, part, by)
    return render(request, f"networks/_{part}.html", context)


def _gone(request: HttpRequest, network_id: uuid.UUID, part: str, by: Actor) -> HttpResponse:
    network = visible(by, Network.objects.select_related("host")).filter(pk=network_id).first()
    if network is None:
        raise Missing(_("There is no such network, or you may not see it."))
    return render(request, "networks/_gone.html", {"network": network, "part": part})


def _one(network: Network) -> dict[str, Any]:
    by_mac = {plug.mac: plug for plug in network.plugs}
    leases = [
        lease | {"plug": by_mac.get(lease["mac"]), "expires_at": expiry(lease["expires_at"])}
        for lease in network.leases
    ]
    addresses = {lease["mac"]: lease["address"] for lease in network.leases}
    plugs = [{"plug": plug, "address": addresses.get(plug.mac, "")} for plug in network.plugs]
    return {"network": network, "leases": leases, "plugs": plugs, "guests": len({plug.vm for plug in network.plugs})}
