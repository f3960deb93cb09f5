"""The audit line of each change that is not an operation (operations are their own): an event of type `audit.<what>`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from events import log

if TYPE_CHECKING:
    from accounts.actor import Actor


def record(by: Actor, what: str, *, object: str = "", object_name: str = "", **data: Any) -> None:  # noqa: A002 - the event's own word; any JSON value
    """Append `audit.<what>` within the caller's transaction. `data` must hold no secret."""
    if by.token is not None:
        data["token"] = by.token.name
    if by.request_id:
        data["request_id"] = by.request_id
    log.append([log.NewEvent(type=f"audit.{what}", object=object, object_name=object_name, actor=by.name, data=data)])
