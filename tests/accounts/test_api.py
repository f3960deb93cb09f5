from __future__ import annotations

import datetime as dt
import uuid

import pytest
from django.utils import timezone

from accounts.models import ApiToken, User
from events.models import Event
from tests.conftest import Api
from tests.factories import TokenFactory, UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.accounts.urls")]

TOKEN_KEYS = {"id", "name", "scope", "hint", "user", "expires_at", "last_used_at", "created_at"}


# -- tokens
def test_a_token_is_made_shown_once_and_works(api):
    made = api.post("/tokens", {"name": "ci", "scope": "write", "expires_at": "2099-01-02T03:04:05Z"})
    assert made.status_code == 201
    body = made.json()
    assert set(body) == TOKEN_KEYS | {"token"}
    assert body["expires_at"] == "2099-01-02T03:04:05.000Z"
    assert made["Location"] == f"/api/v1/tokens/{body['id']}"
    assert "no-store" in made["Cache-Control"]
    again = api.get(f"/tokens/{body['id']}")
    assert set(again.json()) == TOKEN_KEYS
    assert again["ETag"].startswith('"1-')
    assert Api(body["token"]).get("/me").json()["scope"] == "write"


def test_neither_secret_nor_digest_is_ever_listed(api, admin):
    token = TokenFactory(user=admin)
    for path in ("/tokens", f"/tokens/{token.pk}", "/me"):
        text = api.get(path).content.decode()
        assert token.secret not in text
        assert token.digest not in text
        assert "digest" not in text


def test_the_list_is_paged_and_nothing_is_lost_between(api, admin):
    names = sorted(TokenFactory(user=admin, name=f"t{n:02}").name for n in range(7))
    seen, cursor = [], ""
    while cursor is not None:
        page = api.get(f"/tokens?limit=3&q=t&cursor={cursor}").json()
        assert set(page) == {"items", "total", "next"}
        seen += [item["name"] for item in page["items"]]
        cursor = page["next"]
    assert [name for name in seen if name in names] == names


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=x", "ordering=digest", "cursor=x", "ordering=-user__password"]
)
def test_a_nonsense_query_is_422(api, query):
    assert api.get(f"/tokens?{query}").status_code == 422
    assert api.get(f"/users?{query}").status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        None,
        "{",
        "[[[[",
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\0b"},
        {"name": 1},
        {"name": None},
        {"name": "x", "scope": "root"},
        {"name": "x", "scope": ["admin"]},
        {"name": "x", "expires_at": "tomorrow"},
        {"name": "x", "expires_at": "2001-01-01T00:00:00Z"},
        {"name": "x", "expires_at": "2099-01-01T00:00:00"},
        {"name": "x", "expires_at": 10**30},
        {"name": "x", "user": "olga"},
        {"name": "x", "digest": "0" * 64},
        {"name": "x", "id": str(uuid.uuid4())},
        {"name": "\ud800"},
    ],
)
def test_a_bad_body_makes_nothing(api, body):
    before = ApiToken.objects.count()
    assert api.post("/tokens", body).status_code in (400, 422)
    assert ApiToken.objects.count() == before


def test_a_token_cannot_make_a_wider_or_longer_one(admin, viewer):
    end = timezone.now() + dt.timedelta(hours=1)
    narrow = Api.of(admin, "write", expires_at=end)
    assert narrow.post("/tokens", {"name": "x", "scope": "admin"}).status_code == 403
    later = (end + dt.timedelta(hours=1)).isoformat()
    assert narrow.post("/tokens", {"name": "x", "expires_at": later}).json()["code"] == "permission_denied"
    assert Api.of(viewer).post("/tokens", {"name": "x", "scope": "write"}).status_code == 403


def test_somebody_elses_token_is_not_there(api, viewer, admin):
    other = TokenFactory(user=admin)
    vera = Api.of(viewer)
    assert vera.get(f"/tokens/{other.pk}").status_code == 404
    assert vera.delete(f"/tokens/{other.pk}").status_code == 404
    assert vera.get("/tokens").json()["total"] == 1
    assert {item["user"] for item in api.get("/tokens?user=vera").json()["items"]} == {"vera"}


def test_a_revoked_token_is_refused_at_once(api, viewer):
    vera = Api.of(viewer)
    own = vera.get("/tokens").json()["items"][0]["id"]
    assert vera.delete(f"/tokens/{own}", If_Match='"7"').status_code == 412
    assert vera.delete(f"/tokens/{own}", If_Match='"1"').status_code == 204
    answer = vera.get("/me")
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert api.delete(f"/tokens/{own}").status_code == 404
    assert Event.objects.filter(type="audit.token_revoked", object=f"token/{own}").count() == 1


# -- users
def test_users_are_made_changed_and_removed(api):
    made = api.post("/users", {"name": "bob", "role": "operator", "password": "a long passphrase"})
    assert made.status_code == 201
    assert set(made.json()) == {"id", "name", "role", "active", "last_login_at", "created_at"}
    path = made["Location"].removeprefix("/api/v1")
    changed = api.patch(path, {"role": "viewer", "active": False}, If_Match=made["ETag"])
    assert (changed.json()["role"], changed.json()["active"]) == ("viewer", False)
    assert api.patch(path, {"role": "operator"}, If_Match=made["ETag"]).json()["code"] == "stale"
    assert api.patch(path, {"password": "another passphrase"}).status_code == 200
    assert User.objects.get(username="bob").check_password("another passphrase")
    assert api.delete(path, If_Match=changed["ETag"]).status_code == 204
    assert api.get(path).status_code == 404


def test_no_answer_holds_a_password(api):
    api.post("/users", {"name": "bob", "password": "a long passphrase"})
    text = api.get("/users").content.decode()
    assert "password" not in text
    assert "argon2" not in text


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "a b"}, "/name"),
        ({"name": "system"}, "/name"),
        ({"name": "bob", "password": "weak"}, "/password"),
        ({"name": "bob\0"}, "/name"),
    ],
)
def test_a_bad_user_says_where(api, body, pointer):
    answer = api.post("/users", body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    "body", [{"name": "b", "is_superuser": True}, {"name": "b", "role": "root"}, {"name": ""}, {"name": "x" * 151}]
)
def test_an_impossible_user_is_422(api, body):
    assert api.post("/users", body).status_code == 422
    assert User.objects.count() == 1


def test_a_taken_name_is_409(api):
    assert api.post("/users", {"name": "ADA"}).json()["code"] == "already_exists"


def test_nobody_locks_himself_out_by_api(api, admin):
    UserFactory(role="administrator")
    for call in (lambda: api.delete(f"/users/{admin.pk}"), lambda: api.patch(f"/users/{admin.pk}", {"role": "viewer"})):
        assert (call().status_code, call().json()["code"]) == (409, "conflict")


@pytest.mark.parametrize("role", ["operator", "viewer"])
def test_users_are_for_administrators(role, request, viewer):
    program = Api.of(request.getfixturevalue(role))
    for method, path in [("GET", "/users"), ("POST", "/users"), ("GET", f"/users/{viewer.pk}"),
                         ("PATCH", f"/users/{viewer.pk}"), ("DELETE", f"/users/{viewer.pk}")]:  # fmt: skip
        answer = program.call(method, path, {"name": "x"} if method == "POST" else {} if method == "PATCH" else None)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")


def test_me_is_the_narrower_of_role_and_token(admin, operator):
    me = Api.of(admin, "read").get("/me").json()
    assert (me["name"], me["role"], me["scope"]) == ("ada", "administrator", "read")
    assert set(me["token"]) == TOKEN_KEYS
    assert Api.of(operator, "admin").get("/me").json()["scope"] == "write"


def test_roles_say_what_they_open(viewer):
    roles = {role["name"]: role for role in Api.of(viewer).get("/roles").json()["items"]}
    assert "vm.operate" not in roles["viewer"]["verbs"]
    assert "vm.operate" in roles["operator"]["verbs"]
    assert set(roles["operator"]["verbs"]) < set(roles["administrator"]["verbs"])


def test_lists_cost_the_same_however_long(api, admin, django_assert_max_num_queries):
    TokenFactory.create_batch(30, user=admin)
    UserFactory.create_batch(30)
    api.get("/me")
    for path in ("/tokens?limit=500", "/users?limit=500"):
        with django_assert_max_num_queries(3):
            assert len(api.get(path).json()["items"]) > 30 - 1
