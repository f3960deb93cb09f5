"""A session in a child process: whatever happens to the child, the parent lives, is told once, and can open another."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import errors, frames, isolated, types
from drivers.errors import AuthFailed, DriverError, NotFound, Timeout, Unreachable, Unsupported, WrongState
from drivers.types import Credentials, Feature, GuestInfo, GuestRef, GuestState
from tests.drivers.isolated_sample import PATH, endpoint
from tests.waiting import wait_until

if TYPE_CHECKING:
    from drivers.isolated import IsolatedSession

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def opened():
    """Opens sessions, and closes them; then nothing may be left."""
    before = _descriptors()
    made: list[IsolatedSession] = []

    def open_(name: str = "", **values) -> IsolatedSession:
        made.append(isolated.open_session(PATH, endpoint(name or f"iso-{uuid.uuid4().hex[:8]}", **values)))
        return made[-1]

    yield open_
    for session in made:
        session.close()
    for session in made:
        wait_until(lambda pid=session.pid: not Path(f"/proc/{pid}").exists(), 5, "dead and buried")
    wait_until(lambda: _descriptors() == before, 5, "no descriptor is left")
    assert not isolated._children
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("isolated-")]


def _descriptors() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{entry.name} {entry.readlink()}")
        except FileNotFoundError:
            continue
    return {name for name in found if "socket" in name or "pipe" in name}


def ref_of(session: IsolatedSession, name: str) -> GuestRef:
    return next(info.ref for info in session.guests() if info.name == name)


# -- it is a session --------------------------------------------------------------------------------------------------
def test_verbs_work_and_their_errors_are_the_drivers(opened):
    session = opened()
    web = ref_of(session, "web")
    session.start(web)
    assert session.guest(web).state is GuestState.RUNNING
    assert session.guest_state(web)[0] is GuestState.RUNNING
    with pytest.raises(WrongState):
        session.start(web)
    with pytest.raises(NotFound):
        session.guest(GuestRef(uuid="nobody"))
    assert session.guest_or_none(GuestRef(uuid="nobody")) is None
    assert [info.name for info in session.guests_by_ref([web])] == ["web"]
    assert session.host_info().cpu_count == session.host_stats().cpu_count == 8
    assert [stats.uuid for stats in session.stats()] == [web.uuid]
    session.set_autostart(web, enabled=True)
    assert session.guest(web).autostart
    assert set(session.capabilities()) == set(Feature)
    with pytest.raises(Unsupported):
        session.open_console(web, "vnc")


def test_news_comes_from_the_child_to_every_sink_that_is_open(opened):
    one = opened("iso-news")
    other = opened("iso-news")
    heard: queue.SimpleQueue = queue.SimpleQueue()
    other_heard: queue.SimpleQueue = queue.SimpleQueue()
    one.subscribe(heard.put)
    other.subscribe(other_heard.put)
    one.start(ref_of(one, "web"))
    assert heard.get(timeout=5).name == other_heard.get(timeout=5).name == "web"
    other.close()
    one.suspend(ref_of(one, "web"))
    wait_until(lambda: heard.get(timeout=5).reason.startswith("suspended"), 5)
    assert other_heard.empty()


def test_sessions_of_one_endpoint_share_a_child_that_ends_with_the_last(opened):
    one, other = opened("iso-shared"), opened("iso-shared")
    assert one.pid == other.pid
    one.close()
    one.close()
    with pytest.raises(Unreachable):
        one.guests()
    assert other.guests()
    other.close()
    wait_until(lambda: not Path(f"/proc/{other.pid}").exists(), 5, "the child has ended")
    assert opened("iso-shared").pid != other.pid


def test_several_threads_call_at_once(opened):
    session = opened()
    web = ref_of(session, "web")
    answers: queue.SimpleQueue = queue.SimpleQueue()
    threads = [threading.Thread(target=lambda: answers.put(session.guest(web))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert {answers.get(timeout=1).name for _ in threads} == {"web"}


def test_open_says_what_the_driver_says(opened):
    with pytest.raises(AuthFailed) as refusal:
        opened("refused")
    assert (refusal.value.detail, refusal.value.context) == ("The password is wrong.", {"attempts": 3})


# -- containment --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "word"), [("segv", "SIGSEGV"), ("garble", "nonsense"), ("mean", "nonsense")])
def test_a_child_that_dies_or_raves_is_told_once_and_another_can_be_opened(opened, name, word):
    session = opened(f"iso-{name}")
    reasons: list[str] = []
    session.on_close(reasons.append)
    with pytest.raises(Unreachable, match=word):
        session.start(ref_of(session, name))
    wait_until(lambda: reasons, 5, "on_close")
    assert len(reasons) == 1
    assert word in reasons[0]
    assert not session.alive()
    with pytest.raises(Unreachable):
        session.guests()
    again = opened(f"iso-{name}")
    assert again.pid != session.pid
    assert again.guests()


def test_a_child_killed_while_nothing_happens_is_noticed_at_once(opened):
    session = opened()
    reasons: queue.SimpleQueue[str] = queue.SimpleQueue()
    session.on_close(reasons.put)
    began = time.monotonic()
    os.kill(session.pid, signal.SIGKILL)
    assert "SIGKILL" in reasons.get(timeout=5)
    print(f"noticed after {(time.monotonic() - began) * 1000:.1f} ms")
    assert not session.alive()
    late: list[str] = []
    session.on_close(late.append)
    assert "SIGKILL" in late[0], "who asks afterwards is told at once"


def test_each_call_under_way_is_told_when_the_child_dies(opened):
    session = opened()
    hang = ref_of(session, "hang")
    failures: queue.SimpleQueue[DriverError] = queue.SimpleQueue()

    def call() -> None:
        try:
            session.start(hang)
        except DriverError as error:
            failures.put(error)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(session._child._waiting) == 3, 5, "all under way")
    os.kill(session.pid, signal.SIGSEGV)
    errors_ = [failures.get(timeout=5) for _ in threads]
    assert all(type(error) is Unreachable and "SIGSEGV" in error.detail for error in errors_)
    assert len({id(error) for error in errors_}) == 3, "each thread has its own"


@pytest.mark.parametrize("name", ["hang", "freeze"])
def test_a_child_that_does_not_answer_is_a_timeout_and_killed(opened, monkeypatch, name):
    session = opened()
    reasons: list[str] = []
    session.on_close(reasons.append)
    guest = ref_of(session, name)
    monkeypatch.setattr(isolated, "ACT_SECONDS", 0.5)
    with pytest.raises(Timeout):
        session.start(guest)
    wait_until(lambda: not Path(f"/proc/{session.pid}").exists(), 5, "killed, stopped or not")
    assert len(reasons) == 1


def test_a_child_stopped_from_outside_is_a_timeout_for_a_reading(opened, monkeypatch):
    session = opened()
    monkeypatch.setattr(isolated, "READ_SECONDS", 0.5)
    os.kill(session.pid, signal.SIGSTOP)
    with pytest.raises(Timeout):
        session.guests()
    with pytest.raises(Unreachable):
        session.guests()


def test_an_open_that_hangs_is_a_timeout_and_killed(opened, monkeypatch):
    monkeypatch.setattr(isolated, "OPEN_SECONDS", 1.0)
    with pytest.raises(Timeout):
        opened("never")


def test_a_child_that_is_killed_while_it_opens_leaves_no_file(opened, monkeypatch, tmp_path):
    monkeypatch.setattr(isolated, "OPEN_SECONDS", 2.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    written = threading.Thread(target=wait_until, args=(lambda: list(tmp_path.glob("*/key")), 5, "the key"))
    written.start()
    with pytest.raises(Timeout):
        opened("keyed")
    written.join()
    wait_until(lambda: not list(tmp_path.iterdir()), 5, "nothing is left")


def test_a_foreign_exception_in_the_child_is_a_driver_error_and_nothing_more(opened):
    session = opened()
    with pytest.raises(DriverError, match="ZeroDivisionError"):
        session.start(ref_of(session, "foreign"))
    assert session.guests()


def test_the_child_ends_when_its_parent_is_killed(tmp_path):
    script = (
        "import sys, time; from drivers import isolated; from tests.drivers.isolated_sample import PATH, endpoint\n"
        "session = isolated.open_session(PATH, endpoint('orphan')); print(session.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 10, "the orphan has ended")


# -- what the child has ---------------------------------------------------------------------------------------------------
def test_secrets_are_neither_on_the_command_line_nor_in_the_environment(opened, monkeypatch):
    monkeypatch.setenv("VMM_SECRET_KEY", "of-our-own")
    session = opened(credentials=Credentials(username="root", password="of-the-host"))
    with pytest.raises(AuthFailed) as seen:
        session.start(ref_of(session, "secrets"))
    assert "drivers.inside" in seen.value.detail
    assert "PATH" in seen.value.detail
    assert "of-our-own" not in seen.value.detail
    assert "of-the-host" not in seen.value.detail


def test_a_child_that_crashes_leaves_no_core_file(opened):
    session = opened()
    with pytest.raises(AuthFailed, match=r"^0 bytes of core$"):
        session.start(ref_of(session, "core"))


def test_the_child_has_nothing_of_django():
    script = (
        "import sys, drivers.inside, drivers.libvirtd.hosted;"
        "print([name for name in sys.modules if name.split('.')[0] in ('django', 'celery', 'channels', 'ninja')])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- what goes over the pipe -------------------------------------------------------------------------------------------------
texts = st.text(max_size=5)
plain = st.none() | st.booleans() | st.integers() | texts | st.binary(max_size=5) | st.sampled_from(GuestState)
guests = st.builds(
    GuestInfo, uuid=texts, name=texts, state=st.sampled_from(GuestState), boot=st.dictionaries(texts, texts)
)
values = st.recursive(
    plain | guests,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_what_is_sent_arrives_as_it_was(value):
    arrived = frames.decode(json.loads(json.dumps(frames.encode(value))))
    assert arrived == value
    assert type(arrived) is type(value)


@given(st.sampled_from(sorted(frames._ERRORS)), texts)
def test_an_error_arrives_as_it_was(name, detail):
    error = getattr(errors, name)(detail, libvirt_code=3, thing=object())
    arrived = frames.decode(json.loads(json.dumps(frames.encode(error))))
    assert (type(arrived), arrived.detail, arrived.context) == (type(error), error.detail, {"libvirt_code": 3})


odd = st.recursive(
    plain.filter(lambda value: not isinstance(value, bytes | GuestState)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["word", "is", "data", "fields", "map", "tuple", "error", "bytes", "x"]), inner
        )
    ),
)


@given(odd)
def test_what_makes_no_sense_is_a_value_error_and_never_more_than_data(value):
    data = json.dumps(value).encode()
    try:
        frames.receive(_Stream(len(data).to_bytes(4, "big") + data))
    except ValueError:
        return


class _Stream:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def recv(self, size: int) -> bytes:
        piece, self._data = self._data[:size], self._data[size:]
        return piece


def test_every_value_of_the_contract_can_be_sent():
    assert {"GuestInfo", "HostInfo", "GuestEvent", "Endpoint", "Credentials", "Support"} <= frames._DATA.keys()
    with pytest.raises(TypeError):
        frames.encode(object())
    assert frames.decode(frames.encode(types.Feature.START)) == types.Feature.START
