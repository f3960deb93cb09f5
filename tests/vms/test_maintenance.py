"""A host in maintenance: nothing is started or resumed there, all else goes on, and it says who put it there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from accounts.actor import Actor
from drivers.errors import WrongState
from drivers.fake import drop_world, world
from hosts.services import host_update
from operations import engine
from tests.factories import HostFactory, HypervisorFactory, VMFactory
from vms.services import vm_action, vm_actions, vm_bulk_preview

if TYPE_CHECKING:
    from accounts.models import User
    from vms.models import VM

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def by(admin: User) -> Actor:
    return Actor.of_user(admin)


@pytest.fixture
def vm(by: Actor) -> VM:
    made = VMFactory(name="web", hypervisor=HypervisorFactory(host=HostFactory(name="kvm-01")))
    host_update(host=made.hypervisor.host, by=by, changes={"maintenance": True})
    return made


@pytest.mark.parametrize(("name", "state"), [("start", "shutoff"), ("resume", "paused")])
def test_what_would_run_a_guest_is_refused_with_who_put_it_there(vm: VM, by: Actor, name: str, state: str) -> None:
    vm.state = state
    with pytest.raises(WrongState) as refused:
        vm_action(vm=vm, name=name, by=by)
    assert refused.value.code == "wrong_state"
    assert "kvm-01 is in maintenance (ada put it there)" in refused.value.detail
    assert vm_actions(vm, by=by)[name] == {"allowed": False, "reason": refused.value.detail, "code": "wrong_state"}


def test_the_rest_goes_on(vm: VM, by: Actor) -> None:
    vm.state = "running"
    allowed = {name for name, one in vm_actions(vm, by=by).items() if one["allowed"]}
    assert {"shutdown", "reboot", "suspend", "force-off", "autostart"} <= allowed


def test_a_bulk_start_names_it(vm: VM, by: Actor) -> None:
    (item,) = vm_bulk_preview(vms=[vm], name="start", by=by)
    assert (item["allowed"], item["code"]) == (False, "wrong_state")


def test_a_start_that_waited_while_the_maintenance_began_is_refused_at_its_turn(vm: VM, by: Actor) -> None:
    host = vm.hypervisor.host
    host_update(host=host, by=by, changes={"maintenance": False})
    operation = vm_action(vm=vm, name="start", by=by)
    host_update(host=host, by=by, changes={"maintenance": True})
    place = world(vm.hypervisor.uri.removeprefix("fake:///"))
    info = place.add("web")
    type(vm).objects.filter(pk=vm.pk).update(uuid=info.uuid)
    engine.execute(operation.pk)
    operation.refresh_from_db()
    drop_world(place.name)
    assert operation.state == "failed"
    assert operation.error is not None
    assert (operation.error["code"], place.calls["start"]) == ("wrong_state", 0)


def test_when_it_ends_all_is_as_before(vm: VM, by: Actor) -> None:
    host_update(host=vm.hypervisor.host, by=by, changes={"maintenance": False})
    vm.refresh_from_db()
    assert vm.hypervisor.host.maintenance_by == ""
    assert vm_actions(vm, by=by)["start"]["allowed"]
