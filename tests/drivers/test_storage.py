"""The rules of storage: which words pass into a pool's or a volume's definition, and what is said of those that do not."""

from __future__ import annotations

import dataclasses

import pytest

from core.errors import BadInput
from drivers.errors import InvalidDefinition
from drivers.findings import refusing
from drivers.storage import (
    CAPACITY_MAX,
    POOL_TYPES,
    check_backing,
    check_extent,
    check_growth,
    check_pool,
    check_volume,
    formats_of,
)
from drivers.types import PoolSpec, VolumeInfo, VolumeSpec

GIB = 1 << 30
GOOD: dict[str, dict[str, str]] = {
    "dir": {"target": "/srv/guests"},
    "fs": {"source_device": "/dev/disk/by-id/wwn-0x5000", "target": "/srv/guests", "source_format": "ext4"},
    "netfs": {"source_host": "nas.lab", "source_directory": "/export/vm", "target": "/srv/nas", "source_format": "nfs"},
    "logical": {"source_name": "vg0", "source_device": "/dev/sdb"},
    "disk": {"source_device": "/dev/sdb", "source_format": "gpt"},
    "iscsi": {
        "source_host": "192.0.2.7:3260",
        "source_device": "iqn.2026-01.org.example:store.one",
        "initiator": "iqn.2026-01.org.example:host",
        "username": "chap",
        "secret_uuid": "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f",
    },
    "rbd": {"source_host": "mon1.lab:6789,[2001:db8::1]:6789", "source_name": "guests"},
    "zfs": {"source_name": "tank/guests"},
}


def pool(type_: str = "dir", **values: object) -> PoolSpec:
    return PoolSpec(**{"name": "guests", "type": type_, **GOOD.get(type_, {}), **values})  # type: ignore[arg-type]


def volume(**values: object) -> VolumeSpec:
    return VolumeSpec(**{"name": "web.qcow2", "capacity_bytes": GIB, "format": "qcow2", **values})  # type: ignore[arg-type]


def pointers(call) -> list[str]:
    with pytest.raises(BadInput) as caught:
        call()
    assert all(one["detail"].endswith(".") for one in caught.value.errors)
    return [one["pointer"] for one in caught.value.errors]


@pytest.mark.parametrize("type_", list(POOL_TYPES))
def test_every_type_takes_what_it_asks_for_and_nothing_else(type_):
    known = POOL_TYPES[type_]
    assert known.name == type_
    assert check_pool(pool(type_)) == pool(type_)
    names = {field.name for field in known.fields}
    assert set(GOOD[type_]) <= names <= {field.name for field in dataclasses.fields(PoolSpec)}
    required = sorted(f"/{field.name}" for field in known.fields if field.required)
    assert sorted(pointers(lambda: check_pool(PoolSpec(name="guests", type=type_, build=False)))) == required
    for stranger in {"target", "source_name", "source_directory", "initiator"} - names:
        assert pointers(lambda name=stranger: check_pool(pool(type_, **{name: "/srv/x"}))) == [f"/{stranger}"]


def test_all_that_is_wrong_is_said_at_once():
    spec = pool("netfs", name="a/b", source_host="-o proxy", source_directory="export", target="/etc/ssl")
    assert pointers(lambda: check_pool(spec)) == ["/name", "/target", "/source_host", "/source_directory"]
    assert pointers(lambda: check_pool(pool("floppy"))) == ["/type"]
    assert pointers(lambda: check_pool(pool("iscsi", secret_uuid=""))) == ["/secret_uuid"]
    assert pointers(lambda: check_pool(pool("fs", source_format="auto"))) == ["/source_format"]
    assert check_pool(pool("fs", source_format="auto", build=False))


NAMES = [
    "", ".hidden", "..", "-rf", "a/b", "a\0b", "a\nb", "a\x7fb", "a\u202eb", "a\u2028b", "a ", " a", "x" * 241, "ä" * 121, "a;reboot",
    "$(reboot)", "`id`", "a|b", "a&b", "<name>", 'a"b', "a'b", "a\\b", "a,b", "a=b", "a@b", "a:b", "a*", "a?", "a#b", "a\ud800b",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_that_could_mean_something_to_somebody_are_refused(name):
    assert pointers(lambda: check_volume(volume(name=name), type_="dir")) == ["/name"]
    assert pointers(lambda: check_pool(pool(name=name))) == ["/name"]


@pytest.mark.parametrize("name", ["a", "_a", "web-1.qcow2", "Größe 2+1.raw", "देव", "0", "a.b_c-d", "x" * 240])
def test_usual_names_pass(name):
    assert check_volume(volume(name=name), type_="dir").name == name


def test_names_of_lvm_ceph_and_zfs_are_plain():
    for type_ in ("logical", "rbd", "zfs", "disk"):
        assert check_volume(volume(name="web-1", format="raw"), type_=type_)
        for name in ("two words", "Größe", "web@1"):
            assert pointers(
                lambda name=name, type_=type_: check_volume(volume(name=name, format="raw"), type_=type_)
            ) == ["/name"]


TARGETS = [
    "", "srv", "/", "//srv", "/srv/", "/srv//x", "/srv/./x", "/srv/../etc", "/etc", "/etc/libvirt", "/proc/self",
    "/dev/shm", "/home", "/usr/share",
    "/var/lib/libvirt/qemu/save", "/srv/a\nb", "/srv/a\0b", "/srv/$(id)", "/srv/<b>", "/srv/a'b", "/srv/-rf", "/srv/ a", "/" + "x" * 1024,
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS, ids=ascii)
def test_targets_that_are_not_plain_or_the_systems_own_are_refused(target):
    assert pointers(lambda: check_pool(pool(target=target))) == ["/target"]


@pytest.mark.parametrize(
    "target",
    ["/srv", "/tmp/x", "/var/lib/libvirt/images", "/root/.local/share/libvirt/images", "/mnt/a b/ü", "/etcetera"],
)
def test_usual_targets_pass(target):
    assert check_pool(pool(target=target)).target == target


def test_hosts_are_written_as_they_are_in_uris():
    assert check_pool(pool("netfs", source_host="NAS.Lab")).source_host == "nas.lab"
    assert check_pool(pool("netfs", source_host="2001:db8:0::1")).source_host == "[2001:db8::1]"
    for wrong in ("nas.lab:0", "nas lab", "a,b", "[::1", "nas/x", "nas.lab:", "0x7f.1"):
        assert pointers(lambda wrong=wrong: check_pool(pool("netfs", source_host=wrong))) == ["/source_host"]
    for wrong in ("/srv/x", "/dev/../etc/passwd", "sdb", "/dev", "/dev/"):
        assert pointers(lambda wrong=wrong: check_pool(pool("logical", source_device=wrong))) == ["/source_device"]


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"capacity_bytes": 0}, "/capacity_bytes"),
        ({"capacity_bytes": -1}, "/capacity_bytes"),
        ({"capacity_bytes": CAPACITY_MAX + 1}, "/capacity_bytes"),
        ({"allocation_bytes": -1}, "/allocation_bytes"),
        ({"allocation_bytes": GIB + 1}, "/allocation_bytes"),
        ({"format": "vmdk"}, "/format"),
        ({"format": ""}, "/format"),
        ({"format": "raw", "backing": "base"}, "/format"),
        ({"backing": "web.qcow2"}, "/backing"),
        ({"backing": "base", "allocation_bytes": 1}, "/allocation_bytes"),
    ],
)
def test_volumes_that_cannot_be(wrong, where):
    assert pointers(lambda: check_volume(volume(**wrong), type_="dir")) == [where]


def test_where_no_volume_can_be_made():
    assert formats_of("iscsi") == formats_of("mpath") == ()
    for type_ in ("iscsi", "scsi"):
        with pytest.raises(BadInput, match=type_):
            check_volume(volume(), type_=type_)


def test_growth_backing_and_extent():
    base = VolumeInfo(name="base", pool="p", path="/p/base", format="raw", capacity_bytes=GIB)
    check_growth(base, GIB)
    check_backing(volume(backing="base"), base)
    check_extent(base, offset=GIB - 1, length=1)
    check_extent(dataclasses.replace(base, format="qcow2"), offset=GIB, length=GIB)
    assert pointers(lambda: check_growth(base, GIB - 1)) == ["/capacity_bytes"]
    assert pointers(lambda: check_growth(base, CAPACITY_MAX + 1)) == ["/capacity_bytes"]
    assert pointers(lambda: check_backing(volume(backing="base", capacity_bytes=GIB - 1), base)) == ["/capacity_bytes"]
    assert pointers(lambda: check_backing(volume(), dataclasses.replace(base, kind="block"))) == ["/backing"]
    assert pointers(lambda: check_extent(base, offset=1, length=GIB)) == ["/length"]
    assert pointers(lambda: check_extent(base, offset=-1, length=1)) == ["/offset"]


def test_a_driver_refuses_with_its_own_error():
    with pytest.raises(InvalidDefinition, match="name") as caught, refusing():
        check_pool(pool(name="a/b"))
    assert caught.value.context["errors"] == [{"pointer": "/name", "detail": caught.value.detail.partition(": ")[2]}]
