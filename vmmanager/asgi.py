"""What the server calls: HTTP to Django, sockets to their consumers, and the event log's reader for as long as it serves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import django
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vmmanager.settings")
django.setup(set_prefix=False)  # before what follows: it fills the app registry that models need

from consoles.consumers import ConsoleConsumer  # noqa: E402
from live import reader  # noqa: E402
from live.consumers import LiveConsumer  # noqa: E402
from vmmanager.body import BodyLimit  # noqa: E402
from vmmanager.handler import Handler  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]


django_application = Handler()


async def lifespan(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """The reader begins with the server and ends with it. A database that is out of reach does not hold the start up."""
    del scope
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            reader.running()
            await send({"type": "lifespan.startup.complete"})
        else:
            await reader.shut_down()
            await send({"type": "lifespan.shutdown.complete"})
            return


async def no_such_socket(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """Any other path: the handshake is refused (HTTP 403)."""
    del scope
    await receive()
    await send({"type": "websocket.close"})


# django-stubs knows `path` only with views; Channels' router takes ASGI applications.
sockets: list[Any] = [
    path("ws/events", cast("Any", LiveConsumer.as_asgi())),
    path("ws/console", cast("Any", ConsoleConsumer.as_asgi())),
    path("<path:_>", cast("Any", no_such_socket)),
    path("", cast("Any", no_such_socket)),
]
application = ProtocolTypeRouter(
    {
        "http": cast("Any", BodyLimit(cast("Any", django_application))),
        "websocket": URLRouter(sockets),
        "lifespan": lifespan,
    }
)
