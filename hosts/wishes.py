"""What a wish for a thing of a host (a pool, a network) asks first: can its hypervisor do it, can it be reached, which one serves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from core.errors import Missing, VmmError
from drivers.errors import Unreachable, Unsupported
from hosts.choices import LinkState
from hosts.models import Host, Hypervisor

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable

    from drivers.types import Feature

BEGUN: Final = "begun"
"""The step that is recorded before something is made: what is there after an interruption is then our own work."""

Allowed = dict[str, dict[str, Any]]
"""Action → `{"allowed": false, "reason": "…", "code": "…"}`."""


@dataclass(frozen=True, slots=True)
class ToBe:
    """A thing that is to be made: its row will have this id, whoever sees the thing first.

    Attributes:
        kind: The word of its references.
        hypervisor: Where it is asked for; what makes it loads it anew.
    """

    kind: ClassVar[str]
    pk: uuid.UUID
    name: str
    hypervisor: Hypervisor | None = None

    @property
    def ref(self) -> str:
        """`<kind>/<id>`."""
        return f"{self.kind}/{self.pk}"


def check_able(hypervisor: Hypervisor, feature: Feature) -> None:
    """Raises Unsupported with the hypervisor's reason, Unreachable while it is offline."""
    supported, reason = hypervisor.support(feature)
    if hypervisor.capabilities and not supported:
        raise Unsupported(reason, feature=str(feature), hypervisor=str(hypervisor.pk))
    if hypervisor.out_of_reach:
        raise Unreachable(
            f"{hypervisor.host.name} is out of reach; nothing can be changed there now.", host=str(hypervisor.host_id)
        )


def hypervisor_of(pk: uuid.UUID) -> Hypervisor:
    """With its host. Raises Missing."""
    found = Hypervisor.objects.select_related("host").filter(pk=pk).first()
    if found is None:
        raise Missing("This hypervisor was removed meanwhile.")
    return found


def serving(host: Host, feature: Feature, things: str) -> Hypervisor:
    """The hypervisor of a host that its `things` are made through, one that is online before others. Raises Unsupported."""
    rows = Hypervisor.objects.select_related("host").defer("credentials").filter(host=host.pk).order_by("pk")
    able = [one for one in rows if one.support(feature)[0]]
    if not able:
        first = next(iter(rows), None)
        reason = first.support(feature)[1] if first else "It has no hypervisor."
        raise Unsupported(f"{host.name} has no {things}: {reason}", feature=str(feature))
    return min(able, key=lambda one: one.state != LinkState.ONLINE)


def answered(ask: Callable[[], None]) -> dict[str, Any]:
    """Whether it is allowed: what `ask` raises is the reason why not."""
    try:
        ask()
    except VmmError as error:
        return {"allowed": False, "reason": error.detail, "code": error.code}
    return {"allowed": True, "reason": ""}


def able_hosts(hypervisors: list[Hypervisor], feature: Feature) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """For a form that makes something: hosts that can (those online first), and those that cannot with `reason`. No query."""
    hosts: dict[Any, dict[str, Any]] = {}
    for row in hypervisors:
        supported, reason = row.support(feature)
        one = hosts.setdefault(row.host_id, {"host": row.host, "able": False, "reason": reason})
        one["able"] = one["able"] or supported
    able = [one for one in hosts.values() if one["able"]]
    able.sort(key=lambda one: one["host"].state != LinkState.ONLINE)
    return able, [one for one in hosts.values() if not one["able"]]
