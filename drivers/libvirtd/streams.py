"""A guest's serial console over a libvirt stream, with bounded buffers in both directions.

libvirt's streams have no flow control, in either direction (both measured on 9.0):

- What nobody reads piles up inside the client library: an LXC guest that runs `yes` grew the process by 8 MB/s while the
  stream's callback asked for nothing. So everything is taken at once, and beyond `MOST_UNREAD` the oldest is dropped, said so.
- What the guest does not read fills the daemon's queue of 5 messages; then it stops reading the *connection*, and kills it
  after 30 s. So each console has a connection of its own, and only the console's own thread ever waits in `send`.

Threads: libvirt's event thread (`_on_event`: never waits, never makes a round trip), one reader, one writer, and the pump.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import libvirt

from drivers.errors import ConsoleBusy, DriverError, Timeout, Unreachable
from drivers.libvirtd.errors import driver_error, is_end_of_terminal

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

MOST_UNREAD = 8 * 1024 * 1024
"""Bytes kept for a slow reader: two minutes of a busy serial line, a large file's worth of a container's."""
MOST_UNSENT = 64 * 1024
"""Bytes kept for a guest that does not read."""
COALESCE_SECONDS = 0.010
"""An emulated UART gives 75 to 180 bytes a time, 400 to 800 times a second (measured): readers get fewer, larger pieces."""
COALESCE_BYTES = 16 * 1024
WRITE_SECONDS = 10.0
"""How long `write` waits for a guest that does not take its input."""
EVICT_SECONDS = 2.0
_PIECE = 1024

_WANTED = libvirt.VIR_STREAM_EVENT_READABLE | libvirt.VIR_STREAM_EVENT_ERROR | libvirt.VIR_STREAM_EVENT_HANGUP
_ENDED = libvirt.VIR_STREAM_EVENT_ERROR | libvirt.VIR_STREAM_EVENT_HANGUP


class SerialConsole:
    """A `drivers.base.Console` over an open, non-blocking stream.

    Args:
        stream: Already connected to the console by `openConsole`.
        hang_up: Called once, from a thread that may wait, when the stream is given up: closes its connection.
    """

    def __init__(self, stream: libvirt.virStream, *, hang_up: Callable[[SerialConsole], None]) -> None:
        self._stream: libvirt.virStream | None = stream
        self._hang_up = hang_up
        self._changed = threading.Condition()
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._dropped = 0
        self._callback = True
        self._ended = False
        self._closed = False
        self._error: DriverError | None = None
        self._last_read = 0.0
        self._ending: threading.Thread | None = None
        self._bell = _Bell(self._on_event)
        stream.eventAddCallback(_WANTED, self._bell.ring, None)
        self._input = threading.Thread(target=self._pump, name="console-input", daemon=True)
        self._input.start()

    # -- the Console protocol -----------------------------------------------------------------------------------------
    def read(self, size: int = 65536, *, timeout_seconds: float) -> bytes | None:
        """Bytes when there are any, `b""` at the end, None when nothing came in time.

        The first bytes after silence come at once (an echo must not wait); in a burst each read gathers for 10 ms.

        Raises:
            ConsoleBusy: Somebody took the console over.
            Unreachable: The connection to the host broke.
        """
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            self._changed.wait_for(lambda: self._inbox or self._ended or self._closed, timeout=timeout_seconds)
            if self._inbox and not self._ended:
                self._gather(size, deadline)
            data = self._take(size)
            if data:
                self._last_read = time.monotonic()
                return data
            if not (self._ended or self._closed):
                return None
            error = self._error
        self._give_up()
        if error is not None:
            raise error
        return b""

    def write(self, data: bytes) -> None:
        """Hand all of `data` to the pump; waits while the guest does not take what went before.

        Raises:
            Timeout: The guest took nothing for some seconds.
            Unreachable: The console is closed, or the connection broke.
        """
        view = memoryview(data)
        while view:
            with self._changed:
                waiting = len(self._outbox)
                room = self._changed.wait_for(
                    lambda: len(self._outbox) < MOST_UNSENT or self._ended or self._closed, timeout=WRITE_SECONDS
                )
                if self._ended or self._closed:
                    raise self._error or Unreachable("The console is closed.")
                if not room and len(self._outbox) >= waiting:
                    message = "The guest does not take its input."
                    raise Timeout(message)
                taken = max(0, MOST_UNSENT - len(self._outbox))
                self._outbox += view[:taken]
                self._changed.notify_all()
            view = view[taken:]

    def resize(self, *, columns: int, rows: int) -> None:
        """A serial line has no size: nothing happens."""

    def close(self) -> None:
        """End it. Never raises, never waits for the host; may be called twice and from any thread."""
        with self._changed:
            self._closed = True
            self._error = None if not isinstance(self._error, ConsoleBusy) else self._error
            self._inbox.clear()
        self._give_up()

    def evict(self) -> None:
        """Somebody takes the console over: end it, tell its reader why, and wait until the host has let go of it."""
        with self._changed:
            self._error = ConsoleBusy("Somebody else took this console over.")
        self.close()
        self.settle()

    def lost(self, error: DriverError) -> None:
        """Its connection is gone: libvirt tells the connection, and never its streams (measured)."""
        self._end(error)

    def settle(self) -> None:
        """Wait a little until the host knows that this console is over."""
        self._give_up()
        if self._ending is not None:
            self._ending.join(EVICT_SECONDS)

    @property
    def over(self) -> bool:
        """Whether it has ended, by whichever side."""
        return self._ended or self._closed

    @property
    def unread_bytes(self) -> int:
        """What waits for the reader."""
        with self._changed:
            return len(self._inbox)

    # -- the reader's half --------------------------------------------------------------------------------------------
    def _gather(self, size: int, deadline: float) -> None:
        enough = min(size, COALESCE_BYTES)
        until = min(deadline, self._last_read + COALESCE_SECONDS)
        self._changed.wait_for(
            lambda: len(self._inbox) >= enough or self._ended or self._closed,
            timeout=max(0.0, until - time.monotonic()),
        )

    def _take(self, size: int) -> bytes:
        """The lock is held."""
        if self._dropped:
            note = f"\r\n[{self._dropped} bytes are missing here: they came faster than they were read]\r\n"
            self._dropped = 0
            return note.encode()
        data = bytes(self._inbox[:size])
        del self._inbox[:size]
        return data

    # -- the event thread's half --------------------------------------------------------------------------------------
    def _on_event(self, _stream: libvirt.virStream, events: int, _opaque: None) -> None:
        """An exception here would be lost, and the callback called for ever."""
        try:
            with self._changed:
                if not self._callback:
                    return
                self._drain()
                if events & _ENDED:
                    self._stop(None)
                self._changed.notify_all()
        except libvirt.libvirtError as error:
            self._end(None if is_end_of_terminal(error) else driver_error(error))
        except Exception:
            log.exception("console callback failed")
            self._end(DriverError("The console broke."))

    def _drain(self) -> None:
        """Take all that libvirt has; a non-blocking `recv` is local. The lock is held."""
        stream = self._stream
        while stream is not None:
            piece = stream.recv(262_144)
            if isinstance(piece, int):  # -2: nothing more for now
                break
            if not piece:
                self._stop(None)
                break
            self._inbox += piece
        surplus = len(self._inbox) - MOST_UNREAD
        if surplus > 0:
            del self._inbox[:surplus]
            self._dropped += surplus

    def _end(self, error: DriverError | None) -> None:
        with self._changed:
            self._stop(error)
            self._changed.notify_all()

    def _stop(self, error: DriverError | None) -> None:
        """The stream is over; only the local half, no round trip. The lock is held.

        A stream that was taken over keeps calling for ever and eats the event thread (measured), so its callback goes at
        once. `abort` waits for the host: on the event thread nobody could see the keepalive fail meanwhile, so it is left
        to `_give_up`.
        """
        self._ended = True
        if not self._closed:  # what fails after our own close (the pump's last send) is nobody's error
            self._error = self._error or error
        if self._callback:
            self._callback = False
            try:
                if self._stream is not None:
                    self._stream.eventRemoveCallback()
            except libvirt.libvirtError as gone:
                log.debug("stream callback was gone", extra={"libvirt_code": gone.get_error_code()})

    # -- the pump -----------------------------------------------------------------------------------------------------
    def _pump(self) -> None:
        """Thread `console-input`: the only one that may wait in `send`, at most the 30 s that the daemon takes to give up."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._outbox or self._ended or self._closed)
                stream = self._stream
                if self._ended or self._closed or stream is None:
                    return
                piece = bytes(self._outbox[:_PIECE])
            try:
                sent = stream.send(piece)
            except libvirt.libvirtError as error:
                self._end(None if is_end_of_terminal(error) else driver_error(error))
                return
            with self._changed:
                if sent > 0:
                    del self._outbox[:sent]
                    self._changed.notify_all()
                else:
                    self._changed.wait(COALESCE_SECONDS)

    # -- the end ------------------------------------------------------------------------------------------------------
    def _give_up(self) -> None:
        """Let the host know, on a thread that may wait for it."""
        with self._changed:
            self._stop(None)
            self._changed.notify_all()
            if self._ending is not None:
                return
            self._ending = threading.Thread(target=self._leave, name="console-end", daemon=True)
        self._ending.start()

    def _leave(self) -> None:
        stream = self._stream
        try:
            if stream is not None:
                stream.abort()
        except (libvirt.libvirtError, SystemError) as error:
            log.debug("stream was gone", extra={"error": str(error)})
        finally:
            self._input.join()  # nobody may be in `send` when the stream is freed; the daemon lets it go after 30 s
            with self._changed:
                self._stream = None
                self._bell.silence()
                if stream is not None:
                    _free(stream)
            self._hang_up(self)


class _Bell:
    """What libvirt is given to call. It is never given back (see `_free`), so it holds the console only while it lives."""

    __slots__ = ("_target",)

    def __init__(self, target: Callable[[libvirt.virStream, int, None], None]) -> None:
        self._target: Callable[[libvirt.virStream, int, None], None] | None = target

    def ring(self, stream: libvirt.virStream, events: int, opaque: None) -> None:
        """Runs on the event thread."""
        target = self._target
        if target is not None:
            target(stream, events, opaque)

    def silence(self) -> None:
        """Let go of the console."""
        self._target = None


def _free(stream: libvirt.virStream) -> None:
    """Free the stream, and with it the hold on its connection, now.

    libvirt 9.0 never releases what `eventAddCallback` was given (remoteStreamCallbackFree asks `!cb` where it means `ff`),
    and the binding gave it a dictionary with the stream in it: without this every console left an open connection behind
    (measured: two descriptors each).
    """
    stream.__del__()
    stream._conn = None  # noqa: SLF001
