"""Sockets, in process and over a real server, and the users that open them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.db import connections

from accounts.actor import Actor
from accounts.choices import Role
from events import log
from live import reader, tickets
from tests.waiting import wait_until
from vmmanager.asgi import application
from vmmanager.server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from accounts.models import User

SILENCE_SECONDS = 0.15
PASSWORD = "correct horse battery"


async def thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run database work beside the loop, and leave no connection behind."""

    def call() -> Any:
        try:
            return function(*args, **kwargs)
        finally:
            connections.close_all()

    return await asyncio.to_thread(call)


def make_user(name: str = "olga", role: str = Role.ADMINISTRATOR) -> User:
    return get_user_model().objects.create_user(name, password=PASSWORD, role=role)


def make_session(user: User) -> str:
    """The key of a session in which `user` is signed in, as a browser has it."""
    session = SessionStore()
    session["_auth_user_id"] = str(user.pk)
    session["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
    session["_auth_user_hash"] = user.get_session_auth_hash()
    session.create()
    return session.session_key


def make_ticket(user: User, purpose: str = "events", token: Any = None) -> str:
    return tickets.issue(Actor.of_token(token) if token else Actor.of_user(user), purpose)[0]


def append(*names: str, type: str = "vm.changed", object: str = "", **values: Any) -> int:  # noqa: A002 - the event's own words
    """Append events whose object is `vm/<name>`; the last seq."""
    log.append(
        [
            log.NewEvent(type=type, object=object or f"vm/{name}", object_name=name, data={"n": name}, **values)
            for name in names
        ]
    )
    return log.last_seq()


class Socket(ApplicationCommunicator):
    """A socket to the application, without a network between (Channels' own test client wants a server that we do not have)."""

    def __init__(
        self, *, origin: str | None = "http://testserver", session: str = "", subprotocols: list[str] | None = None
    ) -> None:
        headers = [(b"host", b"testserver")]
        if origin is not None:
            headers.append((b"origin", origin.encode()))
        if session:
            headers.append((b"cookie", f"vmm_session={session}".encode()))
        scope = {
            "type": "websocket", "path": "/ws/events", "query_string": b"", "headers": headers,
            "subprotocols": subprotocols or [], "scheme": "ws",
        }  # fmt: skip
        super().__init__(application, scope)

    async def connect(self) -> tuple[bool, Any]:
        """Whether it was accepted, and the subprotocol or the closing code."""
        await self.send_input({"type": "websocket.connect"})
        answer = await self.receive_output(timeout=10)
        if answer["type"] == "websocket.close":
            return False, answer["code"]
        return True, answer.get("subprotocol")

    async def open(self) -> Socket:
        accepted, _ = await self.connect()
        assert accepted
        return self

    async def send(self, text: str | None = None, data: bytes | None = None) -> None:
        await self.send_input({"type": "websocket.receive", "text": text, "bytes": data})

    async def disconnect(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(timeout=5)

    async def subscribe(self, after: int | None = None, **wish: Any) -> dict[str, Any]:
        frame: dict[str, Any] = {"subscribe": wish}
        if after is not None:
            frame["after"] = after
        await self.send(json.dumps(frame))
        return await self.read()

    async def read(self) -> dict[str, Any]:
        message = await self.receive_output(timeout=10)
        assert message["type"] == "websocket.send", message
        return json.loads(message["text"])

    async def seqs(self, count: int) -> list[int]:
        return [(await self.read())["seq"] for _ in range(count)]

    async def closed(self) -> tuple[int, str]:
        """Reads on to the end: its code and reason."""
        while True:
            message = await self.receive_output(timeout=10)
            if message["type"] == "websocket.close":
                return message["code"], message.get("reason", "")

    async def silent(self) -> bool:
        return await self.receive_nothing(timeout=SILENCE_SECONDS, interval=0.01)


@pytest.fixture
async def sockets() -> AsyncIterator[Callable[..., Socket]]:
    """Makes sockets; closes them, and the reader of this loop, at the end."""
    made: list[Socket] = []

    def make(**options: Any) -> Socket:
        made.append(Socket(**options))
        return made[-1]

    yield make
    for socket in made:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await socket.disconnect()
    await reader.shut_down()


@pytest.fixture
async def listener(sockets: Callable[..., Socket], db_user: User) -> Socket:
    """An administrator's open socket, not subscribed yet."""
    return await sockets(session=await thread(make_session, db_user)).open()


@pytest.fixture
def db_user(transactional_db: None) -> User:
    return make_user()


class LiveServer:
    """The real server on a free port, on a thread of its own."""

    def __init__(self, **options: Any) -> None:
        config = uvicorn.Config(
            "vmmanager.asgi:application", host="127.0.0.1", port=0, lifespan="on", log_config=None, access_log=False,
            timeout_graceful_shutdown=5, ws="websockets-sansio", **options,
        )  # fmt: skip
        self.server = Server(config)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve()), name="test-server")

    def start(self) -> LiveServer:
        self.thread.start()
        wait_until(lambda: self.server.started or not self.thread.is_alive(), 20, "the server starts")
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        return self

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def live_port(transactional_db: None) -> Iterator[LiveServer]:
    server = LiveServer().start()
    yield server
    server.stop()
