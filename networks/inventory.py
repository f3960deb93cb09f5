"""Facts in: the only writer of networks, whoever saw them. When an observation counts stands in `hosts.resources`.

What a DHCP server has given out moves with every renewal: that is written, and never told as an event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hosts.resources import Book, Observed, bury, number, observe, text
from networks.models import Network

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from drivers.types import LeaseInfo, NetworkInfo
    from hosts.models import Hypervisor

NETWORKS: Final = Book(model=Network, word="network", quiet=frozenset({"leases"}), create="network.create")
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
    return observe(NETWORKS, hypervisor, facts, seen_at=seen_at, complete=complete)


def network_observe(
    hypervisor: Hypervisor,
    info: NetworkInfo,
    leases: Sequence[LeaseInfo] | None = None,
    *,
    seen_at: dt.datetime | None = None,
) -> Network:
    """Write down what was seen of one network, unless something newer is known; the row as it now is. Raises Missing."""
    facts = _facts(info, {} if leases is None else {info.name: leases})
    observe(NETWORKS, hypervisor, [facts], seen_at=seen_at, bulk=False)
    rows = Network.objects.select_related("hypervisor", "host").defer("hypervisor__credentials")
    return rows.get(host=hypervisor.host_id, uuid=facts["uuid"])


def network_gone(network: Network, *, seen_at: dt.datetime | None = None) -> bool:
    """The hypervisor does not know this network (any more): a tombstone. False when it was one."""
    return bury(NETWORKS, network, seen_at=seen_at)


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
        "domain": text(info.domain, 255),
        "addresses": [text(one, 64) for one in info.addresses],
        "dhcp": bool(info.dhcp),
        "autostart": bool(info.autostart),
        "persistent": bool(info.persistent),
    }
    if not info.active:
        facts["leases"] = []
    elif info.name in leases_by_network:
        facts["leases"] = sorted(map(_lease, leases_by_network[info.name]), key=lambda one: str(one["address"]))[
            :LEASES_MAX
        ]
    return facts


def _lease(info: LeaseInfo) -> dict[str, Any]:
    return {
        "mac": text(info.mac, 20).lower(),
        "address": text(info.address, 64),
        "prefix": number(info.prefix) or 0,
        "hostname": text(info.hostname, 255),
        "expires_at": number(info.expires_at) or 0,
    }
