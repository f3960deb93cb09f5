"""Definitions over REST: checked with lines, changed only if nobody else was there, each kept with who and why, brought back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError

from accounts.actor import Actor
from drivers.errors import Unreachable
from drivers.types import GuestRef, GuestState
from events.models import Event
from live.reader import entries_after
from operations import engine
from operations.context import RunContext
from operations.models import Operation
from tests.factories import VMFactory
from tests.waiting import wait_until
from vms.definitions.actions import DefineVM
from vms.definitions.history import digest_of
from vms.inventory import vm_observe
from vms.models import VM, Revision

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.conftest import Api
    from tests.web.conftest import Place


def put(api: Api, vm: VM, xml: str | bytes, query: str = "", media: str = "application/xml", **headers: str) -> Any:
    sent = {"Authorization": f"Bearer {api.secret}"} | {name.replace("_", "-"): text for name, text in headers.items()}
    return api.client.generic("PUT", f"/api/v1/vms/{vm.pk}/xml{query}", xml, content_type=media, headers=sent)


def read(api: Api, vm: VM) -> tuple[str, str]:
    answer = api.get(f"/vms/{vm.pk}/xml")
    assert answer.status_code == 200
    return answer.content.decode(), answer["ETag"]


def titled(xml: str, title: str) -> str:
    return xml.replace("</name>", f"</name><title>{title}</title>", 1)


def outside(place: Place, vm: VM, xml: str) -> None:
    """Somebody else defines it, and the watcher sees that."""
    vm_observe(place.hypervisor, place.world.define(xml))


def there(place: Place, vm: VM) -> str:
    return place.world.definition(GuestRef(uuid=vm.uuid))


def told() -> list[Event]:
    return list(Event.objects.filter(type="vm.definition_changed").order_by("seq"))


def saved(api: Api, vm: VM, xml: str, query: str = "", **headers: str) -> dict[str, Any]:
    answer = put(api, vm, xml, query, Prefer="wait=20", **headers)
    assert answer.status_code == 200, answer.content
    assert answer.json()["state"] == "succeeded", answer.json()
    return answer.json()


# -- reading ---------------------------------------------------------------------------------------------------------------
def test_a_definition_has_a_tag_of_its_own(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    xml, tag = read(api, vm)
    assert tag == f'"{digest_of(xml)}"'
    assert api.get(f"/vms/{vm.pk}/xml", If_None_Match=tag).status_code == 304
    assert api.get(f"/vms/{vm.pk}/xml", If_None_Match='"other"').status_code == 200


# -- changing --------------------------------------------------------------------------------------------------------------
def test_a_change_is_defined_and_kept_with_who_and_why(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    xml, tag = read(api, vm)
    operation = saved(api, vm, titled(xml, "Door"), "?comment=for%20the%20sign", If_Match=tag)
    assert "<title>Door</title>" in there(place, vm)
    assert operation["kind"] == "vm.define"
    assert operation["params"] == {
        "base": tag.strip('"'),
        "comment": "for the sign",
        "restored": None,
        "xml": "<hidden>",
    }
    assert operation["result"] == {"revision": 2, "changed": True, "takes_effect": "now"}
    second, first = api.get(f"/vms/{vm.pk}/revisions").json()["items"]
    assert (first["number"], first["source"], first["actor"]) == (1, "first_sight", None)
    assert (second["source"], second["actor"], second["comment"]) == ("ours", "ada", "for the sign")
    assert (second["operation"], second["etag"]) == (operation["id"], read(api, vm)[1])
    (event,) = told()
    assert (event.actor, str(event.operation), event.data["source"]) == ("ada", operation["id"], "ours")
    assert "<title>Door</title>" in event.data["diff"]
    assert VM.objects.get().title == "Door"


def test_what_is_the_same_makes_no_revision(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    xml, _tag = read(api, vm)
    assert saved(api, vm, xml)["result"] == {"revision": 1, "changed": False, "takes_effect": "now"}
    assert (Revision.objects.count(), told()) == (1, [])


@pytest.mark.parametrize(("state", "effect"), [(GuestState.SHUTOFF, "now"), (GuestState.RUNNING, "next_start")])
def test_a_dry_run_says_what_would_be_and_does_nothing(
    place: Place, api: Api, workers: Callable[[], None], state: GuestState, effect: str
) -> None:
    vm = place.guest("web", state=state)
    xml, tag = read(api, vm)
    found = put(api, vm, xml.replace("<vcpu>1<", "<vcpu>4<"), "?dry_run=true").json()
    assert (found["valid"], found["problems"], found["takes_effect"], found["etag"]) == (True, [], effect, tag)
    assert (found["added"], found["removed"]) == (1, 1)
    assert found["diff"].startswith("@@ -1 +1 @@ domain")
    assert (there(place, vm), Revision.objects.count()) == (xml, 0)
    assert not Operation.objects.filter(kind="vm.define").exists()


def test_faults_are_said_with_their_lines_and_nothing_is_done(
    place: Place, api: Api, workers: Callable[[], None]
) -> None:
    vm = place.guest("web")
    xml, _tag = read(api, vm)
    answer = put(api, vm, f"\n\n{xml}</extra>")
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_definition")
    assert problem["errors"][0]["line"] == 3
    assert problem["detail"].startswith("Line 3: ")
    dry = put(api, vm, f"\n\n{xml}</extra>", "?dry_run=true").json()
    assert (dry["valid"], dry["problems"][0]["line"], dry["problems"][0]["fatal"]) == (False, 3, True)
    assert not Operation.objects.filter(kind="vm.define").exists()


@pytest.mark.parametrize(("old", "new"), [("<name>web<", "<name>db<"), ("<uuid>", "<uuid>0")])
def test_name_and_uuid_stay(place: Place, api: Api, workers: Callable[[], None], old: str, new: str) -> None:
    vm = place.guest("web")
    xml, _tag = read(api, vm)
    wrong = xml.replace(old, new) if "0" not in new else xml.replace(vm.uuid, "00000000-0000-0000-0000-000000000001")
    problem = put(api, vm, wrong).json()
    assert (problem["status"], problem["code"]) == (422, "invalid_definition")
    assert problem["errors"][0]["pointer"] in ("/domain/name", "/domain/uuid")
    assert there(place, vm) == xml


def test_what_changed_beneath_is_412_with_the_difference(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    xml, tag = read(api, vm)
    saved(api, vm, xml.replace("<vcpu>1<", "<vcpu>3<"))
    answer = put(api, vm, titled(xml, "Door"), If_Match=tag)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (412, "stale")
    assert "<vcpu>3</vcpu>" in problem["context"]["diff"]
    assert "+<domain" in problem["context"]["changed"], "what the other did, for the base is kept"
    assert problem["context"]["etag"] == read(api, vm)[1]
    assert "<title>" not in there(place, vm)
    assert put(api, vm, titled(xml, "Door"), "?dry_run=true", If_Match=tag).status_code == 412
    assert put(api, vm, titled(xml, "Door"), "?dry_run=true", If_Match=f'W/{tag}, "x", *').status_code == 200


def test_of_two_who_edit_at_once_one_is_refused_by_the_worker(
    place: Place, api: Api, workers: Callable[[], None]
) -> None:
    vm = place.guest("web")
    xml, tag = read(api, vm)
    place.world.hang("define")  # the first is in the middle of it while the second is checked
    first = put(api, vm, xml.replace("<vcpu>1<", "<vcpu>3<"), If_Match=tag).json()
    assert place.world.wait_for_calls("define", place.world.calls["define"] or 1)
    second = put(api, vm, titled(xml, "Door"), If_Match=tag)
    assert second.status_code == 202
    place.world.release("define")
    assert api.get(f"/operations/{first['id']}?wait=20").json()["state"] == "succeeded"
    ended = api.get(f"/operations/{second.json()['id']}?wait=20").json()
    assert (ended["state"], ended["error"]["code"]) == ("failed", "stale")
    assert ended["error"]["context"] == {"revision": 2}
    assert "<vcpu>3</vcpu>" in there(place, vm)
    assert "<title>" not in there(place, vm)


def test_the_same_change_twice_at_once_is_one(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    xml, tag = read(api, vm)
    place.world.hang("define")
    answers = [put(api, vm, titled(xml, "Door"), If_Match=tag).json() for _ in range(2)]
    place.world.release("define")
    ends = [api.get(f"/operations/{one['id']}?wait=20").json() for one in answers]
    assert [end["state"] for end in ends] == ["succeeded", "succeeded"]
    assert Revision.objects.count() == 2


def test_an_operator_neither_reads_nor_changes(
    place: Place, api: Api, operator: User, workers: Callable[[], None]
) -> None:
    vm = place.guest("web")
    xml, _tag = read(api, vm)
    saved(api, vm, titled(xml, "Door"))
    for answer in (
        put(api.of(operator), vm, xml),
        api.of(operator).get(f"/vms/{vm.pk}/revisions"),
        api.of(operator).get(f"/vms/{vm.pk}/revisions/1"),
        api.of(operator).post(f"/vms/{vm.pk}/revisions/1/restore"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")


@pytest.mark.parametrize(
    ("xml", "media", "status", "code"),
    [
        ("<domain/>", "application/json", 415, "unsupported_media_type"),
        ("", "application/xml", 422, "invalid_definition"),
        (b"<domain>\n\xff</domain>", "application/xml", 422, "invalid_input"),
        (b"<!DOCTYPE d [<!ENTITY a 'b'>]><domain/>", "application/xml", 422, "invalid_definition"),
        ("<domain>" + " " * (10 << 20) + "</domain>", "application/xml", 413, "too_large"),
        ("<domain>" + "<a>" * 50_000 + "</a>" * 50_000 + "</domain>", "application/xml", 422, "invalid_definition"),
    ],
)
def test_a_body_that_cannot_be_is_refused(
    place: Place, api: Api, workers: Callable[[], None], xml: Any, media: str, status: int, code: str
) -> None:
    vm = place.guest("web")
    answer = put(api, vm, xml, media=media)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_host_out_of_reach_says_so(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    place.world.fail_next(Unreachable("The wire is cut."), times=5, verb="check_definition")
    assert put(api, vm, "<domain/>").json()["code"] == "host_unreachable"


def test_a_transient_guest_has_none_to_change(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web", state=GuestState.RUNNING)
    VM.objects.update(persistent=False)
    assert put(api, vm, "<domain/>").json()["code"] == "wrong_state"


# -- interrupted -------------------------------------------------------------------------------------------------------------
def test_killed_after_it_was_defined_then_found_done_and_kept(
    place: Place, api: Api, workers: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = place.guest("web")
    xml, tag = read(api, vm)
    keep, deaths = DefineVM._keep, []

    def die_once(self: DefineVM, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if deaths:
            return keep(self, *args, **kwargs)
        deaths.append(1)
        vm_observe(place.hypervisor, place.world.info(GuestRef(uuid=vm.uuid)))  # the watcher sees what was sent
        raise OperationalError("the process is gone")

    monkeypatch.setattr(DefineVM, "_keep", die_once)
    operation = saved(api, vm, titled(xml, "Door"), "?comment=why", If_Match=tag)
    workers()
    assert (operation["attempts"], place.world.calls["define"]) == (2, 1), "it was not sent twice"
    revision = Revision.objects.get(number=2)
    assert (revision.source, revision.actor, revision.comment) == ("ours", "ada", "why")
    assert str(revision.operation) == operation["id"]
    assert Revision.objects.count() == 2


def test_killed_before_anything_was_sent_then_done_when_it_comes_back(
    place: Place, api: Api, workers: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = place.guest("web")
    xml, tag = read(api, vm)
    checkpoint, deaths = RunContext.checkpoint, []

    def die_once(self: RunContext, step: str) -> None:
        checkpoint(self, step)
        if not deaths:
            deaths.append(1)
            raise OperationalError("the process is gone")

    monkeypatch.setattr(RunContext, "checkpoint", die_once)
    operation = saved(api, vm, titled(xml, "Door"), If_Match=tag)
    assert (operation["attempts"], Revision.objects.count()) == (2, 2)
    assert "<title>Door</title>" in there(place, vm)


def test_killed_and_somebody_else_was_there_then_refused(
    place: Place, api: Api, workers: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = place.guest("web")
    xml, tag = read(api, vm)

    def die(self: RunContext, step: str) -> None:
        place.world.define(titled(xml, "Gate"))
        raise OperationalError("the process is gone")

    monkeypatch.setattr(RunContext, "checkpoint", die)
    pk = put(api, vm, titled(xml, "Door"), If_Match=tag).json()["id"]
    wait_until(lambda: Operation.objects.get(pk=pk).ended, 20, "its end")
    assert Operation.objects.get(pk=pk).error["code"] == "stale"
    assert "<title>Gate</title>" in there(place, vm)
    assert [one.source for one in Revision.objects.order_by("number")] == ["first_sight", "outside"]


def test_what_an_interrupted_change_did_is_not_taken_for_somebody_elses(
    place: Place, api: Api, workers: Callable[[], None]
) -> None:
    vm = place.guest("web")
    xml, _tag = read(api, vm)
    saved(api, vm, titled(xml, "Door"))
    Operation.objects.create(
        kind="vm.define", target=vm.ref, lock_key=vm.ref, position=1, state="queued", interrupted=True
    )
    outside(place, vm, titled(xml, "Gate"))
    workers()
    assert not Operation.objects.filter(kind="vm.record-definition").exists()


# -- outside ---------------------------------------------------------------------------------------------------------------
def test_drift_is_kept_and_told_with_its_difference(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    xml, _tag = read(api, vm)
    saved(api, vm, titled(xml, "Door"))
    outside(place, vm, titled(xml, "Gate"))
    workers()
    (_ours, drift) = told()
    assert (drift.actor, drift.operation, drift.data["source"]) == ("", None, "outside")
    assert (drift.data["revision"], drift.data["added"], drift.data["removed"]) == (3, 1, 1)
    assert "<title>Gate</title>" in drift.data["diff"]
    newest = api.get(f"/vms/{vm.pk}/revisions?limit=1").json()
    assert (newest["total"], newest["items"][0]["source"], newest["items"][0]["actor"]) == (3, "outside", None)


def test_nobody_follows_what_was_never_changed_here(place: Place, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    outside(place, vm, titled(there(place, vm), "Gate"))
    workers()
    assert (Revision.objects.count(), told()) == (0, [])
    assert not Operation.objects.filter(kind="vm.record-definition").exists()


def test_many_changes_that_wait_are_read_once(
    place: Place, api: Api, workers: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = place.guest("web")
    xml, _tag = read(api, vm)
    saved(api, vm, titled(xml, "Door"))
    monkeypatch.setattr("operations.doorbell.ring", lambda *_a, **_k: None)  # the workers are busy
    for title in "abc":
        outside(place, vm, titled(xml, title))
    (reading,) = Operation.objects.filter(kind="vm.record-definition")
    engine.execute(reading.pk)
    assert [event.data["source"] for event in told()] == ["ours", "outside"]
    assert Revision.objects.get(number=3).xml == there(place, vm)


def test_drift_that_nobody_saw_is_kept_before_it_is_replaced(
    place: Place, api: Api, workers: Callable[[], None]
) -> None:
    vm = place.guest("web")
    xml, _tag = read(api, vm)
    saved(api, vm, titled(xml, "Door"))
    place.world.define(titled(xml, "Gate"))  # no watcher was there
    saved(api, vm, titled(xml, "Portal"))
    assert [(event.data["source"], event.data["revision"]) for event in told()] == [
        ("ours", 2),
        ("outside", 3),
        ("ours", 4),
    ]


def test_our_own_rename_is_no_drift(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    saved(api, vm, titled(read(api, vm)[0], "Door"))
    answer = api.post(f"/vms/{vm.pk}/actions/rename", {"name": "front"}, Prefer="wait=20")
    assert answer.json()["state"] == "succeeded"
    workers()
    newest = api.get(f"/vms/{vm.pk}/revisions?limit=1").json()["items"][0]
    assert (newest["source"], newest["actor"], newest["comment"]) == ("ours", "ada", "Rename")
    assert newest["operation"] == answer.json()["id"]


def test_an_old_kept_one_makes_room_for_a_new(
    place: Place, api: Api, workers: Callable[[], None], settings: Any
) -> None:
    settings.ENV = settings.ENV.model_copy(update={"revisions_keep": 3})
    vm = place.guest("web")
    xml, _tag = read(api, vm)
    for title in "abcde":
        saved(api, vm, titled(xml, title))
    assert [one["number"] for one in api.get(f"/vms/{vm.pk}/revisions").json()["items"]] == [6, 5, 4]


def test_only_who_reads_definitions_sees_differences_in_events(
    place: Place, api: Api, admin: User, viewer: User, workers: Callable[[], None]
) -> None:
    vm = place.guest("web")
    saved(api, vm, titled(read(api, vm)[0], "Door"))
    query = f"/events?object=vm/{vm.pk}&type=vm.definition_changed"
    (whole,) = api.get(query).json()["items"]
    (less,) = api.of(viewer).get(query).json()["items"]
    assert "Door" in whole["data"].pop("diff")
    assert less == whole
    entry = entries_after(whole["seq"] - 1, 1)[0]
    assert "Door" in entry.for_actor(Actor.of_user(admin)).text
    assert json.loads(entry.for_actor(Actor.of_user(viewer)).text) == less


# -- comparing and restoring -------------------------------------------------------------------------------------------------
def test_any_two_are_compared(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    xml, _tag = read(api, vm)
    for title in ("Door", "Gate"):
        saved(api, vm, titled(xml, title))
    one = api.get(f"/vms/{vm.pk}/revisions/3").json()
    assert (one["against"], "<title>Door</title>" in one["diff"]) == (2, True)
    assert one["xml"] == titled(xml, "Gate")
    far = api.get(f"/vms/{vm.pk}/revisions/3?against=1").json()
    assert (far["against"], "<title>Door</title>" in far["diff"]) == (1, False)
    first = api.get(f"/vms/{vm.pk}/revisions/1").json()
    assert (first["against"], first["diff"]) == (None, "")
    for path in ("9", "3?against=9", "0", "x", str(2**40)):
        assert api.get(f"/vms/{vm.pk}/revisions/{path}").status_code in (404, 422)


def test_one_is_brought_back_as_a_new_one(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    xml, _tag = read(api, vm)
    saved(api, vm, titled(xml, "Door"))
    answer = api.post(f"/vms/{vm.pk}/revisions/1/restore?comment=no", Prefer="wait=20", If_Match=read(api, vm)[1])
    assert answer.json()["state"] == "succeeded"
    assert there(place, vm) == xml
    newest = api.get(f"/vms/{vm.pk}/revisions").json()["items"][0]
    assert (newest["number"], newest["restored"], newest["comment"], newest["source"]) == (3, 1, "no", "ours")
    again = api.post(f"/vms/{vm.pk}/revisions/1/restore", Prefer="wait=20").json()
    assert again["result"]["changed"] is False
    assert api.post(f"/vms/{vm.pk}/revisions/9/restore").status_code == 404


def test_bringing_one_back_over_what_somebody_else_did_is_refused(
    place: Place, api: Api, workers: Callable[[], None]
) -> None:
    vm = place.guest("web")
    xml, _tag = read(api, vm)
    saved(api, vm, titled(xml, "Door"))
    tag = read(api, vm)[1]
    place.world.define(titled(xml, "Gate"))  # not seen yet: the worker finds out
    late = api.post(f"/vms/{vm.pk}/revisions/1/restore", Prefer="wait=20", If_Match=tag).json()
    assert (late["state"], late["error"]["code"]) == ("failed", "stale")
    vm_observe(place.hypervisor, place.world.info(GuestRef(uuid=vm.uuid)))
    workers()
    answer = api.post(f"/vms/{vm.pk}/revisions/1/restore", If_Match=tag)
    assert (answer.status_code, answer.json()["code"]) == (412, "stale")
    assert "<title>Gate</title>" in answer.json()["context"]["diff"]
    assert "<title>Gate</title>" in there(place, vm)


# -- the name ----------------------------------------------------------------------------------------------------------------
def test_a_guest_is_renamed_while_it_is_off(place: Place, api: Api, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    place.guest("db")
    answer = api.post(f"/vms/{vm.pk}/actions/rename", {"name": "front"}, Prefer="wait=20")
    assert answer.json()["state"] == "succeeded"
    assert api.get(f"/vms/{vm.pk}").json()["name"] == "front"
    taken = api.post(f"/vms/{vm.pk}/actions/rename", {"name": "db"}, Prefer="wait=20").json()
    assert (taken["state"], taken["error"]["code"]) == ("failed", "already_exists")
    api.post(f"/vms/{vm.pk}/actions/start", Prefer="wait=20")
    refused = api.post(f"/vms/{vm.pk}/actions/rename", {"name": "x"})
    assert (refused.status_code, refused.json()["code"]) == (409, "wrong_state")
    assert "Shut it down first" in refused.json()["detail"]


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["", "a/b", "a\nb", " a", "x" * 256, None])
def test_a_name_that_cannot_be_is_refused(api: Api, name: Any) -> None:
    vm = VMFactory()
    answer = api.post(f"/vms/{vm.pk}/actions/rename", {"name": name})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/name")


@pytest.mark.django_db
def test_saved_memory_is_in_the_way_of_a_name(api: Api) -> None:
    vm = VMFactory(has_managed_save=True)
    assert "discard that first" in api.post(f"/vms/{vm.pk}/actions/rename", {"name": "x"}).json()["detail"]
