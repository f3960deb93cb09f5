"""Pages of guests: the list with its parts, one guest with its tabs, and what is left of one that is gone. They only read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.db.models import Count, Q
from django.http import Http404, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from accounts.access import access
from accounts.answers import is_htmx
from accounts.policy import may, visible
from core.errors import BadInput, Missing
from core.paging import Page, paginate
from drivers.types import Feature
from events.selectors import ORDERINGS as EVENT_ORDERINGS
from events.selectors import event_list
from hosts.choices import LinkState
from hosts.models import Host, Hypervisor
from live.lines import lines_of
from live.sight import visible_events
from operations import engine
from operations.models import Operation
from operations.views import title_of
from vms import grammar, selectors
from vms.addresses import SOURCES
from vms.choices import ACTIVE, BinStorage, State
from vms.cloning.templates import template_offer
from vms.consoles import console_types
from vms.definitions import services as definitions
from vms.deletion.binned import bin_hours
from vms.deletion.leftovers import fates
from vms.hardware.selectors import pending_count
from vms.models import VM
from vms.rows import address_text, vm_buttons, vm_rows
from vms.services import vm_actions, vm_get

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest, HttpResponse

    from accounts.actor import Actor

PAGE = 100
ROWS_MAX = 50
ILL_MAX = 3
EVENTS_PAGE = 100
EVENTS_RECENT = 8
OPERATIONS_RECENT = 6
REVISIONS_MAX = 50
PARTS = ("head", "facts", "devices", "operations", "delete", "revisions")


# -- the list ----------------------------------------------------------------------------------------------------------
@require_safe
@access("view")
def vm_list(request: HttpRequest) -> HttpResponse:
    """`?q=&ordering=&group=host&cursor=&peek=`. To our own scripts the list alone; `#list` is what they put in place."""
    by = _actor(request)
    q = request.GET.get("q", "").strip()
    grouped = request.GET.get("group") == "host"
    ordering = request.GET.get("ordering") or "name"
    context: dict[str, Any] = {"q": q, "grouped": grouped, "order": ordering}
    status = 200
    try:
        page = selectors.vm_page(
            by,
            q=q,
            ordering=ordering,
            cursor=request.GET.get("cursor") or None,
            limit=PAGE,
            grouped=grouped,
            whole=False,
        )
    except BadInput as error:
        page, status = Page(items=[], total=0, next=None), error.status
        context["error"] = error.detail
    items = vm_rows(page.items, by=by)
    if grouped:
        _mark_groups(by, items, q)
    context |= {"page": page, "items": items, "ill": _ill(by), "hints": _hints(q)}
    if not page.items and not q:
        context["hosts"] = visible(by, Host.objects.all()).count()
    part = is_htmx(request)
    context["may_manage"] = may(by, "host.manage")
    context["has_bin"] = bin_hours() > 0
    context["may_create"] = may(by, "vm.create")
    return render(request, "vms/_list.html" if part else "vms/list.html", context, status=status)


@require_safe
@access("view")
def vm_bin(request: HttpRequest) -> HttpResponse:
    """Guests that were deleted and can be had back, the latest first. To our own scripts the list alone."""
    by = _actor(request)
    page = selectors.vm_page(
        by, ordering="-binned_at", cursor=request.GET.get("cursor") or None, limit=PAGE, binned=True
    )
    items = [{"vm": vm, "actions": vm_actions(vm, by=by), "delete_text": _delete_text(vm)} for vm in page.items]
    context = {
        "page": page,
        "items": items,
        "now": timezone.now(),
        "span": _bin_span(),
        "may_delete": may(by, "vm.delete"),
    }
    return render(request, "vms/_bin.html" if is_htmx(request) else "vms/bin.html", context)


def _mark_groups(by: Actor, items: list[dict[str, Any]], q: str) -> None:
    """The first row of each host carries its heading. One query."""
    hosts = {item["vm"].hypervisor.host_id for item in items}
    counts = dict(
        selectors.vm_list(by, q=q)
        .filter(hypervisor__host__in=hosts)
        .order_by()
        .values_list("hypervisor__host")
        .annotate(Count("pk"))
    )
    before = None
    for item in items:
        host = item["vm"].hypervisor.host
        if host.pk != before:
            item["group"] = {"host": host, "count": counts.get(host.pk, 0)}
        before = host.pk


def _ill(by: Actor) -> list[Hypervisor]:
    """Hypervisors out of reach that have guests, each with how many. One query."""
    rows = visible(by, Hypervisor.objects.select_related("host").defer("credentials", "capabilities"))
    rows = rows.filter(state__in=(LinkState.OFFLINE, LinkState.ERROR))
    counted = rows.annotate(guests=Count("vms", filter=Q(vms__gone_at=None, vms__binned_at=None))).filter(guests__gt=0)
    return list(counted.order_by("host__name", "driver")[:ILL_MAX])


def _hints(q: str) -> list[dict[str, str]]:
    """Keys that mean nothing, each with the search that was probably meant."""
    found = []
    for key, near in grammar.unknown_keys(q).items():
        meant = q.replace(f"{key}:", f"{near}:") if near else ""
        found.append({"key": key, "near": near or "", "href": f"?{urlencode({'q': meant})}" if meant else ""})
    return found


@require_safe
@access("view")
def vm_rows_part(request: HttpRequest) -> HttpResponse:
    """`?ids=a,b`: rows as the list shows them, for what changed on a page. Two queries and those of the rows."""
    ids = []
    for text in request.GET.get("ids", "").split(",")[:ROWS_MAX]:
        known = grammar.uuid_of(text)
        if known:
            ids.append(known)
    vms = selectors.vms_present(_actor(request), ids)
    return render(request, "vms/_rows.html", {"items": vm_rows(vms, by=_actor(request))})


@require_safe
@access("view")
def vm_filter_keys(request: HttpRequest) -> HttpResponse:
    """What the search field completes, with counts (static/js/filter.js)."""
    return JsonResponse({"keys": selectors.vm_facets(_actor(request))})


@require_safe
@access("view")
def vm_peek(request: HttpRequest, vm_id: uuid.UUID) -> HttpResponse:
    """One guest beside the list."""
    by = _actor(request)
    vm = vm_get(vm_id, by=by)
    item = vm_rows([vm], by=by)[0]
    item["screen"] = _has_screen(vm) and may(by, "vm.console", vm)
    return render(request, "vms/_peek.html", {"item": item, "vm": vm, **_buttons(vm, by)})


# -- one guest -----------------------------------------------------------------------------------------------------------
@require_safe
@access("view")
def vm_detail(request: HttpRequest, vm_id: uuid.UUID) -> HttpResponse:
    """Head, charts, facts, devices, what happened. A guest that is gone has a page of its history."""
    by = _actor(request)
    try:
        vm = vm_get(vm_id, by=by)
    except Missing:
        return _gone(request, vm_id)
    context = tab_page(vm, by, tab="overview") | _facts(vm) | _operations(vm, by)
    recent = visible_events(by, event_list(objects=vm.ref)).order_by("-seq")[:EVENTS_RECENT]
    return render(request, "vms/detail.html", {**context, "lines": lines_of(recent), "events_limit": EVENTS_RECENT})


@require_safe
@access("view")
def vm_part(request: HttpRequest, vm_id: uuid.UUID, part: str) -> HttpResponse:
    """A living part of its pages: head, facts, devices, operations or revisions; or the questions before it is deleted.

    A guest that went meanwhile says so there.
    """
    by = _actor(request)
    if part not in PARTS or (part == "revisions" and not may(by, "vm.xml")):
        raise Http404
    vm = any_vm(vm_id, by)
    if vm.gone_at is not None:
        return render(request, "vms/_gone.html", {"vm": vm, "part": part})
    context: dict[str, Any] = {"vm": vm, "tab": ""}
    if part == "head":
        context |= _buttons(vm, by)
    elif part == "facts":
        context |= _facts(vm) | _buttons(vm, by)
    elif part == "operations":
        context |= _operations(vm, by)
    elif part == "delete":
        context |= _removal(vm)
    elif part == "revisions":
        context |= _revisions(vm, by)
    return render(request, f"vms/_{part}.html", context)


@require_safe
@access("view")
def vm_xml(request: HttpRequest, vm_id: uuid.UUID) -> HttpResponse:
    """The definition's tab. The definition itself is asked for by the page's script: reading it takes a worker."""
    by = _actor(request)
    vm = any_vm(vm_id, by)
    if vm.gone_at is not None:
        return redirect("vm", vm.pk)
    return render(
        request,
        "vms/xml.html",
        {
            **tab_page(vm, by, tab="xml"),
            **(_revisions(vm, by) if may(by, "vm.xml", vm) else {"may_read": False}),
            "why_none": _why_no_xml(vm),
        },
    )


def _revisions(vm: VM, by: Actor) -> dict[str, Any]:
    """What the definition was, and whether it can be changed. Two queries."""
    rows = definitions.revisions(vm, by=by).defer("xml")
    listed = list(rows[:REVISIONS_MAX])
    more = rows.count() - len(listed) if len(listed) == REVISIONS_MAX else 0
    return {"may_read": True, "revisions": listed, "more": more, "why_fixed": definitions.why_fixed(vm, by=by)}


def _why_no_xml(vm: VM) -> str:
    """Why its hypervisor has no definition to show; "" where it has, or where nobody knows yet."""
    supported, reason = vm.hypervisor.support(Feature.XML)
    return "" if supported or Feature.XML not in vm.hypervisor.capabilities else reason


@require_safe
@access("view")
def vm_events(request: HttpRequest, vm_id: uuid.UUID) -> HttpResponse:
    """All that happened to it; also of a guest that is gone."""
    by = _actor(request)
    vm = any_vm(vm_id, by)
    rows = visible_events(by, event_list(objects=vm.ref))
    page = paginate(
        rows, orderings=EVENT_ORDERINGS, ordering="-seq", cursor=request.GET.get("cursor") or None, limit=EVENTS_PAGE
    )
    context: dict[str, Any] = {
        "lines": lines_of(page.items),
        "more": urlencode({"cursor": page.next}) if page.next else "",
        "total": page.total,
        "events_limit": EVENTS_PAGE * 10,
    }
    if is_htmx(request) and request.GET.get("cursor"):
        return render(request, "events/_lines.html", context)
    if vm.gone_at is not None:
        return redirect("vm", vm.pk)
    return render(request, "vms/events.html", {**context, **tab_page(vm, by, tab="events")})


def _gone(request: HttpRequest, vm_id: uuid.UUID) -> HttpResponse:
    """When it went, what was last known, and its history."""
    by = _actor(request)
    vm = any_vm(vm_id, by)
    rows = visible_events(by, event_list(objects=vm.ref))
    page = paginate(rows, orderings=EVENT_ORDERINGS, ordering="-seq", limit=EVENTS_PAGE)
    context = {
        "vm": vm,
        "lines": lines_of(page.items),
        "more": "",
        **_operations(vm, by),
        "successor": visible(by, VM.objects.filter(gone_at=None, uuid=vm.uuid)).exclude(pk=vm.pk).first(),
    }
    return render(request, "vms/gone.html", context)


def any_vm(vm_id: uuid.UUID, by: Actor) -> VM:
    """One that the caller may see, gone or not. Raises Missing."""
    rows = VM.objects.select_related("hypervisor__host", "owner").defer("hypervisor__credentials")
    vm = visible(by, rows).filter(pk=vm_id).first()
    if vm is None:
        raise Missing(_("There is no such guest, or you may not see it."))
    return vm


def tab_page(vm: VM, by: Actor, *, tab: str) -> dict[str, Any]:
    """What the shell of each tab needs."""
    return {"vm": vm, "tab": tab, **_buttons(vm, by)}


def _buttons(vm: VM, by: Actor) -> dict[str, Any]:
    """What may be done, what each kind of console is called, and why it stands still if it does."""
    words = {"serial": _("Serial"), "shell": _("Shell"), "vnc": _("Screen"), "spice": _("Spice")}
    return {
        "buttons": vm_buttons(vm, by=by),
        "consoles": [(kind, words[kind]) for kind in console_types(vm)],
        "trouble": _trouble(vm),
        "pending": pending_count(vm),
        "may_edit": may(by, "vm.edit", vm),
        "may_create": may(by, "vm.create"),
        **template_offer(vm, by=by),
        "delete_text": _delete_text(vm),
    }


def _trouble(vm: VM) -> str:
    """Why it stands still against everybody's wish, as a sentence; "" where it does not."""
    if vm.state == State.PAUSED:
        return {
            "ioerror": _("A disk failed. It was paused so that nothing is lost: mend the disk, then resume."),
            "watchdog": _("Its watchdog paused it: the guest no longer answered. Look at its console."),
            "crashed": _("Its kernel crashed, and it was kept as it is for a look. Reset or force it off to go on."),
        }.get(vm.state_reason, "")
    if vm.state == State.CRASHED:
        return _("It crashed. Its console or its log may say why; start it again when you have looked.")
    return ""


def _delete_text(vm: VM) -> str:
    """How far it can be undone, for the confirmation; what goes and what stays is listed below it."""
    parts = []
    if vm.binned_at is not None:
        return _("It goes at once and for good, with its definition. The history keeps that.")
    if vm.state in ACTIVE:
        parts.append(_("The guest is running and is forced off first: what it has not written to disk is lost."))
    if "prod" in vm.tags:
        parts.append(_("It carries the tag prod."))
    if _goes_to_bin(vm):
        parts.append(_("It goes to the bin and can be had back for %(span)s.") % {"span": _bin_span()})
    else:
        parts.append(_("It goes at once and for good, with its definition. The history keeps that."))
    return " ".join(parts)


def _bin_span() -> str:
    """How long the bin keeps, for people; "" where there is none."""
    hours = bin_hours()
    return _("%(n)s h") % {"n": f"{hours:g}"} if hours else ""


def _goes_to_bin(vm: VM) -> bool:
    return bin_hours() > 0 and vm.persistent and vm.binned_at is None


def _removal(vm: VM) -> dict[str, Any]:
    """Its disks with what would become of each, for the confirmation."""
    found = fates(vm)
    supported, reason = vm.hypervisor.support(Feature.STORAGE_POOLS)
    return {
        "fates": found,
        "deletable": supported and any(not fate.kept for fate in found),
        "why_none": "" if supported else reason,
        "to_bin": _goes_to_bin(vm),
        "gone": vm.bin_storage == BinStorage.DELETE,
    }


def _facts(vm: VM) -> dict[str, Any]:
    words = {
        "machine": _("Machine"),
        "architecture": _("Architecture"),
        "firmware": _("Firmware"),
        "devices": _("Boots from"),
        "kernel": _("Kernel"),
        "cmdline": _("Command line"),
        "init": _("First program"),
    }
    boot = {**vm.boot, "devices": str(vm.boot.get("devices", "")).replace(",", ", ")}
    return {
        "addresses": [
            {
                "text": address_text(one),
                "source": SOURCES.get(one.get("source", ""), "") if isinstance(one, dict) else "",
            }
            for one in vm.addresses
        ],
        "no_address": [(SOURCES.get(source, source), why) for source, why in vm.address_reasons.items()]
        if vm.state == State.RUNNING and not vm.addresses
        else [],
        "boot": [(word, boot[key]) for key, word in words.items() if boot.get(key)],
    }


def _operations(vm: VM, by: Actor) -> dict[str, Any]:
    """The newest operations on it, readings left out. One query."""
    rows = visible(by, Operation.objects.filter(target=vm.ref)).defer("result", "checkpoints")
    return {
        "operations": [
            {"op": one, "title": title_of(one), "cancellable": engine.cancellable(one)}
            for one in rows.order_by("-id")[:OPERATIONS_RECENT]
        ]
    }


def _has_screen(vm: VM) -> bool:
    return (
        vm.state == State.RUNNING and not vm.stale and "vnc" in vm.consoles and vm.hypervisor.support("screenshot")[0]
    )


def _actor(request: HttpRequest) -> Actor:
    return request.actor  # type: ignore[attr-defined, no-any-return]
