"""The form that leads to a hypervisor: drawn from the drivers, for a new host, one more hypervisor, or another way to one."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from drivers import catalog, registry
from drivers.types import Support
from events.models import Event
from hosts.models import Hypervisor
from tests.factories import HypervisorFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User
    from tests.conftest import Api

pytestmark = pytest.mark.django_db

SECRET = "s3cret-and-never-seen"


@pytest.fixture
def browser(admin: User, client_for: Callable[..., Client]) -> Client:
    return client_for(admin)


@pytest.fixture
def saved() -> Hypervisor:
    credentials = {"username": "root", "private_key": SECRET, "host_key": "ssh-ed25519 HOSTKEY"}
    return HypervisorFactory(driver="qemu", uri="qemu+ssh://virt@hv-1.example:2222/system", credentials=credentials)


def data(page: str, name: str) -> Any:
    found = re.search(rf'<script id="{name}" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found, name
    return json.loads(found[1])


def test_the_page_offers_every_kind_in_its_group_with_its_ways(browser: Client) -> None:
    page = browser.get("/hosts/new").content.decode()
    offered = re.findall(r'name="kind"\s+value="([a-z]+)"', page)
    assert set(offered) == set(registry.BUILT_IN) - {"fake"} | {"uri"}
    dialog = data(page, "dialog")
    assert set(dialog) == set(offered)
    for kind in catalog.kinds():
        assert [way["name"] for way in dialog[kind.kind]["ways"]] == [way.name for way in kind.ways]
    assert page.count("Bare metal") == 1
    assert "tested on the hypervisor itself" in dialog["qemu"]["proof"]


def test_a_kind_that_cannot_be_used_says_why_and_cannot_be_chosen(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "The Python package 'pyVmomi' is not installed."
    real = registry.availability
    monkeypatch.setattr(
        registry, "availability", lambda kind: Support(supported=False, reason=reason) if kind == "esx" else real(kind)
    )
    page = browser.get("/hosts/new").content.decode()
    assert re.search(r'value="esx"\s+disabled', page)
    assert reason.replace("'", "&#x27;") in page
    assert data(page, "dialog")["esx"]["ways"] == []


def test_a_saved_hypervisors_form_knows_its_place_and_nothing_of_its_credentials(
    browser: Client, saved: Hypervisor
) -> None:
    page = browser.get(f"/hosts/{saved.host_id}/hypervisors/{saved.pk}").content.decode()
    assert data(page, "present") == {
        "way": "ssh",
        "uri": saved.uri,
        "host": "hv-1.example",
        "port": "2222",
        "user": "virt",
        "socket": "",
        "path": "/system",
    }
    assert set(data(page, "dialog")) == {"qemu"}
    assert "Leave them as they are" in page
    for secret in (SECRET, "HOSTKEY"):
        assert secret not in page


def test_who_may_not_manage_has_no_form(saved: Hypervisor, viewer: User, client_for: Callable[..., Client]) -> None:
    for path in ("new", str(saved.pk)):
        assert client_for(viewer).get(f"/hosts/{saved.host_id}/hypervisors/{path}").status_code == 403


def test_a_hypervisor_of_another_host_has_no_form_here(browser: Client, saved: Hypervisor) -> None:
    other = HypervisorFactory(driver="lxc", uri="lxc:///system")
    assert browser.get(f"/hosts/{other.host_id}/hypervisors/{saved.pk}").status_code == 404
    assert browser.get(f"/hosts/{saved.host_id}/hypervisors/new").status_code == 200


def test_what_was_given_for_one_place_is_not_sent_to_another(api: Api, saved: Hypervisor) -> None:
    before = saved.credentials
    for uri in ("qemu+ssh://virt@evil.example:2222/system", "qemu+tcp://hv-1.example:2222/system"):
        answer = api.patch(f"/hypervisors/{saved.pk}", {"uri": uri})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/credentials"
    saved.refresh_from_db()
    assert (saved.uri, saved.credentials) == ("qemu+ssh://virt@hv-1.example:2222/system", before)


def test_a_hypervisor_moves_with_new_credentials_and_the_watcher_hears_of_it(api: Api, saved: Hypervisor) -> None:
    key = saved.endpoint().key
    moved = {"uri": "qemu+ssh://virt@hv-2.example/system", "credentials": {"private_key": "k2", "host_key": "h2"}}
    answer = api.patch(f"/hypervisors/{saved.pk}", moved)
    assert (answer.status_code, answer.json()["uri"]) == (200, moved["uri"])
    saved.refresh_from_db()
    assert saved.endpoint().key != key
    assert saved.credentials["private_key"] == "k2"
    event = Event.objects.filter(type="audit.hypervisor_changed").latest("seq")
    assert event.data["changed"] == ["credentials", "uri"]


def test_a_path_alone_may_change_and_the_credentials_stay(api: Api, saved: Hypervisor) -> None:
    answer = api.patch(f"/hypervisors/{saved.pk}", {"uri": "qemu+ssh://virt@hv-1.example:2222/session"})
    assert answer.status_code == 200, answer.json()
    saved.refresh_from_db()
    assert saved.credentials["private_key"] == SECRET


def test_a_move_to_another_kind_or_onto_another_is_refused(api: Api, saved: Hypervisor) -> None:
    HypervisorFactory(driver="qemu", uri="qemu:///system")
    new = {"username": "x"}
    kind = api.patch(f"/hypervisors/{saved.pk}", {"uri": "lxc:///system", "credentials": new})
    assert (kind.status_code, kind.json()["errors"][0]["pointer"]) == (422, "/uri")
    assert api.patch(f"/hypervisors/{saved.pk}", {"uri": "qemu:///system", "credentials": new}).status_code == 409
    assert Hypervisor.objects.get(pk=saved.pk).uri == saved.uri
