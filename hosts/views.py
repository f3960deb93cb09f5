"""Pages of hosts: the list, one host, adding one with the host doctor, and the doctor for one that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.db.models import Count, F, Q
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts.access import access
from accounts.policy import may, visible
from core.errors import BadInput, Missing, VmmError
from drivers.types import Feature
from hosts import forms, services
from hosts.choices import LinkState
from hosts.models import Hypervisor
from metrics.models import Latest

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest, HttpResponse

    from accounts.actor import Actor

HOSTS_MAX = 500


@require_safe
@access("view")
def host_list(request: HttpRequest) -> HttpResponse:
    """One row a hypervisor, grouped by host."""
    return render(request, "hosts/list.html", _listed(_actor(request)))


@require_safe
@access("view")
def host_table(request: HttpRequest) -> HttpResponse:
    """The table alone, when a host changed."""
    return render(request, "hosts/_table.html", _listed(_actor(request)))


def _listed(by: Actor) -> dict[str, Any]:
    present = Q(vms__gone_at=None, vms__binned_at=None)
    rows = list(
        visible(by, Hypervisor.objects.select_related("host").defer("credentials", "capabilities"))
        .annotate(
            guests=Count("vms", filter=present),
            running=Count("vms", filter=present & Q(vms__state="running")),
            told=F("capabilities__events__supported"),
            why_not_told=F("capabilities__events__reason"),
        )
        .order_by("host__name", "host_id", "driver", "uri")[:HOSTS_MAX]
    )
    latest = {row.subject: row for row in Latest.objects.filter(subject__in={row.host_id for row in rows})}
    items: list[dict[str, Any]] = []
    for row in rows:
        first = not items or items[-1]["hypervisor"].host_id != row.host_id
        items.append({"hypervisor": row, "first": first, "load": latest.get(row.host_id) if row.online else None})
    ill = [row for row in rows if row.state in (LinkState.OFFLINE, LinkState.ERROR)]
    hosts = {row.host_id: row.host for row in rows}
    return {
        "items": items,
        "ill": ill,
        "host_count": len(hosts),
        "cores": sum(host.cpu_count for host in hosts.values()),
        "memory": sum(host.memory_total_bytes for host in hosts.values()),
        "may_manage": may(by, "host.manage"),
    }


@require_safe
@access("view")
def host_detail(request: HttpRequest, host_id: uuid.UUID) -> HttpResponse:
    """One host: facts, its hypervisors with what each can do, load of the last hour."""
    return render(request, "hosts/detail.html", _one(request, host_id))


@require_safe
@access("view")
def host_body(request: HttpRequest, host_id: uuid.UUID) -> HttpResponse:
    """The living part of the same page."""
    return render(request, "hosts/_body.html", _one(request, host_id))


def _one(request: HttpRequest, host_id: uuid.UUID) -> dict[str, Any]:
    by = _actor(request)
    host = services.host_get(host_id, by=by)
    present = Q(vms__gone_at=None, vms__binned_at=None)
    hypervisors = list(
        host.hypervisors.defer("credentials")
        .annotate(guests=Count("vms", filter=present), running=Count("vms", filter=present & Q(vms__state="running")))
        .order_by("driver", "uri")
    )
    for hypervisor in hypervisors:
        hypervisor.host = host
    return {
        "host": host,
        "hypervisors": [
            {"hypervisor": one, "features": _features(one), "news": _news(one), "proof": forms.proof(one.driver)}
            for one in hypervisors
        ],
        "interfaces": list(host.interfaces.order_by("name")),
        "guests": sum(one.guests for one in hypervisors),
        "running": sum(one.running for one in hypervisors),
        "may_manage": may(by, "host.manage"),
        "api_path": f"/hosts/{host.pk}",
    }


def _news(hypervisor: Hypervisor) -> str:
    """How changes get here: told at once, or found by looking (then the driver's own words say how often)."""
    if Feature.EVENTS not in hypervisor.capabilities:
        return _("not known yet")
    told, reason = hypervisor.support(Feature.EVENTS)
    return _("events, within milliseconds") if told else reason


def _features(hypervisor: Hypervisor) -> list[dict[str, Any]]:
    """Every feature in a fixed order, with its reason where it is missing."""
    known = hypervisor.capabilities
    return [{"name": str(name), **known[name]} for name in Feature if name in known]


@require_safe
@access("host.manage")
def host_new(request: HttpRequest) -> HttpResponse:
    """The form with the doctor beside it; tries before anything is saved."""
    return render(request, "hosts/new.html", {"mode": "host", "groups": forms.groups(), "dialog": forms.dialog()})


@require_safe
@access("host.manage")
def hypervisor_new(request: HttpRequest, host_id: uuid.UUID) -> HttpResponse:
    """The same form for one more hypervisor of a machine that is there."""
    host = services.host_get(host_id, by=_actor(request))
    given = {"mode": "hypervisor", "host": host, "groups": forms.groups(), "dialog": forms.dialog()}
    return render(request, "hosts/new.html", given)


@require_safe
@access("host.manage")
def hypervisor_edit(request: HttpRequest, host_id: uuid.UUID, hypervisor_id: uuid.UUID) -> HttpResponse:
    """Another address or other credentials for a hypervisor that is there. What it has is not shown."""
    host = services.host_get(host_id, by=_actor(request))
    hypervisor = host.hypervisors.filter(pk=hypervisor_id).first()
    if hypervisor is None:
        raise Missing(_("This host has no such hypervisor."))
    given = {
        "mode": "change",
        "host": host,
        "hypervisor": hypervisor,
        "keeps": hypervisor.credentials is not None,
        "dialog": forms.dialog(hypervisor.driver),
        "present": forms.present(hypervisor),
    }
    return render(request, "hosts/new.html", given)


@require_safe
@access("host.probe")
def host_doctor(request: HttpRequest, host_id: uuid.UUID) -> HttpResponse:
    """The doctor for a hypervisor that is there, with the credentials it has. `?hypervisor=<id>`."""
    host = services.host_get(host_id, by=_actor(request))
    hypervisors = list(host.hypervisors.defer("credentials").order_by("driver", "uri"))
    wanted = request.GET.get("hypervisor", "")
    ill = [one for one in hypervisors if not one.online]
    chosen = next((one for one in hypervisors if str(one.pk) == wanted), next(iter(ill or hypervisors), None))
    return render(request, "hosts/doctor.html", {"host": host, "hypervisors": hypervisors, "chosen": chosen})


@require_POST
@access("host.manage")
def host_demo(request: HttpRequest) -> HttpResponse:
    """Add the demo host, and go to it."""
    try:
        host = services.host_add_demo(by=_actor(request))
    except VmmError as error:
        messages.error(request, error.detail)
        return redirect("hosts")
    return redirect("host", host.pk)


@require_POST
@access("host.manage")
def host_change(request: HttpRequest, host_id: uuid.UUID) -> HttpResponse:
    """Name, tags, maintenance: the form of the host's page."""
    by = _actor(request)
    host = services.host_get(host_id, by=by)
    changes: dict[str, Any] = {}
    if "name" in request.POST:
        changes = {
            "name": request.POST["name"].strip()[:100],
            "tags": request.POST.get("tags", "").replace(",", " ").split(),
        }
    if "maintenance" in request.POST:
        changes["maintenance"] = request.POST["maintenance"] == "on"
    try:
        services.host_update(host=host, by=by, changes=changes)
    except VmmError as error:
        messages.error(request, error.detail)
    return redirect("host", host_id)


@require_POST
@access("host.manage")
def host_refresh(request: HttpRequest, host_id: uuid.UUID) -> HttpResponse:
    """Look again now."""
    by = _actor(request)
    services.host_refresh(host=services.host_get(host_id, by=by), by=by)
    messages.info(request, _("Looking again. What has changed shows here by itself."))
    return redirect("host", host_id)


@require_POST
@access("host.manage")
def host_remove(request: HttpRequest, host_id: uuid.UUID) -> HttpResponse:
    """Forget a host, its name typed; its guests are not touched."""
    by = _actor(request)
    host = services.host_get(host_id, by=by)
    if request.POST.get("typed", "") != host.name:
        messages.error(request, BadInput(_("The name was not typed as it is. Nothing was removed.")).detail)
        return redirect("host", host_id)
    services.host_delete(host=host, by=by)
    messages.success(request, _("%(name)s is no longer managed. Its guests run on as they were.") % {"name": host.name})
    return redirect("hosts")


def _actor(request: HttpRequest) -> Actor:
    return request.actor  # type: ignore[attr-defined, no-any-return]
