"""The serial line of an in-memory guest: a small shell that echoes, in the threads of those who read and write it.

It knows `echo` (with `$((6*7))`), `touch`, `hostname`, `size` (what `resize` said), `flood N` (N bytes at once, made as
they are read: nothing is held in memory), `poweroff` and `exit`; anything else is `not found`.
"""

from __future__ import annotations

import operator
import re
import threading
from collections import deque
from itertools import repeat
from typing import TYPE_CHECKING

from drivers.errors import DriverError, Timeout, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BUFFER_BYTES = 256 * 1024
_WRITE_SECONDS = 5.0
_LINE_BYTES = 4096
_SUM = re.compile(r"\$\(\((\d{1,9})([*+-])(\d{1,9})\)\)")
_SIGNS = {"*": operator.mul, "+": operator.add, "-": operator.sub}
_CTRL_C, _CTRL_D, _BACKSPACE = 0x03, 0x04, (0x08, 0x7F)


class FakeConsole:
    """One open serial line (`drivers.base.Console`)."""

    def __init__(self, *, hostname: str, power_off: Callable[[], None]) -> None:
        self._hostname = hostname
        self._power_off = power_off
        self._changed = threading.Condition()
        self._ready: deque[bytes] = deque()
        self._ready_bytes = 0
        self._flood: Iterator[bytes] | None = None
        self._after_flood = b""
        self._line = bytearray()
        self._size = (80, 24)
        self._why: DriverError | None = None
        self.closed = False
        with self._changed:
            self._put(self._welcome())

    def read(self, size: int = 65536, *, timeout_seconds: float) -> bytes | None:
        """Bytes when there are any, `b""` at the end, None when nothing came in time.

        Raises ConsoleBusy once somebody else has taken it over.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._pull(), timeout_seconds)
            if not self._ready:
                if self._why is not None:
                    raise type(self._why)(self._why.detail)
                return b"" if self.closed else None
            data = bytearray()
            while self._ready and len(data) < size:
                chunk = self._ready.popleft()
                keep = size - len(data)
                data += chunk[:keep]
                if len(chunk) > keep:
                    self._ready.appendleft(chunk[keep:])
            self._ready_bytes -= len(data)
            self._changed.notify_all()
            return bytes(data)

    def write(self, data: bytes) -> None:
        """Type `data`. Raises Timeout when what it echoes is not read for some seconds, Unreachable when it has ended."""
        off = False
        with self._changed:
            for byte in data:
                if self.closed:
                    raise Unreachable("This console has ended.")
                if not self._changed.wait_for(lambda: self.closed or self._ready_bytes < _BUFFER_BYTES, _WRITE_SECONDS):
                    raise Timeout("The console's output is not read: the guest takes no more input.")
                off = self._type(byte) or off
        if off:
            self._power_off()

    def resize(self, *, columns: int, rows: int) -> None:
        """Remembered; `size` prints it."""
        with self._changed:
            self._size = (columns, rows)

    def reboot(self) -> None:
        """The guest starts anew; the line stays."""
        with self._changed:
            self._flood, self._line = None, bytearray()
            self._put(self._welcome())

    def close(self, why: DriverError | None = None) -> None:
        """End it; what was not read yet can still be read, and then `why` is raised where there is one."""
        with self._changed:
            if not self.closed:
                self._why = why
            self.closed = True
            self._flood = None
            self._changed.notify_all()

    def _type(self, byte: int) -> bool:
        """One key. True when the guest is to power off."""
        if byte in (0x0D, 0x0A):
            line, self._line = bytes(self._line), bytearray()
            self._put(b"\r\n")
            return self._script(line.decode(errors="replace"))
        if byte == _CTRL_D and not self._line:
            return self._script("exit")
        if byte == _CTRL_C:
            self._flood, self._line = None, bytearray()
            self._put(b"^C\r\n" + self._prompt())
        elif byte in _BACKSPACE:
            if self._line:
                self._line.pop()
                self._put(b"\b \b")
        elif byte != _CTRL_D and len(self._line) < _LINE_BYTES:
            self._line.append(byte)
            self._put(bytes([byte]))
        return False

    def _script(self, line: str) -> bool:
        """Run a line of commands. True when the guest is to power off."""
        for command in line.split(";"):
            words = _SUM.sub(lambda sum_: str(_SIGNS[sum_[2]](int(sum_[1]), int(sum_[3]))), command).split()
            if words == ["poweroff"]:
                self._put(b"The system is going down.\r\n")
                return True
            self._run(words)
        if self._flood is None:
            self._put(self._prompt())
        return False

    def _run(self, words: list[str]) -> None:
        match words:
            case [] | ["touch", *_]:
                return
            case ["echo", *rest]:
                answer = " ".join(rest)
            case ["hostname"]:
                answer = self._hostname
            case ["size"]:
                answer = f"{self._size[0]} {self._size[1]}"
            case ["flood", count] if count.isascii() and count.isdigit():
                self._flood, self._after_flood = _flood(int(count)), b"\r\n" + self._prompt()
                self._changed.notify_all()
                return
            case ["exit"]:
                answer = f"logout\r\n\r\nWelcome to {self._hostname}"
            case [name, *_]:
                answer = f"sh: {name}: not found"
        self._put(f"{answer}\r\n".encode())

    def _welcome(self) -> bytes:
        return f"\r\nWelcome to {self._hostname}\r\n".encode() + self._prompt()

    def _prompt(self) -> bytes:
        return f"{self._hostname}:~# ".encode()

    def _put(self, data: bytes) -> None:
        self._ready.append(data)
        self._ready_bytes += len(data)
        self._changed.notify_all()

    def _pull(self) -> bool:
        """Whether there is something to read; takes the flood's next chunk when nothing else waits."""
        if not self._ready and self._flood is not None:
            chunk = next(self._flood, None)
            if chunk is None:
                self._flood = None
                chunk = self._after_flood
            self._put(chunk)
        return bool(self._ready)


def _flood(count: int) -> Iterator[bytes]:
    """`count` bytes in chunks."""
    full, rest = divmod(count, 4096)
    yield from repeat(b"x" * 4096, full)
    if rest:
        yield b"x" * rest
