"""Listings compared become news; how often is looked follows what happens, and never costs more than a tenth of the time."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import Unreachable
from drivers.polling import Poller, compare, no_news
from drivers.types import GuestEventKind, GuestInfo, GuestState


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def guest(number: int, state: GuestState = GuestState.SHUTOFF, **values: object) -> GuestInfo:
    return GuestInfo(uuid=f"u{number}", name=f"n{number}", state=state, **values)


def listed(*infos: GuestInfo) -> dict[str, GuestInfo]:
    return {info.uuid: info for info in infos}


def words(before: dict[str, GuestInfo], now: dict[str, GuestInfo]) -> list[tuple[str, str]]:
    return [(event.uuid, event.reason) for event in compare(before, now, at=1.0)]


@pytest.mark.parametrize(
    ("before", "now", "word"),
    [
        (GuestState.SHUTOFF, GuestState.RUNNING, "started"),
        (GuestState.CRASHED, GuestState.RUNNING, "started"),
        (GuestState.RUNNING, GuestState.PAUSED, "paused"),
        (GuestState.SHUTOFF, GuestState.PAUSED, "paused"),
        (GuestState.PAUSED, GuestState.RUNNING, "resumed"),
        (GuestState.PAUSED, GuestState.SHUTOFF, "stopped"),
        (GuestState.RUNNING, GuestState.CRASHED, "stopped"),
        (GuestState.RUNNING, GuestState.UNKNOWN, "changed"),
        (GuestState.UNKNOWN, GuestState.RUNNING, "changed"),
    ],
)
def test_a_change_of_state_has_its_word(before, now, word):
    assert words(listed(guest(1, before)), listed(guest(1, now))) == [("u1", word)]


def test_what_comes_goes_and_changes_is_told():
    before = listed(guest(1), guest(2), guest(3))
    now = listed(guest(2), guest(3, vcpus=2), guest(4), guest(5, GuestState.RUNNING))
    assert words(before, now) == [
        ("u3", "changed"),
        ("u4", "defined"),
        ("u5", "defined"),
        ("u5", "started"),
        ("u1", "undefined"),
    ]


guests = st.dictionaries(
    st.integers(0, 8), st.tuples(st.sampled_from(GuestState), st.integers(1, 3), st.sampled_from("ab")), max_size=9
).map(lambda made: listed(*(guest(n, state, vcpus=v, title=t) for n, (state, v, t) in made.items())))


@given(guests, guests)
def test_exactly_what_differs_is_told(before, now):
    events = list(compare(before, now, at=7.0))
    differing = {uuid for uuid in before.keys() | now.keys() if before.get(uuid) != now.get(uuid)}
    assert {event.uuid for event in events} == differing
    assert {event.uuid for event in events if event.kind is GuestEventKind.UNDEFINED} == before.keys() - now.keys()
    assert {event.uuid for event in events if event.kind is GuestEventKind.DEFINED} == now.keys() - before.keys()
    assert all(event.at == 7.0 for event in events)


@given(st.lists(guests, min_size=1, max_size=6))
def test_whoever_reads_again_what_is_told_knows_the_truth(story):
    poller = Poller(clock=Clock())
    known: dict[str, GuestInfo] = {}
    for now in story:
        for event in poller.look(lambda now=now: list(now.values())):
            known.pop(event.uuid, None)
            if event.uuid in now:
                known[event.uuid] = now[event.uuid]
        assert known == now


@given(st.lists(st.tuples(st.floats(0.0, 20.0), st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_tenth_of_the_time_at_most_goes_into_looking(story):
    clock = Clock()
    poller = Poller(clock=clock)
    state = GuestState.SHUTOFF
    for took, change, nudged in story:
        if change:
            state = GuestState.RUNNING if state is GuestState.SHUTOFF else GuestState.SHUTOFF
        began = clock.now

        def listing(took=took, state=state):
            clock.now += took
            return [guest(1, state)]

        poller.look(listing)
        if nudged:
            poller.nudge()
        pause = poller.due_seconds()
        assert pause >= 0.999
        assert took <= (took + pause) / 9.999
        clock.now += pause
        assert poller.due_seconds() < 1e-6
        assert clock.now - began <= poller.slowest_seconds + 1e-6


def test_it_is_fast_after_a_change_slow_when_nothing_happens_and_fast_again_when_nudged():
    clock = Clock()
    poller = Poller(clock=clock)
    poller.learn(lambda: [guest(1)])
    pauses = []
    for _ in range(30):
        pauses.append(poller.due_seconds())
        clock.now += pauses[-1]
        assert poller.look(lambda: [guest(1)]) == []
    assert pauses[:15] == [1.0] * 15
    assert pauses == sorted(pauses)
    assert pauses[-1] == 10.0
    clock.now += 4.0
    poller.nudge()
    assert poller.due_seconds() == 0.0, "more than a second has passed since the last look"
    assert [event.reason for event in poller.look(list)] == ["undefined"]
    assert poller.due_seconds() == 1.0


def test_a_failed_look_changes_nothing_that_was_known():
    def fail() -> list[GuestInfo]:
        raise Unreachable("gone")

    poller = Poller(clock=Clock())
    poller.learn(lambda: [guest(1)])
    with pytest.raises(Unreachable):
        poller.look(fail)
    assert poller.look(lambda: [guest(1)]) == []


def test_how_late_news_can_be_is_a_sentence():
    poller = Poller(clock=(clock := Clock()))

    def slow() -> list[GuestInfo]:
        clock.now += 2.5
        return []

    assert no_news("OpenVZ") == "OpenVZ tells no news; changes made outside show within 1 to 10 s."
    poller.look(slow)
    assert no_news("X", slowest_seconds=poller.slowest_seconds).endswith("within 1 to 30 s.")


def test_equal_guests_are_no_news_whatever_object_they_are():
    one = guest(1, boot={"type": "hvm"}, memory_bytes=5)
    assert words(listed(one), listed(dataclasses.replace(one, boot=dict(one.boot)))) == []


def test_a_guest_that_is_worked_on_when_it_looks_as_before_then_it_is_news_once():
    poller = Poller()
    poller.learn(lambda: [guest(1), guest(2)])
    poller.nudge(["u1", "never-seen"])
    news = poller.look(lambda: [guest(1), guest(2)])
    assert [(event.uuid, event.kind) for event in news] == [("u1", GuestEventKind.CHANGED)]
    assert poller.look(lambda: [guest(1), guest(2)]) == []
