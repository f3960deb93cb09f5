"""From the hypervisor to the browser: somebody else suspends and resumes a guest, and a WebSocket hears of it.

`suspend` and `resume` are called through libvirt-python on a connection that stays open: the same calls that `virsh` makes,
without the start of a process and without reading its output, so the clock starts at the very return of the call. The floor
is a raw libvirt callback on another connection of the same program, for the same calls. libvirt tells the event a
little before the call returns, so times from the return may lie below nought.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import libvirt

from bench.raw import LifecycleEars, boot_sector_guest, connected
from bench.report import Row, ms, percentile
from bench.sockets import Sockets
from tests.labs.local import QEMU_URI
from tests.server import Server
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.labs.local import Guest

P50_AIM_MS, P99_AIM_MS = 20.0, 100.0
PAUSE_SECONDS = (0.02, 0.08)
"""Between two calls, at random: a beat of ours must not fall in step with a beat of the product's."""


def follow(server: Server, guest: Guest) -> str:
    """Add this machine's QEMU as a host; the id of the guest there."""
    answer = server.api("POST", "/hosts", json={"name": "this-machine", "uri": QEMU_URI})
    if answer.status_code != 201:
        raise RuntimeError(f"POST /hosts: {answer.status_code} {answer.text[:1000]}")

    def found() -> str:
        items = server.get(f"/vms?q={guest.name}")["items"]
        return next((item["id"] for item in items if item["uuid"] == guest.uuid), "")

    return wait_until(found, 60, f"{guest.name} adopted")


def told(vm: str, state: str) -> Callable[[dict[str, Any]], bool]:
    """Whether a message says that the guest is now in `state`."""
    return lambda message: (
        message["type"] == "vm.state_changed" and message["object"]["id"] == vm and message["data"]["to"] == state
    )


def run(quick: bool) -> Iterator[Row]:  # noqa: FBT001 - the one option of every bench
    rounds = 25 if quick else 200
    ours: list[float] = []
    floor: list[float] = []
    ours_whole: list[float] = []
    floor_whole: list[float] = []
    with boot_sector_guest(start=True) as guest, Server() as server:
        vm = follow(server, guest)
        with (
            connected() as caller,
            connected() as hearer,
            Sockets(server, {"types": ["vm.state_changed"], "objects": [f"vm/{vm}"]}) as sockets,
        ):
            domain = caller.lookupByUUIDString(guest.uuid)
            ears = LifecycleEars(hearer, hearer.lookupByUUIDString(guest.uuid))
            calls = (
                (domain.suspend, libvirt.VIR_DOMAIN_EVENT_SUSPENDED, "paused"),
                (domain.resume, libvirt.VIR_DOMAIN_EVENT_RESUMED, "running"),
            )
            for number in range(-3, rounds):
                for call, event, state in calls:
                    time.sleep(random.uniform(*PAUSE_SECONDS))
                    sockets.forget()
                    begun = time.monotonic()
                    call()
                    returned = time.monotonic()
                    heard = ears.wait(event, since=begun)
                    arrived = sockets.wait(told(vm, state), since=begun)[0]
                    if number >= 0:  # the first rounds only warm up
                        ours.append(arrived - returned)
                        floor.append(heard - returned)
                        ours_whole.append(arrived - begun)
                        floor_whole.append(heard - begun)
            ears.close()
    what = f"suspend and resume ({len(ours)})"
    for percent, aim in ((50, P50_AIM_MS), (99, P99_AIM_MS)):
        value = ms(percentile(ours, percent))
        yield Row(
            bench="events", figure=f"{what}: return to socket, p{percent}", ours=value,
            floor=ms(percentile(floor, percent)), against="raw callback",
            aim=f"<= {aim:.0f} ms", met=value <= aim,
        )  # fmt: skip
    yield Row(
        bench="events",
        figure=f"{what}: return to socket, most",
        ours=ms(max(ours)),
        floor=ms(max(floor)),
        against="raw callback",
    )
    for percent in (50, 99):
        yield Row(
            bench="events", figure=f"{what}: begin of the call to socket, p{percent}",
            ours=ms(percentile(ours_whole, percent)), floor=ms(percentile(floor_whole, percent)), against="raw callback",
        )  # fmt: skip
