"""What else does the job where a hypervisor lacks a feature: other actions and consoles of this guest, and other hypervisors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from accounts import policy
from core.errors import VmmError
from drivers.errors import Unsupported
from drivers.types import INSTEAD, Feature, GuestState
from hosts.choices import LinkState
from hosts.models import Hypervisor
from operations import actions
from vms.actions import GuestAction
from vms.choices import ACTIVE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from accounts.actor import Actor
    from vms.models import VM

ELSEWHERE_MAX: Final = 3
_LOOKED_AT: Final = 200
_CONSOLE: Final = "console."


@contextmanager
def with_alternatives(vm: VM, *, by: Actor) -> Iterator[None]:
    """What is refused in this block for a missing feature leaves it with `alternatives` in its context. One query then."""
    try:
        yield
    except Unsupported as error:
        feature = error.context.get("feature")
        if isinstance(feature, str):
            error.context = {**error.context, "alternatives": alternatives(vm, feature, by=by)}
        raise


def alternatives(vm: VM, feature: str, *, by: Actor) -> list[dict[str, Any]]:
    """For the problem document: ways on this guest first, then a few hypervisors that could. One query."""
    here = [
        {"kind": "console" if _is_console(way[0]) else "action", "steps": list(way)} for way in ways(vm, feature, by=by)
    ]
    return here + elsewhere(vm, feature, by=by)


def ways(vm: VM, feature: str, *, by: Actor) -> list[tuple[str, ...]]:
    """Steps that do about the same: supported here, allowed to `by`, and the first of them possible now. No query."""
    if feature not in INSTEAD or vm.hypervisor.out_of_reach:
        return []
    found = [tuple(map(str, way)) for way in INSTEAD[Feature(feature)]]
    return [way for way in found if all(_has(vm, step, by) for step in way) and _possible(vm, way[0])]


def elsewhere(vm: VM, feature: str, *, by: Actor) -> list[dict[str, Any]]:
    """Hypervisors in reach that have it, those of the same virtualization type first. One query."""
    rows = policy.visible(by, Hypervisor.objects.filter(state=LinkState.ONLINE)).exclude(pk=vm.hypervisor_id)
    rows = rows.filter(**{f"capabilities__{feature}__supported": True}) if feature in INSTEAD else rows.none()
    known = list(
        rows.order_by("host__name", "driver").values("pk", "host", "host__name", "driver", "virtualization_type")[
            :_LOOKED_AT
        ]
    )
    known.sort(key=lambda row: row["virtualization_type"] != vm.hypervisor.virtualization_type)
    return [
        {
            "kind": "hypervisor",
            "hypervisor": str(row["pk"]),
            "host": str(row["host"]),
            "host_name": row["host__name"],
            "driver": row["driver"],
        }
        for row in known[:ELSEWHERE_MAX]
    ]


def _is_console(step: str) -> bool:
    return step.startswith(_CONSOLE)


def _action(step: str) -> GuestAction | None:
    """The action behind a step; None for what cannot be asked for yet."""
    kind = f"vm.{step}"
    found = actions.get(kind) if kind in actions.kinds() else None
    return found if isinstance(found, GuestAction) else None


def _has(vm: VM, step: str, by: Actor) -> bool:
    action = _action(step)
    if not _is_console(step) and action is None:
        return False
    verb = action.verb if action else "vm.console"
    return vm.hypervisor.support(step)[0] and policy.may(by, verb, vm)


def _possible(vm: VM, step: str) -> bool:
    if _is_console(step):
        return vm.state in ACTIVE and step.removeprefix(_CONSOLE) in vm.consoles
    action = _action(step)
    if action is None:
        return False
    try:
        action.check_maintenance(vm)
        action.check_state(vm, GuestState(vm.state))
    except VmmError:
        return False
    return True
