"""The tab of a guest's hardware as the server makes it: how many queries, what it says, what waits, and which dialogs there are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from accounts.actor import SYSTEM
from core.units import GIB, MIB
from drivers.types import GuestState
from hosts.models import Hypervisor
from tests.factories import ALL_SUPPORTED, HypervisorFactory, VMFactory
from tests.vms.conftest import farm
from tests.vms.test_hardware import done, guest, seen
from vms.hardware.devices import DeviceIn
from vms.hardware.disks import DiskChange
from vms.hardware.forms import _FORMS
from vms.hardware.nics import NicChange
from vms.hardware.parts import MemoryChange
from vms.hardware.services import Change, hardware_read
from vms.models import VMHardware

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User
    from tests.vms.conftest import Farm

__all__ = ["farm"]

TAB_QUERIES = 12


@pytest.fixture
def browser(admin: Any, client_for: Callable[..., Client]) -> Client:
    return client_for(admin)


def text_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.content[:500]
    return str(answer.content.decode())


@pytest.fixture
def vm(farm: Farm) -> Any:
    found = guest(farm)
    hardware_read(vm=found, by=SYSTEM)
    return found


def test_what_waits_stands_at_its_device_and_in_the_head_of_every_tab(vm: Any, browser: Client) -> None:
    assert "waits for its next start" not in text_of(browser.get(f"/vms/{vm.pk}"))
    done(Change(vm, SYSTEM).memory(MemoryChange(memory_bytes=2 * GIB)))
    done(Change(vm, SYSTEM).disk_update("vda", DiskChange(cache="none")))
    text = text_of(browser.get(f"/vms/{vm.pk}/hardware"))
    assert "at next start: memory 2 GiB, memory at most 2 GiB" in text
    assert "at next start: cache none" in text
    assert "has 1 GiB now" in text
    for path in ("", "/hardware", "/snapshots", "/parts/head"):
        assert "2 changes of its hardware wait for its next start" in text_of(browser.get(f"/vms/{vm.pk}{path}"))
    done(Change(vm, SYSTEM, when="next_start").nic_detach("52:54:00:00:00:03"))
    done(Change(vm, SYSTEM, when="next_start").nic_attach(NicChange(network="default")))
    text = text_of(browser.get(f"/vms/{vm.pk}/hardware/list"))
    assert "at next start: removed" in text
    assert "at next start: added" in text


def test_the_tab_costs_the_same_however_much_there_is(
    vm: Any, browser: Client, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    row = VMHardware.objects.get(vm=vm)
    for many in (1, 60):
        disks = [{**row.defined["disks"][0], "target": f"vd{number}"} for number in range(many)]
        VMHardware.objects.filter(vm=vm).update(defined={**row.defined, "disks": disks}, live=None)
        with django_assert_max_num_queries(TAB_QUERIES):
            text = text_of(browser.get(f"/vms/{vm.pk}/hardware"))
        assert len(re.findall(r'data-hw-row="disk/vd', text)) == many


@pytest.mark.parametrize("name", sorted(_FORMS))
def test_every_dialog_says_what_it_calls_and_nothing_of_it_is_markup(farm: Farm, browser: Client, name: str) -> None:
    vm = guest(farm, "<b>")
    farm.world.add_host_device("0000:01:00.0")
    for type_ in ("watchdog", "vnc"):
        done(Change(vm, SYSTEM, when="next_start").device_attach(DeviceIn(type=type_)))
    keys = {"disk": "disk/vda", "medium": "disk/sda", "nic": "nic/52:54:00:00:00:03", "device": "watchdog"}
    key = keys.get(name.partition("-")[0], "")
    text = text_of(browser.get(f"/vms/{vm.pk}/hardware/{name}?key={key}"))
    method, path = re.findall(r'data-method="(\w+)"\s+data-path="([^"]+)"', text)[0]
    assert (method in ("POST", "PATCH", "DELETE"), path.startswith(f"/vms/{vm.pk}/")) == (True, True)
    assert "The same call as curl" in text
    assert "<b>.qcow2" not in text


def test_what_counts_only_at_the_next_start_is_said_before(farm: Farm, vm: Any, browser: Client) -> None:
    path = f"/vms/{vm.pk}/hardware"
    assert "It takes effect at the guest" not in text_of(browser.get(f"{path}/disk-attach"))
    assert "At once up to 1 GiB" in text_of(browser.get(f"{path}/memory"))
    assert "It takes effect at the guest" in text_of(browser.get(f"{path}/boot"))
    farm.world.cannot_live("disk.attach", "Its machine has no slot left.")
    hardware_read(vm=vm, by=SYSTEM)
    text = text_of(browser.get(f"{path}/disk-attach"))
    assert "It takes effect at the guest" in text
    assert "Its machine has no slot left." in text
    farm.world.outside("web", "force-off")
    seen(farm)
    hardware_read(vm=vm, by=SYSTEM)
    assert "It takes effect" not in text_of(browser.get(f"{path}/boot"))


def test_deleting_a_volume_takes_its_name(vm: Any, browser: Client) -> None:
    text = text_of(browser.get(f"/vms/{vm.pk}/hardware/disk-detach?key=disk/vda"))
    assert 'data-typed="web.qcow2"' in text
    assert "Delete the volume web.qcow2 too" in text
    assert 'data-typed=""' in text_of(browser.get(f"/vms/{vm.pk}/hardware/disk-detach?key=disk/sda"))


def test_who_may_only_look_sees_why_and_gets_no_dialog(
    vm: Any, viewer: User, client_for: Callable[..., Client]
) -> None:
    look = client_for(viewer)
    text = text_of(look.get(f"/vms/{vm.pk}/hardware/list"))
    assert len(re.findall(r"data-hw=", text)) == len(
        re.findall(r'aria-disabled="true"\s+data-why="This needs the scope', text)
    )
    assert look.get(f"/vms/{vm.pk}/hardware/memory").status_code == 404


@pytest.mark.parametrize(
    "path", ["nothing", "disk-update?key=disk/vdz", "disk-update?key=cpu", "nic-update?key=<script>"]
)
def test_a_dialog_that_is_none_is_404(vm: Any, browser: Client, path: str) -> None:
    assert browser.get(f"/vms/{vm.pk}/hardware/{path}").status_code == 404


@pytest.mark.django_db
def test_where_nothing_can_be_changed_or_nobody_has_looked_that_is_said(browser: Client) -> None:
    lacking = {**ALL_SUPPORTED, "hardware": {"supported": False, "reason": "Nothing is changed here."}}
    vm = VMFactory(hypervisor=HypervisorFactory(capabilities=lacking))
    assert "Nothing is changed here." in text_of(browser.get(f"/vms/{vm.pk}/hardware"))
    other = VMFactory()
    assert "Reading …" in text_of(browser.get(f"/vms/{other.pk}/hardware"))
    Hypervisor.objects.filter(pk=other.hypervisor_id).update(state="offline")
    assert "out of reach" in text_of(browser.get(f"/vms/{other.pk}/hardware"))


def test_a_guest_that_stopped_waits_for_nothing(farm: Farm, vm: Any, browser: Client) -> None:
    done(Change(vm, SYSTEM, when="next_start").memory(MemoryChange(memory_bytes=2 * GIB, max_memory_bytes=2 * GIB)))
    farm.world.outside("web", "force-off")
    assert seen(farm).state == GuestState.SHUTOFF
    assert "next start" not in text_of(browser.get(f"/vms/{vm.pk}/hardware/list"))
    assert "waits for its next start" not in text_of(browser.get(f"/vms/{vm.pk}/parts/head"))
    assert farm.world.info(vm.guest_ref).memory_bytes == 2 * GIB != MIB
