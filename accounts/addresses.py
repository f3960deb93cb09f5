"""Who a request comes from: the one place that decides whether `X-Forwarded-For` is believed.

Directly served (no `VMM_PUBLIC_URL`): the peer of the connection, headers are never looked at. Behind a proxy
(`VMM_PUBLIC_URL` is set): the *last* entry of `X-Forwarded-For`, which is the one that our proxy appended; all before it
were sent by the client and can say anything. It is believed only from a peer that is loopback or in a private network: who
reaches the port past the proxy from the internet cannot forge an address for every try. A chain of two proxies shows the
outer one, unless the inner one is told to pass on the address that it was given (nginx: `real_ip`).

The server must not rewrite the peer itself: uvicorn runs with `proxy_headers=False`.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from django.conf import settings

if TYPE_CHECKING:
    from django.http import HttpRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.strip().strip("[]"))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or ipaddress.IPv6Address(int(address))  # without its zone
    return address


def client_address(request: HttpRequest) -> str:
    """The caller's IP address, "" where there is none (a Unix socket)."""
    peer = _parse(request.META.get("REMOTE_ADDR") or "")
    if settings.BEHIND_PROXY and (peer is None or peer.is_private):
        told = _parse(request.headers.get("X-Forwarded-For", "").rpartition(",")[2])
        if told is not None:
            return str(told)
    return str(peer) if peer is not None else ""


def client_network(request: HttpRequest) -> str:
    """What tries are counted by: an IPv4 address, or the first address of an IPv6 /64.

    One machine has a whole /64 to choose from, so counting single IPv6 addresses would count nothing.
    """
    address = _parse(client_address(request))
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Address(int(address) >> 64 << 64))
    return str(address) if address is not None else ""


def axes_address(request: HttpRequest) -> str | None:
    """`client_network` as django-axes wants it: it keeps an IP address or nothing."""
    return client_network(request) or None
