"""What of libvirt's answer about a guest's addresses is told, in which order, and what a source that fails says."""

from __future__ import annotations

import libvirt
import pytest

from drivers.libvirtd import addresses
from drivers.libvirtd.errors import driver_error
from drivers.types import AddressInfo


def answer(mac: str, *pairs: tuple[str, int]) -> dict[str, object]:
    return {"hwaddr": mac, "addrs": [{"addr": address, "prefix": prefix, "type": 0} for address, prefix in pairs]}


def test_what_only_the_guest_itself_can_reach_is_left_out():
    found = {
        "lo": answer("00:00:00:00:00:00", ("127.0.0.1", 8), ("::1", 128)),
        "eth0": answer(
            "52:54:00:AA:00:01", ("192.0.2.7", 24), ("fe80::1", 64), ("169.254.1.1", 16), ("2001:DB8::7", 0)
        ),
        "wg0": {"hwaddr": None, "addrs": None},
        "odd": answer("", ("not an address", 0), ("0.0.0.0", 0)),
        "none": None,
    }
    assert list(addresses.told(found, "agent", own=frozenset())) == [
        AddressInfo(address="192.0.2.7", prefix=24, mac="52:54:00:aa:00:01", source="agent"),
        AddressInfo(address="2001:db8::7", prefix=None, mac="52:54:00:aa:00:01", source="agent"),
    ]


def test_the_guests_own_cards_come_before_what_it_routes_for_others():
    found = {
        "docker0": answer("02:42:00:00:00:01", ("172.17.0.1", 16)),
        "eth0": answer("52:54:00:00:00:01", ("192.0.2.7", 24)),
    }
    told = addresses.told(found, "agent", own=frozenset({"52:54:00:00:00:01"}))
    assert [each.address for each in told] == ["192.0.2.7", "172.17.0.1"]


def failure(code: int, message: str) -> libvirt.libvirtError:
    error = libvirt.libvirtError(message)
    error.err = (code, libvirt.VIR_FROM_QEMU, message, 2, "", None, None, -1, -1)
    return error


@pytest.mark.parametrize(
    ("source", "code", "message", "words"),
    [
        ("agent", libvirt.VIR_ERR_AGENT_UNRESPONSIVE, "Guest agent is not responding", "is qemu-guest-agent running"),
        ("agent", libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, "Unsupported IP address data source 1", "does not ask agents"),
        ("lease", libvirt.VIR_ERR_NO_NETWORK, "Network not found: no network 'x'", "has no such network"),
        ("arp", libvirt.VIR_ERR_INTERNAL_ERROR, "internal error: wrong nlmsg len", "a newer libvirt can"),
        ("arp", libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, "Unsupported IP address data source 2", "neighbour table"),
    ],
)
def test_a_source_that_fails_says_why(source, code, message, words):
    sentence = addresses.why_not(driver_error(failure(code, message)), source)
    assert words in sentence
    assert sentence.endswith((".", "?"))
