"""A shell in a container, over the stream of an `exec` with a terminal."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from drivers.dockerd import errors
from drivers.errors import DriverError, Timeout, Unreachable, Unsupported

if TYPE_CHECKING:
    from drivers.dockerd.engine import Engine

SHELLS = ("/bin/bash", "/bin/sh")
NO_SHELL = "This container has no shell (neither /bin/bash nor /bin/sh), so there is nothing to open in it."
START_SECONDS = 10.0
WRITE_SECONDS = 10.0
_GREETING = b"vmm-shell "
_GREETING_MAX = 4096
_START = 'echo "vmm-shell $$"; exec "$0"'


class ShellConsole:
    """A `drivers.base.Console`. Each has a shell of its own, so nobody holds it and nobody takes it over.

    What nobody reads stays in the engine: TCP's flow control goes all the way to the shell.
    """

    def __init__(self, engine: Engine, container: str) -> None:
        shell = next((path for path in SHELLS if engine.has_file(container, path)), None)
        if shell is None:
            raise Unsupported(NO_SHELL)
        self._engine = engine
        self._container = container
        self._shell = shell
        self._ended = False
        self._closed = False
        self._lock = threading.Lock()
        made = engine.document(
            lambda client: client.exec_create(
                container,
                [shell, "-c", _START, shell],
                stdin=True,
                tty=True,
                environment={"TERM": "xterm-256color"},
            )
        )
        self._exec = made.text("Id")
        if not (self._exec.isascii() and self._exec.isalnum() and len(self._exec) <= 128):
            raise errors.unreadable("an exec whose identity is none")
        self._line, self._unread = engine.attach(self._exec, seconds=START_SECONDS)
        try:
            with errors.translate():
                self._process = self._greet(time.monotonic() + START_SECONDS)
        except BaseException:
            self._line.shut()
            self._line.close()
            raise

    def read(self, size: int = 65536, *, timeout_seconds: float) -> bytes | None:
        """Bytes when there are any, `b""` when the shell is over, None when nothing came in time.

        Raises:
            Unreachable: The connection to the engine broke.
        """
        if self._unread:
            data, self._unread = self._unread[:size], self._unread[size:]
            return data
        if self._closed or self._ended:
            return b""
        try:
            data = self._line.recv(size, time.monotonic() + timeout_seconds)
        except TimeoutError:
            return None
        except OSError as error:
            self._ended = True
            if self._closed:
                return b""
            raise Unreachable("The connection to the console broke.") from error
        self._ended = self._ended or not data
        return data

    def write(self, data: bytes) -> None:
        """Send all of `data`. Raises Timeout when the shell takes nothing for some seconds, Unreachable when it is over."""
        if self._closed or self._ended:
            raise Unreachable("The console is closed.")
        try:
            self._line.send_all(data, time.monotonic() + WRITE_SECONDS)
        except TimeoutError as error:
            raise Timeout("The container does not take its input.") from error
        except OSError as error:
            raise Unreachable("The console is closed.") from error

    def resize(self, *, columns: int, rows: int) -> None:
        """Tell the shell's terminal its size; a shell that has just ended has none."""
        if not self._closed and not self._ended:
            with contextlib.suppress(DriverError):
                self._engine.do(lambda client: client.exec_resize(self._exec, height=rows, width=columns))

    def close(self) -> None:
        """End it, and the shell with it. Never raises, may be called twice and from any thread; wakes a blocked `read`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._unread = b""
        self._line.shut()
        self._line.close()
        if not self._ended:
            threading.Thread(target=self._hang_up, name="console-end", daemon=True).start()

    def _greet(self, deadline: float) -> int:
        """The shell's process number, which it says first: so it has started, and can be hung up on later.

        A line of the container's own start-up (a prompt, colours) may stand before it.
        """
        data = self._unread
        while True:
            before, found, after = data.partition(_GREETING)
            if found and b"\n" in after:
                number, _, self._unread = after.partition(b"\n")
                if number.strip().isdigit() and len(number) < 12:
                    return int(number)
                raise errors.unreadable("a shell without a process number")
            piece = self._line.recv(4096, deadline)
            data += piece
            if not piece or len(data) > _GREETING_MAX:
                self._ended = True
                said = "".join(sign if sign.isprintable() else " " for sign in before.decode("utf-8", "replace"))
                why = " ".join(said.split())[:300]
                raise Unsupported(f"{self._shell} does not start in this container{f': {why}' if why else '.'}")

    def _hang_up(self) -> None:
        """As a terminal does that is switched off: an engine leaves the shell running when its connection goes (measured)."""
        with contextlib.suppress(DriverError):
            made = self._engine.document(
                lambda client: client.exec_create(self._container, [self._shell, "-c", f"kill -HUP {self._process}"])
            )
            self._engine.do(lambda client: client.exec_start(made.text("Id"), detach=True))
