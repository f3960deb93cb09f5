"""What goes wrong around the engine: processes that die or leave, a database that is away, deadlines nobody keeps."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys

import pytest
from django.db import OperationalError
from django.utils import timezone

from accounts.actor import SYSTEM
from drivers.errors import Unreachable, WrongState
from operations import engine, process, reconcile
from operations.lease import keeper
from operations.models import Operation
from operations.process import identity, is_dead_here
from tests.operations.toys import Ring, Toy, Turn, TurnParams
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def fresh(operation: Operation) -> Operation:
    return Operation.objects.get(pk=operation.pk)


def state_of(operation: Operation) -> str:
    return fresh(operation).state


def test_host_lost_after_the_command_was_sent_then_what_must_not_happen_twice_is_not_sent_again(bench, workers):
    bench.errors = [Unreachable("gone in the middle")]
    operation = engine.submit(Ring, target=Toy(), by=SYSTEM)
    workers()
    assert (state_of(operation), fresh(operation).error["code"]) == ("failed", "host_unreachable")
    assert bench.runs[operation.target] == 1


def test_database_away_at_the_end_then_the_end_is_written_when_it_is_back(bench, workers, monkeypatch):
    monkeypatch.setattr(engine, "DATABASE_PAUSES", (0.01,) * 3)
    real, fails = engine._end, [OperationalError("away")] * 2

    def end(*args, **kwargs):
        if fails:
            raise fails.pop()
        real(*args, **kwargs)

    monkeypatch.setattr(engine, "_end", end)
    operation = engine.submit(Turn, target=Toy(), by=SYSTEM)
    workers()
    assert (state_of(operation), fresh(operation).attempts, bench.runs[operation.target]) == ("succeeded", 1, 1)


def test_database_away_in_the_middle_then_asked_whether_it_is_done_before_it_is_repeated(bench, workers, monkeypatch):
    def run(self, ctx, target, params):
        bench.enter(target.ref)
        bench.done.add(target.ref)
        raise OperationalError("away")

    monkeypatch.setattr(Turn, "run", run)
    operation = engine.submit(Turn, target=Toy(), by=SYSTEM)
    wait_until(lambda: state_of(operation) == "succeeded", 10, "found done")
    assert (fresh(operation).attempts, bench.runs[operation.target]) == (2, 1)


def test_database_that_always_fails_in_the_middle_then_fails_at_last(bench, workers, monkeypatch):
    def run(self, ctx, target, params):
        raise OperationalError("database or disk is full")

    monkeypatch.setattr(Turn, "run", run)
    operation = engine.submit(Turn, target=Toy(), by=SYSTEM)
    wait_until(lambda: state_of(operation) == "failed", 10, "given up")
    assert fresh(operation).error["code"] == "internal_error"


def test_call_of_an_earlier_attempt_comes_true_meanwhile_then_that_is_success(bench, workers, monkeypatch):
    def run(self, ctx, target, params):
        bench.enter(target.ref)
        if bench.runs[target.ref] == 1:
            raise Unreachable("the connection was lost in the middle of the call")
        bench.done.add(target.ref)
        raise WrongState("already turned")

    monkeypatch.setattr(Turn, "run", run)
    operation = engine.submit(Turn, target=Toy(), by=SYSTEM)
    wait_until(lambda: fresh(operation).ended, 10, "ends")
    assert (state_of(operation), fresh(operation).attempts) == ("succeeded", 2)


def test_target_read_before_the_last_one_ended_then_its_state_is_read_again(bench, monkeypatch):
    class Stale(Toy):
        stale = True

    def check(self, target, params, *, idle):
        if idle and getattr(target, "stale", False):
            raise WrongState("as it was before")

    monkeypatch.setattr(Turn, "check", check)
    assert engine.submit(Turn, target=Stale(), by=SYSTEM).state == "queued"


def running(toy: Toy, worker: str, **values: object) -> Operation:
    """A row as somebody else's running operation."""
    operation = Operation.objects.create(kind="toy.turn", target=toy.ref, lock_key=toy.ref, position=1)
    assert engine.claim(operation.pk) is not None
    Operation.objects.filter(pk=operation.pk).update(worker=worker, **values)
    return fresh(operation)


def test_lease_renewed_while_its_holder_is_waited_for_then_not_taken_over(bench, monkeypatch):
    operation = running(Toy(), "elsewhere:7:7", lease_until=timezone.now() - dt.timedelta(seconds=1))

    def holder_is_back(_seconds: float) -> None:
        Operation.objects.filter(pk=operation.pk).update(lease_until=timezone.now() + dt.timedelta(seconds=30))

    monkeypatch.setattr(reconcile.time, "sleep", holder_is_back)
    reconcile.reconcile()
    assert (state_of(operation), fresh(operation).attempts) == ("running", 1)


def test_deadline_that_its_process_could_not_keep_then_ended_from_outside_and_lock_kept(bench):
    toy = Toy()
    operation = running(toy, "elsewhere:7:7", deadline_at=timezone.now() - dt.timedelta(seconds=31))
    reconcile.reconcile(answer_seconds=0)
    found = fresh(operation)
    assert (found.state, found.error["code"], found.holds_lock) == ("failed", "timeout", True)
    after = engine.submit(Turn, target=toy, by=SYSTEM)
    assert engine.claim(after.pk) is None
    Operation.objects.filter(pk=operation.pk).update(lease_until=timezone.now() - dt.timedelta(seconds=1))
    reconcile.reconcile(answer_seconds=0)
    assert engine.claim(after.pk) is not None


def test_operation_that_kills_every_worker_then_not_tried_for_ever(bench, workers):
    operation = running(Toy(), "elsewhere:7:7", attempts=engine.MOST_ATTEMPTS)
    assert reconcile.take_over_from_the_dead(alone=True) == 1
    workers()
    assert (state_of(operation), fresh(operation).error["code"]) == ("failed", "interrupted")
    assert bench.runs[operation.target] == 0


def test_operation_whose_workers_died_then_that_takes_none_of_its_retries(bench, workers):
    bench.errors = [Unreachable("gone"), Unreachable("gone still")]
    operation = running(Toy(), "elsewhere:7:7", attempts=Turn.retry.times)
    assert reconcile.take_over_from_the_dead(alone=True) == 1
    wait_until(lambda: fresh(operation).ended, 10, "ends")
    assert (state_of(operation), fresh(operation).attempts) == ("succeeded", 5)


def test_alone_then_whoever_else_held_something_is_dead_and_our_own_is_left(bench, workers, monkeypatch):
    mine = running(Toy(), identity())
    theirs = running(Toy(), "before-the-reboot:7:7")
    assert reconcile.take_over_from_the_dead(alone=True) == 1
    wait_until(lambda: state_of(theirs) == "succeeded", 10, "goes on")
    assert state_of(mine) == "running"


def test_process_that_leaves_then_what_fails_of_that_is_handed_back_untouched(bench, workers, monkeypatch):
    bench.gate.clear()
    bench.errors = [Unreachable("This process is shutting down.")]
    operation = engine.submit(Turn, target=Toy(), by=SYSTEM)
    assert bench.entered.acquire(timeout=5)
    keeper.leave()
    late = engine.submit(Turn, target=Toy(), by=SYSTEM)
    bench.gate.set()
    workers()
    assert (state_of(operation), state_of(late)) == ("running", "queued")
    monkeypatch.setattr("operations.doorbell.ring", lambda *_, **__: None)
    reconcile.hand_back()
    found = fresh(operation)
    assert (found.state, found.interrupted, found.holds_lock) == ("queued", True, False)


def test_waited_too_long_or_cancelled_then_secrets_are_forgotten(bench):
    for end in (
        lambda operation: engine.cancel(operation, by=SYSTEM),
        lambda operation: (
            Operation.objects.filter(pk=operation.pk).update(deadline_at=timezone.now() - dt.timedelta(seconds=1)),
            reconcile.reconcile(),
        ),
    ):
        operation = engine.submit(Turn, target=Toy(), by=SYSTEM, params=TurnParams(secret_word="sesame"))
        end(operation)
        assert fresh(operation).ended
        assert fresh(operation).secret_params == {"secret_word": None}


def test_zombie_is_dead_and_the_living_is_not():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    name = f"{identity().rsplit(':', 2)[0]}:{child.pid}:{process._start_time(child.pid)}"
    assert not is_dead_here(name)
    os.kill(child.pid, signal.SIGKILL)
    try:
        wait_until(lambda: is_dead_here(name), 5, "not reaped, but dead")
    finally:
        child.wait()
    assert is_dead_here(name)


def test_same_name_on_another_machine_then_nothing_is_known():
    machine, pid, start = identity().rsplit(":", 2)
    host = machine.partition("/")[0]
    assert not is_dead_here(f"{host}/00000000/{machine.rpartition('/')[2]}:{pid}:1")
    assert is_dead_here(f"{machine}:{pid}:1{start}")
