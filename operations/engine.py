"""The engine: the only writer of `Operation` (with its parts `rows`, `bulk`, `reconcile`). Submit, claim, execute, end, cancel.

The row is the truth, the broker a doorbell. What keeps two workers off one guest is a database constraint, not a lock of
ours. Nothing here holds a transaction over a hypervisor call.

The life of an operation:

1. `submit` checks it and inserts the row, `queued`; after the commit a worker is rung.
2. `claim` makes it `running` by one conditional UPDATE: it must be its turn, its lock free, a slot free.
3. `execute` runs the action on a thread of its own and waits no longer than the deadline. A call that never returns ends
   the operation as `failed`/`timeout`; the lock stays with the hung thread until that returns.
4. What fails for good, or is cancelled, has its action's `undo` run first, in the same thread; before that the failure stands in the
   row (`error` on an open operation), so that whoever takes over from a dead process undoes too, and does not begin anew.
5. `_end` writes the end, frees lock and slot in the same UPDATE, and rings for whoever waited.
6. `operations.reconcile` (every 15 s, and at start) takes over what dead processes left, and rings for what nobody was told about.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from django.db import IntegrityError, InterfaceError, OperationalError, connection, connections, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from accounts import policy
from core.errors import Conflict, VmmError
from core.problems import problem_of
from drivers.errors import Timeout, WrongState
from events import bell
from operations import actions, doorbell
from operations.actions import Cancelled, Interrupted
from operations.bulk import roll_up
from operations.choices import OPEN, State
from operations.context import RunContext
from operations.lease import LEASE, keeper
from operations.models import Operation, OperationLog
from operations.process import identity
from operations.rows import announce, forgotten, half_done, named, new_row, ring_next, serialise
from operations.timing import DATABASE_PAUSES, QUEUE_TIMEOUT

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable

    from accounts.actor import Actor
    from core.problems import Problem
    from operations.actions import Action, Params, Target

R = TypeVar("R")

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 10
"""An operation whose worker died so often is not tried again: it may be what kills them. As often again it is tried to be undone."""
_AWAY = (OperationalError, InterfaceError)


class InProgress(Conflict):
    """Another operation on this object is under way."""

    code = "operation_in_progress"


class NotCancellable(Conflict):
    """This operation cannot be cancelled."""

    code = "not_cancellable"


def submit(
    action_class: type[Action[Any, Any]],
    *,
    target: Target,
    by: Actor,
    params: Params | None = None,
    on_conflict: Literal["wait", "fail"] = "wait",
    parent: uuid.UUID | None = None,
) -> Operation:
    """Ask for something; returns the queued operation, or the equal one that is already under way.

    Args:
        action_class: What.
        target: On what.
        by: Who asks; `accounts.policy` decides.
        params: With what.
        on_conflict: `fail` refuses when anything is queued or running on the target.
        parent: The operation that asks for it, and stands for it in lists.

    Raises:
        PermissionRefused, InProgress, and whatever the action's `check` finds (Unsupported, WrongState, Unreachable …).
    """
    action = actions.get(action_class.kind)
    policy.require(by, action.verb, target)  # type: ignore[arg-type]  # every target is a model
    params = action.params() if params is None else params
    plain, hidden = params.split()
    with transaction.atomic():
        serialise(target.ref)
        open_here = list(
            Operation.objects.filter(Q(state__in=OPEN) | Q(holds_lock=True), lock_key=target.ref).order_by("-position")
        )
        if open_here and on_conflict == "fail":
            raise InProgress(f"{named(open_here[0])} is under way on {target.name}.", operation=str(open_here[0].pk))
        newest = next((op for op in open_here if not op.ended), None)
        if (
            newest is not None
            and not any(hidden.values())
            and (newest.kind, newest.params, newest.cancel_requested) == (action.kind, plain, False)
        ):
            return newest
        _check(action, target, params, idle=not open_here)
        for other in open_here:
            if other.kind in action.breaks and other.holds_lock:
                _break(other, f"Superseded by {action.title.lower()}; the host may still finish it.")
            elif other.kind in action.supersedes and not other.ended:
                _ask_cancel(other, f"superseded by {action.title.lower()}")
        operation = new_row(action, target, plain, by)
        operation.secret_params = hidden or None
        operation.parent_id = parent
        operation.save(force_insert=True)
        announce([operation])
        transaction.on_commit(lambda: doorbell.ring([operation.pk]))
    return operation


def _check(action: Action[Any, Any], target: Target, params: Params, *, idle: bool) -> None:
    """The action's check; a state that forbids it is looked at once more.

    The caller read the target before we saw that nothing is under way there: what had been may have ended in between.
    """
    try:
        action.check(target, params, idle=idle)
    except WrongState:
        if not idle:
            raise
        action.check(action.load(actions.uuid_of(target.ref)), params, idle=True)


def claim(operation_id: uuid.UUID) -> Operation | None:
    """Make it ours if it is its turn, its lock is free and a slot is free; None otherwise (whoever holds them rings again)."""
    now = timezone.now()
    earlier = Operation.objects.filter(
        lock_key=OuterRef("lock_key"), position__lt=OuterRef("position"), state=State.QUEUED
    )
    try:
        with transaction.atomic():
            operation = Operation.objects.filter(pk=operation_id, state=State.QUEUED).first()
            if operation is None:
                return None
            if operation.slots:
                serialise(operation.slot_key)
                if Operation.objects.filter(slot_key=operation.slot_key, holds_lock=True).count() >= operation.slots:
                    return None
            deadline = now + dt.timedelta(seconds=actions.get(operation.kind).timeout_seconds)
            claimed = (
                Operation.objects.filter(pk=operation_id, state=State.QUEUED)
                .filter(Q(not_before=None) | Q(not_before__lte=now))
                .filter(~Exists(earlier))
                .update(
                    state=State.RUNNING,
                    holds_lock=True,
                    worker=identity(),
                    lease_until=now + LEASE,
                    deadline_at=deadline,
                    started_at=operation.started_at or now,
                    attempts=F("attempts") + 1,
                    version=F("version") + 1,
                    not_before=None,
                    message="",
                    updated_at=now,
                )
            )
            if claimed != 1:
                return None
            operation.refresh_from_db()
            announce([operation])
    except IntegrityError:  # one_holder_per_lock: somebody works on this target
        return None
    return operation


@dataclass(slots=True)
class _Work:
    """One running operation in this process: its row as claimed, and the sign that its thread has returned."""

    operation: Operation
    returned: threading.Event


def execute(operation_id: uuid.UUID) -> None:
    """Claim and carry out; returns when it has ended or its deadline has passed. Called by worker threads."""
    operation = None if keeper.leaving else claim(operation_id)
    # This thread only waits from here on: a pooled connection must not wait with it.
    connections.close_all()
    if operation is None:
        return
    work = _Work(operation, threading.Event())
    # A thread of its own: one that hangs in a hypervisor call can be given up at the deadline without losing the worker's.
    threading.Thread(target=_run, args=(work,), name=f"op-{operation.kind}-{operation.pk}", daemon=True).start()
    left = (operation.deadline_at - timezone.now()).total_seconds() if operation.deadline_at else None
    if not work.returned.wait(left):
        timeout = Timeout(
            f"{named(operation)} did not end within {actions.get(operation.kind).timeout_seconds:.0f} s. The host may still finish it."
        )
        log.error(
            "operation hangs, its thread is given up", extra={"operation": str(operation.pk), "kind": operation.kind}
        )
        _insist(partial(_give_up, operation, timeout))
        connections.close_all()


def _give_up(operation: Operation, timeout: Timeout) -> None:
    """Its thread hangs: end it, as what it had failed of if it hangs in undoing that; the lock stays with the thread."""
    decided = Operation.objects.values_list("error", flat=True).get(pk=operation.pk)
    _ending(operation, decided or _problem(operation, timeout), release=False)()


def _run(work: _Work) -> None:
    """The thread of one operation: load, run, end. Nothing escapes."""
    operation = work.operation
    keeper.hold(operation.pk, operation.attempts)
    try:
        _insist(_attempt(operation))
    except Exception:
        # The database stays away: the lease runs out and reconcile takes over.
        log.exception("operation could not be ended", extra={"operation": str(operation.pk)})
    finally:
        keeper.release(operation.pk)
        work.returned.set()
        connections.close_all()


def _attempt(operation: Operation) -> Callable[[], None]:
    """Run the action; what is to be written then."""
    ctx = RunContext(operation)
    if operation.error:
        ctx.log("Undoing goes on.")
        return _undone(operation, operation.error, ctx)
    try:
        result = _carry_out(ctx, operation)
    except Exception as error:  # noqa: BLE001 - whatever it is, it becomes the operation's end
        return _broken(operation, error, ctx)
    return partial(_end, operation, State.SUCCEEDED, result=result)


def _broken(operation: Operation, error: Exception, ctx: RunContext) -> Callable[[], None]:
    """What is to be written of an attempt that raised: back into the queue, or, with all undone, its end."""
    if keeper.leaving and not isinstance(error, Cancelled):
        log.info("stopped in the middle, the next process goes on", extra=_extra(operation))
        return lambda: None
    if _insist(_mine(operation).exists):  # else it has ended by its deadline: there is no other attempt
        again = _again(operation, error, ctx)
        if again is not None:
            return again
    return _undone(operation, _problem(operation, error), ctx)


def _again(operation: Operation, error: Exception, ctx: RunContext) -> Callable[[], None] | None:
    """How it is tried once more, where that can help and may be; None when this was its last attempt."""
    action = actions.get(operation.kind)
    delay = action.retry.delay_seconds(operation.failures + 1)
    if isinstance(error, VmmError):
        may_be = error.retryable and not isinstance(error, WrongState) and action.resumable(ctx)
        if may_be and operation.failures < action.retry.times:
            return partial(_requeue, operation, error.detail, delay)
    elif isinstance(error, _AWAY):
        # As if the process had died there, but not for ever.
        log.warning("the database failed in the middle of an action", extra=_extra(operation), exc_info=error)
        if operation.failures < max(1, action.retry.times):
            return partial(_requeue, operation, "The database failed.", delay, interrupted=True)
    else:
        log.error("action failed in an unforeseen way", extra=_extra(operation), exc_info=error)
    return None


def _undone(operation: Operation, problem: Problem, ctx: RunContext) -> Callable[[], None]:
    """Undo what its attempts have made, where its action can; then what is to be written: the end for which `problem` stands.

    What goes wrong meanwhile is a line in its log. When this process leaves in the middle nothing is written, and the next goes on.
    """
    action = actions.get(operation.kind)
    end = _ending(operation, problem)
    if not action.undoes or not _insist(partial(_condemn, operation, problem)):
        return end
    if operation.attempts > 2 * MOST_ATTEMPTS:
        ctx.log(f"Not undone: {operation.attempts - 1} workers died over it.")
        return end
    try:
        action.undo(ctx, action.load(target_id(operation)), _params(action, operation))
    except Exception as error:
        if keeper.leaving:
            log.info("stopped in undoing, the next process goes on", extra=_extra(operation))
            return lambda: None
        expected = isinstance(error, VmmError) and error.expected
        log.warning("not all could be undone", extra=_extra(operation), exc_info=None if expected else error)
        with contextlib.suppress(*_AWAY):
            ctx.log(f"Not all could be undone: {problem_of(error)['detail']}")
    return end


def _condemn(operation: Operation, problem: Problem) -> bool:
    """Write down that it fails, before it is undone; False when its lock is no longer this attempt's."""
    with transaction.atomic():
        if _mine(operation).update(
            error=problem,
            message=problem["detail"][:500],
            version=F("version") + 1,
            updated_at=timezone.now(),
        ):
            announce([Operation.objects.get(pk=operation.pk)])
        # Ended by its deadline and come back late it still holds the lock, and undoes; overtaken by another process it must not.
        held = Operation.objects.filter(worker=operation.worker, attempts=operation.attempts, holds_lock=True)
        return held.filter(pk=operation.pk).exists()


def _ending(operation: Operation, problem: Problem, *, release: bool = True) -> Callable[[], None]:
    """The end for which a problem stands."""
    if problem["code"] == Cancelled.code:
        return partial(_end, operation, State.CANCELLED, message=problem["detail"], release=release)
    return partial(_end, operation, State.FAILED, problem=problem, release=release)


def _problem(operation: Operation, error: BaseException) -> Problem:
    """The problem document of an operation's end."""
    problem = problem_of(error, request_id=operation.request_id)
    problem["instance"] = f"/api/v1/operations/{operation.pk}"
    problem["expected"] = isinstance(error, VmmError) and error.expected
    return problem


def _extra(operation: Operation) -> dict[str, str]:
    return {"operation": str(operation.pk), "kind": operation.kind}


def _insist(write: Callable[[], R]) -> R:
    """Write (or read) it even if the database is away for a moment; raises when it stays away."""
    for pause in DATABASE_PAUSES:
        try:
            return write()
        except _AWAY:
            log.warning("the database is away, trying again in %s s", pause, exc_info=True)
            connections.close_all()
            time.sleep(pause)
    return write()


def _carry_out(ctx: RunContext, operation: Operation) -> dict[str, Any] | None:
    action = actions.get(operation.kind)
    if operation.cancel_requested and action.undoes:
        raise Cancelled
    target = action.load(target_id(operation))
    params = _params(action, operation)
    if operation.interrupted:
        if operation.attempts > MOST_ATTEMPTS:
            raise Interrupted(f"{action.title}: {operation.attempts - 1} workers died over it. It is not tried again.")
        if action.satisfied(ctx, target, params):
            ctx.log("The worker was interrupted; what was asked is so already.")
            return None
        if not action.resumable(ctx):
            raise Interrupted(
                f"{action.title}: the worker was interrupted after it had sent the command. Look at {operation.target_name} and decide."
            )
        ctx.log("The worker was interrupted; going on.")
    try:
        return action.run(ctx, target, params)
    except WrongState:
        # What an earlier attempt had sent may have come true only now: a call that hung in the host went on after all.
        if operation.attempts > 1 and action.satisfied(ctx, target, params):
            ctx.log("What an earlier attempt asked for is so now.")
            return None
        raise


def _params(action: Action[Any, Any], operation: Operation) -> Params:
    return action.params.model_validate({**operation.params, **(operation.secret_params or {})})


def target_id(operation: Operation) -> uuid.UUID:
    """The id in `target`."""
    return actions.uuid_of(operation.target)


def _requeue(operation: Operation, why: str, delay: float, *, interrupted: bool = False) -> None:
    now = timezone.now()
    with transaction.atomic():
        again = _mine(operation).update(
            state=State.QUEUED,
            holds_lock=False,
            worker="",
            lease_until=None,
            interrupted=interrupted or F("interrupted"),
            failures=F("failures") + 1,
            not_before=now + dt.timedelta(seconds=delay),
            deadline_at=now + QUEUE_TIMEOUT,
            message=f"{why} Trying again in {delay:.0f} s."[:500],
            version=F("version") + 1,
            updated_at=now,
        )
        if again:
            OperationLog.objects.create(operation=operation, text=f"Attempt {operation.attempts}: {why}"[:2000])
            operation.refresh_from_db()
            announce([operation])
    if again:
        doorbell.ring([operation.pk], delay_seconds=delay)


def _mine(operation: Operation) -> Any:
    """The row, if this very attempt still runs: a taken-over or ended operation is not written by the thread that lost it."""
    return Operation.objects.filter(
        pk=operation.pk, state=State.RUNNING, worker=operation.worker, attempts=operation.attempts
    )


def _end(
    operation: Operation,
    state: State,
    *,
    result: dict[str, Any] | None = None,
    problem: Problem | None = None,
    message: str = "",
    release: bool = True,
) -> None:
    """Write the end of a running attempt, and free lock and slot unless the thread still hangs (`release` False)."""
    now = timezone.now()
    with transaction.atomic():
        ended = _mine(operation).update(
            state=state,
            holds_lock=not release,
            result=result,
            error=problem,
            message=(message or (problem["detail"] if problem else ""))[:500],
            progress=1.0 if state == State.SUCCEEDED else F("progress"),
            finished_at=now,
            secret_params=forgotten(operation),
            version=F("version") + 1,
            updated_at=now,
        )
        if ended:
            fresh = Operation.objects.get(pk=operation.pk)
            if problem:
                OperationLog.objects.create(operation=operation, text=problem["detail"][:2000])
            announce([fresh])
        elif release:
            # Ended before (deadline): the hung thread has come back at last, and the lock with it.
            Operation.objects.filter(pk=operation.pk, worker=operation.worker, attempts=operation.attempts).update(
                holds_lock=False
            )
    if operation.parent_id and ended:
        roll_up(operation.parent_id)
    if release:
        ring_next(operation)


def cancel(operation: Operation, *, by: Actor) -> Operation:
    """Cancel it: at once while queued, as soon as the action notices while it runs. Raises NotCancellable."""
    policy.require(by, "operation.cancel", operation)
    with transaction.atomic():
        serialise(operation.lock_key or operation.ref)
        fresh = Operation.objects.get(pk=operation.pk)
        if not cancellable(fresh):
            raise NotCancellable(
                f"{named(fresh)} has already ended."
                if fresh.ended
                else f"{named(fresh)} is under way and cannot be called back."
            )
        _ask_cancel(fresh, f"cancelled by {by.name}")
    if fresh.parent_id:
        roll_up(fresh.parent_id)
    roll_up(fresh.pk)
    return Operation.objects.get(pk=operation.pk)


def cancellable(operation: Operation) -> bool:
    """Whether `cancel` would be accepted."""
    if operation.ended or operation.cancel_requested:
        return False
    if operation.state == State.QUEUED or operation.kind.endswith(".bulk"):
        return True
    return operation.kind in actions.kinds() and actions.get(operation.kind).cancellable


def _ask_cancel(operation: Operation, why: str) -> None:
    """Within a transaction: end it if queued, ask its thread if running, end the queued children of a parent.

    A queued one that earlier attempts have half made is claimed once more, to be undone.
    """
    now = timezone.now()
    told = {"message": why, "version": F("version") + 1, "updated_at": now}
    ended = {**told, "state": State.CANCELLED, "finished_at": now}
    queued = Operation.objects.filter(pk=operation.pk, state=State.QUEUED)
    if half_done(operation) and queued.update(**told, cancel_requested=True, not_before=None):
        transaction.on_commit(lambda: doorbell.ring([operation.pk]))
    elif queued.update(**ended, secret_params=forgotten(operation)):
        transaction.on_commit(lambda: ring_next(operation))
    else:
        Operation.objects.filter(pk=operation.pk, state=State.RUNNING).update(**told, cancel_requested=True)
        children = Operation.objects.filter(parent=operation.pk, state=State.QUEUED)
        half: list[Operation] = []
        cancelled: list[Operation] = []
        for child in children:
            (half if half_done(child) else cancelled).append(child)
        children.exclude(pk__in=[child.pk for child in half]).update(**ended)
        for child in half:
            _ask_cancel(child, why)
        for child in cancelled:
            child.state, child.message = State.CANCELLED, why
        announce(cancelled)
    OperationLog.objects.create(operation=operation, text=why)
    announce([Operation.objects.get(pk=operation.pk)])


def _break(operation: Operation, why: str) -> None:
    """Within a transaction: end it if it runs, and free its lock though its thread may hang. What that writes later changes nothing."""
    Operation.objects.filter(pk=operation.pk).update(holds_lock=False)
    now = timezone.now()
    ended = Operation.objects.filter(pk=operation.pk, state=State.RUNNING).update(
        state=State.CANCELLED,
        cancel_requested=True,
        finished_at=now,
        message=why,
        secret_params=forgotten(operation),
        version=F("version") + 1,
        updated_at=now,
    )
    OperationLog.objects.create(operation=operation, text=why)
    if ended:
        announce([Operation.objects.get(pk=operation.pk)])
        if operation.parent_id:
            transaction.on_commit(partial(roll_up, operation.parent_id))


def wait_ended(operation: Operation, *, timeout_seconds: float) -> Operation:
    """Block this thread until it has ended or the time is up; the row as it is then."""

    def ended() -> bool:
        found = Operation.objects.filter(pk=operation.pk).exclude(state__in=OPEN).exists()
        if connection.vendor == "postgresql" and not connection.in_atomic_block:
            connection.close()  # back to the pool: those who wait, for a minute each, must not hold all of it
        return found

    if timeout_seconds > 0:
        # Readings are not announced, so nobody rings when they end; they are short, and asked for often.
        recheck = 0.05 if operation.target.startswith(actions.READING) else 1.0
        bell.wait_until(ended, timeout_seconds=timeout_seconds, recheck_seconds=recheck)
    return Operation.objects.get(pk=operation.pk)
