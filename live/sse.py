"""`GET /events` with `Accept: text/event-stream`: the same log as `/ws/events`, for programs that read a plain HTTP answer.

The view runs in a request thread like any other; what it answers is an async generator that the server's loop draws from.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError, close_old_connections
from django.http import StreamingHttpResponse

from core.errors import BadInput, TooMany
from live import callers, reader
from live.reader import encode
from live.subscriber import Drained, Subscriber, TooSlow
from live.wants import SEQ_MAX, BadWant, Want

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from django.http import HttpRequest

    from accounts.actor import Actor
    from live.callers import Caller
    from live.reader import Entry, SampleEntry

MEDIA_TYPE = "text/event-stream"
KEEP_ALIVE_SECONDS = 15.0
STREAMS_A_USER = 100


def wanted(request: HttpRequest) -> bool:
    """Whether the caller asks for a stream."""
    accepted = [part.split(";")[0].strip().lower() for part in request.headers.get("Accept", "").split(",")]
    return MEDIA_TYPE in accepted


def stream(request: HttpRequest, actor: Actor, *, types: str, objects: str, after: int | None) -> StreamingHttpResponse:
    """The answer that does not end by itself.

    Args:
        request: Its `Last-Event-ID` wins over `after`: a browser that reconnects sends the same URL again.
        actor: Who listens.
        types: As in the list, several by commas.
        objects: Likewise.
        after: Begin behind this seq; None: with what comes from now on.

    Raises:
        BadInput: A filter or Last-Event-ID that cannot be.
        TooMany: This user has too many streams and sockets open.
    """
    try:
        want = Want.of(_split(types), _split(objects))
    except BadWant as error:
        raise BadInput(f"This filter cannot be used: {error}.") from None
    after = _last_event_id(request, after)
    if actor.user is not None and reader.listeners_of(actor.user.pk) >= STREAMS_A_USER:
        raise TooMany(f"More than {STREAMS_A_USER} streams and sockets are open for this user.")
    response = StreamingHttpResponse(_lines(callers.of_request(request, actor), want, after), content_type=MEDIA_TYPE)
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    # This thread waits for the stream's end with its connection open; from a pool, a few streams would take them all.
    close_old_connections()
    return response


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _last_event_id(request: HttpRequest, after: int | None) -> int | None:
    given = request.headers.get("Last-Event-ID", "").strip()
    if not given:
        return after
    if not given.isascii() or not given.isdigit() or len(given) > 19 or int(given) > SEQ_MAX:
        raise BadInput("Last-Event-ID is the seq of an event.", errors=[{"pointer": "/after", "detail": "not a seq"}])
    return int(given)


async def _lines(caller: Caller, want: Want, after: int | None) -> AsyncIterator[bytes]:
    subscriber = Subscriber(reader.running(), caller)
    try:
        with contextlib.suppress(TooSlow, Drained, callers.Refused, DatabaseError, InterfaceError):
            kept, last = await subscriber.subscribe(want, after)
            # A comment, so that headers go out now and the client knows that it is connected.
            yield f": subscribed at {last}\n\n".encode()
            if not kept:
                yield f"event: reset\nid: {last}\ndata: {encode({'type': 'reset', 'seq': last})}\n\n".encode()
            while True:
                entries = await subscriber.take(idle_seconds=KEEP_ALIVE_SECONDS)
                if entries:
                    yield b"".join(_block(entry) for entry in entries)
                elif subscriber.idle:
                    yield b":\n\n"
    finally:
        subscriber.close()


def _block(entry: Entry | SampleEntry) -> bytes:
    """One event. Samples have no `id`: they are not kept, and must not move the place to resume from."""
    identity = f"id: {entry.seq}\n" if entry.seq else ""
    return f"{identity}event: {entry.type}\ndata: {entry.text}\n\n".encode()
