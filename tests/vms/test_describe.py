"""What we say of a guest stands in its definition too: a database that is lost loses nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from accounts.actor import SYSTEM
from drivers.errors import Unreachable, Unsupported
from hosts.models import Hypervisor
from operations.models import Operation
from tests.waiting import wait_until
from vms import services
from vms.inventory import vms_observe
from vms.models import VM

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.conftest import Api
    from tests.web.conftest import Place

pytestmark = pytest.mark.django_db(transaction=True)


def said(place: Place) -> tuple[dict[str, str], str, str]:
    (info,) = place.world.infos()
    return dict(info.metadata), info.title, info.description


def test_changed_over_rest_then_it_is_in_the_definition_and_adopted_from_there_again(
    place: Place, workers: Callable[[], None], api: Api, operator: User
) -> None:
    vm = place.guest("web")
    change = {"title": "The web", "tags": ["prod", "web"], "project": "shop", "owner": operator.username}
    assert api.patch(f"/vms/{vm.pk}", change).status_code == 200
    workers()
    facts = {"id": str(vm.pk), "tags": "prod,web", "project": "shop", "owner": operator.username}
    assert said(place) == (facts, "The web", "")
    VM.objects.all().delete()
    vms_observe(place.hypervisor, place.world.infos(), complete=True)
    again = VM.objects.select_related("owner").get()
    assert (again.pk, again.title, again.tags, again.project, again.owner) == (
        vm.pk,
        "The web",
        ["prod", "web"],
        "shop",
        operator,
    )


def test_two_changes_at_once_then_the_last_one_stands(place: Place, workers: Callable[[], None]) -> None:
    vm = place.guest("web")
    for n in range(5):
        services.vm_update(vm=vm, by=SYSTEM, changes={"project": f"p{n}"})
    workers()
    assert said(place)[0]["project"] == "p4"


def test_nothing_of_it_is_listed_and_nothing_changed_writes_nothing(
    place: Place, workers: Callable[[], None], api: Api
) -> None:
    vm = place.guest("web")
    services.vm_update(vm=vm, by=SYSTEM, changes={"project": ""})
    assert not Operation.objects.exists()
    services.vm_update(vm=vm, by=SYSTEM, changes={"project": "shop"})
    workers()
    assert Operation.objects.get().state == "succeeded"
    assert api.get("/operations").json()["total"] == 0


def test_hypervisor_that_keeps_none_or_is_away_then_the_row_is_changed_all_the_same(
    place: Place, workers: Callable[[], None]
) -> None:
    vm = place.guest("web")
    place.world.fail_next(Unsupported("Labels are given once."), verb="set_metadata")
    services.vm_update(vm=vm, by=SYSTEM, changes={"project": "shop"})
    workers()
    assert Operation.objects.get().result == {"kept": False, "reason": "Labels are given once."}
    for facts in ({"state": "offline"}, {"state": "online", "capabilities": {}}):
        Hypervisor.objects.update(**facts)
        vm = services.vm_get(vm.pk, by=SYSTEM)
        services.vm_update(vm=vm, by=SYSTEM, changes={"project": str(facts)[:50]})
    assert Operation.objects.count() == 1
    assert VM.objects.get().project


def test_host_is_away_for_a_moment_then_written_later(
    place: Place, workers: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operations.actions.Retry.delay_seconds", lambda self, attempt: 0.7)
    vm = place.guest("web")
    place.world.fail_next(Unreachable("gone"), verb="set_metadata")
    services.vm_update(vm=vm, by=SYSTEM, changes={"project": "shop"})
    wait_until(lambda: Operation.objects.get().state == "succeeded", 15, "it is written")
    assert said(place)[0]["project"] == "shop"
