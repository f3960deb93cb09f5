"""A snapshot schedule on this machine's own QEMU, as virsh sees it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from drivers import registry
from drivers.pool import the_pool
from tests.factories import HypervisorFactory
from tests.labs.local import QEMU_URI
from tests.vms.test_schedules import made, turn
from tests.web.conftest import workers
from vms.inventory import vm_observe
from vms.schedules.runs import snapshot_name

if TYPE_CHECKING:
    from tests.conftest import Api
    from tests.labs.fixtures import QemuGuestFactory

__all__ = ["workers"]
pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True)]


def test_two_turns_leave_the_newer_one_and_what_somebody_took_by_hand(
    api: Api, qemu_guest: QemuGuestFactory, workers: Any
) -> None:
    guest = qemu_guest(kind="qcow2", start=True)
    hypervisor = HypervisorFactory(driver="qemu", uri=QEMU_URI)
    with contextlib.closing(registry.get("qemu").open(hypervisor.endpoint())) as session:
        vm = vm_observe(hypervisor, next(one for one in session.guests() if one.uuid == guest.uuid))
    schedule = made(api, filter=None, vm=str(vm.pk), keep={"last": 1})
    turn(schedule, workers)
    assert schedule.last_state == "succeeded", schedule.last_message
    guest.virsh("snapshot-create-as", "--name", "by hand", timeout=60)
    at = turn(schedule, workers)
    assert sorted(guest.virsh("snapshot-list", "--name").split("\n")) == ["by hand", snapshot_name(schedule, at)]
    the_pool().forget(hypervisor.endpoint())
