"""This machine registers itself: once, with what answers, and what was removed stays removed."""

from __future__ import annotations

import dataclasses
import socket
from typing import TYPE_CHECKING

import pytest

from accounts.actor import SYSTEM
from drivers.pool import SessionPool
from events.models import Event
from hosts import local, services
from hosts.models import Host, Hypervisor, LocalEndpoint
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db

THERE = "test:///default"
ABSENT = "qemu+unix:///system?socket=/nonexistent/libvirt-sock"


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    made = SessionPool()
    yield made
    made.close()


@pytest.fixture
def second(settings) -> str:
    """One more hypervisor that answers."""
    path = settings.DATA_DIR / "second.xml"
    path.write_text("<node/>")
    return f"test://{path.resolve()}"


def uris() -> list[str]:
    return sorted(Hypervisor.objects.values_list("uri", flat=True))


def test_what_answers_is_registered_as_one_host(pool):
    assert local.register_local(uris=[THERE, ABSENT], pool=pool) == [ABSENT]
    host = Host.objects.get()
    assert (host.name, uris(), host.demo) == (socket.gethostname(), [THERE], False)
    assert Event.objects.get(type="audit.host_added").actor == "system"


def test_nothing_is_created_where_nothing_answers(pool):
    assert local.register_local(uris=[ABSENT], pool=pool) == [ABSENT]
    assert not Host.objects.exists()


def test_one_that_appears_later_joins_the_host(pool, second):
    local.register_local(uris=[THERE], pool=pool)
    assert local.register_local(uris=[THERE, second], pool=pool) == []
    assert Host.objects.count() == 1
    assert uris() == sorted([THERE, second])


def test_a_socket_that_nobody_listens_on_is_not_tried(monkeypatch):
    monkeypatch.setattr(SessionPool, "session", lambda *_args, **_options: pytest.fail("it was tried"))
    missing = [ABSENT, "docker+unix:///nonexistent/docker.sock"]
    assert local.register_local(uris=missing, pool=SessionPool()) == missing


def test_engines_are_looked_for_at_their_usual_sockets(monkeypatch):
    assert {"docker+unix:///var/run/docker.sock", "podman+unix:///run/podman/podman.sock"} <= set(local.candidates())
    monkeypatch.setattr(local.os, "geteuid", lambda: 1234)
    assert "podman+unix:///run/user/1234/podman/podman.sock" in local.candidates()


@pytest.mark.lab
def test_container_engines_of_this_machine_join_its_host(pool, docker_engine, podman_engine):
    engines = [docker_engine.endpoint.uri, podman_engine.endpoint.uri]
    assert local.register_local(uris=[THERE, *engines], pool=pool) == []
    assert Host.objects.get().name == socket.gethostname()
    assert uris() == sorted([THERE, *engines])


def test_a_second_start_changes_nothing_and_asks_nobody(pool, monkeypatch):
    local.register_local(uris=[THERE], pool=pool)
    monkeypatch.setattr(local, "_ask", lambda *_: pytest.fail("asked again"))
    assert local.register_local(uris=[THERE], pool=pool) == []
    assert Hypervisor.objects.count() == 1


def test_a_removed_hypervisor_does_not_come_back(pool, second):
    local.register_local(uris=[THERE, second], pool=pool)
    services.hypervisor_delete(hypervisor=Hypervisor.objects.get(uri=second), by=SYSTEM)
    assert local.register_local(uris=[THERE, second], pool=pool) == []
    assert uris() == [THERE]


def test_a_removed_host_does_not_come_back_not_even_with_something_new(pool, second):
    local.register_local(uris=[THERE], pool=pool)
    services.host_delete(host=Host.objects.get(), by=SYSTEM)
    assert local.register_local(uris=[THERE, second], pool=pool) == []
    assert not Host.objects.exists()
    assert LocalEndpoint.objects.get().host is None


def test_a_name_that_is_taken_gets_a_number(pool):
    Host.objects.create(name=socket.gethostname().upper())
    local.register_local(uris=[THERE], pool=pool)
    assert Hypervisor.objects.get().host.name == f"{socket.gethostname()}-2"


def test_a_machine_that_is_managed_by_its_address_is_not_added_again(pool, monkeypatch):
    info = local._ask(THERE, pool)
    monkeypatch.setattr(local, "_ask", lambda *_: _with_uuid(info, "ab-1"))
    Host.objects.create(name="by-address", host_uuid="ab-1")
    assert local.register_local(uris=[THERE], pool=pool) == []
    assert not Hypervisor.objects.exists()


def _with_uuid(info, uuid):
    return dataclasses.replace(info, host_uuid=uuid)


@pytest.mark.django_db(transaction=True)
def test_in_the_background_it_goes_on_until_all_are_there(pool, second, monkeypatch):
    answers = {THERE: local._ask(THERE, pool)}
    monkeypatch.setattr(local, "candidates", lambda: (THERE, second))
    monkeypatch.setattr(local, "_ask", lambda uri, _pool: answers.get(uri))
    with local.LocalHost(retry_seconds=0.05) as looking:
        wait_until(lambda: uris() == [THERE], 5, "the first")
        wait_until(local.looked, 5, "looked once")
        answers[second] = answers[THERE]
        wait_until(lambda: uris() == sorted([THERE, second]), 5, "the one that came later")
        wait_until(lambda: not looking._thread.alive, 5, "nothing more to look for")


def test_none_means_none(settings, monkeypatch):
    monkeypatch.setattr(settings.ENV, "local_host", "none")
    monkeypatch.setattr(local, "register_local", lambda **_: pytest.fail("looked"))
    with local.LocalHost() as looking:
        assert local.looked()
        assert not looking._thread.alive
