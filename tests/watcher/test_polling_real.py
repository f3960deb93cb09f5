"""A hypervisor without events, real: what its administrator does with its own tools reaches the rows."""

from __future__ import annotations

import time

import pytest

from drivers.pool import SessionPool
from hosts.models import Hypervisor
from tests.waiting import wait_until
from tests.watcher.conftest import add_host, online, state_of
from watcher.service import WatcherService

pytestmark = [pytest.mark.lab, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def following():
    """The watcher of everything, over a pool with its own times."""
    pool = SessionPool()
    made = WatcherService(pool=pool, alone=True)
    made.start()
    yield made
    made.stop()
    pool.close()


def test_what_the_administrator_of_an_openvz_node_does_reaches_the_rows(following, openvz_node):
    ref = openvz_node.make()
    [hypervisor] = add_host("vz", openvz_node.uri, driver="openvz")
    online(hypervisor, 30)
    assert state_of(ref.name) == "shutoff"
    for command, state in (("start", "running"), ("stop", "shutoff")):
        began = time.monotonic()
        openvz_node.exec("vzctl", command, ref.name)
        wait_until(lambda state=state: state_of(ref.name) == state, 60, f"{command} seen")
        print(f"vzctl {command} seen after {time.monotonic() - began:.2f} s")
    other = openvz_node.make()
    wait_until(lambda: state_of(other.name) == "shutoff", 60, "a new container seen")
    reason = Hypervisor.objects.get(pk=hypervisor.pk).capabilities["events"]["reason"]
    assert reason.startswith("OpenVZ tells no news; changes made outside show within 1 to ")
