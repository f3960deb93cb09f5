"""Errors → RFC 9457 problem documents: the one place that knows both our errors and HTTP.

Expected errors are answered without a traceback in the log; anything unknown becomes a bare 500 whose request id finds the
traceback in the log, and nothing of it reaches the client.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypedDict

from core.errors import BadInput, VmmError

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"


class Problem(TypedDict, total=False):
    """The body of an error answer, and the `error` of an operation."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str
    request_id: str
    operation: str
    id: str
    capability: str
    feature: str
    reason: str
    alternatives: list[dict[str, Any]]
    context: dict[str, Any]
    errors: list[dict[str, Any]]
    expected: bool


def problem_of(error: BaseException, *, request_id: str = "") -> Problem:
    """The problem document of any error. Never a traceback, never the text of an unknown exception."""
    if not isinstance(error, VmmError):
        body = Problem(
            type="/problems/internal_error",
            title="Something went wrong here.",
            status=500,
            detail="The fault is on our side. The request id finds it in the log.",
            code="internal_error",
        )
    else:
        body = Problem(
            type=f"/problems/{error.code}",
            title=error.title(),
            status=error.status,
            detail=error.detail,
            code=error.code,
        )
        context: dict[str, Any] = {key: value for key, value in error.context.items() if value not in (None, "")}
        if "operation" in context:
            body["operation"] = str(context.pop("operation"))
        # What a caller acts on stands at the top: which one is there already, and what the hypervisor cannot do.
        if "id" in context:
            body["id"] = str(context["id"])
        if "feature" in context:
            body["capability"] = body["feature"] = str(context["feature"])
            body["reason"] = error.detail
        if "alternatives" in context:
            body["alternatives"] = context.pop("alternatives")
        if context:
            body["context"] = {
                key: value if isinstance(value, str | int | float | bool | list | dict) else str(value)
                for key, value in context.items()
            }
        if isinstance(error, BadInput) and error.errors:
            body["errors"] = error.errors
    if request_id:
        body["request_id"] = request_id
    return body


def log_error(error: BaseException, *, request_id: str, where: str) -> None:
    """Expected errors as one quiet line, others with their traceback."""
    extra = {"request_id": request_id, "where": where}
    if isinstance(error, VmmError) and error.expected:
        log.info("refused: %s", error.code, extra=extra)
    else:
        log.error("failed", exc_info=error, extra=extra)


def pointer(path: Sequence[str | int]) -> str:
    """A JSON pointer from pydantic's location: `("body", "payload", "memory_bytes")` → `/memory_bytes`."""
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in path]
    return "/" + "/".join(parts)
