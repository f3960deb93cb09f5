"""Pages over several nouns: the overview, and the counts of the navigation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.access import access
from accounts.policy import may
from dashboard import selectors
from dashboard.context import count
from dashboard.palette import palette
from events.selectors import event_list
from live.lines import lines_of
from live.sight import visible_events
from operations.views import tray_items

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from accounts.actor import Actor

FEED = "vm.*,host.*"
FEED_LINES = 10


@require_safe
@access("view")
def overview(request: HttpRequest) -> HttpResponse:
    """Is all well, and what needs me?"""
    by: Actor = request.actor  # type: ignore[attr-defined]
    return render(
        request,
        "dashboard/overview.html",
        {
            **selectors.totals(by),
            "fleet": selectors.fleet(by),
            "attention": selectors.attention(by),
            "capacity": selectors.capacity(by),
            "lines": lines_of(visible_events(by, event_list(types=FEED)).order_by("-seq")[:FEED_LINES]),
            "feed": f"/events?type={FEED}",
            "tray": tray_items(by),
            "may_manage": may(by, "host.manage"),
        },
    )


@require_safe
@access("view")
def fleet_part(request: HttpRequest) -> HttpResponse:
    """The map alone, when hypervisors came, went or changed their state."""
    by: Actor = request.actor  # type: ignore[attr-defined]
    return render(request, "dashboard/_fleet.html", {"fleet": selectors.fleet(by)})


@require_safe
@access("view")
def attention_part(request: HttpRequest) -> HttpResponse:
    """The attention list alone."""
    by: Actor = request.actor  # type: ignore[attr-defined]
    return render(request, "dashboard/_attention.html", {"attention": selectors.attention(by)})


@require_safe
@access("view")
def capacity_part(request: HttpRequest) -> HttpResponse:
    """The capacity bars alone."""
    by: Actor = request.actor  # type: ignore[attr-defined]
    return render(request, "dashboard/_capacity.html", {"capacity": selectors.capacity(by)})


@require_safe
@access("view")
def nav_counts(request: HttpRequest) -> HttpResponse:
    """The numbers beside the links of the navigation, read again when something changed (static/js/live.js)."""
    nav = count(request)
    names = (
        "guests",
        "hosts",
        "pools",
        "networks",
        "images",
        "templates",
        "schedules",
        "operations",
        "attention",
        "stale",
    )
    return JsonResponse({name: getattr(nav, name) for name in names})


@require_safe
@access("view")
def palette_items(request: HttpRequest) -> HttpResponse:
    """What Ctrl K finds (static/js/palette.js). `?q=` matters only where there are too many guests to send them all."""
    by: Actor = request.actor  # type: ignore[attr-defined]
    return JsonResponse(palette(by, request.GET.get("q", "").strip()[:200]))
