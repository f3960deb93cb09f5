"""The tab of a guest's snapshots: the tree as it was last seen, drawn at once; its script has a worker look again. It only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import Http404
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_safe

from accounts.access import access
from accounts.policy import may
from drivers.types import Feature
from vms.choices import ACTIVE, State
from vms.models import Snapshot
from vms.schedules.selectors import schedules_of
from vms.schedules.words import shown
from vms.services import vm_actions
from vms.snapshots.selectors import Node, snapshot_actions, tokens, tree
from vms.views import any_vm, tab_page

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest, HttpResponse

    from accounts.actor import Actor
    from vms.models import VM

PARTS = ("tree", "take", "schedules")


@require_safe
@access("view")
def vm_snapshots(request: HttpRequest, vm_id: uuid.UUID) -> HttpResponse:
    """The tab. Of a guest that is gone its page tells."""
    by: Actor = request.actor  # type: ignore[attr-defined]
    vm = any_vm(vm_id, by)
    if vm.gone_at is not None:
        return redirect("vm", vm.pk)
    return render(
        request,
        "vms/snapshots.html",
        {**tab_page(vm, by, tab="snapshots"), **_tree(vm, by), **_take(vm, by), **_schedules(vm, by)},
    )


@require_safe
@access("view")
def vm_snapshots_part(request: HttpRequest, vm_id: uuid.UUID, part: str) -> HttpResponse:
    """A living part of it: `tree`, which `schedules` take it, or what the dialog says of the guest's memory (`take`)."""
    if part not in PARTS:
        raise Http404
    by: Actor = request.actor  # type: ignore[attr-defined]
    vm = any_vm(vm_id, by)
    if vm.gone_at is not None:
        return render(request, "vms/_gone.html", {"vm": vm, "part": part})
    if part == "take":
        return render(request, "vms/_snapshot_memory.html", {"vm": vm, **_take(vm, by)})
    if part == "schedules":
        return render(request, "vms/_snapshot_schedules.html", {"vm": vm, **_schedules(vm, by)})
    return render(request, "vms/_snapshots.html", {"vm": vm, **_tree(vm, by)})


def _schedules(vm: VM, by: Actor) -> dict[str, Any]:
    """Which take it by themselves. Two queries."""
    return {"schedules": [shown(row) for row in schedules_of(vm, by)], "may_schedule": may(by, "vm.snapshot", vm)}


def _tree(vm: VM, by: Actor) -> dict[str, Any]:
    """What there is, as a page draws it. One query."""
    rows = list(Snapshot.objects.filter(vm=vm))
    supported, reason = vm.hypervisor.support(Feature.SNAPSHOTS_DISK)
    roots = tree(rows)
    return {
        "lines": [(kind, _line(node, vm, by, root=node in roots) if node else None) for kind, node in tokens(roots)],
        "count": len(rows),
        "why_none": "" if supported or not vm.hypervisor.capabilities else reason,
        "take": vm_actions(vm, by=by)["snapshot"],
    }


def _line(node: Node, vm: VM, by: Actor, *, root: bool) -> dict[str, Any]:
    row = node.snapshot
    below = node.below
    return {
        "row": row,
        "root": root,
        "actions": snapshot_actions(row, vm, by=by),
        "below": below,
        "revert_text": _revert_text(row, vm, below),
        "delete_text": _delete_text(row, below),
    }


def _revert_text(row: Snapshot, vm: VM, below: int) -> str:
    """What comes back, what is lost, what stays: a line each."""
    parts = [_comes_back(row)]
    if vm.state in ACTIVE:
        parts.append(_("It is not shut down first: what it does now, and its memory, is lost."))
    if vm.has_managed_save:
        parts.append(_("Its saved memory is lost."))
    parts.append(
        _(
            "All that was written to its disks since then is lost, and its definition (processors, memory, devices) goes back too."
        )
    )
    if below:
        parts.append(
            ngettext(
                "The snapshot that was taken after this one stays.",
                "The %(count)s snapshots that were taken after this one stay.",
                below,
            )
            % {"count": below}
        )
    return "\n".join(parts)


def _comes_back(row: Snapshot) -> str:
    if not row.memory:
        return _("The guest is off afterwards, with its disks as they were.")
    if row.state == State.PAUSED:
        return _("The guest is as it was at that moment, paused, with the memory of then.")
    return _("The guest goes on from that moment, with the memory of then: it runs.")


def _delete_text(row: Snapshot, below: int) -> str:
    parts = [_("The guest stays as it is; it only cannot go back to this any more.")]
    if below:
        parts.append(
            ngettext(
                "The snapshot that was taken after it stays, unless you say otherwise.",
                "The %(count)s snapshots that were taken after it stay, unless you say otherwise.",
                below,
            )
            % {"count": below}
        )
    return "\n".join(parts)


def _take(vm: VM, by: Actor) -> dict[str, Any]:
    """What the dialog says of memory: whether there is any to keep, and whether that is ours to choose."""
    alive = vm.state in (State.RUNNING, State.PAUSED)
    can_keep, why_not = vm.hypervisor.support(Feature.SNAPSHOTS_MEMORY)
    can_leave, why_needed = vm.hypervisor.support(Feature.SNAPSHOTS_LIVE)
    if not alive:
        why = _("It does not run: there is no memory to keep.")
    elif not can_keep:
        why = why_not
    else:
        why = "" if can_leave else why_needed
    return {
        "take": vm_actions(vm, by=by)["snapshot"],
        "memory": {"alive": alive, "on": alive and can_keep, "why": why},
    }
