"""Copies: one a pool, whoever asks and however many at once; from wherever one lies; never half of one."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from core.threads import database_released
from core.units import GIB, MIB
from drivers.errors import NoSpace, Timeout, Unreachable
from drivers.fake import FakeWorld, drop_world, world
from drivers.pool import the_pool
from images import actions, copies
from images.copies import NotReady, ensure_copy
from images.models import Image, ImageCopy
from operations.actions import Cancelled
from operations.context import RunContext
from operations.models import Operation
from storage.inventory import pool_observe
from storage.models import StoragePool, Volume
from storage.reach import pool_of
from tests.factories import HypervisorFactory
from tests.images.test_import import dies_once
from tests.transfers import files
from tests.web.test_edge import check_problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.images.conftest import Shelf

pytestmark = pytest.mark.django_db(transaction=True)


def context(state: str = "running", **more: Any) -> RunContext:
    """Somebody who makes a guest."""
    return RunContext(Operation.objects.create(kind="vm.create", target="vm/x", state=state, worker="w", **more))


@pytest.fixture
def image(shelf: Shelf, pool: StoragePool, tmp_path: Path) -> Image:
    return shelf.made(files.disk(tmp_path / "debian", content=os.urandom(MIB)))


@pytest.fixture
def elsewhere(shelf: Shelf) -> Iterator[tuple[FakeWorld, StoragePool]]:
    """A pool of another host."""
    far = world("elsewhere")
    far.storage.add_pool("far", capacity_bytes=1 * GIB)
    hypervisor = HypervisorFactory(uri=far.endpoint.uri)
    yield far, pool_observe(hypervisor, far.storage.pool("far"))
    the_pool().forget(hypervisor.endpoint())
    drop_world("elsewhere")


def content(image: Image, shelf: Shelf, pool: StoragePool) -> bytes:
    return shelf.world.storage.content("default", copies.volume_name(image, pool))


def test_one_that_is_there_is_answered(shelf: Shelf, image: Image, pool: StoragePool) -> None:
    before = shelf.world.calls["volume_upload"]
    assert ensure_copy(context(), image, pool_of(pool.pk)) == copies.volume_name(image, pool)
    assert shelf.world.calls["volume_upload"] == before


def test_another_host_gets_one_through_us(
    shelf: Shelf, image: Image, pool: StoragePool, elsewhere: tuple[FakeWorld, StoragePool]
) -> None:
    far, far_pool = elsewhere
    name = ensure_copy(context(), image, pool_of(far_pool.pk))
    assert far.storage.content("far", name) == content(image, shelf, pool)
    assert Volume.objects.get(pool=far_pool).capacity_bytes == image.virtual_size_bytes
    assert ImageCopy.objects.filter(ready=True, operation=None).count() == 2


def test_many_at_once_copy_once(shelf: Shelf, image: Image, elsewhere: tuple[FakeWorld, StoragePool]) -> None:
    far, far_pool = elsewhere
    names: list[str] = []

    def ask() -> None:
        with database_released():
            names.append(ensure_copy(context(), image, pool_of(far_pool.pk)))

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(set(names)) == 1
    assert len(names) == 5
    assert (far.calls["volume_create"], far.calls["volume_upload"]) == (1, 1)


@pytest.mark.parametrize(("state", "holds"), [("running", False), ("queued", False), ("failed", True)])
def test_somebody_elses_copy_is_waited_for(
    image: Image, elsewhere: tuple[FakeWorld, StoragePool], state: str, holds: bool
) -> None:
    """Also one whose operation was given up while its thread still hangs: it may write yet."""
    _, far_pool = elsewhere
    owner = Operation.objects.create(kind="vm.create", target="vm/y", state=state, holds_lock=holds)
    ImageCopy.objects.create(image=image, pool=far_pool, volume="x", operation=owner)
    with pytest.raises(Timeout):
        ensure_copy(context(), image, pool_of(far_pool.pk), wait_seconds=0.1)
    with pytest.raises(Cancelled):
        ensure_copy(context(cancel_requested=True), image, pool_of(far_pool.pk))


def test_a_dead_ones_half_is_thrown_away(
    shelf: Shelf, image: Image, pool: StoragePool, elsewhere: tuple[FakeWorld, StoragePool]
) -> None:
    far, far_pool = elsewhere
    name = copies.volume_name(image, far_pool)
    owner = Operation.objects.create(kind="vm.create", target="vm/y", state="failed")
    ImageCopy.objects.create(image=image, pool=far_pool, volume=name, operation=owner)
    far.storage.add_volume("far", name, content=b"half", format_="qcow2")
    ensure_copy(context(), image, pool_of(far_pool.pk))
    assert far.storage.content("far", name) == content(image, shelf, pool)


def test_one_that_somebody_deleted_is_made_again(image: Image, elsewhere: tuple[FakeWorld, StoragePool]) -> None:
    far, far_pool = elsewhere
    name = ensure_copy(context(), image, pool_of(far_pool.pk))
    far.storage.remove_volume("far", name)
    assert ensure_copy(context(), image, pool_of(far_pool.pk)) == name
    assert far.storage.content("far", name)


def test_a_half_that_the_host_still_holds_is_waited_for(image: Image, elsewhere: tuple[FakeWorld, StoragePool]) -> None:
    far, far_pool = elsewhere
    name = copies.volume_name(image, far_pool)
    far.storage.add_volume("far", name, content=b"half", format_="qcow2")
    far.storage.hold("far", name)
    threading.Timer(0.3, far.storage.hold, ["far", name], {"held": False}).start()
    ensure_copy(context(), image, pool_of(far_pool.pk))
    assert len(far.storage.content("far", name)) == image.size_bytes


def test_a_full_pool_keeps_nothing(image: Image, elsewhere: tuple[FakeWorld, StoragePool]) -> None:
    far, far_pool = elsewhere
    far.storage.break_transfers(NoSpace("full"), after_bytes=100_000)
    with pytest.raises(NoSpace):
        ensure_copy(context(), image, pool_of(far_pool.pk))
    assert far.storage.volumes("far") == []
    assert ImageCopy.objects.filter(pool=far_pool).count() == 0


def test_the_one_read_from_goes_away(shelf: Shelf, image: Image, elsewhere: tuple[FakeWorld, StoragePool]) -> None:
    far, far_pool = elsewhere
    shelf.world.storage.break_transfers(Unreachable("gone"), after_bytes=100_000, times=99)
    with pytest.raises(Unreachable):
        ensure_copy(context(), image, pool_of(far_pool.pk))
    assert far.storage.volumes("far") == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hose-")]


def test_a_copy_that_rotted_is_not_copied(
    shelf: Shelf, image: Image, pool: StoragePool, elsewhere: tuple[FakeWorld, StoragePool]
) -> None:
    far, far_pool = elsewhere
    shelf.world.storage._pools["default"].volumes[copies.volume_name(image, pool)].content[MIB // 2] ^= 1
    with pytest.raises(NotReady, match="not what was put there"):
        ensure_copy(context(), image, pool_of(far_pool.pk))
    assert far.storage.volumes("far") == []


def test_between_pools_of_different_formats_it_is_converted(
    shelf: Shelf, image: Image, pool: StoragePool, tmp_path: Path
) -> None:
    group = shelf.pool("vg0", type_="logical", capacity_bytes=100 * MIB)
    name = ensure_copy(context(), image, pool_of(group.pk))
    (tmp_path / "raw").write_bytes(shelf.world.storage.content("vg0", name).ljust(4 * MIB, b"\0"))
    (tmp_path / "qcow2").write_bytes(content(image, shelf, pool))
    assert "identical" in files.qemu_img("compare", "-f", "raw", "-F", "qcow2", tmp_path / "raw", tmp_path / "qcow2")
    shelf.world.storage.remove_volume("default", copies.volume_name(image, pool))
    ImageCopy.objects.filter(pool=pool).delete()
    ensure_copy(context(), image, pool_of(pool.pk))
    (tmp_path / "back").write_bytes(content(image, shelf, pool))
    assert "identical" in files.qemu_img("compare", "-f", "raw", "-F", "qcow2", tmp_path / "raw", tmp_path / "back")


def test_an_image_that_is_not_ready_is_not_copied(image: Image, pool: StoragePool) -> None:
    image.state = "importing"
    with pytest.raises(NotReady):
        ensure_copy(context(), image, pool_of(pool.pk))


def test_no_copy_left_to_copy_from(image: Image, pool: StoragePool, elsewhere: tuple[FakeWorld, StoragePool]) -> None:
    ImageCopy.objects.all().delete()
    with pytest.raises(NotReady, match="No copy"):
        ensure_copy(context(), image, pool_of(elsewhere[1].pk))


# -- by REST -------------------------------------------------------------------------------------------------------------------
def test_a_copy_is_asked_for_by_the_name_of_its_pool(
    shelf: Shelf, image: Image, elsewhere: tuple[FakeWorld, StoragePool]
) -> None:
    answer = shelf.api.post(f"/images/{image.pk}/copies", {"pool": "far"})
    shelf.quiet()
    operation = Operation.objects.get(pk=answer.json()["id"])
    assert (operation.state, operation.result["volume"]) == ("succeeded", copies.volume_name(image, elsewhere[1]))
    body = shelf.api.get(f"/images/{image.pk}").json()
    assert sorted((copy["pool_name"], copy["ready"]) for copy in body["copies"]) == [("default", True), ("far", True)]


def overlay(shelf: Shelf, image: Image, pool: StoragePool) -> None:
    shelf.world.storage.add_volume(
        "default", "web-01.qcow2", capacity_bytes=8 * MIB, format_="qcow2", backing=copies.volume_name(image, pool)
    )
    shelf.observe()


def test_what_something_stands_on_is_not_deleted(shelf: Shelf, image: Image, pool: StoragePool) -> None:
    overlay(shelf, image, pool)
    refused = check_problem(shelf.api.delete(f"/images/{image.pk}"), 409, "in_use")
    assert "web-01.qcow2" in refused["detail"]
    assert [use["name"] for use in shelf.api.get(f"/images/{image.pk}").json()["used_by"]] == ["web-01.qcow2"]
    volume = Volume.objects.get(name=copies.volume_name(image, pool))
    check_problem(shelf.api.delete(f"/volumes/{volume.pk}"), 409, "in_use")


def test_one_that_nothing_stands_on_goes_with_its_copies(
    shelf: Shelf, image: Image, elsewhere: tuple[FakeWorld, StoragePool]
) -> None:
    far, far_pool = elsewhere
    ensure_copy(context(), image, pool_of(far_pool.pk))
    answer = shelf.api.delete(f"/images/{image.pk}")
    shelf.quiet()
    assert Operation.objects.get(pk=answer.json()["id"]).state == "succeeded"
    assert not Image.objects.exists()
    assert (shelf.volumes(), far.storage.volumes("far")) == ({}, [])


def test_a_deletion_goes_on_where_its_worker_died(shelf: Shelf, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    dies_once(monkeypatch, actions, "image_removed")
    answer = shelf.api.delete(f"/images/{image.pk}")
    shelf.quiet()
    operation = Operation.objects.get(pk=answer.json()["id"])
    assert (operation.state, operation.attempts) == ("succeeded", 2)
    assert not Image.objects.exists()
