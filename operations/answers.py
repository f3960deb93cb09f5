"""Operations as HTTP answers: their JSON, 202 or 200, and waiting for an end as the caller preferred. Runs in a request thread."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.http import HttpResponse

from accounts.policy import may
from core.rest import JSON, encoded, moment
from operations import engine
from operations.problems import Recorded

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

    from accounts.actor import Actor
    from operations.models import Operation

WAIT_MAX = 60
CHANGE_WAIT_SECONDS = 5
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?(?=$|[,;\s])", re.IGNORECASE)
_SECRET_RESULTS = {"definition": "vm.xml"}
"""Parts of a result that need a verb of their own to be seen."""


def operation_json(operation: Operation, *, by: Actor) -> dict[str, Any]:
    """The contract's operation, as `by` may see it. No query."""
    kind, _, identity = operation.target.partition("/")
    result = operation.small_result if hasattr(operation, "small_result") else operation.result
    if isinstance(result, dict):
        result = {key: value for key, value in result.items() if may(by, _SECRET_RESULTS.get(key, "view"))}
    return {
        "id": str(operation.pk),
        "kind": operation.kind,
        "state": operation.state,
        "target": {"type": kind, "id": identity or None, "name": operation.target_name},
        "params": operation.shown_params,
        "progress": operation.progress,
        "message": operation.message,
        "error": operation.error,
        "result": result,
        "requested_by": operation.requested_by,
        "created_at": moment(operation.created_at),
        "started_at": moment(operation.started_at),
        "finished_at": moment(operation.finished_at),
        "attempts": operation.attempts,
        "parent": str(operation.parent_id) if operation.parent_id else None,
        "cancellable": engine.cancellable(operation),
        "request_id": operation.request_id,
        "version": operation.version,
    }


def preferred_wait(request: HttpRequest) -> int | None:
    """N of `Prefer: wait=N`, at most 60; None without one. What is no number is ignored, as RFC 7240 asks."""
    match = _WAIT.search(request.headers.get("Prefer", "")[:500])
    return min(int(match[1]), WAIT_MAX) if match else None


class Pending(HttpResponse):
    """An answer that may be better later. Whoever dispatches requests calls `waited` once the transaction is over.

    Waiting inside the transaction that inserted the row would wait for nobody: no worker sees it yet.
    """

    operation: Operation
    repeatable = False
    """Whether the call may simply be made again when its first answer was lost."""
    waits = True
    """Whether there is anything to wait for."""

    def waited(self) -> HttpResponse:
        """Blocks this thread; the answer to send."""
        raise NotImplementedError


class Started(Pending):
    """`202`, the operation, its `Location`; with `Prefer: wait=N` the operation as it is at its end or after N seconds."""

    def __init__(self, request: HttpRequest, operation: Operation, by: Actor) -> None:
        self.operation = operation
        self._by = by
        self._wait = preferred_wait(request)
        self.waits = self._wait is not None
        super().__init__(encoded(operation_json(operation, by=by)), status=202, content_type=JSON)
        self["Location"] = f"/api/v1/operations/{operation.pk}"

    def waited(self) -> HttpResponse:
        """200 when it has ended, whether well or not; else 202."""
        if self._wait is None:
            return self
        operation = self.operation
        if not operation.ended:
            operation = engine.wait_ended(operation, timeout_seconds=self._wait)
        self.content = encoded(operation_json(operation, by=self._by))
        self.status_code = 200 if operation.ended else 202
        self["Preference-Applied"] = f"wait={self._wait}"
        return self


def changed(
    request: HttpRequest, operation: Operation | None, by: Actor, shown: Callable[[], HttpResponse]
) -> HttpResponse:
    """What became of a change that is an operation (None: nothing had to change): waited for, and the object as it is then."""
    if operation is not None:
        wait = preferred_wait(request)
        operation = engine.wait_ended(operation, timeout_seconds=CHANGE_WAIT_SECONDS if wait is None else wait)
        if not operation.ended:
            return Started(request, operation, by)
        if operation.error:
            raise Recorded(operation.error)
    return shown()


class Awaited(Pending):
    """An answer made of an operation's end, whether the caller prefers to wait or not (`/hosts/probe`)."""

    repeatable = True

    def __init__(
        self, operation: Operation, build: Callable[[Operation], HttpResponse], *, wait_seconds: float = WAIT_MAX
    ) -> None:
        self.operation = operation
        self._build = build
        self._wait_seconds = wait_seconds
        super().__init__(status=202)

    def waited(self) -> HttpResponse:
        """What `build` makes of the operation as it then is; it raises what the caller shall read."""
        return self._build(engine.wait_ended(self.operation, timeout_seconds=self._wait_seconds))
