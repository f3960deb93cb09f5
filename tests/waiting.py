"""Waiting for a condition with a deadline: what tests use in place of sleeping."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Found = TypeVar("Found")


def wait_until(
    predicate: Callable[[], Found], seconds: float = 10.0, message: str = "", *, interval: float = 0.02
) -> Found:
    """Ask `predicate` until what it returns is true, and hand that back.

    The pause between two questions grows to a quarter of a second, so that a fast answer is seen at once
    and a slow one does not cost a core.

    Raises:
        AssertionError: nothing true within `seconds`; says `message` and the last answer.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = predicate()
        if found:
            return found
        left = deadline - time.monotonic()
        if left <= 0:
            raise AssertionError(f"{message or 'condition'}: not within {seconds:g} s (last answer: {found!r})")
        time.sleep(min(interval, left))
        interval = min(interval * 1.5, 0.25)
