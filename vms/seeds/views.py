"""The tab of a guest's cloud-init: what its script reads of the seed through REST can be changed there. It only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from accounts.access import access
from accounts.policy import may
from vms.seeds.services import why_not
from vms.views import any_vm, tab_page

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest, HttpResponse

    from accounts.actor import Actor
    from vms.models import VM


@require_safe
@access("view")
def vm_cloud_init(request: HttpRequest, vm_id: uuid.UUID) -> HttpResponse:
    """The tab. Of a guest that is gone its page tells."""
    by: Actor = request.actor  # type: ignore[attr-defined]
    vm = any_vm(vm_id, by)
    if vm.gone_at is not None:
        return redirect("vm", vm.pk)
    return render(request, "vms/cloudinit.html", {**tab_page(vm, by, tab="cloud-init"), **_when(vm, by)})


@require_safe
@access("view")
def vm_cloud_init_when(request: HttpRequest, vm_id: uuid.UUID) -> HttpResponse:
    """Its living part: whether it can be changed now, and why not."""
    by: Actor = request.actor  # type: ignore[attr-defined]
    vm = any_vm(vm_id, by)
    if vm.gone_at is not None:
        return render(request, "vms/_gone.html", {"vm": vm, "part": "cloud-init"})
    return render(request, "vms/_cloudinit_when.html", {"vm": vm, **_when(vm, by)})


def _when(vm: VM, by: Actor) -> dict[str, Any]:
    may_read = may(by, "vm.edit", vm)
    code, reason = why_not(vm, by=by) if may_read else ("", "")
    return {"may_read": may_read, "why_not": reason, "no_seed": code in ("no_seed", "unsupported")}
