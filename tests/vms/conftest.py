from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from accounts.actor import SYSTEM
from core.units import GIB, MIB
from drivers.types import StorageState
from networks.inventory import networks_observe
from operations import engine
from storage.inventory import pools_observe
from tests.web.conftest import Place, place, workers
from vms import services
from vms.creation.spec import VMSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.actor import Actor
    from drivers.fake import FakeWorld
    from hosts.models import Hypervisor
    from operations.models import Operation

__all__ = ["Place", "farm", "place", "workers"]


@dataclass
class Farm:
    """A hypervisor in memory where guests can be made: a pool, a network, an image as a volume, and all of it seen."""

    world: FakeWorld
    hypervisor: Hypervisor
    workers: Callable[[], None]

    def see(self) -> None:
        """As the watcher's survey would have left the rows."""
        storage = self.world.storage
        pools = storage.pools()
        volumes = {pool.name: storage.volumes(pool.name) for pool in pools if pool.state == StorageState.RUNNING}
        pools_observe(self.hypervisor, pools, volumes, complete=True)
        networks_observe(self.hypervisor, self.world.networks.networks(), complete=True)

    def spec(self, **values: Any) -> VMSpec:
        """One that comes to a guest with a disk made from the image."""
        return VMSpec.model_validate({"name": "web-01", "disks": [{"image": "debian.qcow2"}], **values})

    def submit(self, by: Actor = SYSTEM, **values: Any) -> Operation:
        """Ask for it; a worker may be at it already."""
        return services.vm_create(spec=self.spec(**values), by=by)

    def made(self, by: Actor = SYSTEM, **values: Any) -> Operation:
        """Ask for it and wait for the end."""
        operation = self.submit(by, **values)
        self.workers()
        return engine.wait_ended(operation, timeout_seconds=20)

    def volumes(self, pool: str = "default") -> set[str]:
        """What lies in a pool."""
        return {volume.name for volume in self.world.storage.volumes(pool)}

    def names(self) -> set[str]:
        """What guests there are."""
        return {info.name for info in self.world.infos()}


@pytest.fixture
def farm(place: Place, workers: Callable[[], None]) -> Farm:
    """See `Farm`."""
    place.world.storage.add_pool("default", capacity_bytes=100 * GIB)
    place.world.storage.add_volume(
        "default", "debian.qcow2", content=b"\x51\x46" * 512, capacity_bytes=64 * MIB, format_="qcow2"
    )
    place.world.networks.add("default")
    found = Farm(place.world, place.hypervisor, workers)
    found.see()
    return found
