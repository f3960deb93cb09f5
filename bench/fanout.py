"""One event to many browsers: how long until the last of them has it."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import libvirt

from bench.events import PAUSE_SECONDS, follow, told
from bench.raw import LifecycleEars, boot_sector_guest, connected
from bench.report import Row, median, ms, percentile
from bench.sockets import Sockets
from tests.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

SOCKETS = 200


def run(quick: bool) -> Iterator[Row]:  # noqa: FBT001 - the one option of every bench
    """Read by one program in one thread, whose own work for so many sockets is in the figure."""
    first: list[float] = []
    last: list[float] = []
    floor: list[float] = []
    with boot_sector_guest(start=True) as guest, Server() as server:
        vm = follow(server, guest)
        want = {"types": ["vm.state_changed"]}
        with connected() as caller, connected() as hearer, Sockets(server, want, count=SOCKETS) as sockets:
            domain = caller.lookupByUUIDString(guest.uuid)
            ears = LifecycleEars(hearer, hearer.lookupByUUIDString(guest.uuid))
            calls = (
                (domain.suspend, libvirt.VIR_DOMAIN_EVENT_SUSPENDED, "paused"),
                (domain.resume, libvirt.VIR_DOMAIN_EVENT_RESUMED, "running"),
            )
            for number in range(-2, 5 if quick else 20):
                for call, event, state in calls:
                    time.sleep(random.uniform(*PAUSE_SECONDS))
                    sockets.forget()
                    begun = time.monotonic()
                    call()
                    returned = time.monotonic()
                    heard = ears.wait(event, since=begun)
                    arrived = sockets.wait(told(vm, state), since=begun, count=SOCKETS)
                    if number >= 0:
                        first.append(min(arrived) - returned)
                        last.append(max(arrived) - returned)
                        floor.append(heard - returned)
            ears.close()
    base = {"bench": "fanout", "floor": ms(median(floor)), "against": "raw callback, one listener"}
    yield Row(figure=f"return to first of {SOCKETS} sockets, p50", ours=ms(median(first)), **base)
    yield Row(figure=f"return to last of {SOCKETS} sockets, p50", ours=ms(median(last)), **base)
    yield Row(figure=f"return to last of {SOCKETS} sockets, p99", ours=ms(percentile(last, 99)), **base)
