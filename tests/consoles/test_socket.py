"""`/ws/console` over a real server, on in-memory guests: bytes both ways, every closing code, and what must not remain."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus

from accounts.actor import Actor
from accounts.choices import Role
from accounts.services import user_update
from consoles import consumers, relay
from consoles.consumers import FRAME_MOST_BYTES, SIDE_MOST, _size
from drivers.errors import DriverError, Unreachable
from events.models import Event
from hosts.services import host_delete
from live import tickets
from live.models import Ticket
from tests.consoles.client import ConsoleClient
from tests.consoles.conftest import Lab, descriptors, relay_threads
from tests.factories import UserFactory
from tests.live.conftest import LiveServer, make_session, thread
from tests.waiting import wait_until
from vms.inventory import vm_gone

if TYPE_CHECKING:
    from drivers.fake import FakeWorld

pytestmark = pytest.mark.django_db(transaction=True)


# -- bytes ---------------------------------------------------------------------------------------------------------------
async def test_what_is_typed_is_answered_and_the_ticket_is_never_selected(lab: Lab) -> None:
    client = await lab.shell()
    assert client.socket.subprotocol == "binary"
    await client.type("echo $((6*7))\r")
    await client.expect("\r\n42\r\n")


async def test_it_is_written_down_who_opened_which_console(lab: Lab) -> None:
    await lab.shell()
    event = await thread(lambda: Event.objects.get(type="audit.console_opened"))
    assert (event.object, event.actor) == (lab.vm.ref, lab.user.username)
    assert event.data["type"] == "serial"


async def test_keys_typed_before_the_console_stands_are_not_lost(lab: Lab) -> None:
    lab.world.hang("open_console")
    client = await lab.open()
    await client.resize(100, 30)
    await client.type("echo ear")
    await client.type("ly; size\r")
    await asyncio.to_thread(wait_until, lambda: lab.world.calls["open_console"] == 1)
    lab.world.release("open_console")
    await client.expect("early\r\n100 30\r\n")


@pytest.mark.parametrize("size", [(1, 1), (80, 24), (SIDE_MOST, SIDE_MOST)])
async def test_a_resize_reaches_the_terminal(lab: Lab, size: tuple[int, int]) -> None:
    client = await lab.shell()
    await client.resize(*size)
    await client.type("size\r")
    await client.expect(f"{size[0]} {size[1]}\r\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "{}",
        '{"resize": null}',
        '{"resize": [80]}',
        '{"resize": [80, 24, 1]}',
        '{"resize": [0, 24]}',
        '{"resize": [80, -1]}',
        '{"resize": [80.5, 24]}',
        '{"resize": [true, 24]}',
        '{"resize": ["80", "24"]}',
        '{"resize": [1e999, 24]}',
        f'{{"resize": [{SIDE_MOST + 1}, 24]}}',
        "[" * 1000,
        '{"resize": [' + "9" * 5000 + ", 24]}",
        "x" * 200_000,
    ],
)
async def test_a_text_frame_that_is_no_resize_ends_it(lab: Lab, text: str) -> None:
    client = await lab.shell()
    await client.type("")  # an empty binary frame is fine
    await client.socket.send(text)
    code, reason = await client.code()
    assert code == 1008
    assert "resize" in reason


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=1100),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["resize", "x"]), inner),
            max_leaves=8,
        ).map(json.dumps),
    )
)
def test_no_text_is_taken_for_a_size_that_is_none(text: str) -> None:
    size = _size(text)
    if size is not None:
        assert json.loads(text)["resize"] == list(size)
        assert all(1 <= side <= SIDE_MOST for side in size)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(columns=st.integers(-5, SIDE_MOST + 5), rows=st.integers(-5, SIDE_MOST + 5))
def test_every_size_within_the_bounds_is_one(columns: int, rows: int) -> None:
    good = 1 <= columns <= SIDE_MOST and 1 <= rows <= SIDE_MOST
    assert _size(json.dumps({"resize": [columns, rows]})) == ((columns, rows) if good else None)


async def test_a_binary_frame_too_large_ends_it(lab: Lab) -> None:
    client = await lab.shell()
    await client.type(b"x" * (FRAME_MOST_BYTES + 1))
    code, reason = await client.code()
    assert (code, str(FRAME_MOST_BYTES) in reason) == (1009, True)


async def test_a_long_paste_arrives_whole_and_in_order(lab: Lab) -> None:
    client = await lab.shell()
    lines = [f"echo {n:05d}-{'p' * 90}" for n in range(1000)]
    text = "\r".join(lines) + "\r"
    assert len(text) > 100_000
    for at in range(0, len(text), 256):
        await client.type(text[at : at + 256])
    output = await client.expect(f"\r\n{lines[-1].removeprefix('echo ')}\r\n")
    answers = [line for line in output.decode().split("\r\n") if line[:5].isdigit()]
    assert answers == [line.removeprefix("echo ") for line in lines]


# -- closing codes -------------------------------------------------------------------------------------------------------
async def test_4401_for_a_ticket_that_was_used(lab: Lab) -> None:
    secret = await thread(lab.ticket)
    await lab.shell(secret=secret)
    assert (await (await lab.open(secret=secret)).code())[0] == 4401


async def test_4401_for_a_ticket_that_is_too_old(lab: Lab) -> None:
    secret = await thread(lab.ticket)
    await thread(lambda: Ticket.objects.update(expires_at=dt.datetime.now(dt.UTC)))
    assert (await (await lab.open(secret=secret)).code())[0] == 4401


@pytest.mark.parametrize("secret", ["x" * 43, "short", "-" * 101, "x" * 43 + "!"])
async def test_4401_for_a_ticket_that_is_none(lab: Lab, secret: str) -> None:
    protocols = [f"ticket.{secret}", "binary"]
    client = await ConsoleClient.open(lab.server.address, protocols)
    assert (await client.code())[0] == 4401


async def test_4401_for_a_ticket_of_the_event_stream(lab: Lab) -> None:
    secret, _ = await thread(tickets.issue, Actor.of_user(lab.user), "events")
    assert (await (await lab.open(secret=secret)).code())[0] == 4401


async def test_4401_for_a_session_without_a_ticket(lab: Lab) -> None:
    key = await thread(make_session, lab.user)
    client = await ConsoleClient.open(
        lab.server.address,
        ["binary"],
        origin=f"http://{lab.server.address}",
        additional_headers={"Cookie": f"vmm_session={key}"},
    )
    code, reason = await client.code()
    assert (code, "ticket" in reason) == (4401, True)


async def test_a_foreign_origin_is_refused_before_the_ticket_is_used(lab: Lab) -> None:
    secret = await thread(lab.ticket)
    for origin in ("http://evil.example", "null", f"https://{lab.server.address}"):
        with pytest.raises(InvalidStatus) as refused:
            await lab.open(secret=secret, origin=origin)
        assert refused.value.response.status_code == 403
    await lab.shell(secret=secret, origin=f"http://{lab.server.address}")


async def test_nobody_comes_in_without_ticket_and_origin(lab: Lab) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await ConsoleClient.open(lab.server.address, ["binary"])
    assert refused.value.response.status_code == 403


def take_role(lab: Lab, **changes: Any) -> None:
    user_update(Actor.of_user(UserFactory(role=Role.ADMINISTRATOR)), lab.user.pk, **changes)


async def test_4403_when_the_role_is_taken_away_while_it_is_open(lab: Lab) -> None:
    client = await lab.shell()
    other = await lab.shell(vm=await thread(lab.guest, "db"), user=await thread(UserFactory, role=Role.OPERATOR))
    await thread(take_role, lab, role=Role.VIEWER)
    code, reason = await client.code()
    assert (code, "may not" in reason) == (4403, True)
    await other.type("echo $((6*7))\r")
    await other.expect("42\r\n")


async def test_4403_when_the_role_was_taken_away_after_the_ticket(lab: Lab) -> None:
    secret = await thread(lab.ticket)
    await thread(take_role, lab, role=Role.VIEWER)
    assert (await (await lab.open(secret=secret)).code())[0] == 4403


async def test_4401_when_the_account_is_switched_off_while_it_is_open(lab: Lab) -> None:
    client = await lab.shell()
    await thread(take_role, lab, active=False)
    assert (await client.code())[0] == 4401


async def test_4404_when_the_guest_stops(lab: Lab) -> None:
    client = await lab.shell()
    await asyncio.to_thread(lab.world.outside, "web", "force-off")
    assert (await client.code())[0] == 4404


async def test_4404_while_somebody_types(lab: Lab) -> None:
    """The writing side sees the end first, and knows less than the reading one."""
    client = await lab.shell()
    await client.type("poweroff\r" + "x" * 5000)
    assert (await client.code())[0] == 4404
    assert b"going down" in client.output


async def test_4404_for_a_guest_that_is_off(lab: Lab) -> None:
    secret = await thread(lab.ticket)
    await asyncio.to_thread(lab.world.outside, "web", "force-off")
    code, reason = await (await lab.open(secret=secret)).code()
    assert (code, "not running" in reason) == (4404, True)


async def test_4404_for_a_guest_that_vanished(lab: Lab) -> None:
    secret = await thread(lab.ticket)
    await asyncio.to_thread(lab.world.remove, "web")
    assert (await (await lab.open(secret=secret)).code())[0] == 4404


async def test_4404_at_once_when_the_guest_is_undefined_here_while_it_is_open(lab: Lab) -> None:
    client = await lab.shell()
    await thread(lambda: vm_gone(lab.hypervisor, lab.vm.uuid, seen_at=dt.datetime.now(dt.UTC)))
    assert (await client.code(5))[0] == 4404


async def test_4404_when_its_host_is_removed_while_it_is_open(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "GUEST_SECONDS", 0.1)
    client = await lab.shell()
    admin = await thread(UserFactory, role=Role.ADMINISTRATOR)
    await thread(host_delete, host=lab.hypervisor.host, by=Actor.of_user(admin))
    assert (await client.code(5))[0] == 4404


async def test_4404_for_a_console_that_the_hypervisor_has_not(lab: Lab) -> None:
    code, _ = await (await lab.open(kind="vnc")).code()
    assert code == 4404


async def test_4409_and_taking_over(lab: Lab) -> None:
    first = await lab.shell()
    code, reason = await (await lab.open()).code()
    assert (code, "hold" in reason) == (4409, True)
    second = await lab.shell(take_over=True)
    assert (await first.code())[0] == 4409
    await second.type("echo $((6*7))\r")
    await second.expect("42\r\n")


@pytest.mark.parametrize("error", [Unreachable("The host is gone."), DriverError("It broke.")])
async def test_1011_for_the_hypervisors_fault(lab: Lab, error: DriverError) -> None:
    lab.world.fail_next(error, verb="open_console")
    code, reason = await (await lab.open()).code()
    assert (code, reason) == (1011, error.detail)


async def test_1011_for_a_host_that_does_not_open_it_in_time(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "OPEN_SECONDS", 0.2)
    lab.world.hang("open_console")
    client = await lab.open()
    code, reason = await client.code()
    assert (code, "in time" in reason) == (1011, True)
    lab.world.release("open_console")
    await asyncio.to_thread(wait_until, lambda: not relay_threads(), 5, "its threads are gone")
    await lab.shell()  # what was opened late was closed again


async def test_a_reason_longer_than_a_frame_holds_is_cut(lab: Lab) -> None:
    lab.world.fail_next(DriverError("ü" * 500), verb="open_console")
    code, reason = await (await lab.open()).code()
    assert (code, len(reason.encode()) <= 123, reason.endswith("…")) == (1011, True, True)


async def test_1012_when_the_server_goes_down(transactional_db: None, place: FakeWorld) -> None:
    server = LiveServer().start()
    lab = await thread(Lab, server, place)
    client = await lab.shell()
    await asyncio.to_thread(server.stop)
    assert (await client.code())[0] == 1012


async def test_1013_beyond_the_consoles_of_one_user(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "CONSOLES_A_USER", 2)
    one = await lab.shell()
    await lab.shell(vm=await thread(lab.guest, "b"))
    assert (await (await lab.open(vm=await thread(lab.guest, "c"))).code())[0] == 1013
    await one.leave()
    await asyncio.to_thread(wait_until, lambda: consumers._open[lab.user.pk] == 1)
    await lab.shell()


async def test_forty_consoles_of_one_user_all_answer(lab: Lab) -> None:
    vms = await thread(lambda: [lab.guest(f"g{n}") for n in range(consumers.CONSOLES_A_USER)])
    clients = await asyncio.gather(*(lab.shell(vm=vm) for vm in vms))
    assert (await (await lab.open()).code())[0] == 1013
    await asyncio.gather(*(client.type("hostname; echo $((6*7))\r") for client in clients))
    for client, vm in zip(clients, vms, strict=True):
        await client.expect(f"{vm.name}\r\n42\r\n")
    for client in clients:
        client.cut()
    await asyncio.to_thread(wait_until, lambda: not relay_threads(), 10, "every thread is gone")
    assert lab.user.pk not in consumers._open


# -- what must not remain ------------------------------------------------------------------------------------------------
async def test_broken_connections_leave_nothing_behind(lab: Lab) -> None:
    vms = await thread(lambda: [lab.guest(f"g{n}") for n in range(12)])
    await lab.shell()
    before = descriptors()
    for _ in range(3):
        clients = await asyncio.gather(*(lab.shell(vm=vm) for vm in vms))
        for client in clients:
            client.cut()
        await asyncio.to_thread(wait_until, lambda: len(relay_threads()) <= 3, 10, "only the first one's threads")
    gc.collect()
    await asyncio.to_thread(wait_until, lambda: descriptors() <= before + 2, 5, "descriptors are given back")
    assert consumers._open == {lab.user.pk: 1}


async def test_who_leaves_frees_the_console_for_who_comes_next(lab: Lab) -> None:
    """As a browser does that goes to another page: the socket closes, and the new page opens the same console."""
    for _ in range(20):
        client = await lab.shell()
        await client.socket.close()


async def test_a_client_that_leaves_while_the_host_is_slow_is_noticed(lab: Lab) -> None:
    lab.world.hang("open_console")
    client = await lab.open()
    await client.resize(80, 24)
    await asyncio.to_thread(wait_until, lambda: lab.world.calls["open_console"] == 1)
    client.cut()
    await asyncio.to_thread(wait_until, lambda: lab.user.pk not in consumers._open, 5, "it is counted no more")
    lab.world.release("open_console")
    await asyncio.to_thread(wait_until, lambda: not relay_threads(), 5, "its thread is gone")
    await lab.shell()


async def test_a_client_that_floods_a_console_that_does_not_open_waits(lab: Lab) -> None:
    lab.world.hang("open_console")
    client = await lab.open(write_limit=1)
    piece, sent = b"x" * 65_536, 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await client.type(piece)
            sent += len(piece)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(flood(), 1.5)
    assert sent < 32 * 1024 * 1024, "nothing held it back"
    lab.world.release("open_console")


async def narrow(lab: Lab) -> socket.socket:
    """A connection whose receiving side takes little."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(("127.0.0.1", lab.server.port))
    return made


async def test_a_client_that_stops_reading_is_given_up_and_the_console_is_free(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "SEND_SECONDS", 0.5)
    monkeypatch.setattr(consumers, "CLOSE_SECONDS", 0.5)
    client = await lab.open(sock=await narrow(lab), idle=True, max_queue=1)
    await client.type("flood 1000000000\r")
    client.socket.transport.pause_reading()
    await asyncio.to_thread(wait_until, lambda: lab.user.pk in consumers._open, 5, "it is open")
    await asyncio.to_thread(wait_until, lambda: lab.user.pk not in consumers._open, 15, "it is given up")
    await asyncio.to_thread(wait_until, lambda: not relay_threads(), 5, "its threads are gone")
    await lab.shell()


async def test_a_flood_reaches_a_client_that_reads_whole(lab: Lab) -> None:
    client = await lab.shell()
    await client.type("flood 20000000\r")
    output = await client.expect("web:~# ", 60)
    assert output.count(b"x") == 20_000_000
