"""A refusal as the caller can use it: a page for people, a hint for htmx, a problem document for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render, resolve_url
from django.utils.http import url_has_allowed_host_and_scheme

from core.errors import NotAuthenticated, VmmError
from core.problems import CONTENT_TYPE, problem_of

if TYPE_CHECKING:
    from django.http import HttpRequest

_PAGES = {403: "errors/403.html", 404: "errors/404.html"}
_LONGEST_NEXT = 2000


def own_path(target: str) -> str:
    """`target` if it is a path on this site, else "": never a way to somebody else's."""
    if (
        len(target) > _LONGEST_NEXT
        or not target.startswith("/")
        or not url_has_allowed_host_and_scheme(target, allowed_hosts=None)
    ):
        return ""
    return "" if urlsplit(target).path.rstrip("/") in ("/login", "/logout") else target


def has_bearer(request: HttpRequest) -> bool:
    """Whether the caller sends a token. Other schemes are not ours: a proxy in front may ask for a password of its own."""
    return request.headers.get("Authorization", "")[:7].lower() in ("bearer", "bearer ")


def is_htmx(request: HttpRequest) -> bool:
    """Whether htmx or our own scripts want a part of a page."""
    return request.headers.get("HX-Request") == "true"


def wants_page(request: HttpRequest) -> bool:
    """Whether the answer is for a person's eyes."""
    if request.path == "/api" or request.path.startswith("/api/") or has_bearer(request) or is_htmx(request):
        return False
    return request.get_preferred_type(["text/html", "application/json", CONTENT_TYPE]) == "text/html"


def problem_response(request: HttpRequest, error: VmmError) -> HttpResponse:
    """`error` as an RFC 9457 document."""
    body = problem_of(error, request_id=getattr(request, "request_id", ""))
    response = HttpResponse(json.dumps(body), status=error.status, content_type=CONTENT_TYPE)
    if error.status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="vmmanager"'
    wait = error.context.get("retry_after_seconds")
    if wait:
        response["Retry-After"] = str(wait)
    response["Cache-Control"] = "no-store"
    return response


def refuse(request: HttpRequest, error: VmmError) -> HttpResponse:
    """Answer `error` in the caller's own form; who is not signed in is sent to do so, and comes back to where he was."""
    if isinstance(error, NotAuthenticated) and is_htmx(request):
        response = problem_response(request, error)
        response["HX-Redirect"] = _sign_in_url(_path_of(request.headers.get("HX-Current-URL", "")))
        return response
    if not wants_page(request):
        return problem_response(request, error)
    if isinstance(error, NotAuthenticated):
        here = (
            request.get_full_path()
            if request.method in ("GET", "HEAD")
            else _path_of(request.headers.get("Referer", ""))
        )
        return HttpResponseRedirect(_sign_in_url(here))
    context = {"exception": error.detail, "title_text": error.title(), "request_id": getattr(request, "request_id", "")}
    response = render(request, _PAGES.get(error.status, "errors/problem.html"), context, status=error.status)
    wait = error.context.get("retry_after_seconds")
    if wait:
        response["Retry-After"] = str(wait)
    return response


def _path_of(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return parts.path + (f"?{parts.query}" if parts.query else "")


def _sign_in_url(target: str) -> str:
    target = own_path(target)
    login = resolve_url(settings.LOGIN_URL)
    return f"{login}?{urlencode({'next': target})}" if target and target != "/" else login
