"""Definitions that change without our editor: noticed by the inventory, read by a worker, kept as a revision with its difference.

Only of guests that have a revision already, which are those whose definition was changed here: a sweep of ten thousand guests that
are seen for the first time keeps nothing. A guest is read once for all that happened to it until then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Q

from accounts.actor import SYSTEM
from core.errors import Missing
from drivers.errors import NotFound, Unsupported
from operations import actions, engine
from operations.actions import Action, Params, Retry, action
from operations.choices import State
from operations.models import Operation
from vms.choices import RevisionSource
from vms.definitions.history import Cause, record
from vms.models import VM, Revision
from vms.readings import GuestReading

if TYPE_CHECKING:
    import uuid as uuids
    from collections.abc import Sequence

    from operations.actions import Context

DEFINE = "vm.define"
KEEPERS = {DEFINE}
"""Kinds of operations that keep their own revisions; rooms above add theirs."""
READING = "vm.record-definition"


class RecordParams(Params):
    """Which operation of ours worked on the guest when the change was seen, and who had asked for it; none: somebody outside."""

    operation: str = ""
    actor: str = ""


@action
class RecordDefinition(Action[GuestReading, RecordParams]):
    """Read a definition that has changed, and keep it. One at a time for each hypervisor: nobody waits for it."""

    kind = READING
    title = "Record definition"
    verb = "vm.xml"
    params = RecordParams
    retry = Retry(times=5, base_seconds=2.0)
    timeout_seconds = 60.0

    def load(self, target_id: uuids.UUID) -> GuestReading:
        """With its hypervisor. Raises Missing for a guest that is gone."""
        vm = VM.objects.select_related("hypervisor__host").filter(pk=target_id, gone_at=None).first()
        if vm is None:
            raise Missing("This guest is gone from its hypervisor.")
        return GuestReading.of(vm)

    def slot(self, target: GuestReading) -> tuple[str, int]:
        """Not one of its hypervisor's slots: those are for what people wait for."""
        return f"drift/{target.vm.hypervisor_id}", 1

    def run(self, ctx: Context, target: GuestReading, params: RecordParams) -> dict[str, Any]:
        """Read, and keep what is not the newest already."""
        try:
            with ctx.session(target.vm.hypervisor.endpoint()) as session:
                xml = session.definition(target.vm.guest_ref)
        except (NotFound, Unsupported):
            return {}
        revision, _known = record(target.vm, xml, _cause(params))
        return {"revision": revision.number}


def _cause(params: RecordParams) -> Cause:
    if not params.operation:
        return Cause(source=RevisionSource.OUTSIDE)
    operation = Operation.objects.filter(pk=params.operation).only("pk", "kind").first()
    return Cause(
        source=RevisionSource.OURS,
        actor=params.actor,
        comment=actions.get(operation.kind).title if operation else "",
        operation=operation.pk if operation else None,
    )


def definitions_changed(vms: Sequence[VM]) -> None:
    """The inventory has just seen that the definitions of these guests are others. Within its transaction, whose rows are locked.

    One query where none of them is followed, which is nearly always.
    """
    kept = Revision.objects.filter(vm__in=[vm.pk for vm in vms]).order_by()
    followed = set(kept.values_list("vm", flat=True).distinct())
    if not followed:
        return
    rows = [vm for vm in vms if vm.pk in followed]
    ours = _at_work(rows)
    waiting = _waiting(rows)
    for vm in rows:
        holder = ours.get(vm.ref)
        if GuestReading.of(vm).ref in waiting:
            continue  # it has not read yet, and will read this too
        if holder is None or _has_kept_its_own(holder):
            _enqueue(vm, RecordParams())
        elif holder.kind not in KEEPERS:
            _enqueue(vm, RecordParams(operation=str(holder.pk), actor=holder.requested_by))


def follow_up(vm: VM) -> None:
    """What the inventory saw last is not what was just kept: have it read."""
    _enqueue(vm, RecordParams())


def _enqueue(vm: VM, params: RecordParams) -> None:
    engine.submit(RecordDefinition, target=GuestReading.of(vm), by=SYSTEM, params=params)


def _at_work(vms: Sequence[VM]) -> dict[str, Operation]:
    """The operation that works on each guest, or that was interrupted in the middle of that."""
    interrupted = Q(state=State.QUEUED, interrupted=True, kind__in=KEEPERS)
    rows = Operation.objects.filter(Q(holds_lock=True) | interrupted, lock_key__in=[vm.ref for vm in vms])
    return {row.lock_key: row for row in rows.only("pk", "kind", "lock_key", "requested_by")}


def _waiting(vms: Sequence[VM]) -> set[str]:
    targets = [GuestReading.of(vm).ref for vm in vms]
    rows = Operation.objects.filter(kind=READING, state=State.QUEUED, target__in=targets)
    return set(rows.values_list("target", flat=True))


def _has_kept_its_own(operation: Operation) -> bool:
    """Whether what is seen now came after what this operation defined: then it is somebody else's."""
    return operation.kind in KEEPERS and Revision.objects.filter(operation=operation.pk).exists()
