"""The engine under any order of claims, ends, crashes, cancels and deadlines: never two on a lock, none lost, all end.

Workers are names here, their threads entries of a dictionary: a claim begins one, an end takes it out, a crash loses those of
its worker. What the engine writes is its own code throughout.
"""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from accounts.actor import SYSTEM
from drivers.errors import Timeout, Unreachable, WrongState
from events.models import Event
from operations import actions, bulk, doorbell, engine, lease, reconcile
from operations.choices import ENDED, OPEN, State
from operations.context import RunContext
from operations.models import Operation
from operations.rows import claimable
from tests.operations import toys
from tests.operations.toys import Break, Crowd, Spin, Toy, Turn

if TYPE_CHECKING:
    import uuid

    from operations.actions import Context

pytestmark = pytest.mark.django_db

TOYS = [Toy() for _ in range(2)]
WORKERS = ("ann", "bob")
PAST = dt.timedelta(hours=-1)


class Send(toys.Ring):
    """Must not happen twice; counts how often it did, by operation."""

    kind = "toy.send"
    title = "Send"
    sent: ClassVar[Counter[uuid.UUID]] = Counter()

    def run(self, ctx: Context, target: Toy, params: Any) -> dict[str, Any] | None:
        ctx.checkpoint("sent")
        self.sent[ctx.operation_id] += 1
        return Turn.run(self, ctx, target, params)


actions.action(Send)
KINDS = (Send, Spin, Crowd, Turn, Break)
_LEGAL = {
    None: {"queued", "running", "failed"},  # a parent begins as running, a refused child as failed
    "queued": {"queued", "running", "failed", "cancelled"},
    "running": {"queued", "running", "succeeded", "failed", "cancelled"},
}


@dataclass
class Thread:
    """One attempt as its thread knows it. `hung`: given up at its deadline. `overtaken`: it lives, but its lease ran out."""

    operation: Operation
    hung: bool = False
    overtaken: bool = False


class Engine(RuleBasedStateMachine):
    """See the module."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        # Which rules follow each other is hypothesis's part; what they pick is thrown, for it likes to pick the first.
        self.dice = random.Random(seed)
        Event.objects.all().delete()
        Operation.objects.all().delete()
        Send.sent.clear()
        self.bench = toys.fresh_bench()
        self.threads: dict[str, Thread] = {}
        self.lives = Counter(dict.fromkeys(WORKERS, 1))
        self.known: set[uuid.UUID] = set()
        self.ended: dict[uuid.UUID, tuple[str, int]] = {}

    # -- what may happen -----------------------------------------------------------------------------------------------
    @rule()
    def work(self) -> None:
        """What goes on all the time; disturbances, the other rules, fall into it."""
        for step in self.dice.choices((self.submit, self.claim, self.claim, self.finish), k=4):
            step()

    def submit(self) -> None:
        for kind in self.dice.choices(KINDS, k=2):
            self.known.add(engine.submit(kind, target=self.dice.choice(TOYS), by=SYSTEM).pk)

    @precondition(lambda self: len(self.known) < 20)
    @rule()
    def submit_bulk(self) -> None:
        self.work()
        parent = bulk.submit_bulk(Turn, targets=TOYS, by=SYSTEM, title="2 toys")
        self.known |= {parent.pk, *Operation.objects.filter(parent=parent).values_list("pk", flat=True)}

    def claim(self) -> None:
        """Rings reach any worker for any operation, in any order, wanted or not."""
        Operation.objects.update(not_before=None)  # time passes
        rows = list(Operation.objects.exclude(lock_key="").order_by("position", "created_at"))
        queued = [row for row in rows if row.state == State.QUEUED]
        if rows:
            for row in self._some(queued or rows):
                self._claim(row, self.dice.choice(WORKERS))

    def _claim(self, row: Operation, worker: str) -> bool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "identity", lambda: self._name(worker))
            operation = engine.claim(row.pk)
        if operation is None:
            return False
        for thread in self.threads.values():
            assert thread.overtaken or thread.operation.lock_key != operation.lock_key, "two threads on one target"
        assert not Operation.objects.filter(
            lock_key=operation.lock_key, state=State.QUEUED, position__lt=operation.position
        ).exists(), "out of turn"
        self.threads[f"{operation.pk}#{operation.attempts}"] = Thread(operation)
        return True

    def finish(self) -> None:
        """Threads return from their calls."""
        for key in self._some(list(self.threads)):
            error = self.dice.choice((None, Unreachable, WrongState, RuntimeError))
            self._finish(key, error and error("as drawn"))

    def _finish(self, key: str, error: Exception | None = None) -> None:
        thread = self.threads.pop(key)
        if not (thread.hung or thread.overtaken):
            self.bench.errors = [error] if error else []
            engine._attempt(thread.operation)()
            return
        before = self._row(thread)
        engine._end(thread.operation, State.SUCCEEDED)
        after = self._row(thread)
        assert (before.state, before.version) == (after.state, after.version), "who lost the row has written it"
        if thread.hung and not thread.overtaken:
            assert not after.holds_lock, "the lock stays behind"

    @rule()
    def deadline(self) -> None:
        """The call hangs: its thread is given up, by its own process."""
        self.work()
        for key in self._some(list(self.threads)):
            thread = self.threads[key]
            if thread.hung or thread.overtaken:
                continue
            engine._give_up(thread.operation, Timeout("hangs"))
            thread.hung = True

    @rule(worker=st.sampled_from(WORKERS), in_the_middle=st.booleans(), soon=st.booleans())
    def crash(self, worker: str, *, in_the_middle: bool, soon: bool) -> None:
        """kill -9, and noticed: at the next start on the same machine, or when the leases run out."""
        self.work()
        for key in self._of(worker):
            thread = self.threads.pop(key)
            action = actions.get(thread.operation.kind)
            ctx = RunContext(thread.operation)
            if in_the_middle and not (thread.hung or thread.overtaken) and action.resumable(ctx):
                action.run(ctx, Toy(engine.target_id(thread.operation)), action.params())
        dead = self._name(worker)
        self.lives[worker] += 1
        if soon:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(reconcile, "is_dead_here", lambda name: name == dead)
                reconcile.take_over_from_the_dead()
        else:
            self._leases_end(dead)

    @rule(worker=st.sampled_from(WORKERS))
    def cut_off(self, worker: str) -> None:
        """The process lives, but could not renew its leases: others take over, its threads find out when they return."""
        self.work()
        for key in self._of(worker):
            self.threads[key].overtaken = True
        self._leases_end(self._name(worker))

    @rule(worker=st.sampled_from(WORKERS))
    def stop(self, worker: str) -> None:
        """SIGTERM: what runs is handed back as the process's last act."""
        self.work()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reconcile, "identity", lambda: self._name(worker))
            reconcile.hand_back()
        for key in self._of(worker):
            del self.threads[key]
        self.lives[worker] += 1

    @rule()
    def cancel(self) -> None:
        self.work()
        rows = [row for row in Operation.objects.order_by("position", "created_at") if engine.cancellable(row)]
        if rows:
            engine.cancel(self.dice.choice(rows), by=SYSTEM)

    @rule()
    def waited_too_long(self) -> None:
        self.work()
        rows = list(Operation.objects.filter(state=State.QUEUED).order_by("position", "created_at"))
        if rows:
            row = self.dice.choice(rows)
            Operation.objects.filter(pk=row.pk).update(deadline_at=timezone.now() + PAST)
            reconcile.reconcile(answer_seconds=0)

    # -- what must hold ------------------------------------------------------------------------------------------------
    @invariant()
    def all_is_well(self) -> None:
        rows = list(Operation.objects.all())
        holders = [row for row in rows if row.holds_lock]
        assert len({row.lock_key for row in holders}) == len(holders), "two on a lock"
        assert sum(row.kind == Crowd.kind for row in holders) <= Crowd.slots, "a slot too many"
        assert {row.pk for row in rows} == self.known, "lost"
        running = {f"{row.pk}#{row.attempts}" for row in rows if row.state == State.RUNNING and row.lock_key}
        alive = {key for key, thread in self.threads.items() if not thread.overtaken and not thread.hung}
        assert running == alive, "a row runs without a thread"
        assert running <= {f"{row.pk}#{row.attempts}" for row in holders}, "runs without its lock"
        for row in rows:
            if row.state in ENDED:
                assert row.finished_at is not None
                assert self.ended.setdefault(row.pk, (row.state, row.version)) == (row.state, row.version), (
                    "ended twice"
                )
        assert max(Send.sent.values(), default=0) <= 1, "sent twice"

    def teardown(self) -> None:
        """Whatever has happened: now that all goes well, everything ends, and says so."""
        if not hasattr(self, "threads"):
            return
        for _ in range(500):
            for key in list(self.threads):
                self._finish(key)
            Operation.objects.update(not_before=None)
            if not sum(self._claim(row, "ann") for row in list(claimable())):
                break
        reconcile.reconcile(answer_seconds=0)
        assert not Operation.objects.filter(state__in=OPEN).exists(), "open for ever"
        assert not Operation.objects.filter(holds_lock=True).exists(), "a lock for ever"
        for pk in self.known:
            last = None
            states = (
                Event.objects.filter(object=f"operation/{pk}").order_by("seq").values_list("data__state", flat=True)
            )
            for state in states:
                assert state in _LEGAL[last], (last, state)
                last = state
            assert last in ENDED, "its last event is not its end"

    # -- helpers -------------------------------------------------------------------------------------------------------
    def _name(self, worker: str) -> str:
        return f"{worker}:{self.lives[worker]}:1"

    def _of(self, worker: str) -> list[str]:
        return [key for key, thread in self.threads.items() if thread.operation.worker == self._name(worker)]

    def _some(self, found: list[Any]) -> list[Any]:
        return self.dice.sample(found, min(self.dice.randint(1, 4), len(found)))

    @staticmethod
    def _row(thread: Thread) -> Operation:
        return Operation.objects.get(pk=thread.operation.pk)

    @staticmethod
    def _leases_end(name: str) -> None:
        Operation.objects.filter(holds_lock=True, worker=name).update(lease_until=timezone.now() + PAST)
        reconcile.reconcile(answer_seconds=0)


def test_engine_in_any_order_of_things_then_one_at_a_time_none_lost_all_end(monkeypatch):
    monkeypatch.setattr(doorbell, "ring", lambda *_, **__: None)
    monkeypatch.setattr(engine.log, "disabled", True)  # bugs are drawn by the dozen
    assert lease.keeper.held() == 0
    run_state_machine_as_test(
        Engine,
        settings=settings(
            max_examples=12, stateful_step_count=20, phases=[Phase.generate], deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
