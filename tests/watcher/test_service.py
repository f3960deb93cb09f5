"""The book-keeping: hypervisors that come, go and change are noticed; leases say who follows what; readiness says when."""

from __future__ import annotations

import datetime as dt
import time

import pytest
from django.utils import timezone

from accounts.actor import SYSTEM
from drivers.pool import SessionPool
from drivers.types import GuestState
from hosts import local, services
from hosts.choices import LinkState
from hosts.models import Host, Hypervisor
from tests.waiting import wait_until
from tests.watcher.conftest import FAST, add_host, online, stands, state_of
from watcher import lease, readiness
from watcher.service import WatcherService

pytestmark = pytest.mark.django_db(transaction=True)


# -- what changes in the table -----------------------------------------------------------------------------------------
def test_a_host_that_is_added_is_followed_within_a_moment(service, make_world):
    service.start()
    place = make_world()
    place.add("web")
    wait_until(lambda: service._seq >= 0 and service._asked_at > 0, 5, "the service runs")
    [hypervisor] = add_host("a", place.endpoint.uri)
    services.audit.record(SYSTEM, "host_added", object=hypervisor.host.ref)
    started = time.monotonic()
    online(hypervisor)
    assert time.monotonic() - started < 2.0, "by the bell, not by the look each 5 s"


def test_a_row_without_an_event_is_noticed_by_the_look_at_the_table(service, make_world):
    service.start()
    [hypervisor] = add_host("a", make_world().endpoint.uri)
    online(hypervisor, 12)


def test_a_removed_host_is_let_go(service, make_world):
    place = make_world()
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    services.host_delete(host=hypervisor.host, by=SYSTEM)
    wait_until(lambda: place.open_sessions == 0, 5, "the connection is given up")
    assert not service._followed


def test_new_credentials_are_a_new_connection(service, make_world):
    place = make_world()
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    opened = place.calls["open"]
    services.hypervisor_update(hypervisor=hypervisor, by=SYSTEM, credentials={"username": "u", "password": "p"})
    wait_until(lambda: place.calls["open"] > opened, 5, "opened anew")
    online(hypervisor)
    place.add("web")
    wait_until(lambda: state_of("web"), 5, "followed on the new connection")


def test_refresh_lists_anew(service, make_world):
    place = make_world()
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    swept = place.calls["guests"]
    services.host_refresh(host=hypervisor.host, by=SYSTEM)
    wait_until(lambda: place.calls["guests"] > swept, 5, "a full listing")


def test_refresh_tries_a_host_in_back_off_at_once(transactional_db, make_world):
    place = make_world()
    place.refuse(services.AlreadyExists("no"))
    pool = SessionPool(timing=FAST, jitter=lambda low, high: 60.0)
    service = WatcherService(pool=pool, alone=True)
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    try:
        stands(hypervisor, LinkState.ERROR)
        place.refuse(None)
        services.host_refresh(host=hypervisor.host, by=SYSTEM)
        online(hypervisor, 5)
    finally:
        service.stop()
        pool.close()


def test_a_watcher_that_died_is_started_again(service, make_world, monkeypatch):
    monkeypatch.setattr("watcher.service.LOOK_SECONDS", 0.1)
    place = make_world()
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    dead = next(iter(service._followed.values())).watcher
    dead.ask_stop()
    wait_until(lambda: next(iter(service._followed.values())).watcher is not dead, 5, "a new one")
    place.add("web")
    wait_until(lambda: state_of("web"), 5, "which follows")


def test_online_before_the_restart_is_connecting_after_it_and_not_announced_twice(service, make_world):
    place = make_world()
    [hypervisor] = add_host("a", place.endpoint.uri)
    service.start()
    online(hypervisor)
    service.stop()
    place.hang("guests")
    pool = SessionPool(timing=FAST)
    second = WatcherService(pool=pool, alone=True, me="elsewhere:1:1")
    second.start()
    try:
        stands(hypervisor, LinkState.CONNECTING)
        place.release("guests")
        online(hypervisor)
        kinds = [event.type for event in services.audit.log.Event.objects.filter(type__startswith="host.o")]
        assert kinds == ["host.online"]
    finally:
        second.stop()
        pool.close()


# -- leases ------------------------------------------------------------------------------------------------------------
def rows(count: int) -> None:
    for number in range(count):
        add_host(f"h{number}", f"fake:///lease{number}")


def held(name: str) -> int:
    return Hypervisor.objects.filter(watcher=name).count()


def test_alone_takes_all_whoever_held_them():
    rows(3)
    Hypervisor.objects.update(watcher="old:1:1", watcher_lease_until=timezone.now() + dt.timedelta(hours=1))
    assert len(lease.hold(alone=True, me="me:2:2")) == 3
    assert held("me:2:2") == 3


def test_a_valid_lease_is_respected_and_one_that_ran_out_is_taken_over():
    rows(2)
    first, second = Hypervisor.objects.order_by("pk")
    now = timezone.now()
    Hypervisor.objects.filter(pk=first.pk).update(watcher="x:1:1", watcher_lease_until=now + dt.timedelta(seconds=10))
    Hypervisor.objects.filter(pk=second.pk).update(watcher="x:1:1", watcher_lease_until=now - dt.timedelta(seconds=1))
    assert [row.pk for row in lease.hold(alone=False, me="me:2:2")] == [second.pk]


def test_what_a_dead_process_of_this_machine_held_is_taken_over_at_once(monkeypatch):
    rows(1)
    Hypervisor.objects.update(watcher="x:1:1", watcher_lease_until=timezone.now() + dt.timedelta(seconds=10))
    assert lease.hold(alone=False, me="me:2:2") == []
    monkeypatch.setattr(lease, "is_dead_here", lambda name: name == "x:1:1")
    assert len(lease.hold(alone=False, me="me:2:2")) == 1


def test_processes_share_evenly_and_none_is_left_over():
    rows(5)
    names = ["a:1:1", "b:1:1", "c:1:1"]
    for _ in range(4):
        for name in names:
            lease.hold(alone=False, me=name)
    assert sorted(held(name) for name in names) == [1, 2, 2]
    lease.leave(me="a:1:1")
    for _ in range(2):
        for name in names[1:]:
            lease.hold(alone=False, me=name)
    assert sorted(held(name) for name in names) == [0, 2, 3]


def test_two_processes_follow_each_hypervisor_once(transactional_db, make_world, monkeypatch):
    monkeypatch.setattr("watcher.service.LOOK_SECONDS", 0.1)
    places = [make_world() for _ in range(4)]
    hypervisors = [add_host(f"h{number}", place.endpoint.uri)[0] for number, place in enumerate(places)]
    pools = [SessionPool(timing=FAST) for _ in range(2)]
    both = [WatcherService(pool=pool, alone=False, me=f"{name}:1:1") for name, pool in zip("ab", pools, strict=True)]
    try:
        for service in both:
            service.start()
        wait_until(lambda: sorted(len(service._followed) for service in both) == [2, 2], 10, "two each")
        for hypervisor in hypervisors:
            online(hypervisor)
        both[0].stop()
        wait_until(lambda: len(both[1]._followed) == 4, 10, "the survivor takes over")
    finally:
        for service in both:
            service.stop()
        for pool in pools:
            pool.close()


# -- readiness -----------------------------------------------------------------------------------------------------------
def test_ready_when_each_local_hypervisor_was_swept_or_failed(service, make_world, monkeypatch):
    monkeypatch.setattr(readiness, "_started", time.monotonic())
    well, ill, far = make_world(), make_world(), "fake://far.example/x"
    well.add("web", state=GuestState.RUNNING)
    well.hang("guests")
    ill.refuse(services.AlreadyExists("no"))
    add_host("a", well.endpoint.uri)
    add_host("b", ill.endpoint.uri)
    add_host("c", far)
    ok, why = readiness.ready()
    assert (ok, len(why)) == (False, 2)
    service.start()
    wait_until(lambda: len(readiness.ready()[1]) == 1, 10, "the failed one is done")
    assert well.endpoint.uri in readiness.ready()[1][0]
    well.release("guests")
    wait_until(lambda: readiness.ready() == (True, []), 10, "ready")


def test_ready_after_thirty_seconds_whatever_hangs(monkeypatch):
    add_host("a", "fake:///never")
    monkeypatch.setattr(readiness, "_started", time.monotonic() - 31)
    ok, why = readiness.ready()
    assert ok
    assert why, "still said"


def test_not_ready_while_this_machine_is_still_being_looked_at(db, monkeypatch):
    monkeypatch.setattr(readiness, "_started", time.monotonic())
    monkeypatch.setattr(local, "_looking_since", time.monotonic())
    assert not readiness.ready()[0]


def test_a_lease_of_a_dead_process_is_not_readiness(monkeypatch):
    monkeypatch.setattr(readiness, "_started", time.monotonic())
    rows(1)
    Host.objects.update(state="online")
    until = timezone.now() + dt.timedelta(seconds=10)
    Hypervisor.objects.update(state="online", watcher="x:1:1", watcher_lease_until=until)
    assert readiness.ready()[0]
    monkeypatch.setattr(readiness, "is_dead_here", lambda _: True)
    assert not readiness.ready()[0]
