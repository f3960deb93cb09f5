from __future__ import annotations

import pytest
from django.test import RequestFactory

from accounts.addresses import axes_address, client_address, client_network


def request(peer, forwarded=None):
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    return RequestFactory().get("/", headers=headers, REMOTE_ADDR=peer)


@pytest.mark.parametrize("peer", ["127.0.0.1", "192.0.2.9", "10.0.0.3"])
def test_without_a_public_url_no_header_is_believed(peer, settings):
    settings.BEHIND_PROXY = False
    assert client_address(request(peer, "203.0.113.7")) == peer


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("1.1.1.1, 2.2.2.2 ,203.0.113.7", "203.0.113.7"),
        ("1.1.1.1,", "10.0.0.3"),
        ("nonsense", "10.0.0.3"),
        ("", "10.0.0.3"),
        (None, "10.0.0.3"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:4711", "10.0.0.3"),
        ("1" * 100_000, "10.0.0.3"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_behind_a_proxy_its_own_entry_counts_and_nothing_before_it(forwarded, address, settings):
    settings.BEHIND_PROXY = True
    assert client_address(request("10.0.0.3", forwarded)) == address


def test_who_comes_past_the_proxy_cannot_say_who_he_is(settings):
    settings.BEHIND_PROXY = True
    assert client_address(request("8.8.8.8", "203.0.113.7")) == "8.8.8.8"


def test_a_unix_socket_has_no_address(settings):
    settings.BEHIND_PROXY = False
    assert client_address(request("")) == ""
    assert axes_address(request("")) is None
    settings.BEHIND_PROXY = True
    assert client_address(request("", "203.0.113.7")) == "203.0.113.7"


def test_all_of_an_ipv6_network_count_as_one(settings):
    settings.BEHIND_PROXY = False
    assert client_network(request("2001:db8:1:2:3:4:5:6")) == "2001:db8:1:2::"
    assert client_network(request("2001:db8:1:2:ffff::1")) == axes_address(request("2001:db8:1:2::9"))
    assert client_network(request("2001:db8:1:3::1")) != client_network(request("2001:db8:1:2::1"))
    assert client_network(request("192.0.2.9")) == "192.0.2.9"
