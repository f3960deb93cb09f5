"""The URL tree. Every view behind it declares what it needs (`accounts.access`), or is refused."""

from __future__ import annotations

from typing import Any, cast

from django.urls import URLPattern, URLResolver, include, path

from vmmanager import health
from vmmanager.api import api
from vmmanager.reference import api_reference

_api = api.urls
_entrance = next(one for one in _api[0] if isinstance(one, URLPattern) and one.name == "entrance")

urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
    path("api/v1", cast("Any", _entrance.callback), name="api-entrance"),
    path("api/v1/docs", api_reference, name="api-reference"),
    path("api/v1/", _api),
    path("", include("accounts.urls")),
    path("", include("live.urls")),
    path("", include("consoles.urls")),
    path("", include("operations.urls")),
    path("", include("hosts.urls")),
    path("", include("storage.urls")),
    path("", include("networks.urls")),
    path("", include("images.urls")),
    path("", include("vms.urls")),
    path("", include("dashboard.urls")),
]

handler400 = "dashboard.errors.bad_request"
handler403 = "dashboard.errors.forbidden"
handler404 = "dashboard.errors.not_found"
handler500 = "dashboard.errors.server_error"
