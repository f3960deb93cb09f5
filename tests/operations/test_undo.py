"""What a failed operation has made is taken back: once, by whoever ends it, and its first error is the one that is told."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import OperationalError
from django.utils import timezone

from accounts.actor import SYSTEM
from core.errors import Conflict
from drivers.errors import NoSpace, Unreachable
from operations import bulk, engine, reconcile
from operations.lease import keeper
from operations.models import Operation, OperationLog
from tests.operations.toys import Build, BuildSlowly, Toy, TurnParams
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
PAST = dt.timedelta(hours=-1)


def fresh(operation: Operation) -> Operation:
    return Operation.objects.get(pk=operation.pk)


def end_of(operation: Operation) -> tuple[str, str]:
    found = fresh(operation)
    return found.state, (found.error or {}).get("code", "")


def lines(operation: Operation) -> list[str]:
    return list(OperationLog.objects.filter(operation=operation).values_list("text", flat=True))


def running(worker: str, kind: str = "toy.build", **values: object) -> Operation:
    """A row as somebody else's running operation."""
    toy = Toy()
    operation = Operation.objects.create(kind=kind, target=toy.ref, lock_key=toy.ref, position=1)
    assert engine.claim(operation.pk) is not None
    Operation.objects.filter(pk=operation.pk).update(worker=worker, **values)
    return fresh(operation)


def test_last_attempt_fails_then_undone_and_its_error_told(bench, workers):
    bench.errors = [NoSpace("The pool is full.")]
    operation = engine.submit(Build, target=Toy(), by=SYSTEM)
    workers()
    assert end_of(operation) == ("failed", "no_space")
    assert (bench.made, bench.undone, fresh(operation).holds_lock) == ([], 1, False)


def test_unforeseen_error_then_undone_too(bench, workers):
    bench.errors = [RuntimeError("a bug")]
    operation = engine.submit(Build, target=Toy(), by=SYSTEM)
    workers()
    assert (end_of(operation), bench.made, bench.undone) == (("failed", "internal_error"), [], 1)


def test_tried_again_then_not_undone_until_the_last_attempt(bench, workers):
    bench.errors = [Unreachable("away"), Unreachable("away")]
    operation = engine.submit(Build, target=Toy(), by=SYSTEM)
    wait_until(lambda: fresh(operation).ended, 10, "ends")
    assert (end_of(operation)[0], len(bench.made), bench.undone) == ("succeeded", 3, 0)


def test_undo_fails_then_a_line_says_so_and_the_first_error_stays(bench, workers):
    def fail() -> None:
        raise Conflict("The volume is in use.")

    bench.errors, bench.undoing = [NoSpace("The pool is full.")], [fail]
    operation = engine.submit(Build, target=Toy(), by=SYSTEM)
    workers()
    assert end_of(operation) == ("failed", "no_space")
    assert "Not all could be undone: The volume is in use." in lines(operation)


def test_undo_has_a_bug_then_the_first_error_stays(bench, workers):
    bench.errors, bench.undoing = [NoSpace("The pool is full.")], [lambda: 1 / 0]
    operation = engine.submit(Build, target=Toy(), by=SYSTEM)
    workers()
    assert end_of(operation) == ("failed", "no_space")
    assert any(line.startswith("Not all could be undone") for line in lines(operation))


def test_database_away_while_undoing_then_ends_all_the_same(bench, workers, monkeypatch):
    def away() -> None:
        monkeypatch.setattr("operations.context.RunContext.log", away_too)
        raise OperationalError("away")

    def away_too(self, text: str) -> None:
        raise OperationalError("away")

    bench.errors, bench.undoing = [NoSpace("The pool is full.")], [away]
    operation = engine.submit(Build, target=Toy(), by=SYSTEM)
    workers()
    assert end_of(operation) == ("failed", "no_space")


def test_cancelled_while_it_runs_then_undone(bench, workers):
    bench.gate.clear()
    operation = engine.submit(Build, target=Toy(), by=SYSTEM)
    assert bench.entered.acquire(timeout=5)
    engine.cancel(operation, by=SYSTEM)
    workers()
    assert (end_of(operation), bench.made, bench.undone) == (("cancelled", ""), [], 1)


def test_cancelled_in_the_queue_after_an_attempt_then_claimed_once_more_to_be_undone(bench, workers):
    toy = Toy()
    bench.made = ["block"]
    operation = Operation.objects.create(kind="toy.build", target=toy.ref, lock_key=toy.ref, attempts=1)
    engine.cancel(operation, by=SYSTEM)
    workers()
    assert (end_of(operation), bench.made, bench.runs[toy.ref]) == (("cancelled", ""), [], 0)


def test_never_tried_then_cancelled_at_once(bench):
    operation = engine.submit(Build, target=Toy(), by=SYSTEM)
    assert engine.cancel(operation, by=SYSTEM).state == "cancelled"
    assert bench.undone == 0


def test_half_made_child_of_a_cancelled_parent_then_undone_the_others_end_at_once(bench):
    parent = bulk.submit_bulk(Build, targets=[Toy(), Toy()], by=SYSTEM, title="2 toys")
    half, whole = Operation.objects.filter(parent=parent).order_by("position")
    Operation.objects.filter(pk=half.pk).update(attempts=1)
    engine.cancel(parent, by=SYSTEM)
    assert (fresh(half).state, fresh(half).cancel_requested, fresh(whole).state) == ("queued", True, "cancelled")
    engine.execute(half.pk)
    keeper.stop()
    assert (end_of(half), bench.undone, fresh(parent).state) == (("cancelled", ""), 1, "cancelled")


def test_waits_too_long_after_an_attempt_then_undone_and_ended_as_timeout(bench, workers):
    operation = Operation.objects.create(
        kind="toy.build", target=Toy().ref, attempts=1, deadline_at=timezone.now() + PAST
    )
    reconcile.reconcile(answer_seconds=0)
    workers()
    assert (end_of(operation), bench.undone, bench.runs[operation.target]) == (("failed", "timeout"), 1, 0)


def test_undoing_does_not_come_to_its_turn_either_then_ended_without(bench):
    problem = {"code": "cancelled", "detail": "Cancelled on request."}
    operation = Operation.objects.create(
        kind="toy.build", target=Toy().ref, attempts=1, deadline_at=timezone.now() + PAST, error=problem
    )
    reconcile.reconcile(answer_seconds=0)
    assert (fresh(operation).state, bench.undone) == ("cancelled", 0)


def test_interrupted_and_not_to_be_gone_on_with_then_undone_by_the_next_process(bench, workers):
    bench.made = ["block"]
    operation = running("dead:7:7", kind="toy.build-once")
    reconcile.take_over_from_the_dead(alone=True)
    workers()
    assert (end_of(operation), bench.made, bench.runs[operation.target]) == (("failed", "interrupted"), [], 0)


def test_kills_every_worker_then_undone_by_the_last(bench, workers):
    bench.made = ["block"]
    operation = running("dead:7:7", attempts=engine.MOST_ATTEMPTS)
    reconcile.take_over_from_the_dead(alone=True)
    workers()
    assert (end_of(operation), bench.made, bench.undone) == (("failed", "interrupted"), [], 1)


def test_worker_dies_while_undoing_then_the_next_undoes_and_tells_the_first_error(bench, workers):
    problem = {"code": "no_space", "detail": "The pool is full.", "status": 507, "title": "", "type": ""}
    operation = running("dead:7:7", error=problem)
    reconcile.take_over_from_the_dead(alone=True)
    workers()
    assert (end_of(operation), bench.undone, bench.runs[operation.target]) == (("failed", "no_space"), 1, 0)


def test_undoing_kills_every_worker_then_left_as_it_is(bench, workers):
    problem = {"code": "no_space", "detail": "The pool is full."}
    operation = running("dead:7:7", error=problem, attempts=2 * engine.MOST_ATTEMPTS)
    reconcile.take_over_from_the_dead(alone=True)
    workers()
    assert (end_of(operation), bench.undone) == (("failed", "no_space"), 0)
    assert any("workers died over it" in line for line in lines(operation))


def test_process_leaves_while_undoing_then_nothing_is_written_and_the_next_goes_on(bench, workers, monkeypatch):
    def leave() -> None:
        keeper.leave()
        raise Unreachable("This process is shutting down.")

    bench.errors, bench.undoing = [NoSpace("The pool is full.")], [leave]
    operation = engine.submit(Build, target=Toy(), by=SYSTEM)
    workers()
    assert (fresh(operation).state, end_of(operation)[1]) == ("running", "no_space")
    keeper.leaving = False
    reconcile.hand_back()
    workers()
    assert (end_of(operation), bench.undone, bench.runs[operation.target]) == (("failed", "no_space"), 2, 1)


def test_hangs_beyond_its_deadline_then_undone_when_it_comes_back_and_fails(bench, workers):
    bench.gate.clear()
    bench.errors = [NoSpace("The pool is full.")]
    operation = engine.submit(BuildSlowly, target=Toy(), by=SYSTEM)
    wait_until(lambda: fresh(operation).ended, 10, "its deadline")
    assert (end_of(operation), fresh(operation).holds_lock, bench.undone) == (("failed", "timeout"), True, 0)
    bench.gate.set()
    wait_until(lambda: not fresh(operation).holds_lock, 10, "the lock comes back")
    assert (bench.made, bench.undone, end_of(operation)) == ([], 1, ("failed", "timeout"))
    workers()


def test_hangs_in_undoing_then_ends_with_what_it_failed_of(bench, workers):
    def closed() -> None:
        bench.gate.clear()
        bench.gate.wait(10)

    bench.errors, bench.undoing = [NoSpace("The pool is full.")], [closed]
    operation = engine.submit(BuildSlowly, target=Toy(), by=SYSTEM)
    wait_until(lambda: fresh(operation).ended, 10, "its deadline")
    assert (end_of(operation), fresh(operation).holds_lock) == (("failed", "no_space"), True)
    bench.gate.set()
    wait_until(lambda: not fresh(operation).holds_lock, 10, "the lock comes back")
    workers()


def test_overtaken_by_another_process_then_not_undone_under_its_hands(bench):
    operation = running("mine:7:7")
    Operation.objects.filter(pk=operation.pk).update(worker="theirs:7:7", attempts=2)
    bench.errors = [NoSpace("The pool is full.")]
    engine._attempt(operation)()
    assert (fresh(operation).state, bench.undone, bench.made) == ("running", 0, ["block"])


def test_secret_is_there_for_undoing_and_forgotten_after(bench, workers):
    bench.errors = [NoSpace("The pool is full.")]
    operation = engine.submit(Build, target=Toy(), by=SYSTEM, params=TurnParams(secret_word="sesame"))
    workers()
    assert fresh(operation).secret_params == {"secret_word": None}
