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

    from networks.models import Network, NetworkFilter


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


_filter_knowers: list[Callable[[Sequence[NetworkFilter]], Iterable[tuple[uuid.UUID, Plug]]]] = []


def register_filters(knower: Callable[[Sequence[NetworkFilter]], Iterable[tuple[uuid.UUID, Plug]]]) -> None:
    """As `register`, for who names a filter."""
    if knower not in _filter_knowers:
        _filter_knowers.append(knower)


def named_by(filters: Sequence[NetworkFilter]) -> dict[uuid.UUID, list[Plug]]:
    """Every interface that names each of these filters, by id. One query for each knower, whatever the number."""
    found: dict[uuid.UUID, list[Plug]] = {one.pk: [] for one in filters}
    for knower in _filter_knowers if filters else ():
        for pk, plug in knower(filters):
            found[pk].append(plug)
    return found


def refuse_filter(row: NetworkFilter) -> None:
    """Raises InUse naming guests and filters that name this one, whether they run or not."""
    names = [*{plug.vm: plug.name for plug in row.guests}.values(), *(f"the filter {name}" for name in row.users)]
    if names:
        who = ", ".join(names[:SHOWN_MAX]) + (f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else "")
        used_by = [{"type": "vm", "id": str(plug.vm), "name": plug.name} for plug in row.guests[:100]]
        raise InUse(f"{row.name} is used by {who}. Take it out there first.", used_by=used_by)


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
