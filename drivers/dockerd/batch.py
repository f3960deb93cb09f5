"""The same question to many containers, some at a time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_K = TypeVar("_K")
_V = TypeVar("_V")


def in_parallel(question: Callable[[_K], _V], about: Sequence[_K], *, at_once: int) -> dict[_K, _V]:
    """`question` of each, on at most `at_once` threads; the answers in the order asked for.

    What a question raises is raised here, when all are done. It must end by itself.
    """
    waiting = list(dict.fromkeys(about))
    order = list(waiting)
    waiting.reverse()
    answers: dict[_K, _V] = {}
    failures: list[BaseException] = []

    def work() -> None:
        while not failures:
            try:
                one = waiting.pop()
            except IndexError:
                return
            try:
                answers[one] = question(one)
            except BaseException as failure:  # noqa: BLE001 - raised again by who waits
                failures.append(failure)

    threads = [
        threading.Thread(target=work, name="docker-read", daemon=True) for _ in range(min(at_once, len(order)) - 1)
    ]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return {one: answers[one] for one in order}
