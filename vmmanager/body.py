"""The end of a request body that is too long, at the door of the server: before Django has put it on the disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from core.errors import TooLarge
from core.ids import uuid7
from core.problems import CONTENT_TYPE, problem_of
from core.rest import BODY_MAX, takes_stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Message = dict[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]


class BodyLimit:
    """Wraps an ASGI application: a body over 2 MiB, announced or not, is answered 413 and read no further.

    Uploads aside: what they send is read by who writes it down, and no further than that.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        if takes_stream(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        if _announced(scope) > BODY_MAX:
            await _refuse(send)
            return
        seen, refused = 0, False

        async def counted() -> Message:
            nonlocal seen, refused
            if refused:
                return {"type": "http.disconnect"}
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > BODY_MAX:
                refused = True
                await _refuse(send)
                return {"type": "http.disconnect"}
            return message

        async def unless_refused(message: Message) -> None:
            if not refused:
                await send(message)

        await self._app(scope, counted, unless_refused)


def _announced(scope: Mapping[str, Any]) -> int:
    for name, value in scope.get("headers", ()):
        if name.lower() == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


async def _refuse(send: Send) -> None:
    request_id = uuid7().hex
    body = json.dumps(
        problem_of(TooLarge(f"A request body has at most {BODY_MAX} bytes."), request_id=request_id)
    ).encode()
    headers = [
        (b"content-type", CONTENT_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
        # What of the body is still on its way would be read as the next request.
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
