"""Calls that may hang for as long as somebody's disk does: one of a kind under way, and nobody waits longer than he means to.

libvirt lists pools by taking each pool's lock, and a refresh holds its pool's lock for as long as the storage takes (measured: a
pool on a frozen file system held up every listing on that host until it thawed). A caller who asked again and again would fill
the daemon's workers with calls that wait.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Patience:
    """Calls under way, by what they are about."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[Any]] = {}  # each key has its own type

    def waits(self, about: str) -> bool:
        """Whether a call about this has not come back yet."""
        with self._lock:
            return about in self._under_way

    def begin(self, about: str, call: Callable[[], T]) -> Future[T]:
        """The answer to come; the one that is under way already, where there is one."""
        with self._lock:
            future = self._under_way.get(about)
            if future is None:
                future = self._under_way[about] = Future()
                threading.Thread(target=self._work, args=(about, future, call), name="patience", daemon=True).start()
        return cast("Future[T]", future)

    def ask(self, about: str, call: Callable[[], T], *, seconds: float) -> T:
        """The answer, or TimeoutError: then the call goes on, and the next one who asks waits for it too."""
        return self.begin(about, call).result(seconds)

    def _work(self, about: str, future: Future[T], call: Callable[[], T]) -> None:
        try:
            answer = call()
        except BaseException as error:  # noqa: BLE001 - handed to those who wait
            self._forget(about)
            future.set_exception(error)
        else:
            self._forget(about)
            future.set_result(answer)

    def _forget(self, about: str) -> None:
        with self._lock:
            del self._under_way[about]
