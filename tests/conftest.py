"""What every test may use."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import cache
from django.test import Client

from accounts.choices import Role
from tests.factories import TokenFactory, UserFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from accounts.models import User

pytest_plugins = [
    "tests.labs.fixtures",  # first: the others use it, and pytest rewrites a module's asserts as it loads it
    "tests.labs.engines",
    "tests.labs.esx",
    "tests.labs.hyperv",
    "tests.labs.openvz",
    "tests.labs.workstation",
    "tests.labs.xapi",
    "tests.labs.xen",
    "tests.scorecard",
    "tests.services",
]


# -- people and how they come in -----------------------------------------------------------------------------------------
@pytest.fixture(autouse=True)
def _fresh_cache() -> Iterator[None]:
    """Counts of failed tries live in the cache, and must not reach the next test."""
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def admin(db: None) -> User:
    """An administrator."""
    return UserFactory(username="ada", role=Role.ADMINISTRATOR)


@pytest.fixture
def operator(db: None) -> User:
    """Somebody who may do to guests what can be done."""
    return UserFactory(username="olga", role=Role.OPERATOR)


@pytest.fixture
def viewer(db: None) -> User:
    """Somebody who may look."""
    return UserFactory(username="vera", role=Role.VIEWER)


@pytest.fixture
def client_for() -> Callable[..., Client]:
    """A browser of `user`, signed in. CSRF is not asked for unless `enforce_csrf_checks=True`."""

    def make(user: User, **options: Any) -> Client:
        client = Client(**options)
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return make


class Api:
    """A program with a bearer token: `api.get("/vms")` is `GET /api/v1/vms`; bodies are JSON."""

    def __init__(self, secret: str, **options: Any) -> None:
        self.secret = secret
        self.client = Client(**options)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Header names with `_` for `-`: `If_Match='"1"'`."""
        sent = {"Authorization": f"Bearer {self.secret}"} if self.secret else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = "" if body is None else body if isinstance(body, str | bytes) else json.dumps(body)
        kind = "application/json"
        return self.client.generic(method, f"/api/v1{path}", data, content_type=kind, headers=sent)

    def get(self, path: str, **headers: str) -> Any:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.call("POST", path, body, **headers)

    def put(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.call("PUT", path, body, **headers)

    def patch(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.call("PATCH", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Any:
        return self.call("DELETE", path, **headers)

    @staticmethod
    def of(user: User, scope: str | None = None, **token: Any) -> Api:
        """Another program: with a token of `user`, as wide as he is unless `scope` says otherwise."""
        return Api(TokenFactory(user=user, scope=scope or user.scope, **token).secret)


@pytest.fixture
def api(admin: User) -> Api:
    """A program of an administrator; `api.of(user)` makes others."""
    return Api.of(admin)
