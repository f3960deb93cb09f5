"""What a worker does to storage: done once, whatever happens in between, and refused with a reason."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections
from django.utils import timezone

from accounts.actor import SYSTEM
from core.errors import BadInput, Missing, VmmError
from drivers.errors import AlreadyExists, Busy, NoSpace, Unreachable, WrongState
from drivers.types import PoolSpec, StorageState
from events.models import Event
from operations import engine, reconcile
from operations.models import Operation
from storage import services
from storage.inventory import pools_observe, volumes_observe
from storage.models import StoragePool, Volume
from storage.services import NewVolumeWish
from storage.uses import InUse
from tests.factories import VMFactory
from tests.waiting import wait_until
from vms.models import VMDisk

if TYPE_CHECKING:
    from tests.storage.conftest import Place

pytestmark = pytest.mark.django_db(transaction=True)

GIB = 1 << 30


@pytest.fixture
def pool(place: Place) -> StoragePool:
    """`default` with a volume `base` of 1 GiB, seen."""
    place.world.storage.add_pool("default")
    place.world.storage.add_volume("default", "base", content=b"data", capacity_bytes=GIB, format_="qcow2")
    return seen(place)


def seen(place: Place) -> StoragePool:
    """Everything, as a sweep leaves it."""
    storage = place.world.storage
    listed = {one.name: storage.volumes(one.name) for one in storage.pools() if one.state is StorageState.RUNNING}
    return next(iter(pools_observe(place.hypervisor, storage.pools(), listed, complete=True).rows.values()))


def fresh(operation: Operation) -> Operation:
    return Operation.objects.get(pk=operation.pk)


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Operation]], Operation]:
    """Submits what nobody carries out by itself."""

    def submit(ask: Callable[[], Operation]) -> Operation:
        with monkeypatch.context() as patch:
            patch.setattr("operations.doorbell.ring", lambda *_a, **_k: None)
            return ask()

    return submit


Queued = Callable[[Callable[[], Operation]], Operation]


def ended(operation: Operation, workers: Callable[[], None]) -> Operation:
    workers()
    return fresh(operation)


def said(operation: Operation) -> tuple[str, str]:
    return operation.state, (operation.error or {}).get("code", "")


def volume_of(pool: StoragePool, name: str) -> Volume:
    return services.volume_get(Volume.objects.get(pool=pool, name=name).pk, by=SYSTEM)


def fresh_pool(pool: StoragePool) -> StoragePool:
    return services.pool_get(pool.pk, by=SYSTEM)


def make_pool(place: Place, **values: Any) -> Operation:
    spec = PoolSpec(**({"name": "guests", "type": "dir", "target": "/srv/guests"} | values))
    return services.pool_create(host=place.hypervisor.host, spec=spec, by=SYSTEM)


def use(volume: Volume, name: str = "web", **values: Any) -> None:
    vm = VMFactory(hypervisor=volume.pool.hypervisor, name=name, **values)
    VMDisk.objects.create(vm=vm, target="vda", source=volume.path)


# -- pools ---------------------------------------------------------------------------------------------------------------
def test_a_pool_is_made_under_the_id_that_was_promised(place: Place, workers: Callable[[], None]) -> None:
    operation = make_pool(place, autostart=False)
    row = StoragePool.objects.filter(name="guests")
    assert not row.exists()
    assert said(ended(operation, workers)) == ("succeeded", "")
    assert operation.target == row.get().ref
    assert fresh(operation).result == {"pool": str(row.get().pk)}
    assert (row.get().state, row.get().autostart, row.get().target) == ("running", False, "/srv/guests")
    told = Event.objects.get(type="storage_pool.defined")
    assert (told.object, told.operation) == (operation.target, operation.pk)


def test_a_pool_that_is_there_is_refused_at_once_or_by_the_host(
    place: Place, pool: StoragePool, workers: Callable[[], None]
) -> None:
    with pytest.raises(AlreadyExists) as raised:
        make_pool(place, name="default")
    assert raised.value.context["id"] == str(pool.pk)
    place.world.storage.add_pool("unseen")
    assert said(ended(make_pool(place, name="unseen"), workers)) == ("failed", "already_exists")
    assert place.world.calls["pool_create"] == 0


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({"type": "floppy"}, "/type"),
        ({"name": "../etc"}, "/name"),
        ({"target": "relative"}, "/target"),
        ({"target": "/etc"}, "/target"),
        ({"type": "netfs"}, "/source_host"),
        ({"source_host": "nas"}, "/source_host"),
    ],
)
def test_a_wrong_pool_says_where(place: Place, values: dict[str, Any], pointer: str) -> None:
    with pytest.raises(BadInput) as raised:
        make_pool(place, **values)
    assert pointer in [one["pointer"] for one in raised.value.errors]
    assert not Operation.objects.exists()


def test_start_stop_refresh_and_autostart(place: Place, pool: StoragePool, workers: Callable[[], None]) -> None:
    assert said(ended(services.pool_action(pool=pool, name="stop", by=SYSTEM), workers)) == ("succeeded", "")
    assert fresh_pool(pool).state == "inactive"
    with pytest.raises(WrongState, match="default is stopped"):
        services.pool_action(pool=fresh_pool(pool), name="refresh", by=SYSTEM)
    assert said(ended(services.pool_action(pool=fresh_pool(pool), name="start", by=SYSTEM), workers)) == (
        "succeeded",
        "",
    )
    place.world.storage.add_volume("default", "copied-in", capacity_bytes=1)
    assert (
        said(ended(services.pool_action(pool=fresh_pool(pool), name="refresh", by=SYSTEM), workers))[0] == "succeeded"
    )
    assert Volume.objects.filter(name="copied-in").exists()
    assert said(ended(services.pool_autostart(pool=pool, enabled=False, by=SYSTEM), workers))[0] == "succeeded"
    assert fresh_pool(pool).autostart is False
    with pytest.raises(Missing):
        services.pool_action(pool=pool, name="delete", by=SYSTEM)


def test_what_is_so_already_is_left_alone(place: Place, pool: StoragePool, queued: Queued) -> None:
    operation = queued(lambda: services.pool_action(pool=pool, name="stop", by=SYSTEM))
    place.world.storage.pool_stop("default")
    _attempt(operation)
    assert said(fresh(operation)) == ("succeeded", "")
    assert place.world.calls["pool_stop"] == 0


@pytest.mark.parametrize("action", ["stop", "delete"])
def test_guests_that_run_with_it_stand_in_the_way(place: Place, pool: StoragePool, queued: Queued, action: str) -> None:
    def ask() -> Operation:
        pool_now = fresh_pool(pool)
        if action == "delete":
            return services.pool_delete(pool=pool_now, by=SYSTEM)
        return services.pool_action(pool=pool_now, name=action, by=SYSTEM)

    operation = queued(ask)
    use(volume_of(pool, "base"), state="running")
    allowed = services.pool_actions(fresh_pool(pool), by=SYSTEM)[action]
    assert (allowed["allowed"], allowed["code"]) == (False, "in_use")
    _attempt(operation)
    assert said(fresh(operation)) == ("failed", "in_use")
    with pytest.raises(InUse, match="used by web"):
        ask()
    assert place.world.storage.pool("default").state is StorageState.RUNNING


def test_removing_a_pool_forgets_its_volumes_and_deletes_none(
    place: Place, pool: StoragePool, workers: Callable[[], None]
) -> None:
    assert said(ended(services.pool_delete(pool=pool, by=SYSTEM), workers)) == ("succeeded", "")
    assert StoragePool.objects.get().gone_at is not None
    assert not Volume.objects.exists()
    assert place.world.calls["volume_delete"] == 0
    assert not Event.objects.filter(type="volume.deleted").exists()


def test_another_pool_of_the_same_name_is_not_touched(place: Place, pool: StoragePool, queued: Queued) -> None:
    operation = queued(lambda: services.pool_delete(pool=pool, by=SYSTEM))
    place.world.lie("pool", lambda info: dataclasses.replace(info, uuid="somebody-elses"), times=2)
    _attempt(operation)
    assert said(fresh(operation)) == ("succeeded", "")
    assert place.world.calls["pool_delete"] == 0
    pool.refresh_from_db()
    assert pool.gone_at is not None


# -- volumes -------------------------------------------------------------------------------------------------------------
def create(pool: StoragePool, name: str = "new", **values: Any) -> Operation:
    wish = NewVolumeWish(**({"name": name, "capacity_bytes": GIB} | values))
    return services.volume_create(pool=pool, wish=wish, by=SYSTEM)


def test_a_volume_is_made_under_the_id_that_was_promised(pool: StoragePool, workers: Callable[[], None]) -> None:
    operation = create(pool)
    assert said(ended(operation, workers)) == ("succeeded", "")
    row = Volume.objects.get(name="new")
    assert (operation.target, fresh(operation).result) == (row.ref, {"volume": str(row.pk)})
    assert (row.format, row.capacity_bytes) == ("qcow2", GIB)
    told = Event.objects.get(type="volume.created", object=row.ref)
    assert (told.operation, told.actor) == (operation.pk, "system")


def test_an_overlay_takes_after_its_base(pool: StoragePool, workers: Callable[[], None]) -> None:
    operation = create(pool, backing="base", capacity_bytes=None)
    assert said(ended(operation, workers)) == ("succeeded", "")
    row = Volume.objects.get(name="new")
    assert (row.backing, row.format, row.capacity_bytes) == ("/pools/default/base", "qcow2", GIB)


def test_a_copy_takes_after_its_original(place: Place, pool: StoragePool, workers: Callable[[], None]) -> None:
    operation = create(pool, "copy", clone_of=str(volume_of(pool, "base").pk), capacity_bytes=None)
    assert operation.kind == "volume.clone"
    assert operation.slot_key.endswith("/copies")
    assert said(ended(operation, workers)) == ("succeeded", "")
    assert place.world.storage.content("default", "copy") == b"data"
    again = services.volume_clone(volume=volume_of(pool, "base"), name="second", by=SYSTEM)
    assert said(ended(again, workers)) == ("succeeded", "")


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({"name": "a/b"}, "/name"),
        ({"name": ""}, "/name"),
        ({"capacity_bytes": None}, "/capacity_bytes"),
        ({"capacity_bytes": 0}, "/capacity_bytes"),
        ({"format": "vmdk"}, "/format"),
        ({"backing": "nobody"}, "/backing"),
        ({"backing": "base", "capacity_bytes": 5}, "/capacity_bytes"),
        ({"backing": "base", "format": "raw"}, "/format"),
        ({"backing": "base", "clone_of": "base"}, "/clone_of"),
        ({"clone_of": "nobody"}, "/clone_of"),
        ({"clone_of": "base", "capacity_bytes": 5}, "/capacity_bytes"),
        ({"allocation_bytes": 2 * GIB}, "/allocation_bytes"),
    ],
)
def test_a_wrong_volume_says_where(pool: StoragePool, values: dict[str, Any], pointer: str) -> None:
    with pytest.raises(BadInput) as raised:
        create(pool, **values)
    assert pointer in [one["pointer"] for one in raised.value.errors]
    assert not Operation.objects.exists()


def test_a_volume_that_is_there_or_has_no_room_is_refused(
    place: Place, pool: StoragePool, workers: Callable[[], None]
) -> None:
    with pytest.raises(AlreadyExists):
        create(pool, "base")
    place.world.storage.add_volume("default", "unseen", capacity_bytes=1)
    assert said(ended(create(pool, "unseen"), workers)) == ("failed", "already_exists")
    place.world.fail_next(NoSpace("full"), verb="volume_create")
    assert said(ended(create(pool, "big"), workers)) == ("failed", "no_space")


def test_a_pool_that_is_stopped_takes_no_volume(place: Place, pool: StoragePool) -> None:
    place.world.storage.pool_stop("default")
    seen(place)
    with pytest.raises(WrongState, match="start it first"):
        create(fresh_pool(pool))
    assert services.pool_actions(fresh_pool(pool), by=SYSTEM)["create-volume"]["allowed"] is False


def test_a_volume_grows_and_never_shrinks(place: Place, pool: StoragePool, workers: Callable[[], None]) -> None:
    volume = volume_of(pool, "base")
    operation = services.volume_resize(volume=volume, capacity_bytes=2 * GIB, by=SYSTEM)
    assert said(ended(operation, workers)) == ("succeeded", "")
    assert volume_of(pool, "base").capacity_bytes == 2 * GIB
    with pytest.raises(BadInput, match="Not less"):
        services.volume_resize(volume=volume_of(pool, "base"), capacity_bytes=GIB, by=SYSTEM)
    assert place.world.calls["volume_resize"] == 1


def test_a_guest_that_is_off_does_not_stop_its_disk_from_growing(
    pool: StoragePool, workers: Callable[[], None]
) -> None:
    use(volume_of(pool, "base"))
    operation = services.volume_resize(volume=volume_of(pool, "base"), capacity_bytes=2 * GIB, by=SYSTEM)
    assert said(ended(operation, workers)) == ("succeeded", "")
    use(volume_of(pool, "base"), "runs", state="running")
    with pytest.raises(InUse, match="runs"):
        services.volume_resize(volume=volume_of(pool, "base"), capacity_bytes=3 * GIB, by=SYSTEM)


def test_wiping_leaves_zeros(place: Place, pool: StoragePool, workers: Callable[[], None]) -> None:
    operation = services.volume_wipe(volume=volume_of(pool, "base"), by=SYSTEM)
    assert said(ended(operation, workers)) == ("succeeded", "")
    assert place.world.storage.content("default", "base") == b"\0\0\0\0"


@pytest.mark.parametrize("verb", ["wipe", "delete"])
def test_what_somebody_uses_is_neither_wiped_nor_deleted(
    place: Place, pool: StoragePool, queued: Queued, verb: str
) -> None:
    ask = {"wipe": services.volume_wipe, "delete": services.volume_delete}[verb]
    operation = queued(lambda: ask(volume=volume_of(pool, "base"), by=SYSTEM))
    use(volume_of(pool, "base"))
    assert services.volume_actions(volume_of(pool, "base"), by=SYSTEM)[verb]["code"] == "in_use"
    _attempt(operation)
    assert said(fresh(operation)) == ("failed", "in_use")
    assert fresh(operation).error["context"]["used_by"][0]["name"] == "web"
    with pytest.raises(InUse, match=r"base is used by web \(vda\)"):
        ask(volume=volume_of(pool, "base"), by=SYSTEM)
    assert place.world.storage.content("default", "base") == b"data"


@pytest.mark.parametrize("verb", ["wipe", "delete"])
def test_an_overlay_that_a_snapshot_made_a_moment_ago_is_a_use(
    place: Place, pool: StoragePool, queued: Queued, verb: str
) -> None:
    ask = {"wipe": services.volume_wipe, "delete": services.volume_delete}[verb]
    operation = queued(lambda: ask(volume=volume_of(pool, "base"), by=SYSTEM))
    place.world.storage.add_volume("default", "base.snap1", capacity_bytes=GIB, format_="qcow2", backing="base")
    _attempt(operation)
    assert said(fresh(operation)) == ("failed", "in_use")
    assert "base.snap1 (overlay)" in fresh(operation).message
    assert place.world.calls["pool_refresh"] == 1
    assert place.world.storage.content("default", "base") == b"data"


def test_a_deleted_volume_is_gone_and_a_base_stays_while_its_overlay_is_there(
    place: Place, pool: StoragePool, workers: Callable[[], None], queued: Queued
) -> None:
    ended(create(pool, "overlay", backing="base"), workers)
    with pytest.raises(InUse, match=r"overlay \(overlay\)"):
        services.volume_delete(volume=volume_of(pool, "base"), by=SYSTEM)
    assert said(ended(services.volume_delete(volume=volume_of(pool, "overlay"), by=SYSTEM), workers))[0] == "succeeded"
    operation = queued(lambda: services.volume_delete(volume=volume_of(pool, "base"), by=SYSTEM))
    place.world.storage.remove_volume("default", "base")
    _attempt(operation)
    assert said(fresh(operation)) == ("succeeded", "")
    assert not Volume.objects.exists()


# -- interruptions -------------------------------------------------------------------------------------------------------
def cut_short(place: Place, operation: Operation, verb: str, workers: Callable[[], None]) -> None:
    """The worker dies while `verb` is under way at the host, which finishes it; another worker goes on."""
    thread = threading.Thread(target=_attempt, args=(operation,))
    place.world.hang(verb)
    thread.start()
    assert place.world.wait_for_calls(verb, 1)
    Operation.objects.filter(pk=operation.pk).update(
        lease_until=timezone.now() - timezone.timedelta(seconds=1), worker="dead:1:1"
    )
    place.world.release(verb)
    thread.join(10)
    reconcile.take_over_from_the_dead(alone=True)
    workers()


def _attempt(operation: Operation) -> None:
    try:
        engine.execute(operation.pk)
    finally:
        connections.close_all()


@pytest.mark.parametrize("verb", ["pool", "pool_create", "volumes"])
def test_making_a_pool_is_cut_short_anywhere_then_there_is_one(
    place: Place, workers: Callable[[], None], verb: str, queued: Queued
) -> None:
    operation = queued(lambda: make_pool(place))
    cut_short(place, operation, verb, workers)
    assert said(fresh(operation)) == ("succeeded", "")
    assert place.world.calls["pool_create"] == 1
    assert [str(pk) for pk in StoragePool.objects.values_list("pk", flat=True)] == [operation.target.split("/")[1]]


def test_a_pool_that_was_left_half_made_is_made_anew(place: Place, workers: Callable[[], None], queued: Queued) -> None:
    operation = queued(lambda: make_pool(place))
    Operation.objects.filter(pk=operation.pk).update(checkpoints=["begun"], interrupted=True)
    place.world.storage.add_pool("guests", state=StorageState.INACTIVE, target="/srv/guests")
    _attempt(operation)
    workers()
    assert said(fresh(operation)) == ("succeeded", "")
    assert (place.world.calls["pool_delete"], place.world.calls["pool_create"]) == (1, 1)


@pytest.mark.parametrize("verb", ["volume", "volume_create"])
def test_making_a_volume_is_cut_short_anywhere_then_there_is_one(
    place: Place, pool: StoragePool, workers: Callable[[], None], verb: str, queued: Queued
) -> None:
    operation = queued(lambda: create(pool))
    cut_short(place, operation, verb, workers)
    assert said(fresh(operation)) == ("succeeded", "")
    assert place.world.calls["volume_create"] == 1
    assert Volume.objects.get(name="new").ref == operation.target


def test_a_copy_that_was_cut_short_is_copied_anew_when_the_host_has_let_go(
    place: Place, pool: StoragePool, workers: Callable[[], None], monkeypatch: pytest.MonkeyPatch, queued: Queued
) -> None:
    monkeypatch.setattr("storage.volume_actions.BUSY_PAUSE_SECONDS", 0.05)
    operation = queued(lambda: create(pool, "copy", clone_of="base"))
    Operation.objects.filter(pk=operation.pk).update(checkpoints=["begun"], interrupted=True)
    place.world.storage.add_volume("default", "copy", content=b"da", capacity_bytes=GIB)
    place.world.storage.hold("default", "copy")
    thread = threading.Thread(target=_attempt, args=(operation,))
    thread.start()
    assert place.world.wait_for_calls("volume_delete", 2)
    place.world.storage.hold("default", "copy", held=False)
    wait_until(lambda: fresh(operation).ended, 10, "its end")
    thread.join(10)
    assert said(fresh(operation)) == ("succeeded", "")
    assert place.world.storage.content("default", "copy") == b"data"


def test_a_copy_that_somebody_uses_already_is_left_alone(place: Place, pool: StoragePool, queued: Queued) -> None:
    operation = queued(lambda: create(pool, "copy", clone_of="base"))
    Operation.objects.filter(pk=operation.pk).update(checkpoints=["begun"], interrupted=True)
    place.world.storage.add_volume("default", "copy", content=b"data", capacity_bytes=GIB)
    volumes_observe(pool, place.world.storage.volumes("default"), complete=True)
    use(volume_of(pool, "copy"))
    _attempt(operation)
    assert said(fresh(operation)) == ("succeeded", "")
    assert place.world.calls["volume_delete"] == 0


@pytest.mark.parametrize("verb", ["pool_delete", "volume_delete", "volume_wipe", "volume_resize", "pool_stop"])
def test_what_was_cut_short_comes_true_all_the_same(
    place: Place, pool: StoragePool, workers: Callable[[], None], verb: str, queued: Queued
) -> None:
    volume = volume_of(pool, "base")
    operation = queued(
        {
            "pool_delete": lambda: services.pool_delete(pool=pool, by=SYSTEM),
            "pool_stop": lambda: services.pool_action(pool=pool, name="stop", by=SYSTEM),
            "volume_delete": lambda: services.volume_delete(volume=volume, by=SYSTEM),
            "volume_wipe": lambda: services.volume_wipe(volume=volume, by=SYSTEM),
            "volume_resize": lambda: services.volume_resize(volume=volume, capacity_bytes=2 * GIB, by=SYSTEM),
        }[verb]
    )
    cut_short(place, operation, verb, workers)
    assert said(fresh(operation)) == ("succeeded", "")


def test_a_host_that_is_lost_in_the_middle_is_asked_again(
    place: Place, pool: StoragePool, workers: Callable[[], None]
) -> None:
    place.world.fail_next(Unreachable("lost"), verb="volume_create")
    operation = create(pool)
    wait_until(lambda: fresh(operation).ended, 15, "its end")
    workers()
    assert (said(fresh(operation)), fresh(operation).attempts > 1) == (("succeeded", ""), True)


@pytest.mark.parametrize(
    ("verb", "lie"), [("volume_create", lambda _: None), ("volume", lambda _: 7), ("pool", lambda _: "no pool")]
)
def test_a_lie_ends_it_as_the_hosts_fault(
    place: Place, pool: StoragePool, workers: Callable[[], None], verb: str, lie: Callable[[Any], Any]
) -> None:
    place.world.lie(verb, lie, times=50)
    assert said(ended(create(pool), workers)) == ("failed", "hypervisor_error")


def test_an_offline_host_and_a_hypervisor_without_pools_say_so(place: Place, pool: StoragePool) -> None:
    place.hypervisor.state = "offline"
    place.hypervisor.save(update_fields=["state"])
    with pytest.raises(Unreachable):
        create(fresh_pool(pool))
    place.hypervisor.state = "online"
    lacks = {"supported": False, "reason": "It has none."}
    place.hypervisor.capabilities |= {"storage.pools": lacks, "storage.manage": lacks}
    place.hypervisor.save(update_fields=["state", "capabilities"])
    with pytest.raises(VmmError, match="It has none"):
        make_pool(place)
    with pytest.raises(VmmError, match="It has none"):
        create(fresh_pool(pool))


def test_busy_is_said_by_the_host(place: Place, pool: StoragePool, workers: Callable[[], None]) -> None:
    place.world.fail_next(Busy("a job holds it"), verb="volume_delete", times=1)
    operation = services.volume_delete(volume=volume_of(pool, "base"), by=SYSTEM)
    wait_until(lambda: fresh(operation).ended, 15, "its end")
    workers()
    assert (said(fresh(operation)), fresh(operation).attempts > 1) == (("succeeded", ""), True)
