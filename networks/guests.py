"""Which guests are on a network: the one place where it is known, though this room knows no guests.

The room above registers what it knows in its `AppConfig.ready`; one query for any number of networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from core.errors import Conflict

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterable, Sequence

    from networks.models import Network


SHOWN_MAX: Final = 3


class InUse(Conflict):
    """Guests run on it."""

    code = "in_use"


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


def refuse(network: Network, plugs: Iterable[Plug]) -> None:
    """Raises InUse naming the guests among these that run, and what to do, where there are any."""
    running = {plug.vm: plug.name for plug in plugs if plug.running}
    if not running:
        return
    names = list(running.values())
    who = ", ".join(names[:SHOWN_MAX]) + (f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else "")
    raise InUse(
        f"{network.name} is used by {who}. Shut down what runs on it first.",
        used_by=[{"type": "vm", "id": str(vm), "name": name} for vm, name in list(running.items())[:100]],
    )
