"""Containers that may use all their host has, and guests whose hypervisor lacks what a page would show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from accounts.actor import Actor
from core.units import GIB
from dashboard.selectors import capacity
from hosts.places import places
from tests.factories import ALL_SUPPORTED, HostFactory, HypervisorFactory, VMFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(admin: Any, client_for: Callable[..., Client]) -> Client:
    return client_for(admin)


@pytest.mark.parametrize("memory", [0, 64 * GIB])
def test_pages_when_a_container_has_no_memory_limit_then_they_say_so(browser, memory):
    box = VMFactory(kind="container", memory_bytes=memory, max_memory_bytes=memory, state="running")
    for path in ("/vms", f"/vms/{box.pk}", f"/vms/{box.pk}/peek"):
        page = browser.get(path).content.decode()
        assert "no limit" in page or "no memory limit" in page
        assert ">64 GiB" not in page
        assert ">0 B" not in page


def test_facts_when_its_memory_is_not_known_or_limited_then_no_limit_is_not_claimed(browser):
    assert "memory not known" in browser.get(f"/vms/{VMFactory(memory_bytes=0).pk}").content.decode()
    limited = VMFactory(kind="container", memory_bytes=GIB, max_memory_bytes=GIB)
    assert "2 vCPU, 1 GiB" in browser.get(f"/vms/{limited.pk}").content.decode()


def test_promises_when_containers_have_no_limit_then_they_are_none(admin):
    hypervisor = HypervisorFactory(host=HostFactory(cpu_count=8, memory_total_bytes=64 * GIB))
    for _number in range(2):
        VMFactory(hypervisor=hypervisor, kind="container", state="running", vcpus=8, memory_bytes=64 * GIB)
    VMFactory(hypervisor=hypervisor, kind="container", state="running", vcpus=1, memory_bytes=GIB)
    VMFactory(hypervisor=hypervisor, state="running", vcpus=8, memory_bytes=2 * GIB)
    [found] = capacity(Actor.of_user(admin))
    [place] = places(Actor.of_user(admin))
    assert (found.vcpus_promised, found.memory_promised) == (9, 3 * GIB)
    assert (place.vcpus_promised, place.memory_promised_bytes) == (9, 3 * GIB)


def test_definition_when_the_hypervisor_has_none_then_its_reason_and_no_button(browser):
    without = {**ALL_SUPPORTED, "xml": {"supported": False, "reason": "A container has no XML definition."}}
    box = VMFactory(hypervisor=HypervisorFactory(capabilities=without))
    page = browser.get(f"/vms/{box.pk}/xml").content.decode()
    assert "A container has no XML definition." in page
    assert "data-xml=" not in page
    assert "Download" not in page


def test_host_list_when_one_tells_no_news_then_says_so_with_its_reason(browser):
    silent = {**ALL_SUPPORTED, "events": {"supported": False, "reason": "It tells no news."}}
    HypervisorFactory(capabilities=silent)
    HypervisorFactory()
    page = browser.get("/hosts").content.decode()
    assert 'title="It tells no news."' in page
    assert "looked for" in page
    assert "told at once" in page
