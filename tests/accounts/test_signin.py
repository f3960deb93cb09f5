from __future__ import annotations

import datetime as dt

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.hashers import get_hasher
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from accounts.models import User
from accounts.throttle import SIGN_INS
from events.models import Event
from tests.factories import PASSWORD, UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.accounts.urls")]


def sign_in(client, name="vera", password=PASSWORD, **more):
    return client.post("/login", {"username": name, "password": password, **more})


def signed_in(client):
    return client.get("/open").content != b"nobody"


def test_the_right_password_signs_in_and_is_audited(viewer, client):
    answer = sign_in(client, next="/read?x=1")
    assert (answer.status_code, answer["Location"]) == (302, "/read?x=1")
    assert signed_in(client)
    event = Event.objects.get(type="audit.sign_in")
    assert (event.object, event.actor, event.data["address"]) == (f"user/{viewer.pk}", "vera", "127.0.0.1")


@pytest.mark.parametrize("password", ["wrong", "", " ", "x" * 1001, "nul\0", PASSWORD + " ", PASSWORD.upper()])
def test_a_wrong_password_does_not(viewer, client, password):
    answer = sign_in(client, password=password)
    assert answer.status_code == 200
    assert b"is not right" in answer.content
    assert not signed_in(client)


@pytest.mark.parametrize("name", ["nobody", "VERA", "", "vera\0", "x" * 5000, "' OR 1=1 --", "\ud7ff\U0001f600"])
def test_a_wrong_name_does_not(viewer, client, name):
    answer = sign_in(client, name=name)
    assert answer.status_code == 200
    assert not signed_in(client)


def test_an_inactive_user_is_told_no_more_than_anybody(viewer, client):
    UserFactory(username="gone", is_active=False)
    assert sign_in(client, name="gone").content.count(b"is not right") == 1
    assert not signed_in(client)


def test_the_name_that_was_tried_is_written_down_only_if_it_is_one(viewer, client):
    sign_in(client, name="my secret passphrase", password="x")
    sign_in(client, name="vera", password="x")
    unknown, known = Event.objects.filter(type="audit.sign_in_failed").order_by("seq")
    assert (unknown.object, unknown.object_name) == ("user/unknown", "")
    assert (known.object, known.object_name) == (f"user/{viewer.pk}", "vera")
    assert "secret" not in str([unknown.data, known.data])


def test_failures_do_not_fill_the_log(client):
    for _ in range(15):
        sign_in(client, name="nobody", password="x")
    assert Event.objects.filter(type__startswith="audit.sign_in").count() <= 10


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)", "evil",
        "/login", "/logout", "/login/?x", "http:///evil.example", "/\t/evil.example", "/" + "x" * 3000, "///evil.example",
    ],
)  # fmt: skip
def test_next_leads_nowhere_else(viewer, client, target):
    assert sign_in(client, next=target)["Location"] == "/"
    assert client.get("/login", {"next": target})["Location"] == "/"
    assert b"evil" not in Client().get("/login", {"next": target}).content


def test_who_is_signed_in_goes_straight_on(viewer, client_for):
    assert client_for(viewer).get("/login?next=/read")["Location"] == "/read"


def test_the_page_is_not_kept_and_makes_no_session(client):
    answer = client.get("/login")
    assert "no-store" in answer["Cache-Control"]
    assert Session.objects.count() == 0


def test_a_form_without_its_csrf_token_is_refused(viewer):
    client = Client(enforce_csrf_checks=True)
    answer = sign_in(client)
    assert answer.status_code == 403
    assert b"The form was too old" in answer.content
    assert client.post("/logout", headers={"Accept": "application/json"}).json()["code"] == "permission_denied"


def test_the_session_gets_a_new_key(viewer, client):
    client.get("/login")
    client.session.save()
    before = client.session.session_key
    sign_in(client)
    assert client.session.session_key != before


def test_eight_wrong_tries_lock_this_name_here_and_nobody_else(viewer, operator, client):
    for _ in range(7):
        assert sign_in(client, password="x").status_code == 200
    answer = sign_in(client, password="x")
    assert answer.status_code == 429
    assert 890 <= int(answer["Retry-After"]) <= 900
    assert b"Too many tries" in answer.content
    assert sign_in(client).status_code == 429, "the right password does not open it either"
    assert not signed_in(client)
    assert sign_in(Client(), name="olga").status_code == 302
    assert sign_in(Client(REMOTE_ADDR="192.0.2.7")).status_code == 302
    assert Event.objects.filter(type="audit.sign_in_locked").exists()


def test_the_lock_ends_and_tries_meanwhile_do_not_prolong_it(viewer, client):
    for _ in range(8):
        sign_in(client, password="x")
    AccessAttempt.objects.update(attempt_time=timezone.now() - dt.timedelta(minutes=14))
    answer = sign_in(client, password="x")
    assert (answer.status_code, int(answer["Retry-After"]) <= 60) == (429, True)
    AccessAttempt.objects.update(attempt_time=timezone.now() - dt.timedelta(minutes=15, seconds=1))
    assert sign_in(client).status_code == 302


def test_a_locked_program_gets_a_problem(viewer, client):
    for _ in range(8):
        sign_in(client, password="x")
    data = {"username": "vera", "password": "x"}
    answer = client.post("/login", data, headers={"Accept": "application/json"})
    assert answer.status_code == 429
    assert answer.json()["code"] == "too_many_requests"
    assert int(answer["Retry-After"]) > 0


def test_success_forgets_earlier_failures(viewer, client):
    for _ in range(7):
        sign_in(client, password="x")
    assert sign_in(client).status_code == 302
    for _ in range(7):
        assert sign_in(Client(), password="x").status_code == 200


def test_one_password_on_many_names_is_stopped_too(viewer, client):
    for _ in range(SIGN_INS.limit - 1):
        SIGN_INS.hit("127.0.0.1")
    assert sign_in(client, name="nobody", password="Summer2026!").status_code == 200, "the last one that is let through"
    answer = sign_in(client)
    assert answer.status_code == 429
    assert not signed_in(client)


def test_an_unknown_name_takes_as_long_as_a_wrong_password(viewer, client, monkeypatch):
    hasher = type(get_hasher())
    encode, calls = hasher.encode, []
    monkeypatch.setattr(hasher, "encode", lambda self, *a, **k: calls.append("hash") or encode(self, *a, **k))
    verify = hasher.verify
    monkeypatch.setattr(hasher, "verify", lambda self, *a, **k: calls.append("hash") or verify(self, *a, **k))
    sign_in(client, name="nobody", password="x")
    unknown = calls.copy()
    calls.clear()
    sign_in(client, name="vera", password="x")
    assert unknown == calls == ["hash"], "one and the same costly step on both ways"


def test_sign_out_is_a_post_ends_the_session_and_can_be_repeated(viewer, client_for):
    client = client_for(viewer)
    assert client.get("/logout").status_code == 405
    assert signed_in(client)
    assert client.post("/logout")["Location"] == "/login"
    assert not signed_in(client)
    assert client.post("/logout")["Location"] == "/login"
    assert Event.objects.filter(type="audit.sign_out").count() == 1
    assert client_for(viewer).post("/logout", headers={"HX-Request": "true"})["HX-Redirect"] == "/login"


def test_a_huge_form_is_refused(viewer, client):
    answer = sign_in(client, next="/" + "x" * 3_000_000)
    assert answer.status_code == 400
    assert User.objects.count() == 1


def test_a_password_of_megabytes_is_not_hashed(viewer, client, monkeypatch):
    monkeypatch.setattr(User, "check_password", lambda *_: pytest.fail("hashed"))
    assert sign_in(client, password="x" * 1_900_000).status_code == 200
