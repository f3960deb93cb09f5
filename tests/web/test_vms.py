"""Guests over REST: lists that stay flat and stable, one object with its validators, and everything that can be asked of them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.actor import SYSTEM, Actor
from drivers.errors import Unreachable
from drivers.types import GuestState
from hosts.models import Hypervisor
from operations.models import Operation
from tests.factories import HypervisorFactory, VMFactory
from tests.web.fleet import fill
from vms import selectors
from vms.api import VMOut, vms_json
from vms.models import VM, VMDisk, VMNic
from vms.selectors import ORDERINGS, vm_facets, vm_list, vm_page
from vms.services import vm_actions

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.conftest import Api
    from tests.web.conftest import Place


def names(answer: Any) -> list[str]:
    return [item["name"] for item in answer.json()["items"]]


# -- lists ---------------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_a_list_says_its_total_and_goes_on(api: Api) -> None:
    fill(7)
    first = api.get("/vms?limit=3").json()
    second = api.get(f"/vms?limit=3&cursor={first['next']}").json()
    last = api.get(f"/vms?limit=3&cursor={second['next']}").json()
    assert (first["total"], last["next"]) == (7, None)
    listed = [item["name"] for page in (first, second, last) for item in page["items"]]
    assert listed == [f"vm-{n:05d}" for n in range(7)]


@pytest.mark.django_db
@pytest.mark.parametrize("ordering", [*ORDERINGS, *(f"-{name}" for name in ORDERINGS)])
def test_every_ordering_lists_each_guest_once(api: Api, ordering: str) -> None:
    fill(11, hosts=2)
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = api.get(f"/vms?limit=4&ordering={ordering}" + (f"&cursor={cursor}" if cursor else "")).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
    assert len(seen) == len(set(seen)) == 11


@pytest.mark.django_db
def test_filters_take_several_values_and_go_together(api: Api) -> None:
    near = HypervisorFactory(driver="qemu")
    VMFactory(hypervisor=near, name="a", state="running", tags=["prod"], project="shop")
    VMFactory(hypervisor=near, name="b", state="paused", tags=["prod", "db"])
    VMFactory(hypervisor=HypervisorFactory(driver="lxc"), name="c", kind="container", virtualization_type="os_level")
    VMFactory(name="gone", gone_at="2026-01-01T00:00:00Z")
    assert names(api.get("/vms")) == ["a", "b", "c"]
    assert names(api.get("/vms?state=running,paused")) == ["a", "b"]
    assert names(api.get("/vms?tag=db,nothing")) == ["b"]
    assert names(api.get(f"/vms?host={near.host_id}&state=running")) == ["a"]
    assert names(api.get(f"/vms?host=host/{near.host_id}")) == ["a", "b"]
    assert names(api.get(f"/vms?hypervisor={near.pk}&q=-tag:db")) == ["a"]
    assert names(api.get("/vms?driver=lxc&kind=container&virtualization_type=os_level")) == ["c"]
    assert names(api.get("/vms?driver=xen")) == []
    assert names(api.get("/vms?project=shop")) == ["a"]
    assert names(api.get("/vms?owner=nobody")) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/limit"),
        ("limit=501", "/limit"),
        ("limit=x", "/limit"),
        ("ordering=colour", "/ordering"),
        ("cursor=nonsense", "/cursor"),
        ("cursor=WyJuYW1lIixbMV1d", "/cursor"),
        ("state=on", "/state"),
        ("kind=box", "/kind"),
        ("driver=kvm9", "/driver"),
        ("tag=a%20b", "/tag"),
        ("project=%00", "/project"),
        ("q=%00", "/q"),
        ("colour=red", "/colour"),
        ("state=" + "running," * 200, "/state"),
    ],
)
def test_a_bad_query_is_422_and_says_where(api: Api, query: str, pointer: str) -> None:
    answer = api.get(f"/vms?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.django_db
def test_a_tampered_cursor_is_refused_whatever_is_in_it(api: Api) -> None:
    fill(3)
    for ordering in ("name", "created_at", "vcpus", "cpu"):
        cursor = api.get(f"/vms?limit=1&ordering={ordering}").json()["next"]
        for at in range(0, len(cursor), 3):
            bad = cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :]
            assert api.get(f"/vms?limit=1&ordering={ordering}&cursor={bad}").status_code in (200, 422)


@pytest.mark.django_db
@pytest.mark.parametrize("ordering", ["name", "-memory_bytes", "-cpu"])
@pytest.mark.parametrize("q", ["vm-000", "tag:prod state:running", "nothing"])
def test_a_search_answers_the_same_whether_it_finds_few_or_many(
    monkeypatch: pytest.MonkeyPatch, q: str, ordering: str
) -> None:
    fill(40)
    answers = []
    for few in (500, 5):
        monkeypatch.setattr(selectors, "FOUND_FEW", few)
        page = vm_page(SYSTEM, q=q, ordering=ordering, limit=7)
        found = [vm.name for vm in page.items]
        while page.next:
            page = vm_page(SYSTEM, q=q, ordering=ordering, cursor=page.next, limit=7)
            found += [vm.name for vm in page.items]
        answers.append((page.total, found))
        assert len(set(found)) == len(found) == page.total
    assert answers[0] == answers[1]


@pytest.mark.django_db
def test_a_page_costs_the_same_whatever_the_fleet(django_assert_num_queries: Callable[..., Any]) -> None:
    fill(10)
    with django_assert_num_queries(5):  # count, guests, hypervisors with hosts, disks, interfaces
        vms_json(vm_page(SYSTEM, limit=10).items, by=SYSTEM)
    fill_more = VM.objects.count()
    fill(300, hosts=20)
    assert VM.objects.count() == fill_more + 300
    with django_assert_num_queries(5):
        vms_json(vm_page(SYSTEM, limit=300).items, by=SYSTEM)


@pytest.mark.django_db
def test_a_list_by_name_reads_its_index_at_the_cursor() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("SQLite's own words")
    fill(60)
    cursor = vm_page(SYSTEM, limit=10).next
    for at, wanted in ((None, "SCAN vms_vm USING INDEX vm_name"), (cursor, "SEARCH vms_vm USING INDEX vm_name")):
        with CaptureQueriesContext(
            connection,
        ) as captured:
            vm_page(SYSTEM, limit=10, cursor=at)
        (page,) = [
            query["sql"] for query in captured if "ORDER BY" in query["sql"] and '"vms_vm"."gone_at"' in query["sql"]
        ]
        with connection.cursor() as plan:
            plan.execute(f"EXPLAIN QUERY PLAN {page}")
            (row,) = plan.fetchall()
        assert wanted in row[3]


@pytest.mark.django_db
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.sampled_from(["add", "drop"]), st.integers(0, 40)), max_size=12),
    limit=st.integers(1, 5),
    descending=st.booleans(),
)
def test_what_stays_is_listed_once_while_others_come_and_go(
    changes: list[tuple[str, int]], limit: int, descending: bool
) -> None:
    VM.objects.all().delete()
    hypervisor = HypervisorFactory()
    stay = [VMFactory(hypervisor=hypervisor, name=f"n{n:02d}") for n in range(0, 40, 4)]
    others = [VMFactory(hypervisor=hypervisor, name=f"n{n:02d}") for n in range(1, 40, 4)]
    ordering = "-name" if descending else "name"
    seen: list[uuid.UUID] = []
    cursor = None
    steps = iter(changes)
    while True:
        page = vm_page(SYSTEM, ordering=ordering, cursor=cursor, limit=limit)
        seen += [vm.pk for vm in page.items]
        if page.next is None:
            break
        cursor = page.next
        for what, where in [step for step in [next(steps, None)] if step]:
            if what == "add":
                VMFactory(hypervisor=hypervisor, name=f"n{where:02d}x")
            elif others:
                others.pop(where % len(others)).delete()
    assert len(seen) == len(set(seen))
    assert {vm.pk for vm in stay} <= set(seen)


@pytest.mark.django_db
def test_facets_count_what_can_be_filtered_by() -> None:
    fill(8, hosts=1)
    facets = {facet["key"]: facet["values"] for facet in vm_facets(SYSTEM)}
    assert {"value": "prod", "count": 4} in facets["tag"]
    assert {value["value"]: value["count"] for value in facets["state"]} == {"running": 5, "shutoff": 3}
    assert facets["is"]


# -- one -----------------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_a_guest_is_what_the_contract_says(api: Api) -> None:
    vm = VMFactory(state="running", title="t", boot={"firmware": "uefi"}, graphics=[{"type": "vnc", "port": 5900}])
    VMDisk.objects.create(vm=vm, target="vda", bus="virtio", source="/x", size_bytes=5)
    VMNic.objects.create(vm=vm, mac="52:54:00:00:00:01", network="default")
    body = api.get(f"/vms/{vm.pk}").json()
    VMOut.model_validate(body)
    assert set(body) == set(VMOut.model_fields)
    assert body["actions"]["start"] == {
        "allowed": False,
        "reason": f"{vm.name} is already running.",
        "code": "wrong_state",
    }
    assert body["disks"][0]["source"] == "/x"
    assert body["created_at"].endswith("Z")
    assert body["stale"] is False


@pytest.mark.django_db
def test_an_offline_host_makes_its_guests_stale_and_says_why(api: Api) -> None:
    vm = VMFactory(state="running")
    before = api.get(f"/vms/{vm.pk}")["ETag"]
    Hypervisor.objects.update(state="offline")
    answer = api.get(f"/vms/{vm.pk}", If_None_Match=before)
    assert answer.status_code == 200
    assert answer.json()["stale"] is True
    assert "out of reach" in answer.json()["actions"]["shutdown"]["reason"]
    assert api.post(f"/vms/{vm.pk}/actions/shutdown").json()["code"] == "host_unreachable"


@pytest.mark.django_db
def test_what_is_gone_or_was_never_there_is_404(api: Api) -> None:
    gone = VMFactory(gone_at="2026-01-01T00:00:00Z")
    for path in (f"/vms/{gone.pk}", f"/vms/{uuid.uuid4()}", "/vms/not-an-id"):
        answer = api.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.django_db
def test_validators_spare_a_body_and_refuse_a_stale_change(api: Api) -> None:
    vm = VMFactory()
    tag = api.get(f"/vms/{vm.pk}")["ETag"]
    assert api.get(f"/vms/{vm.pk}", If_None_Match=tag).status_code == 304
    changed = api.patch(f"/vms/{vm.pk}", {"title": "one"}, If_Match=tag)
    assert (changed.status_code, changed.json()["title"]) == (200, "one")
    stale = api.patch(f"/vms/{vm.pk}", {"title": "two"}, If_Match=tag)
    assert (stale.status_code, stale.json()["code"]) == (412, "stale")
    assert api.delete(f"/vms/{vm.pk}", If_Match=tag).status_code == 412
    assert api.patch(f"/vms/{vm.pk}", {"title": "three"}, If_Match=f"W/{changed['ETag']}").status_code == 200
    assert api.patch(f"/vms/{vm.pk}", {"title": "four"}, If_Match="*").status_code == 200


@pytest.mark.django_db
def test_a_change_says_what_is_ours_to_say(api: Api, operator: User) -> None:
    vm = VMFactory()
    sent = {"title": "T", "description": "D", "tags": ["B", "a", "b"], "project": "shop", "owner": "olga"}
    body = api.patch(f"/vms/{vm.pk}", sent).json()
    assert body | sent | {"tags": ["b", "a"]} == body
    cleared = api.patch(f"/vms/{vm.pk}", {"owner": None, "project": None, "tags": []}).json()
    assert (cleared["owner"], cleared["project"], cleared["tags"], cleared["title"]) == (None, None, [], "T")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": "x"}, "/name"),
        ({"title": 1}, "/title"),
        ({"title": "x" * 256}, "/title"),
        ({"tags": "prod"}, "/tags"),
        ({"tags": ["a b"]}, "/tags"),
        ({"autostart": "yes"}, "/autostart"),
        ({"owner": "nobody"}, "/owner"),
    ],
)
def test_a_wrong_change_is_422_and_changes_nothing(api: Api, change: dict[str, Any], pointer: str) -> None:
    vm = VMFactory()
    answer = api.patch(f"/vms/{vm.pk}", {"description": "new", **change})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    vm.refresh_from_db()
    assert (vm.version, vm.description) == (1, "")


@pytest.mark.django_db
def test_a_viewer_sees_and_does_not_touch(api: Api, viewer: User, operator: User) -> None:
    vm = VMFactory()
    look = api.of(viewer)
    assert look.get(f"/vms/{vm.pk}").json()["actions"]["start"]["code"] == "permission_denied"
    for answer in (
        look.post(f"/vms/{vm.pk}/actions/start"),
        look.patch(f"/vms/{vm.pk}", {"title": "x"}),
        look.delete(f"/vms/{vm.pk}"),
        look.post("/vms/bulk", {"action": "start", "filter": "x"}),
        look.get(f"/vms/{vm.pk}/screenshot"),
        api.of(operator).get(f"/vms/{vm.pk}/xml"),
        api.of(operator, scope="read").post(f"/vms/{vm.pk}/actions/start"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")


# -- what is done to them ------------------------------------------------------------------------------------------------
def test_start_is_202_at_once_and_ends_running(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    answer = api.post(f"/vms/{vm.pk}/actions/start", X_Request_Id="my-request.1")
    operation = answer.json()
    assert (answer.status_code, answer["Location"]) == (202, f"/api/v1/operations/{operation['id']}")
    assert operation["target"] == {"type": "vm", "id": str(vm.pk), "name": "web"}
    ended = api.get(f"/operations/{operation['id']}?wait=20").json()
    assert (ended["state"], ended["request_id"]) == ("succeeded", "my-request.1")
    assert api.get(f"/vms/{vm.pk}").json()["state"] == "running"


def test_prefer_wait_answers_the_end(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    answer = api.post(f"/vms/{vm.pk}/actions/start", Prefer="respond-async, wait=20")
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    assert answer["Preference-Applied"] == "wait=20"
    place.world.delay(3, verb="suspend")
    late = api.post(f"/vms/{vm.pk}/actions/suspend", Prefer="wait=0")
    assert late.status_code == 202


def test_a_second_start_is_the_first_or_a_conflict(place: Place, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.doorbell.ring", lambda *_a, **_k: None)
    vm = place.guest("web")
    first = api.post(f"/vms/{vm.pk}/actions/start").json()
    assert api.post(f"/vms/{vm.pk}/actions/start").json()["id"] == first["id"]
    refused = api.post(f"/vms/{vm.pk}/actions/start?on_conflict=fail")
    assert (refused.status_code, refused.json()["code"]) == (409, "operation_in_progress")
    assert refused.json()["operation"] == first["id"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("action", "body", "status", "code"),
    [
        ("explode", None, 404, "not_found"),
        ("shutdown", None, 409, "wrong_state"),
        ("start", {"force": True}, 422, "invalid_input"),
        ("autostart", None, 422, "invalid_input"),
        ("autostart", {"enabled": "maybe"}, 422, "invalid_input"),
        ("shutdown", {"timeout_seconds": 0}, 422, "invalid_input"),
        ("start", [], 422, "invalid_input"),
        ("start", "{", 400, "invalid_json"),
    ],
)
def test_an_action_that_cannot_be_is_refused(api: Api, action: str, body: Any, status: int, code: str) -> None:
    vm = VMFactory()
    answer = api.post(f"/vms/{vm.pk}/actions/{action}", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.django_db
def test_an_action_that_the_hypervisor_has_not_names_the_capability(api: Api) -> None:
    capabilities = {"start": {"supported": False, "reason": "No such thing."}}
    vm = VMFactory(hypervisor=HypervisorFactory(capabilities=capabilities))
    problem = api.post(f"/vms/{vm.pk}/actions/start").json()
    assert (problem["status"], problem["code"]) == (422, "unsupported")
    assert (problem["capability"], problem["reason"]) == ("start", "No such thing.")


def test_patching_autostart_waits_for_the_hypervisor(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    answer = api.patch(f"/vms/{vm.pk}", {"autostart": True, "title": "T"})
    assert (answer.status_code, answer.json()["autostart"], answer.json()["title"]) == (200, True, "T")
    place.world.delay(3, verb="set_autostart")
    late = api.patch(f"/vms/{vm.pk}", {"autostart": False}, Prefer="wait=0")
    assert (late.status_code, late.json()["kind"]) == (202, "vm.autostart")


def test_deleting_asks_for_force_and_keeps_the_definition(
    place: Place, api: Api, operator: User, workers: Callable[[], None]
) -> None:
    vm = place.guest("web", state=GuestState.RUNNING)
    assert api.delete(f"/vms/{vm.pk}").json()["code"] == "wrong_state"
    answer = api.delete(f"/vms/{vm.pk}?force=true&bin=false", Prefer="wait=20")
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    assert "<domain" in answer.json()["result"]["definition"]
    assert api.get(f"/vms/{vm.pk}").status_code == 404
    seen = api.of(operator).get(f"/operations/{answer.json()['id']}").json()
    assert seen["result"] == {}


def test_the_definition_comes_by_a_worker_and_stays_nowhere(
    place: Place, api: Api, workers: Callable[[], None]
) -> None:
    vm = place.guest("web")
    answer = api.get(f"/vms/{vm.pk}/xml")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("application/xml")
    assert b"<name>web</name>" in answer.content
    reading = Operation.objects.get(kind="vm.xml")
    assert list(reading.result) == ["size"]
    assert api.get("/operations").json()["total"] == 0
    assert api.get("/events?object=operation/" + str(reading.pk)).json()["total"] == 0


def test_a_definition_that_cannot_be_read_says_why(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    place.world.fail_next(Unreachable("The wire is cut."), times=5, verb="definition")
    answer = api.get(f"/vms/{vm.pk}/xml")
    assert (answer.status_code, answer.json()["code"]) == (503, "host_unreachable")
    Hypervisor.objects.update(state="offline")
    assert api.get(f"/vms/{vm.pk}/xml").status_code == 503


def test_a_look_does_not_wait_for_a_change(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    place.world.hang("start")
    try:
        api.post(f"/vms/{vm.pk}/actions/start")
        assert api.get(f"/vms/{vm.pk}/xml").status_code == 200
    finally:
        place.world.release("start")


@pytest.mark.django_db
def test_a_screenshot_needs_a_screen(api: Api) -> None:
    off = VMFactory(state="shutoff")
    assert api.get(f"/vms/{off.pk}/screenshot").json()["code"] == "wrong_state"
    without = HypervisorFactory(capabilities={"screenshot": {"supported": False, "reason": "No screens."}})
    blind = VMFactory(hypervisor=without, state="running")
    assert api.get(f"/vms/{blind.pk}/screenshot").json()["reason"] == "No screens."


# -- many ----------------------------------------------------------------------------------------------------------------
def test_bulk_has_a_result_for_each(place: Place, api: Api, workers: Callable[[], None]) -> None:
    off = [place.guest(f"off{n}") for n in range(3)]
    on = place.guest("on", state=GuestState.RUNNING)
    ids = [str(vm.pk) for vm in (*off, on)]
    preview = api.post("/vms/bulk", {"action": "start", "ids": ids, "dry_run": True})
    assert (preview.status_code, preview.json()["allowed"], preview.json()["refused"]) == (200, 3, 1)
    assert preview.json()["items"][3]["reason"] == "on is already running."
    answer = api.post("/vms/bulk", {"action": "start", "ids": ids + ids}, Prefer="wait=30")
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    states = [item["state"] for item in answer.json()["result"]["items"]]
    assert states == ["succeeded"] * 3 + ["failed"]
    children = api.get(f"/operations?parent={answer.json()['id']}&state=succeeded").json()
    assert children["total"] == 3
    listed = api.get("/operations?kind=vm.start.bulk").json()["items"][0]
    assert listed["result"] is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"action": "start"}, 422),
        ({"action": "start", "ids": [], "dry_run": True}, 422),
        ({"action": "start", "ids": ["x"]}, 422),
        ({"action": "start", "ids": [str(uuid.uuid4())]}, 404),
        ({"action": "start", "filter": "  "}, 422),
        ({"action": "start", "filter": "a", "ids": [str(uuid.uuid4())]}, 422),
        ({"action": "explode", "filter": "a"}, 422),
        ({"action": "start", "filter": "a", "params": {"x": 1}}, 422),
        ({"action": "start", "ids": ["0" * 36] * 10_001}, 422),
        ({"action": "start", "filter": "nothing like this", "colour": 1}, 422),
    ],
)
def test_a_wrong_bulk_call_is_refused_whole(api: Api, body: dict[str, Any], status: int) -> None:
    assert api.post("/vms/bulk", body).status_code == status
    assert not Operation.objects.exists()


@pytest.mark.django_db
def test_bulk_by_filter_is_the_language_of_q(api: Api) -> None:
    fill(9)
    found = api.post("/vms/bulk", {"action": "start", "filter": "tag:web state:shutoff", "dry_run": True}).json()
    assert found["total"] == vm_list(SYSTEM, q="tag:web state:shutoff").count() > 0


@pytest.mark.django_db
def test_series_are_there_before_anything_was_measured(api: Api) -> None:
    vm = VMFactory()
    body = api.get(f"/vms/{vm.pk}/metrics?series=cpu_ratio&step=60").json()
    assert body["step"] == 60
    assert set(body["series"]) == {"cpu_ratio"}
    assert set(body["series"]["cpu_ratio"]) == {None}
    assert api.get(f"/vms/{vm.pk}/metrics?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z").status_code == 422
    assert api.get(f"/vms/{vm.pk}/metrics?series=colour").status_code == 422


@pytest.mark.django_db
def test_actions_cost_no_query(django_assert_num_queries: Callable[..., Any], viewer: User) -> None:
    fill(5)
    page = vm_page(SYSTEM)
    with django_assert_num_queries(0):
        [vm_actions(vm, by=Actor.of_user(viewer)) for vm in page.items]
