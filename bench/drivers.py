"""Each driver against its hypervisor's own client library: listing, statistics, one verb, and news of changes from outside.

Engines are real, the others are the labs' simulators and stand-ins, so what is compared is what we add to a round trip, not how
fast a hypervisor is. Both sides talk to the same server in turn. Round trips are HTTP answers, counted in a run of its own.
"""
# ruff: noqa: D102 - `Ears` and `Subject` speak for themselves

from __future__ import annotations

import contextlib
import http.client
import random
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from bench import clients
from bench.report import Row, median, ms, percentile
from drivers import registry
from drivers.types import Credentials, Endpoint, Feature, GuestState
from tests.labs import engines, esx, hyperv, openvz, xapi
from tests.labs.local import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drivers.base import Session
    from drivers.types import GuestEvent, GuestRef

AIM = 2.0
"""Ours takes at most so many times as long as the same by the client library."""
LISTINGS, VERBS, CHANGES = 5, 10, 30
PAUSE_SECONDS = (0.3, 0.4)
"""Between two changes: what is still told of the last one is no news of the next."""


@dataclass
class Subject:
    """One hypervisor with guests, as its own client and as the product see it."""

    kind: str
    endpoint: Endpoint
    client: clients.Client
    pause_seconds: float = 0.0
    """Between two readings of statistics, where the driver keeps them for a moment."""
    readings: int = LISTINGS
    """Of statistics, at most."""
    learn: Callable[[Session], None] = field(default=lambda _session: None)

    def open(self) -> Session:
        return registry.get(self.kind).open(self.endpoint)


# -- who there is ------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def container_engine(kind: str, quick: bool) -> Iterator[Subject]:  # noqa: FBT001
    with engines.running(kind) as engine:
        for number in range(10 if quick else 50):
            container = engine.make("exec sleep 100000")
            if number < (4 if quick else 10):
                container.start()
        client = clients.Docker(engine)
        yield Subject(kind, engine.endpoint, client, readings=1 if kind == "docker" else LISTINGS)  # a second for each
        client.close()


@contextlib.contextmanager
def vsphere(kind: str, quick: bool) -> Iterator[Subject]:  # noqa: FBT001
    count = 50 if quick else 500
    # A vCenter of the simulator has them twice: on a lone host, and in a cluster.
    simulator = esx.start(is_esx=kind == "esx", guests=count if kind == "esx" else count // 2)
    try:
        client = clients.Vsphere(simulator)
        client.start_some(count // 5)
        credentials = Credentials(username=esx.USERNAME, password=esx.PASSWORD, ca_certificate=simulator.authority)
        yield Subject(kind, Endpoint(driver=kind, uri=simulator.uri, credentials=credentials), client)
        client.close()
    finally:
        simulator.stop()


@contextlib.contextmanager
def hyper_v(kind: str, quick: bool) -> Iterator[Subject]:  # noqa: FBT001
    count = 50 if quick else 500
    with tempfile.TemporaryDirectory(prefix="vmm-bench-hyperv-") as name:
        host = hyperv.HyperVHost(Path(name))
        try:
            guids = host.tell("add", name="bench", count=count)["guids"]
            for guid in guids[: count // 5]:
                host.tell("set", guid=guid, EnabledState=2, ProcessID=4000)
            client = clients.HyperV(host)

            def learn(session: Any) -> None:
                client.queries = {"list": asked(session, session.guests), "stats": asked(session, session.stats)}

            yield Subject(kind, host.endpoint(), client, learn=learn)
            client.close()
        finally:
            host.down()


@contextlib.contextmanager
def xen_server(kind: str, quick: bool) -> Iterator[Subject]:  # noqa: FBT001
    count = 50 if quick else 500
    host = xapi.start()
    try:
        for number in range(count):
            uuid = host.make(f"bench-{number}")
            if number < count // 5:
                host.api.VM.start(host.ref(uuid), False, False)  # noqa: FBT003 - XAPI's: not paused, not forced
        credentials = Credentials(username=xapi.USERNAME, password=xapi.PASSWORD, ca_certificate=host.ca)
        client = clients.Xapi(host)
        yield Subject(kind, Endpoint(driver=kind, uri=host.uri, credentials=credentials), client, pause_seconds=1.0)
        client.close()
    finally:
        host.stop()


@contextlib.contextmanager
def openvz_node(kind: str, quick: bool) -> Iterator[Subject]:  # noqa: FBT001
    with openvz.node() as node:
        try:
            for number in range(2 if quick else 6):
                ref = node.make()
                if number == 0:
                    node.exec("vzctl", "start", ref.name)
            client = clients.OpenVz(node)
            yield Subject(kind, node.endpoint, client)
            client.close()
        finally:
            node.clear()


KINDS: dict[str, Callable[[str, bool], contextlib.AbstractContextManager[Subject]]] = {
    "docker": container_engine,
    "podman": container_engine,
    "esx": vsphere,
    "vpx": vsphere,
    "hyperv": hyper_v,
    "xapi": xen_server,
    "openvz": openvz_node,
}


# -- what is measured --------------------------------------------------------------------------------------------------
def run(quick: bool) -> Iterator[Row]:  # noqa: FBT001 - the one option of every bench
    for kind, lab in KINDS.items():
        try:
            with lab(kind, quick) as subject:
                yield from rows_of(subject, quick)
        except (LabError, pytest.skip.Exception) as error:
            print(f"drivers: {kind}: not measured: {error}", flush=True)


def rows_of(subject: Subject, quick: bool) -> Iterator[Row]:  # noqa: FBT001
    times = 3 if quick else LISTINGS
    with contextlib.closing(subject.open()) as session:
        first, counted_first = counting(session.guests)
        subject.learn(session)
        yield from listings(subject, session, first, counted_first, times)
        if type(subject.client).stats is not clients.Client.stats:
            yield statistics(subject, session, times)
        running = next(info.ref for info in session.guests() if info.state is GuestState.RUNNING)
        if session.capabilities()[Feature.SUSPEND].supported:
            yield verbs(subject, session, running, 3 if quick else VERBS)
        if session.capabilities()[Feature.EVENTS].supported:
            yield from news(subject, session, running, 6 if quick else CHANGES)


def listings(subject: Subject, session: Session, first: float, trips: int, times: int) -> Iterator[Row]:
    client, count = subject.client, len(session.guests())
    subject.client.list()
    ours, floor = in_turn(session.guests, client.list, times)
    _, ours_trips = counting(session.guests)
    _, floor_trips = counting(client.list)
    against = f"{client.listing}{told(floor_trips)}"
    if trips != ours_trips:
        yield Row(
            bench="drivers", figure=f"{subject.kind}: first list of {count}{told(trips)}", ours=ms(first),
            floor=ms(floor), against=against,
        )  # fmt: skip
    yield row(f"{subject.kind}: list {count}{told(ours_trips)}", ours, floor, against)
    if isinstance(client, clients.Docker | clients.Xapi):
        _, less_trips = counting(client.list_only)
        less = median([timed(client.list_only) for _ in range(times)])
        yield Row(
            bench="drivers", figure=f"{subject.kind}: the same, against less", ours=ms(ours), floor=ms(less),
            against=f"the bare list{told(less_trips)}",
        )  # fmt: skip


def statistics(subject: Subject, session: Session, times: int) -> Row:
    client = subject.client
    count = len(session.stats())
    _, floor_trips = counting(client.stats)
    times = min(times, subject.readings)
    ours, floor = in_turn(session.stats, client.stats, times, pause_seconds=subject.pause_seconds)
    time.sleep(subject.pause_seconds)
    _, ours_trips = counting(session.stats)
    figure = f"{subject.kind}: statistics of {count} running{told(ours_trips)}"
    return row(figure, ours, floor, f"{client.statistics}{told(floor_trips)}")


def verbs(subject: Subject, session: Session, ref: GuestRef, times: int) -> Row:
    client = subject.client

    def ours() -> None:
        session.suspend(ref)
        session.resume(ref)

    def floor() -> None:
        client.suspend(ref.uuid)
        client.resume(ref.uuid)

    ours()
    floor()
    trips = counting(ours)[1], counting(floor)[1]
    taken = in_turn(ours, floor, times)
    return Row(
        bench="drivers", figure=f"{subject.kind}: suspend and resume{told(trips[0])}", ours=ms(taken[0]),
        floor=ms(taken[1]), against=f"unchecked{told(trips[1])}",
    )  # fmt: skip


def news(subject: Subject, session: Session, ref: GuestRef, changes: int) -> Iterator[Row]:
    """From the return of the client's call to our sink; a hypervisor that tells before it answers is below nought."""
    told_us, told_them = Ears(), Ears()

    def sink(event: GuestEvent) -> None:
        if event.uuid == ref.uuid:
            told_us.heard()

    session.subscribe(sink)
    subject.client.listen(told_them.heard, ref.uuid)
    ours, floor = [], []
    for number in range(-2, changes):
        time.sleep(random.uniform(*PAUSE_SECONDS))
        told_us.forget()
        told_them.forget()
        (subject.client.resume if number % 2 else subject.client.suspend)(ref.uuid)
        returned = time.monotonic()
        if number >= 0:  # the first only warm up
            ours.append(told_us.wait() - returned)
            floor.append(told_them.wait() - returned)
    for percent in (50, 95):
        yield Row(
            bench="drivers", figure=f"{subject.kind}: outside change ({changes}), return to sink, p{percent}",
            ours=ms(percentile(ours, percent)), floor=ms(percentile(floor, percent)), against="the client's own events",
        )  # fmt: skip


class Ears:
    """When something was first heard."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._at: float | None = None

    def heard(self) -> None:
        with self._condition:
            self._at = self._at or time.monotonic()
            self._condition.notify_all()

    def forget(self) -> None:
        with self._condition:
            self._at = None

    def wait(self) -> float:
        with self._condition:
            if not self._condition.wait_for(lambda: self._at is not None, 20):
                raise TimeoutError("no news of a change within 20 s")
            return self._at or 0.0


# -- how ---------------------------------------------------------------------------------------------------------------
def row(figure: str, ours: float, floor: float, against: str) -> Row:
    """One with the aim."""
    return Row(
        bench="drivers", figure=figure, ours=ms(ours), floor=ms(floor), against=against, aim=f"<= {AIM:g} x",
        met=ours <= floor * AIM,
    )  # fmt: skip


def timed(work: Callable[[], object]) -> float:
    since = time.monotonic()
    work()
    return time.monotonic() - since


def in_turn(
    ours: Callable[[], object], floor: Callable[[], object], times: int, *, pause_seconds: float = 0.0
) -> tuple[float, float]:
    """Medians, one after the other: what else the machine does is in both."""
    found: list[tuple[float, float]] = []
    for _ in range(times):
        time.sleep(pause_seconds)
        found.append((timed(ours), timed(floor)))
    return median([each for each, _ in found]), median([each for _, each in found])


def counting(work: Callable[[], object]) -> tuple[float, int]:
    """How long it took, and how many HTTP answers were read, on whatever thread; libvirt's own protocol has none."""
    count = 0
    begin = http.client.HTTPResponse.begin

    def counted(response: http.client.HTTPResponse) -> None:
        nonlocal count
        count += 1
        begin(response)

    with mock.patch.object(http.client.HTTPResponse, "begin", counted):
        return timed(work), count


def asked(session: Any, work: Callable[[], object]) -> list[tuple[str, str]]:
    """The queries that a Hyper-V session makes of its host meanwhile."""
    wire, found = session._wire, []  # noqa: SLF001 - it is looked at from within
    query = wire.query

    def noted(wql: str, namespace: str = "root/virtualization/v2", **options: Any) -> Any:
        found.append((namespace, wql))
        return query(wql, namespace, **options)

    with mock.patch.object(wire, "query", noted):
        work()
    return found


def told(trips: int) -> str:
    """For a figure's name."""
    return f", {trips} round trip{'' if trips == 1 else 's'}" if trips else ""
