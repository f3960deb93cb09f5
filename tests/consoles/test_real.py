"""Consoles of real QEMU guests and LXC containers through the product as its users run it (`manage.py serve`)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import socket
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.consoles.client import ConsoleClient
from tests.labs import local
from tests.labs.fixtures import require_libvirtd
from tests.server import Server, p95
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import httpx

    from tests.labs.fixtures import GuestFactory, QemuGuestFactory
    from tests.labs.local import Guest

pytestmark = pytest.mark.real

MIB = 1024 * 1024
ROOM_BYTES = 48 * MIB
"""What a flood may take: 8 MiB kept for a slow reader, some copies of it on their way, and what the allocator keeps."""
PASTE_SECONDS = 120.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    require_libvirtd(local.QEMU_URI)
    with Server(VMM_LOCAL_HOST="auto") as running:
        yield running


@pytest.fixture
def qemu(linux_guest: Guest) -> Guest:
    """A Linux guest at its shell."""
    return linux_guest


@pytest.fixture
def mortal(qemu_guest: QemuGuestFactory) -> Guest:
    """A machine of the test's own, with a VNC screen, that nobody's system runs in."""
    return qemu_guest("--vnc", "tcp", kind="bootsector", start=True)


@pytest.fixture
def lxc(lxc_guest: GuestFactory) -> Guest:
    return lxc_guest(start=True)


@pytest.fixture(params=["qemu", "lxc"])
def guest(request: pytest.FixtureRequest) -> Guest:
    return request.getfixturevalue(request.param)


def found(server: Server, guest: Guest) -> str:
    """The id of the guest here, once it is known to run."""

    def seen() -> str:
        return next(
            (
                vm["id"]
                for vm in server.all(f"/vms?q={guest.name}")
                if vm["uuid"] == guest.uuid and vm["state"] == "running"
            ),
            "",
        )

    return wait_until(seen, 20, f"{guest.name} is here")


def ticket(server: Server, vm: str, **wish: Any) -> httpx.Response:
    return server.api("POST", f"/vms/{vm}/console", json={"type": "serial", **wish})


async def opened(server: Server, guest: Guest, *, idle: bool = False, sock: Any = None, **wish: Any) -> ConsoleClient:
    answer = await asyncio.to_thread(lambda: ticket(server, found(server, guest), **wish))
    assert answer.status_code == 201, answer.text
    options = {"sock": sock, "max_queue": 1} if sock else {}
    client = await ConsoleClient.open(f"127.0.0.1:{server.port}", answer.json()["protocols"], idle=idle, **options)
    _clients.append(client)
    return client


_clients: list[ConsoleClient] = []


@pytest.fixture(autouse=True)
async def clients_are_gone() -> AsyncIterator[None]:
    """However a test ends."""
    yield
    for client in _clients:
        client.cut()
    await asyncio.gather(*(client.socket.wait_closed() for client in _clients))
    _clients.clear()


def files(server: Server) -> int:
    """Descriptors of the server that are no files."""
    paths = [path for path in Path(f"/proc/{server.pid}/fd").iterdir() if path.is_symlink()]
    return sum(not str(path.readlink()).startswith("/") for path in paths)


async def eventually(predicate: Callable[[], object], seconds: float, message: str) -> None:
    await asyncio.to_thread(wait_until, predicate, seconds, message)


# -- bytes ---------------------------------------------------------------------------------------------------------------
async def test_a_shell_answers(server: Server, guest: Guest) -> None:
    client = await opened(server, guest)
    await client.ask("echo answer-$((6*7))", "answer-42")
    await client.resize(100, 30)
    await client.type("echo still-$((6*7))\n")
    await client.expect("still-42")
    await client.leave()


async def test_a_paste_of_100_kb_arrives_whole_and_in_order(server: Server, guest: Guest) -> None:
    """As the browser pastes: frames of 256 bytes. The terminal's own line buffer holds 4095 bytes, so lines are short."""
    lines = [f"{number:06d}{'abcdefghijklmnopqrstuvwxyz' * 3}" for number in range(1190)]
    text = "\n".join(lines) + "\n"
    assert len(text) > 100_000
    client = await opened(server, guest)
    await client.ask("echo ready-$((6*7))", "ready-42")
    await client.type('stty -echo; while read -r l; do [ "$l" = end ] && break; echo "$l"; done > /tmp/paste\n')
    for at in range(0, len(text), 256):
        await client.type(text[at : at + 256])
    await client.type("end\nstty echo; md5sum < /tmp/paste; echo over-$((6*7))\n")
    output = (await client.expect("over-42", PASTE_SECONDS)).decode()
    assert hashlib.md5(text.encode()).hexdigest() in output
    await client.leave()


async def test_an_echo_is_not_waited_for(server: Server, guest: Guest, record_property: Callable[..., None]) -> None:
    """One key, and back: nothing on the way adds a poll's or a timer's time to it."""
    client = await opened(server, guest)
    await client.ask("echo ready-$((6*7))", "ready-42")
    took = []
    for key in "abcdefghijklmnopqrstuvwxyz" * 2:
        client.output.clear()
        began = time.perf_counter()
        await client.type(key)
        await client.expect(key, 5)
        took.append(time.perf_counter() - began)
    record_property("echo_median_ms", round(1000 * statistics.median(took), 2))
    record_property("echo_p95_ms", round(1000 * p95(took), 2))
    print(f"echo: median {1000 * statistics.median(took):.1f} ms, p95 {1000 * p95(took):.1f} ms")
    assert statistics.median(took) < 0.25
    await client.leave()


# -- the end of it -------------------------------------------------------------------------------------------------------
async def heard(client: ConsoleClient, guest: Guest) -> None:
    """Wait for a boot sector's `!`, which it says once after each reset."""
    for patience in (2, 10, 40):
        await asyncio.to_thread(guest.virsh, "reset")
        with contextlib.suppress(AssertionError):
            await client.expect("!", patience)
            return
    pytest.fail("the boot sector said nothing")


@pytest.mark.parametrize("kind", ["mortal", "lxc"])
async def test_4404_when_the_guest_stops(server: Server, request: pytest.FixtureRequest, kind: str) -> None:
    guest: Guest = request.getfixturevalue(kind)
    client = await opened(server, guest)
    if kind == "lxc":
        await client.ask("echo ready-$((6*7))", "ready-42")
    else:
        await heard(client, guest)
    await asyncio.to_thread(guest.destroy)
    assert (await client.code())[0] == 4404


async def test_4409_then_taken_over(server: Server, guest: Guest) -> None:
    first = await opened(server, guest)
    await first.ask("echo ready-$((6*7))", "ready-42")
    assert (await (await opened(server, guest)).code())[0] == 4409
    second = await opened(server, guest, take_over=True)
    assert (await first.code())[0] == 4409
    await second.ask("echo mine-$((6*7))", "mine-42")
    await second.leave()


async def test_a_guest_that_is_off_has_no_ticket(server: Server, mortal: Guest) -> None:
    vm = await asyncio.to_thread(found, server, mortal)
    await asyncio.to_thread(mortal.destroy)

    def refused() -> bool:
        answer = ticket(server, vm)
        return answer.status_code == 409 and answer.json()["code"] == "wrong_state"

    await eventually(refused, 10, "wrong_state")


async def test_1012_at_a_restart_and_the_console_comes_back(qemu: Guest) -> None:
    with Server(VMM_LOCAL_HOST="auto") as own:
        client = await opened(own, qemu)
        await client.ask("echo ready-$((6*7))", "ready-42")
        began = time.monotonic()
        stopping = asyncio.create_task(asyncio.to_thread(own.stop))
        assert (await client.code())[0] == 1012
        assert await stopping == 0
        assert time.monotonic() - began < 10
        await asyncio.to_thread(own.start)
        client = await opened(own, qemu)
        await client.ask("echo back-$((6*7))", "back-42")
        await client.leave()


# -- floods --------------------------------------------------------------------------------------------------------------
async def test_a_flood_with_a_client_that_does_not_read_is_bounded(
    server: Server, lxc: Guest, qemu: Guest, record_property: Callable[..., None]
) -> None:
    """LXC's console runs at memory speed; the other socket is a UART's."""
    other = await opened(server, qemu)
    await other.ask("echo ready-$((6*7))", "ready-42")
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect(("127.0.0.1", server.port))
    slow = await opened(server, lxc, idle=True, sock=narrow)
    before = server.memory_bytes()
    await slow.type("timeout 8 yes 0123456789012345678901234567890123456789; echo calm-$((6*7))\n")
    slow.socket.transport.pause_reading()
    peak, took = before, []
    for number in range(20):
        began = time.perf_counter()
        await other.type(f"echo n{number}-$((6*7))\n")
        await other.expect(f"n{number}-42\r\n", 10)
        took.append(time.perf_counter() - began)
        assert (await asyncio.to_thread(server.api, "GET", "/vms?limit=1")).status_code == 200
        peak = max(peak, server.memory_bytes())
    record_property("flood_rss_mib", round((peak - before) / MIB, 1))
    print(f"flood: +{(peak - before) / MIB:.1f} MiB, other console median {1000 * statistics.median(took):.0f} ms")
    assert peak - before < ROOM_BYTES
    slow.socket.transport.resume_reading()
    slow.keep = 64 * 1024
    slow.read_on()
    await slow.expect("0123456789", 20)
    await slow.expect("calm-42", 60)
    for client in (slow, other):
        await client.leave()


async def test_a_client_that_floods_a_guest_that_does_not_read_is_held_back(server: Server, qemu: Guest) -> None:
    client = await opened(server, qemu)
    await client.ask("echo ready-$((6*7))", "ready-42")
    await asyncio.to_thread(qemu.virsh, "suspend")
    before, sent = server.memory_bytes(), 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await client.type(b"x" * 65_536)
            sent += 65_536

    with pytest.raises((TimeoutError, ConnectionClosed)):  # held back, or closed with 1011 after some seconds
        await asyncio.wait_for(flood(), 8)
    assert sent < 16 * MIB, "nothing held it back"
    assert server.memory_bytes() - before < ROOM_BYTES
    client.cut()
    await asyncio.to_thread(qemu.virsh, "resume")
    client = await opened(server, qemu, take_over=True)  # what it took of that it reads now; then it is itself again
    await client.ask("echo well-$((6*7))", "well-42")
    await client.leave()


async def test_broken_connections_leave_no_thread_descriptor_or_stream(server: Server, lxc: Guest, qemu: Guest) -> None:
    async def broken(times: int) -> None:
        for _ in range(times):
            for guest in (lxc, qemu):
                client = await opened(server, guest, take_over=True)
                await client.ask("echo ready-$((6*7))", "ready-42")
                client.cut()

    async def calm() -> tuple[int, int]:
        lowest = (10**6, 10**6)

        def settled() -> bool:
            nonlocal lowest
            lowest = min(lowest[0], server.threads()), min(lowest[1], files(server))
            return time.monotonic() > end

        end = time.monotonic() + 3
        await asyncio.to_thread(wait_until, settled, 10)
        return lowest

    await broken(4)  # so that what is kept for good (a channel's connection, idle threads of pools) is there
    threads, descriptors = await calm()
    await broken(8)
    await eventually(lambda: server.threads() <= threads + 2, 20, f"threads are {threads} again")
    await eventually(lambda: files(server) <= descriptors + 2, 20, f"descriptors are {descriptors} again")
    for guest in (lxc, qemu):
        client = await opened(server, guest)  # nobody holds it any more
        await client.ask("echo free-$((6*7))", "free-42")
        await client.leave()


# -- the screen ----------------------------------------------------------------------------------------------------------
async def test_a_vnc_screen_speaks_rfb(server: Server, mortal: Guest) -> None:
    client = await opened(server, mortal, type="vnc")
    assert await client.expect("\n") == b"RFB 003.008\n"
    await client.type(b"RFB 003.008\n")
    await eventually(lambda: len(client.output) >= 2, 10, "security types")
    count = client.output[0]
    types = bytes(client.output[1 : 1 + count])
    assert types == b"\x01", "libvirt lets us in: no password is asked for"
    del client.output[: 1 + count]
    await client.type(b"\x01")
    await eventually(lambda: len(client.output) >= 4, 10, "the security result")
    assert bytes(client.output[:4]) == b"\0\0\0\0"
    del client.output[:4]
    await client.type(b"\x01")  # shared
    await eventually(lambda: len(client.output) >= 24, 10, "the server's init")
    width, height = int.from_bytes(client.output[:2]), int.from_bytes(client.output[2:4])
    name = bytes(client.output[24:]).decode(errors="replace")
    assert width >= 640
    assert height >= 350
    assert re.search(r"QEMU", name)
    del client.output[:]
    await client.type(bytes([3, 0, 0, 0, 0, 0]) + width.to_bytes(2) + height.to_bytes(2))  # FramebufferUpdateRequest
    await eventually(lambda: client.received > width * height, 20, "a whole picture")
    await client.leave()


async def test_two_may_look_at_one_screen_and_a_resize_frame_is_no_part_of_it(server: Server, mortal: Guest) -> None:
    first, second = await opened(server, mortal, type="vnc"), await opened(server, mortal, type="vnc")
    for client in (first, second):
        await client.expect("RFB 003.008\n")
    await first.resize(80, 24)
    assert (await first.code())[0] == 1008
    await asyncio.to_thread(mortal.destroy)
    assert (await second.code())[0] == 4404
