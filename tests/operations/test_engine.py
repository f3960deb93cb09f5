"""The engine's promises, one by one: joined, in turn, one at a time, retried, cancelled, given up, never lost."""

from __future__ import annotations

import datetime as dt
import threading

import pytest
from django.utils import timezone

from accounts.actor import SYSTEM, Actor
from accounts.choices import Scope
from core.errors import PermissionRefused
from drivers.errors import Unreachable, WrongState
from events.models import Event
from operations import bulk, engine, reconcile
from operations.models import Operation, OperationLog
from tests.operations import toys
from tests.operations.toys import Break, Crowd, Crush, Ring, Slow, Spin, Toy, Turn, TurnParams
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def state_of(operation: Operation) -> str:
    return Operation.objects.get(pk=operation.pk).state


def test_submitted_when_worker_listens_then_succeeds_with_result_and_log_of_states(bench, workers):
    operation = engine.submit(Turn, target=Toy(), by=SYSTEM, params=TurnParams(way="right"))
    workers()
    done = Operation.objects.get(pk=operation.pk)
    assert (done.state, done.result, done.progress, done.attempts, done.holds_lock) == (
        "succeeded",
        {"way": "right", "word": 0},
        1.0,
        1,
        False,
    )
    states = list(Event.objects.filter(object=operation.ref).order_by("seq").values_list("data__state", flat=True))
    assert states == ["queued", "running", "succeeded"]


def test_submit_when_scope_is_too_narrow_then_refused_and_nothing_written(bench):
    with pytest.raises(PermissionRefused):
        engine.submit(Turn, target=Toy(), by=Actor(name="eve", scope=Scope.READ))
    assert not Operation.objects.exists()


def test_submit_when_equal_one_is_queued_then_joins_it(bench):
    toy = Toy()
    first = engine.submit(Turn, target=toy, by=SYSTEM)
    assert engine.submit(Turn, target=toy, by=SYSTEM) == first
    assert engine.submit(Turn, target=toy, by=SYSTEM, params=TurnParams(way="right")) != first


def test_submit_when_another_came_in_between_then_does_not_join_the_older_equal_one(bench):
    toy = Toy()
    first = engine.submit(Turn, target=toy, by=SYSTEM)
    engine.submit(Spin, target=toy, by=SYSTEM)
    assert engine.submit(Turn, target=toy, by=SYSTEM) != first


def test_submit_when_asked_to_fail_on_conflict_then_says_what_is_under_way(bench):
    toy = Toy()
    first = engine.submit(Turn, target=toy, by=SYSTEM)
    with pytest.raises(engine.InProgress) as caught:
        engine.submit(Spin, target=toy, by=SYSTEM, on_conflict="fail")
    assert caught.value.context["operation"] == str(first.pk)


def test_submit_when_idle_then_checks_state_and_when_busy_leaves_it_to_its_turn(bench):
    toy = Toy()
    with pytest.raises(WrongState):
        engine.submit(Turn, target=toy, by=SYSTEM, params=TurnParams(way="never"))
    engine.submit(Spin, target=toy, by=SYSTEM)
    assert engine.submit(Turn, target=toy, by=SYSTEM, params=TurnParams(way="never")).state == "queued"


def test_two_on_one_target_when_first_runs_then_second_waits_and_goes_on_by_itself(bench, workers):
    toy = Toy()
    bench.gate.clear()
    first = engine.submit(Turn, target=toy, by=SYSTEM)
    assert bench.entered.acquire(timeout=5)
    second = engine.submit(Turn, target=toy, by=SYSTEM, params=TurnParams(way="right"))
    engine.execute(second.pk)
    assert (state_of(first), state_of(second)) == ("running", "queued")
    bench.gate.set()
    wait_until(lambda: state_of(second) == "succeeded", 10, "second ends")
    assert bench.most_inside == 1


def test_claimed_by_many_threads_at_once_then_run_once(bench):
    operation = engine.submit(Turn, target=Toy(), by=SYSTEM)
    start = threading.Barrier(8)

    def rush() -> None:
        start.wait()
        engine.execute(operation.pk)

    threads = [threading.Thread(target=rush) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert bench.runs[operation.target] == 1
    assert state_of(operation) == "succeeded"


def test_slots_when_all_taken_then_others_wait_and_are_rung_when_one_is_free(bench, workers):
    bench.gate.clear()
    operations = [engine.submit(Crowd, target=Toy(), by=SYSTEM) for _ in range(5)]
    assert bench.entered.acquire(timeout=5)
    assert bench.entered.acquire(timeout=5)
    assert sorted(state_of(operation) for operation in operations) == ["queued"] * 3 + ["running"] * 2
    bench.gate.set()
    wait_until(lambda: {state_of(operation) for operation in operations} == {"succeeded"}, 15, "all end")


def test_retryable_error_when_attempts_are_left_then_tries_again_and_succeeds(bench, workers):
    bench.errors = [Unreachable("gone"), Unreachable("gone still")]
    operation = engine.submit(Turn, target=Toy(), by=SYSTEM)
    wait_until(lambda: state_of(operation) == "succeeded", 10, "succeeds at last")
    assert Operation.objects.get(pk=operation.pk).attempts == 3
    assert OperationLog.objects.filter(operation=operation, text__contains="gone").count() == 2


def test_retryable_error_when_it_stays_then_fails_with_its_problem(bench, workers):
    bench.errors = [Unreachable("gone") for _ in range(9)]
    operation = engine.submit(Turn, target=Toy(), by=SYSTEM)
    wait_until(lambda: state_of(operation) == "failed", 10, "fails at last")
    failed = Operation.objects.get(pk=operation.pk)
    assert (failed.error["code"], failed.error["status"], failed.attempts) == ("host_unreachable", 503, 3)


def test_error_that_waiting_cannot_help_then_fails_at_once(bench, workers):
    bench.errors = [WrongState("upside down")]
    operation = engine.submit(Turn, target=Toy(), by=SYSTEM)
    workers()
    failed = Operation.objects.get(pk=operation.pk)
    assert (failed.state, failed.error["code"], failed.attempts, failed.holds_lock) == (
        "failed",
        "wrong_state",
        1,
        False,
    )


def test_unforeseen_error_then_fails_without_its_text(bench, workers, monkeypatch, caplog):
    def explode(self, ctx, target, params):
        raise ZeroDivisionError("secret text")

    monkeypatch.setattr(Turn, "run", explode)
    operation = engine.submit(Turn, target=Toy(), by=SYSTEM)
    workers()
    failed = Operation.objects.get(pk=operation.pk)
    assert failed.error["code"] == "internal_error"
    assert "secret text" not in str(failed.error)


def test_call_that_never_returns_then_fails_at_deadline_and_keeps_the_lock_until_it_does(bench, workers):
    toy = Toy()
    bench.gate.clear()
    slow = engine.submit(Slow, target=toy, by=SYSTEM)
    wait_until(lambda: state_of(slow) == "failed", 10, "deadline")
    failed = Operation.objects.get(pk=slow.pk)
    assert (failed.error["code"], failed.holds_lock) == ("timeout", True)
    after = engine.submit(Turn, target=toy, by=SYSTEM)
    engine.execute(after.pk)
    assert state_of(after) == "queued"
    bench.gate.set()
    wait_until(lambda: state_of(after) == "succeeded", 10, "goes on when the hung call returns")
    assert state_of(slow) == "failed"


def test_cancel_when_queued_then_cancelled_and_next_goes_on(bench, workers):
    toy = Toy()
    bench.gate.clear()
    engine.submit(Turn, target=toy, by=SYSTEM)
    assert bench.entered.acquire(timeout=5)
    second = engine.submit(Spin, target=toy, by=SYSTEM)
    third = engine.submit(Turn, target=toy, by=SYSTEM)
    assert engine.cancel(second, by=SYSTEM).state == "cancelled"
    with pytest.raises(engine.NotCancellable):
        engine.cancel(second, by=SYSTEM)
    bench.gate.set()
    wait_until(lambda: state_of(third) == "succeeded", 10, "third ends")
    assert bench.runs[toy.ref] == 2


def test_cancel_when_running_then_only_what_can_be_called_back(bench, workers):
    bench.gate.clear()
    turn, spin = (engine.submit(cls, target=Toy(), by=SYSTEM) for cls in (Turn, Spin))
    assert bench.entered.acquire(timeout=5)
    assert bench.entered.acquire(timeout=5)
    with pytest.raises(engine.NotCancellable):
        engine.cancel(turn, by=SYSTEM)
    engine.cancel(spin, by=SYSTEM)
    wait_until(lambda: state_of(spin) == "cancelled", 10, "spin stops")
    assert state_of(turn) == "running"


def test_action_that_supersedes_when_another_waits_then_that_is_cancelled_and_it_goes_first(bench, workers):
    toy = Toy()
    bench.gate.clear()
    spin = engine.submit(Spin, target=toy, by=SYSTEM)
    assert bench.entered.acquire(timeout=5)
    stop = engine.submit(Break, target=toy, by=SYSTEM)
    wait_until(lambda: state_of(spin) == "cancelled", 10, "spin gives way")
    bench.gate.set()
    wait_until(lambda: state_of(stop) == "succeeded", 10, "break runs")


@pytest.mark.parametrize(("kind", "ends"), [(Turn, "cancelled"), (Slow, "failed")])
def test_action_that_breaks_when_another_hangs_then_it_takes_the_lock_at_once(bench, workers, kind, ends):
    toy = Toy()
    bench.gate.clear()
    stuck = engine.submit(kind, target=toy, by=SYSTEM, params=TurnParams(secret_word="s"))
    assert bench.entered.acquire(timeout=5)
    if kind is Slow:
        wait_until(lambda: state_of(stuck) == "failed", 10, "its time is over, and it hangs")
    crush = engine.submit(Crush, target=toy, by=SYSTEM)
    wait_until(lambda: state_of(crush) == "succeeded", 10, "it does not wait")
    assert bench.inside[toy.ref] == 1
    bench.errors.append(Unreachable("what hung was ended"))
    bench.gate.set()
    workers()
    found = Operation.objects.get(pk=stuck.pk)
    assert (found.state, found.holds_lock, found.secret_params) == (ends, False, {"secret_word": None})
    assert [line.text for line in found.lines.all()][-1] == "Superseded by crush; the host may still finish it."


def test_action_that_breaks_when_another_waits_then_it_waits_too(bench, workers):
    toy = Toy()
    bench.gate.clear()
    first = engine.submit(Spin, target=toy, by=SYSTEM)
    assert bench.entered.acquire(timeout=5)
    turn = engine.submit(Turn, target=toy, by=SYSTEM)
    crush = engine.submit(Crush, target=toy, by=SYSTEM)
    assert [state_of(one) for one in (first, turn, crush)] == ["running", "queued", "queued"]
    bench.gate.set()
    wait_until(lambda: state_of(crush) == "succeeded", 10, "its turn comes")
    assert state_of(turn) == "succeeded"


def test_child_that_is_broken_when_it_was_the_last_then_its_parent_ends(bench, workers):
    bench.gate.clear()
    toy = Toy()
    parent = bulk.submit_bulk(Turn, targets=[toy], by=SYSTEM, title="1 toy")
    assert bench.entered.acquire(timeout=5)
    engine.submit(Crush, target=toy, by=SYSTEM)
    wait_until(lambda: state_of(parent) == "cancelled", 10, "the parent ends")
    bench.gate.set()


def interrupt(operation: Operation, worker: str) -> None:
    """As a kill -9 leaves it: running, leased, its process gone."""
    assert engine.claim(operation.pk) is not None
    Operation.objects.filter(pk=operation.pk).update(worker=worker)


DEAD_HERE = f"{reconcile.identity().rsplit(':', 2)[0]}:4194304:1"


def test_process_of_this_machine_died_then_taken_over_at_start_without_waiting(bench, workers):
    operation = engine.submit(Turn, target=Toy(), by=SYSTEM)
    workers()
    again = engine.submit(Turn, target=Toy(), by=SYSTEM, params=TurnParams(way="right"))
    workers()
    for row in (operation, again):
        assert state_of(row) == "succeeded"
    bench.done.clear()
    third = Operation.objects.create(
        kind="toy.turn", target=Toy().ref, lock_key="toy/x", params={"way": "up"}, position=1
    )
    interrupt(third, DEAD_HERE)
    assert reconcile.take_over_from_the_dead() == 1
    wait_until(lambda: state_of(third) == "succeeded", 10, "goes on")
    assert Operation.objects.get(pk=third.pk).attempts == 2


def test_process_elsewhere_died_then_taken_over_when_its_lease_ends(bench, workers):
    operation = Operation.objects.create(kind="toy.turn", target=Toy().ref, lock_key="toy/y", params={}, position=1)
    interrupt(operation, "elsewhere:7:7")
    assert reconcile.take_over_from_the_dead() == 0
    reconcile.reconcile()
    assert state_of(operation) == "running"
    Operation.objects.filter(pk=operation.pk).update(lease_until=timezone.now() - dt.timedelta(seconds=1))
    reconcile.reconcile()
    wait_until(lambda: state_of(operation) == "succeeded", 10, "goes on")


def test_interrupted_when_wish_is_fulfilled_already_then_succeeds_without_running_again(bench, workers):
    toy = Toy()
    operation = Operation.objects.create(kind="toy.turn", target=toy.ref, lock_key=toy.ref, params={}, position=1)
    interrupt(operation, DEAD_HERE)
    bench.done.add(toy.ref)
    reconcile.take_over_from_the_dead()
    wait_until(lambda: state_of(operation) == "succeeded", 10, "ends")
    assert bench.runs[toy.ref] == 0


@pytest.mark.parametrize(("sent", "end"), [(True, "failed"), (False, "succeeded")])
def test_interrupted_when_it_must_not_happen_twice_then_only_repeated_if_not_sent(bench, workers, sent, end):
    toy = Toy()
    operation = Operation.objects.create(
        kind="toy.ring", target=toy.ref, lock_key=toy.ref, params={}, position=1, checkpoints=["sent"] * sent
    )
    interrupt(operation, DEAD_HERE)
    reconcile.take_over_from_the_dead()
    wait_until(lambda: state_of(operation) == end, 10, "ends")
    assert bench.runs[toy.ref] == (0 if sent else 1)


def test_orderly_stop_then_running_ones_are_handed_back_and_the_old_thread_writes_nothing(bench, workers, monkeypatch):
    bench.gate.clear()
    operation = engine.submit(Turn, target=Toy(), by=SYSTEM)
    assert bench.entered.acquire(timeout=5)
    monkeypatch.setattr("operations.doorbell.ring", lambda *_, **__: None)
    reconcile.hand_back()
    assert state_of(operation) == "queued"
    bench.gate.set()
    workers()
    assert state_of(operation) == "queued"


def test_waited_too_long_then_fails_with_timeout(bench):
    operation = engine.submit(Turn, target=Toy(), by=SYSTEM)
    Operation.objects.filter(pk=operation.pk).update(deadline_at=timezone.now() - dt.timedelta(seconds=1))
    reconcile.reconcile()
    assert Operation.objects.get(pk=operation.pk).error["code"] == "timeout"


def test_secrets_then_hidden_while_open_and_forgotten_at_the_end(bench, workers):
    operation = engine.submit(Turn, target=Toy(), by=SYSTEM, params=TurnParams(secret_word="sesame"))
    assert operation.shown_params == {"way": "left", "secret_word": "<hidden>"}
    assert "sesame" not in str(Operation.objects.filter(pk=operation.pk).values("params").get())
    workers()
    done = Operation.objects.get(pk=operation.pk)
    assert (done.result["word"], done.secret_params) == (6, {"secret_word": None})


def test_bulk_then_a_child_and_a_result_for_each_and_the_refused_say_why(bench, workers):
    good, other = Toy(), Toy()
    parent = bulk.submit_bulk(Turn, targets=[good, other], by=SYSTEM, title="2 toys")
    workers()
    wait_until(lambda: state_of(parent) == "succeeded", 10, "parent ends")
    done = Operation.objects.get(pk=parent.pk)
    assert {item["state"] for item in done.result["items"]} == {"succeeded"}
    refused = bulk.submit_bulk(Turn, targets=[Toy()], by=SYSTEM, params=TurnParams(way="never"), title="1 toy")
    assert refused.state == "failed"
    assert refused.result["items"][0]["reason"] == "This toy never turns."


def test_bulk_cancelled_then_waiting_children_end_and_running_ones_finish(bench, workers):
    bench.gate.clear()
    parent = bulk.submit_bulk(Crowd, targets=[Toy() for _ in range(6)], by=SYSTEM, title="6 toys")
    assert bench.entered.acquire(timeout=5)
    assert bench.entered.acquire(timeout=5)
    engine.cancel(parent, by=SYSTEM)
    bench.gate.set()
    wait_until(lambda: state_of(parent) == "succeeded", 10, "parent ends")
    counts = Operation.objects.get(pk=parent.pk).result["counts"]
    assert counts == {"succeeded": 2, "failed": 0, "cancelled": 4}


def test_cancel_of_a_running_one_that_is_no_parent_leaves_it_running_until_it_stops(bench, workers):
    bench.gate.clear()
    spin = engine.submit(Spin, target=Toy(), by=SYSTEM)
    assert bench.entered.acquire(timeout=5)
    asked = engine.cancel(spin, by=SYSTEM)
    assert asked.cancel_requested
    wait_until(lambda: state_of(spin) == "cancelled", 10, "stops")
    assert Operation.objects.get(pk=spin.pk).result is None


def test_wait_ended_wakes_when_it_ends(bench, workers):
    bench.gate.clear()
    operation = engine.submit(Turn, target=Toy(), by=SYSTEM)
    assert engine.wait_ended(operation, timeout_seconds=0.05).state in ("queued", "running")
    threading.Timer(0.1, bench.gate.set).start()
    assert engine.wait_ended(operation, timeout_seconds=10).state == "succeeded"


def test_toys_cover_every_kind():
    assert {cls.kind for cls in (Turn, Spin, Break, Ring, Crowd, Slow)} <= set(toys.actions.kinds())
