"""Consoles of in-memory guests over a real server in this process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from accounts.actor import Actor
from accounts.choices import Role
from consoles.services import console_ticket
from drivers.fake import FakeWorld, drop_world, world
from drivers.pool import the_pool
from drivers.types import GuestState
from tests.consoles.client import ConsoleClient
from tests.factories import HypervisorFactory, UserFactory, VMFactory
from tests.live.conftest import LiveServer, live_port, thread  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from accounts.models import User
    from vms.models import VM


def relay_threads() -> list[str]:
    """Threads that belong to consoles, in this process."""
    return [one.name for one in threading.enumerate() if one.name.startswith(("vmm-console", "console-"))]


def descriptors() -> int:
    """Open sockets, pipes and the like of this process. No files: SQLite keeps some of its own open at its will."""
    found = 0
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += not str(path.readlink()).startswith("/")
    return found


class Lab:
    """A guest on an in-memory hypervisor, somebody who may use its console, and a server."""

    def __init__(self, server: LiveServer, place: FakeWorld) -> None:
        self.server = server
        self.world = place
        self.user: User = UserFactory(role=Role.OPERATOR)
        self.hypervisor = HypervisorFactory(driver="fake", uri=place.endpoint.uri)
        self.vm = self.guest("web")
        self.clients: list[ConsoleClient] = []

    def guest(self, name: str) -> VM:
        """One more running guest with a serial console."""
        info = self.world.add(name, state=GuestState.RUNNING)
        return VMFactory(
            hypervisor=self.hypervisor, uuid=info.uuid, name=name, state="running", consoles=["serial", "vnc"]
        )

    def ticket(
        self, *, vm: VM | None = None, user: User | None = None, take_over: bool = False, kind: str = "serial"
    ) -> str:
        """The secret of a fresh ticket. Queries."""
        by = Actor.of_user(user or self.user)
        return console_ticket(vm=vm or self.vm, kind=kind, take_over=take_over, by=by)[0]

    async def open(self, *, secret: str | None = None, **options: Any) -> ConsoleClient:
        """An open socket with a fresh ticket (or `secret`)."""
        chosen = {key: options.pop(key) for key in ("vm", "user", "take_over", "kind") if key in options}
        secret = secret or await thread(self.ticket, **chosen)
        client = await ConsoleClient.open(self.server.address, [f"ticket.{secret}", "binary"], **options)
        self.clients.append(client)
        return client

    async def shell(self, **options: Any) -> ConsoleClient:
        """An open console that has said its prompt."""
        client = await self.open(**options)
        vm = options.get("vm") or self.vm
        await client.expect(f"{vm.name}:~# ")
        return client


@pytest.fixture
def place() -> Iterator[FakeWorld]:
    made = world(f"c-{uuid.uuid4().hex[:10]}")
    yield made
    the_pool().forget(made.endpoint)
    drop_world(made.name)


@pytest.fixture
async def lab(live_port: LiveServer, place: FakeWorld) -> AsyncIterator[Lab]:  # noqa: F811
    made = await thread(Lab, live_port, place)
    yield made
    for client in made.clients:
        client.cut()
    await asyncio.gather(*(client.socket.wait_closed() for client in made.clients))
