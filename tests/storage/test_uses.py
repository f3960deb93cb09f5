"""Who uses a volume: guests, overlays, images; and what nobody uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from accounts.actor import SYSTEM
from images.models import Image, ImageCopy
from storage import uses
from storage.models import StoragePool, Volume
from storage.selectors import Orphans, orphans_of, volume_list, volume_page
from tests.factories import HypervisorFactory, PoolFactory, VMFactory, VolumeFactory
from vms.models import VM, VMDisk

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db


@pytest.fixture
def pool() -> StoragePool:
    return PoolFactory()


def guest(pool: StoragePool, source: str, *, by_name: bool = False, **values: Any) -> VM:
    vm = VMFactory(hypervisor=values.pop("hypervisor", pool.hypervisor), **values)
    VMDisk.objects.create(vm=vm, target="vda", source=source, pool=pool.name if by_name else "")
    return vm


def told(volume: Volume) -> list[tuple[str, str, str, bool]]:
    return [(use.type, use.name, use.how, use.running) for use in uses.uses_of([volume])[volume.pk]]


def test_a_guest_uses_it_by_path_or_by_pool_and_name(pool: StoragePool) -> None:
    by_path, by_name, nobody = (VolumeFactory(pool=pool, name=name) for name in ("a", "b", "c"))
    guest(pool, by_path.path, name="one", state="running")
    guest(pool, by_path.path, name="two")
    guest(pool, "b", by_name=True, name="three")
    guest(pool, by_path.path, name="gone", gone_at="2026-01-01T00:00:00Z")
    assert told(by_path) == [("vm", "one", "vda", True), ("vm", "two", "vda", False)]
    assert told(by_name) == [("vm", "three", "vda", False)]
    assert told(nobody) == []


def test_the_same_path_on_another_host_is_another_file(pool: StoragePool) -> None:
    volume = VolumeFactory(pool=pool, name="a")
    twin = VolumeFactory(pool=PoolFactory(name=pool.name, target=pool.target), name="a")
    assert twin.path == volume.path
    guest(pool, volume.path, name="one")
    guest(pool, "a", by_name=True, name="two")
    assert [name for _, name, *_ in told(volume)] == ["one", "two"]
    assert told(twin) == []
    assert list(volume_list(SYSTEM, q="is:orphan")) == [twin]


def test_another_driver_of_the_host_uses_it_too(pool: StoragePool) -> None:
    volume = VolumeFactory(pool=pool)
    guest(pool, volume.path, hypervisor=HypervisorFactory(host=pool.host, driver="lxc"), name="box")
    assert [name for _, name, *_ in told(volume)] == ["box"]


def test_what_two_hosts_see_is_used_on_both(pool: StoragePool) -> None:
    here, there, elsewhere = (
        PoolFactory(type="netfs", source=source, target=target)
        for source, target in (("nas:/vm", "/srv/a"), ("nas:/vm", "/srv/b"), ("other:/vm", "/srv/a"))
    )
    seen_here, seen_there, other = (VolumeFactory(pool=one, name="disk") for one in (here, there, elsewhere))
    guest(there, seen_there.path, name="web")
    assert told(seen_here) == told(seen_there) == [("vm", "web", "vda", False)]
    assert told(other) == []
    assert list(volume_list(SYSTEM, q="is:orphan")) == [other]
    assert uses.running_in(here) == []


def test_a_second_pool_of_the_same_files_shows_the_same_uses(pool: StoragePool) -> None:
    volume = VolumeFactory(pool=pool, name="a")
    again = VolumeFactory(pool=PoolFactory(hypervisor=pool.hypervisor, target=pool.target), name="a", path=volume.path)
    guest(pool, "a", by_name=True, name="named")
    guest(pool, volume.path, name="web")
    assert told(again) == told(volume) == [("vm", "named", "vda", False), ("vm", "web", "vda", False)]


def test_an_overlay_uses_its_base_in_whatever_pool(pool: StoragePool) -> None:
    base = VolumeFactory(pool=pool, name="base")
    VolumeFactory(pool=PoolFactory(hypervisor=pool.hypervisor), name="overlay", backing=base.path)
    VolumeFactory(pool=PoolFactory(), name="elsewhere", backing=base.path)
    assert told(base) == [("volume", "overlay", "overlay", False)]


def test_an_image_uses_its_copy(pool: StoragePool) -> None:
    volume = VolumeFactory(pool=pool, name="debian.qcow2")
    ImageCopy.objects.create(image=Image.objects.create(name="debian-12"), pool=pool, volume="debian.qcow2")
    assert told(volume) == [("image", "debian-12", "image", False)]


def test_orphans_are_what_nobody_uses(pool: StoragePool) -> None:
    disk, named, base, overlay, image, orphan = (
        VolumeFactory(pool=pool, name=name) for name in ("disk", "named", "base", "overlay", "image", "orphan")
    )
    Volume.objects.filter(pk=overlay.pk).update(backing=base.path)
    guest(pool, disk.path)
    guest(pool, "named", by_name=True)
    guest(pool, overlay.path)
    ImageCopy.objects.create(image=Image.objects.create(name="i"), pool=pool, volume=image.name)
    assert list(volume_list(SYSTEM, q="is:orphan")) == [orphan]
    assert orphans_of(SYSTEM, pool) == Orphans(count=1, allocation_bytes=orphan.allocation_bytes)
    assert set(volume_list(SYSTEM, q="is:used")) == {disk, named, base, overlay, image}
    assert set(volume_list(SYSTEM, q="-is:orphan is:overlay")) == {overlay}


def test_guests_that_run_with_a_pool_are_known(pool: StoragePool) -> None:
    volume = VolumeFactory(pool=pool)
    guest(pool, volume.path, name="off")
    assert uses.running_in(pool) == []
    guest(pool, volume.path, name="on", state="paused")
    guest(pool, "whatever", by_name=True, name="named", state="running")
    guest(PoolFactory(name=pool.name), "whatever", by_name=True, name="elsewhere", state="running")
    assert [use.name for use in uses.running_in(pool)] == ["named", "on"]


def test_who_stands_in_the_way_is_named() -> None:
    many = [uses.Use(type="vm", id=str(n), name=f"vm-{n}", how="vda") for n in range(5)]
    with pytest.raises(
        uses.InUse, match=r"disk is used by vm-0 \(vda\), vm-1 \(vda\), vm-2 \(vda\) and 2 more"
    ) as raised:
        uses.refuse("disk", many)
    assert [one["name"] for one in raised.value.context["used_by"]] == [f"vm-{n}" for n in range(5)]
    uses.refuse("disk", [])


def test_a_page_costs_the_same_whatever_stands_on_it(
    pool: StoragePool, django_assert_num_queries: Callable[..., Any]
) -> None:
    for count in (2, 60):
        for volume in VolumeFactory.create_batch(count, pool=PoolFactory()):
            guest(volume.pool, volume.path)
        with django_assert_num_queries(9):
            page = volume_page(SYSTEM, limit=500)
            assert all(volume.uses for volume in page.items)
