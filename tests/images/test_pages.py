"""The pages of images: what they show, to whom, and that nothing a hypervisor or a sender says becomes markup."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import pytest

from images.models import Image, ImageCopy
from operations.models import Operation
from tests.factories import PoolFactory, VolumeFactory
from tests.web.test_pages import HOSTILE

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(admin: User, client_for: Callable[..., Client]) -> Client:
    return client_for(admin)


def image(name: str = "debian-12", **more: Any) -> Image:
    made = Image.objects.create(name=name, **{"state": "ready", "format": "qcow2", "size_bytes": 2**20} | more)
    volume = VolumeFactory(name=f"vmm-{name}"[:200])
    ImageCopy.objects.create(image=made, pool=volume.pool, volume=volume.name, ready=True)
    VolumeFactory(pool=volume.pool, backing=volume.path)
    return made


def text_of(answer: Any) -> str:
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def test_none_yet_tells_how_to_get_one(browser: Client) -> None:
    page = text_of(browser.get("/images"))
    assert "No images yet" in page
    assert "No pool that takes volumes is running" in page
    PoolFactory()
    assert "No pool that takes volumes is running" not in text_of(browser.get("/images"))


def test_the_list_says_where_it_lies_and_how_it_stands(browser: Client) -> None:
    ready = image(title="Cloud image", os_id="http://debian.org/debian/12", tags=["linux"])
    image("rocky", state="failed", error={"code": "image_refused", "detail": "It is encrypted."})
    under_way = Operation.objects.create(kind="image.import", target="image/x", state="running", message="Converting")
    Image.objects.create(name="alma", operation=under_way)
    page = text_of(browser.get("/images"))
    pool = ImageCopy.objects.get(image=ready).pool
    for word in ("Debian 12", "Cloud image", "linux", pool.name, pool.host.name, "It is encrypted.", "Converting"):
        assert word in page


def test_a_page_costs_the_same_whatever_stands_on_it(
    browser: Client, django_assert_num_queries: Callable[..., Any]
) -> None:
    made = image("i0")
    browser.get("/images")
    costs = {"/images": 18, "/images/table": 13, f"/images/{made.pk}": 18, f"/images/{made.pk}/body": 13}
    for path, most in costs.items():
        with django_assert_num_queries(most):
            browser.get(path)
    for number in range(1, 20):
        image(f"i{number}")
    for path, most in costs.items():
        with django_assert_num_queries(most):
            browser.get(path)


def test_one_image_shows_what_stands_on_it_and_why_it_stays(browser: Client) -> None:
    made = image(source="https://example.org/debian.qcow2", sha256="ab" * 32)
    page = text_of(browser.get(f"/images/{made.pk}"))
    overlay = made.copies.get().pool.volumes.exclude(name="vmm-debian-12").get()
    for word in (
        f"/vms/new?image={made.pk}",
        "https://example.org/debian.qcow2",
        "ab" * 32,
        overlay.name,
        f"is used by {overlay.name}",
    ):
        assert word in page


def test_a_part_of_one_that_was_deleted_says_so(browser: Client) -> None:
    made = image()
    assert "Nothing was asked" in text_of(browser.get(f"/images/{made.pk}/operations"))
    Image.objects.all().delete()
    assert "was deleted" in text_of(browser.get(f"/images/{made.pk}/body"))
    assert "was deleted" in text_of(browser.get(f"/images/{made.pk}/operations"))
    assert browser.get(f"/images/{made.pk}").status_code == 404
    assert browser.get(f"/images/{made.pk}/other").status_code == 404


def test_what_somebody_sent_is_never_markup(browser: Client) -> None:
    made = image(HOSTILE[:90], title=HOSTILE, source=HOSTILE, os_id=HOSTILE, state="failed", error={"detail": HOSTILE})
    for path in ("/images", f"/images/{made.pk}"):
        page = browser.get(path).content.decode()
        assert "<script>alert" not in page
        assert "alert(1)" in page


def test_a_viewer_is_offered_nothing_that_he_may_not(viewer: User, client_for: Callable[..., Client]) -> None:
    made = image()
    browser = client_for(viewer)
    for path in ("/images", f"/images/{made.pk}"):
        page = browser.get(path).content.decode()
        assert "data-choose-file" not in page
        assert "data-delete-image" not in page
        assert "/vms/new" not in page.partition("<main")[2]
        assert "data-new-image" not in page


def test_an_operator_uploads_and_fetches_nothing(operator: User, client_for: Callable[..., Client]) -> None:
    PoolFactory()
    page = client_for(operator).get("/images").content.decode()
    assert 'data-new-image="upload"' in page
    assert 'data-new-image="url"' not in page


def test_a_search_that_cannot_be_is_said(browser: Client) -> None:
    answer = browser.get("/images?q=" + "a" * 3000)
    assert answer.status_code == 422
    assert b"at most 2000" in answer.content


def test_the_palette_and_the_navigation_know_images(browser: Client) -> None:
    made = image()
    items = browser.get("/palette.json").json()["items"]
    assert [(one["name"], one["url"]) for one in items if one["kind"] == "image"] == [
        ("debian-12", f"/images/{made.pk}")
    ]
    assert browser.get("/nav.json").json()["images"] == 1
