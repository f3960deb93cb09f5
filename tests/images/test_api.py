"""The catalogue by REST: what is told, changed, filtered and refused; a page costs the same few queries whatever stands on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from django.utils import timezone

from images.models import Image, ImageCopy
from operations.models import Operation
from storage.models import StoragePool, Volume
from tests.factories import HypervisorFactory, VMFactory
from tests.web.test_edge import check_problem
from vms.models import VMDisk

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.conftest import Api

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nobody_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.doorbell.ring", lambda *_a, **_k: None)


def pool(name: str = "default", **more: Any) -> StoragePool:
    hypervisor = HypervisorFactory()
    values = {"type": "dir", "state": "running", "formats": ["qcow2", "raw"], "available_bytes": 2**40} | more
    return StoragePool.objects.create(
        host=hypervisor.host, hypervisor=hypervisor, uuid=uuid4().hex, name=name, observed_at=timezone.now(), **values
    )


def image(name: str = "debian-12", *, at: StoragePool | None = None, seen: bool = True, **more: Any) -> Image:
    made = Image.objects.create(name=name, **{"state": "ready", "format": "qcow2"} | more)
    if at is not None:
        ImageCopy.objects.create(image=made, pool=at, volume=f"vmm-{name}", ready=True)
        if seen:
            volume(at, f"vmm-{name}")
    return made


def volume(at: StoragePool, name: str, **more: Any) -> Volume:
    return Volume.objects.create(pool=at, name=name, path=f"/{at.pk}/{name}", observed_at=timezone.now(), **more)


def names(answer: Any) -> list[str]:
    return [one["name"] for one in answer.json()["items"]]


def test_an_image_tells_where_it_lies_and_what_stands_on_it(api: Api) -> None:
    here = pool()
    made = image(at=here, os_id="http://debian.org/debian/12", tags=["linux"])
    volume(here, "web.qcow2", backing=f"/{here.pk}/vmm-debian-12")
    vm = VMFactory(hypervisor=here.hypervisor, state="running")
    VMDisk.objects.create(vm=vm, target="sda", source=f"/{here.pk}/vmm-debian-12")
    body = api.get(f"/images/{made.pk}").json()
    assert body["copies"] == [
        {
            "pool": str(here.pk),
            "pool_name": "default",
            "host": str(here.host_id),
            "host_name": here.host.name,
            "volume": "vmm-debian-12",
            "ready": True,
        }
    ]
    assert sorted((use["type"], use["name"], use["running"]) for use in body["used_by"]) == [
        ("vm", vm.name, True),
        ("volume", "web.qcow2", False),
    ]


def test_a_copy_that_was_not_seen_is_not_ready(api: Api) -> None:
    made = image(at=pool(), seen=False)
    assert [copy["ready"] for copy in api.get(f"/images/{made.pk}").json()["copies"]] == [False]


def test_a_page_costs_the_same_whatever_stands_on_it(api: Api, django_assert_num_queries: Callable[..., Any]) -> None:
    here = pool()
    for number in range(3):
        image(f"i{number}", at=here)
    api.get("/images")
    with django_assert_num_queries(11) as few:
        api.get("/images")
    for number in range(3, 20):
        made = image(f"i{number}", at=here)
        ImageCopy.objects.create(image=made, pool=pool(), volume="x", ready=True)
        volume(here, f"o{number}", backing=f"/{here.pk}/vmm-i{number}")
    with django_assert_num_queries(len(few)):
        assert len(api.get("/images").json()["items"]) == 20


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("kind=iso", ["rescue"]),
        ("state=failed,importing", ["broken"]),
        ("pool=default", ["debian"]),
        ("tag=linux", ["debian"]),
        ("q=deb", ["debian"]),
        ("q=-kind:iso%20state:ready", ["debian", "windows"]),
        ("q=is:copied", ["debian"]),
        ("q=pool:default", ["debian"]),
        ("os_id=http://microsoft.com/win/11", ["windows"]),
        ("ordering=-name", ["windows", "rescue", "debian", "broken"]),
    ],
)
def test_it_is_found(api: Api, query: str, found: list[str]) -> None:
    image("debian", at=pool(), tags=["linux"])
    image("rescue", kind="iso")
    image("windows", os_id="http://microsoft.com/win/11")
    image("broken", state="failed")
    assert names(api.get(f"/images?{query}")) == found


def test_what_people_say_of_it_is_changed(api: Api) -> None:
    made = image()
    etag = api.get(f"/images/{made.pk}")["ETag"]
    body = {"name": "debian", "title": "Debian", "tags": ["Linux"], "cloud_init": True, "architecture": "x86_64"}
    changed = api.patch(f"/images/{made.pk}", body, If_Match=etag)
    assert {key: changed.json()[key] for key in body} == body | {"tags": ["linux"]}
    check_problem(api.patch(f"/images/{made.pk}", {"title": "x"}, If_Match=etag), 412, "stale")
    image("other")
    check_problem(api.patch(f"/images/{made.pk}", {"name": "OTHER"}), 409, "already_exists")
    assert api.patch(f"/images/{made.pk}", {"name": "Debian"}).status_code == 200, "its own name in other letters"


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", " ", "x" * 101])
def test_a_name_that_is_none(api: Api, name: str) -> None:
    check_problem(api.patch(f"/images/{image().pk}", {"name": name}), 422, "invalid_input")


def test_a_viewer_looks_and_changes_nothing(api: Api, viewer: User) -> None:
    made, other = image(at=pool()), api.of(viewer)
    assert names(other.get("/images")) == ["debian-12"]
    for refused in (
        other.post("/images", {"name": "a", "url": "https://example.org/a"}),
        other.patch(f"/images/{made.pk}", {"title": "x"}),
        other.post(f"/images/{made.pk}/copies", {"pool": "default"}),
        other.delete(f"/images/{made.pk}"),
    ):
        check_problem(refused, 403, "permission_denied")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/upload"),
        ({"url": "https://example.org/a", "volume": str(uuid4())}, "/upload"),
        ({"url": "ftp://example.org/a"}, "/url"),
        ({"url": "https://u:p@example.org/a"}, "/url"),
        ({"url": "http://example.org/a"}, "/sha256"),
        ({"url": "https://example.org/a", "pool": "nowhere"}, "/pool"),
        ({"url": "https://example.org/a", "tags": ["no tag"]}, "/tags"),
        ({"url": "https://example.org/a", "kind": "floppy"}, "/kind"),
    ],
)
def test_a_wish_that_cannot_be(api: Api, body: dict[str, Any], pointer: str) -> None:
    pool()
    refused = check_problem(api.post("/images", {"name": "a", **body}), 422, "invalid_input")
    assert refused["errors"][0]["pointer"] == pointer
    assert not Image.objects.exists()


def test_without_a_pool_the_roomiest_of_files_is_taken(api: Api) -> None:
    refused = check_problem(api.post("/images", {"name": "a", "url": "https://example.org/a"}), 422, "invalid_input")
    assert refused["errors"][0]["pointer"] == "/pool"
    pool("small", available_bytes=1000)
    large = pool("large")
    pool("stopped", state="inactive", available_bytes=2**50)
    pool("lvm", type="logical", formats=["raw"], available_bytes=2**50)
    away = pool("away", available_bytes=2**50)
    type(away.hypervisor).objects.filter(pk=away.hypervisor_id).update(state="offline")
    answer = api.post("/images", {"name": "a", "url": "https://example.org/a"})
    assert answer.json()["params"]["pool"] == str(large.pk)
    made = Image.objects.get()
    assert (answer.json()["target"]["id"], made.operation_id) == (str(made.pk), Operation.objects.get().pk)
    check_problem(api.post("/images", {"name": "A", "url": "https://example.org/a"}), 409, "already_exists")


def test_a_volume_that_a_guest_runs_with_is_not_read(api: Api) -> None:
    here = pool()
    disk = volume(here, "web.qcow2")
    vm = VMFactory(hypervisor=here.hypervisor, state="running")
    VMDisk.objects.create(vm=vm, target="sda", source=disk.path)
    check_problem(api.post("/images", {"name": "a", "volume": str(disk.pk)}), 409, "in_use")
