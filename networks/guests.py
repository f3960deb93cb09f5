"""Which guests are on a network: the one place where it is known, though this room knows no guests.

The room above registers what it knows in its `AppConfig.ready`; one query for any number of networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterable, Sequence

    from networks.models import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Plug:
    """One interface of a guest on a network.

    Attributes:
        mac: Lower case.
        target: The device on the host while the guest runs.
        running: Whether the guest does.
    """

    vm: uuid.UUID
    name: str
    state: str
    mac: str
    target: str = ""
    running: bool = False


_knowers: list[Callable[[Sequence[Network]], Iterable[tuple[uuid.UUID, Plug]]]] = []


def register(knower: Callable[[Sequence[Network]], Iterable[tuple[uuid.UUID, Plug]]]) -> None:
    """From now on this one is asked too: it gives a network's id and an interface on it, for each."""
    if knower not in _knowers:
        _knowers.append(knower)


def plugs_of(networks: Sequence[Network]) -> dict[uuid.UUID, list[Plug]]:
    """Every interface on each of these, by id. One query for each knower, whatever the number."""
    found: dict[uuid.UUID, list[Plug]] = {network.pk: [] for network in networks}
    for knower in _knowers if networks else ():
        for pk, plug in knower(networks):
            found[pk].append(plug)
    return found
