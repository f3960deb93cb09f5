"""Pages of images: the catalogue, and one of it. They only read; REST changes (static/js/images.js)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.db.models.functions import Lower
from django.http import Http404
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from accounts.access import access
from accounts.actor import actor_of
from accounts.policy import may, visible
from core.errors import BadInput, VmmError
from core.paging import Page
from drivers import osinfo
from images import services
from images.choices import ImageState
from images.known import known
from images.selectors import image_page
from images.services import image_get
from operations import engine
from operations.choices import State
from operations.models import Operation
from operations.views import title_of
from storage.models import StoragePool

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest, HttpResponse

    from accounts.actor import Actor
    from images.models import Image

PAGE: Final = 100
POOLS_MAX: Final = 200
OPERATIONS_RECENT: Final = 6
PARTS: Final = ("body", "operations")
BADGES: Final = {
    ImageState.IMPORTING: ("op-running", _("Being imported")),
    ImageState.READY: ("succeeded", _("Ready")),
    ImageState.FAILED: ("failed", _("Failed")),
}


@require_safe
@access("view")
def image_list(request: HttpRequest) -> HttpResponse:
    """`?q=&ordering=&cursor=`."""
    by = actor_of(request)
    context = _listed(request)
    if context["may_manage"]:
        context |= {"pools": _pools(by), "known": known(), "upload_max": settings.ENV.upload_max_bytes}
    return render(request, "images/list.html", context, status=context.pop("status"))


@require_safe
@access("view")
def image_table(request: HttpRequest) -> HttpResponse:
    """The table alone, when an image changed."""
    context = _listed(request)
    return render(request, "images/_table.html", context, status=context.pop("status"))


def _listed(request: HttpRequest) -> dict[str, Any]:
    by = actor_of(request)
    q = request.GET.get("q", "").strip()
    ordering = request.GET.get("ordering") or "name"
    context: dict[str, Any] = {
        "q": q,
        "order": ordering,
        "status": 200,
        "may_manage": may(by, "image.manage"),
        "may_fetch": may(by, "image.fetch"),
    }
    try:
        page = image_page(by, q=q, ordering=ordering, cursor=request.GET.get("cursor") or None, limit=PAGE)
    except BadInput as error:
        page = Page(items=[], total=0, next=None)
        context |= {"error": error.detail, "status": error.status}
    if not page.items and not q:
        context["pools"] = _pools(by)
    return context | {
        "page": page,
        "items": [_shown(image) for image in page.items],
        "query": request.GET.urlencode(),
        "size_bytes": sum(image.size_bytes * sum(copy.ready for copy in image.copies.all()) for image in page.items),
    }


def _shown(image: Image) -> dict[str, Any]:
    """What a row needs beside the image itself. No query."""
    badge, word = BADGES[ImageState(image.shown_state)]
    copies = [copy for copy in image.copies.all() if copy.ready and copy.seen]
    running = image.operation if image.operation is not None and image.operation.state == State.RUNNING else None
    return {"image": image, "badge": badge, "word": word, "copies": copies, "import": running}


def _pools(by: Actor) -> list[dict[str, Any]]:
    """Where an image can go: pools that take volumes, those with the most room first."""
    rows = visible(by, StoragePool.objects.filter(gone_at=None))
    rows = rows.select_related("hypervisor__host").defer("hypervisor__credentials").order_by(Lower("name"), "pk")
    usable = [one for one in rows[:POOLS_MAX] if one.formats and one.running and one.hypervisor.online]
    usable.sort(key=lambda one: ("qcow2" not in one.formats, -(one.available_bytes or 0)))
    return [{"pool": one, "host": one.hypervisor.host.name} for one in usable]


# -- one -----------------------------------------------------------------------------------------------------------------
@require_safe
@access("view")
def image_detail(request: HttpRequest, image_id: uuid.UUID) -> HttpResponse:
    """Facts, where it lies, what stands on it, what was done to it."""
    by = actor_of(request)
    image = image_get(image_id, by=by)
    return render(request, "images/detail.html", _one(image, by) | _operations(image, by))


@require_safe
@access("view")
def image_part(request: HttpRequest, image_id: uuid.UUID, part: str) -> HttpResponse:
    """A living part of the same page. One that was deleted meanwhile says so there."""
    if part not in PARTS:
        raise Http404
    by = actor_of(request)
    try:
        image = image_get(image_id, by=by)
    except VmmError:
        return render(request, "images/_gone.html", {"part": part})
    if part == "operations":
        return render(request, "vms/_operations.html", _operations(image, by))
    return render(request, "images/_body.html", _one(image, by))


def _one(image: Image, by: Actor) -> dict[str, Any]:
    there = {copy.pool_id for copy in image.copies.all()}
    return _shown(image) | {
        "all_copies": image.copies.all(),
        "error": image.shown_error,
        "used_by": image.used_by or [],
        "may_manage": may(by, "image.manage", image),
        "may_create": may(by, "vm.create"),
        "pools": [one for one in _pools(by) if one["pool"].pk not in there],
        "systems": osinfo.known().values(),
        "delete": services.image_may_be_deleted(image, by=by),
    }


def _operations(image: Image, by: Actor) -> dict[str, Any]:
    rows = visible(by, Operation.objects.defer("result", "checkpoints").filter(target=image.ref))
    newest = rows.order_by("-id")[:OPERATIONS_RECENT]
    return {
        "operations": [{"op": one, "title": title_of(one), "cancellable": engine.cancellable(one)} for one in newest]
    }
