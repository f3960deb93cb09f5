"""Pages of storage: queries, who may what, hostile names, what they say when nothing is there."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from events import log
from operations.models import Operation
from tests.factories import HostFactory, HypervisorFactory, PoolFactory, VMFactory, VolumeFactory
from vms.models import VMDisk

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User
    from storage.models import StoragePool

pytestmark = pytest.mark.django_db

HOSTILE = "\"><script>alert(1)</script>{{ 7 }}'&"
GIB = 1 << 30


@pytest.fixture
def browser(admin: User, client_for: Callable[..., Client]) -> Client:
    return client_for(admin)


def text_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.status_code
    return re.sub(r"\s+", " ", html.unescape(answer.content.decode()))


def main_of(answer: Any) -> str:
    return text_of(answer).partition("<main")[2].partition("</main>")[0]


def fill(pools: int, volumes: int) -> StoragePool:
    for _ in range(pools):
        pool = PoolFactory(available_bytes=5 * GIB)
        for volume in VolumeFactory.create_batch(volumes, pool=pool):
            vm = VMFactory(hypervisor=pool.hypervisor)
            VMDisk.objects.create(vm=vm, target="vda", source=volume.path)
            Operation.objects.create(kind="volume.resize", target=volume.ref, target_name=volume.name, state="failed")
    return pool


@pytest.mark.parametrize(
    ("path", "queries"),
    [
        ("/storage", 13),
        ("/storage/table", 9),
        ("/storage/{}", 25),
        ("/storage/{}/parts/head", 7),
        ("/storage/{}/parts/facts", 7),
        ("/storage/{}/parts/space", 8),
        ("/storage/{}/parts/volumes", 17),
        ("/storage/{}/parts/operations", 10),
        ("/storage/new", 8),
    ],
)
def test_a_page_costs_the_same_whatever_stands_on_it(
    browser: Client, path: str, queries: int, django_assert_num_queries: Callable[..., Any]
) -> None:
    for pools, volumes in ((1, 2), (30, 30)):
        pool = fill(pools, volumes)
        browser.get(path.format(pool.pk))
        with django_assert_num_queries(queries):
            assert browser.get(path.format(pool.pk)).status_code == 200


def test_an_empty_product_says_what_to_do(browser: Client, viewer: User, client_for: Callable[..., Client]) -> None:
    assert "No hypervisor answers" in main_of(browser.get("/storage"))
    assert "No host has storage pools" in main_of(browser.get("/storage/new"))
    HypervisorFactory()
    assert "No storage pools yet" in main_of(browser.get("/storage"))
    assert "/storage/new" in main_of(browser.get("/storage"))
    assert "/storage/new" not in main_of(client_for(viewer).get("/storage"))
    pool = PoolFactory()
    assert "Nothing is in it yet" in main_of(browser.get(f"/storage/{pool.pk}"))
    assert "No pool matches" in main_of(browser.get("/storage?q=nothing"))
    assert "No volume matches" in main_of(browser.get(f"/storage/{pool.pk}?q=nothing"))


def test_what_fills_up_is_said_with_numbers(browser: Client) -> None:
    PoolFactory(name="roomy")
    PoolFactory(name="high", available_bytes=15 * GIB)
    full = PoolFactory(name="full", available_bytes=4 * GIB)
    page = main_of(browser.get("/storage"))
    assert "is 96 % full: 4 GiB are left." in page
    assert "is 85 % full: 15 GiB are left." in page
    assert page.index("<b>full</b>") < page.index("<b>high</b>")
    assert "<b>roomy</b>" not in page
    assert "stand still when nothing is left" in main_of(browser.get(f"/storage/{full.pk}"))
    assert "is full but for 4 GiB" in main_of(browser.get("/"))


def test_volumes_say_who_uses_them_and_what_nobody_does(browser: Client) -> None:
    pool = PoolFactory()
    disk, base = VolumeFactory(pool=pool, name="disk"), VolumeFactory(pool=pool, name="base")
    VolumeFactory(pool=pool, name="over", backing=base.path)
    vm = VMFactory(hypervisor=pool.hypervisor, name="web")
    VMDisk.objects.create(vm=vm, target="vda", source=disk.path)
    page = main_of(browser.get(f"/storage/{pool.pk}"))
    assert f'href="/vms/{vm.pk}">web</a>' in page
    assert "1 volume is used by no guest and no image: 1 GiB." in page
    assert "disk is used by web (vda). Take it away from there first." in page
    orphans = main_of(browser.get(f"/storage/{pool.pk}?q=is:orphan"))
    assert re.findall(r'class="name"[^>]*>(\w+)</span>', orphans) == ["over"]
    found = browser.get(f"/storage/volumes/{disk.pk}")
    assert found.status_code == 302
    assert re.findall(r'class="name"[^>]*>(\w+)</span>', main_of(browser.get(found["Location"]))) == ["disk"]


def test_who_may_what(viewer: User, operator: User, admin: User, client_for: Callable[..., Client]) -> None:
    volume = VolumeFactory()
    pages = {
        user.username: main_of(client_for(user).get(f"/storage/{volume.pool_id}")) for user in (viewer, operator, admin)
    }
    assert ['data-volume-action="delete"' in page for page in pages.values()] == [False, True, True]
    assert ['data-dialog="new-volume"' in page for page in pages.values()] == [False, True, True]
    assert ['data-pool-action="stop"' in page for page in pages.values()] == [False, False, True]
    assert ['action="/storage/' in page for page in pages.values()] == [False, False, True]
    assert client_for(operator).get("/storage/new").status_code == 403
    assert client_for(operator).post(f"/storage/{volume.pool_id}/remove").status_code == 403


@pytest.mark.parametrize("typed", ["", "DEFAULT", "default ", HOSTILE])
def test_a_pool_stays_when_its_name_is_typed_wrong(browser: Client, typed: str) -> None:
    pool = PoolFactory(name="default")
    page = main_of(browser.post(f"/storage/{pool.pk}/remove", {"typed": typed}, follow=True))
    assert "Nothing was removed" in page
    assert not Operation.objects.exists()


def test_a_pool_is_removed_by_an_operation_unless_guests_run_with_it(browser: Client) -> None:
    volume = VolumeFactory(pool=PoolFactory(name="default"))
    vm = VMFactory(hypervisor=volume.pool.hypervisor, name="web", state="running")
    VMDisk.objects.create(vm=vm, target="vda", source=volume.path)
    page = main_of(browser.post(f"/storage/{volume.pool_id}/remove", {"typed": "default"}, follow=True))
    assert "used by web (vda)" in page
    vm.delete()
    answer = browser.post(f"/storage/{volume.pool_id}/remove", {"typed": "default"})
    assert answer["Location"] == f"/operations/{Operation.objects.get().pk}"


def test_a_pool_that_went_meanwhile_says_so_in_its_parts(browser: Client) -> None:
    pool = PoolFactory(gone_at=timezone.now())
    assert browser.get(f"/storage/{pool.pk}").status_code == 404
    assert "Gone" in text_of(browser.get(f"/storage/{pool.pk}/parts/head"))
    assert "This pool is gone." in text_of(browser.get(f"/storage/{pool.pk}/parts/volumes"))
    assert browser.get(f"/storage/{pool.pk}/parts/nonsense").status_code == 404
    assert browser.get(f"/storage/volumes/{VolumeFactory(pool=pool).pk}").status_code == 404


def test_what_others_chose_is_text(browser: Client) -> None:
    host = HostFactory(name=HOSTILE)
    pool = PoolFactory(
        hypervisor=HypervisorFactory(host=host),
        name=HOSTILE,
        target=HOSTILE,
        source=HOSTILE,
        type=HOSTILE[:30],
        formats=[HOSTILE],
        available_bytes=0,
    )
    base = VolumeFactory(pool=pool, name=HOSTILE, path=HOSTILE, format=HOSTILE[:30], backing=HOSTILE)
    vm = VMFactory(hypervisor=pool.hypervisor, name=HOSTILE)
    VMDisk.objects.create(vm=vm, target=HOSTILE, source=base.path)
    Operation.objects.create(kind="pool.start", target=pool.ref, target_name=HOSTILE, state="failed", message=HOSTILE)
    for kind in ("storage_pool.changed", "volume.created"):
        log.append([log.NewEvent(type=kind, object=pool.ref, object_name=HOSTILE, data={"changed": {HOSTILE: 1}})])
    for path in (
        "/storage",
        f"/storage/{pool.pk}",
        "/storage/new",
        "/",
        "/events",
        f"/storage?q={HOSTILE}",
        "/operations?state=all",
    ):
        raw = browser.get(path).content.decode()
        assert "<script>alert" not in raw, path
        assert "{{ 7 }}" in html.unescape(raw), path


@pytest.mark.parametrize("query", ["?cursor=x", "?ordering=uuid", "?q=" + "a" * 3000, "?q=%00"])
def test_a_hostile_query_is_refused_with_a_sentence(browser: Client, query: str) -> None:
    pool = PoolFactory()
    for path in ("/storage", "/storage/table", f"/storage/{pool.pk}", f"/storage/{pool.pk}/parts/volumes"):
        answer = browser.get(path + query)
        assert (answer.status_code, b'role="alert"' in answer.content) == (422, True), path


def test_navigation_and_palette_know_pools(browser: Client) -> None:
    pool = PoolFactory(name="default")
    PoolFactory(gone_at=timezone.now())
    assert browser.get("/nav.json").json()["pools"] == 1
    found = next(item for item in browser.get("/palette.json").json()["items"] if item["kind"] == "pool")
    assert (found["name"], found["url"], found["sub"]) == ("default", f"/storage/{pool.pk}", pool.host.name)
