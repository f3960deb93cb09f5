"""A guest started over REST, waiting for its end, against `virsh start` of the same guest, turn by turn."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.events import follow
from bench.raw import boot_sector_guest, connected
from bench.report import Row, median, ms, percentile
from tests.labs.local import QEMU_URI, virsh
from tests.server import Server
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libvirt

    from tests.labs.local import Guest

FACTOR_AIM, EXTRA_AIM_MS = 1.05, 30.0


def _known(server: Server, vm: str, state: str) -> None:
    wait_until(lambda: server.get(f"/vms/{vm}")["state"] == state, 30, f"known to be {state}")


def _off(domain: libvirt.virDomain, server: Server, vm: str) -> None:
    """Force the guest off, and wait until the product knows it: news of the start that came before must be in by then."""
    if domain.isActive():
        _known(server, vm, "running")
        domain.destroy()
    _known(server, vm, "shutoff")


def _by_rest(server: Server, vm: str) -> float:
    since = time.monotonic()
    answer = server.api("POST", f"/vms/{vm}/actions/start", Prefer="wait=60")
    seconds = time.monotonic() - since
    if answer.status_code != 200 or answer.json()["state"] != "succeeded":
        raise RuntimeError(f"start: {answer.status_code} {answer.text[:1000]}")
    return seconds


def _by_virsh(guest: Guest) -> float:
    since = time.monotonic()
    virsh(QEMU_URI, "start", guest.uuid)
    return time.monotonic() - since


def _by_call(domain: libvirt.virDomain) -> float:
    since = time.monotonic()
    domain.create()
    return time.monotonic() - since


def run(quick: bool) -> Iterator[Row]:  # noqa: FBT001 - the one option of every bench
    """Three ways in turn, so that what else the machine does falls on all alike; the order changes with each round."""
    times: dict[str, list[float]] = {"rest": [], "virsh": [], "call": []}
    with boot_sector_guest(start=False) as guest, Server() as server, connected() as connection:
        vm = follow(server, guest)
        domain = connection.lookupByUUIDString(guest.uuid)
        ways = [
            ("rest", lambda: _by_rest(server, vm)),
            ("virsh", lambda: _by_virsh(guest)),
            ("call", lambda: _by_call(domain)),
        ]
        for number in range(-1, 6 if quick else 36):
            for name, way in ways:
                _off(domain, server, vm)
                seconds = way()
                if number >= 0:
                    times[name].append(seconds)
            ways = [*ways[1:], ways[0]]
        _off(domain, server, vm)
    rest, by_virsh = ms(median(times["rest"])), ms(median(times["virsh"]))
    aim = FACTOR_AIM * by_virsh + EXTRA_AIM_MS
    count = len(times["rest"])
    yield Row(
        bench="start", figure=f"REST start with Prefer: wait, p50 of {count}", ours=rest,
        floor=by_virsh, against="virsh start", aim=f"<= 1.05 x + 30 ms = {aim:.0f} ms", met=rest <= aim,
    )  # fmt: skip
    yield Row(
        bench="start", figure=f"REST start with Prefer: wait, p95 of {count}", ours=ms(percentile(times["rest"], 95)),
        floor=ms(percentile(times["virsh"], 95)), against="virsh start",
    )  # fmt: skip
    yield Row(
        bench="start", figure=f"REST start with Prefer: wait, p50 of {count}", ours=rest,
        floor=ms(median(times["call"])), against="virDomainCreate on an open connection",
    )  # fmt: skip
