"""Parents: the same thing asked for on many targets, one operation with a child and a result for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Count, F, Q
from django.utils import timezone

from accounts import policy
from core.errors import Conflict, VmmError
from core.problems import problem_of
from operations import actions
from operations.choices import ENDED, OPEN, State
from operations.models import Operation
from operations.rows import announce, new_row, ring_slots
from operations.timing import BULK_QUEUE_TIMEOUT

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from accounts.actor import Actor
    from operations.actions import Action, Params, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One child that is wanted.

    Attributes:
        target: On what.
        params: With what.
        refusal: Why it cannot be, where that is known already: it becomes a child that has failed with that.
    """

    target: Target
    params: Params
    refusal: VmmError | None = None


def submit_bulk(
    action_class: type[Action[Any, Any]],
    *,
    targets: Sequence[Target],
    by: Actor,
    params: Params | None = None,
    title: str,
) -> Operation:
    """Ask for the same thing on many targets: a parent operation with a child and a result for each. As `submit_each`."""
    params = action_class.params() if params is None else params
    plain, _ = params.split()
    wishes = [Wish(target=target, params=params) for target in targets]
    return submit_each(action_class, wishes=wishes, by=by, title=title, shown=plain)


def submit_each(
    action_class: type[Action[Any, Any]],
    *,
    wishes: Sequence[Wish],
    by: Actor,
    title: str,
    shown: dict[str, Any],
    target: str = "vms/",
) -> Operation:
    """Ask for one kind of thing on many targets, each with its own parameters: a parent with a child and a result for each.

    A target that cannot do it gets a child that has failed with the reason; the others are queued. No row is locked
    while the list is made, so a target's state is what its own check says when its turn comes.

    Args:
        action_class: What.
        wishes: On what, and with what.
        by: Who asks; `accounts.policy` decides.
        title: What the parent is called.
        shown: The parent's parameters.
        target: The parent's target.
    """
    action = actions.get(action_class.kind)
    for wish in wishes:
        policy.require(by, action.verb, wish.target)  # type: ignore[arg-type]
    busy = set(
        Operation.objects.filter(Q(state__in=OPEN) | Q(holds_lock=True))
        .exclude(lock_key="")
        .values_list("lock_key", flat=True)
    )
    now = timezone.now()
    parent = Operation(
        kind=f"{action.kind}.bulk",
        state=State.RUNNING,
        target=target,
        target_name=title,
        params={"action": action.kind.rpartition(".")[2], "params": shown, "count": len(wishes)},
        progress=0.0,
        requested_by=by.name,
        user=by.user,
        request_id=by.request_id,
        started_at=now,
    )
    children = []
    for wish in wishes:
        plain, _ = wish.params.split()
        child = new_row(action, wish.target, plain, by)
        child.parent = parent
        child.deadline_at = now + BULK_QUEUE_TIMEOUT
        try:
            if wish.refusal is not None:
                raise wish.refusal
            action.check(wish.target, wish.params, idle=wish.target.ref not in busy)
        except VmmError as error:
            child.state, child.finished_at, child.error = State.FAILED, now, problem_of(error)
        children.append(child)
    with transaction.atomic():
        parent.save(force_insert=True)
        Operation.objects.bulk_create(children, batch_size=500)
        announce([parent, *children])
        keys = {child.slot_key for child in children}
        transaction.on_commit(lambda: ring_slots(keys))
    roll_up(parent.pk)
    parent.refresh_from_db()
    return parent


def roll_up(parent_id: uuid.UUID) -> None:
    """Bring a parent up to date with its children; end it with the last of them. Any process may be the one that does."""
    parent = Operation.objects.filter(pk=parent_id, kind__endswith=".bulk", state=State.RUNNING).first()
    if parent is None:
        return
    counts = dict.fromkeys(State.values, 0)
    counts.update(Operation.objects.filter(parent=parent_id).order_by().values_list("state").annotate(Count("pk")))
    total = sum(counts.values())
    over = sum(counts[state] for state in ENDED)
    progress = over / total if total else 1.0
    message = ", ".join(
        f"{counts[state]} {word}"
        for state, word in ((State.SUCCEEDED, "done"), (State.FAILED, "failed"), (State.CANCELLED, "cancelled"))
        if counts[state]
    )
    now = timezone.now()
    values: dict[str, Any] = {"progress": progress, "message": message, "version": F("version") + 1, "updated_at": now}
    if over < total:
        # A line for each percent is enough for a bar, and keeps 10,000 children from writing 10,000 events.
        if progress - (parent.progress or 0.0) < 0.01:
            return
    else:
        values["state"] = _outcome(counts)
        values["finished_at"] = now
        values["result"] = {"items": _child_results(parent_id), "counts": {state: counts[state] for state in ENDED}}
        if values["state"] == State.FAILED:
            values["error"] = problem_of(Conflict(f"None of the {total} could do it: {message}."))
    with transaction.atomic():
        if Operation.objects.filter(pk=parent_id, state=State.RUNNING).update(**values):
            announce([Operation.objects.get(pk=parent_id)])


def _outcome(counts: dict[str, int]) -> State:
    """One that worked is a success, with the others named in the result; else failed before cancelled."""
    if counts[State.SUCCEEDED] or not sum(counts.values()):
        return State.SUCCEEDED
    return State.FAILED if counts[State.FAILED] else State.CANCELLED


def _child_results(parent_id: uuid.UUID) -> list[dict[str, Any]]:
    rows = (
        Operation.objects.filter(parent=parent_id)
        .order_by("position")
        .values_list("pk", "target", "target_name", "state", "error")
    )
    return [
        {
            "vm": target.partition("/")[2],
            "name": name,
            "operation": str(pk),
            "state": state,
            **({"code": error["code"], "reason": error["detail"]} if error else {}),
        }
        for pk, target, name, state, error in rows.iterator(chunk_size=1000)
    ]
