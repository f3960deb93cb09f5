"""`/healthz`, `/readyz`, `/metrics`: for whoever watches over us. The first two need no sign-in and tell no names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import DatabaseError, connection
from django.http import HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.access import access
from accounts.policy import PUBLIC
from metrics.prometheus import CONTENT_TYPE
from vms import prometheus
from watcher import readiness

if TYPE_CHECKING:
    from django.http import HttpRequest


@require_safe
@never_cache
@access(PUBLIC)
def healthz(request: HttpRequest) -> HttpResponse:
    """Whether this process answers. Asks nobody else: a slow database must not get a healthy process killed."""
    del request
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
@access(PUBLIC)
def readyz(request: HttpRequest) -> HttpResponse:
    """200 when the database answers and every local hypervisor has had its first sweep or failed; else 503."""
    del request
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        ready, waiting = readiness.ready()
    except DatabaseError:
        return _waiting("The database does not answer.")
    if ready:
        return JsonResponse({"status": "ready"})
    # Which hypervisors there are is not for strangers.
    return _waiting(f"{len(waiting)} hypervisors are not known yet.")


def _waiting(reason: str) -> HttpResponse:
    response = JsonResponse({"status": "waiting", "waiting": [reason]}, status=503)
    # Django would log each as an error; a probe asks every second, and this is no fault.
    response._has_been_logged = True  # type: ignore[attr-defined]  # noqa: SLF001 - Django's own word for it
    return response


@require_safe
@never_cache
@access("view")
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text. Needs a token of scope `read`."""
    del request
    return HttpResponse(prometheus.text(), content_type=CONTENT_TYPE)
