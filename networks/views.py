"""Pages of networks: those of all hosts, one with what it has given out, a new one. They only read; REST changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.contrib import messages
from django.http import Http404
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts.access import access
from accounts.actor import actor_of
from accounts.policy import may, visible
from core.errors import BadInput, Missing, VmmError
from core.paging import Page
from drivers.networks import MACVTAP, MODES
from drivers.types import Feature
from hosts.models import Host, Hypervisor
from hosts.wishes import able_hosts
from networks import services
from networks.api import expiry
from networks.models import Network
from networks.selectors import network_get, network_page

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

    from accounts.actor import Actor
    from drivers.networks import Mode

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
    context: dict[str, Any] = {"q": q, "order": ordering, "status": 200, "may_manage": may(by, "network.manage")}
    try:
        page = network_page(by, q=q, ordering=ordering, cursor=request.GET.get("cursor") or None, limit=PAGE)
    except BadInput as error:
        page = Page(items=[], total=0, next=None)
        context |= {"error": error.detail, "status": error.status}
    items = [
        {
            "network": row,
            "guests": len({plug.vm for plug in row.plugs}),
            "start": not row.active and services.network_actions(row, by=by)["start"]["allowed"],
        }
        for row in page.items
    ]
    context |= {"page": page, "items": items, "query": request.GET.urlencode()}
    if not page.items and not q:
        context["hosts"] = visible(by, Host.objects.all()).count()
    return context


@require_safe
@access("network.manage")
def network_new(request: HttpRequest) -> HttpResponse:
    """The form. `?host=<id>` chooses the host."""
    by = actor_of(request)
    rows = visible(by, Hypervisor.objects.select_related("host").defer("credentials")).order_by("host__name", "pk")
    able, unable = able_hosts(list(rows), Feature.NETWORKS_MANAGE)
    wanted = request.GET.get("host", "")
    chosen = next((one for one in able if str(one["host"].pk) == wanted), next(iter(able), None))
    context = {
        "able": able,
        "unable": unable,
        "chosen": chosen["host"].pk if chosen else None,
        "modes": [{"name": one.name, "label": _(one.label), "hint": _(one.hint)} for one in MODES.values()],
        "takes": {
            "address": _modes(lambda one: bool(one.address)),
            "bridge": _modes(lambda one: bool(one.bridge)),
            "made": _modes(lambda one: one.bridge == "made"),
            "there": _modes(lambda one: one.bridge == "there"),
            "device": _modes(lambda one: one.device),
            "tags": _modes(lambda one: one.tagged),
        },
        "macvtap": [{"name": name, "hint": _(hint)} for name, hint in MACVTAP.items()],
    }
    return render(request, "networks/new.html", context)


def _modes(takes: Callable[[Mode], bool]) -> str:
    """Names of those modes, as the form's parts name what they are for."""
    return " ".join(one.name for one in MODES.values() if takes(one))


@require_POST
@access("network.manage")
def network_remove(request: HttpRequest, network_id: uuid.UUID) -> HttpResponse:
    """Stop a network and take its definition away, its name typed."""
    by = actor_of(request)
    network = network_get(network_id, by=by)
    if request.POST.get("typed", "") != network.name:
        messages.error(request, _("The name was not typed as it is. Nothing was removed."))
        return redirect("network", network_id)
    try:
        operation = services.network_delete(network=network, by=by)
    except VmmError as error:
        messages.error(request, error.detail)
        return redirect("network", network_id)
    return redirect("operation", operation.pk)


@require_safe
@access("view")
def network_detail(request: HttpRequest, network_id: uuid.UUID) -> HttpResponse:
    """Facts, what it has given out, and who is on it."""
    by = actor_of(request)
    return render(request, "networks/detail.html", _one(network_get(network_id, by=by), by))


@require_safe
@access("view")
def network_part(request: HttpRequest, network_id: uuid.UUID, part: str) -> HttpResponse:
    """A living part of the same page. A network that went meanwhile says so there."""
    if part not in PARTS:
        raise Http404
    by = actor_of(request)
    try:
        context = _one(network_get(network_id, by=by), by)
    except Missing:
        return _gone(request, network_id, part, by)
    return render(request, f"networks/_{part}.html", context)


def _gone(request: HttpRequest, network_id: uuid.UUID, part: str, by: Actor) -> HttpResponse:
    network = visible(by, Network.objects.select_related("host")).filter(pk=network_id).first()
    if network is None:
        raise Missing(_("There is no such network, or you may not see it."))
    return render(request, "networks/_gone.html", {"network": network, "part": part})


def _one(network: Network, by: Actor) -> dict[str, Any]:
    by_mac = {plug.mac: plug for plug in network.plugs}
    kept = [one | {"plug": by_mac.get(one["mac"])} for one in network.dhcp_hosts]
    fixed = {one["mac"]: one["address"] for one in network.dhcp_hosts}
    leases = [
        lease
        | {
            "plug": by_mac.get(lease["mac"]),
            "expires_at": expiry(lease["expires_at"]),
            "fixed": fixed.get(lease["mac"]),
            "keepable": ":" not in lease["address"],
        }
        for lease in network.leases
    ]
    addresses = {lease["mac"]: lease["address"] for lease in network.leases}
    plugs = [{"plug": plug, "address": addresses.get(plug.mac, "")} for plug in network.plugs]
    allowed = services.network_actions(network, by=by)
    name, label, icon = ("stop", _("Stop"), "stop") if network.active else ("start", _("Start"), "play")
    return {
        "network": network,
        "leases": leases,
        "kept": kept,
        "plugs": plugs,
        "guests": len({plug.vm for plug in network.plugs}),
        "button": {"name": name, "label": label, "icon": icon, **allowed[name]},
        "allowed": allowed,
        "remove": allowed["delete"],
        "may_manage": may(by, "network.manage", network),
        "api_path": f"/networks/{network.pk}",
    }
