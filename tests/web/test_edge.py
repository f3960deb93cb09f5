"""Whatever is wrong, the answer is a problem document; nobody gets past the gate."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from ninja import NinjaAPI

from core.rest import BODY_MAX
from tests.factories import VMFactory
from vmmanager.body import BodyLimit
from vmmanager.dispatch import guarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User
    from tests.conftest import Api

pytestmark = pytest.mark.django_db


def check_problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = json.loads(answer.content)
    assert (body["status"], body["code"], body["type"]) == (status, code, f"/problems/{code}")
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == answer["X-Request-Id"]
    return body


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/v1/", "/api/v1/nothing", "/api/v2/vms", "/api/v1/vms/"])
def test_an_unknown_path_is_a_problem(path: str, client: Client) -> None:
    answer = client.get(path)
    if path != "/api/v1/":
        check_problem(answer, 404, "not_found")


def test_the_entrance_lists_features(api: Api) -> None:
    body = api.get("").json()
    assert {"vms", "actions.start", "drivers.qemu", "vms.bulk"} <= set(body["features"])
    assert body["version"]


def test_nobody_enters_without_a_token(client: Client) -> None:
    answer = client.get("/api/v1/vms")
    check_problem(answer, 401, "not_authenticated")
    assert answer["WWW-Authenticate"].startswith("Bearer")
    bad = client.get("/api/v1/vms", headers={"Authorization": "Bearer vmm_nonsense"})
    check_problem(bad, 401, "not_authenticated")


def test_a_browser_needs_its_csrf_token(admin: User, client_for: Callable[..., Client]) -> None:
    vm = VMFactory()
    browser = client_for(admin, enforce_csrf_checks=True)
    assert browser.get(f"/api/v1/vms/{vm.pk}").status_code == 200
    refused = browser.patch(f"/api/v1/vms/{vm.pk}", "{}", content_type="application/json")
    check_problem(refused, 403, "permission_denied")


def test_what_is_refused_comes_before_what_is_wrong(api: Api, viewer: User) -> None:
    """Somebody who may not call it learns nothing about its values."""
    check_problem(api.of(viewer).post("/hosts?colour=1", "{"), 403, "permission_denied")


def test_a_method_that_is_not_there(api: Api) -> None:
    answer = api.put("/vms", {})
    check_problem(answer, 405, "method_not_allowed")
    assert set(answer["Allow"].split(", ")) == {"GET", "POST"}


def test_head_is_get_without_a_body(api: Api) -> None:
    VMFactory()
    head, get = api.call("HEAD", "/vms"), api.get("/vms")
    assert (head.status_code, head.content) == (200, b"")
    assert head["Content-Length"] == get["Content-Length"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("{", 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        ("[" * 100_000, 400, "invalid_json"),
        ('{"title": NaN}', 400, "invalid_json"),
        ("1" * 5000, 400, "invalid_json"),
        ("[]", 422, "invalid_input"),
        ("null", 422, "invalid_input"),
        ('"x"', 422, "invalid_input"),
        ('{"title": "\\u0000"}', 422, "invalid_input"),
        ('{"title": "\\ud800"}', 422, "invalid_input"),
        ('{"a\\u0000": 1}', 422, "invalid_input"),
        ('{"title": "x", "colour": 1}', 422, "invalid_input"),
    ],
)
def test_a_body_that_cannot_be_read(api: Api, body: Any, status: int, code: str) -> None:
    check_problem(api.patch(f"/vms/{VMFactory().pk}", body), status, code)


def test_escapes_that_are_only_text_are_taken(api: Api) -> None:
    vm = VMFactory()
    title = "\\u0000 \U0001f600"
    assert api.patch(f"/vms/{vm.pk}", {"title": title}).json()["title"] == title


def test_another_media_type_is_415(api: Api) -> None:
    vm = VMFactory()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = api.client.generic(
            "PATCH", f"/api/v1/vms/{vm.pk}", "{}", kind, headers={"Authorization": f"Bearer {api.secret}"}
        )
        check_problem(answer, 415, "unsupported_media_type")


def test_a_body_where_none_is_taken(api: Api) -> None:
    vm = VMFactory()
    assert api.post(f"/hosts/{vm.hypervisor.host_id}/refresh", {}).status_code == 200
    check_problem(api.post(f"/hosts/{vm.hypervisor.host_id}/refresh", {"now": True}), 422, "invalid_input")


def test_too_much_is_413_unread(api: Api) -> None:
    answer = api.post("/hosts", b"x" * (BODY_MAX + 1))
    check_problem(answer, 413, "too_large")


def test_an_unknown_fault_tells_nothing_but_its_request_id(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("planted secret")

    monkeypatch.setattr("vms.api.vm_page", broken)
    with caplog.at_level(logging.ERROR):
        answer = api.get("/vms")
    check_problem(answer, 500, "internal_error")
    assert "planted" not in answer.content.decode()
    assert any(record.exc_info and "planted" in str(record.exc_info[1]) for record in caplog.records)


def test_a_database_that_is_away_is_503(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise OperationalError("no connection")

    monkeypatch.setattr("vms.api.vm_page", away)
    check_problem(api.get("/vms"), 503, "database_unavailable")


def test_an_operation_without_a_verb_stops_the_start() -> None:
    bare = NinjaAPI(urls_namespace="bare")
    bare.add_decorator(guarded, mode="view")

    @bare.get("/open")
    def open_door(request: Any) -> str:
        return "come in"

    with pytest.raises(ImproperlyConfigured, match="open_door"):
        _ = bare.urls


def test_the_reference_is_a_page_under_our_policy(
    admin: User, client_for: Callable[..., Client], client: Client
) -> None:
    answer = client_for(admin).get("/api/v1/docs")
    assert answer.status_code == 200
    assert b"/api/v1/vms/{vm_id}/actions/{action}" in answer.content
    assert b"http://" not in answer.content.replace(b"http://www.w3.org", b"")
    assert client.get("/api/v1/docs").status_code == 401


def test_health_needs_no_sign_in_and_metrics_does(client: Client, api: Api, viewer: User) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").status_code in (200, 503)
    assert client.get("/metrics").status_code in (302, 401)
    token = api.of(viewer, scope="read").secret
    text = client.get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert text.status_code == 200
    assert b"vmm_build_info" in text.content


# -- the door of the server ----------------------------------------------------------------------------------------------
async def through_the_door(messages: list[dict[str, Any]], headers: list[tuple[bytes, bytes]]) -> tuple[list[Any], int]:
    """What is sent, and how many bytes of the body the application saw."""
    sent: list[Any] = []
    seen = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal seen
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            seen += len(message["body"])
            if not message.get("more_body"):
                await send({"type": "http.response.start", "status": 200, "headers": []})
                return

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/api/v1/hosts", "headers": headers}
    await BodyLimit(app)(scope, receive, send)
    return sent, seen


async def test_an_announced_body_that_is_too_long_is_not_read() -> None:
    sent, seen = await through_the_door([], [(b"content-length", str(BODY_MAX + 1).encode())])
    assert (sent[0]["status"], seen) == (413, 0)
    assert json.loads(sent[1]["body"])["code"] == "too_large"


async def test_a_body_without_a_length_is_cut_off() -> None:
    chunk = {"type": "http.request", "body": b"x" * 1_000_000, "more_body": True}
    sent, seen = await through_the_door([dict(chunk) for _ in range(100)], [])
    assert [message.get("status") for message in sent] == [413, None]
    assert seen <= BODY_MAX


async def test_a_body_of_just_the_size_passes() -> None:
    sent, seen = await through_the_door([{"type": "http.request", "body": b"x" * BODY_MAX}], [])
    assert (sent[0]["status"], seen) == (200, BODY_MAX)
