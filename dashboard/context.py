"""What the shell of every page needs: looks from cookies, counts for the navigation. Counted only if a template asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Value
from django.utils.functional import SimpleLazyObject

from accounts.answers import wants_page
from events import log
from hosts.choices import LinkState
from hosts.models import Host, Hypervisor
from images.models import Image
from networks.models import Network
from operations.actions import READING
from operations.choices import OPEN
from operations.models import Operation
from storage.models import StoragePool
from vms.grammar import needs_a_look
from vms.models import PRESENT, VM, SnapshotSchedule, Template

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

THEMES = frozenset({"light", "dark"})
DENSITIES = frozenset({"compact", "roomy"})
"""What the cookies may say; anything else is as good as none, and never reaches the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nav:
    """The counts beside the links of the navigation."""

    guests: int
    stale: int
    attention: int
    hosts: int
    pools: int
    networks: int
    images: int
    templates: int
    schedules: int
    operations: int
    seq: int
    views: tuple[Any, ...] = ()


class SeqMiddleware:
    """Notes how far the event log reached *before* a page reads its data.

    The page follows the log from there. Read afterwards, an event between data and reading would be on neither side.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """One request."""
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_view: object) -> None:
        """After the policy: only pages for people who are signed in ask."""
        if request.method == "GET" and getattr(request, "actor", None) is not None and wants_page(request):
            request.events_seq = log.last_seq()  # type: ignore[attr-defined]


def shell(request: HttpRequest) -> dict[str, Any]:
    """`theme`, `density`, `nav`."""
    theme, density = request.COOKIES.get("theme"), request.COOKIES.get("density")
    return {
        "theme": theme if theme in THEMES else "",
        "density": density if density in DENSITIES else "",
        "nav": SimpleLazyObject(lambda: count(request)) if getattr(request, "actor", None) is not None else None,
    }


def count(request: HttpRequest) -> Nav:
    """Four queries, a fifth where the page did not pass `SeqMiddleware`. Guests are counted out of one index, `vm_fleet`."""
    seq = getattr(request, "events_seq", None)
    away = set(Hypervisor.objects.exclude(state=LinkState.ONLINE).values_list("pk", flat=True))
    present = VM.objects.filter(PRESENT).order_by().values_list("hypervisor")
    guests = list(present.annotate(number=Count("*"), attention=Count("state", filter=needs_a_look())))
    counts = _counts()
    return Nav(
        guests=sum(number for _, number, _ in guests),
        stale=sum(number for hypervisor, number, _ in guests if hypervisor in away),
        attention=sum(attention for *_, attention in guests),
        hosts=counts["hosts"],
        pools=counts["pools"],
        networks=counts["networks"],
        images=counts["images"],
        templates=counts["templates"],
        schedules=counts["schedules"],
        operations=Operation.objects.filter(state__in=OPEN, parent=None).exclude(target__startswith=READING).count(),
        seq=log.last_seq() if seq is None else seq,
    )


def _counts() -> dict[str, int]:
    """Hosts, pools, networks, images, templates and schedules, by one query for all of them: each page asks."""
    things = {
        "hosts": Host.objects.all(),
        "pools": StoragePool.objects.filter(gone_at=None),
        "networks": Network.objects.filter(gone_at=None),
        "images": Image.objects.all(),
        "templates": Template.objects.exclude(current=None),
        "schedules": SnapshotSchedule.objects.all(),
    }
    first, *rest = (
        rows.order_by()
        .annotate(what=Value(what))
        .values("what")
        .annotate(number=Count("*"))
        .values_list("what", "number")
        for what, rows in things.items()
    )
    return dict.fromkeys(things, 0) | dict(first.union(*rest, all=True))
