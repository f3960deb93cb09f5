"""A driver to be held in a child process by tests: the hypervisor in memory, with guests that do to the process what a library may."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.errors import AuthFailed
from drivers.fake import FakeDriver, world
from drivers.fake.session import FakeSession
from drivers.types import Endpoint, GuestState

if TYPE_CHECKING:
    from drivers.base import Session
    from drivers.types import GuestRef

PATH = "tests.drivers.isolated_sample:SampleDriver"


def endpoint(name: str, credentials: object = None) -> Endpoint:
    return Endpoint(driver="fake", uri=f"fake:///{name}", credentials=credentials)


class SampleSession(FakeSession):
    """What `start` does depends on the guest's name."""

    def start(self, ref: GuestRef) -> None:
        match ref.name:
            case (
                "segv"
            ):  # as a fault does, at this thread: sent to the process, another may take it while this one answers
                signal.pthread_kill(threading.get_ident(), signal.SIGSEGV)
            case "freeze":
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
            case "hang":
                threading.Event().wait()
            case "garble":
                os.write(_pipe(), b"\xff\xff\xff\xff" * 4)
            case "mean":
                os.write(_pipe(), b"\0\0\0\x02[]")
            case "foreign":
                raise ZeroDivisionError
            case "secrets":
                raise AuthFailed(repr([*_cmdline(), *os.environ.items()]))
            case "core":
                raise AuthFailed(f"{resource.getrlimit(resource.RLIMIT_CORE)[0]} bytes of core")
            case _:
                super().start(ref)


def _pipe() -> int:
    return int(_cmdline()[-1])


def _cmdline() -> list[str]:
    return Path("/proc/self/cmdline").read_text().rstrip("\0").split("\0")


class SampleDriver(FakeDriver):
    """Opens worlds that are filled with such guests; `fake:///refused` and `fake:///never` say what they do."""

    def open_here(self, endpoint: Endpoint) -> Session:
        name = endpoint.uri.rpartition("/")[2]
        if name == "refused":
            raise AuthFailed("The password is wrong.", attempts=3)
        if name == "keyed":
            Path(tempfile.gettempdir(), "key").write_text("geheim")
        if name in ("never", "keyed"):
            threading.Event().wait()
        place = world(name)
        for guest in ("web", "segv", "freeze", "hang", "garble", "mean", "foreign", "secrets", "core"):
            place.add(guest, state=GuestState.SHUTOFF)
        session = SampleSession(endpoint, place)
        place.attach(session)
        return session
