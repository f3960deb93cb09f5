"""What every operation of the REST API goes through, whoever wrote it.

Who calls, may she, is the request one that can be read, was it made before, does the caller want to wait:
in this order: a stranger learns nothing about what is valid, and somebody who may not call it learns nothing about its values.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from ninja.parser import Parser

from accounts.access import verb_of
from accounts.actor import Actor, actor_of
from accounts.auth import ApiAuth, authorize
from accounts.policy import PUBLIC
from core.errors import BadInput, VmmError
from operations import idempotency
from operations.answers import Pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse
    from ninja.operation import Operation

    Run = Callable[..., Any]

EMPTY_BODIES = (b"", b"{}", b"null")


class BadJson(VmmError):
    """The request body is no JSON."""

    code = "invalid_json"
    status = 400
    expected = True


class WrongMediaType(VmmError):
    """The request body is of another kind than this call takes."""

    code = "unsupported_media_type"
    status = 415
    expected = True


class BearerToken(ApiAuth):
    """For django-ninja's own check, which comes second: the caller is known by then."""

    def __call__(self, request: HttpRequest) -> Actor:
        """The caller."""
        known: Actor | None = getattr(request, "actor", None)
        return known if known is not None else super().__call__(request)


auth = BearerToken()


class JsonParser(Parser):
    """JSON as RFC 8259 has it: no NaN, and no text that a database cannot keep."""

    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        """Raises BadJson, or BadInput for NUL and lone surrogates."""
        try:
            data = json.loads(request.body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise BadJson(f"The request body is no JSON: {error}."[:300]) from None
        if b"\\u0000" in request.body or b"\\ud" in request.body.lower():
            _check_texts(data, "")
        return cast("dict[str, Any]", data)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _check_texts(value: Any, pointer: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _check_texts(key, pointer)
            _check_texts(item, f"{pointer}/{key}")
    elif isinstance(value, list):
        for position, item in enumerate(value):
            _check_texts(item, f"{pointer}/{position}")
    elif isinstance(value, str) and ("\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value)):
        place = pointer.encode("ascii", "backslashreplace").decode()[:200]
        detail = "a character that no text has"
        raise BadInput(
            f"{place.removeprefix('/') or 'The request'}: {detail}.", errors=[{"pointer": place, "detail": detail}]
        )


def guarded(run: Run) -> Run:
    """Wrap the `run` of one operation. For `NinjaAPI.add_decorator(…, mode="view")`.

    Raises:
        ImproperlyConfigured: The operation declares no access: the application does not start with it.
    """
    operation: Operation = run.__self__  # type: ignore[attr-defined]
    verb = verb_of(operation.view_func)
    if verb is None:
        name = f"{operation.view_func.__module__}.{operation.view_func.__qualname__}"
        raise ImproperlyConfigured(f"{name} declares no access: put @access(…) on it.")
    gate = _Gate(operation, public=verb == PUBLIC)
    if operation.is_async:

        @functools.wraps(run)
        async def call_async(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            refused = await sync_to_async(gate.refused)(request)
            return refused or cast("HttpResponse", await run(request, *args, **kwargs))

        return call_async

    @functools.wraps(run)
    def call(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        refused = gate.refused(request)
        if refused is not None:
            return refused
        try:
            return _answered(request, functools.partial(run, request, *args, **kwargs))
        except Exception as error:  # noqa: BLE001 - becomes an answer, and is logged there
            return gate.failed(request, error)

    return call


def _answered(request: HttpRequest, run: Callable[[], HttpResponse]) -> HttpResponse:
    if request.method == "POST" and "Idempotency-Key" in request.headers:
        return idempotency.answered(request, by=actor_of(request), run=run)
    response = run()
    return response.waited() if isinstance(response, Pending) else response


class _Gate:
    """What is checked before an operation's own values are."""

    def __init__(self, operation: Operation, *, public: bool) -> None:
        self._operation = operation
        self._public = public
        self._query: frozenset[str] = frozenset()
        self._media_types: tuple[str, ...] = getattr(operation.view_func, "body_media_types", ())
        self._takes_body = bool(self._media_types)
        self._streamed: str = getattr(operation.view_func, "streamed_media_type", "")
        for model in operation.models:
            source = model.__ninja_param_source__
            if source == "query":
                self._query |= frozenset(model.__ninja_flatten_map__)
            elif source in ("body", "form", "file"):
                self._takes_body = True

    def refused(self, request: HttpRequest) -> HttpResponse | None:
        """The answer when it goes no further."""
        try:
            if not self._public:
                auth(request)
            authorize(self._operation.view_func, request)
            self._check_query(request)
            self._check_body(request)
        except Exception as error:  # noqa: BLE001 - becomes an answer, and is logged there
            return self.failed(request, error)
        return None

    def failed(self, request: HttpRequest, error: Exception) -> HttpResponse:
        """The answer to an error."""
        return self._operation.api.on_exception(request, error)

    def _check_query(self, request: HttpRequest) -> None:
        unknown = [name for name in request.GET if name not in self._query]
        if unknown:
            known = ", ".join(sorted(self._query)) or "none"
            raise BadInput(
                f"There is no query parameter {unknown[0][:50]!r} here; known: {known}.",
                errors=[{"pointer": f"/{name[:50]}", "detail": "unknown parameter"} for name in unknown[:20]],
            )

    def _check_body(self, request: HttpRequest) -> None:
        if self._streamed:
            if (request.content_type or "").lower() != self._streamed:
                raise WrongMediaType(f"Send the bytes with Content-Type: {self._streamed}.")
            return
        if request.method in ("GET", "HEAD") or not request.body:
            return
        if not self._takes_body:
            if request.body.strip() not in EMPTY_BODIES:
                raise BadInput("This call takes no body.", errors=[{"pointer": "", "detail": "no body expected"}])
            return
        media_type = (request.content_type or "").lower()
        if self._media_types:
            if media_type not in self._media_types:
                raise WrongMediaType(f"Send {' or '.join(self._media_types)}, not {media_type[:80] or 'nothing'!r}.")
            return
        if media_type != "application/json" and not media_type.endswith("+json"):
            raise WrongMediaType(
                f"Send JSON with Content-Type: application/json, not {media_type[:80] or 'nothing'!r}."
            )
