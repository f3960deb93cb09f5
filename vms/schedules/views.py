"""Pages of snapshot schedules: all of them, one as a form with what it would do. They only read; REST changes."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe
from pydantic import ValidationError

from accounts.access import access
from accounts.actor import actor_of
from accounts.policy import may, visible
from core.errors import BadInput, VmmError
from core.paging import Page
from vms.grammar import uuid_of
from vms.models import VM
from vms.schedules import services
from vms.schedules.api import ScheduleIn, columns
from vms.schedules.models import EveryChoice, SnapshotSchedule
from vms.schedules.selectors import Preview, last_operations, preview, schedule_get, schedule_page
from vms.schedules.times import HOURS, zones
from vms.schedules.words import WEEKDAYS, moment_words, shown

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest, HttpResponse

    from accounts.actor import Actor

PAGE: Final = 100
SPEC_MAX: Final = 8000
GUESTS_LISTED: Final = 30
"""Names in the preview; the others are counted."""


@require_safe
@access("view")
def schedules(request: HttpRequest) -> HttpResponse:
    """`?q=&ordering=&cursor=`."""
    context = _listed(request)
    return render(request, "schedules/list.html", context, status=context.pop("status"))


@require_safe
@access("view")
def schedules_table(request: HttpRequest) -> HttpResponse:
    """The table alone, when a schedule changed or had its turn."""
    context = _listed(request)
    return render(request, "schedules/_table.html", context, status=context.pop("status"))


def _listed(request: HttpRequest) -> dict[str, Any]:
    by = actor_of(request)
    q = request.GET.get("q", "").strip()
    ordering = request.GET.get("ordering") or "name"
    context: dict[str, Any] = {"q": q, "order": ordering, "status": 200, "may_edit": may(by, services.VERB)}
    try:
        page = schedule_page(by, q=q, ordering=ordering, cursor=request.GET.get("cursor") or None, limit=PAGE)
    except BadInput as error:
        page = Page(items=[], total=0, next=None)
        context |= {"error": error.detail, "status": error.status}
    return context | {"page": page, "items": _rows(page.items), "query": request.GET.urlencode()}


def _rows(found: list[SnapshotSchedule]) -> list[dict[str, Any]]:
    """As a table shows them. One query: the operations of their last turns, as long as those are kept."""
    parents = last_operations(found)
    return [{**shown(row), "operation": parents.get(row.last_operation)} for row in found]  # type: ignore[arg-type]


@require_safe
@access("vm.snapshot")
def schedule_new(request: HttpRequest) -> HttpResponse:
    """The form of a new one. `?vm=<id>` or `?filter=` say of whom."""
    by = actor_of(request)
    vm = _guest(request.GET.get("vm", ""), by)
    draft = SnapshotSchedule(
        name=vm.name[:40] if vm else "",
        vm=vm,
        filter="" if vm else request.GET.get("filter", "")[:2000],
        every="day",
        at=dt.time(2),
        time_zone="",
        keep_daily=7,
        keep_weekly=4,
    )
    return render(request, "schedules/new.html", _form(draft))


def _guest(text: str, by: Actor) -> VM | None:
    known = uuid_of(text)
    return visible(by, VM.objects.filter(pk=known, gone_at=None)).first() if known else None


@require_safe
@access("view")
def schedule_detail(request: HttpRequest, schedule_id: uuid.UUID) -> HttpResponse:
    """One: how it stands, what it would do, and the form."""
    by = actor_of(request)
    row = schedule_get(schedule_id, by=by)
    context = {**_form(row), **_stand(row), "may_edit": may(by, services.VERB)}
    return render(request, "schedules/detail.html", context | _foreseen(row, by))


@require_safe
@access("view")
def schedule_head(request: HttpRequest, schedule_id: uuid.UUID) -> HttpResponse:
    """The living part of the same page."""
    by = actor_of(request)
    row = schedule_get(schedule_id, by=by)
    return render(request, "schedules/_head.html", {**_stand(row), "may_edit": may(by, services.VERB)})


@require_safe
@access("vm.snapshot")
def schedule_preview(request: HttpRequest) -> HttpResponse:
    """`?spec=<JSON as REST takes it>&of=<id>`: what the form's schedule would do, as the form stands. Nothing is saved."""
    by = actor_of(request)
    known = uuid_of(request.GET.get("of", ""))
    try:
        of = schedule_get(known, by=by) if known else None
        spec = ScheduleIn.model_validate_json(request.GET.get("spec", "")[:SPEC_MAX] or "{}")
        draft = services.schedule_draft(values=columns(spec.model_dump()), by=by, of=of)
        context = _foreseen(draft, by)
    except ValidationError as error:
        context = {"wrong": _said(error)}
    except VmmError as error:
        context = {"wrong": error.detail}
    return render(request, "schedules/_preview.html", context)


def _said(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if where in ("name", "") and first["type"] in ("string_too_short", "missing", "json_invalid"):
        return _("Give it a name.")
    return f"{where}: {first['msg'].removeprefix('Value error, ')}".removeprefix(": ")


def _foreseen(schedule: SnapshotSchedule, by: Actor) -> dict[str, Any]:
    try:
        found: Preview = preview(schedule, by=by, now=timezone.now())
    except VmmError as error:
        return {"wrong": error.detail}
    return {
        "turns": [moment_words(schedule, turn) for turn in found.turns],
        "zone": schedule.time_zone,
        "preview": found,
        "able": [vm for vm, error in found.guests if error is None][:GUESTS_LISTED],
        "unable": [(vm, error) for vm, error in found.guests if error is not None][:GUESTS_LISTED],
        "more": max(0, found.able - GUESTS_LISTED),
        "doomed": [(one, moment_words(schedule, one.at)) for one in found.doomed[:GUESTS_LISTED]],
    }


def _stand(row: SnapshotSchedule) -> dict[str, Any]:
    return {**_rows([row])[0], "schedule": row}


def _form(schedule: SnapshotSchedule) -> dict[str, Any]:
    return {
        "schedule": schedule,
        "every": EveryChoice.choices,
        "hours": HOURS,
        "weekdays": list(WEEKDAYS.items()),
        "zones": zones(),
        "memory_choices": [
            ("null", _("Disks, and memory where there is any"), schedule.memory is None),
            ("false", _("Disks only"), schedule.memory is False),
            ("true", _("With memory; guests that are off are left out"), schedule.memory is True),
        ],
        "keeps": [
            ("last", _("Last"), schedule.keep_last, _("the newest, whenever taken")),
            ("daily", _("Daily"), schedule.keep_daily, _("the last of each day")),
            ("weekly", _("Weekly"), schedule.keep_weekly, _("the last of each week")),
            ("monthly", _("Monthly"), schedule.keep_monthly, _("the last of each month")),
        ],
    }
