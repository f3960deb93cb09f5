"""REST and the page: lists, filters, what who may see, tickets."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from accounts.actor import SYSTEM, Actor
from accounts.models import ApiToken
from core.errors import NotAuthenticated
from live import tickets
from live.models import Ticket
from tests.live.conftest import append, make_session, make_user

if TYPE_CHECKING:
    from django.test import Client

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(client: Client) -> Client:
    client.cookies["vmm_session"] = make_session(make_user())
    return client


@pytest.fixture
def viewer(client: Client) -> Client:
    client.cookies["vmm_session"] = make_session(make_user("vera", "viewer"))
    return client


def seqs(client: Client, query: str = "", path: str = "/api/v1/events") -> list[int]:
    answer = client.get(f"{path}{query}")
    assert answer.status_code == 200, answer.content
    return [item["seq"] for item in answer.json()["items"]]


# -- the list ------------------------------------------------------------------------------------------------------------
def test_newest_first_and_with_after_oldest_first(admin: Client) -> None:
    last = append("a", "b", "c")
    assert seqs(admin) == [last, last - 1, last - 2]
    assert seqs(admin, f"?after={last - 2}") == [last - 1, last]
    assert seqs(admin, "?ordering=seq") == [last - 2, last - 1, last]


def test_an_event_is_the_same_as_on_the_socket(admin: Client) -> None:
    seq = append("web", type="host.online", object="host/1", actor="watcher")
    item = admin.get("/api/v1/events").json()["items"][0]
    assert dt.datetime.fromisoformat(item.pop("at")).tzinfo is not None
    assert item == {
        "seq": seq, "type": "host.online", "object": {"type": "host", "id": "1", "name": "web"}, "actor": "watcher",
        "operation": None, "data": {"n": "web"},
    }  # fmt: skip


def test_pages_are_joined_without_gap_while_others_come(admin: Client) -> None:
    append(*[f"g{n}" for n in range(25)])
    expected, seen, cursor = seqs(admin, "?limit=500"), [], ""
    while True:
        page = admin.get(f"/api/v1/events?limit=10{cursor}").json()
        seen += [item["seq"] for item in page["items"]]
        append("meanwhile")
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == expected


def test_filters(admin: Client) -> None:
    changed = append("a", type="vm.changed", object="vm/1", actor="olga")
    state = append("b", type="vm.state_changed", object="vm/2")
    host = append("c", type="host.online", object="host/1")
    assert seqs(admin, "?type=vm.changed,host.online") == [host, changed]
    assert seqs(admin, "?type=vm.*") == [state, changed]
    assert seqs(admin, "?object=vm/2,host/1") == [host, state]
    assert seqs(admin, "?type=vm.*&object=vm/1") == [changed]
    assert seqs(admin, "?q=actor:olga") == [changed]
    assert seqs(admin, "?q=-type:vm.* c") == [host]
    assert seqs(admin, "?type=nothing.*") == []


@pytest.mark.parametrize(
    "query",
    [
        "after=-1",
        "after=x",
        "after=9223372036854775808",
        "limit=0",
        "limit=501",
        "cursor=x",
        "ordering=name",
        "type=%00",
        "object=a%00b",
        "q=%00",
        "type=" + "a," * 200,
    ],
)
def test_what_cannot_be_is_a_422(admin: Client, query: str) -> None:
    assert admin.get(f"/api/v1/events?{query}").status_code == 422


def test_no_query_for_each_event(admin: Client, django_assert_max_num_queries) -> None:
    append(*[f"g{n}" for n in range(50)])
    with django_assert_max_num_queries(5):
        seqs(admin)


def test_audit_events_are_for_administrators(viewer: Client) -> None:
    append("hidden", type="audit.user_changed", object="user/1")
    append("hidden", type="vm.changed", object="token/1")
    append("hidden", type="audit.host_added", object="host/1")
    seen = append("seen")
    assert seqs(viewer) == [seen]
    assert viewer.get("/api/v1/audit").status_code == 403


def test_the_audit_trail_is_the_audit_events(admin: Client) -> None:
    append("a")
    audit = append("b", type="audit.user_changed", object="user/1")
    assert seqs(admin, path="/api/v1/audit") == [audit]
    assert seqs(admin, "?type=vm.changed", path="/api/v1/audit") == []


def test_who_is_not_signed_in_gets_a_401(client: Client) -> None:
    for path in ("/api/v1/events", "/api/v1/audit"):
        assert client.get(path).status_code == 401
    assert client.get("/api/v1/events", headers={"Accept": "text/event-stream"}).status_code == 401
    assert client.post("/api/v1/events/ticket", content_type="application/json").status_code == 401


@pytest.mark.parametrize("query", ["type=*", "object=vm", "type=VM"])
def test_a_stream_with_a_filter_that_cannot_be_is_a_422(admin: Client, query: str) -> None:
    assert admin.get(f"/api/v1/events?{query}", headers={"Accept": "text/event-stream"}).status_code == 422


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "\u00b2", "9" * 19, "9" * 400])
def test_a_stream_with_a_bad_last_event_id_is_a_422(admin: Client, given: str) -> None:
    answer = admin.get("/api/v1/events", headers={"Accept": "text/event-stream", "Last-Event-ID": given})
    assert answer.status_code == 422


# -- tickets -------------------------------------------------------------------------------------------------------------
def test_a_ticket_says_how_it_is_used(client: Client) -> None:
    user = make_user("robot", "viewer")
    secret = ApiToken.new_secret()
    token = ApiToken.objects.create(user=user, name="ci", scope="read", digest=ApiToken.digest_of(secret), hint="vmm_")
    answer = client.post(
        "/api/v1/events/ticket", content_type="application/json", headers={"Authorization": f"Bearer {secret}"}
    )
    assert answer.status_code == 201
    body = answer.json()
    assert body.keys() == {"url", "ticket", "protocols", "expires_at"}
    assert body["url"] == "/ws/events"
    assert body["protocols"] == [f"ticket.{body['ticket']}", "events"]
    lifetime = dt.datetime.fromisoformat(body["expires_at"]) - timezone.now()
    assert dt.timedelta(seconds=25) < lifetime <= dt.timedelta(seconds=30)
    ticket = Ticket.objects.get()
    assert (ticket.user, ticket.token, ticket.used_at) == (user, token, None)
    assert body["ticket"] not in str(vars(ticket))


def test_a_ticket_is_redeemed_once_for_its_purpose() -> None:
    user = make_user()
    secret, row = tickets.issue(Actor.of_user(user), "console", object="vm/1", params={"type": "vnc"})
    assert tickets.redeem(secret, "events") is None
    assert tickets.redeem(secret + "x", "console") is None
    redeemed = tickets.redeem(secret, "console")
    assert redeemed == row
    assert (redeemed.object, redeemed.params, redeemed.user) == ("vm/1", {"type": "vnc"}, user)
    assert tickets.redeem(secret, "console") is None


def test_an_expired_ticket_is_nothing_and_old_ones_are_trimmed() -> None:
    by = Actor.of_user(make_user())
    secret, row = tickets.issue(by, "events")
    Ticket.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    assert tickets.redeem(secret, "events") is None
    Ticket.objects.update(expires_at=timezone.now() - dt.timedelta(hours=1))
    tickets.issue(by, "events")
    assert not Ticket.objects.filter(pk=row.pk).exists()
    assert Ticket.objects.count() == 1


def test_the_system_gets_no_ticket() -> None:
    with pytest.raises(NotAuthenticated):
        tickets.issue(SYSTEM, "events")


# -- the page ------------------------------------------------------------------------------------------------------------
def test_the_page_shows_events_newest_first(admin: Client) -> None:
    append("web-1", type="vm.state_changed", object="vm/42")
    text = admin.get("/events").content.decode()
    assert 'href="/vms/42"' in text
    assert 'data-feed="/events"' in text


def test_new_lines_alone_for_the_script(admin: Client) -> None:
    first = append("old", "older")
    append("new-1", "new-2")
    text = admin.get(f"/events?after={first}", headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in text
    assert text.index("new-2") < text.index("new-1")
    assert "old" not in text


def test_more_lines_hang_on_a_cursor(admin: Client) -> None:
    append(*[f"guest-{n:03}" for n in range(130)])
    page = admin.get("/events").content.decode()
    assert "guest-129" in page
    assert "guest-029" not in page
    cursor = page.split("cursor=")[1].split('"')[0]
    rest = admin.get(f"/events?cursor={cursor}", headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in rest
    assert rest.count("<li") == 30
    assert "guest-029" in rest


@pytest.mark.parametrize("query", ["", "?type=vm.*", "?object=vm/1", "?q=web", "?type=audit.*"])
def test_an_empty_page_says_so(admin: Client, query: str) -> None:
    text = admin.get(f"/events{query}").content.decode()
    assert ("No event matches" if query else "Nothing has happened yet") in text


def test_names_from_outside_are_text(admin: Client) -> None:
    append("<script>alert(1)</script>", type="vm.changed", object="vm/1", actor="<b>")
    append("x", type="<i>", object='vm/"><img>')
    text = admin.get("/events?object=<u>").content.decode() + admin.get("/events").content.decode()
    for tag in ("<script>alert", "<b>", "<i>", "<img>", "<u>"):
        assert tag not in text.replace("Signed in as <b>", "").replace("<b>vmmanager</b>", "")


@pytest.mark.parametrize("query", ["after=x", "after=-1", "cursor=x", "type=%00", "q=" + "a " * 60])
def test_a_page_that_cannot_be_is_a_422_and_no_traceback(admin: Client, query: str) -> None:
    answer = admin.get(f"/events?{query}")
    assert answer.status_code == 422
    assert b"Traceback" not in answer.content


def test_a_viewer_sees_no_audit_lines_and_no_tab_for_them(viewer: Client) -> None:
    append("secret-thing", type="audit.user_changed", object="user/1")
    text = viewer.get("/events").content.decode()
    assert "secret-thing" not in text
    assert "audit" not in text
    assert "audit" not in viewer.get("/events/keys.json").content.decode()
