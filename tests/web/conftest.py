from __future__ import annotations

import dataclasses
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from core.threads import database_released
from drivers.fake import FakeDriver, FakeWorld, drop_world, world
from drivers.pool import the_pool
from hosts.models import Hypervisor
from operations import doorbell, engine
from operations.lease import keeper
from tests.factories import HypervisorFactory
from vms.inventory import vm_observe

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterable, Iterator

    from vms.models import VM


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A worker in this process: each ring is answered by a thread of its own. Calling it waits until all is quiet."""
    threads: list[threading.Thread] = []

    def execute(pk: uuid.UUID) -> None:
        with database_released():
            engine.execute(pk)

    def ring(ids: Iterable[uuid.UUID], *, delay_seconds: float = 0.0) -> None:
        for pk in ids:
            thread = threading.Timer(delay_seconds, execute, [pk])
            thread.start()
            threads.append(thread)  # whoever waits joins what has begun

    def quiet() -> None:
        while threads:
            thread = threads.pop()
            thread.join(30)
            assert not thread.is_alive(), "a worker thread hangs"

    monkeypatch.setattr(doorbell, "ring", ring)
    yield quiet
    quiet()
    keeper.stop()


@dataclass
class Place:
    """A hypervisor in memory with its rows, as a watcher would have left them."""

    world: FakeWorld
    hypervisor: Hypervisor

    def guest(self, name: str, **options: Any) -> VM:
        """One more guest, seen."""
        return vm_observe(self.hypervisor, self.world.add(name, **options))


@pytest.fixture
def place(request: pytest.FixtureRequest, transactional_db: None) -> Iterator[Place]:
    """For tests in which a worker acts: its threads see what is committed."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[:60]
    made = world(name)
    hypervisor = HypervisorFactory(uri=made.endpoint.uri)
    session = FakeDriver().open(made.endpoint)
    supports = {str(key): dataclasses.asdict(value) for key, value in session.capabilities().items()}
    session.close()
    Hypervisor.objects.filter(pk=hypervisor.pk).update(capabilities=supports)
    hypervisor.refresh_from_db()
    yield Place(made, hypervisor)
    the_pool().forget(hypervisor.endpoint())
    drop_world(name)
