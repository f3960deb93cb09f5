"""The page of a new guest: what it offers and why not, to whom, and what it says where something is missing."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from core.units import GIB
from images.models import Image
from operations.models import Operation
from storage.models import StoragePool
from tests.factories import ALL_SUPPORTED, HostFactory, HypervisorFactory, NetworkFactory, VMFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User
    from hosts.models import Hypervisor

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(admin: User, client_for: Callable[..., Client]) -> Client:
    return client_for(admin)


def text_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.status_code
    return " ".join(html.unescape(answer.content.decode()).split())


def known(answer: Any) -> dict[str, Any]:
    found = re.search(r'<script id="known" type="application/json">(.*?)</script>', answer.content.decode(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def pool(hypervisor: Hypervisor, name: str = "default", **values: Any) -> StoragePool:
    facts = {"type": "dir", "state": "running", "formats": ["qcow2", "raw"], "available_bytes": 9 * GIB}
    return StoragePool.objects.create(
        host=hypervisor.host,
        hypervisor=hypervisor,
        uuid=f"u-{name}",
        name=name,
        observed_at=timezone.now(),
        **facts | values,
    )


def test_nothing_there_yet_then_what_comes_first(browser: Client) -> None:
    assert "Add a host first" in text_of(browser.get("/vms/new"))


def test_no_hypervisor_can_then_each_says_why(browser: Client) -> None:
    lacking = {**ALL_SUPPORTED, "create": {"supported": False, "reason": "Guests are made in its own client."}}
    HypervisorFactory(host=HostFactory(name="esx-01"), capabilities=lacking)
    HypervisorFactory(host=HostFactory(name="far"), state="offline")
    text = text_of(browser.get("/vms/new"))
    assert "No hypervisor can make a guest now" in text
    assert "Guests are made in its own client." in text
    assert "far is out of reach." in text


def test_what_is_there_then_offered_and_what_cannot_is_shown_with_its_reason(browser: Client) -> None:
    qemu = HypervisorFactory(host=HostFactory(name="kvm-01"), driver="qemu")
    HypervisorFactory(host=qemu.host, driver="lxc", virtualization_type="os_level", techniques=["shared_kernel"])
    HypervisorFactory(host=HostFactory(name="far"), state="offline")
    image = Image.objects.create(
        name="debian-13", title="Debian 13", state="ready", cloud_init=True, virtual_size_bytes=3 * GIB
    )
    Image.objects.create(name="half-way", state="importing")
    pool(qemu)
    pool(qemu, "off", state="inactive")
    NetworkFactory(host=qemu.host, hypervisor=qemu, name="lan", active=True)
    NetworkFactory(host=qemu.host, hypervisor=qemu, name="closed", active=False)
    answer = browser.get(f"/vms/new?image={image.pk}&hypervisor={qemu.pk}")
    text, data = text_of(answer), known(answer)
    assert "Debian 13" in text
    assert "half-way" not in text
    assert "far is out of reach." in text
    assert re.search(rf'value="{qemu.pk}"\s+checked', answer.content.decode())
    assert [one["name"] for one in data["pools"]] == ["default"]
    assert [one["name"] for one in data["networks"]] == ["lan"]
    assert [one["container"] for one in data["places"].values()] == [False, True]
    assert data["images"][str(image.pk)]["size"] == 3 * GIB
    assert max(data["steps"]) == 64


def test_no_image_yet_then_how_to_get_one(browser: Client) -> None:
    HypervisorFactory()
    assert "There is no image yet." in text_of(browser.get("/vms/new"))
    Image.objects.create(name="late", state="importing")
    assert "still being imported" in text_of(browser.get("/vms/new"))


def test_who_may_only_look_then_neither_button_nor_page(viewer: User, client_for: Callable[..., Client]) -> None:
    looking = client_for(viewer)
    VMFactory()
    assert "New guest" not in text_of(looking.get("/vms"))
    assert looking.get("/vms/new").status_code == 403


def test_operator_then_all_but_a_directory_of_the_host(operator: User, client_for: Callable[..., Client]) -> None:
    VMFactory()
    working = client_for(operator)
    assert "New guest" in text_of(working.get("/vms"))
    assert 'name="ct_root"' not in working.get("/vms/new").content.decode()


def test_page_then_so_many_queries_whatever_the_fleet(
    browser: Client, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    for number in range(30):
        pool(HypervisorFactory(), f"p{number}")
    with django_assert_max_num_queries(16):
        assert browser.get("/vms/new").status_code == 200


def test_operation_that_makes_one_then_linked_once_it_is_there(browser: Client) -> None:
    vm = VMFactory(name="web-01")
    made = Operation.objects.create(
        kind="vm.create", target=vm.ref, target_name="web-01", params={"plan": {"vcpus": 2}}
    )
    link = f'href="/vms/{vm.pk}"'
    assert link not in browser.get(f"/operations/{made.pk}").content.decode()
    assert '"vcpus": 2' in text_of(browser.get(f"/operations/{made.pk}"))
    Operation.objects.filter(pk=made.pk).update(
        state="succeeded", result={"vm": str(vm.pk)}, finished_at=timezone.now()
    )
    assert link in browser.get(f"/operations/{made.pk}").content.decode()
    Operation.objects.filter(pk=made.pk).update(
        state="failed",
        result=None,
        error={"code": "not_ready", "title": "Not ready.", "detail": "x", "context": {"vm": str(vm.pk)}},
    )
    assert link in browser.get(f"/operations/{made.pk}").content.decode()


def test_guest_without_an_address_then_each_source_says_why(browser: Client) -> None:
    vm = VMFactory(state="running", address_reasons={"agent": "It does not answer.", "lease": "None given out."})
    text = text_of(browser.get(f"/vms/{vm.pk}"))
    assert "None yet." in text
    assert "guest agent: It does not answer." in text
    VMFactory._meta.model.objects.filter(pk=vm.pk).update(
        addresses=[{"address": "192.0.2.7", "prefix": 24, "mac": "", "source": "lease"}]
    )
    text = text_of(browser.get(f"/vms/{vm.pk}"))
    assert "192.0.2.7" in text
    assert "None yet." not in text
