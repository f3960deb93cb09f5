"""Pages of storage: pools of all hosts, one pool with its volumes, a new pool. They only read; REST changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

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
from drivers.types import Feature
from hosts.models import Host, Hypervisor
from hosts.wishes import able_hosts
from operations import engine
from operations.choices import OPEN
from operations.models import Operation
from operations.views import title_of
from storage import services
from storage.models import StoragePool
from storage.selectors import filling, orphans_of, pool_page, volume_page
from storage.words import picture

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable

    from django.http import HttpRequest, HttpResponse

    from accounts.actor import Actor
    from storage.models import Volume

PAGE: Final = 100
FILLING_MAX: Final = 4
OPERATIONS_RECENT: Final = 6
NAMES_MAX: Final = 200
"""Volumes of a pool that the dialog of a new one offers as its base; others are typed."""
PARTS: Final = ("head", "facts", "space", "volumes", "operations")


# -- all pools ---------------------------------------------------------------------------------------------------------
@require_safe
@access("view")
def pools(request: HttpRequest) -> HttpResponse:
    """`?q=&ordering=&cursor=`."""
    context = _listed(request)
    return render(request, "storage/list.html", context, status=context.pop("status"))


@require_safe
@access("view")
def pools_table(request: HttpRequest) -> HttpResponse:
    """The table alone, when a pool changed."""
    context = _listed(request)
    return render(request, "storage/_table.html", context, status=context.pop("status"))


def _listed(request: HttpRequest) -> dict[str, Any]:
    by = actor_of(request)
    q = request.GET.get("q", "").strip()
    ordering = request.GET.get("ordering") or "name"
    context: dict[str, Any] = {"q": q, "order": ordering, "status": 200, "may_manage": may(by, "pool.manage")}
    try:
        page = pool_page(by, q=q, ordering=ordering, cursor=request.GET.get("cursor") or None, limit=PAGE)
    except BadInput as error:
        page = Page(items=[], total=0, next=None)
        context |= {"error": error.detail, "status": error.status}
    context |= {"page": page, "filling": filling(by, limit=FILLING_MAX), "query": request.GET.urlencode()}
    if not page.items and not q:
        context["hosts"] = visible(by, Host.objects.all()).count()
    return context


@require_safe
@access("pool.manage")
def pool_new(request: HttpRequest) -> HttpResponse:
    """The form, drawn from the types that there are. `?host=<id>` chooses the host."""
    by = actor_of(request)
    rows = visible(by, Hypervisor.objects.select_related("host").defer("credentials")).order_by("host__name", "pk")
    able, unable = able_hosts(list(rows), Feature.STORAGE_MANAGE)
    wanted = request.GET.get("host", "")
    chosen = next((one for one in able if str(one["host"].pk) == wanted), next(iter(able), None))
    context = {
        "able": able,
        "unable": unable,
        "chosen": chosen["host"].pk if chosen else None,
        "types": [_translated(one) for one in services.pool_types()],
    }
    return render(request, "storage/new.html", context)


def _translated(one: dict[str, Any]) -> dict[str, Any]:
    """A type with its words in the reader's language."""
    fields = [field | {name: _(field[name]) for name in ("label", "hint") if field[name]} for field in one["fields"]]
    return one | {name: _(one[name]) for name in ("label", "hint", "build") if one[name]} | {"fields": fields}


# -- one pool ----------------------------------------------------------------------------------------------------------
@require_safe
@access("view")
def pool_detail(request: HttpRequest, pool_id: uuid.UUID) -> HttpResponse:
    """`?q=&ordering=&cursor=` narrow its volumes."""
    by = actor_of(request)
    pool = services.pool_get(pool_id, by=by)
    context = _pool(pool, by) | _volumes(request, pool, by)
    context |= _operations(pool, context["page"].items, by) | _space(pool)
    names = pool.volumes.order_by("name").values_list("name", flat=True)
    context["bases"] = list(names[:NAMES_MAX])
    return render(request, "storage/detail.html", context, status=context.pop("status"))


@require_safe
@access("view")
def pool_part(request: HttpRequest, pool_id: uuid.UUID, part: str) -> HttpResponse:
    """A living part of the same page. A pool that went meanwhile says so there."""
    if part not in PARTS:
        raise Http404
    by = actor_of(request)
    try:
        pool = services.pool_get(pool_id, by=by)
    except Missing:
        return _gone(request, pool_id, part, by)
    context: dict[str, Any] = {"status": 200}
    if part in ("head", "facts"):
        context |= _pool(pool, by)
    elif part == "space":
        context |= _space(pool)
    elif part == "volumes":
        context |= _volumes(request, pool, by)
    else:
        context |= _operations(pool, pool.volumes.only("pool").order_by("name")[:PAGE], by)
    template = "vms/_operations.html" if part == "operations" else f"storage/_{part}.html"
    return render(request, template, context, status=context.pop("status"))


def _gone(request: HttpRequest, pool_id: uuid.UUID, part: str, by: Actor) -> HttpResponse:
    pool = visible(by, StoragePool.objects.select_related("host")).filter(pk=pool_id).first()
    if pool is None:
        raise Missing(_("There is no such pool, or you may not see it."))
    return render(request, "storage/_gone.html", {"pool": pool, "part": part})


def _pool(pool: StoragePool, by: Actor) -> dict[str, Any]:
    allowed = services.pool_actions(pool, by=by)
    words = {"start": (_("Start"), "play"), "stop": (_("Stop"), "stop"), "refresh": (_("Refresh"), "refresh")}
    shown = ("refresh", "stop") if pool.running else ("start",)
    return {
        "pool": pool,
        "buttons": [{"name": name, "label": words[name][0], "icon": words[name][1], **allowed[name]} for name in shown],
        "allowed": allowed,
        "create": allowed["create-volume"],
        "remove": allowed["delete"],
        "may_manage": may(by, "pool.manage", pool),
        "api_path": f"/storage-pools/{pool.pk}",
    }


def _space(pool: StoragePool) -> dict[str, Any]:
    """How full it was and will be, and what was promised of it. One query."""
    return {"pool": pool, "picture": picture(pool)}


def _volumes(request: HttpRequest, pool: StoragePool, by: Actor) -> dict[str, Any]:
    q = request.GET.get("q", "").strip()
    ordering = request.GET.get("ordering") or "name"
    context: dict[str, Any] = {"pool": pool, "q": q, "order": ordering, "status": 200}
    try:
        page = volume_page(
            by,
            q=q,
            filters={"pool": str(pool.pk)},
            ordering=ordering,
            cursor=request.GET.get("cursor") or None,
            limit=PAGE,
        )
    except BadInput as error:
        page = Page(items=[], total=0, next=None)
        context |= {"error": error.detail, "status": error.status}
    items = [{"volume": volume, "actions": services.volume_actions(volume, by=by)} for volume in page.items]
    return context | {
        "page": page,
        "items": items,
        "orphans": orphans_of(by, pool),
        "query": request.GET.urlencode(),
        "may_volumes": may(by, "volume.manage", pool),
    }


def _operations(pool: StoragePool, volumes: Iterable[Volume], by: Actor) -> dict[str, Any]:
    """The newest on the pool and on the volumes that are shown (or the first ones), and what is being made in it. Two queries."""
    rows = visible(by, Operation.objects.defer("result", "checkpoints"))
    making = rows.filter(state__in=OPEN, kind__startswith="volume.", params__pool=str(pool.pk))
    recent = rows.filter(target__in=[pool.ref, *(volume.ref for volume in volumes)]).order_by("-id")[:OPERATIONS_RECENT]
    found = {one.pk: one for one in (*making.order_by("-id")[:OPERATIONS_RECENT], *recent)}
    newest = sorted(found.values(), key=lambda one: one.pk, reverse=True)[:OPERATIONS_RECENT]
    return {
        "operations": [
            {"op": one, "title": f"{title_of(one)}: {one.target_name}", "cancellable": engine.cancellable(one)}
            for one in newest
        ]
    }


@require_POST
@access("pool.manage")
def pool_remove(request: HttpRequest, pool_id: uuid.UUID) -> HttpResponse:
    """Take a pool's definition away, its name typed; volumes stay where they are."""
    by = actor_of(request)
    pool = services.pool_get(pool_id, by=by)
    if request.POST.get("typed", "") != pool.name:
        messages.error(request, _("The name was not typed as it is. Nothing was removed."))
        return redirect("storage-pool", pool_id)
    try:
        operation = services.pool_delete(pool=pool, by=by)
    except VmmError as error:
        messages.error(request, error.detail)
        return redirect("storage-pool", pool_id)
    return redirect("operation", operation.pk)


@require_safe
@access("view")
def volume(request: HttpRequest, volume_id: uuid.UUID) -> HttpResponse:
    """Where a volume stands: its pool's page, narrowed to it."""
    found = services.volume_get(volume_id, by=actor_of(request))
    name = found.name.replace('"', "")
    query = urlencode({"q": f'name:"{name}"'})
    return redirect(f"/storage/{found.pool_id}?{query}#volume-{found.pk}")
