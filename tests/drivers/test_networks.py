"""What a virtual network may be: each wrong word is refused at its field, before anything is asked of a host."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import BadInput
from drivers.errors import InvalidDefinition
from drivers.findings import refusing
from drivers.networks import MODES, check_network, overlapping
from drivers.types import NetworkSpec, PortGroup

TWINS = (PortGroup(name="red", default=True), PortGroup(name="red", default=True))


def spec(**values: Any) -> NetworkSpec:
    return NetworkSpec(**({"name": "lan", "address": "192.168.100.1/24"} | values))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"mode": "route", "bridge": "virbr-lan", "domain": "lab.example.org"},
        {"mode": "isolated"},
        {"mode": "isolated", "address": ""},
        {"mode": "bridge", "bridge": "br0", "address": ""},
        {"mode": "openvswitch", "bridge": "br-int", "address": "", "vlans": (42,)},
        {
            "mode": "openvswitch",
            "bridge": "br-int",
            "address": "",
            "port_groups": (PortGroup(name="red", vlans=(7,), default=True), PortGroup(name="all", vlans=(7, 8))),
        },
        {"mode": "macvtap", "device": "eth0.42", "macvtap": "vepa", "address": ""},
        {"address6": "fd00:100::1/64", "mtu": 1280},
        {"mtu": 576},
        {"dhcp_start": "192.168.100.2", "dhcp_end": "192.168.100.254"},
        {"dhcp_start": "192.168.100.7", "dhcp_end": "192.168.100.7"},
        {"address": "10.0.0.254/30"},
        {"address": "10.255.255.254/8", "dhcp_start": "10.0.0.1", "dhcp_end": "10.0.255.255"},
    ],
)
def test_a_good_network_passes_as_it_is(values: dict[str, Any]) -> None:
    assert check_network(spec(**values)) == spec(**values)


def test_what_is_written_another_way_is_written_one_way() -> None:
    made = check_network(spec(address="192.168.100.1/255.255.255.0", domain="Lab.Test"))
    assert (made.address, made.domain) == ("192.168.100.1/24", "lab.test")


@pytest.mark.parametrize(
    ("values", "pointers"),
    [
        ({"name": ""}, ["/name"]),
        ({"name": "../etc"}, ["/name"]),
        ({"name": "-lan"}, ["/name"]),
        ({"name": "lan'/><x"}, ["/name"]),
        ({"name": "lan\n"}, ["/name"]),
        ({"name": "l" * 51}, ["/name"]),
        ({"name": "netz-ü"}, ["/name"]),
        ({"mode": "hostdev"}, ["/mode"]),
        ({"mode": "openvswitch", "address": ""}, ["/bridge"]),
        ({"mode": "openvswitch", "bridge": "br0", "address": "", "vlans": (0,)}, ["/vlans"]),
        ({"mode": "openvswitch", "bridge": "br0", "address": "", "vlans": (4095,)}, ["/vlans"]),
        ({"mode": "openvswitch", "bridge": "br0", "address": "", "vlans": (7, 7)}, ["/vlans"]),
        ({"mode": "openvswitch", "bridge": "br0", "address": "", "mtu": 9000}, ["/mtu"]),
        ({"mode": "openvswitch", "bridge": "br0", "address": "", "port_groups": TWINS}, ["/port_groups"] * 2),
        (
            {"mode": "openvswitch", "bridge": "br0", "address": "", "port_groups": (PortGroup(name="'/>"),)},
            ["/port_groups"],
        ),
        ({"vlans": (42,)}, ["/vlans"]),
        ({"port_groups": (PortGroup(name="red"),)}, ["/port_groups"]),
        ({"mode": "macvtap", "address": ""}, ["/device"]),
        ({"mode": "macvtap", "address": "", "device": "eth0'/><x"}, ["/device"]),
        ({"mode": "macvtap", "address": "", "device": "eth0", "macvtap": "nat"}, ["/macvtap"]),
        ({"mode": "macvtap", "address": "", "device": "eth0", "bridge": "br0"}, ["/bridge"]),
        ({"device": "eth0"}, ["/device"]),
        ({"mtu": 575}, ["/mtu"]),
        ({"mtu": 65536}, ["/mtu"]),
        ({"address6": "fd00::1/64", "mtu": 1279}, ["/mtu"]),
        ({"address6": "fd00::/64"}, ["/address6"]),
        ({"address6": "fe80::1/64"}, ["/address6"]),
        ({"address6": "::1/64"}, ["/address6"]),
        ({"address6": "192.168.0.1/24"}, ["/address6"]),
        ({"mode": "bridge", "bridge": "br0", "address": "", "address6": "fd00::1/64"}, ["/address6"]),
        ({"bridge": "b" * 16}, ["/bridge"]),
        ({"bridge": "br0; reboot"}, ["/bridge"]),
        ({"bridge": "br%d"}, ["/bridge"]),
        ({"domain": "-lab.test"}, ["/domain"]),
        ({"domain": "lab..test"}, ["/domain"]),
        ({"domain": "lab.test\n"}, ["/domain"]),
        ({"domain": "a." * 126 + "a"}, []),
        ({"domain": "a." * 127 + "aa"}, ["/domain"]),
        ({"address": ""}, ["/address"]),
        ({"address": "192.168.100.1"}, ["/address"]),
        ({"address": "192.168.100.0/24"}, ["/address"]),
        ({"address": "192.168.100.255/24"}, ["/address"]),
        ({"address": "192.168.100.1/31"}, ["/address"]),
        ({"address": "10.0.0.1/7"}, ["/address"]),
        ({"address": "127.0.0.2/8"}, ["/address"]),
        ({"address": "224.0.0.1/24"}, ["/address"]),
        ({"address": "250.0.0.1/24"}, ["/address"]),
        ({"address": "169.254.3.1/24"}, ["/address"]),
        ({"address": "0.0.0.1/24"}, ["/address"]),
        ({"address": "2001:db8::1/64"}, ["/address"]),
        ({"address": "nonsense"}, ["/address"]),
        ({"mode": "bridge"}, ["/address", "/bridge"]),
        ({"mode": "bridge", "bridge": "br0", "address": "", "domain": "lab"}, ["/domain"]),
        ({"dhcp_start": "192.168.100.2"}, ["/dhcp_end"]),
        ({"dhcp_end": "192.168.100.2"}, ["/dhcp_start"]),
        ({"dhcp_start": "x", "dhcp_end": "192.168.100.2"}, ["/dhcp_start"]),
        ({"dhcp_start": "192.168.99.2", "dhcp_end": "192.168.100.9"}, ["/dhcp_start", "/dhcp_start"]),
        ({"dhcp_start": "192.168.100.2", "dhcp_end": "192.168.100.255"}, ["/dhcp_end"]),
        ({"dhcp_start": "192.168.100.9", "dhcp_end": "192.168.100.2"}, ["/dhcp_end"]),
        ({"dhcp_start": "192.168.100.1", "dhcp_end": "192.168.100.9"}, ["/dhcp_start"]),
        ({"address": "10.255.255.254/8", "dhcp_start": "10.0.0.1", "dhcp_end": "10.1.0.0"}, ["/dhcp_end"]),
        ({"mode": "isolated", "address": "", "dhcp_start": "10.0.0.2", "dhcp_end": "10.0.0.9"}, ["/address"]),
        ({"address": "x", "dhcp_start": "10.0.0.2", "dhcp_end": "10.0.0.9"}, ["/address"]),
        ({"name": "", "dhcp_start": "10.0.0.2", "dhcp_end": "10.0.0.9"}, ["/name", "/dhcp_start", "/dhcp_end"]),
    ],
)
def test_what_is_wrong_is_said_at_its_field(values: dict[str, Any], pointers: list[str]) -> None:
    if not pointers:
        check_network(spec(**values))
        return
    with pytest.raises(BadInput) as raised:
        check_network(spec(**values))
    assert [one["pointer"] for one in raised.value.errors] == pointers
    with pytest.raises(InvalidDefinition), refusing():
        check_network(spec(**values))


def test_every_mode_says_what_it_is() -> None:
    assert list(MODES) == ["nat", "route", "isolated", "bridge", "openvswitch", "macvtap"]
    assert all(one.label and one.hint.endswith(".") for one in MODES.values())


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        ("192.168.122.1/24", "default"),
        ("192.168.122.129/25", "default"),
        ("192.168.0.1/16", "default"),
        ("192.168.123.1/24", ""),
        ("", ""),
    ],
)
def test_whose_subnet_it_is(address: str, whose: str) -> None:
    others = {"nonsense": "odd", "2001:db8::1/64": "six", "192.168.122.1/24": "default"}
    assert overlapping(address, others) == whose
