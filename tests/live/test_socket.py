"""`/ws/events`: order, resumption, filters, permission, and what is no subscription."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import threading
from typing import TYPE_CHECKING

import pytest
from django.db import connections
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import ApiToken, User
from events import bell, log, retention
from events.models import Event
from live import callers, consumers, reader, subscriber
from tests.live.conftest import Socket, append, make_session, make_ticket, make_user, thread
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db(transaction=True)


def seqs_above(start: int) -> list[int]:
    return list(Event.objects.filter(seq__gt=start).order_by("seq").values_list("seq", flat=True))


# -- order and resumption ------------------------------------------------------------------------------------------------
async def test_nothing_is_sent_before_a_subscription(listener: Socket) -> None:
    await thread(append, "a")
    assert await listener.silent()


async def test_events_follow_in_the_shape_of_the_contract(listener: Socket) -> None:
    before = await thread(append, "old")
    await thread(wait_until, lambda: reader._running and reader._running.last >= before, 10, "the reader has it")
    assert await listener.subscribe() == {"type": "subscribed", "seq": before}
    seq = await thread(append, "web-1", type="vm.state_changed", object="vm/42", actor="watcher")
    event = await listener.read()
    at = event.pop("at")
    assert at.endswith("Z")
    assert abs(timezone.now() - dt.datetime.fromisoformat(at)) < dt.timedelta(minutes=1)
    assert event == {
        "seq": seq,
        "type": "vm.state_changed",
        "object": {"type": "vm", "id": "42", "name": "web-1"},
        "actor": "watcher",
        "operation": None,
        "data": {"n": "web-1"},
    }


async def test_resumed_after_a_seq_nothing_is_missed_and_nothing_comes_twice(listener: Socket) -> None:
    first = await thread(append, "a", "b", "c", "d")
    assert await listener.subscribe(after=first - 2) == {"type": "subscribed", "seq": first}
    assert await listener.seqs(2) == [first - 1, first]
    last = await thread(append, "e")
    assert await listener.seqs(1) == [last]
    assert await listener.silent()


async def test_a_long_backlog_is_joined_to_what_happens_meanwhile(listener: Socket) -> None:
    start = await thread(log.last_seq)
    await thread(append, *[f"g{n}" for n in range(subscriber.CHUNK * 3 + 7)])
    writer = asyncio.create_task(thread(lambda: [append(f"live{n}") for n in range(60)]))
    await listener.subscribe(after=start)
    count = subscriber.CHUNK * 3 + 7 + 60
    seqs = await listener.seqs(count)
    await writer
    assert seqs == await thread(seqs_above, start)
    assert await listener.silent()


async def test_writers_at_once_and_a_socket_that_comes_and_goes_leave_no_gap(
    sockets: Callable[..., Socket], db_user: User
) -> None:
    session = await thread(make_session, db_user)
    start = await thread(log.last_seq)
    writers, each = 6, 40

    def write(name: str) -> None:
        for number in range(each):
            append(f"{name}-{number}")
        connections.close_all()

    threads = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(writers)]
    for one in threads:
        one.start()
    seen: list[int] = []
    while len(seen) < writers * each:
        socket = await sockets(session=session).open()
        assert (await socket.subscribe(after=seen[-1] if seen else start))["type"] == "subscribed"
        seen += await socket.seqs(min(50, writers * each - len(seen)))
        await socket.disconnect()
    for one in threads:
        await asyncio.to_thread(one.join)
    assert seen == await thread(seqs_above, start)


async def test_old_state_and_events_make_fresh_state(listener: Socket) -> None:
    """What a browser does: read, then apply what comes after the seq it read at."""

    def change(number: int) -> None:
        append(f"g{number % 5}", object=f"vm/{number % 5}", operation=None)

    await thread(lambda: [change(n) for n in range(20)])

    def state() -> tuple[dict[str, int], int]:
        rows = Event.objects.order_by("seq").values_list("object", "seq")
        return dict(rows), max(seq for _, seq in rows)

    view, at = await thread(state)
    await listener.subscribe(after=at)
    await thread(lambda: [change(n) for n in range(33)])
    for _ in range(33):
        event = await listener.read()
        view[f"vm/{event['object']['id']}"] = event["seq"]
    assert view == (await thread(state))[0]


async def test_an_after_that_was_trimmed_gets_a_reset_and_goes_on(listener: Socket) -> None:
    last = await thread(append, "a", "b", "c")

    def age() -> None:
        Event.objects.filter(seq__lte=last - 1).update(at=timezone.now() - dt.timedelta(days=400))
        retention.trim(timezone.now())

    await thread(age)
    assert await listener.subscribe(after=last - 3) == {"type": "reset", "seq": last}
    assert await listener.read() == {"type": "subscribed", "seq": last}
    assert await thread(append, "d") == (await listener.read())["seq"]


async def test_an_after_at_the_edge_of_what_is_kept_is_no_reset(listener: Socket) -> None:
    last = await thread(append, "a", "b", "c")
    await thread(Event.objects.filter(seq__lt=last).update, at=timezone.now() - dt.timedelta(days=400))
    await thread(retention.trim, timezone.now())
    assert (await listener.subscribe(after=last - 1))["type"] == "subscribed"
    assert await listener.seqs(1) == [last]


async def test_an_after_from_the_future_gets_a_reset(listener: Socket) -> None:
    last = await thread(append, "a")
    assert await listener.subscribe(after=last + 1) == {"type": "reset", "seq": last}


async def test_a_lost_ring_is_made_up_for(listener: Socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LOOK_EVERY_SECONDS", 0.1)
    await listener.subscribe()
    monkeypatch.setattr(bell, "ring", lambda seq: None)
    await thread(append, "quiet")
    assert (await listener.read())["object"]["name"] == "quiet"


async def test_a_burst_is_read_in_few_reads(listener: Socket) -> None:
    await listener.subscribe()
    events = reader.running()
    before = events.reads
    await thread(lambda: [append(f"g{n}") for n in range(300)])
    seqs = await listener.seqs(300)
    assert seqs == sorted(seqs)
    # Rings that come during a read are one more read; each of these appends is a commit of its own, so some interleave.
    assert events.reads - before < 300
    before = events.reads
    await thread(append, *[f"one{n}" for n in range(1000)])
    await listener.seqs(1000)
    assert events.reads - before <= 4


async def test_the_reader_outlives_a_database_that_fails(listener: Socket, monkeypatch: pytest.MonkeyPatch) -> None:
    await listener.subscribe()
    assert [await thread(append, "before")] == await listener.seqs(1)
    real, failures = reader.entries_after, []

    def broken(seq: int, limit: int) -> list[reader.Entry]:
        if len(failures) < 3:
            failures.append(seq)
            raise log.transaction.TransactionManagementError("the disk is full")
        return real(seq, limit)

    monkeypatch.setattr(reader, "entries_after", broken)
    seq = await thread(append, "late")
    assert await listener.seqs(1) == [seq]
    assert len(failures) == 3


# -- filters -------------------------------------------------------------------------------------------------------------
async def test_only_the_types_and_objects_that_were_named(listener: Socket) -> None:
    await listener.subscribe(types=["vm.state_changed", "audit.*"], objects=["vm/1", "user/7"])
    await thread(append, "no", type="vm.changed", object="vm/1")
    await thread(append, "no", type="vm.state_changed", object="vm/2")
    wanted = [await thread(append, "yes", type="vm.state_changed", object="vm/1")]
    wanted.append(await thread(append, "yes", type="audit.user_changed", object="user/7"))
    assert await listener.seqs(2) == wanted
    assert await listener.silent()


async def test_empty_lists_mean_all(listener: Socket) -> None:
    await listener.subscribe(types=[], objects=[])
    assert await listener.seqs(0) == []
    assert [await thread(append, "a", object="")] == await listener.seqs(1)


async def test_a_second_subscription_replaces_the_first(listener: Socket) -> None:
    await listener.subscribe(objects=["vm/a"])
    await listener.subscribe(objects=["vm/b"])
    await thread(append, "a")
    assert [await thread(append, "b")] == await listener.seqs(1)


async def test_samples_come_only_where_named(sockets: Callable[..., Socket], db_user: User) -> None:
    session = await thread(make_session, db_user)
    named, all_events = await sockets(session=session).open(), await sockets(session=session).open()
    await named.subscribe(types=["metrics.sample"], objects=["vm/1"])
    await all_events.subscribe()
    sample = {"object": "vm/1", "object_name": "web", "at": "2026-01-01T00:00:00.000Z", "data": {"cpu_ratio": 0.5}}
    await thread(bell.broadcast_samples, [sample, {**sample, "object": "vm/2"}])
    assert await named.read() == {
        "type": "metrics.sample",
        "object": {"type": "vm", "id": "1", "name": "web"},
        "at": "2026-01-01T00:00:00.000Z",
        "data": {"cpu_ratio": 0.5},
    }
    assert await named.silent()
    assert await all_events.silent()


# -- who may come in -----------------------------------------------------------------------------------------------------
async def test_a_ticket_opens_once_and_is_not_echoed(sockets: Callable[..., Socket], db_user: User) -> None:
    protocols = [f"ticket.{await thread(make_ticket, db_user)}", "events"]
    first = sockets(origin=None, subprotocols=protocols)
    assert await first.connect() == (True, "events")
    assert (await first.subscribe())["type"] == "subscribed"
    second = sockets(origin=None, subprotocols=protocols)
    assert await second.connect() == (True, "events")
    assert (await second.closed())[0] == 4401


@pytest.mark.parametrize(
    "protocols", [["ticket.nonsense", "events"], ["ticket.", "events"], ["ticket.\u00fc"], ["ticket.a" * 2, "ticket.b"]]
)
async def test_what_is_no_ticket_is_accepted_and_closed(sockets: Callable[..., Socket], protocols: list[str]) -> None:
    socket = await sockets(origin=None, subprotocols=protocols).open()
    assert (await socket.closed())[0] == 4401


async def test_an_old_ticket_and_one_for_consoles_are_refused(sockets: Callable[..., Socket], db_user: User) -> None:
    def old() -> str:
        secret = make_ticket(db_user)
        callers.tickets.Ticket.objects.update(expires_at=timezone.now())
        return secret

    for secret in (await thread(old), await thread(make_ticket, db_user, "console")):
        socket = await sockets(origin=None, subprotocols=[f"ticket.{secret}", "events"]).open()
        assert (await socket.closed())[0] == 4401


async def test_of_two_sockets_with_one_ticket_one_wins(sockets: Callable[..., Socket], db_user: User) -> None:
    protocols = [f"ticket.{await thread(make_ticket, db_user)}", "events"]
    both = await asyncio.gather(*[sockets(origin=None, subprotocols=protocols).open() for _ in range(2)])
    answers = await asyncio.gather(*[socket.subscribe() for socket in both], return_exceptions=True)
    assert sum(isinstance(answer, dict) for answer in answers) == 1


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "",
        "http://evil.example",
        "http://testserver:81",
        "https://testserver",
        "http://testserver.evil.example",
        "http://u@testserver",
        "http://[",
        "testserver",
    ],
)
async def test_a_foreign_origin_is_refused_at_the_handshake(
    sockets: Callable[..., Socket], db_user: User, origin: str | None
) -> None:
    session = await thread(make_session, db_user)
    assert await sockets(origin=origin, session=session).connect() == (False, callers.NOT_ALLOWED)


async def test_a_foreign_origin_is_refused_also_with_a_ticket(sockets: Callable[..., Socket], db_user: User) -> None:
    protocols = [f"ticket.{await thread(make_ticket, db_user)}", "events"]
    accepted, _ = await sockets(origin="http://evil.example", subprotocols=protocols).connect()
    assert not accepted


async def test_a_public_url_is_an_origin_of_ours(sockets: Callable[..., Socket], db_user: User, settings) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["https://vmm.example"]
    await sockets(origin="https://vmm.example", session=await thread(make_session, db_user)).open()


async def test_who_is_not_signed_in_is_told_so(sockets: Callable[..., Socket]) -> None:
    for session in ("", "x" * 32, "\u00e4"):
        socket = await sockets(session=session).open()
        assert (await socket.closed())[0] == 4401


async def test_more_sockets_than_a_user_may_have_are_sent_away(
    sockets: Callable[..., Socket], db_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "SOCKETS_A_USER", 1)
    session = await thread(make_session, db_user)
    assert (await (await sockets(session=session).open()).subscribe())["type"] == "subscribed"
    assert (await (await sockets(session=session).open()).closed())[0] == 1013


# -- the right to listen, later ------------------------------------------------------------------------------------------
def audit(what: str, about: str, **data: str) -> None:
    log.append([log.NewEvent(type=f"audit.{what}", object=about, data=data)])


async def test_audit_events_are_for_administrators(sockets: Callable[..., Socket], transactional_db: None) -> None:
    viewer = await thread(make_user, "vera", "viewer")
    socket = await sockets(session=await thread(make_session, viewer)).open()
    await socket.subscribe()
    await thread(audit, "host_added", "host/1")
    await thread(audit, "user_changed", "user/other")
    assert [await thread(append, "visible")] == await socket.seqs(1)


async def test_a_widened_role_counts_from_its_event_on(sockets: Callable[..., Socket], transactional_db: None) -> None:
    viewer = await thread(make_user, "vera", "viewer")
    socket = await sockets(session=await thread(make_session, viewer)).open()
    await socket.subscribe()
    await thread(audit, "hidden", "user/other")
    assert [await thread(append, "a")] == await socket.seqs(1)

    def widen() -> None:
        User.objects.filter(pk=viewer.pk).update(role="administrator")
        audit("user_changed", f"user/{viewer.pk}")
        audit("token_created", "token/other")

    await thread(widen)
    assert [(await socket.read())["type"] for _ in range(2)] == ["audit.user_changed", "audit.token_created"]


async def test_a_user_who_is_switched_off_is_closed(listener: Socket, db_user: User) -> None:
    await listener.subscribe()

    def switch_off() -> None:
        User.objects.filter(pk=db_user.pk).update(is_active=False)
        audit("user_changed", f"user/{db_user.pk}")

    await thread(switch_off)
    assert (await listener.closed())[0] == 4401


async def test_a_changed_password_closes_sessions_and_tickets_of_before(
    sockets: Callable[..., Socket], db_user: User
) -> None:
    by_session = await sockets(session=await thread(make_session, db_user)).open()
    by_ticket = await sockets(
        origin=None, subprotocols=[f"ticket.{await thread(make_ticket, db_user)}", "events"]
    ).open()
    await by_session.subscribe()
    await by_ticket.subscribe()

    def change() -> None:
        user = User.objects.get(pk=db_user.pk)
        user.set_password("another battery staple")
        user.save()
        audit("password_changed", f"user/{user.pk}")

    await thread(change)
    assert (await by_session.closed())[0] == 4401
    assert (await by_ticket.closed())[0] == 4401


def make_token(user: User, **values: object) -> ApiToken:
    return ApiToken.objects.create(
        user=user, name="ci", scope="read", digest=ApiToken.digest_of(str(timezone.now())), hint="vmm_", **values
    )


async def test_a_revoked_token_closes_its_sockets_and_no_others(sockets: Callable[..., Socket], db_user: User) -> None:
    one, other = await thread(make_token, db_user), await thread(make_token, db_user)
    protocols = [[f"ticket.{await thread(make_ticket, db_user, token=token)}", "events"] for token in (one, other)]
    closed, kept = [await sockets(origin=None, subprotocols=names).open() for names in protocols]
    await closed.subscribe()
    await kept.subscribe()

    def revoke() -> None:
        audit("token_revoked", f"token/{one.pk}")
        one.delete()

    await thread(log.transaction.atomic()(revoke))
    assert (await closed.closed())[0] == 4401
    assert [await thread(append, "still here")] == await kept.seqs(1)


async def test_a_token_that_expires_closes_its_sockets(sockets: Callable[..., Socket], db_user: User) -> None:
    token = await thread(make_token, db_user, expires_at=timezone.now() + dt.timedelta(seconds=1))
    socket = await sockets(
        origin=None, subprotocols=[f"ticket.{await thread(make_ticket, db_user, token=token)}", "events"]
    ).open()
    await socket.subscribe()
    assert await socket.closed() == (4401, "the token of this connection has expired")


async def test_signing_out_closes_this_session_alone(sockets: Callable[..., Socket], db_user: User) -> None:
    """The event is written before the session is deleted: the row that is still there must not keep the socket open."""
    mine, other = await thread(make_session, db_user), await thread(make_session, db_user)
    here, there = await sockets(session=mine).open(), await sockets(session=other).open()
    await here.subscribe(types=["vm.changed"])
    await there.subscribe(types=["vm.changed"])
    digest = subscriber.hashlib.sha256(mine.encode()).hexdigest()
    await thread(audit, "sign_out", f"user/{db_user.pk}", session=digest)
    assert await here.closed() == (4401, "signed out")
    assert [await thread(append, "a")] == await there.seqs(1)


async def test_a_session_that_ended_in_silence_is_noticed(
    sockets: Callable[..., Socket], db_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber, "RENEW_SECONDS", 0.2)
    session = await thread(make_session, db_user)
    socket = await sockets(session=session).open()
    await socket.subscribe()
    await thread(callers.import_module("django.contrib.sessions.models").Session.objects.all().delete)
    assert (await socket.closed())[0] == 4401


# -- slow readers --------------------------------------------------------------------------------------------------------
async def test_a_full_queue_ends_with_4008_and_after_brings_the_rest(
    sockets: Callable[..., Socket], db_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber, "QUEUE_MOST", 20)
    session = await thread(make_session, db_user)
    socket = await sockets(session=session).open()
    start = (await socket.subscribe())["seq"]
    await thread(append, *[f"g{n}" for n in range(50)])
    assert (await socket.closed())[0] == 4008
    again = await sockets(session=session).open()
    await again.subscribe(after=start)
    assert await again.seqs(50) == await thread(seqs_above, start)


# -- what is no subscription ---------------------------------------------------------------------------------------------
UUID = "vm/0192d3a0-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 1007),
        ("hello", 1007),
        ("[" * 50_000, 1007),
        ("{}", 1008),
        ("[]", 1008),
        ("null", 1008),
        ("1", 1008),
        ('{"subscribe": []}', 1008),
        ('{"subscribe": null}', 1008),
        ('{"subscribe": {}, "after": "1"}', 1008),
        ('{"subscribe": {}, "after": -1}', 1008),
        ('{"subscribe": {}, "after": true}', 1008),
        ('{"subscribe": {}, "after": 1.5}', 1008),
        ('{"subscribe": {}, "after": 9223372036854775808}', 1008),
        ('{"subscribe": {}, "after": 1%s}' % ("0" * 5000), 1007),  # Python's own limit of digits
        ('{"subscribe": {"types": "vm.changed"}}', 1008),
        ('{"subscribe": {"types": [1]}}', 1008),
        ('{"subscribe": {"types": ["*"]}}', 1008),
        ('{"subscribe": {"objects": {"vm": 1}}}', 1008),
        ('{"subscribe": {"objects": ["vm"]}}', 1008),
        ('{"subscribe": {"objects": ["vm/\\u0000"]}}', 1008),
        ('{"subscribe": {"objects": ["vm/\\ud800"]}}', 1008),
        ('{"subscribe": {"object": []}}', 1008),
        ('{"subscribe": {}, "since": 1}', 1008),
        (json.dumps({"subscribe": {"objects": [f"vm/{n}" for n in range(2000)]}}), 1008),
        (json.dumps({"subscribe": {"objects": [f"{UUID}{n}" for n in range(10_000)]}}), 1009),
        (" " * 70_000, 1009),
        ("\u20ac" * 30_000, 1009),
    ],
)
async def test_a_frame_that_is_no_subscription_closes_with_a_reason(listener: Socket, text: str, code: int) -> None:
    await listener.send(text)
    closed, reason = await listener.closed()
    assert closed == code
    assert 0 < len(reason.encode()) <= 123


async def test_a_binary_frame_closes_with_1003(listener: Socket) -> None:
    await listener.send(data=b"\x00\xff")
    assert (await listener.closed())[0] == 1003


async def test_bad_frames_do_not_disturb_the_socket_beside(sockets: Callable[..., Socket], db_user: User) -> None:
    session = await thread(make_session, db_user)
    good, bad = await sockets(session=session).open(), await sockets(session=session).open()
    await good.subscribe()
    await bad.send("{")
    await bad.closed()
    assert [await thread(append, "a")] == await good.seqs(1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["subscribe", "after", "types", "objects", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(["subscribe", "after", "x"]), json_values, max_size=3) | json_values)
def test_any_json_is_an_order_or_a_refusal(frame: object) -> None:
    refusal = ""
    try:
        want, after = consumers._order(json.loads(json.dumps(frame)))
    except consumers.BadWant as error:
        refusal = str(error)
    if refusal:
        assert len(refusal.encode()) <= 123
        return
    assert isinstance(frame, dict)
    assert isinstance(frame["subscribe"], dict)
    assert after is None or 0 <= after < 2**63
    assert all(name in frame["subscribe"]["types"] for name in want.types)
