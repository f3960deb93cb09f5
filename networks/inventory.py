"""Facts in: the only writer of networks and filters, whoever saw them. When an observation counts stands in `hosts.resources`.

What a DHCP server has given out moves with every renewal: that is written, and never told as an event.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction

from hosts.resources import Book, Observed, bury, number, observe, text
from networks.models import GivenAddress, Network, NetworkFilter

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from drivers.types import DhcpHost, FilterInfo, LeaseInfo, NetworkInfo
    from hosts.models import Hypervisor

NETWORKS: Final = Book(model=Network, word="network", quiet=frozenset({"leases"}), create="network.create")
FILTERS: Final = Book(model=NetworkFilter, word="network_filter", quiet=frozenset(), create="network-filter.create")
XML_MAX: Final = 200_000
LEASES_MAX: Final = 5000
"""Of one network, in its row."""


def networks_observe(
    hypervisor: Hypervisor,
    networks: Sequence[NetworkInfo],
    leases_by_network: Mapping[str, Sequence[LeaseInfo]] | None = None,
    *,
    seen_at: dt.datetime | None = None,
    complete: bool = False,
) -> Observed[Network]:
    """Write down a listing of networks.

    Args:
        hypervisor: Where it was read.
        networks: What was listed; of two with one identifier the last counts.
        leases_by_network: Name → what it has given out. Networks that are not in it keep what was known.
        seen_at: A time before the reading began; now when left out.
        complete: These are all its networks: what goes through this hypervisor and is not among them is gone.

    Raises:
        Missing: The hypervisor was removed meanwhile.
    """
    facts = [_facts(info, leases_by_network or {}) for info in networks]
    found = observe(NETWORKS, hypervisor, facts, seen_at=seen_at, complete=complete)
    _write_given(found)
    return found


def network_observe(
    hypervisor: Hypervisor,
    info: NetworkInfo,
    leases: Sequence[LeaseInfo] | None = None,
    *,
    seen_at: dt.datetime | None = None,
) -> Network:
    """Write down what was seen of one network, unless something newer is known; the row as it now is. Raises Missing."""
    facts = _facts(info, {} if leases is None else {info.name: leases})
    _write_given(observe(NETWORKS, hypervisor, [facts], seen_at=seen_at, bulk=False))
    rows = Network.objects.select_related("hypervisor", "host").defer("hypervisor__credentials")
    return rows.get(host=hypervisor.host_id, uuid=facts["uuid"])


def _write_given(found: Observed[Network]) -> None:
    """The addresses of what was observed and changed, each by itself, so that guests are found by them."""
    if not (found.changed or found.defined or found.quiet or found.gone):
        return
    GivenAddress.objects.filter(network__in=[row.pk for row in found.gone]).delete()
    wanted = {
        (row.pk, one["mac"], one["address"])
        for row in found.rows.values()
        for one in (*row.leases, *row.dhcp_hosts)
        if one["mac"] and one["address"]
    }
    rows = GivenAddress.objects.filter(network__in=[row.pk for row in found.rows.values()])
    known = {
        (network, mac, address): pk for pk, network, mac, address in rows.values_list("pk", "network", "mac", "address")
    }
    with transaction.atomic():
        GivenAddress.objects.filter(pk__in=[pk for one, pk in known.items() if one not in wanted]).delete()
        GivenAddress.objects.bulk_create(
            [
                GivenAddress(network_id=pk, mac=mac, address=address)
                for pk, mac, address in sorted(wanted - known.keys())
            ],
            ignore_conflicts=True,
        )


def network_gone(network: Network, *, seen_at: dt.datetime | None = None) -> bool:
    """The hypervisor does not know this network (any more): a tombstone. False when it was one."""
    gone = bury(NETWORKS, network, seen_at=seen_at)
    if gone:
        GivenAddress.objects.filter(network=network.pk).delete()
    return gone


def _facts(info: NetworkInfo, leases_by_network: Mapping[str, Sequence[LeaseInfo]]) -> dict[str, Any]:
    """Clamp what a hypervisor may say to what a column takes. Raises ValueError and the like for what is no network."""
    uuid, name = text(info.uuid, 64).lower(), text(info.name, 255)
    if not uuid or not name:
        raise ValueError("A network without an identifier or a name.")
    facts: dict[str, Any] = {
        "uuid": uuid,
        "name": name,
        "active": bool(info.active),
        "mode": text(info.mode, 20),
        "bridge": text(info.bridge, 64),
        "devices": [text(one, 64) for one in info.devices],
        "macvtap": text(info.macvtap, 20),
        "domain": text(info.domain, 255),
        "addresses": [text(one, 64) for one in info.addresses],
        "dhcp": bool(info.dhcp),
        "dhcp_hosts": sorted(map(_kept, info.dhcp_hosts), key=_by_address)[:LEASES_MAX],
        "vlans": [number(one) for one in info.vlans],
        "port_groups": [
            {"name": text(one.name, 255), "vlans": [number(tag) for tag in one.vlans], "default": bool(one.default)}
            for one in info.port_groups
        ],
        "mtu": None if info.mtu is None else min(max(int(info.mtu), 0), 2**31 - 1),
        "autostart": bool(info.autostart),
        "persistent": bool(info.persistent),
    }
    if not info.active:
        facts["leases"] = []
    elif info.name in leases_by_network:
        facts["leases"] = sorted(map(_lease, leases_by_network[info.name]), key=_by_address)[:LEASES_MAX]
    return facts


def filters_observe(
    hypervisor: Hypervisor, filters: Sequence[FilterInfo], *, seen_at: dt.datetime | None = None, complete: bool = False
) -> Observed[NetworkFilter]:
    """Write down a listing of network filters, as `networks_observe` does. Raises Missing."""
    facts = list(map(_filter_facts, filters))
    return observe(FILTERS, hypervisor, facts, seen_at=seen_at, complete=complete)


def filter_observe(hypervisor: Hypervisor, info: FilterInfo, *, seen_at: dt.datetime | None = None) -> NetworkFilter:
    """Write down what was seen of one, unless something newer is known; the row as it now is. Raises Missing."""
    facts = _filter_facts(info)
    observe(FILTERS, hypervisor, [facts], seen_at=seen_at, bulk=False)
    rows = NetworkFilter.objects.select_related("hypervisor", "host").defer("hypervisor__credentials")
    return rows.get(host=hypervisor.host_id, uuid=facts["uuid"])


def filter_gone(row: NetworkFilter, *, seen_at: dt.datetime | None = None) -> bool:
    """The hypervisor does not know this filter (any more): a tombstone. False when it was one."""
    return bury(FILTERS, row, seen_at=seen_at)


def _filter_facts(info: FilterInfo) -> dict[str, Any]:
    uuid, name = text(info.uuid, 64).lower(), text(info.name, 255)
    if not uuid or not name:
        raise ValueError("A filter without an identifier or a name.")
    return {
        "uuid": uuid,
        "name": name,
        "chain": text(info.chain, 50),
        "rules": min(number(info.rules) or 0, 2**31 - 1),
        "uses": sorted({text(one, 255) for one in info.uses}),
        "xml": text(info.xml, XML_MAX),
    }


def _by_address(one: Mapping[str, Any]) -> tuple[int, int, str]:
    """As numbers, not as text: .9 stands before .10."""
    try:
        address = ipaddress.ip_address(str(one["address"]))
    except ValueError:
        return 9, 0, str(one["address"])
    return address.version, int(address), ""


def _kept(info: DhcpHost) -> dict[str, Any]:
    return {"mac": text(info.mac, 20).lower(), "address": text(info.address, 64), "name": text(info.name, 255)}


def _lease(info: LeaseInfo) -> dict[str, Any]:
    return {
        "mac": text(info.mac, 20).lower(),
        "address": text(info.address, 64),
        "prefix": number(info.prefix) or 0,
        "hostname": text(info.hostname, 255),
        "expires_at": number(info.expires_at) or 0,
    }
