"""The session pool against a hypervisor that hangs, lies, dies and comes back."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise

import pytest

from drivers.base import Session
from drivers.errors import AuthFailed, Busy, DriverError, Timeout, Unreachable, Unsupported
from drivers.fake import FakeDriver, FakeWorld, drop_world, world
from drivers.pool import LinkState, SessionPool, Timing, the_pool
from drivers.types import Credentials, Endpoint, Feature, GuestRef, GuestState
from tests.drivers import servers
from tests.waiting import wait_until

FAST = Timing(
    open_seconds=0.3,
    slot_seconds=5.0,
    backoff_first_seconds=0.02,
    backoff_last_seconds=0.05,
    stable_seconds=0.0,
    hung_seconds=0.5,
    pulse_seconds=0.05,
    pulse_bound_seconds=0.3,
    close_seconds=0.5,
)
PATIENT = replace(FAST, open_seconds=5.0, pulse_seconds=60.0)


class Clock:
    """Time that goes only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Calls:
    """Run the same call in many threads and gather what came of it."""

    def __init__(self, call, count: int = 1) -> None:
        self.answers: list = []
        self.threads = [threading.Thread(target=self._run, args=(call,), daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def _run(self, call) -> None:
        try:
            self.answers.append(call())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.answers.append(error)

    def wait(self, seconds: float = 10.0) -> list:
        for thread in self.threads:
            thread.join(seconds)
        assert len(self.answers) == len(self.threads), "a caller hangs"
        return self.answers


@pytest.fixture
def place(request):
    name = request.node.name
    yield world(name)
    drop_world(name)


@pytest.fixture
def make_pool():
    with ExitStack() as stack:

        def make(timing: Timing = FAST, **options) -> SessionPool:
            pool = SessionPool(timing=timing, **options)
            stack.callback(pool.close)
            return pool

        yield make


@pytest.fixture
def pool(make_pool) -> SessionPool:
    return make_pool()


def guests(pool: SessionPool, place: FakeWorld, **options):
    def call():
        with pool.session(place.endpoint, **options) as session:
            return session.guests()

    return call


def pool_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("pool-")]


# -- opening -------------------------------------------------------------------------------------------------------


def test_first_call_opens_and_further_calls_share_it(pool, place):
    place.add("web")
    assert [guest.name for guest in guests(pool, place)()] == ["web"]
    guests(pool, place)()
    assert place.calls["open"] == 1
    status = pool.status(place.endpoint)
    assert (status.state, status.error, status.retry_in_seconds) == (LinkState.UP, None, None)


def test_channels_are_separate_connections(pool, place):
    for channel in ("control", "stats", "console"):
        guests(pool, place, channel=channel)()
    assert place.open_sessions == 3


def test_fifty_threads_open_once_and_make_four_calls_at_once(make_pool, place):
    pool = make_pool(PATIENT)
    place.delay(0.05, verb="open")
    place.delay(0.01, verb="guests")
    assert Calls(guests(pool, place), 50).wait() == [[]] * 50
    assert place.calls["open"] == 1
    assert place.peak_calls == 4


def test_readings_take_turns_on_their_connection(make_pool, place):
    pool = make_pool(PATIENT)
    place.delay(0.01, verb="guests")
    assert Calls(guests(pool, place, channel="stats"), 20).wait() == [[]] * 20
    assert place.peak_calls == 1


def test_hung_open_is_abandoned_counted_and_tried_once(pool, place):
    place.hang("open")
    started = time.monotonic()
    answers = Calls(guests(pool, place), 20).wait()
    assert time.monotonic() - started < 3
    assert {type(answer) for answer in answers} == {Unreachable}
    assert "did not answer" in answers[0].detail
    assert place.calls["open"] == 1
    assert pool.counters().hung_opens == 1
    assert pool.status(place.endpoint).state is LinkState.DOWN


def test_abandoned_open_that_succeeds_late_is_used(pool, place):
    place.hang("open")
    with pytest.raises(Unreachable):
        guests(pool, place)()
    place.release("open")
    wait_until(lambda: pool.status(place.endpoint).state is LinkState.UP)
    assert guests(pool, place)() == []
    assert place.calls["open"] == 1
    assert pool.counters().hung_opens == 0


def test_open_that_hangs_for_good_does_not_keep_a_host_away_for_good(pool, place):
    place.hang("open")
    pool.ensure(place.endpoint)
    assert place.wait_for_calls("open", 2)
    assert pool.counters().hung_opens >= 1
    place.release("open")
    wait_until(lambda: pool.status(place.endpoint).state is LinkState.UP)
    wait_until(lambda: place.open_sessions == 1, message="the superfluous sessions are closed")


def test_number_of_hung_opens_is_bounded(make_pool, place):
    clock = Clock()
    pool = make_pool(replace(Timing(), most_hung=3), clock=clock)

    def let_pass(seconds: float) -> None:
        clock.now += seconds
        pool.ensure(place.endpoint)  # has the keeper look

    place.hang("open")
    let_pass(0)
    for count in (1, 2, 3):
        assert place.wait_for_calls("open", count)
        let_pass(250)
        wait_until(lambda count=count: pool.counters().hung_opens == count)
        let_pass(250)
    for _ in range(5):
        let_pass(1000)
        wait_until(lambda: pool.status(place.endpoint).retry_in_seconds, message="the keeper has looked")
    assert place.calls["open"] == 3


def test_caller_with_little_time_gets_timeout_while_the_open_goes_on(make_pool, place):
    pool = make_pool(PATIENT)
    place.hang("open")
    with pytest.raises(Timeout):
        guests(pool, place, timeout_seconds=0.05)()
    assert pool.status(place.endpoint).state is LinkState.CONNECTING
    place.release("open")
    assert guests(pool, place)() == []


@pytest.mark.parametrize("error", [AuthFailed("wrong password"), Unreachable("refused"), Unsupported("no driver")])
def test_why_an_open_failed_reaches_the_caller(pool, place, error):
    place.refuse(error)
    with pytest.raises(type(error), match=error.detail):
        guests(pool, place)()
    assert pool.status(place.endpoint).error.detail == error.detail


def test_foreign_error_in_open_becomes_a_driver_error(make_pool, place, caplog):
    class Broken(FakeDriver):
        def open(self, endpoint: Endpoint):
            raise SystemError("NULL without exception")

    pool = make_pool(driver_of=lambda _kind: Broken())
    with caplog.at_level(logging.CRITICAL), pytest.raises(DriverError, match="SystemError"):
        guests(pool, place)()


def test_connection_that_dies_while_it_is_set_up_never_counts_as_up(make_pool, place):
    class Doomed(FakeDriver):
        def open(self, endpoint: Endpoint):
            session = super().open(endpoint)
            place.cut("killed at once")
            return session

    pool = make_pool(driver_of=lambda _kind: Doomed())
    with pytest.raises(Unreachable):
        guests(pool, place)()
    assert pool.counters().up == 0


def test_unknown_kind_is_a_driver_error(pool):
    with pytest.raises(Unsupported), pool.session(Endpoint(driver="abacus", uri="abacus:///")):
        pass


# -- breaker and back-off ------------------------------------------------------------------------------------------


def test_in_backoff_callers_are_refused_at_once_and_later_one_tries(make_pool, place):
    clock = Clock()
    pool = make_pool(Timing(), clock=clock, jitter=lambda _low, high: high)
    place.refuse(Unreachable("connection refused"))
    with pytest.raises(Unreachable):
        guests(pool, place)()
    answers = Calls(guests(pool, place), 200).wait()
    assert {type(answer) for answer in answers} == {Unreachable}
    assert answers[0].context["retry_in_seconds"] == 2.0
    assert place.calls["open"] == 1
    clock.now += 2.1
    place.refuse(None)
    assert guests(pool, place)() == []
    assert place.calls["open"] == 2


def test_backoff_doubles_to_its_ceiling_with_full_jitter(make_pool, place):
    clock, asked = Clock(), []

    def jitter(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    pool = make_pool(Timing(), clock=clock, jitter=jitter)
    place.refuse(Unreachable("refused"))
    for _ in range(7):
        with pytest.raises(Unreachable):
            guests(pool, place)()
        clock.now += 20
    assert asked == [(0.0, high) for high in (2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 15.0)]


def test_refused_credentials_are_tried_seldom(make_pool, place):
    clock, asked = Clock(), []
    pool = make_pool(Timing(), clock=clock, jitter=lambda _low, high: asked.append(high) or high)
    place.refuse(AuthFailed("no"))
    for _ in range(5):
        with pytest.raises(AuthFailed):
            guests(pool, place)()
        clock.now += 200
    assert asked == [30.0, 60.0, 120.0, 120.0, 120.0]


def test_half_open_breaker_lets_one_try_and_tells_the_others(make_pool, place):
    clock = Clock()
    pool = make_pool(replace(Timing(), open_seconds=5.0), clock=clock)
    place.refuse(Unreachable("refused"))
    with pytest.raises(Unreachable):
        guests(pool, place)()
    place.refuse(None)
    place.hang("open")
    clock.now += 20
    first = Calls(guests(pool, place))
    assert place.wait_for_calls("open", 2)
    with pytest.raises(Unreachable):
        guests(pool, place)()
    place.release("open")
    assert first.wait() == [[]]


def test_other_channels_do_not_try_a_host_that_control_knows_to_be_away(make_pool, place):
    clock = Clock()
    pool = make_pool(Timing(), clock=clock, jitter=lambda _low, high: high)
    place.refuse(Unreachable("refused"))
    with pytest.raises(Unreachable):
        guests(pool, place)()
    with pytest.raises(Unreachable):
        guests(pool, place, channel="stats")()
    assert place.calls["open"] == 1
    clock.now += 20
    place.refuse(None)
    assert guests(pool, place, channel="stats")() == []


def test_flapping_host_is_backed_off_and_a_stable_one_reopened_at_once(make_pool, place):
    clock = Clock()
    pool = make_pool(replace(Timing(), pulse_seconds=1e9), clock=clock, jitter=lambda _low, high: high)
    guests(pool, place)()
    place.cut()
    with pytest.raises(Unreachable):
        guests(pool, place)()
    clock.now += 20
    guests(pool, place)()
    clock.now += 20
    place.cut()
    assert guests(pool, place)() == []
    assert place.calls["open"] == 3


# -- keeping a link ------------------------------------------------------------------------------------------------


def test_ensured_link_comes_back_by_itself_and_tells(pool, place):
    heard = []
    stop = pool.listen(place.endpoint, heard.append)
    pool.ensure(place.endpoint)
    wait_until(lambda: pool.status(place.endpoint).state is LinkState.UP)
    place.refuse(Unreachable("connection refused"))
    place.cut("killed")
    wait_until(lambda: place.calls["open"] >= 4)
    place.refuse(None)
    wait_until(lambda: heard[-1].state is LinkState.UP)
    states = [status.state for status in heard]
    assert states[:4] == [LinkState.CONNECTING, LinkState.UP, LinkState.LOST, LinkState.CONNECTING]
    assert states[4] is LinkState.DOWN
    assert "killed" in heard[2].error.detail
    assert heard[2].retry_in_seconds is not None
    assert all(before.since <= after.since for before, after in pairwise(heard))
    stop()
    count = len(heard)
    place.cut()
    wait_until(lambda: place.calls["open"] >= 6 and pool.status(place.endpoint).state is LinkState.UP)
    assert len(heard) == count


def test_silent_death_is_found_by_asking(pool, place):
    pool.ensure(place.endpoint)
    wait_until(lambda: pool.status(place.endpoint).state is LinkState.UP)
    place.go_deaf()
    assert place.wait_for_calls("open", 2)
    wait_until(lambda: pool.status(place.endpoint).state is LinkState.UP)


def test_library_that_hangs_when_asked_is_given_up(make_pool, place):
    release = threading.Event()

    class Stuck(FakeDriver):
        def open(self, endpoint: Endpoint):
            session = super().open(endpoint)
            if place.calls["open"] == 1:
                answers = iter([True])
                session.alive = lambda: next(answers, None) or release.wait(30)
            return session

    pool = make_pool(driver_of=lambda _kind: Stuck())
    try:
        pool.ensure(place.endpoint)
        assert place.wait_for_calls("open", 2)
        wait_until(lambda: pool.status(place.endpoint).state is LinkState.UP)
    finally:
        release.set()


def test_call_that_finds_the_host_gone_drops_the_session_at_once(make_pool, place):
    pool = make_pool(PATIENT)
    guests(pool, place)()
    place.fail_next(Unreachable("client socket is closed"), verb="guests")
    with pool.session(place.endpoint) as session:
        with pytest.raises(Unreachable):
            session.guests()
        assert pool.status(place.endpoint).state is LinkState.LOST
        with pytest.raises(Unreachable):
            session.guests()
    assert guests(pool, place)() == []
    assert place.calls["open"] == 2
    wait_until(lambda: place.calls["close"] == 1)


def test_lost_host_does_not_drop_another_hosts_session(make_pool, place):
    pool = make_pool(PATIENT)
    other = world("innocent")
    try:
        with pool.session(place.endpoint) as outer, pool.session(other.endpoint) as inner:
            inner.guests()
            place.cut()
            with pytest.raises(Unreachable):
                outer.guests()
        assert pool.status(other.endpoint).state is LinkState.UP
        assert pool.status(place.endpoint).state is LinkState.LOST
    finally:
        drop_world("innocent")


def test_other_errors_keep_the_session(make_pool, place):
    pool = make_pool(PATIENT)
    for error in (Busy("a job runs"), Timeout("slow"), AuthFailed("not you")):
        place.fail_next(error, verb="guests")
        with pytest.raises(type(error)):
            guests(pool, place)()
    assert guests(pool, place)() == []
    assert place.calls["open"] == 1


def test_foreign_error_in_a_verb_becomes_a_driver_error(make_pool, place, caplog):
    pool = make_pool(PATIENT)
    place.lie("guests", lambda _answer: 1 // 0)
    with caplog.at_level(logging.CRITICAL), pytest.raises(DriverError, match="ZeroDivisionError"):
        guests(pool, place)()


def test_lost_control_has_the_other_channels_checked(make_pool, place):
    pool = make_pool(PATIENT)
    guests(pool, place)()
    guests(pool, place, channel="stats")()
    place.go_deaf()
    with pytest.raises(Unreachable):
        guests(pool, place)()
    wait_until(lambda: pool.counters().up == 0)


# -- calls ---------------------------------------------------------------------------------------------------------


def test_fifth_call_waits_for_a_slot_and_says_so_when_none_comes(make_pool, place):
    pool = make_pool(PATIENT)
    place.hang("guests")
    stuck = Calls(guests(pool, place), 4)
    assert place.wait_for_calls("guests", 4)
    with pytest.raises(Timeout, match="4 calls"), pool.session(place.endpoint, timeout_seconds=0.05) as session:
        session.host_info()
    with pool.session(place.endpoint, channel="stats") as session:
        assert session.host_info().cpu_count == 8
    place.release("guests")
    assert stuck.wait() == [[]] * 4


def test_those_who_wait_for_a_slot_hear_at_once_that_the_host_is_gone(make_pool, place):
    pool = make_pool(PATIENT)
    place.hang("guests")
    with pool.session(place.endpoint) as session:
        callers = Calls(session.guests, 12)
        assert place.wait_for_calls("guests", 4)
        place.cut()
    assert {type(answer) for answer in callers.wait(5)} == {Unreachable}
    assert place.calls["guests"] == 4


def test_what_takes_as_long_as_a_disk_does_takes_no_slot(make_pool, place):
    pool = make_pool(PATIENT)
    place.storage.add_pool("store")
    place.storage.add_volume("store", "web", capacity_bytes=1 << 20)
    gate = threading.Event()

    def read(size: int) -> bytes:
        assert gate.wait(10)
        return bytes(size)

    with pool.session(place.endpoint) as session:
        uploads = Calls(lambda: session.volume_upload("store", "web", read, length=10), 6)
        assert place.wait_for_calls("volume_upload", 6)
        assert session.guests() == []
        gate.set()
        assert uploads.wait() == [None] * 6


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), Unreachable("somebody else's host")], ids=["foreign", "unreachable"]
)
def test_what_the_callers_own_function_raises_is_raised_and_costs_no_link(make_pool, place, error):
    pool = make_pool(PATIENT)
    place.storage.add_pool("store")
    place.storage.add_volume("store", "web", content=b"x" * 100)

    def failing(_value: object) -> bytes:
        raise error

    with pool.session(place.endpoint) as session:
        for call in (
            lambda: session.volume_upload("store", "web", failing, length=10),
            lambda: session.volume_download("store", "web", write=failing),
        ):
            with pytest.raises(type(error)) as caught:
                call()
            assert caught.value is error
    assert pool.status(place.endpoint).state is LinkState.UP


def test_nested_blocks_take_slots_only_for_calls(make_pool, place):
    pool = make_pool(PATIENT)
    with ExitStack() as stack:
        sessions = [stack.enter_context(pool.session(place.endpoint)) for _ in range(10)]
        assert [session.guests() for session in sessions] == [[]] * 10


def test_console_outlives_the_block(make_pool, place):
    pool = make_pool(PATIENT)
    ref = place.add("web", state=GuestState.RUNNING).ref
    with pool.session(place.endpoint, channel="console") as session:
        console = session.open_console(ref, "serial")
    gc.collect()
    assert b"Welcome to web" in console.read(timeout_seconds=5)


def test_lease_is_a_session_and_cannot_close_it(make_pool, place):
    pool = make_pool(PATIENT)
    with pool.session(place.endpoint) as session:
        assert session.endpoint == place.endpoint
        assert session.alive()
        session.close()
        assert session.guest_or_none(GuestRef(uuid="x")) is None
        assert isinstance(session.unsupported(Feature.CONSOLE_VNC), Unsupported)
        assert isinstance(session, Session)
    assert place.calls["close"] == 0


# -- giving up -----------------------------------------------------------------------------------------------------


def test_forget_ends_all_channels_and_stops_trying(pool, place):
    heard = []
    pool.listen(place.endpoint, heard.append)
    pool.ensure(place.endpoint)
    wait_until(lambda: pool.status(place.endpoint).state is LinkState.UP)
    guests(pool, place, channel="stats")()
    pool.forget(place.endpoint)
    wait_until(lambda: place.open_sessions == 0)
    wait_until(lambda: heard[-1].state is LinkState.DOWN)
    opened = place.calls["open"]
    other = world("refusing")
    try:
        other.refuse(Unreachable("refused"))
        pool.ensure(other.endpoint)
        assert other.wait_for_calls("open", 6)  # so many back-offs long nothing happened here
    finally:
        pool.forget(other.endpoint)
        drop_world("refusing")
    assert place.calls["open"] == opened
    assert pool.status(place.endpoint).state is LinkState.DOWN


def test_forget_while_connecting_wakes_callers_and_closes_the_late_session(make_pool, place):
    pool = make_pool(PATIENT)
    place.hang("open")
    caller = Calls(guests(pool, place))
    assert place.wait_for_calls("open", 1)
    pool.forget(place.endpoint)
    assert isinstance(caller.wait(5)[0], Unreachable)
    place.release("open")
    wait_until(lambda: place.calls["close"] == 1)
    assert place.open_sessions == 0


def test_forgetting_and_asking_again_piles_up_no_hung_opens(pool, place):
    place.hang("open")
    for _ in range(10):
        pool.ensure(place.endpoint, at_once=True)
        wait_until(lambda: pool.status(place.endpoint).state is LinkState.CONNECTING or pool.counters().hung_opens)
        with pytest.raises(Unreachable):
            guests(pool, place)()
        pool.forget(place.endpoint)
        assert pool.counters().hung_opens == 1
    assert place.calls["open"] == 1
    place.release("open")
    wait_until(lambda: pool.counters().hung_opens == 0)
    assert guests(pool, place)() == []
    wait_until(lambda: place.open_sessions == 1, message="the late session of the forgotten link is closed")


def test_asked_for_at_once_does_not_wait_for_the_backoff(make_pool, place):
    clock = Clock()
    pool = make_pool(Timing(), clock=clock, jitter=lambda _low, high: high)
    place.refuse(Unreachable("refused"))
    pool.ensure(place.endpoint)
    wait_until(lambda: pool.status(place.endpoint).retry_in_seconds == 2.0)
    pool.ensure(place.endpoint)
    place.refuse(None)
    pool.ensure(place.endpoint, at_once=True)
    wait_until(lambda: pool.status(place.endpoint).state is LinkState.UP)
    assert place.calls["open"] == 2


def test_changed_credentials_are_another_link(make_pool, place):
    pool = make_pool(PATIENT)
    guests(pool, place)()
    other = replace(place.endpoint, credentials=Credentials(username="root", password="new"))
    with pool.session(other) as session:
        session.guests()
    assert place.calls["open"] == 2


def test_forget_and_close_never_wait_for_a_frozen_host(make_pool, place):
    pool = make_pool(FAST)
    for channel in ("control", "stats"):
        guests(pool, place, channel=channel)()
    place.freeze()
    started = time.monotonic()
    pool.forget(place.endpoint)
    assert time.monotonic() - started < 0.3
    wait_until(lambda: pool.counters().hung_closes == 2)
    pool.close()
    assert time.monotonic() - started < 3
    place.thaw()
    wait_until(lambda: place.open_sessions == 0)


def test_frozen_host_leaves_other_hosts_alone(make_pool, place):
    pool = make_pool(FAST)
    others = [world(f"well-{number}") for number in range(20)]
    try:
        place.freeze()
        stuck = Calls(guests(pool, place), 10)
        started = time.monotonic()
        assert [guests(pool, other)() for other in others] == [[]] * 20
        assert time.monotonic() - started < 2
        assert {type(answer) for answer in stuck.wait()} == {Unreachable}
    finally:
        for other in others:
            drop_world(other.name)


def test_closed_pool_refuses(make_pool, place):
    pool = make_pool(PATIENT)
    guests(pool, place)()
    pool.close()
    pool.close()
    assert place.open_sessions == 0
    with pytest.raises(Unreachable):
        guests(pool, place)()


def test_close_wakes_those_who_wait_for_a_connection(make_pool, place):
    pool = make_pool(PATIENT)
    place.hang("open")
    caller = Calls(guests(pool, place))
    assert place.wait_for_calls("open", 1)
    pool.close()
    assert isinstance(caller.wait(5)[0], Unreachable)


def test_no_thread_is_left(place):
    others = set(pool_threads())  # of the process's own pool, which other rooms' tests use
    pool = SessionPool(timing=FAST)
    pool.listen(place.endpoint, lambda _status: None)
    pool.ensure(place.endpoint)
    for _ in range(5):
        wait_until(lambda: pool.status(place.endpoint).state is LinkState.UP)
        place.cut()
    place.freeze()
    place.cut()
    wait_until(lambda: pool.counters().hung_opens)
    place.thaw()
    wait_until(lambda: pool.status(place.endpoint).state is LinkState.UP)
    pool.close()
    wait_until(lambda: not set(pool_threads()) - others)


def test_listener_that_raises_does_not_stop_the_others(pool, place, caplog):
    heard = []

    def bad(_status) -> None:
        raise ValueError("listener")

    with caplog.at_level(logging.CRITICAL):
        pool.listen(place.endpoint, bad)
        pool.listen(place.endpoint, heard.append)
        pool.ensure(place.endpoint)
        wait_until(lambda: len(heard) >= 2)


def test_errors_that_are_kept_hold_no_frames(pool, place):
    place.refuse(Unreachable("refused"))
    with pytest.raises(Unreachable) as first:
        guests(pool, place)()
    kept = pool.status(place.endpoint).error
    assert kept.__traceback__ is None
    assert kept is not first.value


# -- the real thing ------------------------------------------------------------------------------------------------


def test_real_driver_on_a_mute_socket_is_abandoned(make_pool, tmp_path):
    pool = make_pool(FAST)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "sock"))
        endpoint = Endpoint(driver="qemu", uri=f"qemu+unix:///system?socket={tmp_path}/sock")
        with servers.serving(listener, servers.mute):
            started = time.monotonic()
            with pytest.raises(Unreachable, match="did not answer"), pool.session(endpoint):
                pass
            assert time.monotonic() - started < 3
            assert pool.counters().hung_opens == 1
        wait_until(lambda: pool.counters().hung_opens == 0, message="libvirt's open fails once the socket closes")


@pytest.mark.real
@pytest.mark.chaos
def test_real_hosts_killed_and_frozen_are_lost_and_come_back(make_pool, lab_hosts, request):
    request.addfinalizer(lab_hosts.restore)
    pool = make_pool(Timing())
    victim, other = (Endpoint(driver="qemu", uri=lab_hosts.uri(host, "unix")) for host in (1, 2))
    for endpoint in (victim, other):
        pool.ensure(endpoint)
        wait_until(lambda endpoint=endpoint: pool.status(endpoint).state is LinkState.UP, 30)
    for harm, cure in (("kill", "start"), ("freeze", "thaw")):
        getattr(lab_hosts, harm)(1)
        wait_until(lambda: pool.status(victim).state is not LinkState.UP, 20, f"{harm} is seen")
        with pytest.raises(Unreachable), pool.session(victim) as session:
            session.host_info()
        started = time.monotonic()
        with pool.session(other) as session:
            assert session.host_info().cpu_count
        assert time.monotonic() - started < 2, "the other host is unharmed"
        getattr(lab_hosts, cure)(1)
        wait_until(lambda: pool.status(victim).state is LinkState.UP, 30, f"back after {cure}")
        with pool.session(victim) as session:
            assert session.host_info().cpu_count
    assert pool.status(other).state is LinkState.UP


def test_fork_gets_a_pool_of_its_own(place):
    mine = the_pool()
    assert the_pool() is mine
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # no exception may leave the child: it would run the rest of the test session a second time
        answer = b"failed"
        try:
            try:
                mine.ensure(place.endpoint)
            except RuntimeError:
                answer = b"own" if the_pool() is not mine else b"same"
        finally:
            os.write(writer, answer)
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"own"
    os.waitpid(child, 0)
