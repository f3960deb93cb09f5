"""The bin on this machine's own QEMU, as virsh sees it."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from drivers import registry
from drivers.pool import the_pool
from tests.factories import HypervisorFactory
from tests.labs.local import PREFIX, QEMU_URI, virsh
from tests.web.conftest import workers
from vms.inventory import vm_observe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hosts.models import Hypervisor
    from tests.conftest import Api
    from tests.labs.fixtures import QemuGuestFactory
    from tests.labs.local import Guest
    from vms.models import VM

__all__ = ["workers"]
pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def pool(pool_home: Path) -> Iterator[str]:
    """A directory pool."""
    name = f"{PREFIX}bin-{uuid.uuid4().hex[:8]}"
    virsh(QEMU_URI, "pool-create-as", name, "dir", "--target", pool_home)
    yield name
    virsh(QEMU_URI, "pool-destroy", name)


@pytest.fixture
def here(transactional_db: None) -> Iterator[Hypervisor]:
    """This machine's QEMU."""
    hypervisor = HypervisorFactory(driver="qemu", uri=QEMU_URI)
    yield hypervisor
    the_pool().forget(hypervisor.endpoint())


def seen(hypervisor: Hypervisor, guest: Guest) -> VM:
    session = registry.get("qemu").open(hypervisor.endpoint())
    with contextlib.closing(session):
        found = next(one for one in session.guests() if one.uuid == guest.uuid)
    return vm_observe(hypervisor, found)


def test_a_guest_with_its_disk_goes_comes_back_and_goes_for_good(
    api: Api, here: Hypervisor, pool: str, pool_home: Path, qemu_guest: QemuGuestFactory, workers: Any
) -> None:
    guest = qemu_guest(kind="bootsector")
    file = pool_home / "own.qcow2"
    virsh(QEMU_URI, "vol-create-as", pool, file.name, "1M", "--format", "qcow2")
    guest.virsh("attach-disk", str(file), "vdz", "--config")
    guest.virsh("autostart")
    vm = seen(here, guest)

    def done(answer: Any) -> Any:
        assert answer.json().get("state") == "succeeded", answer.content
        return answer.json()["result"]

    def names() -> set[str]:
        return set(virsh(QEMU_URI, "list", "--all", "--name").split())

    done(api.delete(f"/vms/{vm.pk}?storage=delete", Prefer="wait=30"))
    assert {f"{guest.name}.bin-{vm.pk.hex[-8:]}"} == {name for name in names() if name.startswith(guest.name)}
    assert "Autostart:      disable" in guest.virsh("dominfo")
    assert guest.state == "shut off"
    done(api.post(f"/vms/{vm.pk}/actions/restore", Prefer="wait=30"))
    assert guest.name in names()
    assert "Autostart:      enable" in guest.virsh("dominfo")
    done(api.delete(f"/vms/{vm.pk}?storage=delete", Prefer="wait=30"))
    result = done(api.delete(f"/vms/{vm.pk}?bin=false", Prefer="wait=30"))
    assert [one["volume"] for one in result["volumes"]] == [file.name]
    assert not file.exists()
    assert not any(name.startswith(guest.name) for name in names())
