"""The request id (taken from the client if it is a plain one, else made; answered, logged, kept on operations), and compression."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from django.middleware.gzip import GZipMiddleware

from core.ids import uuid7
from core.logs import request_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse
    from django.http.response import HttpResponseBase

_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestIdMiddleware:
    """Sets `request.request_id` and the `X-Request-Id` of the answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """One request."""
        given = request.headers.get("X-Request-Id", "")
        value = given if _PLAIN.fullmatch(given) else uuid7().hex
        request.request_id = value  # type: ignore[attr-defined]
        token = request_id.set(value)
        try:
            response = self.get_response(request)
        finally:
            request_id.reset(token)
        response["X-Request-Id"] = value
        return response


class CompressMiddleware(GZipMiddleware):
    """Pages and lists, gzipped: a list of 100 guests is a tenth of its size.

    Left alone: streams (an event would wait for its block to fill; static files are compressed on disk), and what is not to be
    stored, which is where secrets are (a ticket, a new token, a definition): their length must not tell of their content (BREACH).
    Pages are safe from it: their CSRF token is masked anew each time, and Django pads each answer at random.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """One answer."""
        if response.streaming or "no-store" in response.get("Cache-Control", ""):
            return response
        return super().process_response(request, response)
