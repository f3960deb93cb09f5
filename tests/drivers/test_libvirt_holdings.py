"""Storage and networks in libvirt's words: what is written for each type of pool, what is read of networks, and who waits for whom."""

from __future__ import annotations

import threading

import libvirt
import pytest

from drivers import registry
from drivers.libvirtd import session_network, session_storage
from drivers.libvirtd.patience import Patience
from drivers.libvirtd.xml.network import NetworkIp
from drivers.storage import POOL_TYPES
from drivers.types import Endpoint, Feature, StorageState
from tests.drivers.test_storage import GOOD, pool
from tests.drivers.test_testdriver import NODE
from tests.waiting import wait_until

SOURCES = {
    "dir": "",
    "fs": "/dev/disk/by-id/wwn-0x5000",
    "netfs": "nas.lab:/export/vm",
    "logical": "vg0",
    "disk": "/dev/sdb",
    "iscsi": "192.0.2.7:3260:iqn.2026-01.org.example:store.one",
    "rbd": "mon1.lab:6789,2001:db8::1:6789:guests",
    "zfs": "tank/guests",
}
TARGETS = {
    "logical": "/dev/vg0",
    "disk": "/dev",
    "iscsi": "/dev/disk/by-path",
    "rbd": "",
    "zfs": "/dev/zvol/tank/guests",
}


@pytest.fixture
def session(tmp_path):
    path = tmp_path / "node.xml"
    path.write_text(NODE)
    return registry.get("test").open(Endpoint(driver="test", uri=f"test://{path}"))


@pytest.mark.parametrize("type_", list(POOL_TYPES))
def test_libvirt_reads_what_is_written_for_each_type(session, type_):
    text = session_storage._pool_document(pool(type_)).to_xml()
    made = session._connection.storagePoolDefineXML(text, libvirt.VIR_STORAGE_POOL_DEFINE_VALIDATE)
    info = session.pool("guests")
    assert (info.type, info.source, info.formats) == (type_, SOURCES[type_], POOL_TYPES[type_].formats)
    assert info.target == TARGETS.get(type_, GOOD[type_].get("target"))
    assert info.state is StorageState.INACTIVE
    written = made.XMLDesc(0)
    for word in GOOD[type_].values():
        assert word.partition(":")[0].strip("[]") in written
    made.undefine()


def test_only_mount_wants_the_brackets_of_an_address():
    for type_, expected in (("netfs", "[2001:db8::1]"), ("iscsi", "2001:db8::1")):
        document = session_storage._pool_document(pool(type_, source_host="[2001:db8::1]"))
        assert [(host.name, host.port) for host in document.hosts] == [(expected, None)]


IP = "<ip address='198.51.100.1' prefix='24'/>"
NETWORKS = [
    ("", "isolated"), (f"<forward/>{IP}", "nat"), (f"<forward mode='route'/>{IP}", "route"), (f"<forward mode='open'/>{IP}", "open"),
    ("<forward mode='bridge'/><bridge name='br0'/>", "bridge"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "mode"), NETWORKS, ids=[mode for _, mode in NETWORKS])
def test_a_network_is_told_as_it_is_defined(session, words, mode):
    xml = f"<network><name>lab</name><domain name='lab.test'/>{words}</network>"
    made = session._connection.networkDefineXML(xml)
    made.setAutostart(1)
    info = next(one for one in session.networks() if one.name == "lab")
    assert (info.uuid, info.mode, info.domain) == (made.UUIDString(), mode, "lab.test")
    assert (info.active, info.autostart, info.persistent, info.dhcp) == (False, True, True, False)
    assert info.bridge == ("br0" if mode == "bridge" else "")
    default = next(one for one in session.networks() if one.name == "default")
    assert (default.active, default.addresses, default.dhcp) == (True, ("192.168.122.1/24",), True)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"address": "192.0.2.1", "netmask": "255.255.255.0"}, "192.0.2.1/24"),
        ({"address": "192.0.2.1", "prefix": 25}, "192.0.2.1/25"),
        ({"address": "2001:db8::1", "prefix": 64}, "2001:db8::1/64"),
        ({"address": "10.0.0.1"}, "10.0.0.1"),
        ({"address": "nonsense", "prefix": 3}, "nonsense"),
        ({}, ""),
    ],
)
def test_addresses_have_their_prefix_where_libvirt_tells_it(values, expected):
    assert session_network._address(NetworkIp(**values)) == expected


@pytest.mark.parametrize(
    ("feature", "lookup"),
    [
        (Feature.STORAGE_POOLS, "storagePoolLookupByUUIDString"),
        (Feature.NETWORKS, "networkLookupByUUIDString"),
    ],
)
def test_a_daemon_without_them_is_found_out(session, monkeypatch, feature, lookup):
    def absent(_self, _uuid):
        error = libvirt.libvirtError("x")
        text = f"this function is not supported by the connection driver: vir{lookup}"
        error.err = (libvirt.VIR_ERR_NO_SUPPORT, 18, text, 2, "", None, None, 0, 0)
        raise error

    monkeypatch.setattr(libvirt.virConnect, lookup, absent)
    found = session.capabilities()
    assert not found[feature].supported
    assert "not supported" in found[feature].reason
    assert found[Feature.START].supported


# -- patience ----------------------------------------------------------------------------------------------------------------
def test_one_call_is_under_way_however_many_ask():
    patience, gate, calls = Patience(), threading.Event(), []

    def call() -> int:
        calls.append(1)
        gate.wait(10)
        return len(calls)

    for _ in range(3):
        with pytest.raises(TimeoutError):
            patience.ask("x", call, seconds=0.01)
    assert patience.waits("x")
    waiting = patience.begin("x", call)
    gate.set()
    assert waiting.result(10) == 1
    wait_until(lambda: not patience.waits("x"), 10, "it is over")
    assert patience.ask("x", call, seconds=10) == 2


def test_what_a_call_raises_is_raised_to_who_asked():
    patience = Patience()
    with pytest.raises(ZeroDivisionError):
        patience.ask("x", lambda: 1 // 0, seconds=10)
    assert patience.ask("y", lambda: "answer", seconds=10) == "answer"
