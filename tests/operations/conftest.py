from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from accounts.actor import SYSTEM
from operations import doorbell, engine
from operations.lease import keeper
from tests.operations import toys

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterable, Iterator


@pytest.fixture
def bench() -> Iterator[toys.Bench]:
    """The toys' work bench, its gate open at the end whatever happened, so that no thread stays behind."""
    made = toys.fresh_bench()
    yield made
    made.gate.set()


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A worker in this process: each ring is answered by a thread of its own. Calling it waits until all is quiet."""
    threads: list[threading.Thread] = []

    def ring(ids: Iterable[uuid.UUID], *, delay_seconds: float = 0.0) -> None:
        for pk in ids:
            thread = threading.Timer(delay_seconds, engine.execute, [pk])
            thread.start()
            threads.append(thread)  # whoever waits joins what has begun

    def quiet() -> None:
        while threads:
            thread = threads.pop()
            thread.join(30)
            assert not thread.is_alive(), "a worker thread hangs"

    monkeypatch.setattr(doorbell, "ring", ring)
    yield quiet
    toys.bench.gate.set()
    quiet()
    keeper.stop()


@pytest.fixture
def by() -> object:
    """Who asks."""
    return SYSTEM
