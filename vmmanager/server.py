"""The HTTP and WebSocket server, with the one thing it lacks: event streams end when it begins to go down.

uvicorn closes WebSockets by itself (1012), but waits for every HTTP answer to be complete, which an endless stream never is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import uvicorn

from live import reader

if TYPE_CHECKING:
    import socket


class Server(uvicorn.Server):
    """uvicorn's server. Everything that serves (`serve`, `web`, tests) uses this one."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Sockets get 1012 and streams end; then the rest of uvicorn's way down."""
        reader.drain()
        await super().shutdown(sockets=sockets)
