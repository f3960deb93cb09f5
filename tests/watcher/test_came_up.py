"""A machine that comes up: seen as that and as nothing else, and its guests are started in their order, once."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from drivers.types import HostInfo, HostStats
from hosts.choices import LinkState
from hosts.inventory import FRESH_SECONDS, host_load_observe, host_observe
from hosts.models import Host, Hypervisor
from operations.models import Operation
from tests.factories import HypervisorFactory
from tests.waiting import wait_until
from tests.watcher.conftest import add_host, online
from vms.autostart.services import host_came_up
from vms.models import VM
from watcher.service import WatcherService

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.fake import FakeWorld
    from drivers.pool import SessionPool

DAYS = 9 * 86400.0


# -- what is another boot ----------------------------------------------------------------------------------------------------
def told(hypervisor: Hypervisor, uptime: float | None, boot: str = "") -> bool:
    """The hypervisor says this of its machine; whether that is taken for a machine that came up."""
    Host.objects.filter(pk=hypervisor.host_id).update(came_up_at=None)
    host_observe(hypervisor, HostInfo(hostname="h", uptime_seconds=uptime, boot_id=boot), {})
    return Host.objects.filter(pk=hypervisor.host_id, came_up_at__isnull=False).exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("before", "now", "came_up"),
    [
        (None, (60.0, "a"), False),  # seen for the first time: nobody knows since when its guests are as they are
        ((DAYS, "a"), (DAYS + 5, "a"), False),  # a new link, a daemon's restart, our own
        ((DAYS, "a"), (60.0, "b"), True),
        ((30.0, "a"), (90.0, "b"), True),  # booted twice within a minute
        ((DAYS, "a"), (FRESH_SECONDS + 1, "b"), False),  # long ago: whoever wanted its guests to run has started them
        ((DAYS, ""), (60.0, ""), True),  # where only counters tell
        ((DAYS, ""), (DAYS - 1.5, ""), False),  # they go back a little now and then
        ((DAYS, ""), (DAYS + 900, ""), False),  # and count less than has passed
        ((DAYS, "a"), (60.0, ""), True),  # by another of its hypervisors, which tells no name
        ((DAYS, "a"), (DAYS + 9, ""), False),
        ((DAYS, "a"), (None, ""), False),
    ],
)
def test_a_machine_has_come_up_when_it_says_another_boot_a_moment_ago(
    before: tuple[float, str] | None, now: tuple[float | None, str], came_up: bool
) -> None:
    hypervisor = HypervisorFactory()
    if before is not None:
        told(hypervisor, *before)
    assert told(hypervisor, *now) is came_up


@pytest.mark.django_db
def test_one_boot_is_seen_once_by_whichever_of_its_hypervisors() -> None:
    qemu = HypervisorFactory()
    lxc = HypervisorFactory(host=qemu.host)
    told(qemu, DAYS, "a")
    assert [told(lxc, 50.0), told(qemu, 55.0, "b"), told(lxc, 56.0), told(qemu, 57.0, "b")] == [
        True,
        False,
        False,
        False,
    ]
    assert Host.objects.get(pk=qemu.host_id).boot_id == "b"


@pytest.mark.django_db
def test_what_was_sampled_last_counts_and_is_never_less() -> None:
    hypervisor = HypervisorFactory()
    told(hypervisor, 60.0)
    for uptime in (DAYS, 30.0):  # the second comes over a channel of its own, before the machine was looked at
        host_load_observe(hypervisor, HostStats(at=0.0, cpu_count=1, uptime_seconds=uptime))
    assert Host.objects.get(pk=hypervisor.host_id).uptime_seconds == DAYS
    assert told(hypervisor, 90.0)


# -- what is done then -------------------------------------------------------------------------------------------------------
@pytest.fixture
def fleet(
    service: WatcherService, make_world: Callable[[], FakeWorld]
) -> tuple[FakeWorld, Hypervisor, Callable[[], list[str]]]:
    """A machine that has been up for days, with one guest that has a place; what was begun for it, by kind."""
    world = make_world()
    world.add("web")
    born = time.monotonic() - DAYS
    world.clock = lambda: time.monotonic() - born
    world._born = 0.0
    (hypervisor,) = add_host("one", world.endpoint.uri)
    service.start()
    online(hypervisor)
    VM.objects.update(autostart_order=1)
    wait_until(lambda: Host.objects.get().uptime_seconds, 5, "its uptime is known")
    return (
        world,
        hypervisor,
        lambda: list(Operation.objects.filter(kind="host.autostart").values_list("state", flat=True)),
    )


def looked_again(service: WatcherService, act: Callable[[], Any]) -> None:
    """Do it, and wait until the watcher has looked at all anew."""
    (followed,) = service._followed.values()
    watcher = followed.watcher
    lives = watcher.lives
    act()
    wait_until(lambda: watcher.lives > lives and watcher.attached, 10, "it was looked at again")


def test_when_the_machine_boots_its_guests_are_started(service: WatcherService, fleet: Any) -> None:
    world, _, begun = fleet
    looked_again(service, world.reboot)
    assert begun() == ["queued"]
    looked_again(service, world.cut)
    assert begun() == ["queued"]


def test_a_lost_link_and_a_restarted_daemon_start_nothing(service: WatcherService, fleet: Any) -> None:
    world, _, begun = fleet
    looked_again(service, world.cut)
    (followed,) = service._followed.values()
    looked_again(service, followed.watcher.refresh)
    assert begun() == []


def test_our_own_restart_starts_nothing(service: WatcherService, fleet: Any, pool: SessionPool) -> None:
    *_, begun = fleet
    service.stop()
    again = WatcherService(pool=pool, alone=True)
    Hypervisor.objects.update(swept_at=None)
    again.start()
    wait_until(lambda: Hypervisor.objects.get().swept_at, 10, "all was read anew")
    again.stop()
    assert begun() == []


@pytest.mark.parametrize("why", ["maintenance", "nobody has a place", "in the bin"])
def test_nothing_is_started_where_nothing_should_be(service: WatcherService, fleet: Any, why: str) -> None:
    world, hypervisor, begun = fleet
    if why == "maintenance":
        Host.objects.update(maintenance=True)
    elif why == "in the bin":
        VM.objects.update(binned_at=timezone.now())
    else:
        VM.objects.update(autostart_order=None)
    looked_again(service, world.reboot)
    Host.objects.update(maintenance=False)
    looked_again(service, world.cut)
    assert begun() == []
    assert hypervisor.state == LinkState.ONLINE


@pytest.mark.django_db
def test_what_nobody_saw_to_in_time_is_left_alone() -> None:
    """A process that died between seeing it and beginning, and comes back hours later."""
    hypervisor = HypervisorFactory()
    VM.objects.create(hypervisor=hypervisor, uuid="u", name="web", observed_at=timezone.now(), autostart_order=1)
    now = timezone.now()
    Host.objects.update(came_up_at=now - dt.timedelta(seconds=FRESH_SECONDS + 5))
    assert host_came_up(hypervisor.host_id, now=now) is None
    assert Host.objects.get().came_up_at is None
    Host.objects.update(came_up_at=now - dt.timedelta(seconds=60))
    first, second = (host_came_up(hypervisor.host_id, now=now) for _ in range(2))
    assert (first is not None, second) == (True, None)
