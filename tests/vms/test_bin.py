"""The bin: guests that were deleted are had back, or go for good; on a hypervisor in memory, by workers."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from drivers.errors import Timeout, Unreachable, WrongState
from drivers.fake import FakeDriver
from drivers.fake.session import FakeSession
from drivers.pool import the_pool
from drivers.types import GuestRef, GuestState
from events.models import Event
from operations.models import Operation
from storage.inventory import pools_observe
from storage.models import Volume
from tests.factories import VMFactory
from tests.web.conftest import Place, place, workers
from vms import services
from vms.deletion import actions as removal
from vms.deletion import binned
from vms.deletion.leftovers import fates
from vms.inventory import vm_observe, vms_observe
from vms.models import VM

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.conftest import Api

__all__ = ["place", "workers"]
pytestmark = pytest.mark.django_db
WAIT = {"Prefer": "wait=20"}


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.actions.Retry.delay_seconds", lambda _self, _attempt: 0.02)


def hours(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    monkeypatch.setattr("vms.deletion.binned.bin_hours", lambda: value)


def there(place: Place, vm: VM) -> Any:
    """The guest as its hypervisor has it; None when it is gone."""
    session = FakeDriver().open(place.world.endpoint)
    try:
        return session.guest_or_none(GuestRef(uuid=vm.uuid, name=""))
    finally:
        session.close()


def delete(api: Api, vm: VM, query: str = "") -> dict[str, Any]:
    answer = api.delete(f"/vms/{vm.pk}?{query}", **WAIT)
    assert answer.status_code == 200, answer.content
    return answer.json()


def act(api: Api, vm: VM, name: str, body: Any = None) -> Any:
    return api.post(f"/vms/{vm.pk}/actions/{name}", body, **WAIT)


def names(api: Api, query: str = "") -> list[str]:
    return [item["name"] for item in api.get(f"/vms?{query}").json()["items"]]


def with_disks(place: Place, name: str, *sources: str, cdrom: str = "") -> VM:
    """A guest with these disks, files by path or `pool:volume`, in a world whose pools were seen."""
    disks = "".join(
        f"<disk type='volume'><source pool='{pool}' volume='{volume}'/><target dev='vd{number}'/></disk>"
        if volume
        else f"<disk type='file'><source file='{pool}'/><target dev='vd{number}'/></disk>"
        for number, (pool, _, volume) in enumerate(source.partition(":") for source in sources)
    )
    disks += f"<disk device='cdrom'><source file='{cdrom}'/><target dev='sda'/><readonly/></disk>" if cdrom else ""
    xml = f"<domain><name>{name}</name><memory unit='MiB'>64</memory><devices>{disks}</devices></domain>"
    vm = vm_observe(place.hypervisor, place.world.define(xml))
    look(place)
    return vm


def look(place: Place) -> None:
    """As a survey would."""
    session = FakeDriver().open(place.world.endpoint)
    pools = session.pools()
    pools_observe(place.hypervisor, pools, {pool.name: session.volumes(pool.name) for pool in pools}, complete=True)
    session.close()


def volumes(place: Place, pool: str = "default") -> list[str]:
    return sorted(one.name for one in place.world.storage.volumes(pool))


# -- into the bin and out of it ------------------------------------------------------------------------------------------
def test_a_deleted_guest_leaves_the_lists_and_keeps_its_definition(place: Place, api: Api, workers: Any) -> None:
    vm = place.guest("web")
    place.world.outside("web", "set-autostart", enabled=True)
    vms_observe(place.hypervisor, place.world.infos())
    ended = delete(api, vm)
    assert (ended["kind"], ended["state"], ended["result"]["binned"]) == ("vm.delete", "succeeded", True)
    info = there(place, vm)
    assert (info.name, info.autostart, info.state) == (f"web.bin-{vm.pk.hex[-8:]}", False, GuestState.SHUTOFF)
    assert (names(api), names(api, "binned=true")) == ([], ["web"])
    seen = api.get(f"/vms/{vm.pk}").json()
    left = dt.datetime.fromisoformat(seen["bin_until"]) - dt.datetime.fromisoformat(seen["binned_at"])
    assert (left, seen["bin_storage"], seen["binned_by"], seen["name"]) == (
        dt.timedelta(hours=24),
        "keep",
        "ada",
        "web",
    )
    assert api.get("/hosts").json()["items"][0]["vm_count"] == 0


def test_nothing_but_restore_can_be_done_in_the_bin(place: Place, api: Api, workers: Any) -> None:
    vm = place.guest("web")
    delete(api, vm)
    allowed = {name: one["allowed"] for name, one in api.get(f"/vms/{vm.pk}").json()["actions"].items()}
    assert [name for name, may in allowed.items() if may] == ["restore"]
    for name in ("start", "autostart", "discard-managed-save"):
        refused = act(api, vm, name, {"enabled": True} if name == "autostart" else None)
        assert (refused.status_code, refused.json()["code"]) == (409, "wrong_state"), name
        assert "in the bin" in refused.json()["detail"]
    assert api.patch(f"/vms/{vm.pk}", {"title": "x"}).status_code == 409
    assert api.delete(f"/vms/{vm.pk}").json()["code"] == "wrong_state"
    assert api.get(f"/vms/{vm.pk}/xml").status_code == 200


def test_a_restored_guest_is_as_before(place: Place, api: Api, workers: Any) -> None:
    vm = place.guest("web")
    place.world.outside("web", "set-autostart", enabled=True)
    vms_observe(place.hypervisor, place.world.infos())
    delete(api, vm, "storage=delete")
    assert act(api, vm, "restore").json()["result"] == {"name": "web"}
    info = there(place, vm)
    assert (info.name, info.autostart) == ("web", True)
    seen = api.get(f"/vms/{vm.pk}").json()
    assert (seen["binned_at"], seen["bin_until"], seen["bin_storage"], seen["autostart"]) == (None, None, None, True)
    assert names(api) == ["web"]
    told = [one.data["changed"].get("binned_at", "") for one in Event.objects.filter(type="vm.changed").order_by("seq")]
    assert [bool(at) for at in told if at != ""] == [True, False]
    assert act(api, vm, "restore").json()["detail"] == "web is not in the bin."


def test_the_name_is_free_for_another_and_the_first_comes_back_under_a_new_one(
    place: Place, api: Api, workers: Any
) -> None:
    first = place.guest("web")
    delete(api, first)
    xml = "<domain><name>web</name><uuid>11111111-2222-4333-8444-555555555555</uuid><memory>65536</memory></domain>"
    vm_observe(place.hypervisor, place.world.define(xml))
    refused = act(api, first, "restore")
    assert (refused.status_code, refused.json()["code"]) == (409, "already_exists")
    assert "another name" in refused.json()["detail"]
    assert act(api, first, "restore", {"name": "a/b"}).status_code == 422
    assert act(api, first, "restore", {"name": "web-old"}).json()["state"] == "succeeded"
    assert names(api) == ["web", "web-old"]


def test_a_name_that_only_the_hypervisor_knows_to_be_taken_is_said_the_same(
    place: Place, api: Api, workers: Any
) -> None:
    vm = place.guest("web")
    delete(api, vm)
    place.world.add("web2")
    xml = "<domain><name>web</name><uuid>11111111-2222-4333-8444-555555555555</uuid><memory>65536</memory></domain>"
    place.world.define(xml)  # not seen yet
    ended = act(api, vm, "restore").json()
    assert (ended["state"], ended["error"]["code"]) == ("failed", "already_exists")
    assert "another name" in ended["error"]["detail"]
    assert VM.objects.get(pk=vm.pk).binned_at is not None


def test_who_starts_it_outside_takes_it_out(place: Place, api: Api, workers: Any) -> None:
    vm = place.guest("web")
    delete(api, vm)
    name = there(place, vm).name
    place.world.outside(name, "start")
    vms_observe(place.hypervisor, place.world.infos())
    seen = api.get(f"/vms/{vm.pk}").json()
    assert (seen["binned_at"], seen["name"], seen["state"]) == (None, name, "running")
    assert Event.objects.filter(type="vm.changed", data__changed__has_key="binned_at").count() == 2
    assert services.empty_bin(timezone.now() + dt.timedelta(days=9)) == 0


def test_a_running_guest_needs_force_and_a_transient_one_has_no_bin(place: Place, api: Api, workers: Any) -> None:
    vm = place.guest("web", state=GuestState.RUNNING)
    assert api.delete(f"/vms/{vm.pk}").json()["code"] == "wrong_state"
    assert delete(api, vm, "force=true")["state"] == "succeeded"
    assert there(place, vm).state == GuestState.SHUTOFF
    fleeting = VMFactory(hypervisor=place.hypervisor, persistent=False, state="shutoff")
    refused = api.delete(f"/vms/{fleeting.pk}").json()
    assert (refused["code"], "bin=false" in refused["detail"]) == ("wrong_state", True)


def test_a_guest_that_cannot_be_renamed_goes_to_the_bin_under_its_name(place: Place, api: Api, workers: Any) -> None:
    vm = place.guest("web")
    place.world.fail_next(WrongState("It has a managed save."), verb="rename")
    ended = delete(api, vm)
    assert (ended["state"], ended["result"]["renamed"]) == ("succeeded", False)
    assert "It keeps its name" in str(api.get(f"/operations/{ended['id']}/log").json()["items"])
    assert there(place, vm).name == "web"
    assert act(api, vm, "restore").json()["state"] == "succeeded"


def test_without_a_bin_it_goes_at_once(place: Place, api: Api, workers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hours(monkeypatch, 0)
    vm = place.guest("web")
    assert "<domain" in delete(api, vm)["result"]["definition"]
    assert (there(place, vm), api.get(f"/vms/{vm.pk}").status_code) == (None, 404)


def test_a_protected_guest_is_not_deleted(place: Place, api: Api, operator: User, workers: Any) -> None:
    vm = place.guest("web")
    assert api.of(operator).patch(f"/vms/{vm.pk}", {"protected": True}).json()["protected"] is True
    for query in ("", "bin=false", "force=true"):
        refused = api.delete(f"/vms/{vm.pk}?{query}")
        assert (refused.status_code, "protected" in refused.json()["detail"]) == (409, True)
    assert api.get(f"/vms/{vm.pk}").json()["actions"]["delete"]["allowed"] is False
    api.patch(f"/vms/{vm.pk}", {"protected": None})
    assert delete(api, vm)["state"] == "succeeded"


def test_protection_that_comes_while_it_waits_holds(place: Place, api: Api, workers: Any) -> None:
    vm = place.guest("web", state=GuestState.RUNNING, obeys=False)
    place.world.hang("force_off")
    first = api.post(f"/vms/{vm.pk}/actions/force-off").json()
    assert place.world.wait_for_calls("force_off", 1)
    waiting = api.delete(f"/vms/{vm.pk}").json()
    api.patch(f"/vms/{vm.pk}", {"protected": True})
    place.world.release("force_off")
    assert api.get(f"/operations/{first['id']}?wait=20").json()["state"] == "succeeded"
    ended = api.get(f"/operations/{waiting['id']}?wait=20").json()
    assert (ended["state"], ended["error"]["code"]) == ("failed", "wrong_state")
    assert there(place, vm).name == "web"


def test_who_may_only_look_neither_deletes_nor_restores(place: Place, api: Api, viewer: User, workers: Any) -> None:
    vm = place.guest("web")
    look_on = api.of(viewer)
    assert look_on.delete(f"/vms/{vm.pk}").status_code == 403
    delete(api, vm)
    assert act(look_on, vm, "restore").status_code == 403
    assert look_on.delete(f"/vms/{vm.pk}?bin=false").status_code == 403
    assert names(look_on, "binned=true") == ["web"]


def test_many_are_deleted_and_had_back_at_once(place: Place, api: Api, workers: Any) -> None:
    ids = [str(place.guest(name).pk) for name in ("a", "b", "c")]
    gone = api.post("/vms/bulk", {"action": "delete", "ids": ids}, **WAIT).json()
    assert (gone["state"], names(api), len(names(api, "binned=true"))) == ("succeeded", [], 3)
    assert api.post("/vms/bulk", {"action": "delete", "ids": ids}).status_code == 404
    back = api.post("/vms/bulk", {"action": "restore", "filter": "name:b"}, **WAIT).json()
    assert (back["result"]["counts"]["succeeded"], names(api)) == (1, ["b"])


# -- two at once ---------------------------------------------------------------------------------------------------------
def test_who_deletes_what_another_deletes_is_told(place: Place, api: Api, operator: User, workers: Any) -> None:
    vm = place.guest("web")
    place.world.hang("rename")
    first = api.delete(f"/vms/{vm.pk}").json()
    assert place.world.wait_for_calls("rename", 1)
    other = api.of(operator)
    assert other.delete(f"/vms/{vm.pk}").json()["id"] == first["id"]
    second = other.delete(f"/vms/{vm.pk}?storage=delete").json()
    undo = other.post(f"/vms/{vm.pk}/actions/restore").json()
    place.world.release("rename")
    ends = [api.get(f"/operations/{one['id']}?wait=20").json()["state"] for one in (first, second, undo)]
    assert ends == ["succeeded", "failed", "succeeded"]
    assert (there(place, vm).name, names(api)) == ("web", ["web"])


def test_restoring_calls_a_purge_off_that_has_not_begun(place: Place, api: Api, workers: Any) -> None:
    vm = place.guest("web")
    delete(api, vm)
    place.world.hang("rename")
    slow = api.post(f"/vms/{vm.pk}/actions/restore", {"name": "other"}).json()
    assert place.world.wait_for_calls("rename", 2)
    purge = api.delete(f"/vms/{vm.pk}?bin=false").json()
    api.post(f"/vms/{vm.pk}/actions/restore")
    place.world.release("rename")
    assert api.get(f"/operations/{slow['id']}?wait=20").json()["state"] == "succeeded"
    assert api.get(f"/operations/{purge['id']}?wait=20").json()["state"] == "cancelled"
    assert there(place, vm) is not None


# -- for good ------------------------------------------------------------------------------------------------------------
@pytest.fixture
def pool(place: Place) -> None:
    """A pool with a base, volumes on it and beside it."""
    place.world.storage.add_pool("default")
    for name in ("web.raw", "spare.raw", "base.raw", "cd.iso"):
        place.world.storage.add_volume("default", name, content=b"x" * 1000)


def path(name: str) -> str:
    return Volume.objects.get(name=name).path


def test_when_its_time_is_up_it_goes_with_its_own_disks(place: Place, api: Api, pool: None, workers: Any) -> None:
    vm = with_disks(place, "web", "default:web.raw", "/elsewhere/x.raw")
    delete(api, vm, "storage=delete")
    assert services.empty_bin(timezone.now()) == 0
    assert services.empty_bin(timezone.now() + dt.timedelta(hours=25)) == 1
    purge = Operation.objects.get(kind="vm.purge")
    early = api.get(f"/operations/{purge.pk}?wait=20").json()
    assert (early["state"], early["error"]["code"]) == (
        "failed",
        "wrong_state",
    )  # its clock says that it is not yet time
    VM.objects.update(bin_until=timezone.now())
    Operation.objects.filter(pk=purge.pk).delete()
    assert services.empty_bin(timezone.now()) == 1
    ended = api.get(f"/operations/{Operation.objects.get(kind='vm.purge').pk}?wait=20").json()
    assert (ended["state"], ended["requested_by"]) == ("succeeded", "system")
    assert [one["volume"] for one in ended["result"]["volumes"]] == ["web.raw"]
    assert [(one["source"], one["reason"]) for one in ended["result"]["kept"]] == [
        ("/elsewhere/x.raw", "It lies in no storage pool.")
    ]
    assert (there(place, vm), volumes(place)) == (None, ["base.raw", "cd.iso", "spare.raw"])
    assert api.get(f"/vms/{vm.pk}").status_code == 404


def test_what_others_use_stays_and_is_named(place: Place, api: Api, pool: None, workers: Any) -> None:
    look(place)
    other = with_disks(place, "other", path("spare.raw"))
    vm = with_disks(place, "web", path("web.raw"), "default:spare.raw", cdrom=path("cd.iso"))
    ended = delete(api, vm, "storage=delete&bin=false")
    assert [one["volume"] for one in ended["result"]["volumes"]] == ["web.raw"]
    kept = {one["volume"]: one["reason"] for one in ended["result"]["kept"]}
    assert kept == {
        "spare.raw": "It is used by other (vd0).",
        "cd.iso": "It is a medium, not a disk of the guest's own.",
    }
    assert there(place, other) is not None
    assert volumes(place) == ["base.raw", "cd.iso", "spare.raw"]


def test_an_overlay_that_nobody_has_seen_yet_is_a_use(place: Place, api: Api, pool: None, workers: Any) -> None:
    vm = with_disks(place, "web", "default:web.raw", "default:base.raw")
    overlay(place, "web-top.qcow2", "web.raw")
    ended = delete(api, vm, "storage=delete&bin=false")
    assert [one["volume"] for one in ended["result"]["volumes"]] == ["base.raw"]
    assert [one["reason"] for one in ended["result"]["kept"]] == ["It is used by web-top.qcow2 (overlay)."]


def overlay(place: Place, name: str, base: str) -> None:
    place.world.storage.add_volume("default", name, capacity_bytes=1000, format_="qcow2", backing=base)


def test_overlays_of_its_own_go_before_what_they_stand_on(place: Place, api: Api, pool: None, workers: Any) -> None:
    look(place)
    overlay(place, "top.qcow2", "base.raw")
    overlay(place, "image-top.qcow2", "spare.raw")
    vm = with_disks(place, "web", "default:base.raw", "default:top.qcow2", "default:image-top.qcow2")
    result = delete(api, vm, "storage=delete&bin=false")["result"]
    assert {one["volume"] for one in result["volumes"]} == {"base.raw", "top.qcow2", "image-top.qcow2"}
    assert [one["reason"] for one in result["kept"]] == ["image-top.qcow2 was made on it."]
    assert volumes(place) == ["cd.iso", "spare.raw", "web.raw"]


def test_what_the_host_holds_stays(place: Place, api: Api, pool: None, workers: Any) -> None:
    vm = with_disks(place, "web", "default:web.raw")
    place.world.storage.hold("default", "web.raw")
    ended = delete(api, vm, "storage=delete&bin=false")
    assert (ended["state"], ended["result"]["volumes"], len(ended["result"]["kept"])) == ("succeeded", [], 1)
    assert "web.raw" in volumes(place)


def test_disks_of_a_guest_that_somebody_else_removed_stay(place: Place, api: Api, pool: None, workers: Any) -> None:
    vm = with_disks(place, "web", "default:web.raw")
    place.world.remove("web")
    ended = delete(api, vm, "storage=delete&bin=false")
    assert (ended["state"], ended["result"]["volumes"]) == ("succeeded", [])
    assert "Somebody else" in ended["result"]["kept"][0]["reason"]
    assert "web.raw" in volumes(place)


def test_a_purge_of_what_was_started_is_refused(place: Place, api: Api, pool: None, workers: Any) -> None:
    vm = with_disks(place, "web", "default:web.raw")
    delete(api, vm, "storage=delete")
    place.world.outside(there(place, vm).name, "start")
    ended = delete(api, vm, "bin=false")
    assert (ended["kind"], ended["state"], ended["params"]["storage"]) == ("vm.purge", "failed", "delete")
    assert (there(place, vm).state, VM.objects.get(pk=vm.pk).binned_at) == (GuestState.RUNNING, None)
    assert "web.raw" in volumes(place)


def test_an_unreachable_host_is_not_asked_and_a_purge_that_failed_waits(place: Place, api: Api, workers: Any) -> None:
    vm = place.guest("web")
    delete(api, vm)
    VM.objects.update(bin_until=timezone.now())
    type(place.hypervisor).objects.update(state="offline")
    assert services.empty_bin(timezone.now()) == 0
    type(place.hypervisor).objects.update(state="online")
    place.world.fail_next(WrongState("no"), verb="undefine")
    assert services.empty_bin(timezone.now()) == 1
    purge = Operation.objects.get(kind="vm.purge")
    assert api.get(f"/operations/{purge.pk}?wait=20").json()["state"] == "failed"
    assert services.empty_bin(timezone.now()) == 0
    assert [one.pk for one in binned.due(timezone.now() + dt.timedelta(hours=2))] == [vm.pk]


# -- interrupted ---------------------------------------------------------------------------------------------------------
def interrupt(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, after: bool) -> list[str]:
    """The first call of it is the last thing that its process does: before the call, or after it."""
    real, died = getattr(owner, name), []

    def call(*args: Any, **kwargs: Any) -> Any:
        if died:
            return real(*args, **kwargs)
        died.append(name)
        if after:
            real(*args, **kwargs)
        # What is no driver's error does not get out of a session.
        raise Timeout("cut off") if owner is FakeSession else OperationalError("the process died here")

    monkeypatch.setattr(owner, name, call)
    return died


BIN_STEPS = [
    (FakeSession, "force_off"),
    (binned, "intend"),
    (FakeSession, "set_autostart"),
    (FakeSession, "rename"),
    (binned, "put_in"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "name"), BIN_STEPS, ids=[name for _, name in BIN_STEPS])
def test_deleting_goes_on_wherever_it_was_cut_off(
    place: Place, api: Api, workers: Any, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: bool
) -> None:
    place.guest("web", state=GuestState.RUNNING)
    place.world.outside("web", "set-autostart", enabled=True)
    vms_observe(place.hypervisor, place.world.infos())
    vm = VM.objects.get(name="web")
    died = interrupt(monkeypatch, owner, name, after=after)
    ended = delete(api, vm, "force=true")
    assert (ended["state"], died, ended["attempts"]) == ("succeeded", [name], 2)
    info, row = there(place, vm), VM.objects.get(pk=vm.pk)
    assert (info.name, info.autostart, row.bin_autostart) == (row.bin_name, False, True)
    assert (row.name, row.binned_at is not None) == ("web", True)


RESTORE_STEPS = [(FakeSession, "rename"), (FakeSession, "set_autostart"), (binned, "take_out")]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "name"), RESTORE_STEPS, ids=[name for _, name in RESTORE_STEPS])
def test_restoring_goes_on_wherever_it_was_cut_off(
    place: Place, api: Api, workers: Any, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: bool
) -> None:
    vm = place.guest("web")
    place.world.outside("web", "set-autostart", enabled=True)
    vms_observe(place.hypervisor, place.world.infos())
    delete(api, vm)
    died = interrupt(monkeypatch, owner, name, after=after)
    assert (act(api, vm, "restore").json()["state"], died) == ("succeeded", [name])
    info, row = there(place, vm), VM.objects.get(pk=vm.pk)
    assert (info.name, info.autostart, row.name) == ("web", True, "web")
    assert (row.binned_at, row.bin_name, row.bin_autostart) == (None, "", False)


PURGE_STEPS = [(FakeSession, "undefine"), (removal, "vm_gone"), (FakeSession, "pools"), (FakeSession, "volume_delete")]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "name"), PURGE_STEPS, ids=[name for _, name in PURGE_STEPS])
def test_purging_goes_on_wherever_it_was_cut_off(
    place: Place, api: Api, pool: None, workers: Any, monkeypatch: Any, owner: Any, name: str, after: bool
) -> None:
    vm = with_disks(place, "web", "default:web.raw", "default:base.raw")
    delete(api, vm, "storage=delete")
    died = interrupt(monkeypatch, owner, name, after=after)
    assert (delete(api, vm, "bin=false")["state"], died) == ("succeeded", [name])
    assert (there(place, vm), volumes(place)) == (None, ["cd.iso", "spare.raw"])
    assert VM.objects.get(pk=vm.pk).gone_at is not None


def test_what_did_not_get_into_the_bin_is_as_before(place: Place, api: Api, workers: Any) -> None:
    vm = place.guest("web")
    place.world.outside("web", "set-autostart", enabled=True)
    vms_observe(place.hypervisor, place.world.infos())
    place.world.fail_next(Timeout("Nobody answers."), verb="rename", times=4)
    ended = delete(api, vm)
    assert (ended["state"], ended["error"]["code"]) == ("failed", "timeout")
    info, row = there(place, vm), VM.objects.get(pk=vm.pk)
    assert (info.name, info.autostart) == ("web", True)
    assert (row.name, row.autostart, row.bin_name, row.binned_at) == ("web", True, "", None)


def test_what_could_not_be_undone_is_when_the_host_is_back(place: Place, api: Api, workers: Any) -> None:
    vm = place.guest("web")
    place.world.outside("web", "set-autostart", enabled=True)
    vms_observe(place.hypervisor, place.world.infos())
    place.world.fail_next(Unreachable("The wire is cut."), verb="rename", times=9)
    assert delete(api, vm)["error"]["code"] == "host_unreachable"
    assert (there(place, vm).autostart, names(api)) == (False, ["web"])
    place.world.fair()
    the_pool().forget(place.hypervisor.endpoint())
    assert services.empty_bin(timezone.now()) == 1
    assert services.empty_bin(timezone.now()) == 0
    workers()
    info, row = there(place, vm), VM.objects.get(pk=vm.pk)
    assert (info.name, info.autostart) == ("web", True)
    assert (row.name, row.autostart, row.bin_name, row.binned_at) == ("web", True, "", None)


# -- reading -------------------------------------------------------------------------------------------------------------
def test_the_bin_is_read_with_the_same_few_queries(
    api: Api, admin: User, client_for: Callable[..., Any], django_assert_num_queries: Callable[..., Any], db: None
) -> None:
    now, browser = timezone.now(), client_for(admin)
    facts = {"binned_at": now, "bin_until": now, "bin_storage": "keep", "bin_name": "x.bin-1"}
    first = VMFactory(**facts)
    api.get("/vms?binned=true")  # the token's last use is written once a minute
    browser.get("/vms/bin")
    with django_assert_num_queries(6):
        assert api.get("/vms?binned=true&ordering=-binned_at").json()["total"] == 1
    with CaptureQueriesContext(connection) as few:
        browser.get("/vms/bin")
    for _ in range(5):
        VMFactory(hypervisor=first.hypervisor, **facts)
    with django_assert_num_queries(6):
        assert api.get("/vms?binned=true&ordering=-binned_at").json()["total"] == 6
    with django_assert_num_queries(len(few)):
        assert browser.get("/vms/bin").content.decode().count("data-delete=") == 6


def test_pages_of_a_guest_in_the_bin_offer_what_can_be_done(
    api: Api, admin: User, client_for: Callable[..., Any], db: None
) -> None:
    browser = client_for(admin)
    assert "The bin is empty" in browser.get("/vms/bin").content.decode()
    now = timezone.now()
    vm = VMFactory(
        name="web", binned_at=now, bin_until=now + dt.timedelta(hours=5), bin_storage="delete", binned_by="ada"
    )
    page = browser.get(f"/vms/{vm.pk}").content.decode()
    assert all(word in page for word in ("In the bin", 'data-action="restore"', "Delete for good", "by ada"))
    assert 'data-action="start"' not in page
    asked = browser.get(f"/vms/{vm.pk}/parts/delete").content.decode()
    assert ("data-typed-if" in asked, 'name="gone"' in asked) == (False, True)
    assert "data-typed-if" in browser.get(f"/vms/{VMFactory().pk}/parts/delete").content.decode()


def test_what_becomes_of_disks_is_known_with_the_same_few_queries(
    place: Place, pool: None, django_assert_num_queries: Callable[..., Any]
) -> None:
    one = with_disks(place, "one", "default:web.raw")
    three = with_disks(place, "three", "default:spare.raw", "default:base.raw", "/x.raw", cdrom=path("cd.iso"))
    assert one.hypervisor == three.hypervisor  # both have it in hand
    with django_assert_num_queries(8):
        assert [fate.kept for fate in fates(one)] == [""]
    with django_assert_num_queries(8):
        assert [bool(fate.kept) for fate in fates(three)] == [False, False, True, True]
