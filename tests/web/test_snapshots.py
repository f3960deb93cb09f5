"""Snapshots over REST and by workers: taken, gone back to, deleted; refused in words; done once whoever dies in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from django.utils import timezone

from accounts.actor import SYSTEM
from drivers.errors import Busy, DriverError, Timeout
from drivers.types import GuestState
from hosts.models import Host, Hypervisor
from operations import engine
from operations.models import Operation
from tests.factories import ALL_SUPPORTED, HypervisorFactory, VMFactory
from tests.waiting import wait_until
from vms.models import VM, Snapshot
from vms.services import vm_action, vm_actions
from vms.snapshots.api import SnapshotOut
from vms.snapshots.services import snapshot_revert, snapshot_take

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.conftest import Api
    from tests.web.conftest import Place

HOSTILE = ["", "a/b", ".x", "1", 'q"', "\n", "<script>", "x" * 81, "\u202e", " a"]


def names(api: Api, vm: VM) -> list[str]:
    answer = api.get(f"/vms/{vm.pk}/snapshots")
    assert answer.status_code == 200, answer.content
    return [item["name"] for item in answer.json()["items"]]


def ended(answer: Any) -> dict[str, Any]:
    assert answer.status_code in (200, 202), answer.content
    return dict(answer.json())


def without(*features: str) -> dict[str, Any]:
    return {**ALL_SUPPORTED, **{name: {"supported": False, "reason": f"No {name} here."} for name in features}}


# -- taken, gone back to, deleted --------------------------------------------------------------------------------------------
def test_a_snapshot_is_taken_gone_back_to_and_deleted(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web", state=GuestState.RUNNING)
    path = f"/vms/{vm.pk}/snapshots"
    place.world.mark("web", "before")
    body = {"name": "before the upgrade", "description": "ticket 7", "memory": True}
    taken = ended(api.post(path, body, Prefer="wait=20"))
    assert (taken["kind"], taken["state"]) == ("vm.snapshot", "succeeded")
    assert taken["result"] == {"snapshot": "before the upgrade", "memory": True}
    place.world.mark("web", "after")
    place.world.outside("web", "force-off")
    listed = api.get(path).json()
    SnapshotOut.model_validate(listed["items"][0])
    assert (listed["total"], listed["next"]) == (1, None)
    assert (
        listed["items"][0] | {"description": "ticket 7", "memory": True, "state": "running", "current": True}
        == (listed["items"][0])
    )
    one = f"{path}/{quote('before the upgrade')}"
    back = ended(api.post(f"{one}/revert", Prefer="wait=20"))
    assert (back["state"], back["result"]) == ("succeeded", {"snapshot": "before the upgrade", "state": "running"})
    assert place.world.marks("web") == {"before"}
    assert api.get(f"/vms/{vm.pk}").json()["state"] == "running"
    assert ended(api.delete(one, Prefer="wait=20"))["state"] == "succeeded"
    assert names(api, vm) == []
    types = [item["type"] for item in api.get(f"/events?object=vm/{vm.pk}&limit=50").json()["items"]]
    for type_ in ("vm.snapshot_created", "vm.snapshot_reverted", "vm.snapshot_deleted"):
        assert type_ in types


def test_what_somebody_else_took_appears_when_asked_for(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    place.world.outside("web", "snapshot-create", name="<b>by hand</b>/1")
    assert names(api, vm) == ["<b>by hand</b>/1"]
    one = f"/vms/{vm.pk}/snapshots/{quote('<b>by hand</b>/1', safe='')}"
    assert ended(api.post(f"{one}/revert", Prefer="wait=20"))["state"] == "succeeded"
    assert ended(api.delete(one, Prefer="wait=20"))["state"] == "succeeded"
    assert not Snapshot.objects.exists()


def test_children_go_along_or_take_the_parent(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    for name in ("one", "two", "three"):
        place.world.outside("web", "snapshot-create", name=name)
    assert names(api, vm) == ["one", "two", "three"]
    assert ended(api.delete(f"/vms/{vm.pk}/snapshots/two", Prefer="wait=20"))["result"]["left"] == 2
    assert Snapshot.objects.get(name="three").parent == "one"
    api.delete(f"/vms/{vm.pk}/snapshots/one?children=true", Prefer="wait=20")
    assert names(api, vm) == []


@pytest.mark.parametrize(
    ("state", "lacks", "memory", "expected"),
    [
        ("running", [], None, True),
        ("running", [], False, False),
        ("paused", [], True, True),
        ("running", ["snapshots.memory"], None, False),
        ("shutoff", [], True, False),
        ("shutoff", ["snapshots.memory", "snapshots.live"], None, False),
    ],
)
def test_memory_is_kept_where_there_is_any_and_it_can_be(
    place: Place, workers: Callable[[], None], state: str, lacks: list[str], memory: bool | None, expected: bool
) -> None:
    vm = place.guest("web", state=GuestState(state))
    Hypervisor.objects.update(capabilities=without(*lacks))
    vm.hypervisor.refresh_from_db()
    operation = snapshot_take(vm=vm, by=SYSTEM, name="s", memory=memory)
    assert engine.wait_ended(operation, timeout_seconds=20).result == {"snapshot": "s", "memory": expected}
    assert Snapshot.objects.get().memory is expected


# -- refused ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("lacks", "memory", "state", "feature"),
    [
        (["snapshots.disk"], None, "shutoff", "snapshots.disk"),
        (["snapshots.live"], False, "running", "snapshots.live"),
        (["snapshots.memory"], True, "running", "snapshots.memory"),
        (["snapshots.memory", "snapshots.live"], None, "paused", "snapshots.live"),
    ],
)
def test_what_the_driver_cannot_is_422_with_its_reason(
    api: Api, lacks: list[str], memory: bool | None, state: str, feature: str
) -> None:
    vm = VMFactory(hypervisor=HypervisorFactory(capabilities=without(*lacks)), state=state)
    answer = api.post(f"/vms/{vm.pk}/snapshots", {"name": "s", "memory": memory})
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["capability"]) == (422, "unsupported", feature)
    assert problem["reason"] == f"No {feature} here."
    if feature == "snapshots.disk":
        assert api.get(f"/vms/{vm.pk}/snapshots").json()["capability"] == feature
        assert vm_actions(vm, by=SYSTEM)["snapshot"]["code"] == "unsupported"


@pytest.mark.django_db
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_422_at_its_field(api: Api, name: str) -> None:
    answer = api.post(f"/vms/{VMFactory().pk}/snapshots", {"name": name})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/name")
    assert not Operation.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": "s", "memory": "yes"}, "/memory"),
        ({"name": "s", "description": "a\x07"}, "/description"),
        ({"name": "s", "description": "x" * 2001}, "/description"),
        ({"name": "s", "quiesce": True}, "/quiesce"),
    ],
)
def test_a_bad_request_is_422_and_says_where(api: Api, body: dict[str, Any], pointer: str) -> None:
    answer = api.post(f"/vms/{VMFactory().pk}/snapshots", body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


@pytest.mark.django_db
def test_a_name_that_is_taken_one_that_is_not_there_and_one_that_cannot(api: Api) -> None:
    vm = VMFactory()
    Snapshot.objects.create(vm=vm, name="over", no_revert="It is an overlay.", no_delete="It stays.")
    path = f"/vms/{vm.pk}/snapshots"
    taken = api.post(path, {"name": "over"})
    assert (taken.status_code, taken.json()["code"]) == (409, "already_exists")
    for answer in (api.post(f"{path}/none/revert"), api.delete(f"{path}/none"), api.delete(f"{path}/%00")):
        assert answer.status_code in (404, 422)
    assert api.post(f"{path}/over/revert").json()["detail"] == "It is an overlay."
    assert (api.delete(f"{path}/over").status_code, api.delete(f"{path}/over").json()["detail"]) == (422, "It stays.")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("state", "values", "said"),
    [
        ("crashed", {}, "runs, is paused or is off"),
        ("running", {"persistent": False}, "transient"),
        ("pmsuspended", {}, "asleep"),
    ],
)
def test_a_guest_of_which_none_can_be_taken_says_why(api: Api, state: str, values: dict[str, Any], said: str) -> None:
    answer = api.post(f"/vms/{VMFactory(state=state, **values).pk}/snapshots", {"name": "s"})
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_state")
    assert said in answer.json()["detail"]


@pytest.mark.django_db
def test_a_host_in_maintenance_lets_no_memory_wake(api: Api) -> None:
    vm = VMFactory()
    Host.objects.update(maintenance=True)
    for name, memory in (("disks", False), ("alive", True)):
        Snapshot.objects.create(vm=vm, name=name, memory=memory)
    assert api.post(f"/vms/{vm.pk}/snapshots/disks/revert").status_code == 202
    Operation.objects.all().delete()
    refused = api.post(f"/vms/{vm.pk}/snapshots/alive/revert")
    assert (refused.status_code, refused.json()["code"]) == (409, "wrong_state")


@pytest.mark.django_db
def test_who_may_look_may_not_touch_and_an_offline_host_shows_what_was_seen_last(api: Api, viewer: User) -> None:
    vm = VMFactory()
    Snapshot.objects.create(vm=vm, name="kept")
    Hypervisor.objects.update(state="offline")
    look = api.of(viewer)
    item = look.get(f"/vms/{vm.pk}/snapshots").json()["items"][0]
    assert (item["name"], item["actions"]["revert"]["code"]) == ("kept", "permission_denied")
    assert api.get(f"/vms/{vm.pk}/snapshots").json()["items"][0]["actions"]["delete"]["code"] == "host_unreachable"
    path = f"/vms/{vm.pk}/snapshots"
    for answer in (look.post(path, {"name": "s"}), look.post(f"{path}/kept/revert"), look.delete(f"{path}/kept")):
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert api.post(path, {"name": "s"}).json()["code"] == "host_unreachable"


@pytest.mark.django_db
def test_the_list_is_paged_ordered_and_searched(api: Api) -> None:
    vm = VMFactory()
    Hypervisor.objects.update(state="offline")
    for number in range(5):
        Snapshot.objects.create(vm=vm, name=f"s{number}", description="odd" if number % 2 else "", created_at=None)
    first = api.get(f"/vms/{vm.pk}/snapshots?limit=3&ordering=-name").json()
    rest = api.get(f"/vms/{vm.pk}/snapshots?limit=3&ordering=-name&cursor={first['next']}").json()
    assert [item["name"] for item in first["items"] + rest["items"]] == ["s4", "s3", "s2", "s1", "s0"]
    assert api.get(f"/vms/{vm.pk}/snapshots?q=odd -s3").json()["total"] == 1
    assert api.get(f"/vms/{vm.pk}/snapshots?ordering=size").status_code == 422


# -- interrupted -----------------------------------------------------------------------------------------------------------------
def interrupt(operation: Operation, *checkpoints: str) -> None:
    """As `reconcile` leaves what a dead worker had claimed."""
    Operation.objects.filter(pk=operation.pk).update(
        state="queued", interrupted=True, attempts=1, checkpoints=list(checkpoints), holds_lock=False
    )
    engine.execute(operation.pk)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker answers: the test is the worker."""
    monkeypatch.setattr("operations.doorbell.ring", lambda *_a, **_k: None)


def test_a_snapshot_that_was_taken_before_the_worker_died_is_done(place: Place, nobody: None) -> None:
    vm = place.guest("web")
    operation = snapshot_take(vm=vm, by=SYSTEM, name="s")
    place.world.outside("web", "snapshot-create", name="s")
    interrupt(operation, "sent")
    operation.refresh_from_db()
    assert operation.state == "succeeded"
    assert place.world.calls["snapshot_create"] == 0


def test_one_that_is_still_being_taken_is_waited_for(place: Place, nobody: None) -> None:
    vm = place.guest("web")
    operation = snapshot_take(vm=vm, by=SYSTEM, name="s")
    place.world.outside("web", "snapshot-create", name="s")
    place.world.outside("web", "snapshot-create", name="later")  # `s` is not the current one
    place.world.fail_next(Busy("busy"), verb="snapshot_create")
    interrupt(operation, "sent")
    operation.refresh_from_db()
    assert operation.state == "queued"
    Operation.objects.update(not_before=None)
    engine.execute(operation.pk)
    operation.refresh_from_db()
    assert (operation.state, operation.error) == ("succeeded", None)
    assert place.world.calls["snapshot_create"] == 2


def test_somebody_elses_of_that_name_is_not_ours(place: Place, nobody: None) -> None:
    vm = place.guest("web")
    operation = snapshot_take(vm=vm, by=SYSTEM, name="s")
    place.world.outside("web", "snapshot-create", name="s")
    interrupt(operation)
    operation.refresh_from_db()
    assert operation.error["code"] == "already_exists"


def test_going_back_is_never_sent_twice(place: Place, nobody: None) -> None:
    vm = place.guest("web")
    place.world.outside("web", "snapshot-create", name="s")
    Snapshot.objects.create(vm=vm, name="s")
    operation = snapshot_revert(vm=vm, by=SYSTEM, name="s")
    interrupt(operation, "sent")
    operation.refresh_from_db()
    assert (operation.state, operation.error["code"]) == ("failed", "interrupted")
    assert place.world.calls["snapshot_revert"] == 0


def test_going_back_that_fails_half_way_shows_what_the_guest_is_now(
    place: Place, api: Api, workers: Callable[[], None]
) -> None:
    vm = place.guest("web", state=GuestState.RUNNING)
    place.world.outside("web", "snapshot-create", name="s")
    assert names(api, vm) == ["s"]
    place.world.fail_next(Timeout("late"), verb="snapshot_revert", times=9)
    place.world.outside("web", "force-off")
    answer = ended(api.post(f"/vms/{vm.pk}/snapshots/s/revert", Prefer="wait=20"))
    assert (answer["state"], answer["error"]["code"], answer["attempts"]) == ("failed", "timeout", 1)
    assert api.get(f"/vms/{vm.pk}").json()["state"] == "shutoff"


def test_a_snapshot_deleted_by_two_is_deleted(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    Snapshot.objects.create(vm=vm, name="gone")
    answer = ended(api.delete(f"/vms/{vm.pk}/snapshots/gone", Prefer="wait=20"))
    assert answer["state"] == "succeeded"
    assert not Snapshot.objects.exists()


@pytest.mark.parametrize("kind", ["vm.snapshot", "vm.managed-save"])
def test_force_off_frees_a_guest_that_hangs_while_its_memory_is_written(
    place: Place, workers: Callable[[], None], kind: str
) -> None:
    vm = place.guest("web", state=GuestState.RUNNING)
    verb = {"vm.snapshot": "snapshot_create", "vm.managed-save": "managed_save"}[kind]
    place.world.hang(verb)
    if kind == "vm.snapshot":
        stuck = snapshot_take(vm=vm, by=SYSTEM, name="s", memory=True)
    else:
        stuck = vm_action(vm=vm, name="managed-save", by=SYSTEM)
    assert place.world.wait_for_calls(verb, 1)
    vm.refresh_from_db()
    freed = engine.wait_ended(vm_action(vm=vm, name="force-off", by=SYSTEM), timeout_seconds=20)
    assert freed.state == "succeeded"
    place.world.fail_next(DriverError("QEMU is gone"), verb=verb)
    place.world.release(verb)
    wait_until(lambda: Operation.objects.get(pk=stuck.pk).state == "cancelled", 10, "the stuck one is over")
    workers()
    stuck.refresh_from_db()
    assert (stuck.state, stuck.holds_lock, stuck.error) == ("cancelled", False, None)
    assert "uperseded" in stuck.message


def test_nonsense_about_snapshots_is_the_hypervisors_fault(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    for lie in (None, [1], {"a": 1}):
        place.world.lie("snapshots", lambda _answer, lie=lie: lie)
        answer = api.get(f"/vms/{vm.pk}/snapshots")
        assert (answer.status_code, answer.json()["code"]) == (502, "hypervisor_error")


@pytest.mark.django_db
def test_a_page_of_snapshots_costs_the_same_however_many(
    api: Api, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    vm = VMFactory()
    Hypervisor.objects.update(state="offline")
    for many in (1, 200):
        Snapshot.objects.bulk_create(
            Snapshot(vm=vm, name=f"{many}-{number}", created_at=timezone.now()) for number in range(many)
        )
        with django_assert_max_num_queries(7):
            assert len(api.get(f"/vms/{vm.pk}/snapshots?limit=500").json()["items"]) >= many
