"""Where a guest's screen is said to be, and where we go."""

from __future__ import annotations

import socket

import pytest

from drivers.errors import Unreachable
from drivers.libvirtd import graphics
from tests.drivers.servers import bound


@pytest.mark.parametrize("host", ["169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254", "224.0.0.1"])
def test_a_screen_when_it_is_said_to_be_where_no_host_can_be_then_nobody_goes_there(host, monkeypatch):
    dialled: list[object] = []
    monkeypatch.setattr(socket, "create_connection", lambda *place, **_: dialled.append(place))
    with pytest.raises(Unreachable, match="display"):
        graphics.connect(host, 80)
    assert not dialled


def test_a_screen_when_it_is_somewhere_else_then_it_is_spoken_to():
    with bound() as server:
        server.listen()
        console = graphics.connect("127.0.0.1", server.getsockname()[1])
        there, _ = server.accept()
        with there:
            there.sendall(b"RFB 003.008\n")
            assert console.read(timeout_seconds=5) == b"RFB 003.008\n"
        console.close()
