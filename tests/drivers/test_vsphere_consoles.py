"""A vSphere server that lies: about where a console is, how much it wants to be answered, and when it has told all."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from drivers.errors import Timeout, Unreachable
from drivers.vsphere import events, webmks


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "::ffff:169.254.169.254", "127.0.0.1", "::1", "localhost", "0.0.0.0"]
)
def test_a_ticket_when_it_names_a_place_that_no_host_can_be_is_not_followed(host, monkeypatch):
    dialled: list[object] = []
    monkeypatch.setattr(webmks, "dial", lambda *place, **_: dialled.append(place))
    ticket = webmks.Ticket(host=host, port=443, path="/ticket/x", thumbprints=("00" * 20,))
    with pytest.raises(Unreachable):
        webmks.open_console(ticket, ssl.create_default_context(), home="192.0.2.7")
    assert not dialled


def asking(stream: socket.socket, pings: int) -> None:
    """A server that shakes hands, wants `pings` pongs and takes none of them."""
    protocol = ServerProtocol(subprotocols=["binary"])
    request = None
    while request is None:
        protocol.receive_data(stream.recv(65536))
        request = next(iter(protocol.events_received()), None)
    protocol.send_response(protocol.accept(request))
    stream.sendall(b"".join(protocol.data_to_send()))
    ping = Frame(Opcode.PING, b"x" * 125).serialize(mask=False)
    try:
        stream.sendall(ping * pings)
    except OSError:
        return


def test_a_console_when_pongs_pile_up_is_given_up(monkeypatch):
    monkeypatch.setattr(webmks, "UNSENT_BYTES", 256 * 1024)
    ours, theirs = socket.socketpair()
    threading.Thread(target=asking, args=(theirs, 40_000), daemon=True).start()
    console = webmks.WebSocketConsole(ours, "wss://192.0.2.7:443/ticket/x")
    try:
        console.open()
        assert console.read(timeout_seconds=10) == b""
    finally:
        console.close()
        theirs.close()


def test_news_when_they_never_begin_then_the_listener_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(events, "LISTEN_SECONDS", 0.05)
    never = threading.Event()
    tap = events.EventTap(connect=lambda: never.wait() and None, look=print, name_of=str, lost=print)
    try:
        with pytest.raises(Timeout):
            tap.add(print)
    finally:
        tap.close()
        never.set()
