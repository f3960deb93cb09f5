"""The order in which guests start with their host: given, kept in the definition, and carried out by workers, through kills."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from accounts.actor import SYSTEM
from drivers.errors import InvalidDefinition
from drivers.fake import FakeDriver
from drivers.types import AddressInfo, GuestInfo, GuestRef, GuestState
from hosts.models import Host, Hypervisor
from operations import engine
from operations.models import Operation
from operations.reconcile import _take_over
from tests.waiting import wait_until
from tests.web.conftest import Place, place, workers
from vms.autostart import actions
from vms.autostart.services import host_came_up
from vms.inventory import vm_gone, vm_observe, vms_addresses
from vms.models import VM

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.conftest import Api

__all__ = ["place", "workers"]
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _up(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that tells when it came up, and waits that are looked at often."""
    monkeypatch.setattr(actions, "CHECK_SECONDS", 0.05)
    if "place" in request.fixturenames:
        request.getfixturevalue("place")
        Host.objects.update(uptime_seconds=900.0, boot_id="a")


def there(place: Place, name: str) -> GuestInfo:
    session = FakeDriver().open(place.world.endpoint)
    try:
        return session.guest(GuestRef(uuid=place.world.uuid_of(name), name=name))
    finally:
        session.close()


def patch(api: Api, vm: VM, **body: Any) -> Any:
    answer = api.patch(f"/vms/{vm.pk}", body, Prefer="wait=20")
    assert answer.status_code == 200, answer.content
    return answer.json()


def ordered(place: Place, *names: str, **values: Any) -> list[VM]:
    """Guests with places 1, 2, 3 …"""
    vms = [place.guest(name) for name in names]
    for number, vm in enumerate(vms, start=1):
        VM.objects.filter(pk=vm.pk).update(autostart_order=number, **values)
    return vms


def came_up(place: Place) -> Operation:
    """Its host has come up, and been looked at."""
    Hypervisor.objects.update(swept_at=timezone.now())
    Host.objects.update(came_up_at=timezone.now() - dt.timedelta(seconds=30))
    operation = host_came_up(place.hypervisor.host_id, now=timezone.now())
    assert operation is not None
    return operation


def started() -> list[str]:
    rows = Operation.objects.filter(kind="vm.start", state="succeeded").order_by("finished_at")
    return list(rows.values_list("target_name", flat=True))


# -- a place -----------------------------------------------------------------------------------------------------------------
def test_a_place_turns_the_hypervisors_own_switch_off(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    assert patch(api, vm, autostart=True)["autostart"] is True
    assert there(place, "web").autostart
    body = patch(api, vm, autostart_order=3, autostart_delay_seconds=20, autostart_wait=True)
    assert [body[name] for name in ("autostart", "autostart_order", "autostart_delay_seconds", "autostart_wait")] == [
        True, 3, 20, True
    ]  # fmt: skip
    info = there(place, "web")
    assert not info.autostart
    assert {name: info.metadata[name] for name in info.metadata if name.startswith("autostart")} == {
        "autostart_order": "3", "autostart_delay": "20", "autostart_wait": "yes"
    }  # fmt: skip
    assert api.get("/vms?q=is:autostart").json()["total"] == 1
    assert patch(api, vm, autostart_delay_seconds=5)["autostart_order"] == 3
    assert patch(api, vm, autostart_order=None)["autostart"] is True
    assert there(place, "web").autostart
    patch(api, vm, autostart_order=1)
    body = patch(api, vm, autostart=False)
    assert (body["autostart"], body["autostart_order"], body["autostart_delay_seconds"]) == (False, None, 0)
    assert not there(place, "web").autostart
    assert "autostart_order" not in there(place, "web").metadata


def test_the_switch_as_an_action_takes_the_place_away(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    patch(api, vm, autostart_order=1)
    api.post(f"/vms/{vm.pk}/actions/autostart", {"enabled": True}, Prefer="wait=20")
    vm.refresh_from_db()
    assert (vm.autostart, vm.autostart_order) == (True, None)


def test_a_place_outlives_our_database(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    patch(api, vm, autostart_order=7, autostart_delay_seconds=9)
    info = there(place, "web")
    VM.objects.all().delete()
    row = vm_observe(place.hypervisor, info)
    assert (row.autostart_order, row.autostart_delay_seconds, row.autostart_wait) == (7, 9, False)
    vm_gone(place.hypervisor, row.uuid)


@pytest.mark.parametrize("said", ["", "-1", "1001", "x", "1e3", "9" * 400, "\u0663"])
def test_what_is_no_place_in_a_definition_is_none(place: Place, said: str) -> None:
    info = place.world.add("web")
    row = vm_observe(
        place.hypervisor, GuestInfo(uuid=info.uuid, name="web", state=info.state, metadata={"autostart_order": said})
    )
    assert row.autostart_order is None


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"autostart_order": 1001}, "/autostart_order"),
        ({"autostart_order": -1}, "/autostart_order"),
        ({"autostart_order": 1, "autostart_delay_seconds": 3601}, "/autostart_delay_seconds"),
        ({"autostart": False, "autostart_order": 1}, "/autostart_order"),
        ({"autostart_delay_seconds": 5}, "/autostart_delay_seconds"),
    ],
)
def test_what_cannot_be_is_refused_with_a_pointer(place: Place, api: Api, body: dict[str, Any], pointer: str) -> None:
    answer = api.patch(f"/vms/{place.guest('web').pk}", body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


def test_a_host_that_does_not_tell_when_it_came_up_has_no_order(place: Place, api: Api) -> None:
    Host.objects.update(uptime_seconds=None)
    answer = api.patch(f"/vms/{place.guest('web').pk}", {"autostart_order": 1})
    assert (answer.status_code, answer.json()["code"]) == (422, "unsupported")
    assert "does not tell when it came up" in answer.json()["detail"]


def test_the_order_of_a_host_is_set_at_once(place: Place, api: Api, viewer: User, workers: Callable[[], None]) -> None:
    a, b, c = ordered(place, "a", "b", "c", autostart_delay_seconds=4)
    path = f"/hosts/{place.hypervisor.host_id}/autostart"
    assert [one["name"] for one in api.get(path).json()["items"]] == ["a", "b", "c"]
    moved = api.put(path, {"vms": [str(vm.pk) for vm in (c, a, b)]}, Prefer="wait=20")
    assert (moved.json()["kind"], moved.json()["state"]) == ("vm.autostart-order.bulk", "succeeded")
    items = api.get(path).json()["items"]
    assert [(one["name"], one["order"], one["delay_seconds"]) for one in items] == [
        ("c", 10, 4),
        ("a", 20, 4),
        ("b", 30, 4),
    ]
    assert api.put(path, {"vms": [str(a.pk)]}).status_code == 422
    assert api.put(path, {"vms": [str(vm.pk) for vm in (a, b, b)]}).status_code == 422
    assert api.of(viewer).put(path, {"vms": []}).status_code == 403


# -- when the host came up ---------------------------------------------------------------------------------------------------
def test_guests_start_one_after_the_other_with_their_delays(place: Place, workers: Callable[[], None]) -> None:
    ordered(place, "c", "a", "b", autostart_delay_seconds=1)
    place.guest("unordered")
    begun = timezone.now()
    ended = engine.wait_ended(came_up(place), timeout_seconds=30)
    assert ended.state == "succeeded", ended.error
    assert started() == ["c", "a", "b"]
    children = list(Operation.objects.filter(parent=ended.pk).order_by("created_at"))
    assert [child.kind for child in children] == ["vm.start"] * 3
    gaps = [(later.created_at - one.finished_at).total_seconds() for one, later in itertools.pairwise(children)]
    assert all(gap >= 1 for gap in gaps)
    assert (timezone.now() - begun).total_seconds() < 20
    assert there(place, "unordered").state == GuestState.SHUTOFF
    assert [item["state"] for item in ended.result["items"]] == ["succeeded"] * 3


def test_who_cannot_is_named_and_the_others_go_on(place: Place, workers: Callable[[], None]) -> None:
    ordered(place, "a", "b", "c")
    place.world.outside("c", "start")
    vm_observe(place.hypervisor, place.world.info(GuestRef(uuid="", name="c")))
    place.world.fail_next(InvalidDefinition("no such bridge"), verb="start")
    ended = engine.wait_ended(came_up(place), timeout_seconds=30)
    assert ended.state == "succeeded"
    assert [(item["name"], item["state"]) for item in ended.result["items"]] == [
        ("a", "failed"), ("b", "succeeded"), ("c", "succeeded")
    ]  # fmt: skip
    assert "no such bridge" in ended.result["items"][0]["reason"]
    assert started() == ["b"]


def test_the_next_waits_until_there_is_an_address(place: Place, workers: Callable[[], None]) -> None:
    db, _web = ordered(place, "db", "web")
    VM.objects.filter(pk=db.pk).update(autostart_wait=True)
    operation = came_up(place)
    wait_until(lambda: started() == ["db"], 10, "the first runs")
    assert not Operation.objects.filter(kind="vm.start", target_name="web").exists()
    vms_addresses(place.hypervisor, {db.uuid: {"lease": [AddressInfo(address="10.0.0.2")]}})
    assert engine.wait_ended(operation, timeout_seconds=20).state == "succeeded"
    assert started() == ["db", "web"]


def test_rows_of_before_the_boot_are_not_believed(place: Place, workers: Callable[[], None]) -> None:
    """Another hypervisor of the host is slower: its guests seem to run until it is looked at again."""
    (vm,) = ordered(place, "web")
    VM.objects.filter(pk=vm.pk).update(state="running")
    Hypervisor.objects.update(swept_at=timezone.now() - dt.timedelta(days=1))
    Host.objects.update(came_up_at=timezone.now() - dt.timedelta(seconds=30))
    operation = host_came_up(place.hypervisor.host_id, now=timezone.now())
    assert operation is not None
    wait_until(lambda: Operation.objects.get(pk=operation.pk).message.startswith("web"), 10, "it waits")
    vm_observe(place.hypervisor, place.world.info(vm.guest_ref))
    Hypervisor.objects.update(swept_at=timezone.now())
    assert engine.wait_ended(operation, timeout_seconds=20).state == "succeeded"
    assert started() == ["web"]


def test_after_a_kill_it_goes_on_where_it_was_and_starts_nobody_twice(
    place: Place, workers: Callable[[], None]
) -> None:
    first, _second = ordered(place, "a", "b", autostart_delay_seconds=2)
    operation = came_up(place)
    wait_until(
        lambda: f"started {first.pk}" in Operation.objects.get(pk=operation.pk).checkpoints, 10, "the first runs"
    )
    place.world.outside("a", "force-off")
    vm_observe(place.hypervisor, place.world.info(first.guest_ref))
    _take_over(Operation.objects.filter(pk=operation.pk))
    ended = engine.wait_ended(operation, timeout_seconds=30)
    assert (ended.state, ended.attempts) == ("succeeded", 2)
    assert started() == ["a", "b"]
    assert there(place, "a").state == GuestState.SHUTOFF


def test_too_late_is_not_at_all(place: Place, workers: Callable[[], None]) -> None:
    """A worker that comes back hours later."""
    ordered(place, "a")
    params = actions.CameUpParams(came_up_at=timezone.now() - dt.timedelta(hours=3))
    host = Host.objects.get(pk=place.hypervisor.host_id)
    operation = engine.submit(actions.StartInOrder, target=host, by=SYSTEM, params=params)
    ended = engine.wait_ended(operation, timeout_seconds=20)
    assert (ended.state, started()) == ("failed", [])
    assert "up for too long" in ended.error["detail"]


def test_maintenance_stops_what_is_not_started_yet(place: Place, workers: Callable[[], None]) -> None:
    ordered(place, "a", "b", autostart_delay_seconds=1)
    operation = came_up(place)
    wait_until(lambda: started() == ["a"], 10, "the first runs")
    Host.objects.update(maintenance=True)
    ended = engine.wait_ended(operation, timeout_seconds=20)
    assert [(item["name"], item["state"]) for item in ended.result["items"]] == [("a", "succeeded"), ("b", "failed")]
    assert "in maintenance" in ended.result["items"][1]["reason"]


def test_it_can_be_called_back(place: Place, workers: Callable[[], None]) -> None:
    ordered(place, "a", "b", autostart_delay_seconds=60)
    operation = came_up(place)
    wait_until(lambda: started() == ["a"], 10, "the first runs")
    engine.cancel(operation, by=SYSTEM)
    assert engine.wait_ended(operation, timeout_seconds=10).state == "cancelled"
    assert started() == ["a"]


# -- pages -------------------------------------------------------------------------------------------------------------------
def test_pages_say_the_place_and_let_it_be_changed(
    place: Place,
    admin: User,
    viewer: User,
    client_for: Callable[..., Any],
    django_assert_num_queries: Callable[..., Any],
) -> None:
    vms = ordered(place, "db", "<web>", autostart_delay_seconds=20)
    host = place.hypervisor.host_id
    guest = " ".join(client_for(admin).get(f"/vms/{vms[0].pk}").content.decode().split())
    assert "In order, at place 1</a> the next one 20 s later" in guest
    assert 'name="autostart_order" type="number" min="0" max="1000" value="1"' in guest
    browser = client_for(admin)
    with django_assert_num_queries(5):  # session, user, the log, the host, its guests
        text = browser.get(f"/hosts/{host}/starts").content.decode()
    assert text.index("db</a>") < text.index("&lt;web&gt;</a>")
    assert text.count("data-start-move") == 4
    assert "data-start-move" not in client_for(viewer).get(f"/hosts/{host}/starts").content.decode()
    VM.objects.update(autostart_order=None)
    assert not browser.get(f"/hosts/{host}/starts").content.strip()
