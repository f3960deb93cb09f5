"""The console frame: the one page whose policy has inline styles, which xterm draws with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from csp.decorators import csp_update
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from accounts.access import access
from vms.consoles import console_types
from vms.services import vm_get

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest, HttpResponse

LABELS = {"serial": _("Serial"), "shell": _("Shell"), "vnc": _("Screen"), "spice": _("Spice")}


@require_safe
@access("vm.console")
@csp_update({"style-src": ["'unsafe-inline'"]})  # type: ignore[arg-type]  # its stubs know views without arguments only
def console_frame(request: HttpRequest, vm_id: uuid.UUID) -> HttpResponse:
    """Shown in the dock, or alone. `?type=` chooses what to open; the socket needs a ticket of its own."""
    vm = vm_get(vm_id, by=request.actor)  # type: ignore[attr-defined]
    found = console_types(vm)
    wanted = request.GET.get("type", "")
    kind = wanted if wanted in found else next(iter(found), "serial")  # asked for all the same: the refusal says why
    return render(
        request, "consoles/console.html", {"vm": vm, "type": kind, "types": [(value, LABELS[value]) for value in found]}
    )
