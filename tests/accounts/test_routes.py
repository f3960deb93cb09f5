"""Every way in, walked: who adds an address gets these tests with it.

Ids in addresses are those of rows in SAMPLES where there is one, else of nothing: then 404 is as good as 403, but neither 200
nor 500 ever is.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from django.apps import apps
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.access import verb_of
from accounts.choices import Scope
from accounts.middleware import declared_verb, path_view
from accounts.policy import PUBLIC, VERBS
from tests.factories import TokenFactory, UserFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.django_db

MISSING = uuid.UUID(int=0)
PARAMETER = re.compile(r"<(?:(?P<kind>\w+):)?(?P<name>\w+)>")

# How a row for `<…_id>` is made, where nothing else is needed for it. Others add theirs.
SAMPLES: dict[str, Callable[[], Any]] = {
    "token_id": lambda: TokenFactory().pk,
    "user_id": lambda: UserFactory().pk,
}

# Ways in that are open on purpose. A new one is a decision, and is made here.
OPEN = {"/login", "/logout", "/healthz", "/readyz"}


@dataclass(frozen=True)
class Way:
    """One address, one method, and what it declares."""

    route: str
    method: str
    verb: str | None

    def __str__(self) -> str:
        return f"{self.method} {self.route}"

    @property
    def needs(self) -> Scope | None:
        """The scope, None for what is open to all."""
        return None if self.verb in (PUBLIC, None) else VERBS[self.verb]

    def url(self) -> str:
        def value(match: re.Match[str]) -> str:
            kind, name = match["kind"], match["name"]
            if name in SAMPLES:
                return str(SAMPLES[name]())
            if kind == "int" or name == "n":
                return "1"
            return str(MISSING) if kind == "uuid" or name.endswith("id") else "x"

        return PARAMETER.sub(value, self.route)


def patterns(resolver: URLResolver, before: str = "/") -> Iterator[tuple[str, URLPattern]]:
    for entry in resolver.url_patterns:
        route = getattr(entry.pattern, "_route", None)
        assert route is not None, f"{entry.pattern} is a regular expression: this walk cannot fill it in"
        if isinstance(entry, URLResolver):
            yield from patterns(entry, before + route)
        else:
            yield before + route, entry


def walk() -> Iterator[Way]:
    for route, entry in patterns(get_resolver("vmmanager.urls")):
        view = path_view(entry.callback)
        if view is None:
            for method in ("GET", "POST"):
                yield Way(route, method, declared_verb(entry.callback))
        else:
            for operation in view.operations:
                for method in operation.methods:
                    yield Way(route, method, verb_of(operation.view_func))


WAYS = list(walk())
CLOSED = [way for way in WAYS if way.verb != PUBLIC]


def ask(client: Client, way: Way, **headers: str) -> Any:
    kind = "application/json" if way.route.startswith("/api/") else "application/x-www-form-urlencoded"
    body = "{}" if way.route.startswith("/api/") and way.method in ("POST", "PUT", "PATCH") else ""
    client.raise_request_exception = False
    return client.generic(way.method, way.url(), body, content_type=kind, headers=headers)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_it_declares_what_it_needs(way):
    assert way.verb == PUBLIC or way.verb in VERBS


def test_what_is_open_is_open_on_purpose():
    assert {way.route for way in WAYS if way.verb == PUBLIC} <= OPEN


@pytest.mark.parametrize("way", CLOSED, ids=str)
def test_nobody_gets_in(way):
    answer = ask(Client(), way)
    if answer.status_code == 302:
        assert answer["Location"].partition("?")[0] == "/login"
    elif answer.status_code == 405:
        # Nothing stands behind this method at this address, for nobody; that is asked before who asks.
        assert way.method not in answer["Allow"]
        return
    else:
        assert answer.status_code == 401
        assert answer.json()["code"] == "not_authenticated"
    bad = ask(Client(), way, Authorization="Bearer vmm_nonsense")
    assert bad.status_code == 401


@pytest.mark.parametrize("way", [way for way in CLOSED if way.needs != Scope.READ], ids=str)
def test_a_viewer_changes_nothing(way, viewer, client_for):
    assert ask(client_for(viewer), way).status_code in refused(way)
    token = TokenFactory(user=UserFactory(role="administrator"), scope="read")
    assert ask(Client(), way, Authorization=f"Bearer {token.secret}").status_code in refused(way)


@pytest.mark.parametrize("way", [way for way in CLOSED if way.needs == Scope.ADMIN], ids=str)
def test_an_operator_administers_nothing(way, operator, client_for):
    assert ask(client_for(operator), way).status_code in refused(way)


def refused(way: Way) -> tuple[int, ...]:
    """403; 404 too where the address names a row that is not there."""
    return (403, 404) if str(MISSING) in way.url() else (403,)


@pytest.mark.parametrize("way", [w for w in WAYS if w.method == "GET" and "<" not in w.route], ids=str)
def test_a_get_changes_nothing(way, admin, client_for):
    client = client_for(admin)
    before = everything()
    answer = ask(client, way)
    assert answer.status_code < 500 or answer.status_code == 503
    assert everything() == before


@pytest.mark.parametrize("way", [w for w in WAYS if "<" in w.route], ids=str)
def test_a_row_that_is_not_there_is_missing(way, admin, client_for):
    absent = PARAMETER.sub(lambda match: "1" if match["kind"] == "int" else str(MISSING), way.route)
    answer = ask(client_for(admin), Way(absent, way.method, way.verb))
    assert answer.status_code in (404, 405, 409, 415, 422)


def everything() -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    return {
        model._meta.label: sorted(model._default_manager.values_list(), key=repr)
        for model in apps.get_models(include_auto_created=True)
    }
