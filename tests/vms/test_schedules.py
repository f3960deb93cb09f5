"""Snapshot schedules on a hypervisor in memory, by workers and a clock of the test's own: taken, kept, refused, once."""

from __future__ import annotations

import datetime as dt
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from accounts.actor import SYSTEM
from accounts.choices import Role
from core.threads import database_released
from drivers.types import GuestState
from events.models import Event
from hosts.models import Hypervisor
from operations.models import Operation
from tests.factories import VMFactory
from tests.web.conftest import Place, place, workers
from vms.models import VM, Snapshot
from vms.schedules import runs
from vms.schedules.api import ScheduleOut, SchedulePreview
from vms.schedules.models import ScheduledSnapshot, SnapshotSchedule
from vms.schedules.selectors import preview

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.conftest import Api

__all__ = ["place", "workers"]
pytestmark = pytest.mark.django_db
DAY = dt.timedelta(days=1)
NIGHTLY = {
    "name": "Nightly",
    "filter": "tag:prod",
    "when": {"every": "day", "at": "02:00", "time_zone": "Europe/Berlin"},
    "keep": {"last": 2},
}


def made(api: Api, **values: Any) -> SnapshotSchedule:
    body = {name: value for name, value in {**NIGHTLY, **values}.items() if value is not None}
    answer = api.post("/snapshot-schedules", body)
    assert answer.status_code == 201, answer.content
    return SnapshotSchedule.objects.get(pk=answer.json()["id"])


def tagged(place: Place, *names: str, **options: Any) -> list[VM]:
    vms = [place.guest(name, **options) for name in names]
    VM.objects.filter(pk__in=[vm.pk for vm in vms]).update(tags=["prod"])
    return vms


def names(vm: VM) -> list[str]:
    return list(Snapshot.objects.filter(vm=vm).order_by("name").values_list("name", flat=True))


def turn(schedule: SnapshotSchedule, work: Callable[[], None]) -> dt.datetime:
    """The clock reaches its next turn; the workers do what is asked for, and retention after them."""
    schedule.refresh_from_db()
    assert schedule.next_run_at is not None
    now = schedule.next_run_at
    runs.tick(now)
    work()
    runs.tick(now)
    work()
    schedule.refresh_from_db()
    return now


# -- taken and kept ----------------------------------------------------------------------------------------------------------
def test_a_turn_takes_each_guest_and_keeps_what_it_should(place: Place, api: Api, workers: Callable[[], None]) -> None:
    first, second = tagged(place, "web", "db")
    place.guest("other")
    schedule = made(api)
    at = turn(schedule, workers)
    taken = f"nightly-{at:%Y%m%d-%H%M%S}Z-{schedule.pk.hex[-4:]}"
    assert names(first) == names(second) == [taken]
    assert schedule.ref in Snapshot.objects.filter(vm=first).get().description
    assert schedule.next_run_at == at + DAY
    assert (schedule.last_state, schedule.last_message) == ("succeeded", "2 done")
    place.world.outside("web", "snapshot-create", name="by hand")
    for _ in range(3):
        at = turn(schedule, workers)
    kept = [f"nightly-{moment:%Y%m%d-%H%M%S}Z-{schedule.pk.hex[-4:]}" for moment in (at - DAY, at)]
    assert names(first) == ["by hand", *kept]
    assert names(second) == kept
    parents = Operation.objects.filter(parent=None, target=schedule.ref).order_by("id")
    take, delete = "vm.snapshot.bulk", "vm.snapshot-delete.bulk"
    assert [parent.kind for parent in parents] == [take, take, take, delete, take, delete]
    assert {parent.state for parent in parents} == {"succeeded"}
    assert {parent.requested_by for parent in parents} == {"ada"}


def test_what_is_not_its_own_is_never_deleted(place: Place, api: Api, workers: Callable[[], None]) -> None:
    """Under the name of one of its own, made by somebody else in its place; and those of another schedule, or of one that was deleted."""
    (vm,) = tagged(place, "web")
    schedule = made(api, keep={"last": 1})
    made(api, name="other", keep={"last": 5})
    gone = made(api, name="gone")
    turn(schedule, workers)
    SnapshotSchedule.objects.exclude(pk=schedule.pk).update(enabled=False)
    (first,) = [name for name in names(vm) if name.startswith("nightly")]
    place.world.outside("web", "snapshot-delete", name=first)
    place.world.outside("web", "snapshot-create", name=first, description="mine, keep it")
    assert api.delete(f"/snapshot-schedules/{gone.pk}").status_code == 204
    before = names(vm)
    turn(schedule, workers)
    turn(schedule, workers)
    assert len(before) == 3
    assert set(before) <= set(names(vm))
    assert len(names(vm)) == 4


def test_a_guest_that_was_not_taken_keeps_what_it_has(place: Place, api: Api, workers: Callable[[], None]) -> None:
    """Its only snapshot is not given up for one that there is not."""
    good, bad = tagged(place, "good", "bad", state=GuestState.RUNNING)
    schedule = made(api, keep={"last": 1}, memory=True)
    turn(schedule, workers)
    before = names(bad)
    place.world.outside("bad", "force-off")
    VM.objects.filter(pk=bad.pk).update(state="shutoff")
    turn(schedule, workers)
    assert (names(bad), len(names(good))) == (before, 1)
    assert (schedule.last_state, schedule.last_message) == ("partial", "1 done, 1 failed")
    items = Operation.objects.get(pk=schedule.last_operation).result["items"]
    assert [item["reason"] for item in items if item["state"] == "failed"] == [
        "bad is off: there is no memory to keep, and this schedule takes none without."
    ]


def test_who_cannot_is_listed_with_the_reason_and_fails_nobody_else(
    place: Place, api: Api, workers: Callable[[], None]
) -> None:
    (good,) = tagged(place, "good")
    away, unable = (VMFactory(name=name, tags=["prod"]) for name in ("away", "unable"))
    VMFactory(name="binned", tags=["prod"], binned_at=timezone.now())
    Hypervisor.objects.filter(pk=away.hypervisor_id).update(state="offline")
    no = {"snapshots.disk": {"supported": False, "reason": "Nothing is kept here."}}
    Hypervisor.objects.filter(pk=unable.hypervisor_id).update(capabilities=no)
    schedule = made(api)
    preview = api.get(f"/snapshot-schedules/{schedule.pk}/preview").json()
    SchedulePreview.model_validate(preview)
    assert {one["name"]: one["code"] for one in preview["guests"]} == {
        "away": "host_unreachable", "good": None, "unable": "unsupported"
    }  # fmt: skip
    turn(schedule, workers)
    assert len(names(good)) == 1
    items = Operation.objects.get(pk=schedule.last_operation).result["items"]
    assert {item["name"]: item.get("code") for item in items} == {
        "good": None, "away": "host_unreachable", "unable": "unsupported"
    }  # fmt: skip
    assert schedule.last_state == "partial"


def test_one_guest_in_the_bin_is_said_to_be_there(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    schedule = made(api, filter=None, vm=str(vm.pk))
    VM.objects.filter(pk=vm.pk).update(binned_at=timezone.now())
    turn(schedule, workers)
    assert schedule.last_state == "failed"
    assert "is in the bin" in Operation.objects.get(parent=schedule.last_operation).error["detail"]
    VM.objects.filter(pk=vm.pk).update(gone_at=timezone.now())
    turn(schedule, workers)
    assert (schedule.last_state, schedule.last_message) == ("failed", "Its guest is gone.")


# -- once --------------------------------------------------------------------------------------------------------------------
def test_turns_that_were_missed_are_one(place: Place, api: Api, workers: Callable[[], None]) -> None:
    (vm,) = tagged(place, "web")
    schedule = made(api)
    assert schedule.next_run_at is not None
    late = schedule.next_run_at + 5 * DAY + dt.timedelta(hours=3)
    assert runs.tick(late) == 1
    workers()
    assert [runs.tick(late + dt.timedelta(seconds=15)) for _ in range(3)] == [0, 0, 0]
    assert len(names(vm)) == 1
    schedule.refresh_from_db()
    assert schedule.next_run_at is not None
    assert late < schedule.next_run_at <= late + DAY


@pytest.mark.django_db(transaction=True)
def test_two_that_look_at_once_begin_it_once(place: Place, api: Api, workers: Callable[[], None]) -> None:
    tagged(place, "web")
    schedule = made(api)
    stale = SnapshotSchedule.objects.select_related("owner").get(pk=schedule.pk)
    barrier = threading.Barrier(4)
    begun: list[bool] = []

    def beat() -> None:
        with database_released():
            barrier.wait(10)
            begun.append(runs._take_turn(stale, stale.next_run_at))

    threads = [threading.Thread(target=beat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    workers()
    assert sorted(begun) == [False, False, False, True]
    assert Operation.objects.filter(kind="vm.snapshot.bulk").count() == 1


def test_a_process_that_dies_in_the_middle_leaves_the_turn_to_the_next(
    place: Place, api: Api, workers: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (vm,) = tagged(place, "web")
    schedule = made(api)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_tell", lambda *_args, **_values: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            runs.tick(schedule.next_run_at)  # type: ignore[arg-type]
    assert not Operation.objects.filter(kind="vm.snapshot.bulk").exists()
    turn(schedule, workers)
    assert len(names(vm)) == 1


def test_retention_is_asked_for_once_whoever_settles(place: Place, api: Api, workers: Callable[[], None]) -> None:
    tagged(place, "web")
    schedule = made(api, keep={"last": 1})
    turn(schedule, workers)
    schedule.refresh_from_db()
    runs.tick(schedule.next_run_at)  # type: ignore[arg-type]
    workers()
    for _ in range(3):
        runs.settle(timezone.now())
    workers()
    assert Operation.objects.filter(kind="vm.snapshot-delete").count() == 1


def test_a_turn_under_way_is_not_overtaken(place: Place, api: Api, workers: Callable[[], None]) -> None:
    (vm,) = tagged(place, "web")
    schedule = made(api)
    place.world.hang("snapshot_create")
    assert schedule.next_run_at is not None
    runs.tick(schedule.next_run_at)
    assert place.world.wait_for_calls("snapshot_create", 1)
    assert api.post(f"/snapshot-schedules/{schedule.pk}/run").json()["code"] == "operation_in_progress"
    assert runs.tick(schedule.next_run_at + DAY) == 0
    schedule.refresh_from_db()
    assert schedule.last_state == "running"
    place.world.release("snapshot_create")
    workers()
    runs.settle(timezone.now())
    schedule.refresh_from_db()
    assert (schedule.last_state, len(names(vm))) == ("succeeded", 1)
    assert any("left out" in event.data["message"] for event in Event.objects.filter(type="snapshot_schedule.run"))


def test_what_is_switched_off_has_no_turn(place: Place, api: Api) -> None:
    tagged(place, "web")
    schedule = made(api)
    assert schedule.next_run_at is not None
    off = api.patch(f"/snapshot-schedules/{schedule.pk}", {"enabled": False})
    assert (off.status_code, off.json()["next_run_at"]) == (200, None)
    assert runs.tick(schedule.next_run_at + 9 * DAY) == 0
    on = api.patch(f"/snapshot-schedules/{schedule.pk}", {"enabled": True}).json()
    assert on["next_run_at"] > timezone.now().isoformat()[:19]


# -- in whose name -----------------------------------------------------------------------------------------------------------
def test_it_may_what_its_owner_may_now(
    place: Place, api: Api, operator: User, admin: User, workers: Callable[[], None]
) -> None:
    (vm,) = tagged(place, "web")
    schedule = made(api.of(operator))
    operator.role = Role.VIEWER
    operator.save()
    turn(schedule, workers)
    assert (schedule.last_state, names(vm)) == ("failed", [])
    assert "scope" in schedule.last_message
    assert api.patch(f"/snapshot-schedules/{schedule.pk}", {"memory": False}).json()["owner"] == admin.username
    turn(schedule, workers)
    assert (schedule.last_state, len(names(vm))) == ("succeeded", 1)
    admin.delete()
    turn(schedule, workers)
    assert schedule.last_message.startswith("Nobody owns this schedule any more")


def test_a_viewer_looks_and_does_nothing(api: Api, viewer: User, db: None) -> None:
    mine, schedule = api.of(viewer), made(api)
    path = f"/snapshot-schedules/{schedule.pk}"
    assert [mine.get(one).status_code for one in ("/snapshot-schedules", path, f"{path}/preview")] == [200, 200, 200]
    refused = (
        mine.post("/snapshot-schedules", NIGHTLY),
        mine.patch(path, {"enabled": False}),
        mine.delete(path),
        mine.post(f"{path}/run"),
    )
    assert [answer.status_code for answer in refused] == [403] * 4


# -- REST --------------------------------------------------------------------------------------------------------------------
def test_its_life_over_rest(place: Place, api: Api, workers: Callable[[], None]) -> None:
    (vm,) = tagged(place, "web")
    body = {**NIGHTLY, "when": {"every": "month", "day": 31, "at": "23:59"}, "keep": {"daily": 7, "monthly": 12}}
    new = api.post("/snapshot-schedules", body)
    schedule = new.json()
    ScheduleOut.model_validate(schedule)
    path = f"/snapshot-schedules/{schedule['id']}"
    assert (schedule["when"]["time_zone"], schedule["last_run"], schedule["owner"]) == ("UTC", None, "ada")
    ran = api.post(f"{path}/run", Prefer="wait=20")
    assert (ran.status_code, ran.json()["state"], ran.json()["target"]["type"]) == (
        200,
        "succeeded",
        "snapshot-schedule",
    )
    runs.tick(timezone.now())
    last = api.get(path).json()["last_run"]
    assert (last["state"], last["operation"]) == ("succeeded", ran.json()["id"])
    assert api.get(path).json()["next_run_at"] == schedule["next_run_at"]
    moved = api.patch(path, {"vm": str(vm.pk), "when": {"every": "hours", "hours": 6}}, If_Match=new["ETag"])
    assert (moved.json()["vm_name"], moved.json()["filter"], moved.json()["keep"]["monthly"]) == ("web", None, 12)
    assert api.patch(path, {"name": "x"}, If_Match=new["ETag"]).status_code == 412
    assert api.post("/snapshot-schedules", {**NIGHTLY, "name": "nIGHTLY"}).status_code == 409
    assert api.delete(path).status_code == 204
    assert api.get(path).status_code == 404
    assert len(names(vm)) == 1
    types = [item["type"] for item in api.get("/events?limit=100").json()["items"]]
    assert {
        "audit.schedule_created",
        "audit.schedule_changed",
        "audit.schedule_deleted",
        "snapshot_schedule.run",
    } <= set(types)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": " "}, "/name"),
        ({"name": "a\nb"}, "/name"),
        ({"vm": "018f0000-0000-7000-8000-000000000000"}, ""),
        ({"filter": None}, ""),
        ({"filter": None, "vm": "018f0000-0000-7000-8000-000000000000"}, "/vm"),
        ({"filter": "tga:prod"}, "/filter"),
        ({"filter": "a\0b"}, "/filter"),
        ({"filter": "tag: "}, "/filter"),
        ({"when": {"every": "day", "time_zone": "../../etc/passwd"}}, "/when/time_zone"),
        ({"when": {"every": "day", "at": "24:00"}}, "/when/at"),
        ({"when": {"every": "hours", "hours": 5}}, "/when/hours"),
        ({"when": {"every": "cron"}}, "/when/every"),
        ({"keep": {}}, "/keep"),
        ({"keep": {"last": -1}}, "/keep/last"),
        ({"keep": {"last": 101}}, "/keep/last"),
    ],
)
def test_what_cannot_be_is_refused_with_a_pointer(api: Api, change: dict[str, Any], pointer: str) -> None:
    body = {name: value for name, value in {**NIGHTLY, **change}.items() if value is not None}
    answer = api.post("/snapshot-schedules", body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert not SnapshotSchedule.objects.exists()


def test_the_preview_says_what_goes(place: Place, api: Api, workers: Callable[[], None]) -> None:
    (vm,) = tagged(place, "web")
    schedule = made(api, keep={"last": 2})
    turn(schedule, workers)
    second = turn(schedule, workers)
    found = preview(schedule, by=SYSTEM, now=second)
    assert found.turns == [second + number * DAY for number in range(1, 6)]
    assert [(one.vm_name, one.name) for one in found.doomed] == [("web", names(vm)[0])]
    turn(schedule, workers)
    assert names(vm)[0] == runs.snapshot_name(schedule, second)


def test_lists_cost_the_same_however_many_there_are(api: Api, django_assert_num_queries: Callable[..., Any]) -> None:
    vm = VMFactory(name="web")
    for number in range(30):
        made(api, name=f"s{number:02}", **({"filter": None, "vm": str(vm.pk)} if number % 2 else {}))
    api.get("/snapshot-schedules")
    with django_assert_num_queries(3):  # the token, the page, its count
        page = api.get("/snapshot-schedules?limit=20&ordering=-name").json()
    assert (page["items"][0]["name"], page["total"], page["next"] is not None) == ("s29", 30, True)
    assert api.get("/snapshot-schedules?q=s07").json()["total"] == 1


def test_what_somebody_deleted_is_forgotten(place: Place, api: Api, workers: Callable[[], None]) -> None:
    (vm,) = tagged(place, "web")
    schedule = made(api, keep={"last": 3})
    turn(schedule, workers)
    place.world.outside("web", "snapshot-delete", name=names(vm)[0])
    turn(schedule, workers)
    turn(schedule, workers)
    assert sorted(ScheduledSnapshot.objects.values_list("name", flat=True)) == names(vm)
    assert Event.objects.filter(type="snapshot_schedule.run", object=schedule.ref).count() == 6
