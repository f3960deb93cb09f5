"""The policy before every page: what declares nothing is refused, what needs a sign-in asks for it.

Sets `request.actor`: an `Actor`, or None for somebody unknown. The views of the REST API pass: one address has several
operations with a verb each, so the API asks for itself (`accounts.auth.ApiAuth` and `authorize`).
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

from django.conf import settings
from ninja.openapi import views as api_pages
from ninja.operation import PathView

from accounts import policy
from accounts.access import verb_of
from accounts.answers import refuse
from accounts.auth import page_actor, session_actor
from core.errors import NotAuthenticated, PermissionRefused, VmmError
from core.problems import log_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

log = logging.getLogger(__name__)

# The API's own description is made by django-ninja and carries no mark of ours: who may read may read it.
_DESCRIPTIONS = frozenset({api_pages.openapi_json, api_pages.openapi_view, api_pages.default_home})


class PolicyMiddleware:
    """Asks `accounts.policy` before each view."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """One request."""
        request.actor = None  # type: ignore[attr-defined]
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], _args: tuple[Any, ...], _kwargs: dict[str, Any]
    ) -> HttpResponse | None:
        """None lets the view run."""
        if is_api_view(view):
            return None
        try:
            check(request, declared_verb(view), view)
        except VmmError as error:
            return refuse(request, error)
        return None

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Our own errors out of a page become its answer; anything else stays Django's."""
        if not isinstance(error, VmmError):
            return None
        log_error(error, request_id=getattr(request, "request_id", ""), where=request.path)
        return refuse(request, error)


def check(request: HttpRequest, verb: str | None, view: Callable[..., Any]) -> None:
    """Raises NotAuthenticated or PermissionRefused unless the caller may; sets `request.actor`."""
    if verb == policy.PUBLIC:
        # A health probe has no cookie, and costs no query here; a token says nothing where none is asked for.
        if settings.SESSION_COOKIE_NAME in request.COOKIES:
            request.actor = session_actor(request)  # type: ignore[attr-defined]
        return
    if verb is None:
        log.error("a view declares no access", extra={"view": f"{view.__module__}.{getattr(view, '__qualname__', '')}"})
        raise PermissionRefused("This page declares no access, so that nobody may use it.")
    actor = page_actor(request)
    if actor is None:
        raise NotAuthenticated
    policy.require(actor, verb)


def declared_verb(view: Callable[..., Any]) -> str | None:
    """What `view` declares, or what its kind implies."""
    verb = verb_of(view)
    if verb is None and isinstance(view, functools.partial) and view.func in _DESCRIPTIONS:
        return "view"
    return verb


def path_view(view: Callable[..., Any]) -> PathView | None:
    """The django-ninja PathView behind a view of a URL pattern, None for any other view.

    django-ninja gives Django a plain closure over it and marks it with nothing but `csrf_exempt`, which others are too.
    """
    for cell in getattr(view, "__closure__", None) or ():
        try:
            content = cell.cell_contents
        except ValueError:  # an empty cell
            continue
        if isinstance(content, PathView):
            return content
    return None


def is_api_view(view: Callable[..., Any]) -> bool:
    """Whether `view` is an address of the REST API, which asks the policy for each operation by itself."""
    return path_view(view) is not None
