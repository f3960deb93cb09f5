"""libvirtd killed, then frozen, over TLS: seen in time, back in time, nothing else held up, nothing left hanging."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.chaos.conftest import (
    MEASURED,
    act,
    add_host,
    check_log,
    check_states,
    locks_held,
    measured,
    operation,
    vm_of,
    wait_ended,
    wait_host,
)  # fmt: skip
from tests.chaos.life import Life
from tests.labs import local
from tests.server import Clock, Server, p95
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.labs.hosts import LabHosts

pytestmark = [pytest.mark.chaos, pytest.mark.real, pytest.mark.alone, pytest.mark.timeout(170)]

OFFLINE_SECONDS, BACK_SECONDS = 20.0, 30.0
THREADS_MORE = 16


def guest_on(lab_hosts: LabHosts, host: int, label: str, *, start: bool) -> local.Guest:
    """16 MiB and a BIOS that finds nothing to boot."""
    guest = local._new(lab_hosts.uri(host, "unix"), local.unique_name(label), "")
    xml = (
        f"<domain type='qemu'><name>{guest.name}</name><uuid>{guest.uuid}</uuid><memory unit='MiB'>16</memory>"
        "<vcpu>1</vcpu><os><type arch='x86_64'>hvm</type></os></domain>"
    )
    local.define(guest.uri, guest, xml)
    if start:
        guest.start()
    return guest


@pytest.fixture
def guests(lab_hosts: LabHosts) -> Iterator[dict[str, local.Guest]]:
    made = {}
    try:
        made["on"] = guest_on(lab_hosts, 1, "on", start=True)
        made["off"] = guest_on(lab_hosts, 1, "off", start=False)
        made["other"] = guest_on(lab_hosts, 2, "other", start=True)
        yield made
    finally:
        lab_hosts.restore()
        for guest in made.values():
            guest.remove()


def refused_at_once(server: Server, vm: str) -> None:
    with Clock() as clock:
        answer = server.api("POST", f"/vms/{vm}/actions/start")
    assert (answer.status_code, answer.json()["code"]) == (503, "host_unreachable")
    assert clock.seconds < 2


def test_libvirtd_killed_and_frozen_then_seen_in_time_back_in_time_and_nobody_elses_problem(
    lab_hosts: LabHosts, guests: dict[str, local.Guest]
) -> None:
    credentials = {
        "ca_certificate": (lab_hosts.pki / "cacert.pem").read_text(),
        "certificate": (lab_hosts.pki / "clientcert.pem").read_text(),
        "private_key": (lab_hosts.pki / "clientkey.pem").read_text(),
    }
    with Server() as server, server.browser() as browser:
        hosts = [
            add_host(server, f"hv{n}", f"qemu+tls://{lab_hosts.address(n)}/system", credentials=credentials)["id"]
            for n in (1, 2)
        ]
        on, off, other = (vm_of(server, guests[name])["id"] for name in ("on", "off", "other"))
        with Life(server, browser, other, hosts[1]) as life:
            wait_until(lambda: life.worked >= 4, 30, "life goes on")
            threads = server.threads()

            # -- killed ------------------------------------------------------------------------------------------------
            with Clock() as clock:
                lab_hosts.kill(1)
                wait_host(server, hosts[0], "offline", OFFLINE_SECONDS)
            measured("libvirtd killed: until its host shows offline", clock.seconds)
            assert server.get(f"/vms/{on}")["stale"] is True
            refused_at_once(server, off)
            lab_hosts.start(1)
            with Clock() as clock:
                wait_host(server, hosts[0], "online", BACK_SECONDS)
            measured("libvirtd back after a kill: until its host shows online", clock.seconds)
            assert act(server, off, "start", Prefer="wait=30")["state"] == "succeeded"

            # -- frozen, with work under way ---------------------------------------------------------------------------
            worked = life.worked
            with Clock() as clock:
                lab_hosts.freeze(1)
                under_way = act(server, on, "suspend")["id"]
                wait_host(server, hosts[0], "offline", OFFLINE_SECONDS)
            measured("libvirtd frozen: until its host shows offline", clock.seconds)
            refused_at_once(server, off)
            wait_until(lambda: operation(server, under_way)["state"] != "running", 20, "the call has come back")
            frozen_until = time.monotonic() + 5
            most = threads
            while time.monotonic() < frozen_until:
                most = max(most, server.threads())
                wait_until(lambda before=life.worked: life.worked > before, 10, "life goes on")
            assert life.worked > worked + 4
            lab_hosts.thaw(1)
            with Clock() as clock:
                wait_host(server, hosts[0], "online", BACK_SECONDS)
            measured("libvirtd thawed: until its host shows online", clock.seconds)
            found = wait_ended(server, [under_way], 60)[under_way]
            assert found["state"] == "succeeded" or found["error"]["code"] == "host_unreachable", found
        check_states(server, list(guests.values()))
        check_log(server)
        assert locks_held(server) == 0
        assert life.wrong == []
        slowest = p95(life.seconds)
        measured("p95 of 9 pages and calls beside a dead and a frozen host", slowest)
        assert slowest < 1.0
        MEASURED["threads of serve: before, most while a host is frozen"] = f"{threads}, {most}"
        assert most <= threads + THREADS_MORE
        wait_until(lambda: server.threads() <= threads + 4, 20, "threads of the dead host are gone")
