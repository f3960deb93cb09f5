"""REST: snapshot schedules. Thin: parse, ask the service, make JSON. Runs in a request thread and never touches a hypervisor."""

import datetime as dt
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Query, Router
from pydantic import Field, Strict, StringConstraints, field_validator, model_validator

from accounts.access import access
from accounts.actor import actor_of
from core.rest import Input, Listing, Output, answer, if_match, moment, nothing, page_answer, problems, single
from operations.answers import Started
from operations.api import OperationOut
from vms.schedules import runs, selectors, services
from vms.schedules.keeping import KEEP_MAX
from vms.schedules.models import SnapshotSchedule
from vms.schedules.times import HOURS, zones

router = Router(tags=["snapshot schedules"])

EveryName = Literal["hours", "day", "week", "month"]
WeekdayName = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f]+$")]
Filter = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"\S")]
Number = Annotated[int, Field(ge=0, le=KEEP_MAX)]
Id = Annotated[UUID, Strict(strict=False)]


class WhenIn(Input):
    """When it is due: what does not go with `every` does not count."""

    every: EveryName
    at: Annotated[
        str,
        StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$"),
        Field(description="Wall clock, HH:MM; with `hours` the turn that the others of the day are counted from."),
    ] = "00:00"
    hours: int = Field(1, description=f"One of {', '.join(map(str, HOURS))}.", json_schema_extra={"enum": list(HOURS)})
    weekday: WeekdayName = "monday"
    day: Annotated[int, Field(ge=1, le=31, description="Of the month; of a shorter one its last.")] = 1
    time_zone: Annotated[
        str, StringConstraints(max_length=64), Field(description="IANA's name.", examples=["Europe/Berlin"])
    ] = "UTC"

    @field_validator("hours")
    @classmethod
    def _hours(cls, hours: int) -> int:
        if hours not in HOURS:
            raise ValueError(f"one of {', '.join(map(str, HOURS))}")
        return hours

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, name: str) -> str:
        if name not in zones():
            raise ValueError("no time zone that this machine knows")
        return name


class KeepIn(Input):
    """How many are kept: what one rule keeps is kept."""

    last: Number = Field(0, description="The newest ones.")
    daily: Number = Field(0, description="The newest one of each of the last so many days that have one.")
    weekly: Number = Field(0, description="Likewise of weeks, from Monday on.")
    monthly: Number = Field(0, description="Likewise of months.")

    @model_validator(mode="after")
    def _some(self) -> "KeepIn":
        if not any((self.last, self.daily, self.weekly, self.monthly)):
            raise ValueError("at least one snapshot is kept")
        return self


class ScheduleIn(Input):
    """One to be: of one guest (`vm`), or of those that `filter` finds."""

    name: Name = Field(examples=["nightly"])
    vm: Id | None = None
    filter: Filter | None = Field(None, description="The language of `q` of guests.", examples=["tag:prod"])
    memory: bool | None = Field(
        None,
        description="false: disks only; true: with memory, and guests that are off are left out; null: with memory where "
        "there is any and its hypervisor can.",
    )
    when: WhenIn
    keep: KeepIn
    enabled: bool = True

    @model_validator(mode="after")
    def _one_of_both(self) -> "ScheduleIn":
        if (self.vm is None) == (self.filter is None):
            raise ValueError("either vm or filter")
        return self


class ScheduleChange(Input):
    """What changes; what is left out stays. `when` and `keep` are whole. With `vm` goes `filter`: null, and the other way round."""

    name: Name | None = None
    vm: Id | None = None
    filter: Filter | None = None
    memory: bool | None = None
    when: WhenIn | None = None
    keep: KeepIn | None = None
    enabled: bool | None = None


class WhenOut(Output):
    """When it is due."""

    every: EveryName
    at: str
    hours: int
    weekday: WeekdayName
    day: int
    time_zone: str


class KeepOut(Output):
    """How many are kept."""

    last: int
    daily: int
    weekly: int
    monthly: int


class LastRunOut(Output):
    """What became of the last turn."""

    at: dt.datetime | None
    operation: UUID | None = Field(description="The parent of its snapshots, as long as operations are kept.")
    state: Literal["running", "succeeded", "partial", "failed"]
    message: str


class ScheduleOut(Output):
    """Snapshots that are taken again and again."""

    id: UUID
    name: str
    vm: UUID | None
    vm_name: str | None
    filter: str | None
    memory: bool | None
    when: WhenOut
    keep: KeepOut
    enabled: bool
    owner: str | None = Field(description="In whose name it runs: who saved it last.")
    next_run_at: dt.datetime | None = Field(description="null while it is switched off.")
    last_run: LastRunOut | None
    created_at: dt.datetime
    updated_at: dt.datetime
    version: int


class SchedulePage(Output):
    """A page of schedules."""

    items: list[ScheduleOut]
    total: int
    next: str | None


class ScheduleListing(Listing):
    """The query of the list."""

    ordering: Annotated[str, Field(max_length=50, description=", ".join(selectors.ORDERINGS))] = "name"


class ScheduledGuest(Output):
    """A guest that it takes."""

    vm: UUID
    name: str
    allowed: bool
    reason: str
    code: str | None = None


class ScheduledEnd(Output):
    """A snapshot that goes after the next turn."""

    vm: UUID
    vm_name: str
    snapshot: str
    taken_at: dt.datetime


class SchedulePreview(Output):
    """What it would do."""

    next_runs: list[dt.datetime]
    total: int = Field(description="How many guests it takes now.")
    guests: list[ScheduledGuest] = Field(description=f"The first {selectors.GUESTS_SHOWN}.")
    deletes: list[ScheduledEnd] = Field(description=f"The first {selectors.DELETES_SHOWN}.")


def schedule_json(row: SnapshotSchedule) -> dict[str, Any]:
    """The contract's schedule. No query where guest and owner are selected."""
    last = None
    if row.last_state:
        last = {
            "at": moment(row.last_run_at),
            "operation": str(row.last_operation) if row.last_operation else None,
            "state": row.last_state,
            "message": row.last_message,
        }
    return {
        "id": str(row.pk),
        "name": row.name,
        "vm": str(row.vm_id) if row.vm_id else None,
        "vm_name": row.vm.name if row.vm else None,
        "filter": row.filter or None,
        "memory": row.memory,
        "when": {
            "every": row.every,
            "at": f"{row.at:%H:%M}",
            "hours": row.hours,
            "weekday": row.weekday,
            "day": row.day,
            "time_zone": row.time_zone,
        },
        "keep": {
            "last": row.keep_last,
            "daily": row.keep_daily,
            "weekly": row.keep_weekly,
            "monthly": row.keep_monthly,
        },
        "enabled": row.enabled,
        "owner": row.owner.username if row.owner else None,
        "next_run_at": moment(row.next_run_at),
        "last_run": last,
        "created_at": moment(row.created_at),
        "updated_at": moment(row.updated_at),
        "version": row.version,
    }


def columns(sent: dict[str, Any]) -> dict[str, Any]:
    """What was sent, by column."""
    values = {name: sent[name] for name in ("name", "enabled") if sent.get(name) is not None}
    values |= {"memory": sent["memory"]} if "memory" in sent else {}
    if sent.get("vm") is not None:
        values |= {"vm_id": sent["vm"], "filter": ""}
    if sent.get("filter") is not None:
        values |= {"filter": sent["filter"], **({} if sent.get("vm") else {"vm_id": None})}
    if sent.get("when"):
        values |= {**sent["when"], "at": dt.time.fromisoformat(sent["when"]["at"])}
    if sent.get("keep"):
        values |= {f"keep_{name}": number for name, number in sent["keep"].items()}
    return values


@router.get(
    "/snapshot-schedules",
    response=SchedulePage,
    operation_id="list_snapshot_schedules",
    summary="List snapshot schedules",
)
@access("view")
def schedule_list(request: HttpRequest, listing: Query[ScheduleListing]) -> HttpResponse:
    """By name unless told."""
    page = selectors.schedule_page(
        actor_of(request),
        q=listing.q,
        ordering=listing.ordering or "name",
        cursor=listing.cursor,
        limit=listing.limit,
    )
    return page_answer(page, schedule_json)


@router.post(
    "/snapshot-schedules",
    response={201: ScheduleOut},
    operation_id="create_snapshot_schedule",
    summary="A new snapshot schedule",
)
@access("vm.snapshot")
@problems(409)
def schedule_create(request: HttpRequest, payload: ScheduleIn) -> HttpResponse:
    """It runs in the caller's name, with what he may do then. Its first turn is the next one of its rule."""
    row = services.schedule_create(values=columns(payload.model_dump()), by=actor_of(request))
    return single(request, schedule_json(row), version=row.version, status=201)


@router.get(
    "/snapshot-schedules/{schedule_id}",
    response=ScheduleOut,
    operation_id="get_snapshot_schedule",
    summary="One snapshot schedule",
)
@access("view")
def schedule_one(request: HttpRequest, schedule_id: UUID) -> HttpResponse:
    """With its next turn, and what became of the last."""
    row = selectors.schedule_get(schedule_id, by=actor_of(request))
    return single(request, schedule_json(row), version=row.version)


@router.patch(
    "/snapshot-schedules/{schedule_id}",
    response=ScheduleOut,
    operation_id="change_snapshot_schedule",
    summary="Change a snapshot schedule",
)
@access("vm.snapshot")
@problems(409)
def schedule_change(request: HttpRequest, schedule_id: UUID, payload: ScheduleChange) -> HttpResponse:
    """What is left out stays. From then on it runs in the caller's name."""
    by = actor_of(request)
    row = selectors.schedule_get(schedule_id, by=by)
    version = if_match(request, row.version)
    sent = payload.model_dump(include=payload.model_fields_set)
    row = services.schedule_update(schedule=row, values=columns(sent), by=by, if_version=version)
    return single(request, schedule_json(row), version=row.version)


@router.delete(
    "/snapshot-schedules/{schedule_id}",
    response={204: None},
    operation_id="delete_snapshot_schedule",
    summary="Delete a snapshot schedule",
)
@access("vm.snapshot")
def schedule_delete(request: HttpRequest, schedule_id: UUID) -> HttpResponse:
    """The snapshots that it took stay, and nothing deletes them by itself any more."""
    by = actor_of(request)
    row = selectors.schedule_get(schedule_id, by=by)
    if_match(request, row.version)
    services.schedule_delete(schedule=row, by=by)
    return nothing()


@router.post(
    "/snapshot-schedules/{schedule_id}/run",
    response={202: OperationOut, 200: OperationOut},
    operation_id="run_snapshot_schedule",
    summary="Take its snapshots now",
)
@access("vm.snapshot")
@problems(409)
def schedule_run(request: HttpRequest, schedule_id: UUID) -> HttpResponse:
    """One parent operation with a snapshot of each guest. Its next turn stays when it is. Retention follows as after any turn."""
    by = actor_of(request)
    row = selectors.schedule_get(schedule_id, by=by)
    return Started(request, runs.run_now(row, by=by, now=timezone.now()), by)


@router.get(
    "/snapshot-schedules/{schedule_id}/preview",
    response=SchedulePreview,
    operation_id="preview_snapshot_schedule",
    summary="What it would do",
)
@access("view")
def schedule_preview(request: HttpRequest, schedule_id: UUID) -> HttpResponse:
    """Its next turns, the guests that it takes now, and what goes after its next turn. Nothing is changed."""
    by = actor_of(request)
    row = selectors.schedule_get(schedule_id, by=by)
    found = selectors.preview(row, by=by, now=timezone.now())
    return answer(
        {
            "next_runs": [moment(turn) for turn in found.turns],
            "total": found.total,
            "guests": [
                {
                    "vm": str(vm.pk),
                    "name": vm.name,
                    "allowed": error is None,
                    "reason": error.detail if error else "",
                    "code": error.code if error else None,
                }
                for vm, error in found.guests
            ],
            "deletes": [
                {"vm": str(one.vm), "vm_name": one.vm_name, "snapshot": one.name, "taken_at": moment(one.at)}
                for one in found.doomed
            ],
        }
    )
