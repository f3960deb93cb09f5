"""The part of a host's page that says in which order its guests start. It only reads; REST changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.access import access
from accounts.actor import actor_of
from accounts.policy import may, visible
from hosts.services import host_get
from vms.autostart.actions import in_order

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest, HttpResponse


@require_safe
@access("view")
def host_starts(request: HttpRequest, host_id: uuid.UUID) -> HttpResponse:
    """Nothing where no guest has a place."""
    by = actor_of(request)
    host = host_get(host_id, by=by)
    context = {"host": host, "vms": list(visible(by, in_order(host))), "may_edit": may(by, "vm.edit")}
    return render(request, "vms/_starts.html", context)
