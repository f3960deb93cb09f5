"""A session in a child process: for hypervisors whose client library may crash, spin or hang the process that it lives in.

libvirt's client-side drivers do (measured: SIGSEGV in the esx driver after an odd reply of the host). One child serves one endpoint,
for all sessions on it. It is started anew, never forked; it is given the endpoint over the pipe, so that no secret stands on a command
line or in an environment; it has nothing of Django, and of our environment only what `KEPT` names.

A child that dies is one `Unreachable` for each call under way, and the sessions' `on_close`. A child that does not answer in time is a
`Timeout`, and killed. The next open starts another.
"""

# ruff: noqa: D102 - what the verbs do stands in `drivers.base`
from __future__ import annotations

import logging
import os
import queue
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from drivers import frames
from drivers.base import Session
from drivers.errors import DriverError, Timeout, Unreachable
from drivers.types import (
    Feature,
    Finding,
    GuestEvent,
    GuestInfo,
    GuestRef,
    GuestState,
    GuestStats,
    HoldingEvent,
    HostInfo,
    HostStats,
    Support,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from drivers.types import Endpoint, News

log = logging.getLogger(__name__)

T = TypeVar("T")

KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME")
OPEN_SECONDS = 30.0
READ_SECONDS = 30.0
ACT_SECONDS = 120.0
"""For verbs that change a guest: starting one may take a product's own tool a minute."""
SEND_SECONDS = 5.0
CLOSE_SECONDS = 3.0
_ROOT = Path(__file__).resolve().parent.parent

_children: dict[tuple[str, str], Child] = {}
_lock = threading.Lock()


def open_session(path: str, endpoint: Endpoint) -> Session:
    """Open the endpoint in its child process, which is started if there is none.

    Args:
        path: The driver as `module:class`; the child calls its `open_here`.
        endpoint: Where.

    Raises:
        DriverError: What the driver's own open raised there. Timeout: nothing came within `OPEN_SECONDS`. Unreachable: the child died.
    """
    key = path, endpoint.key
    with _lock:
        child = _children.get(key)
        if child is None or not child.alive:
            child = _children[key] = Child(path, endpoint)
        child.users += 1
    try:
        capabilities = child.opened()
    except BaseException:
        leave(child)
        raise
    return IsolatedSession(endpoint, child, capabilities)


def leave(child: Child) -> None:
    """One user less; the last one ends the child. May block for `CLOSE_SECONDS`."""
    with _lock:
        child.users -= 1
        if child.users > 0:
            return
        for key in [key for key, one in _children.items() if one is child]:
            del _children[key]
    child.hang_up()


class Child:
    """One child process and the pipe to it. Any thread may call."""

    def __init__(self, path: str, endpoint: Endpoint) -> None:
        self.users = 0
        ours, theirs = socket.socketpair()
        # The pipe has room for many calls; a child that reads none for so long is stopped.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(SEND_SECONDS), 0))
        # A child that is killed tidies nothing up: keys that it wrote for its library's eyes go with its directory.
        self._directory = tempfile.mkdtemp(prefix="vmm-child-")
        try:
            with theirs:
                self._process = _spawn(theirs, self._directory)
        except OSError as error:
            ours.close()
            shutil.rmtree(self._directory, ignore_errors=True)
            raise Unreachable(f"No process can be started for the hypervisor's library: {error.strerror}.") from error
        self._stream = ours
        self._sending = threading.Lock()
        self._life = threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[object]] = {}
        self._number = 0
        self._over: DriverError | None = None
        self._let_go = False
        self._sinks: tuple[Callable[[News], None], ...] = ()
        self._subscribing = threading.Lock()
        self._on_close: list[Callable[[str], None]] = []
        self._answered = threading.Event()
        self._capabilities: Mapping[Feature, Support] = {}
        self._reader = threading.Thread(target=self._read, name=f"isolated-{self._process.pid}", daemon=True)
        self._reader.start()
        self._send(["open", path, endpoint])

    @property
    def pid(self) -> int:
        """The child's process number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the pipe stands. No round trip."""
        return self._over is None

    def opened(self) -> Mapping[Feature, Support]:
        """Wait until the session stands in the child; what it can do."""
        if not self._answered.wait(OPEN_SECONDS):
            self._end(Timeout(f"The hypervisor did not answer within {OPEN_SECONDS:.0f} s."), "it did not answer")
        if self._over is not None:
            raise _fresh(self._over)
        return self._capabilities

    def call(self, verb: str, *positional: object, seconds: float, **named: object) -> object:
        """Call a verb of the session in the child and wait for its answer.

        Raises:
            DriverError: What the verb raised. Unreachable: the child is dead. Timeout: it did not answer, and is dead now.
        """
        answers: queue.SimpleQueue[object] = queue.SimpleQueue()
        with self._life:
            if self._over is not None:
                raise _fresh(self._over)
            self._number += 1
            number = self._number
            self._waiting[number] = answers
        try:
            self._send(["call", number, verb, list(positional), named])
            answer = answers.get(timeout=seconds)
        except queue.Empty:
            error = Timeout(f"The hypervisor's library did not answer within {seconds:.0f} s; its process was ended.")
            self._end(Unreachable(error.detail), "its process did not answer and was ended")
            raise error from None
        finally:
            with self._life:
                self._waiting.pop(number, None)
        if isinstance(answer, DriverError):
            raise _fresh(answer)
        return answer

    def subscribe(self, sink: Callable[[News], None]) -> None:
        """News of the session to this sink too."""
        with self._subscribing:
            if not self._sinks:
                self.call("subscribe", seconds=READ_SECONDS)
            self._sinks = (*self._sinks, sink)

    def unsubscribe(self, sink: Callable[[News], None]) -> None:
        """No more news to this sink; where nobody listens the child goes on telling."""
        with self._subscribing:
            self._sinks = tuple(one for one in self._sinks if one is not sink)

    def on_close(self, callback: Callable[[str], None]) -> None:
        """Call once when the child is lost; at once if it is."""
        with self._life:
            if self._over is None:
                self._on_close.append(callback)
                return
            reason = self._over.detail
        callback(reason)

    def forget(self, callbacks: Sequence[Callable[[str], None]]) -> None:
        """These are not called any more."""
        with self._life:
            self._on_close = [one for one in self._on_close if one not in callbacks]

    def hang_up(self) -> None:
        """Let the child go: it closes its session and ends, or is killed. Never raises."""
        with self._life:
            self._on_close = []
            self._let_go = True
            gone = self._over is not None
        if not gone:
            try:
                self._stream.shutdown(socket.SHUT_WR)
            except OSError:
                log.debug("the pipe was down already")
            self._await_reader()
        self._end(Unreachable("The connection is closed."), "it was closed on this side")
        self._await_reader()

    def _await_reader(self) -> None:
        if threading.current_thread() is not self._reader:
            self._reader.join(CLOSE_SECONDS)

    # -- the pipe --------------------------------------------------------------------------------------------------------
    def _send(self, message: object) -> None:
        try:
            with self._sending:
                frames.send(self._stream, message)
        except BlockingIOError as error:
            self._end(Unreachable("The hypervisor's library hangs; its process was ended."), "its process hung")
            raise Timeout("The hypervisor's library hangs; its process was ended.") from error
        except OSError:
            log.debug("the pipe is down")  # the reader tells all who wait, and why

    def _read(self) -> None:
        """The reader's thread: to the end of the child."""
        reason = ""
        try:
            while True:
                self._take(frames.receive(self._stream))
        except (EOFError, OSError):
            pass
        except ValueError as error:
            reason = f"its process spoke nonsense: {error}"
        self._bury(reason)

    def _take(self, message: object) -> None:
        match message:
            case ["answer", int(number), answer]:
                self._hand(number, answer)
            case ["raised", int(number), DriverError() as error]:
                self._hand(number, error)
            case ["news", (GuestEvent() | HoldingEvent()) as event]:
                for sink in self._sinks:
                    sink(event)
            case ["opened", dict(capabilities)]:
                self._capabilities = capabilities
                self._answered.set()
            case ["failed", DriverError() as error]:
                self._end(error, error.detail)
            case ["closed", str(reason)]:
                self._end(Unreachable(f"The connection was lost: {reason}."), reason)
            case _:
                raise ValueError("no message of ours")

    def _hand(self, number: int, answer: object) -> None:
        with self._life:
            waiting = self._waiting.get(number)
        if waiting is not None:
            waiting.put(answer)

    def _end(self, error: DriverError, reason: str) -> None:
        """The child is of no use any more: kill it, tell all who wait. The first one to say why is right."""
        with self._life:
            if self._over is not None:
                return
            self._over = error
            waiting, self._waiting = self._waiting, {}
            callbacks, self._on_close = self._on_close, []
        self._process.kill()
        for answers in waiting.values():
            answers.put(error)
        self._answered.set()
        for callback in callbacks:
            try:
                callback(reason)
            except Exception:
                log.exception("close callback failed")

    def _bury(self, reason: str) -> None:
        """The pipe has ended: the child is dead or about to be. Nothing of it stays: no zombie, no descriptor."""
        if reason:
            self._process.kill()
        try:
            code = self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)
        if not reason:
            reason = f"the process of its library {_how(code)}"
            if self._over is None and not self._let_go:
                log.warning("a child process ended by itself", extra={"how": _how(code), "pid": self.pid})
        self._end(Unreachable(f"The connection was lost: {reason}."), reason)
        with self._sending:
            self._stream.close()


def _spawn(pipe: socket.socket, directory: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own interpreter, our own module
        [sys.executable, "-m", "drivers.inside", str(pipe.fileno())],
        cwd=_ROOT,
        env={name: value for name in KEPT if (value := os.environ.get(name)) is not None} | {"TMPDIR": directory},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(pipe.fileno(),),
        start_new_session=True,
    )


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _fresh(error: DriverError) -> DriverError:
    """One exception may be raised in several threads; a traceback belongs to one."""
    return type(error)(error.detail, **error.context)


class IsolatedSession(Session):
    """A session whose every verb is called in the child. It has no consoles: a stream of bytes would need a pipe of its own."""

    def __init__(self, endpoint: Endpoint, child: Child, capabilities: Mapping[Feature, Support]) -> None:
        self.endpoint = endpoint
        self._child = child
        self._support = capabilities
        self._closing = threading.Lock()
        self._closed = False
        self._sinks: list[Callable[[News], None]] = []
        self._callbacks: list[Callable[[str], None]] = []

    @property
    def pid(self) -> int:
        """The child's process number."""
        return self._child.pid

    # -- facts
    def capabilities(self) -> Mapping[Feature, Support]:
        return self._support

    def host_info(self) -> HostInfo:
        return self._ask(HostInfo, "host_info")

    def host_stats(self) -> HostStats:
        return self._ask(HostStats, "host_stats")

    def guests(self) -> Sequence[GuestInfo]:
        return self._several(GuestInfo, "guests")

    def guests_by_ref(self, refs: Sequence[GuestRef]) -> Sequence[GuestInfo]:
        return self._several(GuestInfo, "guests_by_ref", list(refs))

    def guest(self, ref: GuestRef) -> GuestInfo:
        return self._ask(GuestInfo, "guest", ref)

    def guest_or_none(self, ref: GuestRef) -> GuestInfo | None:
        answer = self._call("guest_or_none", ref)
        return None if answer is None else _checked(GuestInfo, answer)

    def guest_state(self, ref: GuestRef) -> tuple[GuestState, str]:
        match self._call("guest_state", ref):
            case (GuestState() as state, str(reason)):
                return state, reason
        raise DriverError("The process of the hypervisor's library answered something unreadable.")

    def definition(self, ref: GuestRef) -> str:
        return self._ask(str, "definition", ref)

    def define(self, xml: str) -> GuestInfo:
        return _checked(GuestInfo, self._act("define", xml))

    def check_definition(self, xml: str, *, ref: GuestRef | None = None) -> Sequence[Finding]:
        answer = self._act("check_definition", xml, ref=ref)
        return [_checked(Finding, item) for item in (answer if isinstance(answer, list | tuple) else [None])]

    def holds_change(self, ref: GuestRef, *, before: str, wished: str) -> bool:
        return _checked(bool, self._act("holds_change", ref, before=before, wished=wished))

    def rename(self, ref: GuestRef, name: str) -> None:
        self._act("rename", ref, name)

    def stats(self) -> Sequence[GuestStats]:
        return self._several(GuestStats, "stats")

    def screenshot(self, ref: GuestRef) -> bytes:
        return self._ask(bytes, "screenshot", ref)

    def set_metadata(self, ref: GuestRef, facts: Mapping[str, str], *, title: str, description: str) -> None:
        self._act("set_metadata", ref, dict(facts), title=title, description=description)

    # -- power
    def start(self, ref: GuestRef) -> None:
        self._act("start", ref)

    def shutdown(self, ref: GuestRef) -> None:
        self._act("shutdown", ref)

    def reboot(self, ref: GuestRef) -> None:
        self._act("reboot", ref)

    def reset(self, ref: GuestRef) -> None:
        self._act("reset", ref)

    def force_off(self, ref: GuestRef) -> None:
        self._act("force_off", ref)

    def suspend(self, ref: GuestRef) -> None:
        self._act("suspend", ref)

    def resume(self, ref: GuestRef) -> None:
        self._act("resume", ref)

    def managed_save(self, ref: GuestRef) -> None:
        self._act("managed_save", ref)

    def discard_managed_save(self, ref: GuestRef) -> None:
        self._act("discard_managed_save", ref)

    def set_autostart(self, ref: GuestRef, *, enabled: bool) -> None:
        self._act("set_autostart", ref, enabled=enabled)

    def undefine(self, ref: GuestRef) -> None:
        self._act("undefine", ref)

    # -- news and life
    def subscribe(self, sink: Callable[[News], None]) -> None:
        self._usable().subscribe(sink)
        self._sinks.append(sink)

    def alive(self) -> bool:
        return not self._closed and self._child.alive

    def on_close(self, callback: Callable[[str], None]) -> None:
        self._callbacks.append(callback)
        self._child.on_close(callback)

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._child.forget(self._callbacks)
        for sink in self._sinks:
            self._child.unsubscribe(sink)
        leave(self._child)

    # -- calling
    def _usable(self) -> Child:
        if self._closed:
            raise Unreachable("The connection is closed.")
        return self._child

    def _call(self, verb: str, *args: object) -> object:
        return self._usable().call(verb, *args, seconds=READ_SECONDS)

    def _act(self, verb: str, *args: object, **named: object) -> object:
        return self._usable().call(verb, *args, seconds=ACT_SECONDS, **named)

    def _ask(self, kind: type[T], verb: str, *args: object) -> T:
        return _checked(kind, self._call(verb, *args))

    def _several(self, kind: type[T], verb: str, *args: object) -> list[T]:
        answer = self._call(verb, *args)
        if not isinstance(answer, list | tuple):
            answer = [None]
        return [_checked(kind, item) for item in answer]


def _checked(kind: type[T], answer: Any) -> T:
    if not isinstance(answer, kind):
        raise DriverError("The process of the hypervisor's library answered something unreadable.")
    return answer
