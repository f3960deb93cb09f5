"""Pages of operations: what runs, what waits, what broke, and one operation with all that is known of it."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from accounts.access import access
from accounts.policy import visible
from core.errors import Missing
from core.paging import paginate
from operations import actions, engine
from operations.choices import OPEN, State
from operations.models import Operation
from operations.selectors import operation_list as selected

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse

    from accounts.actor import Actor

PAGE = 50
ROWS_MAX = 50
MAKING = ("vm.create", "vm.create-from-xml")
"""Their target is not there before they have made it."""
TRAY_MAX = 8
TABS = ("now", "failed", "mine", "all")


@require_safe
@access("view")
def operation_list(request: HttpRequest) -> HttpResponse:
    """`?state=now|failed|mine|all`, `?target=vm/<id>`, `?cursor=`. Parents stand for their children."""
    by = _actor(request)
    tab = request.GET.get("state", "now")
    tab = tab if tab in TABS else "all"
    rows = _tab(_listed(by), tab, by)
    target = request.GET.get("target", "")
    if target:
        rows = rows.filter(target=target[:120])
    page = paginate(rows, orderings={"id": "id"}, ordering="-id", cursor=request.GET.get("cursor") or None, limit=PAGE)
    listed = _listed(by)
    tabs = [
        ("now", _("Now"), listed.filter(state__in=OPEN).count()),
        ("failed", _("Failed"), listed.filter(state=State.FAILED).count()),
        ("mine", _("Mine"), None),
        ("all", _("All"), listed.count()),
    ]
    context = {"tab": tab, "tabs": tabs, "target": target, "page": page, "items": _shown(page.items)}
    return render(request, "operations/list.html", context)


@require_safe
@access("view")
def operation_rows(request: HttpRequest) -> HttpResponse:
    """`?ids=a,b`: rows as the list shows them, for what changed on a page."""
    ids = []
    for text in request.GET.get("ids", "").split(",")[:ROWS_MAX]:
        try:
            ids.append(uuid.UUID(text))
        except ValueError:
            continue
    rows = visible(_actor(request), Operation.objects.filter(pk__in=ids))
    return render(request, "operations/_rows.html", {"items": _shown(list(rows))})


@require_safe
@access("view")
def operation_tray(request: HttpRequest) -> HttpResponse:
    """What runs or waits, newest first, for the tray."""
    return render(request, "operations/_tray.html", {"items": tray_items(_actor(request))})


@require_safe
@access("view")
def operation_detail(request: HttpRequest, operation_id: uuid.UUID) -> HttpResponse:
    """One operation: state, problem, parameters, log, children."""
    return render(request, "operations/detail.html", _detail(request, operation_id))


@require_safe
@access("view")
def operation_body(request: HttpRequest, operation_id: uuid.UUID) -> HttpResponse:
    """The living part of the same page."""
    return render(request, "operations/_body.html", _detail(request, operation_id))


def tray_items(by: Actor) -> list[dict[str, Any]]:
    """What runs or waits, newest first, as rows of the tray. One query."""
    return _shown(list(_listed(by).filter(state__in=OPEN).order_by("-id")[:TRAY_MAX]))


def _detail(request: HttpRequest, operation_id: uuid.UUID) -> dict[str, Any]:
    by = _actor(request)
    operation = visible(by, Operation.objects.select_related("parent")).filter(pk=operation_id).first()
    if operation is None:
        raise Missing("There is no such operation, or you may not see it.")
    children = list(operation.children.order_by("position")[:ROWS_MAX])
    items = operation.result.get("items", []) if isinstance(operation.result, dict) else []
    return {
        "operation": operation,
        "item": _shown([operation])[0],
        "lines": list(operation.lines.all()[:200]),
        "children": _shown(children),
        "child_count": operation.children.count() if children else 0,
        "refused": [item for item in items if item.get("reason")][:ROWS_MAX],
        "params": [_param(name, value) for name, value in operation.shown_params.items()],
    }


def _listed(by: Actor) -> QuerySet[Operation]:
    return selected(by).filter(parent=None)


def _tab(rows: QuerySet[Operation], tab: str, by: Actor) -> QuerySet[Operation]:
    if tab == "now":
        return rows.filter(state__in=OPEN)
    if tab == "failed":
        return rows.filter(state=State.FAILED)
    if tab == "mine":
        return rows.filter(requested_by=by.name)
    return rows


def _shown(operations: list[Operation]) -> list[dict[str, Any]]:
    """What a row needs beside the operation itself."""
    return [
        {
            "op": operation,
            "title": title_of(operation),
            "href": _target_url(operation),
            "cancellable": engine.cancellable(operation),
            "again": _again(operation),
        }
        for operation in operations
    ]


def title_of(operation: Operation) -> str:
    """`Start`, in the reader's language."""
    kind = operation.kind.removesuffix(".bulk")
    return _(actions.get(kind).title) if kind in actions.kinds() else operation.kind


def _target_url(operation: Operation) -> str:
    kind, _slash, identity = operation.target.partition("/")
    if operation.kind in MAKING:
        identity = _made(operation)
    pages = {
        "vm": "/vms/",
        "host": "/hosts/",
        "storage-pool": "/storage/",
        "volume": "/storage/volumes/",
        "network": "/networks/",
        "image": "/images/",
        "snapshot-schedule": "/snapshot-schedules/",
    }
    return f"{pages[kind]}{identity}" if identity and kind in pages else ""


def _param(name: str, value: object) -> dict[str, object]:
    """A parameter as text; what has parts is folded."""
    parts = isinstance(value, dict | list) and bool(value)
    return {"name": name, "folded": parts, "text": json.dumps(value, indent=1, ensure_ascii=False) if parts else value}


def _made(operation: Operation) -> str:
    """The guest that it has made, which is there from then on; "" while it is not, or where all was undone."""
    result = operation.small_result if hasattr(operation, "small_result") else operation.result
    context = (operation.error or {}).get("context", {})
    return str((result or {}).get("vm") or context.get("vm") or "")


def _again(operation: Operation) -> str:
    """The action that would repeat a failed one on a guest; "" where there is none or its parameters were secret."""
    kind, _dot, name = operation.kind.partition(".")
    plain = operation.state == State.FAILED and kind == "vm" and not operation.secret_params
    return name if plain and name in ("start", "shutdown", "reboot", "suspend", "resume", "managed-save") else ""


def _actor(request: HttpRequest) -> Actor:
    return request.actor  # type: ignore[attr-defined, no-any-return]
