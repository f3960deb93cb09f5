"""The socket that everything comes in by."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from django.conf import settings

from tests.services import free_port
from vmmanager import roles

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update={"bind": f"127.0.0.1:{free_port()}"}))
    with roles.listen() as found:
        yield found


def test_accepted_connections_send_at_once(listener: socket.socket) -> None:
    """With Nagle's algorithm an answer's body waits 40 ms for the acknowledgement of its head."""
    with socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
