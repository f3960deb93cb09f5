"""The order in which guests start, on this machine's own QEMU, as virsh sees it; and what libvirt lets us know of a boot."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from drivers import registry
from drivers.pool import the_pool
from hosts.inventory import host_observe
from hosts.models import Host, Hypervisor
from tests.factories import HypervisorFactory
from tests.labs.local import QEMU_URI
from tests.web.conftest import workers
from vms.inventory import vm_observe
from vms.models import VM

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.types import HostInfo
    from tests.conftest import Api
    from tests.labs.fixtures import QemuGuestFactory

__all__ = ["workers"]
pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True)]


def looked(hypervisor: Hypervisor, uuid: str) -> tuple[HostInfo, VM]:
    with contextlib.closing(registry.get("qemu").open(hypervisor.endpoint())) as session:
        info = session.host_info()
        host_observe(hypervisor, info, session.capabilities())
        return info, vm_observe(hypervisor, next(one for one in session.guests() if one.uuid == uuid))


def test_a_place_is_in_the_definition_and_the_host_tells_its_boot(
    api: Api, qemu_guest: QemuGuestFactory, workers: Callable[[], None]
) -> None:
    guest = qemu_guest(kind="bootsector")
    guest.virsh("autostart")
    hypervisor = HypervisorFactory(driver="qemu", uri=QEMU_URI)
    info, vm = looked(hypervisor, guest.uuid)
    assert info.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    up = float(Path("/proc/uptime").read_text().split()[0])
    assert info.uptime_seconds is not None
    assert 0.5 * up < info.uptime_seconds < up + 60

    body: Any = api.patch(
        f"/vms/{vm.pk}", {"autostart_order": 5, "autostart_delay_seconds": 3}, Prefer="wait=20"
    ).json()
    assert (body["autostart"], body["autostart_order"]) == (True, 5)
    assert "Autostart:      disable" in guest.virsh("dominfo")
    _, again = looked(hypervisor, guest.uuid)
    assert (again.autostart, again.autostart_order, Host.objects.get().came_up_at) == (False, 5, None)
    VM.objects.all().delete()
    assert looked(hypervisor, guest.uuid)[1].autostart_delay_seconds == 3
    host_observe(hypervisor, dataclasses.replace(info, boot_id="another", uptime_seconds=40.0), {})
    assert Host.objects.get().came_up_at is not None
    the_pool().forget(hypervisor.endpoint())
