"""The OpenAPI document: current, complete, kept; and the API does what it says, whatever is thrown at it."""

from __future__ import annotations

import copy
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from core.rest import OFFSET_STREAM
from tests.factories import HypervisorFactory, NetworkFactory, TokenFactory, UserFactory, VMFactory, VolumeFactory
from vmmanager.management.commands.openapi import PATH, rendered
from vmmanager.openapi import breaking_changes

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT: dict[str, Any] = json.loads(rendered())


# -- the document --------------------------------------------------------------------------------------------------------
def test_the_committed_document_is_current() -> None:
    assert PATH.read_text(encoding="utf-8") == rendered(), "run manage.py openapi and look at the difference"
    call_command("openapi", "--check")


def test_nothing_that_somebody_relies_on_went_away() -> None:
    assert breaking_changes(json.loads(PATH.read_text(encoding="utf-8")), DOCUMENT) == []


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, one) for path, methods in DOCUMENT["paths"].items() for method, one in methods.items()]


def test_every_call_is_named_tagged_and_says_its_errors() -> None:
    ids = [one["operationId"] for _, _, one in operations()]
    assert len(ids) == len(set(ids))
    for path, method, one in operations():
        assert one["tags"], path
        assert one["summary"], path
        assert {"401", "403", "422"} <= set(one["responses"]), path
        if "{" in path:
            assert "404" in one["responses"], path
        if method in ("patch", "put", "delete"):
            assert "412" in one["responses"], path
        if method == "post":
            assert any(parameter["name"] == "Idempotency-Key" for parameter in one["parameters"]), path
        for status, answer in one["responses"].items():
            if int(status) >= HTTPStatus.BAD_REQUEST:
                assert "application/problem+json" in answer["content"], (path, status)


def test_the_document_is_valid_openapi_31() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    schemathesis.openapi.from_dict(copy.deepcopy(DOCUMENT)).validate()


# -- the guard -------------------------------------------------------------------------------------------------------------
def change(*path: str, to: Any = None, remove: bool = False) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    part = document
    for key in path[:-1]:
        part = part[key]
    if remove:
        del part[path[-1]]
    else:
        part[path[-1]] = to
    return document


VMS, SHAPES = ("paths", "/api/v1/vms", "get"), ("components", "schemas")


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (change("paths", "/api/v1/vms", remove=True), "/api/v1/vms is gone"),
        (change(*VMS, remove=True), "GET /api/v1/vms is gone"),
        (change(*VMS, "operationId", to="vms"), "operationId"),
        (change(*VMS, "parameters", to=[]), "parameter state is gone"),
        (change(*VMS, "responses", "200", remove=True), "no longer answered with 200"),
        (change(*SHAPES, "VMOut", "properties", "name", remove=True), "field name is gone"),
        (change(*SHAPES, "VMOut", "properties", "vcpus", "type", to="string"), "integer became string"),
        (change(*SHAPES, "VMOut", "required", to=["id"]), "may be absent now"),
        (
            change(*SHAPES, "VMOut", "properties", "name", to={"anyOf": [{"type": "string"}, {"type": "null"}]}),
            "null now",
        ),
        (change(*SHAPES, "DiskOut", "properties", "target", remove=True), "field target is gone"),
        (change(*SHAPES, "HostIn", "required", to=["name", "tags"]), "field tags is required now"),
        (change(*SHAPES, "HostIn", "properties", "name", "maxLength", to=10), "maxLength fell to 10"),
        (change(*SHAPES, "ConsoleIn", "properties", "type", "enum", to=["vnc"]), "serial is refused now"),
        (change(*SHAPES, "HostChange", "properties", "tags", remove=True), "field tags is gone"),
    ],
)
def test_a_breaking_change_is_named(now: dict[str, Any], said: str) -> None:
    assert any(said in sentence for sentence in breaking_changes(DOCUMENT, now))


@pytest.mark.parametrize(
    "now",
    [
        DOCUMENT,
        change("paths", "/api/v1/new", to={"get": {"operationId": "new", "responses": {}}}),
        change(*SHAPES, "VMOut", "properties", "extra", to={"type": "string"}),
        change(*SHAPES, "HostIn", "properties", "extra", to={"type": "string"}),
        change(*SHAPES, "HostIn", "properties", "name", "maxLength", to=1000),
    ],
)
def test_an_addition_breaks_nothing(now: dict[str, Any]) -> None:
    assert breaking_changes(DOCUMENT, now) == []


# -- everything, thrown at ---------------------------------------------------------------------------------------------------
@pytest.fixture
def fleet(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """One of each, for paths that lead somewhere; nobody carries operations out and nobody waits for them."""
    for signal in (
        request_started,
        request_finished,
    ):  # as Django's own test client does: the test's transaction stays open
        signal.disconnect(close_old_connections)
    monkeypatch.setattr("operations.doorbell.ring", lambda *_a, **_k: None)
    monkeypatch.setattr("hosts.api.PROBE_WAIT_SECONDS", 0)
    monkeypatch.setattr("vms.services.READING_WAIT_SECONDS", 0)
    monkeypatch.setattr("vms.api.AUTOSTART_WAIT_SECONDS", 0)
    monkeypatch.setattr("operations.answers.CHANGE_WAIT_SECONDS", 0)
    monkeypatch.setattr("operations.engine.bell.wait_until", lambda *_a, **_k: False)
    vm = VMFactory(hypervisor=HypervisorFactory(), consoles=["serial"], state="running")
    volume, network = VolumeFactory(), NetworkFactory()
    yield {
        "vm_id": str(vm.pk),
        "host_id": str(vm.hypervisor.host_id),
        "hypervisor_id": str(vm.hypervisor_id),
        "pool_id": str(volume.pool_id),
        "volume_id": str(volume.pk),
        "network_id": str(network.pk),
        # Not as they are generated: percent-encoded on their way they no longer look like what the document says.
        "mac": "52:54:00:00:00:01",
        "key": "serial/0",
    }
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture(params=["administrator", "viewer"])
def token(request: pytest.FixtureRequest, db: None) -> str:
    user = UserFactory(role=request.param)
    return str(TokenFactory(user=user, scope=user.scope).secret)


schemathesis.serializer.alias(OFFSET_STREAM, "application/octet-stream")
raw = copy.deepcopy(DOCUMENT)
document = schemathesis.openapi.from_dict(raw)
document.app = get_wsgi_application()
"""In this process, through every middleware."""

document.config.checks.negative_data_rejection.expected_statuses = ["400", "403", "404", "409", "413", "415", "422"]


def no_fault_of_ours(_ctx: Any, response: Any, _case: Any) -> None:
    """Nobody carries operations out in this test, so that what has to wait for one is 504; every other 5xx is a fault."""
    assert response.status_code < 500 or response.status_code == 504, response.text


CHECKS = [
    no_fault_of_ours,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@document.parametrize()
@settings(
    max_examples=8,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_whatever_is_sent_the_answer_is_as_described(case: Any, fleet: dict[str, str], token: str) -> None:
    known = {name: fleet[name] for name in case.path_parameters or {} if name in fleet}
    if case.method != "DELETE":
        case.path_parameters = {**(case.path_parameters or {}), **known}
    case.headers = {**(case.headers or {}), "Authorization": f"Bearer {token}", "Accept-Encoding": "identity"}
    case.call_and_validate(checks=CHECKS)
