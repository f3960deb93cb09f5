"""Storage and networks of the in-memory hypervisor: what others' tests stand on."""

from __future__ import annotations

import hashlib
import io

import pytest

from drivers.errors import AlreadyExists, Busy, InvalidDefinition, NoSpace, NotFound, Timeout, Unreachable, WrongState
from drivers.fake import FakeDriver, drop_world, world
from drivers.types import PoolSpec, StorageState, VolumeSpec

MIB = 1 << 20


@pytest.fixture
def place(request):
    name = request.node.name
    yield world(name)
    drop_world(name)


@pytest.fixture
def session(place):
    place.storage.add_pool("store", capacity_bytes=4 * MIB)
    return FakeDriver().open(place.endpoint)


def spec(name: str = "web", **values: object) -> VolumeSpec:
    return VolumeSpec(**{"name": name, "capacity_bytes": MIB, **values})  # type: ignore[arg-type]


def test_pools_are_made_stopped_and_forgotten(session):
    made = session.pool_create(PoolSpec(name="more", type="dir", target="/srv/more"))
    assert (made.state, made.target, made.formats, made.autostart) == (
        StorageState.RUNNING, "/srv/more", ("qcow2", "raw"), True,
    )  # fmt: skip
    assert session.pool("more") == made
    session.pool_set_autostart("more", enabled=False)
    session.pool_stop("more")
    session.pool_stop("more")
    stopped = session.pool("more")
    assert (stopped.state, stopped.capacity_bytes, stopped.autostart) == (StorageState.INACTIVE, None, False)
    for verb in (session.volumes, session.pool_refresh):
        with pytest.raises(WrongState):
            verb("more")
    session.pool_start("more")
    assert [one.name for one in session.pools()] == ["store", "more"]
    session.pool_delete("more")
    with pytest.raises(NotFound):
        session.pool("more")


def test_a_pool_is_refused_before_it_is_made(session):
    for wrong, error in (
        (PoolSpec(name="store", type="dir", target="/srv/x"), AlreadyExists),
        (PoolSpec(name="other", type="dir", target="/pools/store"), AlreadyExists),
        (PoolSpec(name="a/b", type="dir", target="/srv/x"), InvalidDefinition),
        (PoolSpec(name="other", type="dir"), InvalidDefinition),
    ):
        with pytest.raises(error):
            session.pool_create(wrong)
    assert [one.name for one in session.pools()] == ["store"]


def test_an_overlay_knows_what_is_under_it(session, place):
    base = place.storage.add_volume("store", "base", content=b"x" * 1000, capacity_bytes=MIB, format_="raw")
    made = session.volume_create("store", spec(format="qcow2", backing="base"))
    assert (made.backing, made.backing_format, made.path) == (base.path, "raw", "/pools/store/web")
    assert session.volume("store", "web") == made
    assert session.volumes("store") == [base, made]
    with pytest.raises(InvalidDefinition):
        session.volume_create("store", spec("small", format="qcow2", backing="base", capacity_bytes=MIB - 1))
    with pytest.raises(NotFound):
        session.volume_create("store", spec("lost", format="qcow2", backing="nothing"))
    with pytest.raises(AlreadyExists):
        session.volume_create("store", spec())
    assert len(session.volumes("store")) == 2


def test_what_goes_up_comes_down_again(session, place):
    content = bytes(range(256)) * 1000
    session.volume_create("store", spec())
    session.volume_upload("store", "web", io.BytesIO(content).read, length=len(content), offset=100)
    got = io.BytesIO()
    session.volume_download("store", "web", got.write, offset=100, length=len(content))
    assert hashlib.sha256(got.getvalue()).digest() == hashlib.sha256(content).digest()
    assert place.storage.content("store", "web") == bytes(100) + content
    whole = io.BytesIO()
    session.volume_download("store", "web", whole.write)
    assert len(whole.getvalue()) == MIB
    copy = session.volume_clone("store", spec("copy", capacity_bytes=2 * MIB), source="web")
    assert (copy.capacity_bytes, place.storage.content("store", "copy")) == (2 * MIB, bytes(100) + content)
    session.volume_wipe("store", "web")
    assert not any(place.storage.content("store", "web"))


def test_a_full_pool_says_so(session):
    session.volume_create("store", spec("thick", capacity_bytes=3 * MIB, allocation_bytes=3 * MIB))
    with pytest.raises(NoSpace):
        session.volume_create("store", spec(capacity_bytes=2 * MIB, allocation_bytes=2 * MIB))
    session.volume_create("store", spec(capacity_bytes=8 * MIB))
    with pytest.raises(NoSpace):
        session.volume_upload("store", "web", io.BytesIO(bytes(2 * MIB)).read, length=2 * MIB)
    assert [one.name for one in session.volumes("store")] == ["thick", "web"]
    assert session.pool("store").available_bytes == 0


def test_growing_and_never_shrinking(session):
    session.volume_create("store", spec())
    session.volume_resize("store", "web", capacity_bytes=2 * MIB)
    for wrong in (MIB, 0, -1, 1 << 80):
        with pytest.raises(InvalidDefinition):
            session.volume_resize("store", "web", capacity_bytes=wrong)
    assert session.volume("store", "web").capacity_bytes == 2 * MIB
    with pytest.raises(InvalidDefinition):
        session.volume_upload("store", "web", io.BytesIO(b"xx").read, length=2, offset=2 * MIB - 1)


def test_a_volume_in_use_is_busy(session, place):
    session.volume_create("store", spec())
    place.storage.hold("store", "web")
    with pytest.raises(Busy):
        session.volume_delete("store", "web")
    place.storage.hold("store", "web", held=False)
    session.volume_delete("store", "web")
    with pytest.raises(NotFound):
        session.volume_delete("store", "web")


def test_a_volume_deleted_meanwhile_is_not_said_to_be_written(session, place):
    session.volume_create("store", spec())

    def deleting(size: int) -> bytes:
        place.storage.remove_volume("store", "web")
        return bytes(size)

    with pytest.raises(NotFound):
        session.volume_upload("store", "web", deleting, length=10)


def test_transfers_break_off_where_told(session, place):
    session.volume_create("store", spec())

    def failing(_size: int) -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        session.volume_upload("store", "web", failing, length=10)
    place.storage.break_transfers(Timeout("The host hung."), after_bytes=128 * 1024, times=2)
    with pytest.raises(Timeout):
        session.volume_upload("store", "web", io.BytesIO(bytes(MIB)).read, length=MIB)
    assert len(place.storage.content("store", "web")) == 128 * 1024
    got = io.BytesIO()
    with pytest.raises(Timeout):
        session.volume_download("store", "web", got.write)
    assert len(got.getvalue()) == 128 * 1024
    session.volume_delete("store", "web")


def test_a_cut_connection_ends_a_transfer_under_way(session, place):
    session.volume_create("store", spec())

    def cutting(size: int) -> bytes:
        place.cut()
        return bytes(size)

    with pytest.raises(Unreachable):
        session.volume_upload("store", "web", cutting, length=MIB)


def test_networks_and_their_leases(session, place):
    network = place.networks.add()
    lease = place.networks.lease("default", mac="52:54:00:00:00:01", address="192.168.122.7", hostname="web")
    assert session.networks() == [network]
    assert session.leases("default") == [lease]
    place.networks.set_active("default", active=False)
    assert not session.networks()[0].active
    assert session.leases("default") == []
    place.networks.remove("default")
    with pytest.raises(NotFound):
        session.leases("default")


def test_planned_failures_reach_these_verbs_too(session, place):
    place.fail_next(Timeout("slow"), verb="pools")
    with pytest.raises(Timeout):
        session.pools()
    assert place.calls["pools"] == 1
    place.storage.set_state("store", StorageState.INACCESSIBLE)
    assert session.pools()[0].state is StorageState.INACCESSIBLE
    place.storage.remove_pool("store")
    assert session.pools() == []
