"""What Django itself refuses, in the caller's own form: a page for people, a problem document for programs and scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import render

from accounts.answers import problem_response, refuse, wants_page
from core.errors import BadInput, Missing, PermissionRefused, VmmError

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400: Django could not read the request. Its own words may repeat what was sent, so they stay here."""
    del exception
    return refuse(request, BadInput("This request cannot be read."))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403."""
    del exception
    return refuse(request, PermissionRefused())


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404: no such address, or nothing there that may be seen."""
    del exception
    return refuse(request, Missing())


def server_error(request: HttpRequest) -> HttpResponse:
    """500: our own fault; the traceback is in the log. The page needs neither database nor session."""
    if not wants_page(request):
        return problem_response(request, VmmError("The fault is on our side. The request id finds it in the log."))
    return render(None, "errors/500.html", {"request_id": getattr(request, "request_id", "")}, status=500)
