"""The one base class of errors that a caller may be told about. Standard library only.

An error carries a stable `code`, the HTTP `status` it becomes (in `core.problems`, the only place that knows HTTP),
whether trying again can help (`retryable`) and whether it is part of ordinary life (`expected`: no traceback in the log).
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar


class VmmError(Exception):
    """Something went wrong that the caller can be told about.

    Args:
        detail: One sentence for a person: what, why, and what to do next.
        context: Facts for machines (host, vm, libvirt_code …). Never a secret.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    expected: ClassVar[bool] = False

    def __init__(self, detail: str = "", **context: object) -> None:
        super().__init__(detail or self.title())
        self.detail = detail or self.title()
        self.context = context

    @classmethod
    def title(cls) -> str:
        """The sentence a user reads: the first line of the class's docstring."""
        return (inspect.getdoc(cls) or cls.__name__).splitlines()[0]


class BadInput(VmmError):
    """The request has values that cannot be used.

    Args:
        detail: The sentence for a person.
        errors: One `{"pointer": "/field", "detail": "…"}` for each bad value; of a text with its `line`.
    """

    code = "invalid_input"
    status = 422
    expected = True

    def __init__(self, detail: str = "", *, errors: list[dict[str, Any]] | None = None, **context: object) -> None:
        super().__init__(detail, **context)
        self.errors = errors or []


class NotAuthenticated(VmmError):
    """Sign in, or send a valid token."""

    code = "not_authenticated"
    status = 401
    expected = True


class PermissionRefused(VmmError):
    """Your account may see this, but not do that."""

    code = "permission_denied"
    status = 403
    expected = True


class Missing(VmmError):
    """There is nothing here, or nothing that you may see."""

    code = "not_found"
    status = 404
    expected = True


class Conflict(VmmError):
    """The request does not fit what is there."""

    code = "conflict"
    status = 409
    expected = True


class Stale(VmmError):
    """The object changed since you read it."""

    code = "stale"
    status = 412
    expected = True


class TooLarge(VmmError):
    """The request body is too large."""

    code = "too_large"
    status = 413
    expected = True


class TooMany(VmmError):
    """Too many attempts; wait a little."""

    code = "too_many_requests"
    status = 429
    expected = True
