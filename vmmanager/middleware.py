"""The edge of the REST API: what goes wrong before or beside its operations is answered in the same form as within them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from accounts.answers import problem_response
from core.errors import Missing, TooLarge, VmmError
from core.problems import CONTENT_TYPE
from core.rest import BODY_MAX, InternalError, takes_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse


class NoSuchMethod(VmmError):
    """This address does not take this method."""

    code = "method_not_allowed"
    status = 405
    expected = True


class BadRequest(VmmError):
    """The request cannot be understood."""

    code = "bad_request"
    status = 400
    expected = True


_KNOWN: dict[int, Callable[[], VmmError]] = {
    400: BadRequest,
    404: lambda: Missing("There is no such address."),
    405: NoSuchMethod,
    413: TooLarge,
}


class ApiEdgeMiddleware:
    """For paths under `/api`: HEAD is a GET without a body, too much is refused unread, and every error is a problem document."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """One request."""
        if request.path != "/api" and not request.path.startswith("/api/"):
            return self.get_response(request)
        if _length(request) > BODY_MAX and not takes_stream(request.method, request.path):
            return problem_response(request, TooLarge(f"A request body has at most {BODY_MAX} bytes."))
        head = request.method == "HEAD"
        if head:
            request.method = "GET"
        response = self.get_response(request)
        if head:
            request.method = "HEAD"
        if response.status_code >= 400 and response.get("Content-Type", "") != CONTENT_TYPE:
            response = _as_problem(request, response)
        if "Cache-Control" not in response:
            response["Cache-Control"] = "private, no-cache"
        return response


def _length(request: HttpRequest) -> int:
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _as_problem(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """`response` with its headers, its body made a problem document."""
    make = _KNOWN.get(response.status_code)
    if make is not None:
        error = make()
    elif response.status_code == 500:
        error = InternalError()
    else:
        error = BadRequest(HTTPStatus(response.status_code).description)
        error.status = response.status_code  # type: ignore[misc]  # of this one error
    problem = problem_response(request, error)
    if response.streaming:
        return problem
    response.content = problem.content
    for name in ("Content-Type", "Cache-Control"):
        response[name] = problem[name]
    del response["Content-Encoding"]
    response["Content-Length"] = str(len(problem.content))
    return response
