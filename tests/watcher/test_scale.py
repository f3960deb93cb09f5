"""A thousand guests on libvirt's own test driver: adopted at once, and followed like one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drivers.pool import SessionPool
from drivers.types import GuestRef
from events.models import Event
from tests.waiting import wait_until
from tests.watcher.conftest import add_host, online, state_of
from vms.models import VM, VMDisk
from watcher.service import WatcherService

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.django_db(transaction=True)

COUNT = 1000


@pytest.fixture
def crowded(settings) -> Iterator[Path]:
    """A definition of a test host with a thousand guests that are off."""
    path = settings.DATA_DIR / "crowded.xml"
    namespace = "http://libvirt.org/schemas/domain/test/1.0"
    guests = "".join(
        f"<domain type='test' xmlns:test='{namespace}'><name>t{number:04}</name><memory unit='MiB'>64</memory>"
        "<os><type>hvm</type></os><test:runstate>5</test:runstate><devices><disk type='file' device='disk'>"
        f"<source file='/disks/{number}'/><target dev='vda'/></disk></devices></domain>"
        for number in range(COUNT)
    )
    path.write_text(f"<node>{guests}</node>")
    yield path
    path.unlink()


def test_a_thousand_guests_are_adopted_and_followed(crowded):
    pool = SessionPool()
    service = WatcherService(pool=pool, alone=True)
    [hypervisor] = add_host("crowd", f"test://{crowded.resolve()}", driver="test")
    service.start()
    try:
        online(hypervisor, 30)
        assert VM.objects.filter(gone_at=None, state="shutoff").count() == VMDisk.objects.count() == COUNT
        assert Event.objects.filter(type="vm.defined").count() == COUNT
        name = "t0777"
        vm = VM.objects.get(name=name)
        with pool.session(hypervisor.endpoint()) as session:
            ref = GuestRef(uuid=vm.uuid)
            session.start(ref)
            wait_until(lambda: state_of(name) == "running", 5, "its start")
            session.force_off(ref)
            wait_until(lambda: state_of(name) == "shutoff", 5, "its end")
            session.undefine(ref)
            wait_until(lambda: state_of(name) is None, 5, "its removal")
        assert VM.objects.filter(gone_at=None).count() == COUNT - 1
    finally:
        service.stop()
        pool.close()
