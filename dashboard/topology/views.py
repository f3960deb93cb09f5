"""The topology picture: the whole fleet host by host, or one object with its neighbours; as a picture or as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.http import JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.access import access
from accounts.actor import actor_of
from core.errors import BadInput, Missing
from dashboard.topology.focus import focus_on
from dashboard.topology.graph import bar, counts_of, only_joined, read
from vms.choices import State

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest, HttpResponse

    from accounts.actor import Actor
    from dashboard.topology.focus import Focus
    from dashboard.topology.graph import Lane

OPEN_MAX: Final = 80
"""With more guests than that hosts are closed at first, and read when they are opened."""
LANE_MAX: Final = 200
"""Guests of one host that are drawn; more are counted, and found by the filter."""
SHARED_MAX: Final = 12
VIEWS: Final = ("picture", "table")


@require_safe
@access("view")
def topology(request: HttpRequest) -> HttpResponse:
    """`?focus=&q=&view=`."""
    by = actor_of(request)
    q, status, error = request.GET.get("q", "").strip(), 200, ""
    view = request.GET.get("view", "")
    focus, lanes = None, []
    try:
        focus = focus_on(request.GET.get("focus", ""), by=by)
        lanes = _lanes(by, focus, q)
    except (BadInput, Missing) as refused:
        status, error = refused.status, refused.detail
    context = {
        "lanes": lanes,
        "focus": focus,
        "q": q,
        "view": view if view in VIEWS else "picture",
        "error": error,
        "guests": sum(lane.total for lane in lanes),
        "shared": [] if focus else _shared(lanes),
        "query": request.GET.urlencode(),
    }
    return render(request, "topology/page.html", context, status=status)


@require_safe
@access("view")
def lane_part(request: HttpRequest, host_id: uuid.UUID) -> HttpResponse:
    """One host, open. `?focus=&q=` as the page's. Raises Missing where it is not there any more."""
    by = actor_of(request)
    focus = focus_on(request.GET.get("focus", ""), by=by)
    lanes = _lanes(by, focus, request.GET.get("q", "").strip(), host=host_id)
    if not lanes:
        raise Missing("There is no such host, or you may not see it.")
    return render(request, "topology/_lane.html", {"lane": lanes[0], "focus": focus, "q": request.GET.get("q", "")})


@require_safe
@access("view")
def counts(request: HttpRequest) -> JsonResponse:
    """How many guests each host has, and how many run, for hosts that are closed: read again when guests changed."""
    by = actor_of(request)
    focus = focus_on(request.GET.get("focus", ""), by=by)
    found = counts_of(by, guests=focus.guests if focus else None, q=request.GET.get("q", "").strip())
    return JsonResponse(
        {
            host: {"total": sum(states.values()), "running": states.get(State.RUNNING, 0), "bar": bar(states)}
            for host, states in found.items()
        }
    )


def _lanes(by: Actor, focus: Focus | None, q: str, *, host: uuid.UUID | None = None) -> list[Lane]:
    """What the page shows; with `host` that one, open."""
    hosts = focus.hosts if focus else None
    if host is not None:
        hosts = frozenset([host]) if hosts is None else hosts & {host}
    alone = hosts is not None and len(hosts) == 1
    lanes = read(
        by,
        hosts=hosts,
        guests=focus.guests if focus else None,
        q=q,
        open_up_to=10**9 if alone else OPEN_MAX,
        guests_max=LANE_MAX if alone else OPEN_MAX,
        found_only=bool(q) and focus is None and host is None,
    )
    if focus and focus.type != "host":
        for lane in lanes:
            if lane.open:
                only_joined(lane, focus.refs)
    return lanes


def _shared(lanes: list[Lane]) -> list[dict[str, Any]]:
    """Storage that several of these hosts see, that of most hosts first."""
    found: dict[str, dict[str, Any]] = {}
    for lane in lanes:
        for place in lane.pools:
            if len(place.twins) > 1:
                found.setdefault(
                    place.twins[0].ref, {"pool": place.twins[0], "hosts": len({one.host_id for one in place.twins})}
                )
    return sorted((one for one in found.values() if one["hosts"] > 1), key=lambda one: -one["hosts"])[:SHARED_MAX]
