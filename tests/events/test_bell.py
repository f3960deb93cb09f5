"""The doorbell: threads of this process, the reader's loop, other processes; and nobody who rings ever waits or fails."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from channels.layers import get_channel_layer

from events import bell
from tests.waiting import wait_until

if TYPE_CHECKING:
    import pytest


class Recorder:
    """A listener that notes what it hears, and on which thread."""

    def __init__(self) -> None:
        self.rings: list[int] = []
        self.samples: list[dict] = []
        self.threads: set[int] = set()
        self.heard = asyncio.Event()

    def rung(self, seq: int) -> None:
        self.rings.append(seq)
        self.threads.add(threading.get_ident())

    def sampled(self, samples: list[dict]) -> None:
        self.samples += samples
        self.heard.set()


def test_a_waiting_thread_wakes_at_a_ring() -> None:
    done = threading.Event()
    woken: list[float] = []

    def wait() -> None:
        began = time.monotonic()
        assert bell.wait_until(done.is_set, timeout_seconds=10, recheck_seconds=10)
        woken.append(time.monotonic() - began)

    thread = threading.Thread(target=wait)
    thread.start()
    done.set()
    # Rung until it is over: the thread may not wait yet at the first ring.
    seq = iter(range(1_000_000, 2_000_000))
    wait_until(lambda: bell.heard(next(seq)) or not thread.is_alive(), 5, "the thread woke")
    assert woken[0] < 5


def test_a_lost_ring_is_made_up_for() -> None:
    done = threading.Event()
    threading.Timer(0.05, done.set).start()
    assert bell.wait_until(done.is_set, timeout_seconds=5, recheck_seconds=0.02)


def test_waiting_ends_at_its_time() -> None:
    began = time.monotonic()
    assert not bell.wait_until(lambda: False, timeout_seconds=0.1, recheck_seconds=0.02)
    assert 0.09 < time.monotonic() - began < 3


async def test_a_listener_is_called_on_its_own_loop() -> None:
    recorder = Recorder()
    bell.listen(recorder, asyncio.get_running_loop())
    try:
        await asyncio.to_thread(bell.ring, 7)
        await asyncio.to_thread(bell.broadcast_samples, [{"object": "vm/1"}])
        await asyncio.wait_for(recorder.heard.wait(), 5)
    finally:
        bell.unlisten(recorder)
    assert recorder.rings == [7]
    assert recorder.threads == {threading.get_ident()}


def test_a_listener_whose_loop_has_closed_harms_nobody() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    recorder = Recorder()
    bell.listen(recorder, loop)
    try:
        bell.ring(8)
    finally:
        bell.unlisten(recorder)


DEAD = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": ["redis://127.0.0.1:1/0"]},
    }
}


def test_a_channel_layer_out_of_reach_neither_fails_nor_holds_up_who_rings(
    settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CHANNEL_LAYERS = DEAD
    began = time.monotonic()
    for seq in range(100):
        bell.ring(seq)
    bell.broadcast_samples([])
    assert time.monotonic() - began < 1
    wait_until(lambda: "does not ring" in caplog.text, 10, "it is said")
    bell._far.close()
    assert caplog.text.count("does not ring") == 1


class SlowLayer:
    """A layer that takes its time; notes what was sent."""

    def __init__(self) -> None:
        self.sent: list[dict] = []

    async def group_send(self, group: str, message: dict) -> None:
        await asyncio.sleep(0.02)
        self.sent.append(message)


def test_rings_that_come_while_one_is_on_its_way_are_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = SlowLayer()
    monkeypatch.setattr(bell, "_layer", lambda: layer)
    for seq in range(1, 1001):
        bell.ring(seq)
    bell._far.close()  # as at the process's end: what is on its way goes out
    assert layer.sent[-1] == {"type": "ring", "seq": 1000}
    assert len(layer.sent) < 300


def test_the_layer_of_one_process_is_not_rung() -> None:
    if type(get_channel_layer()).__name__ == "InMemoryChannelLayer":
        assert bell._layer() is None
    else:
        assert bell._layer() is get_channel_layer()
