"""Carries connections to loopback addresses of this machine into a lab's private network.

    python3 relay.py PID NETWORK LOOPBACK

Listens on LOOPBACK.K here and connects to NETWORK.K inside the network namespace of process PID, for K = 1 … 4.
One process has both: sockets keep the namespace they were made in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from ctypes import CDLL, get_errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HOSTS = range(1, 5)
# TLS, TCP with SASL, SSH, VNC and SPICE, NBD
PORTS = [16514, 16509, 22, *range(5900, 5932), *range(10809, 10817)]
CLONE_NEWNET = 0x40000000
OPEN_SECONDS = 130  # longer than the kernel's own patience, which the caller is to see


def listen(loopback: str) -> list[tuple[socket.socket, int, int]]:
    """A listening socket for every host and port, with both numbers."""
    sockets = []
    for host in HOSTS:
        for port in PORTS:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((f"{loopback}.{host}", port))
            except OSError as error:
                print(f"not relayed: {loopback}.{host}:{port}: {error}", flush=True)
                continue
            listener.listen(128)
            listener.setblocking(False)
            sockets.append((listener, host, port))
    return sockets


def enter_network(pid: str) -> None:
    libc = CDLL(None, use_errno=True)
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(get_errno(), "setns")


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 18):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()


def carry(host: str, port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.wait_for(asyncio.open_connection(host, port), OPEN_SECONDS)
        except (OSError, TimeoutError):
            writer.transport.abort()  # refused there: reset here
            return
        for end in (writer, far_writer):
            end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        writer.close()
        far_writer.close()

    return connected


async def main() -> None:
    pid, network, loopback = sys.argv[1:]
    sockets = listen(loopback)
    enter_network(pid)
    for listener, host, port in sockets:
        await asyncio.start_server(carry(f"{network}.{host}", port), sock=listener, limit=1 << 20)
    print("relay up", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
