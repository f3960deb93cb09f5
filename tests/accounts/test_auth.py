from __future__ import annotations

import datetime as dt

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import DatabaseError
from django.test import Client, RequestFactory
from django.utils import timezone
from django.utils.crypto import get_random_string

from accounts.access import access
from accounts.actor import Actor
from accounts.auth import ApiAuth, authorize
from accounts.choices import Role, Scope
from accounts.models import ApiToken
from accounts.policy import PUBLIC
from accounts.throttle import BAD_TOKENS
from core.errors import NotAuthenticated, PermissionRefused, TooMany
from tests.factories import TokenFactory

pytestmark = pytest.mark.django_db


def request(authorization=None, user=None, method="GET", **extra):
    headers = {} if authorization is None else {"Authorization": authorization}
    made = RequestFactory(enforce_csrf_checks=True).generic(method, "/api/v1/x", headers=headers, **extra)
    made.user = user or AnonymousUser()
    made.request_id = "req-1"
    return made


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {}  "])
def test_a_good_token_is_its_user_narrowed(admin, form):
    token = TokenFactory(user=admin, scope="write")
    asked = request(form.format(token.secret))
    actor = ApiAuth()(asked)
    assert (actor.user, actor.token, actor.scope, actor.request_id) == (admin, token, Scope.WRITE, "req-1")
    assert asked.actor is actor


def test_a_token_wider_than_its_user_became_is_as_narrow_as_he(admin):
    token = TokenFactory(user=admin, scope="admin")
    admin.role = Role.VIEWER
    admin.save()
    assert ApiAuth()(request(f"Bearer {token.secret}")).scope == Scope.READ


@pytest.mark.parametrize(
    "value",
    ["", " ", "x", "vmm_", "vmm_" + "x" * 43, "vmm_\u00e9", "vmm_ a", "vmm_\0", "vmm_" + "x" * 100_000, "' OR 1=1 --"],
)
def test_a_bad_token_is_refused_even_beside_a_session(admin, value):
    for user in (None, admin):
        with pytest.raises(NotAuthenticated):
            ApiAuth()(request(f"Bearer {value}", user=user))


def test_expired_and_orphaned_tokens_are_bad(admin):
    now = timezone.now()
    old = TokenFactory(user=admin, expires_at=now)
    good = TokenFactory(user=admin, expires_at=now + dt.timedelta(seconds=30))
    with pytest.raises(NotAuthenticated):
        ApiAuth()(request(f"Bearer {old.secret}"))
    assert ApiAuth()(request(f"Bearer {good.secret}")).token == good
    admin.is_active = False
    admin.save()
    with pytest.raises(NotAuthenticated):
        ApiAuth()(request(f"Bearer {good.secret}"))


def test_neither_the_hash_nor_the_hint_opens_anything(admin):
    token = TokenFactory(user=admin)
    for value in (token.digest, "vmm_" + token.digest, token.hint):
        with pytest.raises(NotAuthenticated):
            ApiAuth()(request(f"Bearer {value}"))


def test_guessing_is_stopped_and_good_tokens_go_on(admin):
    good = TokenFactory(user=admin)
    for _ in range(BAD_TOKENS.limit):
        with pytest.raises(NotAuthenticated):
            ApiAuth()(request(f"Bearer vmm_{get_random_string(43)}"))
    with pytest.raises(TooMany) as stopped:
        ApiAuth()(request(f"Bearer vmm_{get_random_string(43)}"))
    assert 1 <= stopped.value.context["retry_after_seconds"] <= BAD_TOKENS.window_seconds
    assert ApiAuth()(request(f"Bearer {good.secret}")).token == good
    with pytest.raises(NotAuthenticated):
        ApiAuth()(request("Bearer vmm_other", REMOTE_ADDR="192.0.2.9"))


def test_the_last_use_is_noted_at_most_once_a_minute(admin, django_assert_num_queries):
    token = TokenFactory(user=admin)
    ApiAuth()(request(f"Bearer {token.secret}"))
    token.refresh_from_db()
    first = token.last_used_at
    assert timezone.now() - first < dt.timedelta(seconds=10)
    with django_assert_num_queries(1):
        ApiAuth()(request(f"Bearer {token.secret}"))
    ApiToken.objects.update(last_used_at=first - dt.timedelta(minutes=2))
    ApiAuth()(request(f"Bearer {token.secret}"))
    token.refresh_from_db()
    assert token.last_used_at >= first


def test_a_read_works_though_its_time_cannot_be_noted(admin, monkeypatch):
    token = TokenFactory(user=admin)

    def full(*_args, **_values):
        raise DatabaseError("disk full")

    monkeypatch.setattr("django.db.models.query.QuerySet.update", full)
    assert ApiAuth()(request(f"Bearer {token.secret}")).token == token


@pytest.mark.parametrize("authorization", [None, "Basic dXNlcjpwdw==", "Negotiate x", ""])
def test_a_session_does_whatever_a_proxy_in_front_asked_for(viewer, authorization):
    actor = ApiAuth()(request(authorization, user=viewer))
    assert (actor.user, actor.token, actor.scope) == (viewer, None, Scope.READ)
    with pytest.raises(NotAuthenticated):
        ApiAuth()(request(authorization))


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE", "BREW"])
def test_a_session_changes_nothing_without_its_csrf_token(viewer, method):
    with pytest.raises(PermissionRefused):
        ApiAuth()(request(user=viewer, method=method))


@pytest.mark.urls("tests.accounts.urls")
def test_a_session_with_its_csrf_token_may(viewer, client_for):
    client: Client = client_for(viewer, enforce_csrf_checks=True)
    client.get("/login")
    client.get("/settings")
    token = client.cookies["vmm_csrf"].value
    body = {"name": "from the browser"}
    assert client.post("/api/v1/tokens", body, content_type="application/json").status_code == 403
    made = client.post("/api/v1/tokens", body, content_type="application/json", headers={"X-CSRFToken": token})
    assert made.status_code == 201
    wrong = {"X-CSRFToken": "x" * 64}
    assert client.post("/api/v1/tokens", body, content_type="application/json", headers=wrong).status_code == 403


def test_authorize_asks_the_policy(viewer):
    asked = request()
    asked.actor = Actor.of_user(viewer)
    authorize(access("view")(lambda: None), asked)
    with pytest.raises(PermissionRefused):
        authorize(access("vm.operate")(lambda: None), asked)
    with pytest.raises(PermissionRefused, match="declares no access"):
        authorize(lambda: None, asked)
    with pytest.raises(NotAuthenticated):
        authorize(access("view")(lambda: None), request())
    authorize(access(PUBLIC)(lambda: None), request())
