from __future__ import annotations

import re
import uuid

import pytest

from accounts.models import ApiToken
from tests.factories import PASSWORD, TokenFactory

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.accounts.urls")]

NEW = "an even longer passphrase"
HTMX = {"HX-Request": "true", "HX-Current-URL": "http://testserver/settings"}


@pytest.fixture
def browser(operator, client_for):
    return client_for(operator)


def form(browser, **values):
    page = browser.get("/settings").content.decode()
    chosen = re.search(r'name="id" value="([0-9a-f-]{36})"', page)[1]
    return {"id": chosen, "name": "ci", "scope": "write", "expires_in_days": "90", **values}


def test_the_page_shows_ones_own_tokens_without_what_they_are(browser, operator, admin):
    own, other = TokenFactory(user=operator, name="mine"), TokenFactory(user=admin, name="not mine")
    page = browser.get("/settings").content.decode()
    assert "mine" in page
    assert own.hint in page
    assert "not mine" not in page
    assert own.secret not in page
    assert other.hint not in page


def test_an_administrator_sees_his_own_there_too(client_for, admin, operator):
    TokenFactory(user=operator, name="of somebody else")
    assert b"of somebody else" not in client_for(admin).get("/settings").content


def test_a_token_is_made_and_shown_once(browser, operator):
    answer = browser.post("/settings/tokens", form(browser))
    assert answer.status_code == 200
    secret = re.search(r"vmm_[\w-]{43}", answer.content.decode())[0]
    token = ApiToken.objects.get()
    assert (token.digest, token.user) == (ApiToken.digest_of(secret), operator)
    assert "no-store" in answer["Cache-Control"]
    assert secret not in browser.get("/settings").content.decode()


def test_sending_the_form_again_makes_no_second_one(browser):
    data = form(browser)
    browser.post("/settings/tokens", data)
    again = browser.post("/settings/tokens", data)
    assert again.status_code == 422
    assert b"made already" in again.content
    assert ApiToken.objects.count() == 1


def test_htmx_gets_the_card_alone(browser):
    answer = browser.post("/settings/tokens", form(browser), headers=HTMX)
    assert answer.content.lstrip().startswith(b"<section")
    wrong = browser.post("/settings/tokens", form(browser, name=""), headers=HTMX)
    assert wrong.status_code == 200
    assert b'role="alert"' in wrong.content


@pytest.mark.parametrize(
    "values",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\0b"},
        {"name": "a\nb"},
        {"scope": "admin"},
        {"scope": "root"},
        {"expires_in_days": "1000000"},
        {"expires_in_days": "x"},
        {"id": "x"},
        {"id": ""},
    ],
)
def test_a_bad_form_says_so_and_makes_nothing(browser, values):
    answer = browser.post("/settings/tokens", form(browser, **values))
    assert answer.status_code == 422
    assert b'role="alert"' in answer.content
    assert not ApiToken.objects.exists()


def test_what_is_typed_is_never_markup(browser):
    name = "<script>alert(1)</script>"
    for answer in (
        browser.post("/settings/tokens", form(browser, name=name)),
        browser.post("/settings/tokens", form(browser, name=name, scope="root")),
        browser.get("/settings"),
    ):
        assert b"<script>alert" not in answer.content


def test_revoking_asks_first(browser, operator):
    token = TokenFactory(user=operator, name="old", scope="write")
    path = f"/settings/tokens/{token.pk}/revoke"
    asked = browser.get(path)
    assert b"Revoke old" in asked.content
    assert f"/api/v1/tokens/{token.pk}".encode() in asked.content, "the same as a call"
    assert ApiToken.objects.exists()
    assert browser.post(path)["Location"] == "/settings"
    assert not ApiToken.objects.exists()
    assert b"old opens nothing any more" in browser.get("/settings").content
    assert browser.post(path).status_code == 404


def test_somebody_elses_token_is_not_there(browser, admin):
    token = TokenFactory(user=admin)
    for call in (browser.get, browser.post):
        assert call(f"/settings/tokens/{token.pk}/revoke").status_code == 404
        assert call(f"/settings/tokens/{uuid.uuid4()}/revoke").status_code == 404
    assert ApiToken.objects.exists()


def password(browser, **values):
    data = {"old_password": PASSWORD, "new_password": NEW, "new_password_again": NEW, **values}
    return browser.post("/settings/password", data)


def test_a_new_password_ends_all_other_sessions_and_keeps_this_one(browser, operator, client_for):
    other = client_for(operator)
    assert password(browser)["Location"] == "/settings"
    operator.refresh_from_db()
    assert operator.check_password(NEW)
    assert browser.get("/settings").status_code == 200
    assert other.get("/settings").status_code == 302


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"old_password": "wrong"}, b"not your password"),
        ({"new_password_again": "different passphrase"}, b"differ"),
        ({"new_password": "short", "new_password_again": "short"}, b"too short"),
        ({"new_password": ""}, b"required"),
        ({"old_password": "x" * 2000}, b"at most 1000"),
    ],
)
def test_a_password_that_cannot_be_set_says_why(browser, operator, values, words):
    answer = password(browser, **values)
    assert answer.status_code == 422
    assert words in answer.content
    assert NEW.encode() not in answer.content
    operator.refresh_from_db()
    assert operator.check_password(PASSWORD)


def test_a_token_changes_no_password(operator, client):
    secret = TokenFactory(user=operator, scope="write").secret
    data = {"old_password": PASSWORD, "new_password": NEW, "new_password_again": NEW}
    answer = client.post("/settings/password", data, headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 422
    operator.refresh_from_db()
    assert operator.check_password(PASSWORD)


def test_looks_are_kept_in_cookies_one_at_a_time(browser):
    browser.post("/settings/display", {"theme": "dark"})
    browser.post("/settings/display", {"density": "compact"})
    page = browser.get("/settings").content
    assert b'data-theme="dark"' in page
    assert b'data-density="compact"' in page
    browser.post("/settings/display", {"theme": ""})
    page = browser.get("/settings").content
    assert b"data-theme=" not in page
    assert b'data-density="compact"' in page


@pytest.mark.parametrize("value", ['"><script>alert(1)</script>', "purple", "x" * 5000, "\u2028"])
def test_a_cookie_says_only_what_is_on_the_list(browser, value):
    answer = browser.post("/settings/display", {"theme": value})
    assert "theme" not in answer.cookies
    browser.cookies["theme"] = value.encode("ascii", "replace").decode()
    browser.cookies["density"] = "roomy"
    page = browser.get("/settings").content
    assert b"data-theme=" not in page
    assert b'data-density="roomy"' in page


def test_a_nonsense_cursor_shows_the_first_page(browser):
    assert browser.get("/settings?cursor=xyz")["Location"] == "/settings"


def test_the_pages_run_under_the_strict_policy(browser, operator):
    TokenFactory(user=operator)
    page = browser.get("/settings")
    assert "unsafe" not in page["Content-Security-Policy"]
    text = page.content.decode()
    assert not re.search(r"\son\w+=|\sstyle=|<style", text)
    assert not re.search(r"<script(?![^>]*(src=|application/json))", text)


def test_the_page_costs_the_same_however_many_tokens(browser, operator, django_assert_max_num_queries):
    TokenFactory.create_batch(40, user=operator)
    with django_assert_max_num_queries(10):
        browser.get("/settings")
