from __future__ import annotations

import logging
from functools import partial, wraps

import pytest
from django.test import Client
from django.views import View

from accounts.access import access, verb_of
from accounts.policy import PUBLIC
from tests.factories import TokenFactory

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.accounts.urls")]


@pytest.mark.parametrize("path", ["/unmarked", "/unmarked-class"])
def test_a_page_without_a_mark_is_refused_to_everybody_and_logged(path, admin, client_for, caplog):
    caplog.set_level(logging.ERROR, "accounts.middleware")
    assert client_for(admin).get(path).status_code == 403
    assert Client().get(path).status_code == 403
    assert "declares no access" in caplog.text


@pytest.mark.parametrize("path", ["/class", "/wrapped", "/partial", "/read"])
def test_a_mark_is_found_through_classes_wrappers_and_partials(path, viewer, client_for):
    assert client_for(viewer).get(path).status_code == 200
    assert Client().get(path).status_code == 302


def test_a_public_page_needs_nobody_and_knows_who_is_there(viewer, client_for, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert Client().get("/open").content == b"nobody"
    assert client_for(viewer).get("/open").content == b"vera"


@pytest.mark.parametrize(
    ("path", "role", "status"),
    [
        ("/act", "viewer", 403),
        ("/act", "operator", 200),
        ("/admin-only", "operator", 403),
        ("/admin-only", "admin", 200),
    ],
)
def test_the_role_decides(path, role, status, client_for, request):
    assert client_for(request.getfixturevalue(role)).get(path).status_code == status


def test_nobody_is_sent_to_sign_in_and_back():
    answer = Client().get("/read?q=state:running&x=1")
    assert answer.status_code == 302
    assert answer["Location"] == "/login?next=%2Fread%3Fq%3Dstate%3Arunning%26x%3D1"


def test_nobody_sending_a_form_comes_back_to_its_page_and_not_to_its_target():
    answer = Client().post("/class", headers={"Referer": "http://testserver/read?x=1"})
    assert answer["Location"] == "/login?next=%2Fread%3Fx%3D1"
    # Only the path of a foreign page is kept, so nobody is led there.
    answer = Client().post("/class", headers={"Referer": "http://evil.example//evil.example/x"})
    assert answer["Location"] == "/login"


def test_htmx_without_a_session_is_told_where_to_go():
    answer = Client().get("/read", headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/vms?q=a"})
    assert answer.status_code == 401
    assert answer["HX-Redirect"] == "/login?next=%2Fvms%3Fq%3Da"
    assert answer.json()["code"] == "not_authenticated"


@pytest.mark.parametrize(
    "headers",
    [{"Accept": "application/json"}, {"Accept": "application/openmetrics-text"}, {"Authorization": "Bearer x"}],
)
def test_a_program_without_a_session_gets_a_problem(headers):
    answer = Client().get("/read", headers=headers)
    assert answer.status_code == 401
    assert answer["Content-Type"] == "application/problem+json"
    assert answer["WWW-Authenticate"].startswith("Bearer")
    body = answer.json()
    assert body["code"] == "not_authenticated"
    assert body["request_id"] == answer["X-Request-Id"]


def test_refusals_come_as_page_or_problem(viewer, client_for):
    client = client_for(viewer)
    page = client.get("/admin-only", headers={"Accept": "text/html"})
    assert page.status_code == 403
    assert b"Your role does not allow this" in page.content
    problem = client.get("/admin-only", headers={"HX-Request": "true"})
    assert problem.json()["code"] == "permission_denied"


def test_our_errors_out_of_a_page_become_its_answer(viewer, client_for):
    client = client_for(viewer)
    assert client.get("/bad", headers={"Accept": "application/json"}).json()["errors"][0]["pointer"] == "/x"
    page = client.get("/broken")
    assert page.status_code == 409
    assert b"Two at once." in page.content


def test_a_token_opens_pages_that_programs_read(viewer):
    secret = TokenFactory(user=viewer, scope="read").secret
    assert Client().get("/read", headers={"Authorization": f"Bearer {secret}"}).content == b"vera"
    assert Client().get("/act", headers={"Authorization": f"Bearer {secret}"}).status_code == 403


def test_a_user_who_was_deactivated_is_nobody(viewer, client_for):
    client = client_for(viewer)
    viewer.is_active = False
    viewer.save()
    assert client.get("/read").status_code == 302


def test_an_unknown_verb_cannot_be_declared():
    with pytest.raises(ValueError, match="nonsense"):
        access("nonsense")


def test_verb_of_finds_the_outermost_mark():
    def inner(): ...

    @wraps(access("view")(inner))
    def outer(): ...

    assert verb_of(outer) == "view"
    assert verb_of(access(PUBLIC)(outer)) == PUBLIC
    assert verb_of(partial(partial(inner))) == "view"
    assert verb_of(access("vm.edit")(type("Page", (View,), {})).as_view()) == "vm.edit"
    assert verb_of(lambda: None) is None
    assert verb_of(None) is None


def test_wrappers_in_a_circle_end():
    def one(): ...
    def two(): ...

    one.__wrapped__, two.__wrapped__ = two, one
    assert verb_of(one) is None
