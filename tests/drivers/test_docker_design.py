"""What a container engine is sent for a spec, what is refused before it is asked, and what it says of addresses."""

from __future__ import annotations

import dataclasses
import json

import pytest

from drivers.dockerd import design
from drivers.dockerd.document import Document
from drivers.dockerd.guests import Room
from drivers.errors import InvalidDefinition, Unsupported
from drivers.types import AddressInfo, DiskSpec, GuestSpec, NicSpec

ROOM = Room(cpu_count=4, memory_bytes=8 << 30)
SPEC = GuestSpec(
    name="web-1", uuid="0B7F0F4E-53A4-4F3E-9C0E-2F6A5F3F1D11", vcpus=2, memory_bytes=1 << 30, image="debian:13"
)


def test_a_body_says_what_was_asked_for():
    spec = dataclasses.replace(
        SPEC,
        title="Front",
        init="/bin/sh -c 'echo \"hi\"'",
        interfaces=(NicSpec(network="blue"),),
        metadata={"project": "x", "note": ""},
    )
    assert design.body(spec, ROOM) == {
        "Image": "debian:13",
        "Tty": True,
        "OpenStdin": True,
        "Cmd": ["/bin/sh", "-c", 'echo "hi"'],
        "Labels": {
            "vmmanager.uuid": SPEC.uuid.lower(),
            "org.opencontainers.image.title": "Front",
            "vmmanager.fact.project": "x",
            "vmmanager.fact.note": "",
        },
        "HostConfig": {"NanoCpus": 2_000_000_000, "Memory": 1 << 30, "NetworkMode": "blue"},
    }
    assert design.facts(design.body(spec, ROOM)["Labels"]) == spec.metadata
    plain = design.body(SPEC, ROOM)
    assert "Cmd" not in plain
    assert "NetworkMode" not in plain["HostConfig"]
    assert json.loads(design.shown("web-1", plain))["name"] == "web-1"


@pytest.mark.parametrize(
    ("field", "changes", "error"),
    [
        ("name", {"name": "a b"}, InvalidDefinition),
        ("name", {"name": "-web"}, InvalidDefinition),
        ("image", {"image": ""}, InvalidDefinition),
        ("image", {"image": "../../version"}, InvalidDefinition),
        ("image", {"image": "a/../b"}, InvalidDefinition),
        ("image", {"image": "a?b=c"}, InvalidDefinition),
        ("init", {"init": "sh 'open"}, InvalidDefinition),
        ("vcpus", {"vcpus": 5}, Unsupported),
        ("firmware", {"firmware": "uefi"}, Unsupported),
        ("kernel", {"kernel": "/boot/vmlinuz"}, Unsupported),
        ("root", {"root": "/srv"}, Unsupported),
        ("disks", {"disks": (DiskSpec(pool="p", volume="v", path="/x"),)}, Unsupported),
        ("interfaces[1]", {"interfaces": (NicSpec(network="a"), NicSpec(network="b"))}, Unsupported),
        ("interfaces[0].bridge", {"interfaces": (NicSpec(bridge="br0"),)}, Unsupported),
        ("interfaces[0].mac", {"interfaces": (NicSpec(network="a", mac="52:54:00:00:00:01"),)}, Unsupported),
        ("interfaces[0].model", {"interfaces": (NicSpec(network="a", model="virtio"),)}, Unsupported),
    ],
)
def test_what_a_container_cannot_be_is_refused(field, changes, error):
    with pytest.raises(error) as refusal:
        design.body(dataclasses.replace(SPEC, **changes), ROOM)
    assert refusal.value.context["field"] == field
    assert refusal.value.detail.startswith(f"{field}: ")


def container(mode: str = "bridge", **networks: dict[str, object]) -> Document:
    return Document({"HostConfig": {"NetworkMode": mode}, "NetworkSettings": {"Networks": networks}})


def test_addresses_are_the_engines_own():
    blue = {"IPAddress": "172.17.0.2", "IPPrefixLen": 16, "MacAddress": "02:42:AC:11:00:02"}
    both = blue | {"GlobalIPv6Address": "2001:db8::2", "GlobalIPv6PrefixLen": 64}
    assert design.addresses(container(blue=both, off={"IPAddress": "", "MacAddress": ""})) == [
        AddressInfo(address="172.17.0.2", prefix=16, mac="02:42:ac:11:00:02", source="lease"),
        AddressInfo(address="2001:db8::2", prefix=64, mac="02:42:ac:11:00:02", source="lease"),
    ]


@pytest.mark.parametrize(
    ("mode", "word"),
    [
        ("host", "host's network"),
        ("container:abc", "another one"),
        ("ns:/proc/1/ns/net", "another one"),
        ("none", "no network"),
    ],
)
def test_a_container_without_an_address_of_its_own_says_why(mode, word):
    assert word in design.addresses(container(mode, **{mode.partition(":")[0]: {"IPAddress": ""}}))
