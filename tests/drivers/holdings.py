"""What every driver promises of storage and networks: a part of `tests.drivers.conformance`."""

from __future__ import annotations

import dataclasses
import io
import random
import uuid
from typing import TYPE_CHECKING

import pytest

from drivers.errors import AlreadyExists, InvalidDefinition, NotFound, Unsupported, WrongState
from drivers.types import DhcpHost, Feature, Holding, HoldingEvent, NetworkSpec, PoolSpec, StorageState, VolumeSpec
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drivers.base import Session
    from drivers.types import NetworkInfo, News
    from tests.drivers.conformance import Lab

MIB = 1 << 20
_POOL, _VOLUME = PoolSpec(name="x", type="dir", target="/srv/x"), VolumeSpec(name="x", capacity_bytes=MIB)

EVERY_VERB: dict[Feature, tuple[Callable[[Session], object], ...]] = {
    Feature.STORAGE_POOLS: (
        lambda session: session.pools(),
        lambda session: session.pool("x"),
        lambda session: session.pool_refresh("x"),
        lambda session: session.volumes("x"),
        lambda session: session.volume("x", "x"),
        lambda session: session.volume_create("x", _VOLUME),
        lambda session: session.volume_delete("x", "x"),
    ),
    Feature.STORAGE_MANAGE: (
        lambda session: session.pool_create(_POOL),
        lambda session: session.pool_start("x"),
        lambda session: session.pool_stop("x"),
        lambda session: session.pool_set_autostart("x", enabled=True),
        lambda session: session.pool_delete("x"),
    ),
    Feature.STORAGE_CONTENT: (
        lambda session: session.volume_clone("x", _VOLUME, source="y"),
        lambda session: session.volume_resize("x", "x", capacity_bytes=1),
        lambda session: session.volume_wipe("x", "x"),
        lambda session: session.volume_upload("x", "x", bytes, length=1),
        lambda session: session.volume_download("x", "x", lambda piece: None),
    ),
    Feature.NETWORKS: (lambda session: session.networks(),),
    Feature.NETWORKS_MANAGE: (
        lambda session: session.leases("x"),
        lambda session: session.network_create(NetworkSpec(name="x", mode="isolated")),
        lambda session: session.network_start("x"),
        lambda session: session.network_stop("x"),
        lambda session: session.network_set_autostart("x", enabled=True),
        lambda session: session.network_delete("x"),
        lambda session: session.network_keep("x", DhcpHost(mac="52:54:00:00:00:01", address="10.0.0.2")),
        lambda session: session.network_release("x", "52:54:00:00:00:01"),
        lambda session: session.host_interfaces(),
        lambda session: session.filters(),
        lambda session: session.filter_define("<filter name='x'/>"),
        lambda session: session.filter_delete("x"),
    ),
}


def volume(name: str = "web.raw", **values: object) -> VolumeSpec:
    return VolumeSpec(**{"name": name, "capacity_bytes": 8 * MIB, **values})  # type: ignore[arg-type]


def heard(lab: Lab) -> list[tuple[Holding, str, str]]:
    """What the session tells of pools and networks from now on: kind, name, reason. It grows."""
    found: list[tuple[Holding, str, str]] = []

    def sink(event: News) -> None:
        if isinstance(event, HoldingEvent):
            found.append((event.kind, event.name, event.reason))

    if lab.has(Feature.EVENTS):
        lab.session.subscribe(sink)
    return found


class HoldingsConformance:
    """A mixin: `Conformance` is one."""

    @pytest.fixture
    def pool(self, lab: Lab) -> Iterator[str]:
        """A pool of the test's own, running and empty; gone afterwards, with what is in it."""
        name = f"vmmtest-{uuid.uuid4().hex[:8]}"
        if not lab.has(Feature.STORAGE_MANAGE):
            yield ""
            return
        made = lab.session.pool_create(PoolSpec(name=name, type="dir", target=lab.pool_target(name), autostart=False))
        assert (made.name, made.state, made.autostart) == (name, StorageState.RUNNING, False)
        yield name
        if name in {one.name for one in lab.session.pools()}:
            lab.session.pool_start(name)
            for one in lab.session.volumes(name):
                lab.session.volume_delete(name, one.name)
            lab.session.pool_delete(name)

    def test_undeclared_holdings_are_refused_verb_by_verb(self, lab: Lab) -> None:
        for feature, verbs in EVERY_VERB.items():
            if not lab.has(feature):
                for verb in verbs:
                    with pytest.raises(Unsupported) as refusal:
                        verb(lab.session)
                    assert refusal.value.detail == lab.driver.reasons[feature]

    def test_a_pool_is_listed_stopped_started_and_deleted(self, lab: Lab, pool: str) -> None:
        if not pool:
            return
        session, news = lab.session, heard(lab)
        _what_cannot_be_a_pool(lab, pool)
        listed = next(one for one in session.pools() if one.name == pool)
        assert listed == session.pool(pool)
        assert listed.uuid
        assert listed.persistent
        assert (listed.type, listed.target, listed.formats[0]) == ("dir", lab.pool_target(pool), "qcow2")
        assert 0 <= listed.available_bytes <= listed.capacity_bytes
        session.pool_set_autostart(pool, enabled=True)
        assert session.pool(pool).autostart
        session.pool_refresh(pool)
        for _ in range(2):
            session.pool_stop(pool)
        stopped = next(one for one in session.pools() if one.name == pool)
        assert (stopped.state, stopped.capacity_bytes, stopped.uuid) == (StorageState.INACTIVE, None, listed.uuid)
        for verb in (session.volumes, session.pool_refresh):
            with pytest.raises(WrongState):
                verb(pool)
        for _ in range(2):
            session.pool_start(pool)
        assert session.pool(pool).state is StorageState.RUNNING
        session.pool_delete(pool)
        with pytest.raises(NotFound):
            session.pool(pool)
        lab.works(Feature.STORAGE_MANAGE)
        if lab.has(Feature.EVENTS):
            wanted = {(Holding.POOL, pool, word) for word in ("refreshed", "started", "undefined")}
            wait_until(lambda: wanted <= set(news), 5, f"news of the pool, beside {news}")

    def test_volumes_are_made_listed_and_deleted(self, lab: Lab, pool: str) -> None:
        if not pool:
            return
        session = lab.session
        assert list(session.volumes(pool)) == []
        made = session.volume_create(pool, volume())
        assert (made.name, made.pool, made.format, made.kind) == ("web.raw", pool, "raw", "file")
        assert made.capacity_bytes == 8 * MIB
        assert made.path == f"{lab.pool_target(pool)}/web.raw"
        assert session.volume(pool, "web.raw") == made
        assert list(session.volumes(pool)) == [made]
        for wrong, error in (
            (volume(), AlreadyExists),
            (volume("a/b"), InvalidDefinition),
            (volume("small", capacity_bytes=0), InvalidDefinition),
            (volume("large", capacity_bytes=1 << 62), InvalidDefinition),
            (volume("odd", format="vmdk"), InvalidDefinition),
        ):
            with pytest.raises(error):
                session.volume_create(pool, wrong)
        copy = session.volume_clone(pool, volume("copy.raw", capacity_bytes=16 * MIB), source="web.raw")
        assert (copy.name, copy.capacity_bytes) == ("copy.raw", 16 * MIB)
        with pytest.raises(InvalidDefinition):
            session.volume_clone(pool, volume("less.raw", capacity_bytes=MIB), source="web.raw")
        session.volume_delete(pool, "web.raw")
        for verb in (session.volume, session.volume_delete):
            with pytest.raises(NotFound):
                verb(pool, "web.raw")
        assert [one.name for one in session.volumes(pool)] == ["copy.raw"]
        if lab.makes_qcow2:
            _overlays(lab, pool)
        lab.works(Feature.STORAGE_POOLS, Feature.STORAGE_CONTENT)

    def test_given_pools_take_empty_volumes(self, lab: Lab) -> None:
        """Where pools are not made here, but at the hypervisor itself."""
        if not lab.has(Feature.STORAGE_POOLS) or lab.has(Feature.STORAGE_MANAGE):
            return
        session = lab.session
        pool = next(one for one in session.pools() if one.name == lab.given_pool)
        assert session.pool(pool.name) == pool
        assert (pool.state, bool(pool.uuid), pool.persistent) == (StorageState.RUNNING, True, True)
        assert 0 < pool.available_bytes <= pool.capacity_bytes
        session.pool_refresh(pool.name)
        name = f"vmmtest-{uuid.uuid4().hex[:8]}.{pool.formats[0]}"
        spec = volume(name, format=pool.formats[0])
        made = session.volume_create(pool.name, spec)
        try:
            assert (made.name, made.pool, made.format, made.capacity_bytes) == (
                name,
                pool.name,
                pool.formats[0],
                8 * MIB,
            )
            assert session.volume(pool.name, name) == made
            assert made in session.volumes(pool.name)
            for wrong, error in (
                (spec, AlreadyExists),
                (dataclasses.replace(spec, name="a/b"), InvalidDefinition),
                (dataclasses.replace(spec, name="vmmtest-0", capacity_bytes=0), InvalidDefinition),
                (dataclasses.replace(spec, name="vmmtest-0", format="qcow2"), InvalidDefinition),
            ):
                with pytest.raises(error):
                    session.volume_create(pool.name, wrong)
        finally:
            session.volume_delete(pool.name, name)
        assert name not in {one.name for one in session.volumes(pool.name)}
        for verb in (session.volume, session.volume_delete):
            with pytest.raises(NotFound):
                verb(pool.name, name)
        for there in (session.pool, session.volumes, session.pool_refresh):
            with pytest.raises(NotFound):
                there("vmmtest-nothing")
        lab.works(Feature.STORAGE_POOLS)

    def test_bytes_go_up_and_come_down(self, lab: Lab, pool: str) -> None:
        if not pool:
            return
        session = lab.session
        session.volume_create(pool, volume())
        data = random.Random(7).randbytes(3 * MIB + 77)
        if not lab.has_bytes:
            for verb in EVERY_VERB[Feature.STORAGE_CONTENT][1:]:
                with pytest.raises(Unsupported, match="simulated"):
                    verb(session)
            return
        session.volume_upload(pool, "web.raw", io.BytesIO(data).read, length=len(data), offset=513)
        got = io.BytesIO()
        session.volume_download(pool, "web.raw", got.write, offset=513, length=len(data))
        assert got.getvalue() == data
        session.volume_resize(pool, "web.raw", capacity_bytes=9 * MIB)
        whole = io.BytesIO()
        session.volume_download(pool, "web.raw", whole.write)
        assert whole.getvalue() == bytes(513) + data + bytes(9 * MIB - 513 - len(data))
        with pytest.raises(InvalidDefinition):
            session.volume_resize(pool, "web.raw", capacity_bytes=8 * MIB)
        with pytest.raises(InvalidDefinition):
            session.volume_upload(pool, "web.raw", io.BytesIO(data).read, length=len(data), offset=7 * MIB)
        session.volume_wipe(pool, "web.raw")
        wiped = io.BytesIO()
        session.volume_download(pool, "web.raw", wiped.write)
        assert not any(wiped.getvalue())
        _broken_off(session, pool)

    def test_networks_are_listed(self, lab: Lab) -> None:
        if not lab.has(Feature.NETWORKS):
            return
        found = {one.name: one for one in lab.session.networks()}
        network = found[lab.network]
        assert network.uuid
        assert network.mode
        assert isinstance(network.active, bool)
        assert all("/" in address for address in network.addresses)
        if not lab.has(Feature.NETWORKS_MANAGE):
            pass
        elif lab.has_leases:
            assert list(lab.session.leases(lab.network)) == []
            with pytest.raises(NotFound):
                lab.session.leases("vmmtest-nothing")
        else:
            with pytest.raises(Unsupported, match="simulated"):
                lab.session.leases(lab.network)
        lab.works(Feature.NETWORKS)

    def test_interfaces_of_the_host_are_listed(self, lab: Lab) -> None:
        if not lab.has(Feature.NETWORKS_MANAGE):
            return
        if not lab.has_leases:
            with pytest.raises(Unsupported, match="simulated"):
                lab.session.host_interfaces()
            return
        found = {one.name: one for one in lab.session.host_interfaces()}
        assert found["lo"].kind == "loopback"
        assert len(found) > 1
        for mode, part in (("bridge", "bridge"), ("openvswitch", "bridge"), ("macvtap", "device")):
            spec = NetworkSpec(name=f"vmmtest-{uuid.uuid4().hex[:8]}", mode=mode, **{part: "vmmtestno0"})  # type: ignore[arg-type]
            with pytest.raises(NotFound, match=r"There is no .* vmmtestno0 on this host"):
                lab.session.network_create(spec)
            assert spec.name not in {one.name for one in lab.session.networks()}

    def test_filters_are_made_changed_and_deleted(self, lab: Lab) -> None:
        if not lab.has(Feature.NETWORKS_MANAGE):
            return
        session, name = lab.session, f"vmmtest-{uuid.uuid4().hex[:8]}"
        xml = f"<filter name='{name}' chain='root'><rule action='drop' direction='in' priority='500'><all/></rule></filter>"
        if not lab.has_leases:
            with pytest.raises(Unsupported, match="no network filters"):
                session.filter_define(xml)
            return
        made = session.filter_define(xml)
        outer = f"<filter name='{name}-b' chain='root'><filterref filter='{name}'/></filter>"
        try:
            assert (made.name, made.chain, made.rules, made.uses) == (name, "root", 1, ())
            assert made in list(session.filters())
            assert session.filter_define(outer).uses == (name,)
            changed = session.filter_define(xml.replace("500", "400"), name=name)
            assert (changed.uuid, "400" in changed.xml) == (made.uuid, True)
            _what_cannot_be_a_filter(session, name, xml)
        finally:
            for one in (f"{name}-b", name):
                session.filter_delete(one)
        with pytest.raises(NotFound):
            session.filter_delete(name)

    def test_a_network_is_made_stopped_started_and_deleted(self, lab: Lab) -> None:
        if not lab.has(Feature.NETWORKS_MANAGE):
            return
        session = lab.session
        name = f"vmmtest-{uuid.uuid4().hex[:8]}"
        spec = NetworkSpec(
            name=name, mode="isolated", domain="lab.test", address="198.18.77.1/28", dhcp_start="198.18.77.3",
            dhcp_end="198.18.77.9", autostart=False,
        )  # fmt: skip
        if not lab.runs_networks:
            with pytest.raises(Unsupported, match="iptables"):
                session.network_create(spec)
            assert name not in {one.name for one in session.networks()}
            return
        news = heard(lab)
        made = session.network_create(spec)
        try:
            assert (made.name, made.active, made.mode, made.domain) == (name, True, "isolated", "lab.test")
            assert (made.addresses, made.dhcp, made.autostart) == (("198.18.77.1/28",), True, False)
            assert _listed(session, name) == made
            _keeps_addresses(session, name)
            _what_cannot_be_a_network(lab, spec)
            session.network_set_autostart(name, enabled=True)
            assert _listed(session, name).autostart
            for _ in range(2):
                session.network_stop(name)
            assert not _listed(session, name).active
            for _ in range(2):
                session.network_start(name)
            assert _listed(session, name).active
        finally:
            session.network_delete(name)
        assert name not in {one.name for one in session.networks()}
        if lab.has(Feature.EVENTS):
            wanted = {(Holding.NETWORK, name, word) for word in ("started", "stopped", "undefined")}
            wait_until(lambda: wanted <= set(news), 5, f"news of the network, beside {news}")
        for verb in (session.network_start, session.network_stop, session.network_delete):
            with pytest.raises(NotFound):
                verb(name)
        lab.works(Feature.NETWORKS_MANAGE)


def _listed(session: Session, name: str) -> NetworkInfo:
    return next(one for one in session.networks() if one.name == name)


REFUSED = frozenset({"vmmtest-other", "vmmtest-<other>"})


def _what_cannot_be_a_network(lab: Lab, spec: NetworkSpec) -> None:
    """It is refused, and leaves nothing."""
    for values, error in (
        ({}, AlreadyExists),
        ({"name": "vmmtest-<other>"}, InvalidDefinition),
        ({"name": "vmmtest-other", "address": "198.18.77.300/28"}, InvalidDefinition),
        ({"name": "vmmtest-other", "dhcp_end": "198.18.78.9"}, InvalidDefinition),
    ):
        with pytest.raises(error):
            lab.session.network_create(dataclasses.replace(spec, **values))  # type: ignore[arg-type]
    assert REFUSED.isdisjoint(one.name for one in lab.session.networks())


def _what_cannot_be_a_pool(lab: Lab, pool: str) -> None:
    """It is refused, and leaves nothing."""
    for name, target, error in (
        (pool, lab.pool_target("other"), AlreadyExists),
        ("vmmtest-other", lab.pool_target(pool), AlreadyExists),
        ("vmmtest-<other>", lab.pool_target("other"), InvalidDefinition),
        ("vmmtest-other", "../etc", InvalidDefinition),
        ("vmmtest-other", "", InvalidDefinition),
    ):
        with pytest.raises(error):
            lab.session.pool_create(PoolSpec(name=name, type="dir", target=target))
    assert REFUSED.isdisjoint(one.name for one in lab.session.pools())


def _overlays(lab: Lab, pool: str) -> None:
    """An overlay lies on a volume of its pool."""
    session = lab.session
    base = session.volume_create(pool, volume("base.qcow2", format="qcow2"))
    made = session.volume_create(pool, volume("over.qcow2", format="qcow2", backing="base.qcow2"))
    assert (made.format, made.backing, made.backing_format) == ("qcow2", base.path, "qcow2")
    for wrong, error in (
        (volume("small", format="qcow2", backing="base.qcow2", capacity_bytes=MIB), InvalidDefinition),
        (volume("raw", backing="base.qcow2"), InvalidDefinition),
        (volume("lost", format="qcow2", backing="nothing"), NotFound),
    ):
        with pytest.raises(error):
            session.volume_create(pool, wrong)
    names = {one.name for one in session.volumes(pool)}
    assert {"base.qcow2", "over.qcow2"} <= names
    assert names.isdisjoint({"small", "raw", "lost"})


def _broken_off(session: Session, pool: str) -> None:
    """A transfer that fails on this side is broken off, and what failed is raised."""
    pieces = iter([bytes(MIB), bytes(MIB)])

    def read(_size: int) -> bytes:
        return next(pieces)[:_size]

    with pytest.raises(StopIteration):
        session.volume_upload(pool, "web.raw", read, length=8 * MIB)

    def write(_piece: bytes) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        session.volume_download(pool, "web.raw", write)
    session.volume_delete(pool, "web.raw")


def _keeps_addresses(session: Session, name: str) -> None:
    """Made, changed, compared with the others, taken back: in `198.18.77.1/28`."""
    web = DhcpHost(mac="52:54:00:aa:00:01", address="198.18.77.12", name="web")
    for host in (web, web, dataclasses.replace(web, address="198.18.77.13")):
        session.network_keep(name, host)
        assert _listed(session, name).dhcp_hosts == (host,)
    for wrong in ("198.18.77.13", "198.18.77.1", "198.18.77.15", "10.0.0.9", "nothing"):
        with pytest.raises(InvalidDefinition) as refusal:
            session.network_keep(name, DhcpHost(mac="52:54:00:aa:00:02", address=wrong))
        assert refusal.value.context["errors"][0]["pointer"] == "/address"
    for _ in range(2):
        session.network_release(name, web.mac.upper())
        assert _listed(session, name).dhcp_hosts == ()
    session.network_stop(name)
    session.network_keep(name, web)
    session.network_start(name)
    assert _listed(session, name).dhcp_hosts == (web,)


def _what_cannot_be_a_filter(session: Session, name: str, xml: str) -> None:
    with pytest.raises(AlreadyExists):
        session.filter_define(xml)
    with pytest.raises(NotFound):
        session.filter_define(xml.replace(name, f"{name}-no"), name=f"{name}-no")
    with pytest.raises(WrongState, match="taken in by"):
        session.filter_delete(name)
    for wrong in (
        f"<!DOCTYPE filter [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><filter name='{name}-c'>&x;</filter>",
        "<domain/>",
        "<filter name='../x'/>",
        f"<filter name='{name}-c'><filterref filter='{name}-no'/></filter>",
        f"<filter name='{name}-c'><filterref filter='{name}-c'/></filter>",
        "no XML",
    ):
        with pytest.raises(InvalidDefinition):
            session.filter_define(wrong)
    circle = f"<filter name='{name}' chain='root'><filterref filter='{name}-b'/></filter>"
    with pytest.raises(InvalidDefinition, match="circle"):
        session.filter_define(circle, name=name)
    with pytest.raises(InvalidDefinition, match="cannot be changed"):
        session.filter_define(xml.replace(name, f"{name}-c"), name=name)
