"""The serial console's buffers, with a stream that does exactly what a test wants. The real one: test_libvirt_real."""

# ruff: noqa: N802 - libvirt's own names

from __future__ import annotations

import threading
import time

import libvirt
import pytest

from drivers.errors import ConsoleBusy, DriverError, Timeout, Unreachable
from drivers.libvirtd import streams
from drivers.libvirtd.streams import SerialConsole
from tests.waiting import wait_until

READABLE = libvirt.VIR_STREAM_EVENT_READABLE
HANGUP = libvirt.VIR_STREAM_EVENT_HANGUP
ERROR = libvirt.VIR_STREAM_EVENT_ERROR


class Wire:
    """Stands where libvirt's stream stands."""

    def __init__(self) -> None:
        self.incoming: list[bytes | int | Exception] = []
        self.taken = b""
        self.accepts = threading.Event()
        self.accepts.set()
        self.callback = None
        self.removed = 0
        self.aborted = threading.Event()
        self.freed = False
        self._conn = self

    def eventAddCallback(self, events, callback, opaque):
        self.callback = callback

    def eventRemoveCallback(self):
        self.removed += 1

    def recv(self, size):
        if not self.incoming:
            return -2
        piece = self.incoming.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def send(self, data):
        self.accepts.wait(10)
        if self.aborted.is_set():
            raise libvirt.libvirtError("aborted")
        self.taken += data
        return len(data)

    def abort(self):
        self.aborted.set()
        self.accepts.set()

    def __del__(self):
        self.freed = True

    def say(self, *pieces, events=READABLE):
        self.incoming += pieces
        self.callback(self, events, None)


@pytest.fixture
def wire():
    return Wire()


@pytest.fixture
def console(wire):
    gone = threading.Event()
    made = SerialConsole(wire, hang_up=lambda console: gone.set())
    made.gone = gone
    yield made
    made.close()
    assert gone.wait(5)


def test_bytes_come_at_once_after_silence_and_gathered_in_a_burst(console, wire):
    wire.say(b"first")
    began = time.monotonic()
    assert console.read(timeout_seconds=5) == b"first"
    assert time.monotonic() - began < 0.5
    for number in range(20):
        wire.say(b"%02d" % number)
    assert console.read(timeout_seconds=5) == b"".join(b"%02d" % number for number in range(20))
    assert console.read(timeout_seconds=0.01) is None


def test_size_is_honoured(console, wire):
    wire.say(b"abcdef")
    assert console.read(2, timeout_seconds=1) == b"ab"
    assert console.read(4, timeout_seconds=1) == b"cdef"


def test_a_slow_reader_costs_bounded_memory_and_is_told_what_it_missed(console, wire, monkeypatch):
    monkeypatch.setattr(streams, "MOST_UNREAD", 1000)
    for _ in range(50):
        wire.say(b"x" * 100)
        assert console.unread_bytes <= 1000
    wire.say(b"end")
    assert b"4003 bytes are missing here" in console.read(timeout_seconds=1)
    assert console.read(timeout_seconds=1) == b"x" * 997 + b"end"


def test_a_guest_that_does_not_read_blocks_the_writer_and_nothing_else(console, wire, monkeypatch):
    monkeypatch.setattr(streams, "WRITE_SECONDS", 0.2)
    wire.accepts.clear()
    with pytest.raises(Timeout):
        console.write(b"x" * (streams.MOST_UNSENT * 3))
    wire.say(b"still talking")
    assert console.read(timeout_seconds=1) == b"still talking"
    wire.accepts.set()
    wait_until(lambda: len(wire.taken) >= streams.MOST_UNSENT, 5, "it reads again")


def test_everything_written_arrives_in_order(console, wire):
    data = bytes(range(256)) * 2000
    console.write(data)
    wait_until(lambda: wire.taken == data, 10, "all of it")


@pytest.mark.parametrize("events", [HANGUP, READABLE | HANGUP, ERROR])
def test_last_words_are_read_before_the_end(console, wire, events):
    wire.say(b"bye", -2, events=events)
    assert console.read(timeout_seconds=1) == b"bye"
    assert console.read(timeout_seconds=1) == b""
    assert console.read(timeout_seconds=1) == b""
    assert wire.aborted.wait(5)


def test_end_of_stream(console, wire):
    wire.say(b"bye", b"")
    assert console.read(timeout_seconds=1) == b"bye"
    assert console.read(timeout_seconds=1) == b""
    with pytest.raises(Unreachable):
        console.write(b"x")


def test_an_error_removes_the_callback_at_once_and_never_waits_on_the_event_thread(console, wire):
    error = libvirt.libvirtError("x")
    error.err = (39, libvirt.VIR_FROM_STREAMS, "stream had I/O failure", 2, "", None, None, 0, 0)
    wire.say(error, events=READABLE | ERROR)
    assert wire.removed == 1
    assert not wire.aborted.is_set()  # abort is a round trip: the reader's business
    wire.callback(wire, READABLE, None)  # a late call finds nothing to do
    with pytest.raises(ConsoleBusy):
        console.read(timeout_seconds=1)
    assert wire.removed == 1
    assert wire.aborted.wait(5)


def test_a_foreign_exception_ends_the_console_and_not_the_event_thread(console, wire):
    wire.say(RuntimeError("bug"))
    with pytest.raises(DriverError):
        console.read(timeout_seconds=1)


def test_close_wakes_reader_and_writer_and_gives_everything_back(console, wire):
    wire.accepts.clear()
    results = {}

    def reader():
        results["read"] = console.read(timeout_seconds=30)

    def writer():
        try:
            console.write(b"x" * (streams.MOST_UNSENT * 2))
        except Unreachable:
            results["write"] = "refused"

    threads = [threading.Thread(target=reader), threading.Thread(target=writer)]
    for thread in threads:
        thread.start()
    console.close()
    console.close()
    for thread in threads:
        thread.join(5)
    assert results == {"read": b"", "write": "refused"}
    assert console.gone.wait(5)
    assert wire.freed
    assert wire._conn is None


def test_eviction_tells_the_reader_why(console, wire):
    wire.say(b"unread")
    console.evict()
    with pytest.raises(ConsoleBusy):
        console.read(timeout_seconds=1)
