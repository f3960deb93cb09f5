from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from drivers.fake import FakeWorld, drop_world, world
from drivers.pool import SessionPool, Timing
from hosts.choices import LinkState
from hosts.models import Host, Hypervisor
from tests.waiting import wait_until
from vms.models import VM
from watcher.service import WatcherService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FAST = Timing(
    open_seconds=1.0,
    backoff_first_seconds=0.02,
    backoff_last_seconds=0.1,
    refused_last_seconds=0.2,
    stable_seconds=0.0,
    hung_seconds=0.5,
    pulse_seconds=0.2,
    pulse_bound_seconds=0.5,
)


@pytest.fixture
def make_world() -> Iterator[Callable[[], FakeWorld]]:
    """Worlds of this test's own, gone (and thawed) with it."""
    made: list[FakeWorld] = []

    def make() -> FakeWorld:
        made.append(world(f"w-{uuid.uuid4().hex[:10]}"))
        return made[-1]

    yield make
    for one in made:
        drop_world(one.name)


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    """A pool that retries fast."""
    made = SessionPool(timing=FAST)
    yield made
    made.close()


def add_host(name: str, *uris: str, driver: str = "fake", **values: object) -> list[Hypervisor]:
    """A host as the service adds it, with a hypervisor for each URI."""
    host = Host.objects.create(name=name, **values)
    return [Hypervisor.objects.create(host=host, driver=driver, uri=uri) for uri in uris]


@pytest.fixture
def service(transactional_db: None, pool: SessionPool, make_world: object) -> Iterator[WatcherService]:
    """The watcher of everything, started by the test, ended after it within 2 s."""
    made = WatcherService(pool=pool, alone=True)
    yield made
    made.stop()


def online(hypervisor: Hypervisor, seconds: float = 10.0) -> Hypervisor:
    """Wait until it is online, and hand it back fresh."""
    return stands(hypervisor, LinkState.ONLINE, seconds)


def stands(hypervisor: Hypervisor, state: LinkState, seconds: float = 10.0) -> Hypervisor:
    """Wait until its link stands so, and hand it back fresh."""
    wait_until(
        lambda: Hypervisor.objects.filter(pk=hypervisor.pk, state=state).exists(), seconds, f"{hypervisor} {state}"
    )
    hypervisor.refresh_from_db()
    return hypervisor


def state_of(name: str) -> str | None:
    """The state of the guest of that name, None when it is not there."""
    return VM.objects.filter(name=name, gone_at=None).values_list("state", flat=True).first()
