"""The tab of a guest's hardware: as it was last read, drawn at once; its script has a worker look again. It only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import Http404
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from accounts import policy
from accounts.access import access
from core.errors import VmmError
from drivers.types import Feature
from vms.hardware.forms import form_of
from vms.hardware.rows import sections
from vms.hardware.selectors import known, why_fixed
from vms.views import any_vm, tab_page

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest, HttpResponse

    from accounts.actor import Actor
    from vms.models import VM


@require_safe
@access("view")
def vm_hardware(request: HttpRequest, vm_id: uuid.UUID) -> HttpResponse:
    """The tab. Of a guest that is gone its page tells."""
    by: Actor = request.actor  # type: ignore[attr-defined]
    vm = any_vm(vm_id, by)
    if vm.gone_at is not None:
        return redirect("vm", vm.pk)
    return render(request, "vms/hardware.html", {**tab_page(vm, by, tab="hardware"), **_built_of(vm, by)})


@require_safe
@access("view")
def vm_hardware_part(request: HttpRequest, vm_id: uuid.UUID, part: str) -> HttpResponse:
    """A living part of it: `list`; or a dialog, by the name of its form and `?key=` of the device."""
    by: Actor = request.actor  # type: ignore[attr-defined]
    vm = any_vm(vm_id, by)
    if vm.gone_at is not None:
        return render(request, "vms/_gone.html", {"vm": vm, "part": part})
    if part == "list":
        return render(request, "vms/_hardware.html", {"vm": vm, **_built_of(vm, by)})
    found = known(vm)
    if found is None or why_fixed(vm, by=by):
        raise Http404
    try:
        form = form_of(part, vm, found, by, key=request.GET.get("key", "")[:100])
    except VmmError as error:
        raise Http404(error.detail) from None
    return render(request, "vms/_hardware_form.html", {"vm": vm, "form": form})


def _built_of(vm: VM, by: Actor) -> dict[str, Any]:
    """What there is, as a page draws it. Two queries."""
    supported, reason = vm.hypervisor.support(Feature.HARDWARE)
    found = known(vm)
    host_devices, no_host_devices = vm.hypervisor.support(Feature.HOST_DEVICES)
    if host_devices and not policy.may(by, "host.manage", vm):
        no_host_devices = _("Devices of a host are handed out by its administrators.")
    return {
        "why_none": "" if supported or not vm.hypervisor.capabilities else reason,
        "known": found,
        "sections": sections(vm, found) if found and found.shown else [],
        "why_fixed": why_fixed(vm, by=by),
        "no_host_devices": no_host_devices,
    }
