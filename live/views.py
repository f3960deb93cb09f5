"""The events page: what happened, newest first, with what happens now put on top."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.http import JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _l
from django.views.decorators.http import require_GET

from accounts.access import access
from accounts.answers import is_htmx
from accounts.policy import may
from core.errors import BadInput
from core.paging import paginate
from events import selectors
from live.lines import lines_of
from live.sight import AUDIT, visible_events

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse
    from django.utils.functional import _StrPromise

    from accounts.actor import Actor

PAGE = 100
FRESH_MOST = 500
"""New lines that one look puts on top; behind more than that a line says so."""

KINDS: list[tuple[str, _StrPromise]] = [
    ("", _l("All")),
    ("vm.*", _l("Guests")),
    ("vm.state_changed", _l("State changes")),
    ("host.*", _l("Hosts")),
    ("operation.*", _l("Operations")),
    ("audit.*", _l("Audit")),
]

TYPES = (
    "vm.state_changed", "vm.changed", "vm.definition_changed", "vm.defined", "vm.undefined", "host.online", "host.offline",
    "operation.changed",
    "audit.*", "audit.sign_in", "audit.user_changed", "audit.token_created",
)  # fmt: skip
"""Offered for completion; any other can be typed."""


@require_GET
@access("view")
def event_page(request: HttpRequest) -> HttpResponse:
    """`?type=`, `?object=`, `?q=` filter; `?cursor=` goes on; `?after=` (from the script) gives new lines only."""
    actor: Actor = request.actor  # type: ignore[attr-defined]
    given = {name: request.GET.get(name, "")[:2000] for name in ("type", "object", "q")}
    try:
        rows = visible_events(actor, selectors.event_list(types=given["type"], objects=given["object"], q=given["q"]))
        after = request.GET.get("after", "")
        if after:
            return _fresh(request, rows, after)
        page = paginate(
            rows, orderings=selectors.ORDERINGS, ordering="-seq", cursor=request.GET.get("cursor"), limit=PAGE
        )
    except BadInput as error:
        return _render(request, actor, given, {"error": error.detail}, status=422)
    more = (
        urlencode({**{key: value for key, value in given.items() if value}, "cursor": page.next}) if page.next else ""
    )
    return _render(request, actor, given, {"lines": lines_of(page.items), "more": more, "total": page.total})


@require_GET
@access("view")
def event_keys(request: HttpRequest) -> HttpResponse:
    """What the search field completes (static/js/filter.js)."""
    actor: Actor = request.actor  # type: ignore[attr-defined]
    types = [name for name in TYPES if not name.startswith(AUDIT) or may(actor, "audit.view")]
    return JsonResponse(
        {
            "keys": [
                {"key": "type", "hint": str(_l("what happened")), "values": [{"value": name} for name in types]},
                {"key": "object", "hint": str(_l("a name, or vm/<id>"))},
                {
                    "key": "actor",
                    "hint": str(_l("who did it")),
                    "values": [{"value": actor.name}, {"value": "watcher"}],
                },
            ]
        }
    )


def _fresh(request: HttpRequest, rows: Any, after: str) -> HttpResponse:
    """Lines above `after`, for `data-feed` (static/js/live.js)."""
    if not after.isascii() or not after.isdigit() or len(after) > 18:
        raise BadInput("after is the seq of an event.")
    events = list(rows.filter(seq__gt=int(after)).order_by("-seq")[: FRESH_MOST + 1])
    context = {"lines": lines_of(events[:FRESH_MOST]), "skipped": len(events) > FRESH_MOST}
    return render(request, "events/_lines.html", context)


def _render(
    request: HttpRequest, actor: Actor, given: dict[str, str], context: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    filters = {key: value for key, value in given.items() if value}
    kept = {key: value for key, value in filters.items() if key != "type"}
    kinds = [
        (value, label, urlencode({**kept, "type": value} if value else kept))
        for value, label in KINDS
        if value != "audit.*" or may(actor, "audit.view")
    ]
    whole: dict[str, Any] = {
        "given": given,
        "filtered": bool(filters),
        "feed": f"{request.path}?{urlencode(filters)}" if filters else request.path,
        "call": f"/events?{urlencode(filters)}" if filters else "/events",
        "kinds": kinds,
        "first_page": not request.GET.get("cursor"),
        "limit": PAGE * 10,
        **context,
    }
    part = is_htmx(request) and not whole["first_page"]
    return render(request, "events/_lines.html" if part else "events/list.html", whole, status=status)
