"""The host doctor of a hypervisor that is there: with the credentials that it has, which no one sees."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.db import connection

from accounts.actor import Actor
from core.errors import Missing, PermissionRefused, Stale
from hosts import actions, services
from hosts.models import Hypervisor
from operations import engine
from tests.factories import HypervisorFactory

if TYPE_CHECKING:
    from accounts.models import User
    from drivers.types import Endpoint
    from operations.models import Operation

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "geheim-4711"


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Endpoint]:
    """The endpoints that the real probe was given."""
    seen: list[Endpoint] = []
    real = actions.probe

    def probe(endpoint: Endpoint, *rest: Any, **options: Any) -> Any:
        seen.append(endpoint)
        return real(endpoint, *rest, **options)

    monkeypatch.setattr(actions, "probe", probe)
    return seen


@pytest.fixture
def saved(db: None) -> Hypervisor:
    return HypervisorFactory(
        driver="test", uri="test:///default", credentials={"username": "vmm", "password": SECRET}, state="offline"
    )


def run(operation: Operation) -> Operation:
    engine.execute(operation.pk)
    operation.refresh_from_db()
    return operation


def test_a_saved_hypervisor_is_tried_with_its_own_credentials(
    saved: Hypervisor, admin: User, tried: list[Endpoint]
) -> None:
    operation = run(services.hypervisor_probe(hypervisor=saved, by=Actor.of_user(admin)))
    assert operation.state == "succeeded", operation.error
    assert operation.result is not None
    assert operation.result["ok"], operation.result
    (endpoint,) = tried
    assert endpoint.uri == "test:///default"
    assert endpoint.credentials is not None
    assert (endpoint.credentials.username, endpoint.credentials.password) == ("vmm", SECRET)


def test_a_saved_hypervisor_that_moved_meanwhile_is_tried_where_its_credentials_belong(
    saved: Hypervisor, admin: User, tried: list[Endpoint]
) -> None:
    operation = services.hypervisor_probe(hypervisor=saved, by=Actor.of_user(admin))
    here = settings.DATA_DIR / "moved.xml"
    moved = {"uri": f"test://{here}", "credentials": {"username": "other", "password": "new"}}
    services.hypervisor_update(hypervisor=saved, by=Actor.of_user(admin), **moved)
    run(operation)
    (endpoint,) = tried
    assert endpoint == saved.endpoint()
    assert endpoint.uri == moved["uri"]


def test_a_move_loses_against_credentials_that_came_in_between(saved: Hypervisor, admin: User) -> None:
    by = Actor.of_user(admin)
    Hypervisor.objects.filter(pk=saved.pk).update(driver="qemu", uri="qemu+tls://hv-1.example/system", credentials=None)
    read = services.hypervisor_get(saved.pk, by=by)
    services.hypervisor_update(
        hypervisor=services.hypervisor_get(saved.pk, by=by), by=by, credentials={"password": SECRET}
    )
    with pytest.raises(Stale):
        services.hypervisor_update(hypervisor=read, by=by, credentials=None, uri="qemu+tls://evil.example/system")
    saved.refresh_from_db()
    assert saved.uri == "qemu+tls://hv-1.example/system"


def test_the_credentials_are_in_no_operation(saved: Hypervisor, admin: User) -> None:
    operation = services.hypervisor_probe(hypervisor=saved, by=Actor.of_user(admin))
    for row in (operation, run(operation)):
        assert SECRET not in repr(row.shown_params) + repr(row.result) + repr(row.error)
        assert not any((row.secret_params or {}).values())
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM operations_operation")
        assert SECRET not in repr(cursor.fetchall())


def test_credentials_of_an_unsaved_one_are_encrypted_and_forgotten(admin: User) -> None:
    new = services.NewHypervisor(uri="test:///default", credentials={"username": "vmm", "password": SECRET})
    operation = services.host_probe(new=new, by=Actor.of_user(admin))
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM operations_operation")
        assert SECRET not in repr(cursor.fetchall())
    assert operation.shown_params["credentials"] == "<hidden>"
    assert not any(run(operation).secret_params.values())


def test_a_hypervisor_removed_meanwhile_fails_with_a_reason(saved: Hypervisor, admin: User) -> None:
    operation = services.hypervisor_probe(hypervisor=saved, by=Actor.of_user(admin))
    saved.host.delete()
    assert run(operation).state == "failed"
    assert operation.error is not None
    assert operation.error["code"] == "not_found"


def test_only_who_may_probe(saved: Hypervisor, operator: User) -> None:
    with pytest.raises(PermissionRefused):
        services.hypervisor_probe(hypervisor=saved, by=Actor.of_user(operator))


def test_a_hypervisor_that_is_not_there(admin: User) -> None:
    with pytest.raises(Missing):
        services.hypervisor_get(uuid.uuid4(), by=Actor.of_user(admin))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"uri": "test:///default", "hypervisor": str(uuid.uuid4())},
        {"hypervisor": str(uuid.uuid4()), "credentials": {"password": "x"}},
        {"hypervisor": "no-id"},
        {"hypervisor": None, "uri": None},
    ],
)
def test_the_call_takes_one_of_both(api: Any, body: dict[str, Any]) -> None:
    assert api.post("/hosts/probe", body).status_code == 422


def test_the_call_for_a_hypervisor_that_is_not_there_is_404(api: Any) -> None:
    assert api.post("/hosts/probe", {"hypervisor": str(uuid.uuid4())}).status_code == 404
