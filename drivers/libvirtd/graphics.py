"""A guest's screen as a stream of RFB bytes, and a picture of it as PNG."""

from __future__ import annotations

import contextlib
import ipaddress
import select
import socket
import struct
import threading
import time
import zlib

from drivers import reach
from drivers.errors import Timeout, Unreachable, Unsupported

CONNECT_SECONDS = 5.0
WRITE_SECONDS = 10.0


class SocketConsole:
    """A `drivers.base.Console` over a connected socket. Back-pressure is the socket's own: who does not read, stops it."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(0)
        self._socket = connection
        self._lock = threading.Lock()
        self._closed = False
        # `close` must wake a reader that waits in select; closing its descriptor under it would not.
        self._wake, self._waker = socket.socketpair()

    def read(self, size: int = 65536, *, timeout_seconds: float) -> bytes | None:
        """Bytes when there are any, `b""` at the end, None when nothing came in time."""
        if self._closed:
            return b""
        try:
            ready = _wait(timeout_seconds, readable=(self._socket, self._wake))
            if self._closed:
                return b""
            return self._socket.recv(size) if ready else None
        except BlockingIOError:
            return None
        except (OSError, ValueError):
            return b""

    def write(self, data: bytes) -> None:
        """Send all of `data`. Raises Timeout when the display takes nothing for some seconds, Unreachable when it is gone."""
        view = memoryview(data)
        deadline = time.monotonic() + WRITE_SECONDS
        while view:
            try:
                if not _wait(deadline - time.monotonic(), writable=(self._socket,)):
                    message = "The display does not take its input."
                    raise Timeout(message)
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                continue
            except (OSError, ValueError) as error:
                message = "The display closed the connection."
                raise Unreachable(message) from error
            deadline = time.monotonic() + WRITE_SECONDS

    def resize(self, *, columns: int, rows: int) -> None:
        """A screen has its own size: nothing happens."""

    def close(self) -> None:
        """End it. Never raises; may be called twice and from any thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        with contextlib.suppress(OSError):
            self._waker.send(b"x")
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        for each in (self._socket, self._waker):
            with contextlib.suppress(OSError):
                each.close()

    def __del__(self) -> None:
        for each in (self._wake, self._waker, self._socket):
            each.close()


def _wait(
    timeout_seconds: float, *, readable: tuple[socket.socket, ...] = (), writable: tuple[socket.socket, ...] = ()
) -> bool:
    # poll, not select: a server with many sockets has descriptors beyond select's 1024.
    poll = select.poll()
    for each in readable:
        poll.register(each, select.POLLIN)
    for each in writable:
        poll.register(each, select.POLLOUT)
    return bool(poll.poll(max(0.0, timeout_seconds) * 1000))


def from_descriptor(descriptor: int) -> SocketConsole:
    """Take over the socket that libvirt made for us, already let in to the display."""
    return SocketConsole(socket.socket(fileno=descriptor))


def connect(host: str | None, port: int) -> SocketConsole:
    """Connect to a display's address. Blocks for some seconds at most. Raises Unreachable.

    The address stands in the guest's definition, which others write: what no host can be (`drivers.reach.forbidden`) is not it.
    """
    try:
        budget = reach.Budget(time.monotonic() + CONNECT_SECONDS)
        connection, _ = reach.connect(reach.resolve(host or "127.0.0.1", port, budget), port, budget)
    except reach.Trouble as trouble:
        message = f"The guest's display cannot be reached. {trouble.evidence}"
        raise Unreachable(message) from trouble
    except OSError as error:
        message = f"The guest's display cannot be reached: {error.strerror or error}."
        raise Unreachable(message) from error
    return SocketConsole(connection)


def is_loopback(address: str | None) -> bool:
    """Whether only the host itself can reach this address."""
    if not address:
        return False
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


_PNG = b"\x89PNG\r\n\x1a\n"


def to_png(picture: bytes, mime: str) -> bytes:
    """The picture as PNG. Raises Unsupported for what is neither PNG nor a binary PPM (older QEMU gives that)."""
    if picture.startswith(_PNG):
        return picture
    if picture.startswith(b"P6"):
        width, height, depth, pixels = _read_ppm(picture)
        if depth == 255 and len(pixels) >= width * height * 3:
            return _write_png(width, height, pixels)
    message = f"The hypervisor gave the screen as {mime or 'something unknown'}, which browsers do not show."
    raise Unsupported(message, feature="screenshot")


def _read_ppm(picture: bytes) -> tuple[int, int, int, bytes]:
    numbers: list[int] = []
    at = 2
    while len(numbers) < 3 and at < len(picture):
        if picture[at : at + 1] == b"#":
            at = picture.index(b"\n", at) + 1 if b"\n" in picture[at:] else len(picture)
        elif picture[at : at + 1].isspace():
            at += 1
        else:
            end = at
            while end < len(picture) and picture[end : end + 1].isdigit():
                end += 1
            if end == at:
                break
            numbers.append(int(picture[at:end]))
            at = end
    if len(numbers) < 3:
        message = "The hypervisor gave a damaged picture of the screen."
        raise Unsupported(message, feature="screenshot")
    return numbers[0], numbers[1], numbers[2], picture[at + 1 :]


def _write_png(width: int, height: int, pixels: bytes) -> bytes:
    stride = width * 3
    rows = b"".join(b"\0" + pixels[row * stride : (row + 1) * stride] for row in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return _PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 6)) + chunk(b"IEND", b"")
